"""Convolution against PyTorch's, and its derivatives against differences."""

from contextlib import suppress

import pytest
import torch
import torch.nn.functional as F

from stylegan_v_mm.models.convolution import conv2d, image_gradients_only

# kernel, stride, padding, groups, transposed
CASES = [
    (3, 1, 1, 1, False),
    (1, 1, 0, 1, False),
    (3, 2, 0, 1, False),
    (4, 2, 1, 4, False),
    (4, 1, 2, 4, False),
    (3, 1, 1, 1, True),
    (3, 2, 0, 1, True),
    (4, 2, 1, 4, True),
    (4, 1, 1, 4, True),
]


def images_and_weight(case, dtype, num_images=2, channels_last=True):
    """An even height and an odd width: strides leave a row out, or none."""
    kernel, _, _, groups, transposed = case
    x = torch.randn(num_images, 4, 8, 7)
    out = 1 if groups == 4 else 3
    sides = (4, out) if transposed else (out * groups, 4 // groups)
    weight = torch.randn(*sides, kernel, kernel) / kernel / 2
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    return [tensor.to(dtype).requires_grad_() for tensor in (x, weight)]


def by_pytorch(x, weight, stride, padding, groups, transposed):
    function = F.conv_transpose2d if transposed else F.conv2d
    return function(x, weight, None, stride, padding, groups=groups)


@pytest.mark.parametrize('case', CASES)
def test_it_is_pytorchs_convolution(case):
    x, weight = images_and_weight(case, torch.float64)
    expected = by_pytorch(x, weight, *case[1:])
    for enabled in (True, False):
        with torch.set_grad_enabled(enabled):
            y = conv2d(x, weight, *case[1:])
        assert y.requires_grad == enabled
        torch.testing.assert_close(y, expected)


@pytest.mark.parametrize('case', CASES)
def test_its_derivatives(case):
    def function(x, weight):
        return conv2d(x, weight, *case[1:])

    inputs = images_and_weight(case, torch.float64)
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


def second_derivatives(function, x, weight):
    """Of a penalty on the gradient, as of R1's, with a layer behind."""
    y = function(x, weight)
    (grad,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    return torch.autograd.grad(grad.square().mean(), (x, weight))


# PyTorch's own are wrong in bfloat16 for 12 images on CPUs with AMX.
@pytest.mark.parametrize('num_images', [1, 2, 3, 5, 12, 16, 24])
@pytest.mark.parametrize('case', CASES)
def test_bfloat16_is_near_to_float64(case, num_images):
    def ours(x, weight):
        return conv2d(x, weight, *case[1:])

    inputs = images_and_weight(case, torch.bfloat16, num_images)
    twins = [x.detach().double().requires_grad_() for x in inputs]
    y, expected = ours(*inputs), by_pytorch(*twins, *case[1:])
    found = [y, *second_derivatives(ours, *inputs)]
    wanted = [expected, *second_derivatives(ours, *twins)]
    for x, truth in zip(found, wanted, strict=True):
        assert x.dtype == torch.bfloat16
        assert (x - truth).norm() < 0.02 * truth.norm()


def test_results_keep_the_layout():
    """Or each layer behind them would rearrange the images."""
    for case in CASES:
        for dtype in (torch.float32, torch.bfloat16):
            x, weight = images_and_weight(case, dtype)
            y = conv2d(x, weight, *case[1:])
            grad = torch.ones_like(y)
            (x_grad,) = torch.autograd.grad(y, x, grad)
            for z in (y, x_grad):
                assert z.is_contiguous(memory_format=torch.channels_last)


def test_gradients_for_weights_are_left_out_on_request():
    x, weight = images_and_weight(CASES[0], torch.float64)
    y = conv2d(x, weight, padding=1).square().sum()
    with image_gradients_only():
        grads = torch.autograd.grad(
            y, (x, weight), create_graph=True, allow_unused=True
        )
    assert grads[1] is None
    # They come back, after errors, too.
    with suppress(ValueError), image_gradients_only():
        raise ValueError
    (expected,) = torch.autograd.grad(y, x, create_graph=True)
    torch.testing.assert_close(grads[0], expected)
    # Behind them, the penalty has all its gradients.
    penalty = grads[0].square().sum()
    (ours,) = torch.autograd.grad(penalty, weight, retain_graph=True)
    (theirs,) = torch.autograd.grad(expected.square().sum(), weight)
    torch.testing.assert_close(ours, theirs)
    assert theirs.count_nonzero() > 0
