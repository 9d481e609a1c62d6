"""Cells of edges as text: a graph for other programs, and a tree for the terminal."""

from nascli.genotype.drawing.cells.palette import DEAD_PAINT, KIND_PAINTS, STATE_PAINT
from nascli.genotype.drawing.graph import Arrow, Branch, Cluster, Graph, Line, Vertex
from nascli.genotype.drawing.shapes import Paint
from nascli.genotype.edges.formula import INNER_NODES, NONE
from nascli.genotype.edges.genotype import EdgeGenotype
from nascli.genotype.edges.op_info import OP_INFO

_STYLES: dict[str, Paint] = {
    **{str(kind): paint for kind, paint in KIND_PAINTS.items()},
    "state": STATE_PAINT,
    "dead": DEAD_PAINT,
}
_TERMINAL = {"convolution": "yellow", "pool": "green"}


def node_name(node: int) -> str:
    """The name of a node in drawings."""
    return {0: "input", INNER_NODES: "output"}.get(node, str(node))


def edge_graph(genotype: EdgeGenotype) -> Graph:
    """The genotype as a graph: its nodes, and an op on each edge that carries something."""
    vertices = [Vertex(f"node_{node}", node_name(node), "state", round=True) for node in range(INNER_NODES + 1)]
    arrows: list[Arrow] = []
    for node, ops in enumerate(genotype.nodes, 1):
        for source, op in enumerate(ops):
            if op == NONE:
                continue
            key, dead = f"edge_{source}_{node}", (source, node) not in genotype.live
            vertices.append(Vertex(key, OP_INFO[op].label, "dead" if dead else OP_INFO[op].kind, hint=op))
            arrows += [Arrow(f"node_{source}", key, dead), Arrow(key, f"node_{node}", dead)]
    cluster = Cluster("cell", "Cell", tuple(vertices), tuple(arrows))
    return Graph(genotype.name, (cluster,), _STYLES, frozenset({"dead"}))


def edge_tree(genotype: EdgeGenotype) -> list[Branch]:
    """A line for each node: the ops that bring something to it, with the nodes that they read."""
    lines = []
    for node, ops in enumerate(genotype.nodes, 1):
        line = Line().add(f"{node_name(node):<6}", "bold")
        brought = [(source, op) for source, op in enumerate(ops) if op != NONE]
        for place, (source, op) in enumerate(brought):
            dead = (source, node) not in genotype.live
            line.add("  +  " if place else "  ", "dim")
            line.add(OP_INFO[op].label, "dim" if dead else _TERMINAL.get(OP_INFO[op].kind, ""))
            line.add(" ← ", "dim").add(node_name(source), "dim" if dead else "bold")
            line.add(" (dead)" if dead else "", "dim")
        lines.append(line if brought else line.add("  nothing", "dim"))
    return [Branch("cell", tuple(lines))]
