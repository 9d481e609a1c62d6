"""Pieces of a self-contained HTML page. Text goes in escaped; what is HTML already is `Html`, and only made here."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import NewType

from nascli.report.figures import Picture

Html = NewType("Html", str)
"""Text that is HTML; everything from outside went through `words`."""


def words(text: object) -> Html:
    """Text as it shall be read, whatever is in it."""
    return Html(escape(str(text)))


def joined(parts: Iterable[Html]) -> Html:
    """Pieces one after the other."""
    return Html("\n".join(parts))


def paragraph(text: str, style: str = "") -> Html:
    """A paragraph of text."""
    return Html(f"<p{_class(style)}>{words(text)}</p>")


def command(line: str) -> Html:
    """A command line, ready to copy."""
    return Html(f'<pre class="command"><code>{words(line)}</code></pre>')


def foldable(summary: str, text: str) -> Html:
    """Long text that can be folded away; open at first, for a printed page cannot unfold it."""
    return Html(f"<details open><summary>{words(summary)}</summary><pre><code>{words(text)}</code></pre></details>")


def facts(pairs: Iterable[tuple[str, str, str]]) -> Html:
    """Figures with their names: (name, value, remark)."""
    rows = (
        f"<div><dt>{words(name)}</dt><dd>{words(value)}"
        + (f"<small>{words(remark)}</small>" if remark else "")
        + "</dd></div>"
        for name, value, remark in pairs
    )
    return Html('<dl class="facts">\n' + "\n".join(rows) + "\n</dl>")


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> Html:
    """A table; the columns whose places are in `numbers` stand to the right."""
    style = [_class("number") if place in numbers else "" for place in range(len(columns))]
    head = "".join(f'<th scope="col"{style[place]}>{words(name)}</th>' for place, name in enumerate(columns))
    body = "\n".join(
        "<tr>" + "".join(f"<td{style[place]}>{words(value)}</td>" for place, value in enumerate(row)) + "</tr>"
        for row in rows
    )
    return Html(f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>')


def pictures(made: Iterable[Picture | None], style: str = "pictures") -> Html:
    """Pictures side by side where there is room; those that are None are left out."""
    drawn = "\n".join(_figure(picture) for picture in made if picture is not None)
    return Html(f'<div class="{style}">\n{drawn}\n</div>')


def section(anchor: str, title: str, parts: Iterable[Html]) -> Html:
    """A section that can be linked to."""
    return Html(f'<section id="{anchor}">\n<h2>{words(title)}</h2>\n{joined(parts)}\n</section>')


def page(title: str, head: Iterable[Html], sections: Sequence[tuple[str, str, Sequence[Html]]]) -> str:
    """The whole document: it loads nothing, and runs nothing.

    Args:
        title: Of the window.
        head: What stands above the table of contents.
        sections: Anchor, title and content of each.
    """
    css = Path(__file__).with_name("search_report.css").read_text(encoding="utf-8")
    links = "".join(f'<a href="#{anchor}">{words(name)}</a>' for anchor, name, _ in sections)
    body = joined(section(anchor, name, parts) for anchor, name, parts in sections)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        'img-src data:">\n'
        f"<title>{words(title)}</title>\n<style>\n{css}</style>\n</head>\n<body>\n"
        f'<header>\n{joined(head)}\n</header>\n<nav aria-label="Contents">{links}</nav>\n<main>\n{body}\n</main>\n'
        "</body>\n</html>\n"
    )


def _figure(picture: Picture) -> str:
    return (
        f'<figure id="picture-{picture.name}"{_class("cell") if picture.name.startswith("cell-") else ""}>'
        f'<h3>{words(picture.title)}</h3>\n<div class="drawing">{picture.svg}</div>\n'
        f"<figcaption>{words(picture.caption)}</figcaption></figure>"
    )


def _class(style: str) -> str:
    return f' class="{style}"' if style else ""
