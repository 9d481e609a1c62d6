"""Convolutions that take another way on a CPU give what `torch.nn.Conv2d` gives, forward and backward."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from nascli.models.convolutions import Depthwise, Pointwise
from nascli.models.layers import concat_channels, global_average

LAYOUTS = [torch.channels_last, torch.contiguous_format]


def gradients(module: nn.Module, x: Tensor, outer: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Output, gradient of the input and of the weights, for `outer` as the gradient of the output."""
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    module.zero_grad()
    result = module(x)
    result.backward(outer)
    assert x.grad is not None
    assert isinstance(module.weight.grad, Tensor)
    return result.detach(), x.grad, module.weight.grad


def exact(module: nn.Conv2d) -> nn.Conv2d:
    """The same convolution in float64, torch's own."""
    assert not isinstance(module.padding, str)
    made = nn.Conv2d(
        module.in_channels,
        module.out_channels,
        module.kernel_size,  # type: ignore[arg-type]
        module.stride,  # type: ignore[arg-type]
        module.padding,  # type: ignore[arg-type]
        groups=module.groups,
        bias=False,
        dtype=torch.float64,
    )
    made.load_state_dict(module.state_dict())
    return made


def check(module: nn.Conv2d, x: Tensor) -> None:
    reference = exact(module)
    outer = torch.randn_like(reference(x.double()))
    for ours, theirs in zip(gradients(module, x, outer.float()), gradients(reference, x.double(), outer), strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


@given(
    kernel=st.tuples(st.sampled_from((1, 3, 5, 7, 9)), st.sampled_from((3, 4, 5, 6, 7, 8, 9))),
    stride=st.sampled_from(((1, 1), (2, 2), (1, 2))),
    padded=st.booleans(),
    count=st.integers(1, 3),
    channels=st.sampled_from((1, 3, 8, 20)),
    size=st.tuples(st.integers(9, 14), st.integers(9, 14)),
    layout=st.sampled_from(LAYOUTS),
)
def test_depthwise(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padded: bool,
    count: int,
    channels: int,
    size: tuple[int, int],
    layout: torch.memory_format,
) -> None:
    torch.manual_seed(0)
    padding = (kernel[0] // 2, kernel[1] // 2) if padded else (0, 0)
    check(Depthwise(channels, kernel, stride, padding), torch.randn(count, channels, *size).to(memory_format=layout))


@pytest.mark.parametrize("stride", [(1, 1), (2, 2)])
@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("kernel", [5, 7, 9])
def test_depthwise_on_maps_that_are_narrower_than_the_kernel(kernel: int, width: int, stride: tuple[int, int]) -> None:
    torch.manual_seed(0)
    module = Depthwise(3, (kernel, kernel), stride, (kernel // 2, kernel // 2))
    check(module, torch.randn(2, 3, width, width).to(memory_format=torch.channels_last))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(2, 5, 3, 4), (64, 8, 8, 8), (65, 8, 8, 8), (1, 300, 6, 6)])
def test_pointwise(shape: tuple[int, int, int, int], layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    check(Pointwise(shape[1], 7), torch.randn(shape).to(memory_format=layout))


def test_a_depthwise_gradient_that_nobody_asks_for_is_not_there() -> None:
    module = Depthwise(8, (5, 5), (1, 1), (2, 2))
    x = torch.randn(2, 8, 9, 9).to(memory_format=torch.channels_last).requires_grad_()
    module.weight.requires_grad_(False)
    module(x).sum().backward()
    assert module.weight.grad is None
    assert x.grad is not None
    module.weight.requires_grad_()
    module(x.detach()).sum().backward()
    assert module.weight.grad is not None


def test_depthwise_under_autocast_and_in_float64_is_torchs() -> None:
    module = Depthwise(8, (5, 5), (1, 1), (2, 2))
    x = torch.randn(2, 8, 9, 9).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = module(x)
    assert half.dtype == torch.bfloat16
    half.float().sum().backward()
    assert torch.autograd.gradcheck(module.double(), x[:1, :, :5, :5].double().requires_grad_())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_joined_maps_give_each_part_a_whole_gradient(layout: torch.memory_format) -> None:
    parts = [torch.randn(2, c, 4, 4).to(memory_format=layout).requires_grad_() for c in (3, 1, 5)]
    seen: list[Tensor] = []
    moved = [part * 1 for part in parts]
    for each in moved:
        each.register_hook(seen.append)  # type: ignore[no-untyped-call]
    outer = torch.randn(2, 9, 4, 4).to(memory_format=layout)
    torch.autograd.backward([concat_channels(moved)], [outer])
    assert all(grad.is_contiguous(memory_format=layout) for grad in seen)
    for part, expected in zip(parts, torch.split(outer, [3, 1, 5], 1), strict=True):
        assert part.grad is not None
        torch.testing.assert_close(part.grad, expected, rtol=0, atol=0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_global_average(layout: torch.memory_format) -> None:
    x = torch.randn(3, 5, 4, 6).to(memory_format=layout).requires_grad_()
    found = global_average(x)
    torch.testing.assert_close(found, F.adaptive_avg_pool2d(x, 1).flatten(1))
    torch.autograd.backward([found.sum()])
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.full_like(x, 1 / 24))
