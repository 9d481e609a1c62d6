"""Tables of latencies, layer by layer: measured once on a device, and summed for any network of such layers. No torch.

With a table the latency of a network is the same number each time, on any machine, so that a search for it can be
repeated; and a table may come from a phone.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field, ValidationError, model_validator

from nascli.config import Strict, explain
from nascli.errors import CorruptFileError, InputError
from nascli.genotype.genotype import Genotype
from nascli.genotype.space import CoversLayers, SearchSpace, first_genotype
from nascli.models.latency import Key, Latency
from nascli.models.spec import NetworkSpec
from nascli.records import read_record, write_record
from nascli.units import count_of


class LayerTime(Strict):
    """A row: the key of a layer (`NetworkSpec.layer_keys`), and the seconds that it adds to a network.

    Args:
        median, upper: The other quartiles, where they are known.
    """

    key: dict[str, str | int | float]
    seconds: float = Field(ge=0, allow_inf_nan=False)
    median: float | None = Field(None, ge=0, allow_inf_nan=False)
    upper: float | None = Field(None, ge=0, allow_inf_nan=False)


class Conditions(NamedTuple):
    """The conditions that a table holds for, always for one image."""

    engine: str
    precision: str
    device: str
    threads: int


class LatencyTable(Strict):
    """The seconds of layers on one device.

    Args:
        scale: Every sum is multiplied by it: layers are quicker one by one than in a network.
        complete: Whether nothing is left to measure, and the scale is known.
        reference: Seconds of a small network that never changes, beside the layers; 0 where it is not known.
        about: For readers: the machine, the date.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    engine: str = Field(min_length=1, max_length=200)
    precision: str = Field(min_length=1, max_length=200)
    device: str = Field(min_length=1, max_length=200)
    threads: int = Field(ge=1)
    complete: bool = True
    scale: float = Field(1.0, gt=0, allow_inf_nan=False)
    reference: float = Field(0.0, ge=0, allow_inf_nan=False)
    about: dict[str, str | int | float | None] = Field(default_factory=dict)
    layers: tuple[LayerTime, ...]

    @model_validator(mode="after")
    def _is_unique(self) -> "LatencyTable":
        found: dict[str, int] = {}
        for place, row in enumerate(self.layers):
            first = found.setdefault(as_text(row.key), place)
            if first != place:
                raise ValueError(f"layers[{place}] has the key of layers[{first}]: {as_text(row.key)}")
        return self

    @property
    def conditions(self) -> Conditions:
        """Those of every row."""
        return Conditions(self.engine, self.precision, self.device, self.threads)


class TimedLayers:
    """A table, ready to be asked for sums; `source` names it in messages."""

    def __init__(self, table: LatencyTable, source: str) -> None:
        self.table, self.source = table, source
        self._rows = {as_text(row.key): row for row in table.layers}

    def missing(self, keys: Iterable[Key]) -> list[Key]:
        """The keys that the table has no row for, each once."""
        return list({text: key for key in keys if (text := as_text(key)) not in self._rows}.values())

    def sum(self, keys: Iterable[Key], image_size: int) -> Latency:
        """The latency of the network of these layers; its quartiles are the sums of theirs.

        Raises:
            InputError: The table has no row for one of them, or all are 0.
        """
        rows = []
        for key in keys:
            row = self._rows.get(as_text(key))
            if row is None:
                raise InputError(
                    f"{self.source} has no layer {as_text(key)}",
                    "Measure it with nascli latency and the options of the search, or give the file of such networks",
                )
            rows.append(row)
        table = self.table
        seconds = table.scale * math.fsum(row.seconds for row in rows)
        if not seconds:
            raise InputError(f"{self.source}: the layers of a network take 0 seconds in all", "Give times above 0")
        return Latency(
            seconds=seconds,
            median=table.scale * math.fsum(row.seconds if row.median is None else row.median for row in rows),
            upper=table.scale * math.fsum(row.seconds if row.upper is None else row.upper for row in rows),
            reference=table.reference,
            image_size=image_size,
            batch=1,
            repeats=0,
            **table.conditions._asdict(),
        )


def require_keys(spec: NetworkSpec) -> list[Key]:
    """The keys of the layers of a network, in order; InputError where a family's layers do not stand alone."""
    keys = spec.layer_keys()
    if keys is None:
        raise InputError(
            f"networks of the family {spec.family} have no table of layers: what one of their units takes depends on "
            "those around it",
            "Leave the table out: latencies are then measured",
        )
    return keys


def cover_layers(
    space: SearchSpace, resolve: Callable[[Genotype], NetworkSpec]
) -> Iterator[tuple[NetworkSpec, list[Key]]]:
    """Networks that have every layer of a space between them, each with the keys that none before it has.

    Args:
        resolve: From a genotype to the network that is deployed.

    Raises:
        InputError: The networks of the space are not made of layers that stand alone.
    """
    known: set[str] = set()
    for genotype in space.cover_layers() if isinstance(space, CoversLayers) else [first_genotype(space)]:
        spec = resolve(genotype)
        found = {as_text(key): key for key in require_keys(spec)}
        new = [key for text, key in found.items() if text not in known]
        known |= found.keys()
        if new:
            yield spec, new


def check_coverage(layers: TimedLayers, space: SearchSpace, resolve: Callable[[Genotype], NetworkSpec]) -> None:
    """Refuse a table that lacks a layer of a space, or whose measuring was stopped (InputError)."""
    if not layers.table.complete:
        raise InputError(
            f"{layers.source}: complete is false, so its scale is not known yet",
            "Repeat the nascli latency that was stopped",
            file=layers.source,
        )
    missing = [key for _, keys in cover_layers(space, resolve) for key in layers.missing(keys)]
    if missing:
        raise InputError(
            f"{layers.source} lacks {count_of(len(missing), 'layer')} of networks of the space, such as "
            f"{as_text(missing[0])}",
            "Measure them: nascli latency with this file and the options of the search",
            file=layers.source,
        )


def as_text(key: Key) -> str:
    """A key as text, equal for equal keys; 1 and 1.0 are."""
    plain = {
        name: int(value) if value == value // 1 else value for name, value in key.items() if not isinstance(value, str)
    }
    return json.dumps({**key, **plain}, sort_keys=True)


def read_latency_table(path: Path) -> LatencyTable:
    """A table from its file.

    Raises:
        InputError: There is no such file, or a value is impossible; the message names the row.
        CorruptFileError: It is not JSON, or no table of layers.
    """
    values: dict[str, Any] = read_record(path)
    if "layers" not in values:
        raise CorruptFileError(f"{path}: JSON, but no latency table (no layers in it)", file=path)
    try:
        return LatencyTable.model_validate(values)
    except ValidationError as error:
        raise explain(error, str(path), LatencyTable) from error


def write_latency_table(path: Path, table: LatencyTable) -> None:
    """Write a table, whole or not at all."""
    write_record(path, table.model_dump(mode="json", by_alias=True, exclude_none=True))
