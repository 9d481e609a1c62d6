"""Families of architectures: the one table from which all that is not about cells alone takes what a family can do.

The families of other packages add their entries when they are imported (`nascli.config.load_plugins`); what needs torch
stands in a table of the same names, `nascli.models.families`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import UnionType
from typing import Any

from pydantic import BaseModel

from nascli.config import SpaceConfig, load_plugins, suggestion
from nascli.genotype.cells.formats import NOTATIONS
from nascli.genotype.cells.genotype import CellGenotype
from nascli.genotype.cells.space import SPACES, CellSpace, resolve_cell_space
from nascli.genotype.drawing.cells.scene import cell_scene
from nascli.genotype.drawing.cells.text import cell_graph, cell_tree
from nascli.genotype.drawing.edges.scene import edge_scene
from nascli.genotype.drawing.edges.text import edge_graph, edge_tree
from nascli.genotype.drawing.graph import Branch, Graph
from nascli.genotype.drawing.mobile.scene import mobile_scene
from nascli.genotype.drawing.mobile.text import mobile_graph, mobile_tree
from nascli.genotype.drawing.shapes import Scene
from nascli.genotype.edges.genotype import EDGES, EdgeGenotype
from nascli.genotype.edges.notation import NOTATIONS as EDGE_NOTATIONS
from nascli.genotype.edges.space import SPACES as EDGE_SPACES
from nascli.genotype.edges.space import EdgeSpace, resolve_edge_space
from nascli.genotype.genotype import CELLS
from nascli.genotype.mobile.genotype import MOBILE, MobileGenotype
from nascli.genotype.mobile.layer_space import LayerSpace
from nascli.genotype.mobile.notations import NOTATIONS as MOBILE_NOTATIONS
from nascli.genotype.mobile.space import SPACES as MOBILE_SPACES
from nascli.genotype.mobile.space import MobileSpace, resolve_mobile_space
from nascli.genotype.notations import Notation
from nascli.genotype.space import SearchSpace
from nascli.units import count_of


@dataclass(frozen=True)
class Family:
    """A kind of architecture, without torch.

    Args:
        genotype: The model of its genotypes; it satisfies `Genotype`.
        space: The model of its search spaces, or of several kinds; each satisfies `SearchSpace`.
        spaces: Its named search spaces.
        resolve_space: The space that the `space` section of a recipe describes.
        scene: A genotype as plain shapes.
        graph: A genotype as vertices and arrows.
        tree: A genotype as lines for a terminal; None is a line for each vertex of the graph.
        describe: The size of a genotype in two words.
        notations: The notations of other tools, by a name that no other family uses.
    """

    genotype: type[BaseModel]
    space: type[BaseModel] | UnionType
    spaces: Mapping[str, SearchSpace]
    resolve_space: Callable[[SpaceConfig], SearchSpace]
    scene: Callable[[Any], Scene]
    graph: Callable[[Any], Graph]
    tree: Callable[[Any], list[Branch]] | None = None
    describe: Callable[[Any], str] = lambda genotype: ""
    notations: Mapping[str, Notation] = field(default_factory=dict)


FAMILIES: dict[str, Family] = {
    CELLS: Family(
        genotype=CellGenotype,
        space=CellSpace,
        spaces=SPACES,
        resolve_space=resolve_cell_space,
        describe=lambda genotype: count_of(len(genotype.normal.blocks), "block"),
        scene=cell_scene,
        graph=cell_graph,
        tree=cell_tree,
        notations=NOTATIONS,
    ),
    MOBILE: Family(
        genotype=MobileGenotype,
        space=MobileSpace | LayerSpace,
        spaces=MOBILE_SPACES,
        resolve_space=resolve_mobile_space,
        describe=lambda genotype: count_of(len(genotype.blocks), "block"),
        scene=mobile_scene,
        graph=mobile_graph,
        tree=mobile_tree,
        notations=MOBILE_NOTATIONS,
    ),
    EDGES: Family(
        genotype=EdgeGenotype,
        space=EdgeSpace,
        spaces=EDGE_SPACES,
        resolve_space=resolve_edge_space,
        describe=lambda genotype: count_of(len(genotype.live), "edge"),
        scene=edge_scene,
        graph=edge_graph,
        tree=edge_tree,
        notations=EDGE_NOTATIONS,
    ),
}


def genotype_families() -> Mapping[str, Family]:
    """All families by name, those of other packages included."""
    load_plugins()
    return FAMILIES


def family_of(values: object) -> Family:
    """The family that the JSON of a genotype or of a space names; cells where it names none.

    Raises:
        ValueError: It is unknown.
    """
    name = values.get("family", CELLS) if isinstance(values, Mapping) else CELLS
    families = genotype_families()
    if name not in families:
        raise ValueError(f"family {name!r} is unknown. {suggestion(str(name), families)}")
    return families[name]
