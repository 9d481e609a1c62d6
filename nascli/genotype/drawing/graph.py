"""A genotype as a graph for other programs (DOT, Mermaid), and as lines of a terminal's tree."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from nascli.genotype.drawing.shapes import EDGE_COLOR, FAINT_EDGE_COLOR, PANEL_PAINT, Paint
from nascli.text import printable


@dataclass(frozen=True)
class Vertex:
    """A box with words; `style` is a key of the graph's styles, `hint` what Graphviz shows under the mouse."""

    key: str
    label: str
    style: str
    hint: str = ""
    round: bool = False


@dataclass(frozen=True)
class Arrow:
    """From one vertex to another, by their keys; faint where what it carries reaches no output."""

    tail: str
    head: str
    faint: bool = False


@dataclass(frozen=True)
class Cluster:
    """Vertices that are framed together."""

    key: str
    caption: str
    vertices: tuple[Vertex, ...]
    arrows: tuple[Arrow, ...]


@dataclass(frozen=True)
class Graph:
    """The clusters of a genotype, and how their vertices look; those of a dashed style have a broken border."""

    title: str
    clusters: tuple[Cluster, ...]
    styles: Mapping[str, Paint]
    dashed: frozenset[str] = frozenset()


@dataclass
class Line:
    """A line of text in pieces, each with a style: "", "bold", "dim" or a color of the terminal."""

    spans: list[tuple[str, str]] = field(default_factory=list)

    def add(self, text: str, style: str = "") -> "Line":
        """Append a piece of text; the line itself comes back, so that calls can be chained."""
        self.spans.append((text, style))
        return self

    @property
    def plain(self) -> str:
        """The text without its styles."""
        return "".join(text for text, _ in self.spans)


@dataclass(frozen=True)
class Branch:
    """A part of a genotype under its caption."""

    caption: str
    lines: tuple[Line, ...]


def graph_tree(graph: Graph) -> list[Branch]:
    """A branch for each cluster, a line for each of its vertices."""
    return [Branch(each.caption, tuple(Line().add(v.label) for v in each.vertices)) for each in graph.clusters]


def format_dot(graph: Graph) -> str:
    """The graph as a DOT digraph that grows upwards."""
    lines = [
        f"digraph {_quote(graph.title)} {{",
        f"  graph [rankdir=BT, label={_quote(graph.title)}, labelloc=t, fontname=Helvetica, fontsize=18];",
        "  node [shape=box, fontname=Helvetica, fontsize=12, height=0.35];",
        f'  edge [color="{EDGE_COLOR}", arrowsize=0.7];',
    ]
    for cluster in graph.clusters:
        lines.append(
            f"  subgraph cluster_{cluster.key} {{\n    label={_quote(cluster.caption)}; fontsize=14; "
            f'color="{PANEL_PAINT.line}";'
        )
        for vertex in cluster.vertices:
            paint = graph.styles[vertex.style]
            drawn = "filled,rounded,dashed" if vertex.style in graph.dashed else "filled,rounded"
            shape = ", shape=ellipse" if vertex.round else ""
            hint = f", tooltip={_quote(vertex.hint)}" if vertex.hint else ""
            lines.append(
                f'    {vertex.key} [label={_quote(vertex.label)}, style="{drawn}", fillcolor="{paint.fill}", '
                f'color="{paint.line}", fontcolor="{paint.text}"{shape}{hint}];'
            )
        for arrow in cluster.arrows:
            drawn = f' [style=dashed, color="{FAINT_EDGE_COLOR}"]' if arrow.faint else ""
            lines.append(f"    {arrow.tail} -> {arrow.head}{drawn};")
        lines.append("  }")
    return "\n".join([*lines, "}", ""])


def format_mermaid(graph: Graph) -> str:
    """The graph as a Mermaid flowchart that grows upwards."""
    lines = ["---", f"title: {json.dumps(printable(graph.title), ensure_ascii=False)}", "---", "flowchart BT"]
    for cluster in graph.clusters:
        lines.append(f"  subgraph {cluster.key}[{_quote_mermaid(cluster.caption)}]\n    direction BT")
        for vertex in cluster.vertices:
            left, right = ("([", "])") if vertex.round else ("[", "]")
            lines.append(f"    {vertex.key}{left}{_quote_mermaid(vertex.label)}{right}:::{vertex.style}")
        lines += [f"    {arrow.tail} {'-.->' if arrow.faint else '-->'} {arrow.head}" for arrow in cluster.arrows]
        lines.append(f"  end\n  style {cluster.key} fill:{PANEL_PAINT.fill},stroke:{PANEL_PAINT.line}")
    for style, paint in graph.styles.items():
        dashes = ",stroke-dasharray:5 4" if style in graph.dashed else ""
        lines.append(f"  classDef {style} fill:{paint.fill},stroke:{paint.line},color:{paint.text}{dashes}")
    return "\n".join([*lines, ""])


def _quote(text: str) -> str:
    """A string of DOT, in which Graphviz would read escapes such as `\\N`, and HTML's entities."""
    text = re.sub(r"&(?=#?\w+;)", "&amp;", printable(text))
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _quote_mermaid(text: str) -> str:
    """A string of Mermaid, in which HTML and Markdown would be read; entities stand for their signs."""
    return '"' + re.sub(r'["#&<>`\\*_~$;]', lambda found: f"#{ord(found[0])};", printable(text)) + '"'
