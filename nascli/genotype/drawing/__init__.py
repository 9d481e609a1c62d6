"""Pictures of genotypes: SVG, PNG, DOT and Mermaid from one small layered layout. No graphviz, no torch.

layout (boxes and curves)  <-  coordinates (x along a row)  <-  ordering (rows, few crossings)
scene (plain shapes)  ->  svg, png            graph  ->  DOT, Mermaid            palette: words and colours
"""

from collections.abc import Callable
from pathlib import Path

from nascli.errors import InputError
from nascli.files import write_bytes
from nascli.genotype.cells.genotype import require_cells
from nascli.genotype.drawing.graph import genotype_dot, genotype_mermaid
from nascli.genotype.drawing.png import png_bytes
from nascli.genotype.drawing.scene import build_scene
from nascli.genotype.drawing.svg import svg_text
from nascli.genotype.genotype import Genotype

__all__ = [
    "FORMATS",
    "draw_genotype",
    "drawing_format",
    "genotype_dot",
    "genotype_mermaid",
    "genotype_png",
    "genotype_svg",
]


def genotype_svg(genotype: Genotype) -> str:
    """Both cells as a self-contained SVG document."""
    return svg_text(build_scene(require_cells(genotype, "a drawing")))


def genotype_png(genotype: Genotype, scale: float = 2.0) -> bytes:
    """Both cells as the content of a PNG file, `scale` times the size of the SVG."""
    return png_bytes(build_scene(require_cells(genotype, "a drawing")), scale)


FORMATS: dict[str, Callable[[Genotype], str | bytes]] = {
    ".svg": genotype_svg,
    ".png": genotype_png,
    ".dot": lambda genotype: genotype_dot(require_cells(genotype, "a drawing")),
    ".mmd": lambda genotype: genotype_mermaid(require_cells(genotype, "a drawing")),
}
"""What a picture's suffix stands for."""


def drawing_format(path: Path) -> Callable[[Genotype], str | bytes]:
    """The format that a path's suffix names; InputError with the four there are for any other."""
    if path.suffix.lower() not in FORMATS:
        raise InputError(
            f"drawing {path}: the suffix {path.suffix!r} names no format",
            f"End it in {', '.join(list(FORMATS)[:-1])} or {list(FORMATS)[-1]}",
        )
    return FORMATS[path.suffix.lower()]


def draw_genotype(genotype: Genotype, path: Path) -> None:
    """Write a picture of both cells, whole or not at all; the suffix chooses the format.

    Raises:
        InputError: The suffix is none of `FORMATS`.
    """
    content = drawing_format(path)(genotype)
    write_bytes(path, content.encode("utf-8") if isinstance(content, str) else content)
