"""Errors of recipes: an unknown key or a wrong value in one line, with its place and a suggestion."""

import difflib
import os
from collections.abc import Iterable, Mapping
from typing import get_args

from pydantic import BaseModel, ValidationError

from nascli.config.section import ByFamily, Recipe
from nascli.errors import InputError
from nascli.units import shorten

_LONGEST_PLACE = 200
"""Letters of a place; a key that a file made up may have any number."""


_OBJECT = "should be an object of keys and values (in TOML a table)"
_TRUTH = "should be true or false"
_WHOLE = "should be a whole number"
_WORDS = {
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "dict_type": _OBJECT,
    "tuple_type": "should be a list",
    "list_type": "should be a list",
    "bool_type": _TRUTH,
    "int_type": _WHOLE,
    "int_from_float": _WHOLE,
    "int_parsing_size": "has too many digits",
    "float_type": "should be a number",
    "finite_number": "should be a finite number",
    "string_type": "should be a text",
}
"""Words for pydantic's kinds of error whose own sentences speak of Python, or name classes of nascli."""


def parse(model: type[Recipe], values: object, source: str) -> Recipe:
    """Validate `values` as `model`; the first error becomes one line that names `source` and the field."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise explain(error, source, model) from error


def explain(error: ValidationError, source: str, model: type[BaseModel]) -> InputError:
    """One line out of a pydantic error: source, field, value, reason."""
    fault = error.errors()[0]
    remedy = ""
    if fault["type"] == "extra_forbidden":
        remedy = _suggest_key(model, fault["loc"])
    file = source if os.path.isfile(source) else None  # else it is the options, or a text
    return InputError(f"{source}: {describe_error(error)}", remedy, file=file, field=_place(fault["loc"]) or None)


def describe_error(error: ValidationError) -> str:
    """Field, value and reason of the first fault of a pydantic error."""
    fault = error.errors()[0]
    kind, place, given = fault["type"], _place(fault["loc"]), fault["input"]
    if kind == "extra_forbidden":
        return f"unknown key {place}"
    if kind == "missing":
        return f"{place} is missing"
    reason = fault["msg"].removeprefix("Value error, ").replace(" after validation", "").replace("Tuple ", "List ")
    reason = _WORDS.get(kind, f"{reason[:1].lower()}{reason[1:]}")
    if kind == "value_error":
        return f"{place}: {reason}" if place else reason
    value = shorten(given if not isinstance(given, str) else repr(given))
    return f"{place} = {value}: {reason}" if place else f"{value} {reason}"


def suggestion(name: str, known: Iterable[str]) -> str:
    """'Did you mean ...?' with the nearest known name, else the list of all."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"Did you mean {near[0]}?"
    return f"Known: {', '.join(names)}" if names else ""


def _suggest_key(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    key, sections = str(location[-1]), _sections_at(model, location)
    owners = [family for family, section in sections.items() if key in section.model_fields]
    if owners:  # the section was read as one of another family
        return f"It is a key of the family {' or '.join(owners)}"
    fields = [item for section in sections.values() for item in section.model_fields.items()]
    return suggestion(key, dict.fromkeys(field.alias or name for name, field in fields))


def _place(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return shorten(text, _LONGEST_PLACE)


def _sections_at(model: type[BaseModel], location: tuple[int | str, ...]) -> Mapping[str, type[BaseModel]]:
    """The model that a key stands in, or those of each family."""
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(str(part))
        families = [each for each in field.metadata if isinstance(each, ByFamily)] if field else []
        if families:
            return families[0].sections
        inner = _model_inside(field.annotation) if field else None
        if inner is None:
            return {}
        model = inner
    return {"": model}


def _model_inside(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_inside(part))), None)
