"""The latency of a network, as it is said and stored: the figure, its spread, and what it holds for. No torch."""

from collections.abc import Mapping

from nascli.config import Section
from nascli.errors import RejectedError
from nascli.units import count_of

Key = Mapping[str, str | int | float]
"""The plain values that a layer's time depends on."""


class Latency(Section):
    """Seconds of one forward pass: the lower quartile of many, since other work on the machine only adds to them.

    Args:
        seconds: The lower quartile.
        median, upper: The other two quartiles.
        reference: The lower quartile of a small network that never changes, timed in turn with this one: where it is
            higher than beside other figures, the machine was busy.
        engine: What answered, and with how many CPU `threads`.
        image_size: H and W.
        batch: N.
        repeats: Timed passes; 0 of a sum from a table.
    """

    seconds: float
    median: float
    upper: float
    reference: float
    engine: str
    precision: str
    device: str
    threads: int
    image_size: int
    batch: int
    repeats: int

    @property
    def is_tabled(self) -> bool:
        """Whether it stood in a table of networks."""
        return self.device == _TABLED

    @property
    def conditions(self) -> str:
        """Those that the figure holds for, in words."""
        if self.is_tabled:
            return f"{self.engine}, from the table"
        return describe_conditions(self.engine, self.precision, self.device, self.threads, self.image_size, self.batch)


_TABLED = "table"
"""In place of the device where a table has a latency and not what it holds for."""


def latency_of_table(seconds: float, source: str) -> Latency:
    """A latency that stands in a table of networks; of what it holds for the name of its column is known."""
    same = {"seconds": seconds, "median": seconds, "upper": seconds, "reference": 0.0}
    where = {"engine": source, "precision": "unknown", "device": _TABLED, "threads": 0, "image_size": 0}
    return Latency(**same, **where, batch=1, repeats=0)


def describe_conditions(
    engine: str, precision: str, device: str, threads: int, image_size: int, batch: int | str = 1
) -> str:
    """The conditions of one latency in words, or of several that are listed; `threads` are those of a CPU."""
    images = count_of(batch, "image") if isinstance(batch, int) else f"{batch} images"
    place = count_of(threads, "thread") if device == "cpu" else device
    return f"{images} of {image_size}×{image_size} px, {engine} in {precision}, {place}"


class LatencyRejectedError(RejectedError):
    """A genotype violates a constraint on its latency, which was measured."""

    def __init__(self, message: str, latency: Latency) -> None:
        super().__init__(message)
        self.latency = latency
