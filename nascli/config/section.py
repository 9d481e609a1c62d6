"""What every section of a recipe is: frozen, and strict about its keys."""

from collections.abc import Mapping
from typing import Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict


class Section(BaseModel):
    """Base of all configuration: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


Recipe = TypeVar("Recipe", bound=Section)

TrainingPrecision = Literal["float32", "bfloat16", "float16"]
"""Of the arithmetic of a network that is trained."""


def one_of(meanings: Mapping[str, str]) -> AfterValidator:
    """The validator of a field whose values are the names of a registry: `Annotated[str, one_of(MEANINGS)]`."""

    def check(name: str) -> str:
        if name not in meanings:
            raise ValueError(f"{name!r} is not one of {', '.join(meanings)}")
        return name

    return AfterValidator(check)


def list_meanings(meanings: Mapping[str, str]) -> str:
    """The names of a registry as a help text: `name: meaning; other: its meaning`."""
    return "; ".join(f"{name}: {meaning}" for name, meaning in meanings.items())
