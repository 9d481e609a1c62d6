"""The one generic cell: it interprets any cell spec. There is no second implementation of a published cell.

Shapes: N batch, C channels, H height, W width, F the cell's filters.
"""

from collections.abc import Iterator
from typing import Literal

from torch import Tensor, nn

from nascli.genotype.cells.schema import CellSpec
from nascli.models.cells.ops import OPS, Op, SharedPrefix
from nascli.models.layers import FactorizedReduction, align, concat_channels, first_relu, relu_conv_bn

PrevPrevSize = Literal["same", "double", "stem"]
"""Size of h[i-1] in a cell: that of h[i], twice its height and width, or h[i-1] is the stem's output once more."""


class Branch(nn.Module):
    """One branch of a block: an op on the hidden state of this number.

    Drop path applies where it is `droppable`, which an identity never is (released code).
    """

    def __init__(self, state: int, op: Op, droppable: bool) -> None:
        super().__init__()
        self.state = state
        self.op = op
        self.droppable = droppable


class Cell(nn.Module):
    """A normal (stride 1) or reduction (stride 2) cell.

    h[i] always passes ReLU-1x1-BN to F channels. h[i-1] is passed on as it is where it has F channels or where there is
    no cell before the previous (then it is the stem's output at its own width); it passes ReLU-1x1-BN where only its
    width differs, and ReLU and a factorized reduction where its map is twice as large. Ops on the two inputs take the
    stride, ops on block outputs none. What the spec never reads is never built: neither unused inputs nor blocks that
    reach no output.

    The ReLU that h[i-1] or h[i] begins with is the same for every cell that reads it. `pre_activated` leaves it to the
    caller, who can then do it once for all; `takes_activated` says of which inputs.

    (N, C_prev_prev, H', W') and (N, C_prev, H, W) to (N, len(concat) * F, H / stride, W / stride).

    Args:
        channels: Those of h[i-1] and h[i].
        filters: F.
        pre_activated: Whether inputs that begin with a ReLU come with it applied.

    References: Zoph et al. 2018, section 3; the input rules are the released code's.
    """

    def __init__(
        self,
        spec: CellSpec,
        channels: tuple[int, int],
        filters: int,
        stride: int,
        prev_prev: PrevPrevSize = "same",
        *,
        pre_activated: bool = False,
    ) -> None:
        super().__init__()
        self.stride = stride
        live = spec.live
        self._live_blocks = tuple(k for k in range(len(spec.blocks)) if k + 2 in live)
        self.prev_prev = (
            align_prev_prev(channels[0], filters, prev_prev, pre_activated=pre_activated) if 0 in live else None
        )
        self.prev = relu_conv_bn(channels[1], filters, pre_activated=pre_activated) if 1 in live else None
        self.takes_activated = (
            pre_activated and isinstance(self.prev_prev, nn.Sequential),
            pre_activated and self.prev is not None,
        )
        widths = [channels[0] if prev_prev == "stem" else filters, filters]
        self.branches = nn.ModuleList()
        for k, block in enumerate(spec.blocks):
            if k in self._live_blocks:
                self.branches.extend(
                    Branch(state, OPS[op](widths[state], filters, stride if state < 2 else 1), op != "identity")
                    for state, op in zip(block.inputs, block.ops, strict=True)
                )
            widths.append(filters * (2 if block.combine == "concat" else 1))
        self._combines = tuple(block.combine for block in spec.blocks)
        self._concat = spec.concat
        self.aligns = nn.ModuleList(align(widths[s], filters, stride if s < 2 else 1) for s in spec.concat)
        self.channels_out = filters * len(spec.concat)

    @property
    def droppable(self) -> int:
        """The number of branches that drop path may drop."""
        return sum(_as_branch(branch).droppable for branch in self.branches)

    def forward(self, prev_prev: Tensor | None, prev: Tensor | None, masks: tuple[Tensor, ...] | None = None) -> Tensor:
        """Run the cell on h[i-1] and h[i]; an input that its spec never reads may be None.

        `masks` are those of drop path, (N, 1, 1, 1) for each droppable branch; None drops no path.
        """
        mask = None if masks is None else iter(masks)
        states: dict[int, Tensor] = {}
        if self.prev_prev is not None:
            states[0] = self.prev_prev(prev_prev)
        if self.prev is not None:
            states[1] = self.prev(prev)
        prefixed: dict[tuple[int, SharedPrefix], Tensor] = {}
        # `branches` is flat, two per live block in the order of the spec: the names of weights depend on that order.
        branches = iter(self.branches)
        for k in self._live_blocks:
            first, second = (self._branch(_as_branch(next(branches)), states, prefixed, mask) for _ in range(2))
            states[k + 2] = first + second if self._combines[k] == "add" else concat_channels((first, second))
        aligned = [align(states[s]) for align, s in zip(self.aligns, self._concat, strict=True)]
        return aligned[0] if len(aligned) == 1 else concat_channels(aligned)  # (N, len(concat) * F, H/s, W/s)

    def _branch(
        self,
        branch: Branch,
        states: dict[int, Tensor],
        prefixed: dict[tuple[int, SharedPrefix], Tensor],
        masks: Iterator[Tensor] | None,
    ) -> Tensor:
        key = (branch.state, branch.op.prefix)
        if key not in prefixed:
            prefixed[key] = branch.op.prefix(states[branch.state])
        result: Tensor = branch.op(prefixed[key])
        if masks is not None and branch.droppable:
            return result * next(masks).to(result.dtype)
        return result


def _as_branch(branch: nn.Module) -> Branch:
    assert isinstance(branch, Branch)
    return branch


def align_prev_prev(channels: int, filters: int, prev_prev: PrevPrevSize, *, pre_activated: bool = False) -> nn.Module:
    """Bring h[i-1] to the size of h[i], and to F channels where it is the output of a cell.

    With `pre_activated` it comes with the ReLU applied, unless nothing at all is done to it.
    """
    if prev_prev == "double":
        return nn.Sequential(first_relu(pre_activated), FactorizedReduction(channels, filters))
    if prev_prev == "stem" or channels == filters:
        return nn.Identity()
    return relu_conv_bn(channels, filters, pre_activated=pre_activated)
