"""Search spaces of mobile blocks, and their decisions: a genotype as a sequence of tokens, and back.

Six decisions per block, in the order in which the paper (section 4.1) lists them: op, kernel, squeeze-and-excitation,
skip, filters, layers. Stem and strides are the space's own.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from nascli.config import MobileSpaceConfig, SpaceConfig, Strict, explain, suggestion
from nascli.errors import InputError
from nascli.genotype.genotype import Genotype, JsonScalar
from nascli.genotype.mobile.genotype import (
    Kernel,
    MobileBlock,
    MobileGenotype,
    Op,
    Ratio,
    Skip,
    op_words,
    require_mobile,
)
from nascli.genotype.mobile.layer_space import NAS_BENCH_MACRO
from nascli.genotype.space import ChoiceGroup, SearchSpace, check_tokens, list_spaces
from nascli.units import count_of

KINDS = ("op", "kernel", "se", "skip", "filters", "layers")
"""The decisions of a block, which are fields of `MobileBlock`."""

_MULTIPLE = 4
_Few = Field(min_length=1, max_length=64)
_FiltersOfBlock = Annotated[tuple[Annotated[int, Field(ge=1, le=16_384)], ...], _Few]
_LayersOfBlock = Annotated[tuple[Annotated[int, Field(ge=1, le=12)], ...], _Few]


class MobileSpace(Strict):
    """A named choice of chains of blocks.

    Args:
        stem: Channels of the first convolution.
        strides: Of each block; as many blocks has every genotype.
        se: Ratios of squeeze-and-excitation.
        filters: Choices of each block.
        layers: Choices of each block.
    """

    family: Literal["mobile"] = "mobile"
    name: str = Field(min_length=1, max_length=200)
    stem: int = Field(ge=1, le=16_384)
    strides: tuple[Literal[1, 2], ...] = Field(min_length=1, max_length=32)
    ops: tuple[Op, ...] = _Few
    kernels: tuple[Kernel, ...] = _Few
    se: tuple[Ratio, ...] = _Few
    skips: tuple[Skip, ...] = _Few
    filters: tuple[_FiltersOfBlock, ...]
    layers: tuple[_LayersOfBlock, ...]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        blocks = {"strides": len(self.strides), "filters": len(self.filters), "layers": len(self.layers)}
        if len(set(blocks.values())) > 1:
            counted = ", ".join(f"{name} has {count}" for name, count in blocks.items())
            raise ValueError(f"each of these needs an entry for every block, but {counted}")
        for name, choices in self._list_choices():
            if len(set(choices)) < len(choices):
                raise ValueError(f"{name} must not repeat a choice")
        return self

    @property
    def decision_sizes(self) -> tuple[int, ...]:
        """Number of choices of each decision, in order: six per block."""
        return tuple(len(choices) for place in range(len(self.strides)) for choices in self.choices(place).values())

    @property
    def decision_kinds(self) -> tuple[str, ...]:
        """One word for each decision, parallel to `decision_sizes`."""
        return KINDS * len(self.strides)

    def choices(self, place: int) -> dict[str, tuple[Any, ...]]:
        """The choices of the decisions of a block, by `KINDS`."""
        found = (self.ops, self.kernels, self.se, self.skips, self.filters[place], self.layers[place])
        return dict(zip(KINDS, found, strict=True))

    def decode(
        self, tokens: Sequence[int], name: str = "decoded", provenance: Mapping[str, JsonScalar] | None = None
    ) -> MobileGenotype:
        """The genotype that a decision sequence stands for.

        Args:
            tokens: As many integers as `decision_sizes` has; token t is in [0, `decision_sizes[t]`).

        Raises:
            InputError: A wrong number of tokens, or one out of its range.
        """
        check_tokens(tokens, self, f"Six for each of {count_of(len(self.strides), 'block')}: {', '.join(KINDS)}")
        blocks = []
        for place, stride in enumerate(self.strides):
            chosen = zip(self.choices(place).items(), tokens[6 * place : 6 * place + 6], strict=True)
            blocks.append(MobileBlock(stride=stride, **{kind: choices[token] for (kind, choices), token in chosen}))
        return MobileGenotype(
            name=name, space=self.name, stem=self.stem, blocks=tuple(blocks), provenance=dict(provenance or {})
        )

    def encode(self, genotype: Genotype) -> tuple[int, ...]:
        """The decision sequence of a genotype; `decode` gives the same network back.

        A skip that no layer of its block can have is any one of the space that no layer can have.

        Raises:
            InputError: Tokens of this space cannot express the genotype: another family, stem, number of blocks, or a
                block that is not among the choices (as in the published MnasNets, whose filters depart from the paper's
                multipliers).
        """
        genotype = require_mobile(genotype, f"space {self.name!r}")
        if genotype.stem != self.stem:
            raise InputError(f"stem is {genotype.stem}, but space {self.name!r} has {self.stem}")
        if len(genotype.blocks) != len(self.strides):
            found = count_of(len(genotype.blocks), "block")
            raise InputError(f"{genotype.name} has {found}, space {self.name!r} has {len(self.strides)}")
        tokens: list[int] = []
        for place, block in enumerate(genotype.blocks):
            said = block.model_copy(update={"skip": self._find_skip(genotype, place)})
            self._take("stride", said, place, (self.strides[place],))
            tokens += (self._take(kind, said, place, choices) for kind, choices in self.choices(place).items())
        return tuple(tokens)

    def features(self, genotype: Genotype) -> Mapping[tuple[str, ...], float]:
        """Op, kernel and live skip of each block; its ranks of SE and filters; its layers; layers of each kind."""
        found: Counter[tuple[str, ...]] = Counter()
        for place, block in enumerate(require_mobile(genotype, f"space {self.name!r}").canonical().blocks):
            where, kernel = str(place), str(block.kernel)
            found["op", where, block.op] = 1
            found["kernel", where, kernel] = 1
            if block.skip != "none":
                found["skip", where, block.skip] = 1
            found["se", where] = _rank(self.se, block.se)
            found["filters", where] = _rank(self.filters[place], block.filters)
            found["layers", where] = block.layers
            found["layer", block.op, kernel] += block.layers
        return found

    def choice_groups(self) -> list[ChoiceGroup]:
        """Each kind of decision over all blocks; filters by their rank among the choices of their block."""
        widest = max(map(len, self.filters))
        counts = sorted({count for block in self.layers for count in block})
        ratios = [f"SE {ratio:g}" if ratio else "without SE" for ratio in self.se]
        return [
            self._group("op", "Ops", map(op_words, self.ops), lambda place: self.ops),
            self._group("kernel", "Kernels", (f"{side}×{side}" for side in self.kernels), lambda place: self.kernels),
            self._group("se", "Squeeze-and-excitation", ratios, lambda place: self.se),
            self._group("skip", "Skips", self.skips, lambda place: self.skips),
            self._group(
                "filters",
                "Filters, from the fewest of each block",
                (f"choice {rank + 1}" for rank in range(widest)),
                lambda place: sorted(self.filters[place]),
            ),
            self._group("layers", "Layers", (count_of(count, "layer") for count in counts), lambda place: counts),
        ]

    def cover_layers(self) -> Iterator[MobileGenotype]:
        """Genotypes that have every layer of the space, with every number of channels that it can read.

        A block's layers depend on its own choices and the filters of the block before. So every other block goes
        through all its choices, and for each of them those between through all their filters.
        """
        blocks = range(len(self.strides))
        bodies = [list(product(*map(range, self.decision_sizes[6 * place : 6 * place + 5]))) for place in blocks]
        most = [layers.index(max(layers)) for layers in self.layers]
        for parity in (0, 1) if len(self.strides) > 1 else (0,):
            moving = blocks[parity::2]
            between = max((len(self.filters[place]) for place in blocks if place not in moving), default=1)
            for body, filters in product(range(max(len(bodies[place]) for place in moving)), range(between)):
                tokens: list[int] = []
                for place in blocks:
                    own = bodies[place][body % len(bodies[place])]
                    fixed = (0, 0, 0, 0, filters % len(self.filters[place]))
                    tokens += (*(own if place in moving else fixed), most[place])
                yield self.decode(tokens)

    def summary(self) -> str:
        """The size of the space in words."""
        decisions = count_of(len(self.decision_sizes), "decision")
        return f"{count_of(len(self.strides), 'block')}, {decisions}, {len(self.ops)} ops"

    def _list_choices(self) -> Iterable[tuple[str, tuple[object, ...]]]:
        """All choices, with the place of each list."""
        for name in ("ops", "kernels", "se", "skips"):
            yield name, getattr(self, name)
        for name in ("filters", "layers"):
            yield from ((f"{name}[{place}]", choices) for place, choices in enumerate(getattr(self, name)))

    def _take(self, kind: str, block: MobileBlock, place: int, choices: tuple[Any, ...]) -> int:
        """The position of a block's value among the choices; InputError where it is none of them."""
        value = getattr(block, kind)
        if value not in choices:
            known = ", ".join(map(str, choices))
            raise InputError(
                f"blocks[{place}].{kind} is {value}, but space {self.name!r} has {known} there",
                "Tokens cannot say it; pass the genotype JSON on instead",
            )
        return choices.index(value)

    def _find_skip(self, genotype: MobileGenotype, place: int) -> Skip:
        """The skip of a block; one of the space that builds the same, where the space has not its own."""
        canonical = genotype.canonical().blocks[place]
        for skip in (genotype.blocks[place].skip, *self.skips):
            blocks = list(genotype.blocks)
            blocks[place] = blocks[place].model_copy(update={"skip": skip})
            same = genotype.model_copy(update={"blocks": tuple(blocks)}).canonical().blocks[place] == canonical
            if skip in self.skips and same:
                return skip
        return genotype.blocks[place].skip

    def _group(
        self, kind: str, title: str, labels: Iterable[str], order: Callable[[int], Sequence[object]]
    ) -> ChoiceGroup:
        """The decisions of one kind; `order` has the values of a block in the order of the labels."""
        names, blocks = tuple(labels), range(len(self.strides))
        uniform = [0.0] * len(names)
        for place in blocks:
            choices = self.choices(place)[kind]
            for value in choices:
                uniform[order(place).index(value)] += 1 / (len(choices) * len(blocks))

        def read(genotype: Genotype) -> Iterable[int]:
            for place, block in enumerate(require_mobile(genotype, "counting choices").blocks):
                value = getattr(block, kind)
                if value in order(place):  # a canonical form may have a skip that the space has not
                    yield order(place).index(value)

        return ChoiceGroup(kind, title, names, tuple(uniform), read)


def scale_choices(base: Sequence[int], multipliers: Sequence[float]) -> tuple[tuple[int, ...], ...]:
    """The choices of filters of each block: its base times each multiplier, to the nearest multiple of 4."""

    def scale(filters: int, multiplier: float) -> int:
        return max(_MULTIPLE, int(filters * multiplier / _MULTIPLE + 0.5) * _MULTIPLE)

    return tuple(tuple(dict.fromkeys(scale(each, multiplier) for multiplier in multipliers)) for each in base)


_BASE_FILTERS = (16, 24, 32, 64, 96, 160, 320)
_MULTIPLIERS = (0.75, 1.0, 1.25)

MNASNET = MobileSpace(
    name="mnasnet",
    stem=32,
    strides=(1, 2, 2, 2, 1, 2, 1),
    ops=("conv", "depthwise", "mbconv3", "mbconv6"),
    kernels=(3, 5),
    se=(0.0, 0.25),
    skips=("pool", "identity", "none"),
    filters=scale_choices(_BASE_FILTERS, _MULTIPLIERS),
    layers=((1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (2, 3, 4), (2, 3, 4), (1, 2)),
)
"""Tan et al. 2019, section 4.1, around the blocks of MobileNetV2.

The paper leaves open: blocks of one layer, which cannot have one less, so that their number has two choices here; and
how filters are rounded, here to multiples of 4, at which all choices differ.
"""

SPACES: dict[str, SearchSpace] = {MNASNET.name: MNASNET, NAS_BENCH_MACRO.name: NAS_BENCH_MACRO}


def resolve_mobile_space(config: SpaceConfig) -> SearchSpace:
    """The space that a recipe names, or the user's own that it spells out; what that leaves out is MnasNet's.

    Raises:
        InputError: The name is unknown and no choices are given, or no space has these, or it is no space of blocks.
    """
    if not isinstance(config, MobileSpaceConfig):
        raise InputError(f"space {config.name!r} is no space of mobile blocks")
    given = config.model_dump(exclude_none=True, exclude={"name", "family"})
    if config.name in SPACES and not given:
        return SPACES[config.name]
    if config.name in list_spaces():
        raise InputError(
            f"space {config.name!r} cannot be changed",
            'Give space.name a name of your own, and space.family = "mobile"',
        )
    if not given:
        near = suggestion(config.name, SPACES).rstrip(".")
        raise InputError(
            f"space.name = {config.name!r}: unknown search space",
            f"{near}. For a space of your own give its choices: space.ops, space.filters, ...",
        )
    base, multipliers = given.pop("base_filters", None), given.pop("filter_multipliers", None)
    if base or multipliers:
        if "filters" in given:
            raise InputError(
                "space.filters lists the choices that space.base_filters and space.filter_multipliers would make",
                "Leave one of the two out",
            )
        given["filters"] = scale_choices(base or _BASE_FILTERS, multipliers or _MULTIPLIERS)
    try:
        return MobileSpace.model_validate(MNASNET.model_dump() | given | {"name": config.name})
    except ValidationError as error:
        raise explain(error, "space", MobileSpace) from error


def _rank(choices: Sequence[float], value: float) -> int:
    """The number of choices below a value."""
    return sum(choice < value for choice in choices)
