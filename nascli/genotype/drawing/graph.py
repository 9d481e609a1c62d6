"""Genotypes as graph text for other programs: DOT (Graphviz) and Mermaid (Markdown pages)."""

import json
from dataclasses import dataclass

from nascli.genotype.cells.genotype import CellGenotype
from nascli.genotype.cells.schema import CellSpec
from nascli.genotype.drawing import palette
from nascli.genotype.drawing.palette import Paint, printable

_CELLS = {"normal": "Normal cell", "reduction": "Reduction cell"}


@dataclass(frozen=True)
class _Vertex:
    key: str
    label: str
    style: str
    hint: str = ""
    round: bool = False


@dataclass(frozen=True)
class _Arrow:
    tail: str
    head: str
    dead: bool


_STYLES: dict[str, Paint] = {
    **palette.FAMILY_PAINTS,
    **palette.COMBINE_PAINTS,
    "state": palette.STATE_PAINT,
    "dead": palette.DEAD_PAINT,
}


def genotype_dot(genotype: CellGenotype) -> str:
    """The genotype as a DOT digraph, a cluster for each cell, growing upwards."""
    lines = [
        f"digraph {_quoted(genotype.name)} {{",
        f"  graph [rankdir=BT, label={_quoted(genotype.name)}, labelloc=t, fontname=Helvetica, fontsize=18];",
        "  node [shape=box, fontname=Helvetica, fontsize=12, height=0.35];",
        f'  edge [color="{palette.BLOCK_EDGE_COLOUR}", arrowsize=0.7];',
    ]
    for role, caption in _CELLS.items():
        vertices, arrows = _graph(getattr(genotype, role), role)
        lines.append(
            f'  subgraph cluster_{role} {{\n    label="{caption}"; fontsize=14; color="{palette.PANEL_PAINT.line}";'
        )
        for vertex in vertices:
            paint = _STYLES[vertex.style]
            drawn = "filled,rounded,dashed" if vertex.style == "dead" else "filled,rounded"
            shape = ", shape=ellipse" if vertex.round else ""
            hint = f', tooltip="{vertex.hint}"' if vertex.hint else ""
            lines.append(
                f'    {vertex.key} [label="{vertex.label}", style="{drawn}", fillcolor="{paint.fill}", '
                f'color="{paint.line}", fontcolor="{paint.text}"{shape}{hint}];'
            )
        for arrow in arrows:
            drawn = f' [style=dashed, color="{palette.DEAD_EDGE_COLOUR}"]' if arrow.dead else ""
            lines.append(f"    {arrow.tail} -> {arrow.head}{drawn};")
        lines.append("  }")
    return "\n".join([*lines, "}", ""])


def genotype_mermaid(genotype: CellGenotype) -> str:
    """The genotype as a Mermaid flowchart, a subgraph for each cell, growing upwards."""
    lines = ["---", f"title: {json.dumps(printable(genotype.name), ensure_ascii=False)}", "---", "flowchart BT"]
    for role, caption in _CELLS.items():
        vertices, arrows = _graph(getattr(genotype, role), role)
        lines.append(f'  subgraph {role}["{caption}"]\n    direction BT')
        for vertex in vertices:
            left, right = ("([", "])") if vertex.round else ("[", "]")
            lines.append(f'    {vertex.key}{left}"{vertex.label}"{right}:::{vertex.style}')
        lines += [f"    {arrow.tail} {'-.->' if arrow.dead else '-->'} {arrow.head}" for arrow in arrows]
        lines.append(f"  end\n  style {role} fill:{palette.PANEL_PAINT.fill},stroke:{palette.PANEL_PAINT.line}")
    for style, paint in _STYLES.items():
        dashes = ",stroke-dasharray:5 4" if style == "dead" else ""
        lines.append(f"  classDef {style} fill:{paint.fill},stroke:{paint.line},color:{paint.text}{dashes}")
    return "\n".join([*lines, ""])


def _graph(cell: CellSpec, role: str) -> tuple[list[_Vertex], list[_Arrow]]:
    vertices = [_Vertex(f"{role}_{state}", palette.state_name(state), "state", round=True) for state in (0, 1)]
    arrows: list[_Arrow] = []
    for k, block in enumerate(cell.blocks):
        key, dead = f"{role}_{k + 2}", k + 2 not in cell.live
        for half, (op, state) in enumerate(zip(block.ops, block.inputs, strict=True)):
            look = palette.OP_STYLES[op]
            vertices.append(_Vertex(f"{key}_{half}", look.label, "dead" if dead else look.family, hint=op))
            arrows.append(_Arrow(f"{role}_{state}", f"{key}_{half}", dead))
            arrows.append(_Arrow(f"{key}_{half}", key, dead))
        vertices.append(_Vertex(key, f"{k + 2}: {block.combine}", "dead" if dead else block.combine, round=True))
    vertices.append(_Vertex(f"{role}_concat", "concat", "concat"))
    vertices.append(_Vertex(f"{role}_output", "h[i+1]", "state", round=True))
    arrows += [_Arrow(f"{role}_{state}", f"{role}_concat", dead=False) for state in cell.concat]
    arrows.append(_Arrow(f"{role}_concat", f"{role}_output", dead=False))
    return vertices, arrows


def _quoted(text: str) -> str:
    return '"' + printable(text).replace("\\", "\\\\").replace('"', '\\"') + '"'
