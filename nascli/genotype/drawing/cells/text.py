"""Cells as text: a graph for other programs, and a tree for the terminal."""

from nascli.genotype.cells.genotype import CellGenotype
from nascli.genotype.cells.op_info import OP_INFO, OpKind
from nascli.genotype.cells.schema import CellSpec
from nascli.genotype.drawing.cells import palette
from nascli.genotype.drawing.cells.palette import state_name
from nascli.genotype.drawing.graph import Arrow, Branch, Cluster, Graph, Line, Vertex
from nascli.genotype.drawing.shapes import Paint

_STYLES: dict[str, Paint] = {
    **{str(kind): paint for kind, paint in palette.KIND_PAINTS.items()},
    **palette.COMBINE_PAINTS,
    "state": palette.STATE_PAINT,
    "dead": palette.DEAD_PAINT,
}
_TERMINAL: dict[OpKind, str] = {"separable": "blue", "convolution": "yellow", "pool": "green", "identity": "default"}
_TERMINAL_INPUTS = ("red", "cyan")  # h[i-1] and h[i], as in the images


def cell_graph(genotype: CellGenotype) -> Graph:
    """The genotype as a graph, a cluster for each cell."""
    roles = {"normal": genotype.normal, "reduction": genotype.reduction}
    clusters = tuple(_cluster(cell, role, f"{role.capitalize()} cell") for role, cell in roles.items())
    return Graph(genotype.name, clusters, _STYLES, frozenset({"dead"}))


def cell_tree(genotype: CellGenotype) -> list[Branch]:
    """Both cells, a line for each block: its state, its combination, its two ops with what they read."""
    return [
        Branch("normal cell", _cell_lines(genotype.normal)),
        Branch("reduction cell", _cell_lines(genotype.reduction)),
    ]


def _cluster(cell: CellSpec, role: str, caption: str) -> Cluster:
    vertices = [Vertex(f"{role}_{state}", state_name(state), "state", round=True) for state in (0, 1)]
    arrows: list[Arrow] = []
    for k, block in enumerate(cell.blocks):
        key, dead = f"{role}_{k + 2}", k + 2 not in cell.live
        for half, (op, state) in enumerate(zip(block.ops, block.inputs, strict=True)):
            info = OP_INFO[op]
            vertices.append(Vertex(f"{key}_{half}", info.label, "dead" if dead else info.kind, hint=op))
            arrows.append(Arrow(f"{role}_{state}", f"{key}_{half}", dead))
            arrows.append(Arrow(f"{key}_{half}", key, dead))
        vertices.append(Vertex(key, f"{k + 2}: {block.combine}", "dead" if dead else block.combine, round=True))
    vertices.append(Vertex(f"{role}_concat", "concat", "concat"))
    vertices.append(Vertex(f"{role}_output", "h[i+1]", "state", round=True))
    arrows += [Arrow(f"{role}_{state}", f"{role}_concat") for state in cell.concat]
    arrows.append(Arrow(f"{role}_concat", f"{role}_output"))
    return Cluster(role, caption, tuple(vertices), tuple(arrows))


def _cell_lines(cell: CellSpec) -> tuple[Line, ...]:
    width = max(len(OP_INFO[op].label) for block in cell.blocks for op in block.ops)
    digits = len(str(len(cell.blocks) + 1))
    lines = []
    for k, block in enumerate(cell.blocks):
        line = Line().add(f"{k + 2:>{digits}}", "bold").add(f"  {block.combine:<6}")
        for op, state in zip(block.ops, block.inputs, strict=True):
            line.add(f"  {OP_INFO[op].label:>{width}}", _TERMINAL[OP_INFO[op].kind])
            line.add(" ← ", "dim").add(f"{state_name(state):<6}", _state_style(state))
        if k + 2 not in cell.live:
            line = Line().add(f"{line.plain}  dead: reaches no output", "dim")
        lines.append(line)
    joined = Line().add(f"{'':{digits}}  concat  ")
    for state in cell.concat:
        joined.add(f"{state_name(state)}  ", _state_style(state))
    return (*lines, joined.add("→ h[i+1]"))


def _state_style(state: int) -> str:
    return _TERMINAL_INPUTS[state] if state < len(_TERMINAL_INPUTS) else "bold"
