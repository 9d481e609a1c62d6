"""Mobile blocks as text: a graph for other programs, and a tree for the terminal."""

from itertools import pairwise

from nascli.genotype.drawing.graph import Arrow, Branch, Cluster, Graph, Line, Vertex
from nascli.genotype.drawing.mobile.palette import (
    END_PAINT,
    block_words,
    drawn_blocks,
    layer_words,
    op_paint,
    terminal_color,
)
from nascli.genotype.mobile.genotype import MobileGenotype
from nascli.units import count_of


def mobile_graph(genotype: MobileGenotype) -> Graph:
    """The genotype as a chain of its stem and its blocks."""
    blocks = drawn_blocks(genotype)
    vertices = [
        Vertex("image", "image", "stem", round=True),
        Vertex("stem", f"conv 3×3 · stride 2 → {genotype.stem}", "stem"),
        *(Vertex(f"block_{k}", block_words(block), block.op, hint=f"block {k}") for k, block in enumerate(blocks, 1)),
        Vertex("output", "last map", "stem", round=True),
    ]
    arrows = tuple(Arrow(one.key, other.key) for one, other in pairwise(vertices))
    styles = {"stem": END_PAINT} | {block.op: op_paint(block.op) for block in blocks}
    return Graph(genotype.name, (Cluster("blocks", "Blocks", tuple(vertices), arrows),), styles)


def mobile_tree(genotype: MobileGenotype) -> list[Branch]:
    """A line for the stem and each block: what a layer is, how often, its stride, its filters, its skip."""
    blocks = drawn_blocks(genotype)
    kinds = [layer_words(block) for block in blocks]
    ratios = [f"SE {block.se:.4g}" if block.se else "" for block in blocks]
    counts = [count_of(block.layers, "layer") for block in blocks]
    wide = [max(map(len, column)) for column in (kinds, ratios, counts)]
    digits = len(str(len(blocks)))
    lines = [
        Line()
        .add(f"{'':{digits}}  ")
        .add(f"{'conv 3×3':<{wide[0]}}  {'':{wide[1]}}{'  ' if wide[1] else ''}{'1 layer':<{wide[2]}}  stride 2")
        .add("  → ", "dim")
        .add(str(genotype.stem), "bold")
        .add("  stem", "dim")
    ]
    for k, block in enumerate(blocks):
        line = Line().add(f"{k + 1:>{digits}}", "bold").add("  ")
        line.add(f"{kinds[k]:<{wide[0]}}", terminal_color(block.op))
        line.add(f"  {ratios[k]:<{wide[1]}}" if wide[1] else "", "red")
        line.add(f"  {counts[k]:<{wide[2]}}  stride {block.stride}").add("  → ", "dim")
        line.add(f"{block.filters:<4}", "bold")
        line.add("" if block.skip == "none" else f"  skip {block.skip}", "cyan")
        lines.append(line)
    return [Branch(count_of(len(blocks), "block"), tuple(lines))]
