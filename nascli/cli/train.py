"""`nascli train`: a cell, built at one size, trained on a data set."""

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
    option_name,
    run_name,
    runs_folder,
)
from nascli.cli.processes import GpusOption, note_shares, refuse_several, together, use_gpus, words_of
from nascli.cli.progress import TrainProgress, Watchers
from nascli.config import Preset, TrainRecipe, find_recipe, load_recipe
from nascli.errors import InputError
from nascli.genotype.resolve import find_cell
from nascli.runs import RunFolder, create_run, find_run, read_run, resume_run

if TYPE_CHECKING:
    from nascli.classify.job import TrainJob
    from nascli.engine.dist import DistContext
    from nascli.engine.task import TrainPlan
    from nascli.engine.tensorboard import TensorBoardWriter

NAME = "train"

DEFAULT_RECIPES = {"digits": "digits", "cifar10": "cifar10", "cifar100": "cifar10", "imagenet": "imagenet-mobile"}
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
    gpus: GpusOption = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write event files for TensorBoard into the run folder, too.")
    ] = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a network of a cell to the end and measure it.

    The cell is a genotype file, a search run, a zoo name, or a network.json, whose macro numbers are used then.
    Where --recipe is left out, the data set chooses one. Weights are averaged if the recipe says so.
    --gpus starts a process for each GPU; torchrun does so on several machines. The batch size is that of all together.

    Examples:

      nascli train --cell nasnet-a --dataset digits

      nascli train --cell runs/search/latest --dataset cifar10 --recipe cifar10-cpu --dry-run

      nascli train --resume latest

      torchrun --nproc-per-node 2 -m nascli train --cell nasnet-a --dataset digits --device cpu
    """
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
    named: Flags = {"--cell": cell, "--recipe": recipe, "--out": out}
    if resume:
        surplus: Flags = {"--set": assignments or None, "--overwrite": overwrite, "--dry-run": dry_run}
        _refuse_with_resume(options | named | surplus)
    if gpus and dry_run:
        raise InputError("--dry-run measures one process", "Leave --gpus out")
    others: Flags = {"--resume": resume, "--overwrite": overwrite, "--json": as_json, "--tensorboard": tensorboard}
    use_gpus(gpus, device, words_of(NAME, named | options | others | {"--set": assignments}))
    with together() as dist:
        terminal = Terminal(as_json=as_json, quiet=not dist.is_main)
        if tensorboard:
            dist.raise_together(_check_tensorboard)
        if resume:
            folder, job = _resume(resume, dataset, data_dir, device, dist)
        else:
            job, files = dist.raise_together(
                lambda: _prepare(terminal, cell, recipe, flags, assignments or [], device, dist)
            )
            if dry_run:
                refuse_several(dist, "--dry-run")
                _show_estimate(terminal, job)
                terminal.next(shlex.join(["nascli", *words_of(NAME, named | options | {"--set": assignments})]))
                return
            folder = dist.raise_together(
                lambda: _create(job, files, out, overwrite, {"cell": cell, "recipe": recipe, "device": device})
            )
        _train(terminal, folder, job, tensorboard)


def _check_tensorboard() -> None:
    from nascli.engine.tensorboard import check_tensorboard

    check_tensorboard()


def _create(
    job: "TrainJob", files: list[Path], out: Path | None, overwrite: bool, asked: dict[str, object]
) -> RunFolder | None:
    """A new run folder; None where the first process makes it."""
    from nascli.classify.job import describe_data

    if not job.dist.is_main:
        return None
    return create_run(
        NAME,
        run_name(job.data.name, job.spec.name),
        job.recipe,
        runs=runs_folder(),
        out=out,
        overwrite=overwrite,
        inputs=files,
        asked=asked,
        data=describe_data(job.data),
    )


def _prepare(
    terminal: Terminal,
    cell: str | None,
    recipe: str | None,
    flags: Flags,
    assignments: list[str],
    device: str,
    dist: "DistContext",
) -> tuple["TrainJob", list[Path]]:
    """The job that the options ask for, and the files it was made from."""
    from nascli.classify.job import prepare_train_job
    from nascli.engine.launch import local_device
    from nascli.models.families import open_architecture

    if cell is None:
        raise InputError("--cell is missing", "Give a genotype file, a search run, or a zoo name such as nasnet-a")
    source = open_architecture(find_cell(cell, runs_folder(), terminal.note))
    given = {key: value for key, value in flags.items() if value is not None}
    name = recipe or _default_recipe(terminal, load_recipe(TrainRecipe, None, given, assignments).data.dataset)
    path = find_recipe(NAME, name) if name else None
    numbers = _preset_numbers(flags["network.preset"], source.numbers)
    resolved = load_recipe(TrainRecipe, path, numbers | given, assignments)
    job = prepare_train_job(resolved, source.architecture, local_device(device, dist), dist)
    job.plan()  # what cannot be trained is refused before there is a folder
    return job, [file for file in (source.file, path) if file]


def _default_recipe(terminal: Terminal, dataset: str) -> str | None:
    """The recipe of a data set; None where it has none, and what is not given has its default. It is said which."""
    name = DEFAULT_RECIPES.get(dataset)
    if name:
        terminal.note(f"recipe {name} (another with --recipe)")
    else:
        terminal.note(
            f"no recipe for {dataset}: what is not given has its default. --recipe imagenet-mobile suits photos, "
            "cifar10 small pictures"
        )
    return name


def _preset_numbers(preset: object, numbers: Flags) -> Flags:
    """Macro numbers that stand above the recipe's: those of `--preset`, or of a network.json."""
    from nascli.models.families import find_family

    if preset is None:
        return numbers
    if len(numbers) > 1:
        raise InputError("--preset and a network.json exclude each other", "The file holds every macro number")
    family = str(numbers["network.family"])
    published = find_family(family).presets.get(str(preset), {})
    return numbers | {f"network.{name}": value for name, value in published.items() if name != "image_size"}


def _resume(
    resume: str, dataset: str | None, data_dir: str | None, device: str, dist: "DistContext"
) -> tuple[RunFolder | None, "TrainJob"]:
    """The run folder, which the first process alone has, and its job."""
    from nascli.classify.job import MAY_MOVE, describe_data, resume_train_job
    from nascli.engine.launch import local_device

    def reopen() -> tuple[Path, "TrainJob"]:
        path = find_run(resume, NAME, runs_folder())
        read_run(path, NAME)
        job = resume_train_job(path, data_dir, local_device(device, dist), dist, dataset)
        job.plan()  # as for a new run
        return path, job

    path, job = dist.raise_together(reopen)

    def lock() -> RunFolder | None:
        if not dist.is_main:
            return None
        folder = resume_run(path, NAME)
        folder.move_data(job.recipe, describe_data(job.data), MAY_MOVE)
        return folder

    return dist.raise_together(lock), job


def _refuse_with_resume(options: Flags) -> None:
    moved = ("--dataset", "--data-dir")
    surplus = [
        name for name, value in options.items() if value is not None and value is not False and name not in moved
    ]
    if surplus:
        raise InputError(
            f"--resume goes on with everything as the run folder has it; it excludes {', '.join(surplus)}",
            "Leave them out, or start a new run",
        )


def _train(terminal: Terminal, folder: RunFolder | None, job: "TrainJob", tensorboard: bool) -> None:
    from nascli.classify.job import run_train_job
    from nascli.engine.task import Run
    from nascli.signals import stop_on_signals

    if folder is None:  # the first process writes and prints
        with stop_on_signals(second_ends=False) as stop:
            run_train_job(job, None, Run(job.device, job.dist, stop, terminal.note))
        return
    plan = job.plan()
    _announce(terminal, folder, plan)
    progress = TrainProgress(terminal, epochs=plan.config.epochs, steps=plan.steps, batch_size=plan.batch_size)
    with (
        folder,
        stop_on_signals(second_ends=job.dist.size == 1) as stop,
        Watchers(progress, *_event_files(folder, plan, tensorboard)) as watchers,
    ):
        run = Run(job.device, job.dist, stop, terminal.note, watchers.on_step, watchers.on_epoch)
        results = run_train_job(job, folder.path, run)
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
    trained = shlex.quote(str(folder.path))
    terminal.next(f"nascli evaluate {trained}", f"nascli detect --backbone {trained}")


def _announce(terminal: Terminal, folder: RunFolder, plan: "TrainPlan") -> None:
    terminal.note(f"run {folder.path}")
    config = plan.config
    note_shares(terminal, plan.dist, plan.batch_size)
    if config.lr_base_size:
        terminal.note(
            f"learning rate {config.lr:g} for {config.lr_base_size} images per step: "
            f"{plan.peak_lr:g} for {plan.batch_size}"
        )


def _event_files(folder: RunFolder, plan: "TrainPlan", asked: bool) -> "list[TensorBoardWriter]":
    """Where they were asked for, now or when the run began; else nothing."""
    from nascli.engine.tensorboard import EVENTS_FOLDER, TensorBoardWriter, check_tensorboard

    path = folder.path / EVENTS_FOLDER
    if not asked and not path.is_dir():
        return []
    check_tensorboard()
    return [TensorBoardWriter(path, plan.learning_rate, plan.steps_per_epoch)]


def _show_estimate(terminal: Terminal, job: "TrainJob") -> None:
    from nascli.classify.estimate import estimate_train_job

    plan = estimate_train_job(job)
    rows = [
        ("network", f"{job.spec.name}, {job.spec.size_text}"),
        ("params", f"{plan.params:,}"),
        (f"mult-adds at {plan.image_size} px", count(plan.mult_adds)),
        ("images", f"{plan.train_images:,} to train on, {plan.val_images:,} to test on"),
        ("steps", f"{plan.steps:,} in {plan.epochs} epochs"),
        ("a step", f"{plan.seconds_per_step * 1000:.0f} ms"),
        ("memory of a step", f"{plan.memory / 2**20:,.1f} MiB"),
        ("estimated total", duration(plan.seconds)),
    ]
    terminal.show(table(f"plan on {job.data.name}; nothing was written", ("", ""), rows))
    terminal.result({"dry_run": True, "dataset": job.data.name, "cell": job.spec.name, **asdict(plan)})
