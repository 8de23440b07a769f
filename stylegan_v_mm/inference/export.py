"""Export a generator as graphs that need no package of ours, nor mmengine."""

import copy
import importlib.util
import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from tqdm import tqdm

from ..errors import InputError
from ..files import atomic_write, check_writable
from ..models.sampler import Sampler

#: Suffixes of the files, by format.
SUFFIXES = {'torch': '.pt2', 'onnx': '.onnx'}
#: Largest difference between the results of a file and of the model.
TOLERANCE = 1e-4

aten = torch.ops.aten


class Part(nn.Module):
    """A part of the generator that becomes one file.

    Attributes:
        output (str): Name of the result.
        onnx_table (dict): Formulas for operations that ONNX Runtime lacks.
        axes (dict): Smallest size of each dynamic axis, by name.
        shapes (dict): Shape of each input, in their order: names of dynamic
            axes, or sizes.
    """

    output: str
    onnx_table: ClassVar[dict] = {}
    axes: dict[str, int]
    shapes: dict[str, tuple[str | int, ...]]

    def draw(self, more: int) -> dict[str, Tensor]:
        """Draw inputs whose i-th axis exceeds its smallest size by i * more.

        Args:
            more (int): At least 0.
        """
        sizes: dict[str | int, int] = {
            name: least + more * i
            for i, (name, least) in enumerate(self.axes.items(), 1)
        }
        return {
            name: torch.randn([int(sizes.get(axis, axis)) for axis in shape])
            for name, shape in self.shapes.items()
        }

    def add_label(self, c_dim: int) -> None:
        """Add a label as the last input, if there are classes."""
        if c_dim > 0:
            self.shapes['c'] = 'N', c_dim


class Mapping(Part):
    """Map content noise to styles, truncated to the mean (of the class)."""

    output = 'ws'

    def __init__(self, sampler: Sampler):
        super().__init__()
        generator = sampler.generator
        self.mapping = generator.mapping
        center = self.mapping.w_avg[None]
        if generator.c_dim > 0:
            center = sampler.class_center(torch.eye(generator.c_dim))
        self.register_buffer('center', center)
        self.axes = {'N': 1}
        self.shapes = {
            'z': ('N', generator.z_dim),
            'truncation_psi': (generator.num_ws,),
        }
        self.add_label(generator.c_dim)

    def forward(
        self, z: Tensor, truncation_psi: Tensor, c: Tensor | None = None
    ) -> Tensor:
        """Compute ``ws`` [N, num_ws, w_dim]; labels are one-hot."""
        center = self.center if c is None else c @ self.center
        w = self.mapping(z, c)
        return center[:, None].lerp(w[:, None], truncation_psi[:, None])


def _conv1d(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    taps = weight.shape[2]
    length = x.shape[2] - taps + 1
    return bias[:, None] + sum(
        weight[:, :, k] @ x[:, :, k : k + length] for k in range(taps)
    )


def _leaky_relu(x: Tensor, slope: float) -> Tensor:
    return x.maximum(x * slope)


class Motion(Part):
    """Map motion noise and times to motion codes, in float64."""

    output = 'motion_v'
    onnx_table: ClassVar[dict] = {
        aten.conv1d.default: _conv1d,
        aten.leaky_relu.default: _leaky_relu,
    }

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder
        self.axes = {'N': 1, 'T': 1, 'L': self.encoder.extra_codes + 2}
        self.shapes = {
            'motion_z': ('N', 'L', self.encoder.motion_z_dim),
            'first_code': ('N',),
            't': ('N', 'T'),
        }
        self.add_label(encoder.c_dim)

    def draw(self, more: int) -> dict[str, Tensor]:
        """Draw inputs, with times that the codes cover."""
        inputs = super().draw(more)
        codes = inputs['motion_z'].shape[1] - self.encoder.extra_codes - 1
        first = torch.randint(10**5, inputs['first_code'].shape)
        places = torch.rand(inputs['t'].shape, dtype=torch.float64) * codes
        t = (first[:, None] + places) * self.encoder.motion_z_distance
        return {**inputs, 'first_code': first, 't': t}

    def forward(
        self,
        motion_z: Tensor,
        first_code: Tensor,
        t: Tensor,
        c: Tensor | None = None,
    ) -> Tensor:
        """Compute ``motion_v`` [N, T, out_dim of the encoder]."""
        motion_v = self.encoder(c, t, motion_z, first_code)
        return motion_v.float().unflatten(0, t.shape)


class Synthesis(Part):
    """Map styles and motion codes to frames, in float32."""

    output = 'frames'

    def __init__(self, generator: nn.Module):
        super().__init__()
        self.synthesis = copy.deepcopy(generator.synthesis)
        self.axes = {'M': 1}
        self.shapes = {'ws': ('M', generator.num_ws, generator.w_dim)}
        if generator.motion_encoder is not None:
            self.shapes['motion_v'] = 'M', generator.motion_encoder.out_dim
            del self.synthesis.motion_encoder
        for module in self.synthesis.modules():
            if hasattr(module, 'half_dtype'):
                module.half_dtype = None

    def forward(self, ws: Tensor, motion_v: Tensor | None = None) -> Tensor:
        """Render ``frames`` [M, 3, H, W], about [-1, 1], one per row."""
        return self.synthesis(ws, motion_v, 1)


class ExportedFile(NamedTuple):
    """A file, and its largest difference from the model."""

    path: Path
    difference: float


def check_export(out: Path, formats: Sequence[str]) -> None:
    """Check that the files can be written, with the installed packages.

    Raises:
        InputError: They cannot.
    """
    if out.exists():
        raise InputError(f'{out} exists: remove it or choose another --out')
    if 'onnx' in formats:
        for name in ('onnx', 'onnxscript', 'onnxruntime'):
            if importlib.util.find_spec(name) is None:
                raise InputError(
                    f'ONNX needs the package {name}: pip install -c '
                    'requirements/constraints.txt onnx onnxscript onnxruntime'
                )
    check_writable(out.parent)


def export_generator(
    sampler: Sampler, out: Path, formats: Sequence[str] = ('torch',)
) -> list[ExportedFile]:
    """Write a generator as files that run without this package.

    The files ``mapping``, ``motion`` (not for a generator of images) and
    ``synthesis`` are programs of ``torch.export`` (.pt2) or ONNX graphs
    (.onnx), for any number of videos, codes and frames; ``model.json``
    describes their inputs. Each file is loaded again and compared with the
    model on random inputs of several sizes. The folder appears when all files
    have passed.

    Args:
        sampler (Sampler): Sampler of the generator.
        out (Path): Folder to make; must not exist yet.
        formats (sequence): 'torch', 'onnx', or both. Defaults to 'torch'.

    Returns:
        list: An :class:`ExportedFile` for each file.

    Raises:
        InputError: See :func:`check_export`; or the motion codes are those of
            an LSTM; or the results of a file differ from the model's.
    """
    check_export(out, formats)
    encoder = sampler.motion_encoder
    if encoder is not None and encoder.recurrent:
        raise InputError(
            'LSTM motion codes cannot be exported: torch.export would fix '
            'their number'
        )
    generator = copy.deepcopy(sampler.generator).cpu().requires_grad_(False)
    sampler = Sampler(generator)
    parts = {'mapping': Mapping(sampler), 'synthesis': Synthesis(generator)}
    if encoder is not None:
        parts['motion'] = Motion(sampler.motion_encoder)
    files = []
    with atomic_write(out) as temporary:
        temporary.mkdir()
        about = json.dumps(describe(generator, parts), indent=2)
        (temporary / 'model.json').write_text(f'{about}\n')
        progress = tqdm(total=len(parts) * len(formats), unit='file')
        with progress, warnings.catch_warnings():
            # These warnings are about torch's own code.
            warnings.simplefilter('ignore')
            for name, part in parts.items():
                program = trace(part)
                for format in formats:
                    path = temporary / (name + SUFFIXES[format])
                    save(program, part, path)
                    difference = compare(path, part)
                    files.append(ExportedFile(out / path.name, difference))
                    progress.update()
    return files


def describe(generator: nn.Module, parts: dict[str, Part]) -> dict:
    """Describe the model and its files, for their user."""
    about = {
        'resolution': generator.resolution,
        'z_dim': generator.z_dim,
        'num_ws': generator.num_ws,
        'c_dim': generator.c_dim,
    }
    encoder = generator.motion_encoder
    if encoder is not None:
        about |= {
            'motion_z_dim': encoder.motion_z_dim,
            'motion_z_distance': encoder.motion_z_distance,
            'extra_codes': encoder.extra_codes,
        }
    about['files'] = {
        name: {'inputs': signature(part), 'output': part.output}
        for name, part in parts.items()
    }
    return about


def signature(part: Part) -> dict[str, str]:
    """Describe the inputs of a part, such as ``z: float32 [N, 512]``."""
    inputs = {}
    for name, value in part.draw(0).items():
        axes = ', '.join(map(str, part.shapes[name]))
        inputs[name] = f'{value.dtype} [{axes}]'.removeprefix('torch.')
    return inputs


def dynamic_shapes(part: Part) -> dict[str, dict[int, Dim]]:
    """Return the dynamic axes of the inputs for ``torch.export``."""
    axes = {name: Dim(name, min=least) for name, least in part.axes.items()}
    return {
        key: {i: axes[axis] for i, axis in enumerate(shape) if axis in axes}
        for key, shape in part.shapes.items()
    }


@torch.no_grad()
def trace(part: Part) -> ExportedProgram:
    """Trace a part as a program."""
    # Only the strict mode understands len() of a tensor.
    return torch.export.export(
        part,
        tuple(part.draw(1).values()),
        dynamic_shapes=dynamic_shapes(part),
        strict=True,
    )


def save(program: ExportedProgram, part: Part, path: Path) -> None:
    """Write the program of a part; the suffix determines the format."""
    if path.suffix == '.pt2':
        torch.export.save(program, path)
        return
    from onnxscript import ir
    from onnxscript import opset18 as op

    def scalar_tensor(
        s: float,
        dtype: int = 1,
        layout: str = '',
        device: str = '',
        pin_memory: bool = False,
    ) -> Any:
        value: Any = ir.tensor(s, ir.DataType(dtype))
        return op.Constant(value=value)

    if part.onnx_table:
        program = program.run_decompositions(part.onnx_table)
    exported: Any = torch.onnx.export(
        program,
        dynamo=True,
        verbose=False,
        dynamic_shapes=dynamic_shapes(part),
        output_names=[part.output],
        # onnxscript's own would round numbers to float32.
        custom_translation_table={aten.scalar_tensor.default: scalar_tensor},
    )
    exported.save(path)


def load(path: Path) -> Callable[..., Tensor]:
    """Load a file as a function of tensors."""
    if path.suffix == '.pt2':
        return torch.export.load(path).module()
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    names = [each.name for each in session.get_inputs()]

    def run(*inputs: Tensor) -> Tensor:
        feed = {name: x.numpy() for name, x in zip(names, inputs)}
        return torch.from_numpy(session.run(None, feed)[0])

    return run


@torch.no_grad()
def compare(path: Path, part: Part) -> float:
    """Compare a file with the part that it was made of.

    Returns:
        float: The largest difference.

    Raises:
        InputError: The difference exceeds ``TOLERANCE``.
    """
    run = load(path)
    errors = []
    for more in (0, 1, 3):
        inputs = part.draw(more).values()
        errors.append((run(*inputs) - part(*inputs)).abs().max())
    difference = float(torch.stack(errors).max())  # nan if one is
    if not difference <= TOLERANCE:
        raise InputError(
            f'{path.name} differs from the model by {difference:g}, so '
            'nothing is written: install the versions in '
            'requirements/constraints.txt'
        )
    return difference
