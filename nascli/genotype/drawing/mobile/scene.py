"""A whole drawing of mobile blocks as plain shapes."""

from nascli.genotype.drawing.mobile import palette
from nascli.genotype.drawing.shapes import EDGE_COLOR, Box, Group, Plate, Scene, Stroke, Words, title_words
from nascli.genotype.mobile.genotype import MobileGenotype
from nascli.text import printable


def mobile_scene(genotype: MobileGenotype) -> Scene:
    """A column of boxes, the first block at the bottom."""
    shapes: list[Plate | Stroke | Words] = []
    for place, block in enumerate(reversed(palette.canonical_blocks(genotype))):
        box, paint = Box(40, 60.0 * place, 240, 32), palette.op_paint(block.op)
        shapes.append(Plate(box, paint, 7, hint=block.op))
        words = f"{block.layers} × {palette.layer_words(block)} → {block.filters}"
        shapes.append(Words(words, (box.middle, box.top + 21), 13, paint.text))
        if place:
            start, end = (box.middle, box.top), (box.middle, box.top - 28)
            shapes.append(Stroke((start, start, end, end), EDGE_COLOR))
    groups = (Group(36, 36, title_words(genotype, 388)), Group(36, 100, tuple(shapes)))
    return Scene(printable(genotype.name), 460, 140 + 60.0 * len(genotype.blocks), groups)
