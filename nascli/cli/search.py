"""`nascli search`: find good architectures for a data set."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from nascli.cli.console import Terminal
from nascli.cli.data_notes import describe_images, note_images
from nascli.cli.options import (
    DEVICE,
    DRY_RUN,
    NEW_RUN,
    RESUME,
    Call,
    command,
    field_settings,
    place_run,
    runs_folder,
)
from nascli.cli.search_recipe import TARGETS, TRADE_OFF, read_search_recipe
from nascli.config import TABLE, SearchRecipe, find_evaluator, load_recipe, to_toml
from nascli.runs.find import find_run, read_run
from nascli.runs.folder import RunFolder
from nascli.runs.record import RECIPE_FILE, check_inputs, check_recipe_file, with_changes
from nascli.runs.start import create_run, resume_run
from nascli.units import format_duration, format_quantity

if TYPE_CHECKING:
    import torch

    from nascli.search.evaluators.proxy import ChildSetup
    from nascli.search.evaluators.tabular import TabularBenchmark
    from nascli.search.trial import Trial

KEYS = {
    "--dataset": "data.dataset",
    "--data-dir": "data.data_dir",
    "--val-split": "data.val_split",
    "--val-fraction": "data.val_fraction",
    "--strict": "data.strict",
    "--space": "space.name",
    "--strategy": "search.strategy",
    "--trials": "search.trials",
    "--evaluator": "search.evaluator",
    "--constraint": "search.constraints",
    "--workers": "search.workers",
    "--workers-per-gpu": "search.workers_per_gpu",
    "--executor": "search.executor",
    "--asynchronous": "search.asynchronous",
    "--epochs": "train.epochs",
    "--filters": "network.filters",
    "--width": "network.width",
    "--cells-per-stage": "network.cells_per_stage",
    "--latency-table": "latency.table",
    "--seed": "seed",
}


@command(
    "search",
    [*field_settings(SearchRecipe, KEYS), *TARGETS, TRADE_OFF, *NEW_RUN],
    examples=[
        "nascli search",
        "nascli search --space mnasnet --dataset digits",
        "nascli search --dataset cifar10 --trials 40 --dry-run",
        "nascli search --space mnasnet --target-latency 1ms --trade-off hard --trials 8",
        'nascli search --strategy evolution --space enas --constraint "params<20k" --trials 8 --out runs/search/mine',
        "nascli search --resume latest",
    ],
)
def run(call: Call) -> None:
    """Search for good architectures: propose, train small and short, learn from the result.

    Writes trials.jsonl, and best.json, top/NN.json and front/NN.json, which nascli train takes as --cell. Without
    --recipe the data set chooses one. The result does not depend on the number of workers, unless --asynchronous.
    """
    terminal = call.terminal()
    if call[RESUME]:
        more = "Leave them out, or start a new run; only --trials may be given, for a longer or a shorter search"
        call.refuse_with_resume({"--trials"}, more)
        _resume(terminal, str(call[RESUME]), call.keys(SearchRecipe).get("search.trials"))
        return
    recipe, path = read_search_recipe(call)
    if call[DRY_RUN]:
        _show_estimate(terminal, recipe, call[DEVICE])
    else:
        _begin(call, terminal, recipe, path)


def list_tables(recipe: SearchRecipe) -> list[Path]:
    """The files that rewards come from: a table of networks, a table of latencies."""
    evaluator = recipe.search.evaluator
    networks = [Path(evaluator.removeprefix(TABLE))] if evaluator.startswith(TABLE) else []
    return networks + ([Path(recipe.latency.table)] if recipe.latency.table else [])


def _begin(call: Call, terminal: Terminal, recipe: SearchRecipe, path: Path) -> None:
    from nascli.engine.device import describe_device, resolve_device, settle_precision
    from nascli.genotype.space import resolve_space
    from nascli.search.builders import build_child_setup, check_recipe, open_table, resolve_costs
    from nascli.search.study import search_name

    where = resolve_device(call[DEVICE])
    check_recipe(recipe, where)
    recipe = settle_precision(recipe, where)
    setup = build_child_setup(recipe, where)  # what is wrong with recipe or data is said before there is a folder
    if setup is not None:
        note_images(terminal, setup.data)
    space = resolve_space(recipe.space)
    table = open_table(recipe, space)
    with terminal.status("measuring what constraints and objective ask for"):
        recipe = resolve_costs(recipe, setup, space, terminal.note)
    folder = create_run(
        "search",
        search_name(recipe),
        recipe,
        **place_run(call),
        inputs=[path, *list_tables(recipe)],
        device=describe_device(where),
        asked={"device": str(where)},
        **(describe_images(setup.data) if setup else {}),
    )
    _search(terminal, folder, recipe, setup, table, where)


def _resume(terminal: Terminal, resume: str, trials: int | None) -> None:
    """Continue a run with the settings in its folder; only the number of trials may change."""
    from nascli.engine.device import resolve_device
    from nascli.genotype.space import resolve_space
    from nascli.search.builders import build_child_setup, open_table, resolve_costs
    from nascli.search.recorded import JOURNAL, MAY_CHANGE, check_trials

    path = find_run(resume, "search", runs_folder(), terminal.note)
    folder = resume_run(path, "search")
    with folder.released_on_error():
        record = read_run(path, "search")
        recipe = load_recipe(SearchRecipe, path / RECIPE_FILE)
        changes = check_recipe_file(SearchRecipe, record, path, MAY_CHANGE, terminal.note)
        before, total = recipe.search.trials, trials or recipe.search.trials
        check_inputs(record, path, list_tables(recipe))
        device = resolve_device(record["asked"].get("device") or "auto")
        with with_changes(changes):
            setup = build_child_setup(recipe, device)
            space = resolve_space(recipe.space)
            table = open_table(recipe, space)
            # refused where what they ask for does not work here
            resolve_costs(recipe, setup, space, terminal.note)
        if total != before:
            check_trials(path / JOURNAL, space, total)
            recipe = recipe.model_copy(update={"search": recipe.search.model_copy(update={"trials": total})})
            changed = [*(record.get("trials_changed") or []), {"from": before, "to": total}]
            values = recipe.model_dump(mode="json", exclude_none=True)
            folder.start({RECIPE_FILE: to_toml(recipe)}, recipe=values, trials_changed=changed)
    _search(terminal, folder, recipe, setup, table, device)


def _search(
    terminal: Terminal,
    folder: RunFolder,
    recipe: SearchRecipe,
    setup: "ChildSetup | None",
    table: "TabularBenchmark | None",
    device: "torch.device",
) -> None:
    import torch

    from nascli.cli.progress import show_steps
    from nascli.cli.search_view import watch
    from nascli.engine.device import find_emulated
    from nascli.search.builders import build_evaluators, build_executor, count_workers, needs_latency
    from nascli.search.evaluators.costs import build_meter
    from nascli.search.gpu_share import share_gpus
    from nascli.search.study import run_search
    from nascli.signals import stop_on_signals

    with folder, stop_on_signals() as stop:
        terminal.note(f"run {folder.path}")
        for sentence in find_emulated(recipe, device):
            terminal.note(sentence)
        if setup and needs_latency(recipe):
            terminal.note(f"latency: {build_meter(recipe, setup).describe()}")
        with show_steps(terminal, "supernet") as progress:
            evaluators = build_evaluators(
                recipe, setup, table, folder.path, stop=stop, progress=progress, log=terminal.note
            )
        share = share_gpus(recipe, setup, device)
        for sentence in share.describe():
            terminal.note(sentence)
        settled = share.settle(recipe.search)
        torch.set_num_threads(1)  # the controller is small, and the cores are the workers'
        ranking = evaluators.trainer if recipe.rerank.top else None
        with watch(terminal, _title(recipe, count_workers(settled, device)), recipe) as view:
            trials = run_search(
                folder,
                recipe,
                build_executor(evaluators.scorer, settled, device),
                ranking=build_executor(ranking, settled, device) if ranking else None,
                stop=stop,
                observer=view,
            )
    _show_results(terminal, folder.path, recipe, trials)


def _title(recipe: SearchRecipe, workers: int) -> str:
    from nascli.cli.search_view import name_source

    return (
        f"{name_source(recipe)} · {recipe.search.strategy} · space {recipe.space.name} · "
        f"{workers} worker{'s' * (workers > 1)} · seed {recipe.seed}"
    )


def _show_results(terminal: Terminal, path: Path, recipe: SearchRecipe, trials: list["Trial"]) -> None:
    from nascli.cli.latency_view import describe_latencies
    from nascli.cli.search_view import show_best
    from nascli.genotype.space import resolve_space
    from nascli.search.objective import find_objective
    from nascli.search.recommend import recommend

    results = read_run(path)["results"]
    show_best(terminal, recommend(trials, resolve_space(recipe.space), find_objective(recipe)), len(trials), recipe)
    if latencies := [trial.latency for trial in trials if trial.latency]:  # those of rejected cells, too
        terminal.note(describe_latencies(latencies))
    terminal.show(
        f"\n{results['trained']} scored, {results['duplicates']} duplicates, {results['rejected']} rejected, "
        f"{results['failed']} failed, in {format_duration(results['seconds'])}; mean reward "
        f"{results['reward_mean']:.4f}, standard deviation {results['reward_std']:.4f}"
    )
    terminal.show(f"The reward is {results['reward_is']}. {find_evaluator(recipe.search.evaluator).caution}")
    terminal.show(f"best genotype: {path / 'best.json'}")
    if len(results["front"]) > 1:
        terminal.show(
            f"front: {len(results['front'])} networks that no other beats in accuracy and "
            f"{results['cost_is'].replace('_', '-')}, "
            f"cheapest first: {path / 'front'}"
        )
    terminal.result({"run": str(path), "best_cell": str(path / "best.json"), **results})
    is_table = recipe.search.evaluator.startswith(TABLE)  # it does not say where its images are
    use = ["build", "--cell", path] if is_table else ["train", "--cell", path, "--dataset", recipe.data.dataset]
    terminal.next(["nascli", "decode", path], ["nascli", "report", path], ["nascli", *use])


def _show_estimate(terminal: Terminal, recipe: SearchRecipe, device: str) -> None:
    from nascli.engine.device import resolve_device, settle_precision
    from nascli.search.builders import check_recipe
    from nascli.search.estimate import estimate_search

    where = resolve_device(device)
    check_recipe(recipe, where)
    plan = estimate_search(settle_precision(recipe, where), where)
    steps = plan.children[0].steps
    sizes = ", ".join(f"{format_quantity(child.params)} params" for child in plan.children)
    rows = [
        ("strategy", f"{recipe.search.strategy} in space {recipe.space.name}"),
        ("trials", f"{plan.trials}, {plan.workers} at a time"),
        *([("reward", plan.reward_is)] if recipe.weighs_cost else []),
        ("two children measured", sizes),
        (
            "a child",
            f"{steps:,} steps ({recipe.train.epochs} × {steps // recipe.train.epochs:,}), about "
            f"{format_duration(plan.seconds_per_child)}",
        ),
        *([("a latency", f"{plan.seconds_per_latency:.1f} s to measure")] if plan.seconds_per_latency else []),
        ("memory", f"{plan.memory / 2**20:.0f} MiB per worker, {plan.workers * plan.memory / 2**30:.1f} GiB in all"),
        *([("ranking the best again", format_duration(plan.ranking_seconds))] if plan.ranking_seconds else []),
        ("estimated total", format_duration(plan.seconds)),
    ]
    terminal.show_table(f"plan on {recipe.data.dataset}; nothing was written", rows)
    terminal.result(
        {
            "dry_run": True,
            "dataset": recipe.data.dataset,
            "strategy": recipe.search.strategy,
            "hours": round(plan.seconds / 3600, 3),
            **asdict(plan),
        }
    )
    terminal.next("nascli search with the same options, without --dry-run")
