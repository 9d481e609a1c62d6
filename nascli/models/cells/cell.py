"""The one generic cell: it interprets any cell spec. There is no second implementation of a published cell.

Shapes: N batch, C channels, H height, W width, F the cell's filters.
"""

from collections.abc import Iterator
from typing import Literal

from torch import Tensor, nn

from nascli.genotype.cells.schema import CellSpec
from nascli.models.cells.ops import OPS, Op, Prefix
from nascli.models.layers import FactorizedReduction, drop_path_mask, first_relu, join, relu_conv_bn, repair

OlderSize = Literal["same", "double", "stem"]
"""What h[i-1] is to a cell: of the size of h[i], of twice its height and width, or the stem's output once more."""


class Half(nn.Module):
    """One half of a block: an op on one hidden state.

    Args:
        state: Number of the hidden state it reads.
        op: The operation.
        droppable: Whether drop path applies; it never does to an identity (released code).
    """

    def __init__(self, state: int, op: Op, droppable: bool) -> None:
        super().__init__()
        self.state = state
        self.op = op
        self.droppable = droppable


class Cell(nn.Module):
    """A normal (stride 1) or reduction (stride 2) cell.

    h[i] always passes ReLU-1x1-BN to F channels. h[i-1] is passed on as it is where it has F channels or where there is
    no older cell (then it is the stem's output at its own width); it passes ReLU-1x1-BN where only its width differs,
    and ReLU and a factorized reduction where its map is twice as large. Ops on the two inputs take the stride, ops on
    block outputs none. What the spec never reads is never built: neither unused inputs nor blocks that reach no output.

    The ReLU that h[i-1] or h[i] begins with is the same for every cell that reads it. `rectified` leaves it to the
    caller, who can then do it once for all; `takes_rectified` says of which inputs.

    (N, C_older, H', W') and (N, C_newer, H, W) to (N, len(concat) * F, H / stride, W / stride).

    Args:
        spec: The cell.
        channels: Channels of h[i-1] and of h[i].
        filters: F.
        stride: 1 or 2.
        older: What h[i-1] is.
        rectified: Whether inputs that begin with a ReLU come with it applied.

    References: Zoph et al. 2018, section 3; the input rules are the released code's.
    """

    def __init__(
        self,
        spec: CellSpec,
        channels: tuple[int, int],
        filters: int,
        stride: int,
        older: OlderSize = "same",
        *,
        rectified: bool = False,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.drop_path_prob = 0.0
        self.always_masked = False
        live = spec.live
        self._live_blocks = tuple(k for k in range(len(spec.blocks)) if k + 2 in live)
        self.older = older_input(channels[0], filters, older, rectified=rectified) if 0 in live else None
        self.newer = relu_conv_bn(channels[1], filters, rectified=rectified) if 1 in live else None
        self.takes_rectified = (
            rectified and isinstance(self.older, nn.Sequential),
            rectified and self.newer is not None,
        )
        widths = [channels[0] if older == "stem" else filters, filters]
        self.halves = nn.ModuleList()
        for k, block in enumerate(spec.blocks):
            if k in self._live_blocks:
                self.halves.extend(
                    Half(state, OPS[op](widths[state], filters, stride if state < 2 else 1), op != "identity")
                    for state, op in zip(block.inputs, block.ops, strict=True)
                )
            widths.append(filters * (2 if block.combine == "concat" else 1))
        self._combines = tuple(block.combine for block in spec.blocks)
        self._concat = spec.concat
        self.joins = nn.ModuleList(repair(widths[s], filters, stride if s < 2 else 1) for s in spec.concat)
        self.channels_out = filters * len(spec.concat)

    def draw_masks(self, images: Tensor) -> tuple[Tensor, ...] | None:
        """Drop-path masks for a pass over these images, one for each half that can be dropped; None where none drops.

        They are drawn out here and handed to `forward`, so that it draws nothing: it may be computed twice, or compiled
        once for every probability. For the latter `always_masked` asks for masks of ones at probability 0.
        """
        if not self.training or not (self.drop_path_prob or self.always_masked):
            return None
        return tuple(drop_path_mask(images, self.drop_path_prob) for half in self.halves if _checked(half).droppable)

    def forward(self, older: Tensor | None, newer: Tensor | None, masks: tuple[Tensor, ...] | None = None) -> Tensor:
        """Run the cell on h[i-1] and h[i]; an input that its spec never reads may be None.

        `masks` are from `draw_masks`; None drops no path.
        """
        drawn = None if masks is None else iter(masks)
        states: dict[int, Tensor] = {}
        if self.older is not None:
            states[0] = self.older(older)
        if self.newer is not None:
            states[1] = self.newer(newer)
        prefixed: dict[tuple[int, Prefix], Tensor] = {}
        halves = iter(self.halves)
        for k in self._live_blocks:
            first, second = (self._half(_checked(next(halves)), states, prefixed, drawn) for _ in range(2))
            states[k + 2] = first + second if self._combines[k] == "add" else join((first, second))
        joined = [join(states[s]) for join, s in zip(self.joins, self._concat, strict=True)]
        return joined[0] if len(joined) == 1 else join(joined)  # (N, len(concat) * F, H/s, W/s)

    def _half(
        self,
        half: Half,
        states: dict[int, Tensor],
        prefixed: dict[tuple[int, Prefix], Tensor],
        masks: Iterator[Tensor] | None,
    ) -> Tensor:
        key = (half.state, half.op.prefix)
        if key not in prefixed:
            prefixed[key] = half.op.prefix(states[half.state])
        result: Tensor = half.op(prefixed[key])
        if masks is not None and half.droppable:
            return result * next(masks).to(result.dtype)
        return result


def _checked(half: nn.Module) -> Half:
    assert isinstance(half, Half)
    return half


def older_input(channels: int, filters: int, older: OlderSize, *, rectified: bool = False) -> nn.Module:
    """What brings h[i-1] to the size of h[i], and to F channels where there is an older cell.

    With `rectified` it comes with the ReLU applied, unless nothing at all is done to it.
    """
    if older == "double":
        return nn.Sequential(first_relu(rectified), FactorizedReduction(channels, filters))
    if older == "stem" or channels == filters:
        return nn.Identity()
    return relu_conv_bn(channels, filters, rectified=rectified)
