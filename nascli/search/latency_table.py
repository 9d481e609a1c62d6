"""A latency table for a search space: every layer of the networks that its genotypes will be deployed as, measured."""

import platform
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from nascli.engine.device import cpu_threads
from nascli.errors import InputError, Interrupted
from nascli.genotype.genotype import Genotype
from nascli.genotype.space import SearchSpace, draw_genotypes
from nascli.models.deploy.layer_table import (
    Conditions,
    LatencyTable,
    TimedLayers,
    as_text,
    cover_layers,
    read_latency_table,
    write_latency_table,
)
from nascli.models.deploy.layer_times import fit_scale, time_layers
from nascli.models.families import build
from nascli.models.latency import Key
from nascli.models.spec import NetworkSpec
from nascli.search.evaluators.costs import CostMeter
from nascli.signals import StopRequest

WHOLE_NETWORKS = 9
"""Random networks that are measured whole, to which the sums of layers are scaled."""

_SAVE = 30.0
"""Seconds after which what was measured is written."""


class TableMaker:
    """Measures the layers of a space that a file has not yet.

    Args:
        meter: Of the networks that will be deployed; its form is settled and has no table.
        path: Rows that it has under the same conditions are kept.

    Raises:
        InputError: The file is of other conditions, or the space's networks are not made of layers that stand alone.
        CorruptFileError: The file is damaged.
    """

    def __init__(self, meter: CostMeter, space: SearchSpace, path: Path) -> None:
        self._meter, self._space, self._path = meter, space, path
        self._conditions = meter.conditions
        self._old = self._read()
        self.rows = {as_text(row.key): row for row in self._old.layers} if self._old else {}
        self._networks: list[tuple[NetworkSpec, list[Key]]] = []
        self.layers = 0
        for spec, keys in cover_layers(space, meter.setup.spec):
            self.layers += len(keys)
            if wanted := [key for key in keys if as_text(key) not in self.rows]:
                self._networks.append((spec, wanted))
        if self.rows and self.missing == self.layers:
            raise InputError(
                f"{path} has no layer of these networks: a table is of one space, width and image size",
                "Give another file",
                file=path,
            )

    @property
    def missing_keys(self) -> list[Key]:
        """The keys of the layers to measure."""
        return [key for _, wanted in self._networks for key in wanted]

    @property
    def missing(self) -> int:
        """The number of layers to measure."""
        return len(self.missing_keys)

    def measure(self, stop: StopRequest, on_layer: Callable[[], None]) -> LatencyTable:
        """Measure what is missing, then whole networks, and write the table; one that lacks nothing stays as it is.

        Raises:
            Interrupted: `stop` was requested; what was measured is in the file.
        """
        if self._old and self._old.complete and not self._networks:
            return self._old
        saved, left = time.monotonic(), self.missing
        with cpu_threads(self._meter.form.threads):
            for spec, wanted in self._networks:
                for row in time_layers(build(spec), wanted, self._meter.form):
                    self.rows[as_text(row.key)] = row
                    left -= 1
                    on_layer()
                    if stop.requested:
                        self._write()
                        raise Interrupted(f"{len(self.rows)} layers are measured, {left} to do", "Repeat the command")
                    if time.monotonic() - saved > _SAVE:
                        self._write()
                        saved = time.monotonic()
        return self._write(draw_genotypes(self._space, random.Random(0), WHOLE_NETWORKS))

    def _write(self, genotypes: Sequence[Genotype] = ()) -> LatencyTable:
        """Write the rows; with genotypes their networks are measured whole, and the sums scaled to them."""
        about = {"machine": platform.machine(), "system": platform.system(), "torch": torch.__version__}
        about["date"] = datetime.now(UTC).isoformat(timespec="seconds")
        values = {**self._conditions._asdict(), "layers": tuple(self.rows.values()), "about": about}
        table = LatencyTable(**values, complete=bool(genotypes))
        if genotypes:
            measured = [self._meter.latency(each) for each in genotypes]
            summing = replace(self._meter, layers=TimedLayers(table, str(self._path)))
            sums = [summing.latency(each) for each in genotypes]
            reference = min(latency.reference for latency in measured)
            table = table.model_copy(update={"scale": fit_scale(measured, sums), "reference": reference})
        write_latency_table(self._path, table)
        return table

    def _read(self) -> LatencyTable | None:
        if not self._path.exists():
            return None
        table = read_latency_table(self._path)
        if table.conditions != self._conditions:
            raise InputError(
                f"{self._path} holds for {_describe(table.conditions)}, and {_describe(self._conditions)} is asked for",
                "Give another file",
                file=self._path,
            )
        return table


def _describe(conditions: Conditions) -> str:
    return f"{conditions.engine} in {conditions.precision} on {conditions.device} with {conditions.threads} threads"
