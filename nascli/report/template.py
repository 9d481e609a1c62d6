"""Pages made from the templates beside this module: they load nothing and run nothing, and every value is escaped."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from nascli.text import printable


def render_page(template: str, **values: object) -> str:
    """A whole document, from the file of a template and the values that its texts name."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=_show_names,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(values)


def _show_names(value: object) -> object:
    """A text fit for a page: no letter in it turns the direction of the rest, or is none at all."""
    if isinstance(value, Path):
        return printable(str(value))
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "\n".join(map(printable, value.split("\n")))
