"""Drawings of genotypes as SVG, PNG, DOT and Mermaid, without Graphviz and without torch.

A family turns its genotypes into plain shapes (`shapes`, painted by `svg` and `png`) and into a graph and
lines for a terminal (`graph`); those of cells stand in `cells`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nascli.errors import InputError
from nascli.files import write_bytes
from nascli.genotype.drawing.graph import Branch, format_dot, format_mermaid, graph_tree
from nascli.genotype.drawing.png import png_bytes
from nascli.genotype.drawing.svg import svg_text
from nascli.genotype.genotype import Genotype

if TYPE_CHECKING:
    from nascli.genotype.families import Family


def genotype_svg(genotype: Genotype) -> str:
    """The genotype as a self-contained SVG document."""
    return svg_text(_family(genotype).scene(genotype))


def genotype_png(genotype: Genotype, scale: float = 2.0) -> bytes:
    """The genotype as the content of a PNG file, `scale` times the size of the SVG."""
    return png_bytes(_family(genotype).scene(genotype), scale)


def genotype_dot(genotype: Genotype) -> str:
    """The genotype as a DOT digraph."""
    return format_dot(_family(genotype).graph(genotype))


def genotype_mermaid(genotype: Genotype) -> str:
    """The genotype as a Mermaid flowchart."""
    return format_mermaid(_family(genotype).graph(genotype))


def genotype_tree(genotype: Genotype) -> list[Branch]:
    """The genotype as branches of styled lines."""
    family = _family(genotype)
    return family.tree(genotype) if family.tree else graph_tree(family.graph(genotype))


FORMATS: dict[str, Callable[[Genotype], str | bytes]] = {
    ".svg": genotype_svg,
    ".png": genotype_png,
    ".dot": genotype_dot,
    ".mmd": genotype_mermaid,
}
"""The format of an image file by its suffix."""


def drawing_format(path: Path) -> Callable[[Genotype], str | bytes]:
    """The format that a path's suffix names; InputError with the four there are for any other."""
    if path.suffix.lower() not in FORMATS:
        raise InputError(
            f"drawing {path}: the suffix {path.suffix!r} names no format",
            f"End it in {', '.join(list(FORMATS)[:-1])} or {list(FORMATS)[-1]}",
        )
    return FORMATS[path.suffix.lower()]


def draw_genotype(genotype: Genotype, path: Path) -> None:
    """Write an image, whole or not at all; the suffix chooses the format.

    Raises:
        InputError: The suffix is none of `FORMATS`.
    """
    content = drawing_format(path)(genotype)
    write_bytes(path, content.encode("utf-8") if isinstance(content, str) else content)


def _family(genotype: Genotype) -> "Family":
    from nascli.genotype.families import genotype_families  # it imports the drawings of cells, and so this package

    return genotype_families()[genotype.family]
