"""Places of a chain's boxes: columns that grow upwards, as near as they can be to a sheet that is wider than high."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import Literal

from nascli.genotype.drawing.mobile.palette import END_PAINT, OUTSIDE_PAINT, block_words, drawn_blocks, op_paint
from nascli.genotype.drawing.shapes import Box, Paint, Point
from nascli.genotype.mobile.genotype import MobileBlock, MobileGenotype, Skip, op_words

IMAGE_SIDE = 224
"""Height and width of the image whose maps are written between the boxes."""

BOX_HEIGHT, LAYER_HEIGHT, GAP = 36.0, 11.0, 38.0
_COLUMN_GAP = 30.0
_LEFT_OF_BOX, _RIGHT_OF_BOX = 26.0, 58.0
"""Room for the number of a block, and for its skips and the number of its layers."""

_NARROW, _WIDE = 236.0, 320.0  # boxes with the fewest and the most channels
_END_WIDTH = 150.0
_ASPECT = 1.25


@dataclass(frozen=True)
class Part:
    """A box of the chain: the image, the stem, a block, the head.

    Args:
        words: The op, or the whole of what is no block.
        badges: Short facts beside it.
        shape: Of its output, channels×height×width.
        layers: All but the first are drawn as ledges on the box.
        skips: Of the first layer, and of the others.
    """

    kind: Literal["end", "block", "outside"]
    words: str
    paint: Paint
    width: float
    shape: str
    badges: tuple[str, ...] = ()
    number: int = 0
    layers: int = 1
    stride: int = 1
    skips: tuple[Skip, Skip] = ("none", "none")
    hint: str = ""

    @property
    def height(self) -> float:
        """The height of the box with its ledges."""
        return BOX_HEIGHT + LAYER_HEIGHT * (self.layers - 1)


@dataclass(frozen=True)
class ChainLayout:
    """A chain on a sheet of `width` times `height`.

    Args:
        boxes: Of the parts, ledges included.
        links: The corners of the way from each part to the next, which it enters from below.
    """

    parts: tuple[Part, ...]
    boxes: tuple[Box, ...]
    links: tuple[tuple[Point, ...], ...]
    width: float
    height: float


def lay_out_chain(genotype: MobileGenotype) -> ChainLayout:
    """The parts of a genotype in as many columns as bring the sheet nearest to its aspect."""
    parts = _list_parts(genotype)
    layouts = [_place(_split(parts, count)) for count in range(1, len(parts) // 3 + 2)]
    return min(layouts, key=lambda layout: abs(log(layout.width / layout.height / _ASPECT)))


def _list_parts(genotype: MobileGenotype) -> list[Part]:
    side = -(-IMAGE_SIDE // 2)
    parts = [
        Part("end", "image", END_PAINT, _END_WIDTH, f"3×{IMAGE_SIDE}×{IMAGE_SIDE}"),
        Part("end", "conv", END_PAINT, _END_WIDTH, f"{genotype.stem}×{side}×{side}", badges=("3×3",), stride=2),
    ]
    blocks = drawn_blocks(genotype)
    widths = _box_widths([block.filters for block in blocks])
    for place, (block, channels_in) in enumerate(zip(blocks, genotype.inputs, strict=True)):
        side = -(-side // block.stride)
        parts.append(_describe_block(block, place + 1, channels_in, widths[place], side))
    return [*parts, Part("outside", "head, classifier", OUTSIDE_PAINT, _END_WIDTH, "")]


def _describe_block(block: MobileBlock, number: int, channels_in: int, width: float, side: int) -> Part:
    first: Skip = block.skip if block.skips(channels_in, block.stride) else "none"
    return Part(
        "block",
        op_words(block.op),
        op_paint(block.op),
        width,
        f"{block.filters}×{side}×{side}",
        badges=(f"{block.kernel}×{block.kernel}", *([f"SE {block.se:.4g}"] if block.se else [])),
        number=number,
        layers=block.layers,
        stride=block.stride,
        skips=(first, block.skip),
        hint=block_words(block),
    )


def _box_widths(filters: Sequence[int]) -> list[float]:
    """Wider the more channels there are, each doubling by as much."""
    least, most = log(min(filters)), log(max(filters))
    return [_NARROW + (_WIDE - _NARROW) * (log(each) - least) / ((most - least) or 1) for each in filters]


def _split(parts: Sequence[Part], count: int) -> list[list[Part]]:
    """The parts in order in as many columns of about one height; fewer where that is not possible."""
    total = sum(part.height + GAP for part in parts)
    columns: list[list[Part]] = [[] for _ in range(count)]
    done = 0.0
    for part in parts:
        middle = done + (part.height + GAP) / 2
        columns[min(count - 1, int(middle / total * count))].append(part)
        done += part.height + GAP
    return [column for column in columns if column]


def _place(columns: Sequence[Sequence[Part]]) -> ChainLayout:
    height = max(sum(part.height + GAP for part in column) for column in columns) + GAP / 2
    boxes: list[Box] = []
    links: list[tuple[Point, ...]] = []
    x = 0.0
    for number, column in enumerate(columns):
        widest = max(part.width for part in column)
        middle, y = x + _LEFT_OF_BOX + widest / 2, height
        for part in column:
            y -= part.height + (GAP if boxes else 0)
            box = Box(middle - part.width / 2, y, part.width, part.height)
            if boxes:
                start, tip = (boxes[-1].middle, boxes[-1].top), (middle, box.bottom)
                over = part is column[0] and number > 0
                links.append(_way_over(start, tip, x - _COLUMN_GAP / 2, height) if over else (start, tip))
            boxes.append(box)
        x += _LEFT_OF_BOX + widest + _RIGHT_OF_BOX + _COLUMN_GAP
    parts = tuple(part for column in columns for part in column)
    return ChainLayout(parts, tuple(boxes), tuple(links), x - _COLUMN_GAP, height)


def _way_over(start: Point, tip: Point, between: float, bottom: float) -> tuple[Point, ...]:
    """From the top of a column down between two columns to the bottom of the next."""
    turn = start[1] - GAP / 2
    return start, (start[0], turn), (between, turn), (between, bottom), (tip[0], bottom), tip
