"""`nascli search`: find good cells for a data set."""

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nascli.artifacts import RunFolder, create_run, find_run, read_run, resume_run, write_text
from nascli.cli.console import Terminal, count, duration, table
from nascli.cli.options import (
    DataDirOption,
    DeviceOption,
    DryRunOption,
    JsonOption,
    OutOption,
    OverwriteOption,
    RecipeOption,
    ResumeOption,
    SeedOption,
    SetOption,
    runs_folder,
)
from nascli.config import SearchRecipe, find_recipe, load_recipe, parse, to_toml
from nascli.errors import InputError

if TYPE_CHECKING:
    from nascli.search.evaluators import ProxyTraining
    from nascli.search.trial import Trial

NAME = "search"

DEFAULT_RECIPES = {"digits": "digits"}
"""The recipe of a data set, where the person gives none."""

OTHER_RECIPE = "cifar10-cpu"
"""The recipe of any other data set."""


def run(
    context: typer.Context,
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME", help="digits, cifar10, cifar100, imagenet or folder:PATH.")
    ] = None,
    recipe: RecipeOption = None,
    strategy: Annotated[Literal["ppo", "random"] | None, typer.Option(help="What proposes the cells.")] = None,
    trials: Annotated[int | None, typer.Option(help="Cells proposed in all; may grow with --resume.")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes, a thread each; 0 is one a core.")] = None,
    space: Annotated[str | None, typer.Option(metavar="NAME", help="Search space: nasnet, enas or darts.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Of a child's training.")] = None,
    filters: Annotated[int | None, typer.Option(help="F of a child network.")] = None,
    cells_per_stage: Annotated[int | None, typer.Option(help="N of a child network.")] = None,
    data_dir: DataDirOption = None,
    seed: SeedOption = None,
    assignments: SetOption = None,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    resume: ResumeOption = None,
    device: DeviceOption = "auto",
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Search for good cells: propose, train small and short, learn from the accuracy, propose better ones.

    Writes trials.jsonl, best.json and top/NN.json into the run folder, which nascli train takes as --cell. The data set
    chooses the recipe, if you give none. The result does not depend on the number of workers.

    Examples:

      nascli search

      nascli search --dataset cifar10 --trials 40 --dry-run

      nascli search --strategy random --space enas --trials 8 --out runs/search/mine

      nascli search --resume latest
    """
    terminal = Terminal(as_json=as_json)
    if resume:
        _refuse_with_resume(context)
        _resume(terminal, resume, trials)
        return
    flags = {
        "data.dataset": dataset,
        "search.strategy": strategy,
        "search.trials": trials,
        "search.workers": workers,
        "space": space and {"name": space},
        "train.epochs": epochs,
        "network.filters": filters,
        "network.cells_per_stage": cells_per_stage,
        "data.data_dir": data_dir,
        "seed": seed,
    }
    name = recipe or DEFAULT_RECIPES.get(dataset or "digits", OTHER_RECIPE)
    if not recipe:
        terminal.note(f"recipe {name} (another with --recipe)")
    path = find_recipe(NAME, name)
    resolved = load_recipe(SearchRecipe, path, flags, assignments or [])
    if dry_run:
        _show_estimate(terminal, resolved, device)
    else:
        _begin(terminal, resolved, device, path, out, overwrite)


def _begin(
    terminal: Terminal, recipe: SearchRecipe, device: str, path: Path, out: Path | None, overwrite: bool
) -> None:
    from nascli.search.evaluators import proxy_training
    from nascli.search.session import run_name
    from nascli.training.runtime import resolve_device

    where = resolve_device(device)
    evaluator = proxy_training(recipe, where)  # what is wrong with recipe or data is said before there is a folder
    asked = {"device": str(where)}
    folder = create_run(
        NAME, run_name(recipe), recipe, runs=runs_folder(), out=out, overwrite=overwrite, inputs=[path], asked=asked
    )
    _search(terminal, folder, recipe, evaluator)


def _resume(terminal: Terminal, resume: str, trials: int | None) -> None:
    """Go on with the run as its folder has it; only the number of trials may have grown."""
    from nascli.search.evaluators import proxy_training
    from nascli.training.runtime import resolve_device

    path = find_run(resume, NAME, runs_folder())
    record = read_run(path, NAME)
    recipe = parse(SearchRecipe, record.get("recipe"), str(path / "run.json"))
    before, total = recipe.search.trials, trials or recipe.search.trials
    if total < before:
        raise InputError(
            f"--trials {total}: {path} is a search of {before} trials, and that can only grow",
            f"Give {before} or more, or leave --trials out",
        )
    evaluator = proxy_training(recipe, resolve_device(str(record.get("asked", {}).get("device", "auto"))))
    folder = resume_run(path, NAME)
    if total > before:
        recipe = recipe.model_copy(update={"search": recipe.search.model_copy(update={"trials": total})})
        write_text(path / "recipe.toml", to_toml(recipe))
        grown = [*record.get("grown", []), {"from": before, "to": total}]
        folder.update(recipe=recipe.model_dump(mode="json", exclude_none=True), grown=grown)
    _search(terminal, folder, recipe, evaluator)


def _refuse_with_resume(context: typer.Context) -> None:
    allowed = {"resume", "trials", "as_json"}
    given = [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name not in allowed and _is_given(context, parameter.name or "")
    ]
    if given:
        raise InputError(
            f"--resume goes on with everything as the run folder has it; it excludes {', '.join(given)}",
            "Leave them out, or start a new run; only --trials may be given, to make the search longer",
        )


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _search(terminal: Terminal, folder: RunFolder, recipe: SearchRecipe, evaluator: "ProxyTraining") -> None:
    import torch

    from nascli.cli.search_view import watch
    from nascli.search.executors import LocalWorkers
    from nascli.search.session import count_workers, run_search
    from nascli.training.interrupts import stop_on_signals

    torch.set_num_threads(1)  # the controller is small, and the cores are the workers'
    terminal.note(f"run {folder.path}")
    workers = count_workers(recipe, evaluator.device)
    title = (
        f"{recipe.data.dataset} · {recipe.search.strategy} · space {recipe.space.name} · "
        f"{workers} worker{'s' * (workers > 1)} · seed {recipe.seed}"
    )
    with folder, stop_on_signals() as stop:
        executor = LocalWorkers(evaluator, workers=workers, retries=recipe.search.retries)
        with watch(terminal, title, recipe.search.trials) as view:
            trials = run_search(folder, recipe, executor, stop=stop, observer=view)
    _show_results(terminal, folder.path, recipe, trials)


def _show_results(terminal: Terminal, path: Path, recipe: SearchRecipe, trials: list["Trial"]) -> None:
    from nascli.cli.search_view import COLUMNS, percent, row
    from nascli.search.session import best_trials

    results = read_run(path)["results"]
    top = best_trials(trials, recipe.search.top)
    terminal.show(
        table(
            f"best cells of {len(trials)} trials on {recipe.data.dataset}",
            (*COLUMNS, "file"),
            [(*row(trial), f"top/{place:02d}.json") for place, trial in enumerate(top, start=1)],
        )
    )
    terminal.show(
        f"\n{results['trained']} trained, {results['repeats']} repeats, {results['failed']} failed, in "
        f"{duration(results['seconds'])}; mean proxy accuracy {percent(results['reward_mean'])}, standard deviation "
        f"{percent(results['reward_std'])}\n"
        "Proxy accuracy is that of a small network on held-out training images after a short training. It ranks\n"
        "cells; it is not the final accuracy, which nascli train measures on the test split."
    )
    terminal.show(f"best cell: {path / 'best.json'}")
    terminal.result({"run": str(path), "best_cell": str(path / "best.json"), **results})
    cell = shlex.quote(str(path))
    terminal.next(
        f"nascli decode {cell}",
        f"nascli train --cell {cell} --dataset {shlex.quote(recipe.data.dataset)}",
    )


def _show_estimate(terminal: Terminal, recipe: SearchRecipe, device: str) -> None:
    from nascli.cli.search_view import brief
    from nascli.search.estimate import estimate_search
    from nascli.training.runtime import resolve_device

    plan = estimate_search(recipe, resolve_device(device))
    steps = plan.children[0].steps
    sizes = ", ".join(f"{count(child.params)} params" for child in plan.children)
    rows = [
        ("strategy", f"{recipe.search.strategy} in space {recipe.space.name}"),
        ("trials", f"{plan.trials}, {plan.workers} at a time"),
        ("two children measured", sizes),
        (
            "a child",
            f"{steps:,} steps ({recipe.train.epochs} × {steps // recipe.train.epochs:,}), about "
            f"{brief(plan.seconds_per_child)}",
        ),
        ("memory", f"{plan.memory / 2**20:.0f} MiB a worker, {plan.workers * plan.memory / 2**30:.1f} GiB in all"),
        ("estimated total", duration(plan.seconds)),
    ]
    terminal.show(table(f"plan on {recipe.data.dataset}; nothing was written", ("", ""), rows))
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
