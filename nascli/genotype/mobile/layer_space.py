"""Spaces of chains of single layers, each one of the same few: a decision a layer, as in NAS-Bench-Macro."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nascli.config import Strict
from nascli.errors import InputError
from nascli.genotype.genotype import Genotype, JsonScalar
from nascli.genotype.mobile.genotype import (
    Kernel,
    MobileBlock,
    MobileGenotype,
    Op,
    Skip,
    op_words,
    require_mobile,
)
from nascli.genotype.space import ChoiceGroup, check_tokens
from nascli.units import count_of


class LayerChoice(Strict):
    """A layer that may stand in any place; filters and stride are those of the place."""

    op: Op
    kernel: Kernel
    skip: Skip = "identity"


_IDENTITY = LayerChoice(op="linear", kernel=1, skip="none")
"""The identity where a place has a stride or other channels than the one before."""


class LayerSpace(Strict):
    """A named choice of chains, a layer in each place.

    Args:
        stem: Channels of the first convolution.
        strides, filters: Of each place.
        choices: Of every place; None is the identity, which is no layer, or a linear 1x1 convolution where there is a
            stride or the channels change.
    """

    family: Literal["mobile"] = "mobile"
    name: str = Field(min_length=1, max_length=200)
    stem: int = Field(ge=1, le=16_384)
    strides: tuple[Literal[1, 2], ...] = Field(min_length=1, max_length=32)
    filters: tuple[Annotated[int, Field(ge=1, le=16_384)], ...]
    choices: tuple[LayerChoice | None, ...] = Field(min_length=1, max_length=64)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.filters) != len(self.strides):
            raise ValueError(f"strides has {len(self.strides)} places, and filters {len(self.filters)}")
        if len(set(self.choices)) < len(self.choices):
            raise ValueError("choices must not repeat one")
        return self

    @property
    def decision_sizes(self) -> tuple[int, ...]:
        """Number of choices of each place."""
        return (len(self.choices),) * len(self.strides)

    @property
    def decision_kinds(self) -> tuple[str, ...]:
        """All decisions are of one kind."""
        return ("layer",) * len(self.strides)

    def decode(
        self, tokens: Sequence[int], name: str = "decoded", provenance: Mapping[str, JsonScalar] | None = None
    ) -> MobileGenotype:
        """The genotype that a decision sequence stands for.

        Raises:
            InputError: A wrong number of tokens, one out of its range, or a chain of identities without a layer.
        """
        check_tokens(tokens, self, f"One for each of {count_of(len(self.strides), 'layer')}")
        blocks = [self._make_block(place, self.choices[token]) for place, token in enumerate(tokens)]
        kept = tuple(block for block in blocks if block is not None)
        if not kept:
            raise InputError("a chain of identities has no layer", "Give another token in one place")
        return MobileGenotype(
            name=name, space=self.name, stem=self.stem, blocks=kept, provenance=dict(provenance or {})
        )

    def encode(self, genotype: Genotype) -> tuple[int, ...]:
        """The decision sequence of a genotype, with identities as late as they can stand.

        Raises:
            InputError: Tokens of this space cannot express it: another family or stem, or a layer that is no choice.
        """
        blocks = require_mobile(genotype, f"space {self.name!r}").canonical().blocks
        stem, waiting = require_mobile(genotype, "").stem, list(blocks)
        if stem != self.stem:
            raise InputError(f"stem is {stem}, but space {self.name!r} has {self.stem}")
        tokens = []
        for place in range(len(self.strides)):
            made = [self._canonical_block(place, choice) for choice in self.choices]
            if waiting and waiting[0] in made:
                tokens.append(made.index(waiting.pop(0)))
            elif None in made:
                tokens.append(made.index(None))
            else:
                break
        if waiting or len(tokens) < len(self.strides):
            number = len(blocks) - len(waiting)
            found = f"blocks[{number}]" if waiting else "its end"
            raise InputError(
                f"{genotype.name}: {found} is none of the layers that space {self.name!r} has there",
                "Tokens cannot say it; pass the genotype JSON on instead",
            )
        return tuple(tokens)

    def features(self, genotype: Genotype) -> Mapping[tuple[str, ...], float]:
        """The layer in each place, identities as late as they can stand; layers of each kind, by stage and in all."""
        found: Counter[tuple[str, ...]] = Counter()
        stage = 0
        for place, token in enumerate(self.encode(genotype)):
            stage += self._changes(place)
            label = self._labels()[token]
            found["layer", str(place), label] = 1
            found["stage", str(stage), label] += 1
            found["all", label] += 1
        return found

    def choice_groups(self) -> list[ChoiceGroup]:
        """The layers of all places."""
        labels = self._labels()
        return [ChoiceGroup("layers", "Layers", labels, (1 / len(labels),) * len(labels), self.encode)]

    def cover_layers(self) -> Iterator[MobileGenotype]:
        """Genotypes that have every layer; what it reads is fixed by its place."""
        for token, choice in enumerate(self.choices):
            if choice is not None or any(map(self._changes, range(len(self.strides)))):
                yield self.decode([token] * len(self.strides))

    def summary(self) -> str:
        """The size of the space in words."""
        return f"{count_of(len(self.strides), 'layer')}, {count_of(len(self.choices), 'choice')} each"

    def _labels(self) -> tuple[str, ...]:
        return tuple(
            "identity" if choice is None else f"{op_words(choice.op)} {choice.kernel}×{choice.kernel}"
            for choice in self.choices
        )

    def _changes(self, place: int) -> bool:
        """Whether a place has a stride or other channels than the one before: the identity is a layer there."""
        before = self.filters[place - 1] if place else self.stem
        return self.strides[place] > 1 or self.filters[place] != before

    def _make_block(self, place: int, choice: LayerChoice | None) -> MobileBlock | None:
        """The layer in a place; None for the identity where it is none."""
        if choice is None and not self._changes(place):
            return None
        layer = choice or _IDENTITY
        own = {"filters": self.filters[place], "layers": 1, "stride": self.strides[place]}
        return MobileBlock.model_validate({**layer.model_dump(), **own})

    def _canonical_block(self, place: int, choice: LayerChoice | None) -> MobileBlock | None:
        """The layer in a place as it stands in canonical genotypes."""
        block = self._make_block(place, choice)
        before = self.filters[place - 1] if place else self.stem
        if block is None or block.skips(before, block.stride):
            return block
        return block.model_copy(update={"skip": "none"})


NAS_BENCH_MACRO = LayerSpace(
    name="nas-bench-macro",
    stem=32,
    strides=(2, 1, 2, 1, 1, 2, 1, 1),
    filters=(64, 64, 128, 128, 128, 256, 256, 256),
    choices=(None, LayerChoice(op="mbconv3", kernel=3), LayerChoice(op="mbconv6", kernel=5)),
)
"""Su et al. 2021, "Prioritized Architecture Sampling with Monto-Carlo Tree Search", section 5."""
