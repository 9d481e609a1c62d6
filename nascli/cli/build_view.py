"""What build shows: the cost of a network cell by cell, the sizes around a target, the speed of its engines."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nascli.cli.console import Terminal, count, table
from nascli.models.spec import NetworkSpec
from nascli.units import UNITS, format_quantity

if TYPE_CHECKING:
    from nascli.models.cost import Cost, LayerCost
    from nascli.models.deploy.engines import EngineTiming
    from nascli.models.latency import Latency
    from nascli.models.scaling import Ladder, Rung


def show_layers(terminal: Terminal, spec: NetworkSpec, layers: "Sequence[LayerCost]", cost: "Cost") -> None:
    """A table with a row for each cell, and the sums under it."""
    title = f"{spec.name}: {spec.size_text}, {spec.classes} classes"
    rows = [
        (row.name, str(row.filters), "×".join(map(str, row.shape)), f"{row.params:,}", count(row.mult_adds))
        for row in layers
    ]
    terminal.show(table(title, ("layer", "F", "output C×H×W", "params", "mult-adds"), rows))
    terminal.show(
        f"\n[bold]{cost.params:,}[/] params, [bold]{count(cost.mult_adds)}[/] mult-adds at {cost.image_size}×"
        f"{cost.image_size} px; auxiliary head {cost.params_auxiliary:,} params more, in training only"
    )


def show_ladder(terminal: Terminal, ladder: "Ladder") -> None:
    """A table of the sizes around a target with the chosen one marked; how far that is off, on stderr."""
    timed = ladder.chosen.latency is not None
    columns = ("N", "F", "params", "mult-adds", *(["latency"] if timed else []), "off target", "")
    terminal.show(table(f"sizes around {ladder.target}", columns, [_row(rung, ladder) for rung in ladder.rungs]))
    terminal.show("")
    chosen = ladder.chosen
    size = f"F = {chosen.filters}, N = {chosen.cells_per_stage}: {chosen.text(ladder.target.quantity)}"
    terminal.note(f"{size}, {_off(ladder.distance)} off the target of {ladder.target}")
    if not ladder.hit:
        steps = [f"F = {each.filters} has {each.text(ladder.target.quantity)}" for each in ladder.neighbours]
        others = {rung.cells_per_stage for rung in ladder.rungs} != {chosen.cells_per_stage}
        terminal.note(
            f"{'no N has a size that' if others else f'no size with N = {chosen.cells_per_stage}'} is nearer; "
            f"the steps of F are whole: {', '.join(steps)}{'' if others else '. --cells-per-stage auto tries other N'}"
        )
    if chosen.latency:
        terminal.note(_conditions(chosen.latency))


def show_speed(terminal: Terminal, rows: "Sequence[EngineTiming]") -> None:
    """A table with a row per engine and batch; how it was measured, on stderr."""
    columns = ("engine", "batch", "latency", "quartiles", "images/s", "difference")
    cells = [
        (
            row.engine,
            str(row.latency.batch),
            *_spread(row.latency),
            f"{row.images_per_second:,.4g}",
            f"{row.difference:.1e}",
        )
        for row in rows
    ]
    first = rows[0]
    terminal.show("")
    terminal.show(table(f"speed: {first.precision}, {first.layout}, {_threads(first.latency)}", columns, cells))
    terminal.show("")
    terminal.note(
        f"speed: the median of {first.latency.repeats} runs on this machine, and the quartiles; difference: of a "
        "logit from the network's in float32, relative to the largest"
    )


def _row(rung: "Rung", ladder: "Ladder") -> tuple[str, ...]:
    cells = [str(rung.cells_per_stage), str(rung.filters), f"{rung.params:,}", count(rung.mult_adds)]
    cells += ["{} ({})".format(*_spread(rung.latency))] if rung.latency else []
    return (*cells, _off(ladder.target.distance(rung)), "<- chosen" if rung == ladder.chosen else "")


def _off(distance: float) -> str:
    return f"{distance * 100:+z.1f} %"


def _spread(latency: "Latency") -> tuple[str, str]:
    """The median, and the quartiles."""
    median, lower, upper = (
        format_quantity(each, UNITS["latency"]) for each in (latency.seconds, latency.lower, latency.upper)
    )
    return median, f"{lower} to {upper}"


def _conditions(latency: "Latency") -> str:
    return (
        f"latency: one image on this machine's CPU with {_threads(latency)}, float32; the median of "
        f"{latency.repeats} runs, and the quartiles. It changes a little from call to call"
    )


def _threads(latency: "Latency") -> str:
    return "1 thread" if latency.threads == 1 else f"{latency.threads} threads"
