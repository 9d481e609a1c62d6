"""`nascli train`: a cell, built at one size, trained on a data set."""

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nascli.artifacts import RunFolder, create_run, find_run, read_run, resume_run
from nascli.cli.console import Terminal, count, duration, table
from nascli.cli.options import (
    CellOption,
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
    find_cell,
    option_name,
    run_name,
    runs_folder,
)
from nascli.cli.progress import TrainProgress
from nascli.config import NetworkConfig, Preset, TrainRecipe, find_recipe, load_recipe
from nascli.errors import InputError

if TYPE_CHECKING:
    from nascli.training.job import TrainJob

NAME = "train"

DEFAULT_RECIPES = {"digits": "digits", "cifar10": "cifar10", "imagenet": "imagenet-mobile"}
"""The recipe of a data set, where the person gives none."""

Flags = dict[str, object]


def run(
    cell: CellOption = None,
    dataset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="digits, cifar10, cifar100, imagenet, folder:PATH or pack:FILE.h5."),
    ] = None,
    recipe: RecipeOption = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images an optimizer step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    preset: Annotated[Preset | None, typer.Option(help="Published sizes instead of the recipe's.")] = None,
    filters: Annotated[int | None, typer.Option(help="F: filters of an op in the first stage.")] = None,
    cells_per_stage: Annotated[int | None, typer.Option(help="N: normal cells in each of the three stages.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Height and width of the input in pixels.")] = None,
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
    """Train a network of a cell to the end and measure it.

    The cell is a genotype file, a search run, a zoo name, or a network.json, whose macro numbers are used then.
    Where --recipe is left out, the data set chooses one. Weights are averaged if the recipe says so.

    Examples:

      nascli train --cell nasnet-a --dataset digits

      nascli train --cell runs/search/latest --dataset cifar10 --recipe cifar10-cpu --dry-run

      nascli train --resume latest
    """
    terminal = Terminal(as_json=as_json)
    flags: Flags = {
        "data.dataset": dataset,
        "data.data_dir": data_dir,
        "train.epochs": epochs,
        "train.batch_size": batch_size,
        "train.lr": lr,
        "network.preset": preset,
        "network.filters": filters,
        "network.cells_per_stage": cells_per_stage,
        "network.image_size": image_size,
        "seed": seed,
    }
    options = {option_name(key): value for key, value in flags.items()}
    if resume:
        others = {"--cell": cell, "--recipe": recipe, "--set": assignments or None, "--out": out}
        _refuse_with_resume(options | others | {"--overwrite": overwrite, "--dry-run": dry_run})
        folder, job = _resume(resume, data_dir, device)
    else:
        job, files = _prepare(terminal, cell, recipe, flags, assignments or [], device)
        if dry_run:
            _show_estimate(terminal, job)
            terminal.next(_command({"--cell": cell, "--recipe": recipe, "--out": out} | options, assignments or []))
            return
        folder = create_run(
            NAME,
            run_name(job.data.name, job.spec.genotype.name),
            job.recipe,
            runs=runs_folder(),
            out=out,
            overwrite=overwrite,
            inputs=files,
            asked={"cell": cell, "recipe": recipe, "device": device},
        )
    _train(terminal, folder, job)


def _prepare(
    terminal: Terminal, cell: str | None, recipe: str | None, flags: Flags, assignments: list[str], device: str
) -> tuple["TrainJob", list[Path]]:
    """The job that the options ask for, and the files it was made from."""
    from nascli.training.job import open_cell, prepare_job
    from nascli.training.runtime import resolve_device

    if cell is None:
        raise InputError("--cell is missing", "Give a genotype file, a search run, or a zoo name such as nasnet-a")
    source = open_cell(find_cell(cell, terminal.note))
    name = recipe or DEFAULT_RECIPES.get(str(flags["data.dataset"] or "digits"))
    if name and not recipe:
        terminal.note(f"recipe {name} (another with --recipe)")
    path = find_recipe(NAME, name) if name else None
    numbers = _preset_numbers(flags["network.preset"], source.numbers)
    given = {key: value for key, value in flags.items() if value is not None}
    resolved = load_recipe(TrainRecipe, path, numbers | given, assignments)
    job = prepare_job(resolved, source.genotype, resolve_device(device))
    return job, [file for file in (source.file, path) if file]


def _preset_numbers(preset: object, numbers: Flags) -> Flags:
    """Macro numbers that stand above the recipe's: those of `--preset`, or of a network.json."""
    from nascli.models.spec import PRESETS

    if preset is None:
        return numbers
    if numbers:
        raise InputError("--preset and a network.json exclude each other", "The file holds every macro number")
    names = set(NetworkConfig.model_fields) - {"image_size"}
    published = PRESETS[str(preset)].model_dump(exclude_none=True, include=names)
    return {f"network.{name}": value for name, value in published.items()}


def _resume(resume: str, data_dir: str | None, device: str) -> tuple[RunFolder, "TrainJob"]:
    from nascli.training.job import reopen_job
    from nascli.training.runtime import resolve_device

    path = find_run(resume, NAME, runs_folder())
    read_run(path, NAME)
    job = reopen_job(path, data_dir, resolve_device(device))
    return resume_run(path, NAME), job


def _refuse_with_resume(options: Flags) -> None:
    surplus = [
        name for name, value in options.items() if value is not None and value is not False and name != "--data-dir"
    ]
    if surplus:
        raise InputError(
            f"--resume goes on with everything as the run folder has it; it excludes {', '.join(surplus)}",
            "Leave them out, or start a new run",
        )


def _command(options: Flags, assignments: list[str]) -> str:
    """The command line with these options."""
    words = ["nascli", NAME]
    for name, value in options.items():
        words += [] if value is None else [name, str(value)]
    for text in assignments:
        words += ["--set", text]
    return shlex.join(words)


def _train(terminal: Terminal, folder: RunFolder, job: "TrainJob") -> None:
    from nascli.training.interrupts import stop_on_signals
    from nascli.training.job import run_job
    from nascli.training.loop import Plan

    terminal.note(f"run {folder.path}")
    config = job.recipe.train
    plan = Plan.of(job.data, config, job.recipe.data, job.recipe.seed, job.device)
    if config.base_batch:
        terminal.note(
            f"learning rate {config.lr:g} for {config.base_batch} images a step: {plan.peak_lr:g} for {plan.batch_size}"
        )
    progress = TrainProgress(terminal, epochs=config.epochs, steps=plan.steps, batch_size=plan.batch_size)
    with folder, stop_on_signals() as stop, progress:
        results = run_job(
            job, folder.path, on_epoch=progress.on_epoch, on_step=progress.on_step, note=terminal.note, stop=stop
        )
        folder.update(results=results)
    rows = [
        ("top-1", f"{results['top1']:.2%}"),
        ("top-5", f"{results['top5']:.2%}"),
        ("test loss", f"{results['loss']:.4f}"),
        ("test images", f"{results['images']:,}"),
        ("params", f"{results['params']:,}"),
        (f"mult-adds at {results['image_size']} px", count(results["mult_adds"])),
        ("time", duration(results["seconds"])),
    ]
    terminal.show(table(f"{results['cell']} on {results['dataset']}: final", ("", ""), rows))
    terminal.show(f"\nweights: {folder.path / 'weights.safetensors'}")
    terminal.result({"run": str(folder.path), **results})
    terminal.next(f"nascli evaluate {folder.path}", f"nascli detect --backbone {folder.path}")


def _show_estimate(terminal: Terminal, job: "TrainJob") -> None:
    from nascli.training.estimate import estimate_job

    plan = estimate_job(job)
    rows = [
        ("network", f"{job.spec.genotype.name}, N = {job.spec.cells_per_stage}, F = {job.spec.filters}"),
        ("params", f"{plan.params:,}"),
        (f"mult-adds at {plan.image_size} px", count(plan.mult_adds)),
        ("images", f"{plan.train_images:,} to train on, {plan.test_images:,} to test on"),
        ("steps", f"{plan.steps:,} in {plan.epochs} epochs"),
        ("a step", f"{plan.seconds_per_step * 1000:.0f} ms"),
        ("memory of a step", f"{plan.memory / 2**20:,.1f} MiB"),
        ("estimated total", duration(plan.seconds)),
    ]
    terminal.show(table(f"plan on {job.data.name}; nothing was written", ("", ""), rows))
    terminal.result({"dry_run": True, "dataset": job.data.name, "cell": job.spec.genotype.name, **asdict(plan)})
