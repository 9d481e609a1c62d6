"""Padding, pools and reductions against plain definitions of TensorFlow's SAME."""

from math import ceil

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from nascli.models.layers import FactorizedReduction, avg_pool, conv, draw_path_masks, max_pool, same_padding
from nascli.models.max_pool import OrderedMaxPool

SIZES = st.integers(3, 12)


def padded(x: Tensor, kernel: int, stride: int, value: float) -> Tensor:
    """Pad both axes to SAME by the textbook formula, written apart from the library's."""
    widths: list[int] = []
    for size in (x.shape[3], x.shape[2]):
        total = max((ceil(size / stride) - 1) * stride + kernel - size, 0)
        widths += [total // 2, total - total // 2]
    return F.pad(x, widths, value=value)


@given(SIZES, SIZES, st.sampled_from([1, 3, 5, 7]), st.sampled_from([1, 2]), st.sampled_from([1, 2]))
def test_convolutions_pad_same_at_every_size(height: int, width: int, kernel: int, stride: int, dilation: int) -> None:
    layer = conv(2, 3, kernel, stride, dilation=dilation)
    weight = next(layer.parameters())
    x = torch.randn(1, 2, height, width)
    extent = (kernel - 1) * dilation + 1
    expected = F.conv2d(padded(x, extent, stride, 0.0), weight, stride=stride, dilation=dilation)
    torch.testing.assert_close(layer(x), expected)
    assert layer(x).shape == (1, 3, ceil(height / stride), ceil(width / stride))


@given(SIZES, SIZES, st.sampled_from([2, 3, 5, 7]), st.sampled_from([1, 2]))
def test_max_pool_pads_same_and_padding_never_wins(height: int, width: int, kernel: int, stride: int) -> None:
    x = -torch.rand(1, 2, height, width) - 1
    expected = F.max_pool2d(padded(x, kernel, stride, float("-inf")), kernel, stride)
    torch.testing.assert_close(max_pool(x, kernel, stride), expected)
    assert bool((max_pool(x, kernel, stride) < 0).all())


@given(SIZES, SIZES, st.sampled_from([2, 3, 4, 5]), st.sampled_from([1, 2]))
def test_avg_pool_pads_same_and_counts_only_the_image(height: int, width: int, kernel: int, stride: int) -> None:
    x = torch.randn(1, 2, height, width)
    total = F.avg_pool2d(padded(x, kernel, stride, 0.0), kernel, stride, divisor_override=1)
    count = F.avg_pool2d(padded(torch.ones_like(x), kernel, stride, 0.0), kernel, stride, divisor_override=1)
    torch.testing.assert_close(avg_pool(x, kernel, stride), total / count)
    last = x.to(memory_format=torch.channels_last)
    assert avg_pool(last, kernel, stride).is_contiguous(memory_format=torch.channels_last)


def test_even_sizes_pad_only_after() -> None:
    assert same_padding(32, 3, 2) == (0, 1)
    assert same_padding(33, 3, 2) == (1, 1)
    assert same_padding(32, 7, 2) == (2, 3)
    assert same_padding(32, 1, 2) == (0, 0)


@given(SIZES, SIZES)
def test_factorized_reduction_drops_no_pixel(height: int, width: int) -> None:
    layer = FactorizedReduction(1, 2)
    layer.norm = nn.Identity()  # type: ignore[assignment]
    assert layer.straight is not None
    for weights in (layer.straight.weight, layer.shifted.weight):
        nn.init.ones_(weights)
    x = torch.randn(1, 1, height, width)
    out = layer(x)
    torch.testing.assert_close(out[0, 0], x[0, 0, ::2, ::2])
    shifted = F.pad(x, (0, 2, 0, 2))[0, 0, 1::2, 1::2][: out.shape[2], : out.shape[3]]
    torch.testing.assert_close(out[0, 1], shifted)


@pytest.mark.parametrize("prob", [0.25, 0.6])
def test_drop_path_zeroes_whole_images_and_keeps_the_mean(prob: float) -> None:
    torch.manual_seed(0)
    masks = draw_path_masks(torch.randn(20_000, 2, 3, 3), prob, (0.5, 1.0))
    for out, dropped in zip(masks, (prob / 2, prob), strict=True):
        assert out.shape == (20_000, 1, 1, 1)
        assert float((out == 0).float().mean()) == pytest.approx(dropped, abs=0.02)
        torch.testing.assert_close(out.max(), torch.tensor(1 / (1 - dropped)))
    assert abs(float(((masks[0] == 0) == (masks[1] == 0)).float().mean()) - 1) > 0.1


def test_masks_have_the_type_of_the_pass_and_drop_nothing_at_zero() -> None:
    images = torch.randn(5, 2, 3, 3)
    assert all(bool((mask == 1).all()) for mask in draw_path_masks(images, 0.0, (0.5, 1.0)))
    assert draw_path_masks(images, 0.5, ()) == ()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert draw_path_masks(images, 0.5, (1.0,))[0].dtype == torch.bfloat16


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize(("kernel", "stride"), [(2, 1), (2, 2), (3, 1), (3, 2), (5, 3)])
def test_max_pools_in_a_fixed_order_have_torchs_values_and_gradients(
    kernel: int, stride: int, ceil: bool, padding: int
) -> None:
    """Small whole numbers: many ties, and sums that no order changes."""
    torch.manual_seed(0)
    for height, width in ((5, 5), (6, 8), (7, 5)):
        x = torch.randint(-1, 3, (2, 3, height, width)).double().requires_grad_()
        expected = F.max_pool2d(x, kernel, stride, padding, ceil_mode=ceil)
        pooled = OrderedMaxPool.apply(x, kernel, stride, (padding, padding), ceil)
        assert torch.equal(pooled, expected)
        sent = torch.randint(-9, 9, expected.shape).double()
        (gradient,), (wanted,) = (torch.autograd.grad(each, x, sent) for each in (pooled, expected))
        assert torch.equal(gradient, wanted)
