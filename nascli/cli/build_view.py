"""The tables of `nascli build`: cost cell by cell, the sizes around a target, the speed of each engine."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nascli.cli.console import Terminal
from nascli.cli.latency_view import describe_latencies, describe_spread
from nascli.units import count_of, format_quantity

if TYPE_CHECKING:
    from nascli.models.cost import Cost, LayerCost
    from nascli.models.deploy.timing import EngineTiming
    from nascli.models.scaling import SizeCost, SizeTable
    from nascli.models.spec import NetworkSpec


def show_layers(terminal: Terminal, spec: "NetworkSpec", layers: "Sequence[LayerCost]", cost: "Cost") -> None:
    """A table with a row for each cell, and the sums under it."""
    title = f"{spec.name}: {spec.size_text}, {count_of(spec.classes, 'class')}"
    rows = [
        (row.name, str(row.filters), "×".join(map(str, row.shape)), f"{row.params:,}", format_quantity(row.mult_adds))
        for row in layers
    ]
    terminal.show_table(title, rows, ("layer", "F", "output C×H×W", "params", "mult-adds"))
    auxiliary = cost.params_auxiliary
    terminal.show(
        f"\n{cost.params:,} params, {format_quantity(cost.mult_adds)} mult-adds at {cost.image_size}×{cost.image_size} "
        f"px{f'; auxiliary head {auxiliary:,} params more, in training only' if auxiliary else ''}"
    )


def show_sizes(terminal: Terminal, sizes: "SizeTable") -> None:
    """A table of the sizes around a target with the chosen one marked; how far that is off, on stderr."""
    chosen, target = sizes.chosen, sizes.target
    symbols = [chosen.knobs.symbols[key] for key in chosen.values]
    timed = chosen.latency is not None
    columns = (*reversed(symbols), "params", "mult-adds", *(["latency"] if timed else []), "off target", "")
    terminal.show_table(f"sizes around {target}", (_row(size, sizes) for size in sizes.sizes), columns)
    terminal.show("")
    terminal.note(f"{chosen.label}: {chosen.text(target.quantity)}, {_off(sizes.distance)} off the target of {target}")
    if not sizes.hit:
        width, *depth = symbols
        key, step = chosen.knobs.width, chosen.knobs.step
        steps = [f"{width} = {each.values[key]} has {each.text(target.quantity)}" for each in sizes.neighbors]
        others = {size.depth for size in sizes.sizes} != {chosen.depth}
        more = f". --{str(chosen.knobs.depth).replace('_', '-')} auto tries other {depth[0]}" if depth else ""
        terminal.note(
            f"{'no other size' if others or not depth else f'no size with {depth[0]} = {chosen.depth}'} is nearer; "
            f"the steps of {width} are {'whole' if step == 1 else step}: {', '.join(steps)}{'' if others else more}"
        )
    if chosen.latency:
        terminal.note(describe_latencies([size.latency for size in sizes.sizes if size.latency]))


def show_speed(terminal: Terminal, rows: "Sequence[EngineTiming]") -> None:
    """A table with a row per engine and batch; how it was measured, on stderr."""
    columns = ("engine", "batch", "latency", "median, upper quartile", "images/s", "difference")
    cells = [
        (
            row.latency.engine,
            str(row.latency.batch),
            *describe_spread(row.latency),
            f"{row.images_per_second:,.4g}",
            f"{row.difference:.1e}",
        )
        for row in rows
    ]
    layout, first = rows[0].layout, rows[0].latency
    terminal.show("")
    terminal.show_table(f"speed: {first.precision}, {layout}, {count_of(first.threads, 'thread')}", cells, columns)
    terminal.show("")
    terminal.note("difference: of a logit from the network's in float32, relative to the largest")
    terminal.note(describe_latencies([row.latency for row in rows]))


def _row(size: "SizeCost", sizes: "SizeTable") -> tuple[str, ...]:
    cells = [*map(str, reversed(size.values.values())), f"{size.params:,}", format_quantity(size.mult_adds)]
    cells += ["{} ({})".format(*describe_spread(size.latency))] if size.latency else []
    return (*cells, _off(sizes.target.distance(size)), "<- chosen" if size == sizes.chosen else "")


def _off(distance: float) -> str:
    return f"{distance * 100:+z.1f} %"
