"""The strings that NAS-Bench-201 and NATS-Bench call cells by: `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`.

A part is a node, and `op~j` an edge from node j to it.
"""

import re
from collections.abc import Mapping

from nascli.errors import InputError
from nascli.genotype.edges.formula import INNER_NODES, OPS
from nascli.genotype.edges.genotype import EdgeGenotype, require_edges
from nascli.genotype.genotype import Genotype, JsonScalar
from nascli.genotype.notations import Notation
from nascli.units import shorten

_EDGE = re.compile(r"\|\s*\w+~\d")
_EXAMPLE = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|nor_conv_1x1~0|avg_pool_3x3~1|skip_connect~2|"


def read_string(text: str, which: str | None, name: str, facts: Mapping[str, JsonScalar]) -> EdgeGenotype:
    """The cell of a string; its edges may stand in any order within their node.

    Raises:
        InputError: It is no such string, or names an unknown op.
    """
    parts = text.strip().strip("'\"").split("+")
    if len(parts) != INNER_NODES:
        raise InputError(
            f"{shorten(text.strip(), 60)}: {INNER_NODES} nodes are joined by +, and it has {len(parts)}",
            f"For example {_EXAMPLE}",
        )
    nodes = [_read_node(part, number) for number, part in enumerate(parts, 1)]
    values = {"name": name, "space": "nas-bench-201", "nodes": nodes, "provenance": dict(facts)}
    return EdgeGenotype.model_validate(values)


def write_string(genotype: Genotype) -> str:
    """The string of a cell."""
    nodes = require_edges(genotype, "NAS-Bench-201's notation").nodes
    return "+".join("|" + "".join(f"{op}~{source}|" for source, op in enumerate(ops)) for ops in nodes)


def _read_node(part: str, number: int) -> list[str]:
    """The ops of a node, by source."""
    edges = [edge.strip().rpartition("~") for edge in part.strip().strip("|").split("|")]
    ops = {source: op for op, _, source in edges}
    if len(edges) != number or set(ops) != {str(source) for source in range(number)}:
        raise InputError(
            f"node {number} is {shorten(part.strip(), 60)}, and needs one edge from each of the nodes before it",
            f"For example {_EXAMPLE}",
        )
    unknown = next((op for op in ops.values() if op not in OPS), None)
    if unknown is not None:
        raise InputError(f"node {number} has the unknown op {shorten(unknown)!r}", f"Known: {', '.join(OPS)}")
    return [ops[str(source)] for source in range(number)]


NOTATIONS: Mapping[str, Notation] = {
    "nas-bench-201": Notation("NAS-Bench-201", read_string, write_string, lambda text: bool(_EDGE.search(text)))
}
