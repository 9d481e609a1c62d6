"""Errors of recipes: an unknown key or a wrong value in one line, with its place and a suggestion."""

import difflib
import os
from collections.abc import Iterable
from typing import get_args

from pydantic import BaseModel, ValidationError

from nascli.config.section import ByFamily, Recipe
from nascli.errors import InputError
from nascli.units import shorten

_LONGEST_PLACE = 200
"""Letters of a place; a key that a file made up may have any number."""


def parse(model: type[Recipe], values: object, source: str) -> Recipe:
    """Validate `values` as `model`; the first error becomes one line that names `source` and the field."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise explain(error, source, model) from error


def explain(error: ValidationError, source: str, model: type[BaseModel]) -> InputError:
    """One line out of a pydantic error: source, field, value, reason."""
    fault = error.errors()[0]
    place = shorten(_join_keys(fault["loc"]), _LONGEST_PLACE)
    what, remedy = _describe(fault["type"], place, fault["msg"].removeprefix("Value error, "), fault["input"]), ""
    if fault["type"] == "extra_forbidden":
        remedy = suggestion(str(fault["loc"][-1]), _keys_at(model, fault["loc"]))
    file = source if os.path.isfile(source) else None  # else it is the options, or a text
    return InputError(f"{source}: {what}", remedy, file=file, field=place or None)


def _describe(kind: str, place: str, reason: str, given: object) -> str:
    if kind == "extra_forbidden":
        return f"unknown key {place}"
    if kind == "missing":
        return f"{place} is missing"
    if kind == "value_error":
        return f"{place}: {reason[:1].lower()}{reason[1:]}" if place else reason
    return (
        f"{place} = {shorten(given if not isinstance(given, str) else repr(given))}: {reason[:1].lower()}{reason[1:]}"
    )


def suggestion(name: str, known: Iterable[str]) -> str:
    """'Did you mean ...?' with the nearest known name, else the list of all."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"Did you mean {near[0]}?"
    return f"Known: {', '.join(names)}" if names else ""


def _join_keys(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _keys_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(str(part))
        families = [each for each in field.metadata if isinstance(each, ByFamily)] if field else []
        if families:
            return [key for section in families[0].sections.values() for key in section.model_fields]
        inner = _model_inside(field.annotation) if field else None
        if inner is None:
            return []
        model = inner
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_inside(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_inside(part))), None)
