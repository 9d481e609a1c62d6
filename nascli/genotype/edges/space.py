"""The search spaces of cells of edges, and their decisions: a genotype as a sequence of tokens, and back.

One decision for each edge, its op; the edges from node 0 first, each source's by target: 0→1, 0→2, 0→3, 1→2, 1→3, 2→3.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from nascli.config import EdgeSpaceConfig, SpaceConfig, Strict, explain, suggestion
from nascli.errors import InputError
from nascli.genotype.edges.formula import INNER_NODES, Edge, formula_features
from nascli.genotype.edges.genotype import EdgeGenotype, EdgeOp, require_edges
from nascli.genotype.edges.op_info import OP_INFO
from nascli.genotype.genotype import Genotype, JsonScalar
from nascli.genotype.space import ChoiceGroup, check_tokens, list_spaces
from nascli.units import count_of

DECISIONS: tuple[Edge, ...] = tuple(
    (source, target) for source in range(INNER_NODES) for target in range(source + 1, INNER_NODES + 1)
)
"""The edge of each decision."""


class EdgeSpace(Strict):
    """A named choice of ops: any of them on every edge."""

    family: Literal["edges"] = "edges"
    name: str = Field(min_length=1, max_length=200)
    ops: Annotated[tuple[EdgeOp, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if len(set(self.ops)) < len(self.ops):
            raise ValueError("ops must not repeat a choice")
        return self

    @property
    def decision_sizes(self) -> tuple[int, ...]:
        """Number of choices of each decision."""
        return (len(self.ops),) * len(DECISIONS)

    @property
    def decision_kinds(self) -> tuple[str, ...]:
        """All decisions are of one kind."""
        return ("op",) * len(DECISIONS)

    def decode(
        self, tokens: Sequence[int], name: str = "decoded", provenance: Mapping[str, JsonScalar] | None = None
    ) -> EdgeGenotype:
        """The genotype that a decision sequence stands for.

        Raises:
            InputError: A wrong number of tokens, or one out of its range.
        """
        check_tokens(tokens, self, "One for each edge: " + ", ".join(f"{j}→{k}" for j, k in DECISIONS))
        chosen = {edge: self.ops[token] for edge, token in zip(DECISIONS, tokens, strict=True)}
        nodes = [[chosen[source, node] for source in range(node)] for node in range(1, INNER_NODES + 1)]
        values = {"name": name, "space": self.name, "nodes": nodes, "provenance": dict(provenance or {})}
        return EdgeGenotype.model_validate(values)

    def encode(self, genotype: Genotype) -> tuple[int, ...]:
        """The decision sequence of a genotype.

        Raises:
            InputError: It is of another family, or has an op that the space has not.
        """
        nodes = require_edges(genotype, f"space {self.name!r}").nodes
        for source, target in DECISIONS:
            if (op := nodes[target - 1][source]) not in self.ops:
                raise InputError(
                    f"nodes[{target - 1}][{source}] is {op}, but space {self.name!r} has {', '.join(self.ops)}",
                    "Tokens cannot say it; pass the genotype JSON on instead",
                )
        return tuple(self.ops.index(nodes[target - 1][source]) for source, target in DECISIONS)

    def features(self, genotype: Genotype) -> Mapping[tuple[str, ...], float]:
        """Ops, and paths through the cell; see `formula_features`."""
        return formula_features(require_edges(genotype, f"space {self.name!r}").nodes)

    def choice_groups(self) -> list[ChoiceGroup]:
        """The ops of all edges."""
        count = len(self.ops)

        def read(genotype: Genotype) -> list[int]:
            nodes = require_edges(genotype, "counting choices").nodes
            return [self.ops.index(op) for ops in nodes for op in ops if op in self.ops]

        labels = tuple(OP_INFO[op].label for op in self.ops)
        return [ChoiceGroup("ops", "Ops of the edges", labels, (1 / count,) * count, read)]

    def summary(self) -> str:
        """The size of the space in words."""
        return f"{count_of(len(DECISIONS), 'edge')}, {count_of(len(self.ops), 'op')}"


NAS_BENCH_201 = EdgeSpace(
    name="nas-bench-201", ops=("skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3")
)
"""Dong and Yang 2020. They number neither ops nor edges; tokens are the digits that NASLib writes such cells with."""

SPACES = {NAS_BENCH_201.name: NAS_BENCH_201}


def resolve_edge_space(config: SpaceConfig) -> EdgeSpace:
    """The space that a recipe names, or the user's own of the ops that it gives.

    Raises:
        InputError: The name is unknown and no ops are given, or they are not possible, or it is another family's space.
    """
    if not isinstance(config, EdgeSpaceConfig):
        raise InputError(f"space {config.name!r} is no space of edges")
    if config.name in SPACES and config.ops is None:
        return SPACES[config.name]
    if config.name in list_spaces():
        raise InputError(
            f"space {config.name!r} cannot be changed", 'Give space.name a name of your own, and space.family = "edges"'
        )
    if config.ops is None:
        near = suggestion(config.name, SPACES).rstrip(".")
        raise InputError(
            f"space.name = {config.name!r}: unknown search space", f"{near}. For a space of your own give space.ops"
        )
    try:
        return EdgeSpace.model_validate({"name": config.name, "ops": config.ops})
    except ValidationError as error:
        raise explain(error, "space", EdgeSpace) from error
