"""A scene as SVG text that needs nothing else: no fonts, no styles, no scripts from outside."""

from xml.sax.saxutils import escape, quoteattr

from nascli.genotype.drawing.shapes import Arrowhead, Plate, Point, Scene, Shape, Stroke, Words
from nascli.text import printable

_FONTS = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"


def svg_text(scene: Scene) -> str:
    """The scene as an SVG document; the same scene always gives the same text."""
    width, height = _number(scene.width), _number(scene.height)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img" font-family="{_FONTS}">',
        f"<title>{_text(scene.title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for group in scene.groups:
        lines.append(f'<g transform="translate({_number(group.x)} {_number(group.y)})">')
        lines += [_shape(shape) for shape in group.shapes]
        lines.append("</g>")
    return "\n".join([*lines, "</svg>", ""])


def _shape(shape: Shape) -> str:
    match shape:
        case Plate(box, paint, radius, dashed, hint):
            title = f"><title>{_text(hint)}</title></rect>" if hint else "/>"
            return (
                f'<rect x="{_number(box.left)}" y="{_number(box.top)}" width="{_number(box.width)}" '
                f'height="{_number(box.height)}" rx="{_number(radius)}" fill="{paint.fill}" '
                f'stroke="{paint.line}" stroke-width="1.3"{_dashes(dashed)}{title}'
            )
        case Stroke((start, first, second, end), color, width, dashed):
            return (
                f'<path d="M{_point(start)} C{_point(first)} {_point(second)} {_point(end)}" fill="none" '
                f'stroke="{color}" stroke-width="{_number(width)}" stroke-linecap="round"{_dashes(dashed)}/>'
            )
        case Arrowhead((x, y), color, length, width):
            corners = ((x, y), (x - width / 2, y + length), (x + width / 2, y + length))
            return f'<polygon points="{" ".join(map(_point, corners))}" fill="{color}"/>'
        case Words(text, (x, y), size, color, bold, anchor):
            weight = ' font-weight="bold"' if bold else ""
            return (
                f'<text x="{_number(x)}" y="{_number(y)}" font-size="{_number(size)}"{weight} '
                f"text-anchor={quoteattr(anchor)} fill={quoteattr(color)}>{_text(text)}</text>"
            )


def _text(text: str) -> str:
    return escape(printable(text))  # XML has no control letters, not even as entities


def _dashes(dashed: bool) -> str:
    return ' stroke-dasharray="5 4"' if dashed else ""


def _point(point: Point) -> str:
    return f"{_number(point[0])},{_number(point[1])}"


def _number(value: float) -> str:
    return f"{round(value, 1) + 0.0:g}"  # + 0.0 turns -0.0 into 0.0
