"""`nascli search`: find good cells for a data set."""

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

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
from nascli.cli.progress import steps_shown
from nascli.config import SearchRecipe, find_recipe, load_recipe, parse, to_toml
from nascli.errors import InputError
from nascli.files import write_text
from nascli.runs import RunFolder, create_run, find_run, read_run, resume_run

if TYPE_CHECKING:
    import torch

    from nascli.search.evaluators.proxy import ProxyTask
    from nascli.search.trial import Trial

NAME = "search"

DEFAULT_RECIPES = {"digits": "digits"}
"""The recipe of a data set, where the person gives none."""

OTHER_RECIPE = "cifar10-cpu"
"""The recipe of any other data set."""


def run(
    context: typer.Context,
    dataset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="digits, cifar10, cifar100, imagenet, folder:PATH or pack:FILE.h5."),
    ] = None,
    recipe: RecipeOption = None,
    strategy: Annotated[
        str | None,
        typer.Option(help="What proposes the cells."),
    ] = None,
    trials: Annotated[int | None, typer.Option(help="Cells proposed in all; may grow with --resume.")] = None,
    evaluator: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What scores a cell: proxy (a training), one_shot (weights inherited from a supernet), table:FILE, or "
            "a score without training: params, mult_adds, naswot, grad_norm.",
        ),
    ] = None,
    constraints: Annotated[
        list[str] | None,
        typer.Option(
            "--constraint",
            metavar="TEXT",
            help='What a cell must satisfy before it is trained: "params<6M", "mult_adds<600M", "latency<20ms", or '
            '"naswot>50%", better than half of random cells. Repeat for more.',
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Worker processes, a thread each; 0 is one a core or GPU slot.")
    ] = None,
    workers_per_gpu: Annotated[int | None, typer.Option(help="Worker processes that share a GPU.")] = None,
    executor: Annotated[
        Literal["local", "ray"] | None, typer.Option(help="Processes of this machine, or a Ray cluster's.")
    ] = None,
    asynchronous: Annotated[
        bool, typer.Option("--asynchronous", help="Never wait for a batch: faster, but not repeatable.")
    ] = False,
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
    chooses the recipe, if you give none. The result does not depend on the number of workers, unless --asynchronous.

    Examples:

      nascli search

      nascli search --dataset cifar10 --trials 40 --dry-run

      nascli search --strategy evolution --space enas --constraint "params<20k" --trials 8 --out runs/search/mine

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
        "search.evaluator": evaluator,
        "search.constraints": constraints or None,
        "search.workers": workers,
        "search.workers_per_gpu": workers_per_gpu,
        "search.executor": executor,
        "search.asynchronous": asynchronous or None,
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
    from nascli.engine.device import resolve_device
    from nascli.genotype.space import resolve_space
    from nascli.search.builders import build_proxy_task, check_recipe, open_table, resolve_constraints
    from nascli.search.study import search_name

    where = resolve_device(device)
    check_recipe(recipe)
    proxy = build_proxy_task(recipe, where)  # what is wrong with recipe or data is said before there is a folder
    space = resolve_space(recipe.space)
    open_table(recipe.search, space)
    recipe = resolve_constraints(recipe, proxy, space)
    asked = {"device": str(where)}
    folder = create_run(
        NAME, search_name(recipe), recipe, runs=runs_folder(), out=out, overwrite=overwrite, inputs=[path], asked=asked
    )
    _search(terminal, folder, recipe, proxy, where)


def _resume(terminal: Terminal, resume: str, trials: int | None) -> None:
    """Go on with the run as its folder has it; only the number of trials may have grown."""
    from nascli.engine.device import resolve_device
    from nascli.search.builders import build_proxy_task

    path = find_run(resume, NAME, runs_folder())
    record = read_run(path, NAME)
    recipe = parse(SearchRecipe, record.get("recipe"), str(path / "run.json"))
    before, total = recipe.search.trials, trials or recipe.search.trials
    if total < before:
        raise InputError(
            f"--trials {total}: {path} is a search of {before} trials, and that can only grow",
            f"Give {before} or more, or leave --trials out",
        )
    device = resolve_device(str(record.get("asked", {}).get("device", "auto")))
    proxy = build_proxy_task(recipe, device)
    folder = resume_run(path, NAME)
    if total > before:
        recipe = recipe.model_copy(update={"search": recipe.search.model_copy(update={"trials": total})})
        write_text(path / "recipe.toml", to_toml(recipe))
        grown = [*record.get("grown", []), {"from": before, "to": total}]
        folder.update(recipe=recipe.model_dump(mode="json", exclude_none=True), grown=grown)
    _search(terminal, folder, recipe, proxy, device)


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


def _search(
    terminal: Terminal, folder: RunFolder, recipe: SearchRecipe, proxy: "ProxyTask | None", device: "torch.device"
) -> None:
    import torch

    from nascli.cli.search_view import watch
    from nascli.genotype.space import resolve_space
    from nascli.search.builders import build_evaluators, build_executor, count_workers
    from nascli.search.study import run_search
    from nascli.signals import stop_on_signals

    terminal.note(f"run {folder.path}")
    space = resolve_space(recipe.space)
    with folder, stop_on_signals() as stop:
        with steps_shown(terminal, "supernet") as progress:
            evaluators = build_evaluators(recipe, proxy, space, folder.path, stop=stop, progress=progress)
        torch.set_num_threads(1)  # the controller is small, and the cores are the workers'
        ranking = evaluators.trainer if recipe.rerank.top else None
        with watch(terminal, _title(recipe, count_workers(recipe.search, device)), recipe.search.trials) as view:
            trials = run_search(
                folder,
                recipe,
                build_executor(evaluators.scorer, recipe.search, device),
                ranking=build_executor(ranking, recipe.search, device) if ranking else None,
                stop=stop,
                observer=view,
            )
    _show_results(terminal, folder.path, recipe, trials)


def _title(recipe: SearchRecipe, workers: int) -> str:
    search = recipe.search
    source = recipe.data.dataset if search.evaluator == "proxy" else search.evaluator
    return (
        f"{source} · {search.strategy} · space {recipe.space.name} · {workers} worker{'s' * (workers > 1)} · "
        f"seed {recipe.seed}"
    )


def _show_results(terminal: Terminal, path: Path, recipe: SearchRecipe, trials: list["Trial"]) -> None:
    from nascli.cli.search_view import result_table
    from nascli.search.study import best_trials

    results = read_run(path)["results"]
    terminal.show(result_table(best_trials(trials, recipe.search.top), len(trials), recipe))
    terminal.show(
        f"\n{results['trained']} scored, {results['duplicates']} duplicates, {results['rejected']} rejected, "
        f"{results['failed']} failed, in {duration(results['seconds'])}; mean reward "
        f"{results['reward_mean']:.4f}, standard deviation {results['reward_std']:.4f}"
    )
    terminal.show(f"The reward is {results['reward_is']}. {_MEANING.get(recipe.search.evaluator, _NO_TRAINING)}")
    terminal.show(f"best cell: {path / 'best.json'}")
    terminal.result({"run": str(path), "best_cell": str(path / "best.json"), **results})
    cell = shlex.quote(str(path))
    terminal.next(
        f"nascli decode {cell}",
        f"nascli report {cell}",
        f"nascli train --cell {cell} --dataset {shlex.quote(recipe.data.dataset)}",
    )


_MEANING = {
    "proxy": "It is that of a small network on held-out training images\nafter a short training. It ranks cells; it is "
    "not the final accuracy, which nascli train measures on the test split.",
    "one_shot": "It is that of a network on held-out training images\nthat was never trained alone. It ranks cells "
    "roughly; nascli train measures the final accuracy on the test split.",
}
_NO_TRAINING = "Nothing was trained for it; nascli train measures the final accuracy of a cell."


def _show_estimate(terminal: Terminal, recipe: SearchRecipe, device: str) -> None:
    from nascli.cli.search_view import brief
    from nascli.engine.device import resolve_device
    from nascli.search.builders import check_recipe
    from nascli.search.estimate import estimate_search

    check_recipe(recipe)
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
        *([("ranking the best again", duration(plan.ranking_seconds))] if plan.ranking_seconds else []),
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
