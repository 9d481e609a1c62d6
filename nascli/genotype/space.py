"""A search space: all genotypes that a search may propose, as sequences of decisions."""

import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

from pydantic import TypeAdapter

from nascli.config import SpaceConfig, suggestion
from nascli.errors import InputError
from nascli.genotype.genotype import Genotype, JsonScalar
from nascli.units import count_of


@dataclass(frozen=True)
class ChoiceGroup:
    """Decisions of one kind, whose choices are counted together.

    Args:
        name: One word with hyphens, such as `ops-normal`.
        title: For readers, such as `Ops of the normal cell`.
        labels: The choices. (K,)
        uniform: Share of each choice in genotypes that are drawn uniformly. (K,)
        read: The choices that a genotype made, as positions in `labels`.
    """

    name: str
    title: str
    labels: tuple[str, ...]
    uniform: tuple[float, ...]
    read: Callable[[Genotype], Iterable[int]]


class SearchSpace(Protocol):
    """The decisions that make a genotype of one family: a frozen pydantic model."""

    @property
    def family(self) -> str:
        """A key of `nascli.genotype.families.FAMILIES`; a field of the JSON, which only cells lack."""

    @property
    def name(self) -> str:
        """The name that a recipe gives as `space.name`."""

    @property
    def decision_sizes(self) -> tuple[int, ...]:
        """Number of choices of each decision, in the order in which a controller makes them."""

    @property
    def decision_kinds(self) -> tuple[str, ...]:
        """One word per decision, parallel to `decision_sizes`; evolution mutates one kind at a time."""

    def decode(
        self, tokens: Sequence[int], name: str = "decoded", provenance: Mapping[str, JsonScalar] | None = None
    ) -> Genotype:
        """The genotype of a decision sequence; InputError for a wrong number of tokens, or one out of its range."""

    def encode(self, genotype: Genotype) -> tuple[int, ...]:
        """The decision sequence of a genotype; InputError, with the reason, where no sequence decodes to it."""

    def features(self, genotype: Genotype) -> Mapping[tuple[str, ...], float]:
        """Numbers by which two genotypes are near or far, equal for equal canonical forms; a missing one is 0."""

    def choice_groups(self) -> Sequence[ChoiceGroup]:
        """The decisions in groups whose choices a report counts as the search goes on."""

    def summary(self) -> str:
        """The size of the space in a few words."""

    def model_dump_json(self) -> str:
        """JSON text that `parse_space` reads back (pydantic's)."""


def resolve_space(config: SpaceConfig) -> SearchSpace:
    """The space that a recipe names, or the user's own that it spells out.

    Raises:
        InputError: The name is unknown, or the space is not possible.
    """
    from nascli.genotype.families import family_of  # it imports the families, and they import this module

    return family_of(config.model_dump()).resolve_space(config)


@runtime_checkable
class CoversLayers(SearchSpace, Protocol):
    """A space whose genotypes are made of layers that stand alone, so that few have every layer between them."""

    def cover_layers(self) -> Iterator[Genotype]:
        """Genotypes that have every layer of any genotype of the space, with every input that it can have."""


def list_spaces() -> dict[str, SearchSpace]:
    """The named search spaces of all families."""
    from nascli.genotype.families import genotype_families

    return {name: space for family in genotype_families().values() for name, space in family.spaces.items()}


def find_space(name: str) -> SearchSpace:
    """A published space by name; InputError with the nearest name where there is none."""
    spaces = list_spaces()
    if name not in spaces:
        raise InputError(f"space {name!r}: unknown search space", suggestion(name, spaces))
    return spaces[name]


def parse_space(text: str) -> SearchSpace:
    """A space from its JSON, by the model of its family; ValueError where it is none."""
    from nascli.genotype.families import family_of

    models: Any = family_of(json.loads(text)).space
    return cast("SearchSpace", TypeAdapter(models).validate_json(text))


def draw_tokens(sizes: Sequence[int], draw: random.Random) -> tuple[int, ...]:
    """A decision sequence, each choice with the same probability; `sizes` are the space's `decision_sizes`."""
    return tuple(draw.randrange(size) for size in sizes)


def draw_genotypes(space: SearchSpace, draw: random.Random, count: int) -> list[Genotype]:
    """Genotypes of such sequences, named by their number."""
    sizes = space.decision_sizes
    return [space.decode(draw_tokens(sizes, draw), name=f"random-{number}") for number in range(count)]


def first_genotype(space: SearchSpace) -> Genotype:
    """The genotype of the first choices: any one of the space will do for what is alike in all."""
    return space.decode([0] * len(space.decision_sizes), name="first")


def check_tokens(tokens: Sequence[int], space: SearchSpace, hint: str = "") -> None:
    """Refuse a sequence of another length than the space's, or with a token out of its range (InputError)."""
    sizes = space.decision_sizes
    if len(tokens) != len(sizes):
        raise InputError(
            f"{count_of(len(tokens), 'token')}, but space {space.name!r} has {count_of(len(sizes), 'decision')}", hint
        )
    for position, (token, size) in enumerate(zip(tokens, sizes, strict=True)):
        if not 0 <= token < size:
            raise InputError(f"token {position} is {token}, but that decision has the choices 0 to {size - 1}")
