"""Latencies in words, for tables and notes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nascli.models.latency import describe_conditions
from nascli.units import UNITS, format_quantity

if TYPE_CHECKING:
    from nascli.models.latency import Latency


def format_latency(seconds: float) -> str:
    """Seconds in four digits: 3.142ms."""
    return format_quantity(seconds, UNITS["latency"])


def describe_spread(latency: "Latency") -> tuple[str, str]:
    """The figure; the median and the upper quartile."""
    return format_latency(latency.seconds), f"{format_latency(latency.median)}, {format_latency(latency.upper)}"


def describe_latencies(latencies: "Sequence[Latency]") -> str:
    """The conditions that figures hold for, and whether the machine was busy meanwhile, in one line.

    Args:
        latencies: On one device, with the same threads and size of images; what else differs is listed.
    """
    first = latencies[0]
    if first.is_tabled:
        return f"latency: {first.conditions}"
    engines, precisions, batches = (
        list(dict.fromkeys(getattr(each, key) for each in latencies)) for key in ("engine", "precision", "batch")
    )
    conditions = describe_conditions(
        ", ".join(engines),
        ", ".join(precisions),
        first.device,
        first.threads,
        first.image_size,
        batches[0] if len(batches) == 1 else ", ".join(map(str, batches)),
    )
    if not any(each.repeats for each in latencies):
        return f"latency: {conditions}; the sums of a table of layers"
    spans = []
    for engine in engines:  # in each, the reference has a time of its own
        times = [each.reference for each in latencies if each.engine == engine]
        span = f"{format_latency(min(times))} to {format_latency(max(times))}"
        spans.append(span if len(engines) == 1 else f"{span} in {engine}")
    return (
        f"latency: {conditions}; the lower quartile of passes on this machine (then median and upper quartile). The "
        f"reference network took {', '.join(spans)}: more where the machine was busy"
    )
