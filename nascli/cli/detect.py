"""`nascli detect`: a trained network carried over to object detection, and detectors used on a person's pictures."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nascli.artifacts import create_run, find_run, read_run, resume_run
from nascli.cli.console import Terminal, duration
from nascli.cli.detect_views import describe_data, show_estimate, show_predictions, show_scores
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
from nascli.config import DetectRecipe, NetworkConfig, Preset, find_recipe, load_recipe, parse
from nascli.errors import InputError

if TYPE_CHECKING:
    from nascli.detection.job import DetectJob
    from nascli.detection.loop import DetectEpoch
    from nascli.models.network import Network

NAME = "detect"

LARGEST_CIFAR_SIDE = 160
"""Pixels of the longer side above which a backbone with the CIFAR stem is warned about."""

Flags = dict[str, object]


def run(
    coco: Annotated[bool, typer.Option("--coco", help="Short for --dataset coco.")] = False,
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME", help="digit-scenes, coco, or coco:PATH (a folder or one JSON file).")
    ] = None,
    data_dir: DataDirOption = None,
    backbone: Annotated[
        str | None,
        typer.Option(metavar="RUN|latest", help="Train run whose network to build on (default: latest)."),
    ] = None,
    cell: CellOption = None,
    preset: Annotated[Preset | None, typer.Option(help="With --cell: its size.")] = None,
    filters: Annotated[int | None, typer.Option(help="With --cell: F, filters of an op in the first stage.")] = None,
    cells_per_stage: Annotated[int | None, typer.Option(help="With --cell: N, normal cells in a stage.")] = None,
    recipe: RecipeOption = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images an optimizer step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    train_images: Annotated[int | None, typer.Option(help="Use only the first so many training images.")] = None,
    seed: SeedOption = None,
    assignments: SetOption = None,
    predict: Annotated[
        list[Path] | None, typer.Option(metavar="PATH", help="Find boxes on this picture or folder; repeat for more.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="With --predict: least score of a box (default: 0.5).")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--run", metavar="RUN|latest", help="With --predict: the detector (default: latest).")
    ] = None,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    resume: ResumeOption = None,
    device: DeviceOption = "auto",
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a Faster R-CNN on a network and score it; or, with --predict, find boxes on your own pictures.

    The backbone is the newest train run unless --backbone names another; --cell starts from random weights instead.
    Average precision is COCO's. Without --recipe the data set chooses one.

    Examples:

      nascli detect --dataset digit-scenes

      nascli detect --coco --backbone runs/train/latest --dry-run

      nascli detect --predict holiday.jpg --predict photos --threshold 0.6
    """
    terminal = Terminal(as_json=as_json)
    sizes: Flags = {"preset": preset, "filters": filters, "cells_per_stage": cells_per_stage}
    flags: Flags = {
        "data.dataset": _dataset(coco, dataset),
        "data.data_dir": data_dir,
        "data.train_images": train_images,
        "train.epochs": epochs,
        "train.batch_size": batch_size,
        "train.lr": lr,
        "seed": seed,
    }
    chosen = {"--backbone": backbone, "--cell": cell, "--recipe": recipe, "--set": assignments, "--dry-run": dry_run}
    training = {option_name(key): value for key, value in (flags | sizes).items()} | chosen
    using: Flags = {"--threshold": threshold, "--run": source}
    if predict:
        _refuse("--predict", training | {"--resume": resume})
        least = 0.5 if threshold is None else threshold
        _predict(terminal, predict, source or "latest", threshold=least, out=out, overwrite=overwrite, device=device)
        return
    _refuse("training a detector", using, "They go with --predict")
    if resume:
        _refuse("--resume", {**training, "--data-dir": None, "--out": out, "--overwrite": overwrite})
        _resume(terminal, resume, data_dir, device)
        return
    resolved, file = _recipe(terminal, recipe, flags, assignments or [])
    job, files = _prepare(terminal, resolved, (backbone, cell, sizes), device)
    if dry_run:
        show_estimate(terminal, job)
        return
    asked = {"backbone": backbone, "cell": cell, "recipe": recipe, "device": device}
    name = run_name(job.data.name, job.spec.network.genotype.name)
    place: dict[str, Any] = {"runs": runs_folder(), "out": out, "overwrite": overwrite}
    with create_run(NAME, name, resolved, inputs=[file, *files], asked=asked, **place) as folder:
        folder.update(results=_train(terminal, job, folder.path))


def _recipe(terminal: Terminal, recipe: str | None, flags: Flags, assignments: list[str]) -> tuple[DetectRecipe, Path]:
    """The recipe with all that stands above it, and its file."""
    name = recipe or ("digit-scenes" if flags["data.dataset"] in (None, "digit-scenes") else "coco")
    if not recipe:
        terminal.note(f"recipe {name} (another with --recipe)")
    file = find_recipe(NAME, name)
    return load_recipe(DetectRecipe, file, flags, assignments), file


def _dataset(coco: bool, dataset: str | None) -> str | None:
    if coco and dataset not in (None, "coco"):
        raise InputError(f"--coco and --dataset {dataset} exclude each other", "--coco is short for --dataset coco")
    return "coco" if coco else dataset


def _refuse(mode: str, options: Flags, hint: str = "Leave them out") -> None:
    """InputError where options are given that would be ignored."""
    surplus = [name for name, value in options.items() if value not in (None, False, [])]
    if surplus:
        raise InputError(f"{mode} excludes {', '.join(surplus)}", hint)


def _prepare(
    terminal: Terminal, recipe: DetectRecipe, asked: tuple[str | None, str | None, Flags], device: str
) -> tuple["DetectJob", list[Path]]:
    """The job that the options ask for, and the files it was made from."""
    from nascli.data.detection_sets import load_detection_data
    from nascli.detection.job import prepare_job
    from nascli.training.runtime import resolve_device

    where = resolve_device(device)
    network, origin, files = _network(terminal, recipe.seed, *asked)
    data = load_detection_data(recipe.data)
    describe_data(terminal, data)
    terminal.note(f"backbone {network.spec.genotype.name}: {origin}")
    if network.spec.stem == "cifar" and recipe.detector.max_size > LARGEST_CIFAR_SIDE:
        terminal.note(
            f"its CIFAR stem keeps the full resolution: pictures of up to {recipe.detector.max_size} pixels take much "
            "time and memory; lower --batch-size or detector.max_size, or use a backbone with the ImageNet stem"
        )
    trained = asked[1] is None
    job = prepare_job(recipe, data, network, trained=trained, backbone=origin, device=where)
    return job, [*files, *dict.fromkeys((data.train.source, data.val.source))]


def _network(
    terminal: Terminal, seed: int, backbone: str | None, cell: str | None, sizes: Flags
) -> tuple["Network", str, list[Path]]:
    """The backbone, where its weights come from in words, and its files."""
    from nascli.detection.job import random_backbone, trained_backbone
    from nascli.training.job import open_cell

    given = {key: value for key, value in sizes.items() if value is not None}
    if cell is not None:
        _refuse("--cell", {"--backbone": backbone}, "--cell starts from random weights, --backbone from trained ones")
        opened = open_cell(find_cell(cell, terminal.note))
        numbers = {key.removeprefix("network."): value for key, value in opened.numbers.items()}
        network = random_backbone(opened.genotype, parse(NetworkConfig, numbers | given, "options"), seed)
        return network, "random weights, since --cell was given", [opened.file] if opened.file else []
    if given:
        raise InputError(f"{option_name(next(iter(given)))} needs --cell", "A trained backbone has its sizes already")
    if backbone is None and not (runs_folder() / "train" / "latest").is_dir():
        raise InputError(
            f"there is no trained backbone: {runs_folder() / 'train' / 'latest'} is absent",
            "Train one by nascli train --cell nasnet-a, or give --cell nasnet-a to start from random weights",
        )
    folder = find_run(backbone or "latest", "train", runs_folder())
    files = [folder / name for name in ("network.json", "weights.safetensors")]
    return trained_backbone(folder), f"weights of {folder}", files


def _resume(terminal: Terminal, resume: str, data_dir: str | None, device: str) -> None:
    from nascli.detection.job import reopen_job
    from nascli.training.runtime import resolve_device

    path = find_run(resume, NAME, runs_folder())
    read_run(path, NAME)
    job = reopen_job(path, data_dir, resolve_device(device))
    with resume_run(path, NAME) as folder:
        folder.update(results=_train(terminal, job, folder.path))


def _train(terminal: Terminal, job: "DetectJob", folder: Path) -> dict[str, Any]:
    from nascli.detection.job import run_job
    from nascli.training.interrupts import stop_on_signals

    terminal.note(f"run {folder}")
    plan = job.plan
    progress = TrainProgress(terminal, epochs=plan.config.epochs, steps=plan.steps, batch_size=plan.batch_size)

    def on_epoch(record: "DetectEpoch") -> None:
        scores = "" if record.ap is None else f"AP {record.ap:.3f}  AP50 {record.ap50:.3f}  "
        terminal.note(
            f"epoch {record.epoch}/{plan.config.epochs}  loss {record.train_loss:.4f}  {scores}lr {record.lr:.4f}  "
            f"{record.images_per_second:.1f} images/s  {duration(record.seconds)}"
        )

    with stop_on_signals() as stop, progress:
        report = run_job(job, folder, stop=stop, on_epoch=on_epoch, on_step=progress.on_step, note=terminal.note)
    show_scores(terminal, report, folder)
    terminal.result({"run": str(folder), **report})
    run_option = "" if (runs_folder() / NAME / "latest").resolve() == folder.resolve() else f"--run {folder} "
    terminal.next(f"nascli detect {run_option}--predict {job.scored.images[0].path}")
    return {key: value for key, value in report.items() if key not in ("metric", "per_class")}


def _predict(
    terminal: Terminal,
    paths: list[Path],
    source: str,
    *,
    threshold: float,
    out: Path | None,
    overwrite: bool,
    device: str,
) -> None:
    from nascli.detection.detector import load_detector
    from nascli.detection.predict import collect_pictures, predict_pictures, predictions_folder
    from nascli.training.runtime import resolve_device

    run_folder = find_run(source, NAME, runs_folder())
    where = resolve_device(device)
    detector = load_detector(run_folder, where)
    pictures = collect_pictures(paths)
    folder = predictions_folder(run_folder, out, overwrite)
    predictions = predict_pictures(detector, pictures, folder, device=where, threshold=threshold)
    show_predictions(terminal, predictions, threshold)
    images = [prediction.to_dict() for prediction in predictions]
    terminal.result({"run": str(run_folder), "out": str(folder), "threshold": threshold, "images": images})
    lower = max(threshold - 0.2, 0.05)
    terminal.next(f"nascli detect --run {run_folder} --predict {paths[0]} --threshold {lower:.2g}")
