"""The genotype of the cell family: a normal and a reduction cell."""

import json
from typing import Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field

from nascli.config import Strict
from nascli.errors import InputError
from nascli.genotype.cells.canonical import canonical_cell, canonical_values
from nascli.genotype.cells.schema import CellSpec
from nascli.genotype.genotype import Genotype, JsonScalar, spread_json
from nascli.records import sha256_json


class CellGenotype(Strict):
    """A normal and a reduction cell, with a name and where they come from; see `nascli.genotype.genotype.Genotype`."""

    model_config = ConfigDict(populate_by_name=True)

    family: ClassVar[str] = "cells"
    schema_version: Literal[1] = Field(default=1, alias="schema")
    name: str = Field(min_length=1, max_length=200)
    space: str = Field(min_length=1, max_length=200)
    normal: CellSpec
    reduction: CellSpec
    provenance: dict[str, JsonScalar] = Field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.name, self.space, self.normal, self.reduction))

    def canonical(self) -> Self:
        """The genotype with both cells in canonical form; name, space and provenance stay."""
        return self.model_copy(
            update={"normal": canonical_cell(self.normal), "reduction": canonical_cell(self.reduction)}
        )

    def canonical_hash(self) -> str:
        """16 hexadecimal digits that are equal exactly for genotypes that build the same network."""
        return sha256_json([canonical_values(cell) for cell in (self.normal, self.reduction)])[:16]

    def to_json(self) -> str:
        """The genotype as JSON text, one block per line."""
        values = self.model_dump(mode="json", by_alias=True)
        cells = {role: _cell_json(values[role]) for role in ("normal", "reduction")}
        lines = [f'"{key}": {cells.get(key) or spread_json(value)}' for key, value in values.items()]
        return "{\n  " + ",\n  ".join(lines) + "\n}\n"


def require_cells(genotype: Genotype, purpose: str) -> CellGenotype:
    """The genotype as one of cells; InputError, with the purpose that needs cells, for another family's."""
    if not isinstance(genotype, CellGenotype):
        raise InputError(f"{genotype.name} is of family {genotype.family}, but {purpose} needs cells")
    return genotype


def _cell_json(cell: dict[str, Any]) -> str:
    blocks = ",\n      ".join(json.dumps(block) for block in cell["blocks"])
    return f'{{\n    "blocks": [\n      {blocks}\n    ],\n    "concat": {json.dumps(cell["concat"])}\n  }}'
