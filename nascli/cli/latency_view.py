"""Latencies in words, for tables and notes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nascli.units import UNITS, count_of, format_quantity

if TYPE_CHECKING:
    from nascli.models.latency import Latency


def format_latency(seconds: float) -> str:
    """Seconds in four digits: 3.142ms."""
    return format_quantity(seconds, UNITS["latency"])


def describe_spread(latency: "Latency") -> tuple[str, str]:
    """The figure; the median and the upper quartile."""
    return format_latency(latency.seconds), f"{format_latency(latency.median)}, {format_latency(latency.upper)}"


def describe_latencies(latencies: "Sequence[Latency]") -> str:
    """The conditions that figures hold for, and whether the machine was busy meanwhile, in one line."""
    first, *others = dict.fromkeys(each.conditions for each in latencies)
    conditions = first if not others else _join_conditions(latencies)
    least, most = (format_latency(choose(each.reference for each in latencies)) for choose in (min, max))
    return (
        f"latency: {conditions}; the lower quartile of passes on this machine (then median and upper quartile). The "
        f"reference network took {least} to {most}: more where the machine was busy"
    )


def _join_conditions(latencies: "Sequence[Latency]") -> str:
    """Several conditions in words: what differs is listed, what is the same is said once."""

    def list_values(key: str) -> str:
        return ", ".join(dict.fromkeys(str(getattr(each, key)) for each in latencies))

    threads = latencies[0].threads if latencies[0].device == "cpu" else None
    place = latencies[0].device if threads is None else count_of(threads, "thread")
    images = f"{list_values('batch')} images of {list_values('image_size')} px"
    return f"{images}, {list_values('engine')} in {list_values('precision')}, {place}"
