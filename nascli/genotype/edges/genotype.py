"""The genotype of the edge family: one cell of four nodes with an op on each of its six edges."""

from typing import Literal, Self

from pydantic import ConfigDict, Field

from nascli.config import Strict
from nascli.errors import InputError
from nascli.genotype.edges.formula import Edge, find_live_edges, spell_formula, spell_nodes
from nascli.genotype.genotype import Genotype, JsonScalar, spread_json
from nascli.records import sha256_json

EDGES = "edges"

EdgeOp = Literal["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]
"""The ops by their published names; the same as `nascli.genotype.edges.formula.OPS`."""


class EdgeGenotype(Strict):
    """A cell with a name and an origin; see `nascli.genotype.genotype.Genotype`.

    Args:
        nodes: The ops on the edges into nodes 1, 2 and 3, from node 0 on; a node is the sum of what they bring. Node 0
            is the cell's input, node 3 its output.

    References: Dong and Yang 2020, "NAS-Bench-201", section 2.1.
    """

    model_config = ConfigDict(populate_by_name=True)

    schema_version: Literal[2] = Field(default=2, alias="schema")
    family: Literal["edges"] = "edges"
    name: str = Field(min_length=1, max_length=200)
    space: str = Field(min_length=1, max_length=200)
    nodes: tuple[tuple[EdgeOp], tuple[EdgeOp, EdgeOp], tuple[EdgeOp, EdgeOp, EdgeOp]]
    provenance: dict[str, JsonScalar] = Field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.name, self.space, self.nodes))

    @property
    def live(self) -> frozenset[Edge]:
        """The edges on a way from the input to the output, as (source, target); no other is built."""
        return find_live_edges(self.nodes)

    def canonical(self) -> Self:
        """The first cell of the same formula, in the order of the ops; edges that change nothing are `none`."""
        return self.model_copy(update={"nodes": spell_nodes(spell_formula(self.nodes))})

    def canonical_hash(self) -> str:
        """16 hexadecimal digits that are equal exactly for cells of the same formula."""
        return sha256_json([EDGES, spell_formula(self.nodes)])[:16]

    def to_json(self) -> str:
        """The genotype as JSON text, all nodes in one line."""
        values = self.model_dump(mode="json", by_alias=True)
        lines = [f'"{key}": {spread_json(value)}' for key, value in values.items()]
        return "{\n  " + ",\n  ".join(lines) + "\n}\n"


def require_edges(genotype: Genotype, purpose: str) -> EdgeGenotype:
    """The genotype as a cell of edges; InputError, with the purpose that needs one, for another family's."""
    if not isinstance(genotype, EdgeGenotype):
        raise InputError(f"{genotype.name} is of family {genotype.family}, but {purpose} needs a cell of edges")
    return genotype
