"""Recipes as TOML files: found, read under the options of a command, written."""

import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import tomli_w

from nascli.config.errors import parse, suggestion
from nascli.config.network import follow_family
from nascli.config.section import Recipe, Section
from nascli.content import describe_misfit
from nascli.errors import CorruptFileError, InputError
from nascli.text_files import read_text
from nascli.units import shorten

_MAX_BYTES = 1 << 20
"""The size of the largest file that is read as a recipe."""

_DEEPEST = 8
"""Sections within sections that a key of `--set` can name."""


def recipes_folder() -> Path:
    """The folder of the shipped recipes: inside the installed package, or at the top of a checkout."""
    package = Path(__file__).parent.parent
    shipped = package / "recipes"
    return shipped if shipped.is_dir() else package.parent / "recipes"


def find_recipe(command: str, name: str) -> Path:
    """The file of a recipe given by path or by name.

    Args:
        command: `search`, `train` or `detect`.
        name: A path to a TOML file, or the name of a shipped recipe of that command.

    Raises:
        InputError: There is no such recipe; the message lists those there are.
    """
    folder, given = recipes_folder() / command, Path(name)
    if (shipped := folder / f"{name}.toml").is_file():
        return shipped
    if given.is_file():
        return given
    if given.is_dir():
        inside = f" ({given / 'recipe.toml'} is one)" if (given / "recipe.toml").is_file() else ""
        hint = f"Give a TOML file{inside}, or the name of a shipped recipe"
        raise InputError(f"recipe {name} is a folder", hint, file=name)
    if name.endswith(".toml"):
        hint = "Give a path to a TOML file or the name of a shipped recipe"
        raise InputError(f"recipe {name}: no such file", hint, file=name)
    known = sorted(p.stem for p in folder.glob("*.toml"))
    raise InputError(f"recipe {name!r}: not one of the {command} recipes", suggestion(name, known), field="--recipe")


def load_recipe(
    model: type[Recipe],
    path: Path | None,
    flags: Mapping[str, object] | None = None,
    assignments: Iterable[str] = (),
    note: Callable[[str], None] | None = None,
) -> Recipe:
    """A validated recipe: defaults < file < flags < assignments.

    Args:
        model: The recipe class of the command.
        path: A TOML file, or None for the defaults alone.
        flags: Values by dotted key (`"train.lr"`); those that are None are skipped. With a `network.family`, the file's
            `[network]` becomes one of that family (`follow_family`).
        note: Takes a message that names the keys that do not stay.
        assignments: The texts of `--set`, `key=value`; the value is read as TOML, else taken as text.

    Raises:
        CorruptFileError: The file is not TOML.
        InputError: A key is unknown or a value is out of range; the message names file, key and remedy.
    """
    values = read_toml(path) if path else {}
    family = (flags or {}).get("network.family")
    if family is not None and "network" in values:
        values["network"], unused = follow_family(values["network"], str(family))
        if unused and note:
            note(f"[network] of {path} is not for the family {family}: {', '.join(unused)} not used")
    if path:
        parse(model, values, str(path))  # first alone, so that an error names the file, or else the options
    for key, value in (flags or {}).items():
        if value is not None:
            _assign(values, key, value)
    for text in assignments:
        key, sign, raw = (part.strip() for part in text.partition("="))
        if not (key and sign):
            hint = "For example --set train.lr=0.05"
            raise InputError(f"--set {shorten(text)}: not of the form key=value", hint, field="--set")
        _assign(values, key, _toml_value(key, raw))
    return parse(model, values, "options")


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        InputError: There is no such file.
        CorruptFileError: It is not TOML; the message has line and column.
    """
    own = (path.parent / "run.json").is_file()  # written by nascli: a name in it that is no UTF-8 is as the disk has it
    text = ""
    try:
        text = read_text(path, _MAX_BYTES, "surrogateescape" if own else "strict")
        return tomllib.loads(text)
    except OSError as error:
        raise InputError(f"recipe {path}: {error.strerror or error}", file=path) from error
    except RecursionError as error:
        raise CorruptFileError(f"recipe {path}: brackets within brackets go too deep", file=path) from error
    except tomllib.TOMLDecodeError as error:
        raise CorruptFileError(f"recipe {path} {describe_misfit(text, 'TOML', error)}", file=path) from error
    except ValueError as error:  # of Python's int
        raise CorruptFileError(f"recipe {path}: a number has too many digits", file=path) from error


def to_toml(recipe: Section) -> str:
    """A recipe as TOML text; reading it back gives an equal recipe."""
    return tomli_w.dumps(recipe.model_dump(mode="json", exclude_none=True))


def _assign(values: dict[str, Any], key: str, value: object) -> None:
    *sections, last = key.split(".")
    if len(sections) > _DEEPEST:
        raise InputError(f"unknown key {shorten(key)}", "No key has so many parts", field=shorten(key))
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise InputError(f"{key}: {section} is a value, not a section", field=key)
    values[last] = value


def _toml_value(key: str, raw: str) -> object:
    """The value of a text of `--set`: what it is in TOML, else the text itself."""
    try:
        values = tomllib.loads(f"value = {raw}")
    except tomllib.TOMLDecodeError:
        return raw
    except RecursionError as error:
        raise InputError(f"--set {key}: brackets within brackets go too deep", field=key) from error
    except ValueError as error:
        raise InputError(f"--set {key}={shorten(raw)}: a number has too many digits", field=key) from error
    if len(values) > 1:
        hint = "Give each value a --set of its own"
        raise InputError(f"--set {shorten(f'{key}={raw}')}: it holds {len(values)} values", hint, field=key)
    return values["value"]
