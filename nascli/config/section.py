"""What every section of a recipe is: frozen, and strict about its keys."""

from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Base of all configuration: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


Recipe = TypeVar("Recipe", bound=Section)

TrainingPrecision = Literal["float32", "bfloat16", "float16"]
"""Of the arithmetic of a network that is trained."""
