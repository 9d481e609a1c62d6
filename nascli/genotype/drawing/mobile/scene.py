"""A whole drawing of mobile blocks as plain shapes: title, chain, legend.

The chain grows upwards. A box is the first layer of a block, every ledge on it another; a bow at the right of a layer
is its skip. Boxes are wider the more channels they give.
"""

from collections.abc import Iterator, Sequence
from functools import partial

from nascli.genotype.drawing.mobile.layout import (
    BOX_HEIGHT,
    GAP,
    IMAGE_SIDE,
    LAYER_HEIGHT,
    ChainLayout,
    Part,
    lay_out_chain,
)
from nascli.genotype.drawing.mobile.palette import drawn_blocks, op_paint
from nascli.genotype.drawing.shapes import (
    ARROW_LENGTH,
    EDGE_COLOR,
    FAINT_INK,
    INK,
    SMALL_TEXT,
    SWATCH,
    Arrowhead,
    Box,
    Group,
    Paint,
    Plate,
    Point,
    Scene,
    Shape,
    Stroke,
    Words,
    frame_scene,
    lay_out_legend,
)
from nascli.genotype.mobile.genotype import MobileGenotype, Skip, op_words

_LABEL_SIZE, _COUNT_SIZE = 13.0, 15.0
_LETTER, _BOLD_LETTER = 0.6, 0.74  # width of a letter against its size, in the widest font
_LINE = 22.0
_CORNER = 12.0
_BOW = 11.0
_SKIP_COLORS: dict[Skip, str] = {"identity": "#b4593b", "pool": "#2f7f86"}
_BADGE_PAINT = Paint("#ffffff", "#94a3b8", INK)
_SE_PAINT = Paint("#475569", "#475569", "#ffffff")
_SKIP_WORDS: dict[Skip, str] = {"identity": "adds its input", "pool": "adds its input, averaged over 3×3"}


def mobile_scene(genotype: MobileGenotype) -> Scene:
    """The chain of a genotype with title and legend."""
    chain = lay_out_chain(genotype)
    drawing = [Group(0, 0, tuple(_chain_shapes(chain)))]
    return frame_scene(genotype, (chain.width, chain.height), drawing, _legend(genotype), _LINE)


def _chain_shapes(chain: ChainLayout) -> Iterator[Shape]:
    for before, after, way in zip(chain.parts, chain.parts[1:], chain.links, strict=False):
        (x, y) = tip = way[-1]
        yield from _wire((*way[:-1], (x, y + ARROW_LENGTH * 0.7)))  # the line must not show beside the arrowhead
        yield Arrowhead(tip, EDGE_COLOR)
        baseline = y + GAP / 2 + 4
        yield Words(before.shape, (x + 10, baseline), SMALL_TEXT, FAINT_INK, anchor="start")
        if after.stride > 1:
            yield Words(f"stride {after.stride}", (x - 36, baseline), SMALL_TEXT, FAINT_INK)
    for part, box in zip(chain.parts, chain.boxes, strict=True):
        yield from _part_shapes(part, box)


def _wire(corners: Sequence[Point]) -> Iterator[Stroke]:
    """Straight lines along the corners, each corner rounded."""
    at = corners[0]
    for before, corner, after in zip(corners, corners[1:], corners[2:], strict=False):
        one, two = _toward(corner, before), _toward(corner, after)
        yield Stroke((at, at, one, one), EDGE_COLOR)
        yield Stroke((one, corner, corner, two), EDGE_COLOR)
        at = two
    yield Stroke((at, at, corners[-1], corners[-1]), EDGE_COLOR)


def _toward(corner: Point, end: Point) -> Point:
    """The point at which the rounding of a corner ends, toward the end of its line."""
    (x, y), (end_x, end_y) = corner, end
    length = abs(end_x - x) + abs(end_y - y)  # lines are upright or level
    share = min(_CORNER, length / 2) / length
    return x + (end_x - x) * share, y + (end_y - y) * share


def _part_shapes(part: Part, box: Box) -> Iterator[Shape]:
    first = Box(box.left, box.bottom - BOX_HEIGHT, box.width, BOX_HEIGHT)
    radius = BOX_HEIGHT / 2 if part.kind != "block" else 8
    for ledge in reversed(range(1, part.layers)):
        raised = Box(box.left, first.top - ledge * LAYER_HEIGHT, box.width, BOX_HEIGHT)
        yield Plate(raised, part.paint, radius)
    yield Plate(first, part.paint, radius, dashed=part.kind == "outside", hint=part.hint)
    yield from _contents(part, first)
    yield from _bows(part, first)
    if part.number:
        yield Words(str(part.number), (box.left - 14, first.top + 23), SMALL_TEXT, FAINT_INK, bold=True)
    if part.layers > 1:
        middle = box.top + box.height / 2 + 5
        yield Words(f"×{part.layers}", (box.right + 20, middle), _COUNT_SIZE, INK, bold=True, anchor="start")


def _contents(part: Part, box: Box) -> Iterator[Shape]:
    """The words of a part and its badges, together in the middle of the box."""
    badges = [len(text) * SMALL_TEXT * _LETTER + 14 for text in part.badges]
    words = len(part.words) * _LABEL_SIZE * _BOLD_LETTER
    x = box.middle - (words + sum(badges) + 6 * len(badges)) / 2
    baseline = box.top + box.height / 2 + _LABEL_SIZE * 0.35
    yield Words(part.words, (x + words / 2, baseline), _LABEL_SIZE, part.paint.text, bold=True)
    x += words + 6
    for text, width in zip(part.badges, badges, strict=True):
        paint = _SE_PAINT if text.startswith("SE") else _BADGE_PAINT
        yield Plate(Box(x, box.top + 9, width, box.height - 18), paint, (box.height - 18) / 2)
        yield Words(text, (x + width / 2, baseline - 0.5), SMALL_TEXT, paint.text)
        x += width + 6


def _bows(part: Part, first: Box) -> Iterator[Shape]:
    """The skip of each layer that has one, at the right of it."""
    for layer in range(part.layers):
        skip = part.skips[min(layer, 1)]
        if skip != "none":
            low = first.bottom if layer == 0 else first.top - (layer - 1) * LAYER_HEIGHT
            high = first.top - layer * LAYER_HEIGHT
            inset = 6 if layer == 0 else 1.5
            yield _bow(first.right, low - inset, high + inset, skip)


def _bow(x: float, low: float, high: float, skip: Skip) -> Stroke:
    side = x + _BOW
    return Stroke(((x, low), (side, low), (side, high), (x, high)), _SKIP_COLORS[skip])


def _legend(genotype: MobileGenotype) -> list[Shape]:
    """A swatch of every op, a bow of every skip, and under them what the shapes are."""
    blocks = drawn_blocks(genotype)
    ops = [(partial(_swatch, op), op_words(op)) for op in sorted({block.op for block in blocks})]
    used = {block.skip for block in blocks}
    skips = [(partial(_legend_bow, skip), words) for skip, words in _SKIP_WORDS.items() if skip in used]
    said = f"×N: N layers · C×H×W of each map of an image of {IMAGE_SIDE}×{IMAGE_SIDE}"
    return [*lay_out_legend([*ops, *skips]), Words(said, (0, 11 + _LINE), SMALL_TEXT, FAINT_INK, anchor="start")]


def _swatch(op: str, x: float) -> Plate:
    return Plate(Box(x, 0, SWATCH, SWATCH), op_paint(op), 4)


def _legend_bow(skip: Skip, x: float) -> Stroke:
    return _bow(x, SWATCH, 0, skip)
