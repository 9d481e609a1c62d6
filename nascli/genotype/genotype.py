"""An architecture as a value: the interface of every genotype, whatever its family, and its JSON in and out."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Protocol, Self, cast

from pydantic import BaseModel, GetPydanticSchema, ValidationError
from pydantic_core import CoreSchema, core_schema

from nascli.config import explain
from nascli.content import describe_misfit
from nascli.errors import CorruptFileError, InputError, about
from nascli.records import CHECKSUM, check_schema, sha256_json, take_checksum
from nascli.text_files import read_text

JsonScalar = str | int | float | bool | None

CELLS = "cells"
"""The family of a JSON file that names none."""

_MAX_BYTES = 1 << 20


class Genotype(Protocol):
    """An architecture: a frozen pydantic model that says which operations are where, but not how wide and how deep.

    `provenance` takes part in equality but not in the hash, and never in the network that is built.
    """

    @property
    def family(self) -> str:
        """A key of `nascli.genotype.families.FAMILIES`; a field of the JSON, which only cells lack."""

    @property
    def name(self) -> str:
        """For readers; it changes nothing."""

    @property
    def space(self) -> str:
        """The name of the search space it belongs to."""

    @property
    def provenance(self) -> Mapping[str, JsonScalar]:
        """Its origin, for readers: a source, a search run, a trial."""

    def canonical(self) -> Self:
        """The one spelling of all genotypes that build the same network; name, space and provenance stay."""

    def canonical_hash(self) -> str:
        """16 hexadecimal digits that are equal exactly for genotypes that build the same network."""

    def to_json(self) -> str:
        """JSON text that `parse_genotype` reads back."""

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with other fields (pydantic's)."""


def genotype_from_values(values: object) -> Genotype:
    """A genotype from the content of its JSON, by the model of its family; a genotype is returned as it is.

    Raises:
        ValidationError: It is not a possible genotype.
        ValueError: Its family is unknown.
    """
    from nascli.genotype.families import (  # it imports the families, and they import this module
        family_of,
        genotype_families,
    )

    if any(isinstance(values, family.genotype) for family in genotype_families().values()):
        return cast("Genotype", values)
    return cast("Genotype", family_of(values).genotype.model_validate(values))


def _any_genotype(_source: object, _handler: object) -> CoreSchema:
    return core_schema.no_info_plain_validator_function(genotype_from_values)


AnyGenotype = Annotated[Genotype, GetPydanticSchema(_any_genotype)]
"""A field of a pydantic model that holds a genotype of any family registered by the time it is validated."""


def parse_genotype(text: str | bytes, source: str) -> Genotype:
    """A genotype from JSON text.

    Args:
        source: Name of the text in an error message, usually the file's path.

    Raises:
        CorruptFileError: The text is not JSON (for instance truncated), or has a checksum and was changed.
        InputError: It is JSON but not a possible genotype, or of a newer schema.
    """
    from nascli.genotype.families import family_of

    if len(text) > _MAX_BYTES:
        raise InputError(f"{source}: {len(text)} bytes are too many for a genotype", "Is it another file?")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        shown = text if isinstance(text, str) else text.decode(errors="replace")
        raise CorruptFileError(
            f"{source} {describe_misfit(shown, 'JSON', error)}", "Write it again with nascli decode"
        ) from error
    if isinstance(values, dict):
        take_checksum(values, source)
    try:
        model = family_of(values).genotype
    except ValueError as error:
        raise InputError(f"{source}: {error}") from error
    _refuse_foreign(values, model, source)
    try:
        return cast("Genotype", model.model_validate(values))
    except ValidationError as error:
        raise explain(error, source, model) from error


def sign_genotype(genotype: Genotype) -> str:
    """The JSON text of a genotype with its checksum as last key: `parse_genotype` refuses it once it is changed."""
    text = genotype.to_json()
    begin = text.rstrip().removesuffix("}").rstrip()
    return f'{begin},\n  "{CHECKSUM}": "{sha256_json(json.loads(text))}"\n}}\n'


def read_genotype(path: Path) -> Genotype:
    """A genotype from a JSON file; errors as `parse_genotype`, and InputError where there is no such file."""
    try:
        text = read_text(path)
    except OSError as error:
        raise InputError(f"genotype {path}: {error.strerror or error}", file=path) from error
    with about(path):
        return parse_genotype(text, str(path))


def spread_json(value: object) -> str:
    """JSON of a field of a genotype file: an object one entry per line, anything else on one line."""
    if not isinstance(value, dict) or not value:
        return json.dumps(value)
    return "{\n    " + ",\n    ".join(f"{json.dumps(key)}: {json.dumps(each)}" for key, each in value.items()) + "\n  }"


def _refuse_foreign(values: object, model: type[BaseModel], source: str) -> None:
    """Refuse JSON that has nothing of a genotype, or is of a schema to come."""
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    required = {name for name, field in fields.items() if field.is_required()}
    if not isinstance(values, dict) or not required & values.keys():
        raise InputError(
            f"{source}: JSON, but not a genotype", f"A genotype has the fields {', '.join(sorted(required))}"
        )
    if "schema" in fields:
        check_schema(values, fields["schema"].default, source)
