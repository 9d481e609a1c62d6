"""Bases of all that is read from files: frozen, and strict about keys and values; sections by family."""

import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from nascli.errors import NascliError


def _make_scalars_strict(schema: object) -> None:
    """Set `strict` on numbers and truth values alone: a strict model would take no list for a tuple."""
    if isinstance(schema, dict):
        if schema.get("type") in ("int", "float", "bool"):
            schema["strict"] = True
        for inner in schema.values():
            _make_scalars_strict(inner)
    elif isinstance(schema, list | tuple):
        for inner in schema:
            _make_scalars_strict(inner)


class Strict(BaseModel):
    """Base of all that is read from a file: frozen, unknown keys refused, no value converted (true is not 1)."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401
        schema = handler(source)
        _make_scalars_strict(schema)
        return schema


class Section(Strict):
    """Base of all configuration."""

    model_config = ConfigDict(allow_inf_nan=False)


Recipe = TypeVar("Recipe", bound=Section)

TrainingPrecision = Literal["auto", "float32", "bfloat16", "float16"]
"""Number format of the arithmetic of a training; `auto` is the fastest of its device, and is settled when it begins."""


def one_of(names: Collection[str]) -> AfterValidator:
    """The validator of a field whose values are names, as those of a registry: `Annotated[str, one_of(MEANINGS)]`."""

    def check(name: str) -> str:
        if name not in names:
            raise ValueError(f"{name!r} is not one of {', '.join(names)}")
        return name

    return AfterValidator(check)


def list_meanings(meanings: Mapping[str, str]) -> str:
    """The names of a registry as a help text: `name: meaning; other: its meaning`."""
    return "; ".join(f"{name}: {meaning}" for name, meaning in meanings.items())


PLUGIN_GROUP = "nascli.families"
"""The entry point group in which a package names the module that adds its family to the tables (`docs/families.md`)."""


@functools.cache
def load_plugins() -> None:
    """Import the modules of all installed packages that add a family, once per process.

    Called wherever a family is looked up, and not when the tables are imported: the modules import the tables.

    Raises:
        NascliError: A module cannot be imported.
    """
    from importlib.metadata import entry_points  # here, since it searches every installed package

    for point in entry_points(group=PLUGIN_GROUP):
        try:
            point.load()
        except Exception as error:
            raise NascliError(
                f"{point.value}, a family of another package ({point.name}), cannot be imported: {error}",
                "Mend or uninstall that package",
            ) from error


class FamilySection(Section):
    """Base of a section that each family of architectures has of its own.

    The first family, cells, needs no key `family`; the class of any other has the field `family: Literal["name"]`.
    """

    names: ClassVar[tuple[str, ...]] = ()
    """Values of the key `name` that imply the family."""


@dataclass(frozen=True, eq=False)  # an optional field hashes it
class ByFamily:
    """The validator of such a section: `Annotated[SpaceConfig, ByFamily(SPACE_SECTIONS)]`.

    Args:
        sections: The class of each family, the default one first; packages of others add theirs.
    """

    sections: Mapping[str, type[FamilySection]]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401
        return core_schema.no_info_plain_validator_function(self.validate)

    def validate(self, values: object) -> FamilySection:
        """The section, by the class of the family that it names or implies; ValidationError where it is wrong."""
        if isinstance(values, FamilySection) and type(values) in self.sections.values():
            return values
        given = dict(values) if isinstance(values, Mapping) else {}
        family = self.find_family(values)
        given.pop("family", None)
        if family not in self.sections:
            raise ValueError(f"family {family!r} is not one of {', '.join(self.sections)}")
        return self.sections[family].model_validate(given if isinstance(values, Mapping) else values)

    def find_family(self, values: object) -> str:
        """The family that a section names or implies; the default one where it does neither."""
        load_plugins()
        if isinstance(values, FamilySection):
            return next((family for family, section in self.sections.items() if type(values) is section), "")
        given = values if isinstance(values, Mapping) else {}
        implied = (family for family, section in self.sections.items() if given.get("name") in section.names)
        return str(given.get("family") or next(implied, next(iter(self.sections))))
