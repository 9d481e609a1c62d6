"""`nascli latency`: a table of the latencies of all layers of a search space."""

from pathlib import Path

from nascli.cli.options import DEVICE, DRY_RUN, JSON, RECIPE, SET, Call, Setting, command, field_settings
from nascli.cli.search_recipe import TARGETS, TRADE_OFF, read_search_recipe
from nascli.config import SearchRecipe
from nascli.units import format_duration

FILE = Setting[Path]("file", "The table.", ..., metavar="FILE.json")
KEYS = {
    "--space": "space.name",
    "--dataset": "data.dataset",
    "--data-dir": "data.data_dir",
    "--width": "network.width",
}

_SECONDS = 0.25
"""Of one layer, about."""


@command(
    "latency",
    [FILE, *field_settings(SearchRecipe, KEYS), *TARGETS, TRADE_OFF, RECIPE, SET, DEVICE, DRY_RUN, JSON],
    examples=[
        "nascli latency layers.json --space mnasnet --dataset digits --dry-run",
        "nascli latency layers.json --space mnasnet --dataset cifar10 --set latency.precision=bfloat16",
    ],
)
def run(call: Call) -> None:
    """Measure the layers of a search space, once: a table that searches for a latency sum up.

    Options are those of the search, and so are the networks. With the table its latencies are the same each time, on
    any machine. Rows that FILE.json has are kept; stopped, the same command resumes. Let nothing else run meanwhile.
    --dry-run --json lists the keys of the layers, for a table that is measured elsewhere.
    """
    from nascli.cli.progress import show_measuring
    from nascli.engine.device import resolve_device
    from nascli.genotype.space import resolve_space
    from nascli.search.evaluators.costs import build_meter
    from nascli.search.evaluators.proxy import load_child_setup
    from nascli.search.latency_table import TableMaker
    from nascli.signals import stop_on_signals

    terminal = call.terminal()
    recipe, _ = read_search_recipe(call)
    recipe = recipe.model_copy(update={"latency": recipe.latency.model_copy(update={"table": None})})
    space = resolve_space(recipe.space)
    setup = load_child_setup(recipe, resolve_device(call[DEVICE]))
    meter = build_meter(recipe, setup).settle(space, terminal.note)
    path = call[FILE]
    maker = TableMaker(meter, space, path)
    about = {"file": str(path), "conditions": meter.describe(), "layers": maker.layers, "missing": maker.missing}
    rows = [("layers", f"{maker.layers:,}"), ("to measure", f"{maker.missing:,}"), ("for", meter.describe())]
    if call[DRY_RUN]:
        rows.append(("time", f"about {format_duration(_SECONDS * maker.missing)}"))
        terminal.show_table(f"layers of space {space.name}; nothing was written", rows)
        terminal.result({"dry_run": True, **about, "keys": maker.missing_keys})
        return
    with stop_on_signals() as stop, show_measuring(terminal, maker.missing) as on_layer:
        table = maker.measure(stop, on_layer)
    rows.append(("scale of the sums", f"{table.scale:.3f}"))
    terminal.show_table(f"layers of space {space.name}", rows)
    terminal.show(f"written: {path}")
    terminal.result({**about, "scale": table.scale, "reference": table.reference})
    terminal.next(["nascli", "search", "--space", space.name, "--latency-table", path, "--target-latency", "TIME"])
