"""Folded networks whose paddings are numbers, for exporters that follow sizes through a graph.

Shapes: N batch, C channels, H height, W width.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from nascli.models import layers
from nascli.models.deploy.fuse import SameConv2d
from nascli.models.layers import SamePad, same_padding

Sides = tuple[int, int]


@torch.no_grad()
def settle_padding(folded: fx.GraphModule, example: Tensor) -> None:
    """Make SAME paddings the numbers that they are for one input, so that nothing is computed from H and W.

    Args:
        folded: From `fold`. Afterwards it serves inputs of which every map has the same paddings: where 32 divides H
            and W, and the strides come to 32 at most, that is so.
        example: The input.
    """
    ShapeProp(folded).propagate(example)
    for node in list(folded.graph.nodes):
        settled = _settle(folded, node)
        if settled is not None:
            folded.add_submodule(f"settled_{node.name}", settled)
            with folded.graph.inserting_before(node):
                called = folded.graph.call_module(f"settled_{node.name}", (node.args[0],))
            node.replace_all_uses_with(called)
            folded.graph.erase_node(node)
    folded.delete_all_unused_submodules()
    folded.recompile()


def _settle(folded: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The module of fixed padding that stands for a step with SAME padding; None for other steps."""
    if node.op == "call_module":
        module = folded.get_submodule(str(node.target))
        if isinstance(module, SameConv2d):
            return _settle_convolution(module, *_find_sides(node, module.same.kernel, module.same.stride))
        if isinstance(module, SamePad):
            return _pad(*_find_sides(node, module.kernel, module.stride))
    elif node.target is layers.pad_same:
        _, kernel, stride = node.args
        assert isinstance(kernel, int)
        assert isinstance(stride, int)
        return _pad(*_find_sides(node, (kernel, kernel), (stride, stride)))
    elif node.target in _POOLS:
        _, kernel, stride = node.args
        assert isinstance(kernel, int)
        assert isinstance(stride, int)
        if kernel % 2 or stride > 1 or node.target is layers.max_pool:  # else nothing depends on H and W
            sides = _find_sides(node, (kernel, kernel), (stride, stride))
            return _POOLS[node.target](kernel, stride, *sides)
    return None


def _find_sides(node: fx.Node, kernel: tuple[int, int], stride: tuple[int, int]) -> tuple[Sides, Sides]:
    """Rows above and below the input of a step, columns left and right of it."""
    shape = node.all_input_nodes[0].meta["tensor_meta"].shape
    return same_padding(shape[2], kernel[0], stride[0]), same_padding(shape[3], kernel[1], stride[1])


def _settle_convolution(same: SameConv2d, rows: Sides, columns: Sides) -> nn.Module:
    even = rows[0] == rows[1] and columns[0] == columns[1]
    with torch.device("meta"):
        made = nn.Conv2d(
            same.in_channels,
            same.out_channels,
            (same.kernel_size[0], same.kernel_size[1]),
            (same.stride[0], same.stride[1]),
            (rows[0], columns[0]) if even else 0,
            (same.dilation[0], same.dilation[1]),
            same.groups,
        )
    made.weight, made.bias = same.weight, same.bias
    return made if even else nn.Sequential(_pad(rows, columns), made)


def _pad(rows: Sides, columns: Sides, value: float = 0.0) -> nn.Module:
    return nn.ConstantPad2d((*columns, *rows), value)


class _UnevenAverage(nn.Module):
    """An average pool with other paddings before than after; the divisor counts only pixels of the image."""

    def __init__(self, kernel: int, stride: int, pad: nn.Module) -> None:
        super().__init__()
        self.kernel, self.stride, self.pad = kernel, stride, pad

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, ceil(H / stride), ceil(W / stride))."""
        # ceil_mode, with which torch does this alone, cannot be exported where the kernel is larger than the map
        return self._pool(x) / self._pool(torch.ones_like(x[:1, :1]))

    def _pool(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.pad(x), self.kernel, self.stride)


def _average(kernel: int, stride: int, rows: Sides, columns: Sides) -> nn.Module:
    if rows[0] == rows[1] and columns[0] == columns[1]:
        return nn.AvgPool2d(kernel, stride, (rows[0], columns[0]), count_include_pad=False)
    return _UnevenAverage(kernel, stride, _pad(rows, columns))


def _maximum(kernel: int, stride: int, rows: Sides, columns: Sides) -> nn.Module:
    return nn.Sequential(_pad(rows, columns, float("-inf")), nn.MaxPool2d(kernel, stride))


_POOLS: dict[object, Callable[[int, int, Sides, Sides], nn.Module]] = {
    layers.avg_pool: _average,
    layers.max_pool: _maximum,
}
