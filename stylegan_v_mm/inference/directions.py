"""Directions of ``w`` along which contents change, found without labels."""

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import InputError
from ..models.latents import random_labels
from ..models.sampler import Sampler


def read_layers(option: str, text: str, num_ws: int) -> range:
    """Parse an option of a tool that names style vectors.

    Args:
        option (str): Name of the option, for the message.
        text (str): ``A-B``, or ``A-`` for all from A on; counted from 0.
        num_ws (int): Number of style vectors.

    Returns:
        range: Indices of the style vectors.

    Raises:
        InputError: The text is not of this form, or an index is out of range.
    """
    match = re.fullmatch('([0-9]{1,9})-([0-9]{0,9})', text)
    if match:
        first, last = int(match[1]), int(match[2] or num_ws - 1)
        if first <= last < num_ws:
            return range(first, last + 1)
    raise InputError(
        f'{option} {text}: give A-B, or A- for all from A on, from 0 to '
        f'{num_ws - 1}'
    )


def style_weights(sampler: Sampler) -> list[Tensor]:
    """Gather the weights that each style vector is multiplied with.

    Args:
        sampler (Sampler): Sampler of the generator.

    Returns:
        list: For each of the ``num_ws`` style vectors, the concatenated
        weights [R, w_dim], float64, of all affine layers that it goes
        through. They include the gains of equalised learning and of the
        layers to colours.
    """
    generator = sampler.generator
    synthesis = generator.synthesis
    rows: list[list[Tensor]] = [[] for _ in range(generator.num_ws)]
    first = 0
    for name in synthesis.block_names:
        parts = dict(getattr(synthesis, name).named_children())
        parts = [parts[n] for n in ('conv0', 'conv1', 'torgb') if n in parts]
        for i, part in enumerate(parts):
            # Columns beyond w_dim are for motion codes (concat_w).
            weight = part.affine.weight[:, : generator.w_dim]
            gain = part.affine.weight_gain * getattr(part, 'style_gain', 1)
            rows[first + i].append(weight.detach().double() * gain)
        # The last style of a block is also the first of the next one.
        first += len(parts) - 1
    return [torch.cat(each) for each in rows]


@torch.no_grad()
def sample_w(sampler: Sampler, num_samples: int) -> Tensor:
    """Map random contents to ``w``, the same contents at each call.

    Args:
        sampler (Sampler): Sampler of the generator.
        num_samples (int): Number of contents, N.

    Returns:
        Tensor: [N, w_dim], float64. Classes are equally likely.
    """
    generator = sampler.generator
    source = torch.Generator().manual_seed(0)
    z = torch.randn(num_samples, generator.z_dim, generator=source)
    z = z.to(next(generator.parameters()))
    c = random_labels(range(num_samples), generator.c_dim)
    return generator.mapping(z, None if c is None else c.to(z)).double()


def sefa_directions(
    sampler: Sampler,
    num: int | None = None,
    layers: Sequence[int] | None = None,
    num_samples: int = 10000,
) -> Tensor:
    """Find the directions to which the styles react most.

    "Closed-Form Factorization of Latent Semantics in GANs" (Shen and Zhou
    2021, equation 8): the eigenvectors of ``A^T A`` with the greatest
    eigenvalues, where A holds all weights that ``w`` is multiplied with.

    Args:
        sampler (Sampler): Sampler of the generator.
        num (int, optional): Number of directions, K. Defaults to None,
            ``w_dim``.
        layers (sequence, optional): Indices of the style vectors to consider,
            which an edit should move. Defaults to None, all.
        num_samples (int): Number of contents that the lengths are measured
            on. Defaults to 10000.

    Returns:
        Tensor: [K, w_dim], float32, orthogonal, the strongest first. The
        length of a direction is the standard deviation of ``w`` along it, and
        its element of largest magnitude is positive.

    Raises:
        InputError: ``num`` is out of range.
    """
    weights = style_weights(sampler)
    if layers is not None:
        weights = [weights[layer] for layer in layers]
    matrix = torch.cat(weights)
    return _directions(sampler, matrix.T @ matrix, num, num_samples)


def pca_directions(
    sampler: Sampler, num: int | None = None, num_samples: int = 10000
) -> Tensor:
    """Find the directions along which ``w`` varies most.

    "GANSpace" (Härkönen et al. 2020, section 2.1): the principal components
    of ``w`` over random contents.

    Args:
        sampler (Sampler): Sampler of the generator.
        num (int, optional): Number of directions, K. Defaults to None,
            ``w_dim``.
        num_samples (int): Number of contents, from a fixed seed. Defaults to
            10000.

    Returns:
        Tensor: [K, w_dim], as of :func:`sefa_directions`.

    Raises:
        InputError: ``num`` is out of range.
    """
    w = sample_w(sampler, num_samples)
    return _directions(sampler, w.T.cov(), num, num_samples)


def _directions(
    sampler: Sampler, matrix: Tensor, num: int | None, num_samples: int
) -> Tensor:
    """Scale the first eigenvectors of a matrix to the spread of ``w``."""
    num = len(matrix) if num is None else num
    if not 1 <= num <= len(matrix):
        raise InputError(
            f'num={num} directions: choose from 1 to {len(matrix)}'
        )
    vectors = torch.linalg.eigh(matrix)[1].T.flip(0)[:num]
    # The signs of eigenvectors depend on the library.
    largest = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))
    vectors = vectors * largest.sign()
    spread = (sample_w(sampler, num_samples) @ vectors.T).std(0)
    return (vectors * spread[:, None]).float()


def move(
    ws: Tensor,
    direction: Tensor,
    strength: float,
    layers: Sequence[int] | None = None,
) -> Tensor:
    """Add a direction to style vectors.

    Args:
        ws (Tensor): [N, num_ws, w_dim].
        direction (Tensor): [w_dim].
        strength (float): Factor of the direction; 3 is a lot.
        layers (sequence, optional): Indices of the style vectors to move.
            Defaults to None, all.

    Returns:
        Tensor: [N, num_ws, w_dim].
    """
    ws = ws.clone()
    layers = slice(None) if layers is None else list(layers)
    ws[:, layers] += strength * direction.to(ws)
    return ws
