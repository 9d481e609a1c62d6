"""`nascli detect`: a trained network carried over to object detection, and detectors used on a person's pictures."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nascli.cli import detect_uses
from nascli.cli.console import Terminal, duration
from nascli.cli.detect_source import Flags, prepare, refuse, resolve_recipe
from nascli.cli.detect_views import show_estimate, show_run
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
from nascli.cli.progress import TrainProgress
from nascli.config import DETECTION_HEADS, Preset, list_meanings
from nascli.errors import InputError
from nascli.runs import RunFolder, create_run, find_run, read_run, resume_run

if TYPE_CHECKING:
    from nascli.detect.job import DetectJob
    from nascli.engine.dist import DistContext
    from nascli.engine.meters import EpochRecord

NAME = "detect"

_DATA = {"--dataset", "--data-dir", "--max-train-images", "--recipe", "--set"}
_USES = {
    "--predict": {"--run", "--threshold", "--out", "--overwrite", "--device"},
    "--check": _DATA,
    "--show-data": _DATA | {"--augmented", "--out", "--overwrite"},
    "--evaluate": _DATA | {"--out", "--overwrite"},
    "--resume": {"--data-dir", "--device", "--gpus"},
}
"""What can be done instead of a new training, and the options that each goes with."""


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
    head: Annotated[
        str | None, typer.Option(metavar="NAME", help=f"The detector's head. {list_meanings(DETECTION_HEADS)}.")
    ] = None,
    proposals: Annotated[int | None, typer.Option(help="Proposals an image that reach the head.")] = None,
    recipe: RecipeOption = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images an optimizer step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    max_train_images: Annotated[int | None, typer.Option(help="Use only the first so many training images.")] = None,
    seed: SeedOption = None,
    assignments: SetOption = None,
    check: Annotated[
        bool, typer.Option("--check", help="Check the data, every picture decoded, and say what is wrong by kind.")
    ] = False,
    show_data: Annotated[
        bool, typer.Option("--show-data", help="Draw the first images of the data with their own boxes.")
    ] = False,
    augmented: Annotated[bool, typer.Option("--augmented", help="With --show-data: as training varies them.")] = False,
    predict: Annotated[
        list[Path] | None, typer.Option(metavar="PATH", help="Find boxes on this picture or folder; repeat for more.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="With --predict: least score of a box (default: 0.5).")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--run", metavar="RUN|latest", help="With --predict: the detector (default: latest).")
    ] = None,
    evaluate: Annotated[
        Path | None,
        typer.Option(metavar="RESULTS.json", help="Score a COCO results file of any tool; no picture is needed."),
    ] = None,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    resume: ResumeOption = None,
    device: DeviceOption = "auto",
    gpus: GpusOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a Faster R-CNN on a network and score it; or, with --predict, find boxes on your own pictures.

    The backbone is the newest train run unless --backbone names another; --cell starts from random weights instead.
    Average precision is COCO's. Without --recipe the data set chooses one.
    --gpus starts a process for each GPU; torchrun does so on several machines. The batch size is that of all together.

    Examples:

      nascli detect --dataset digit-scenes

      nascli detect --coco --backbone runs/train/latest --dry-run

      nascli detect --coco --head nasnet --proposals 300

      nascli detect --coco --check

      nascli detect --predict holiday.jpg --predict photos --threshold 0.6

      nascli detect --coco --evaluate results.json
    """
    sizes: Flags = {"preset": preset, "filters": filters, "cells_per_stage": cells_per_stage}
    flags: Flags = {
        "data.dataset": _dataset(coco, dataset),
        "data.data_dir": data_dir,
        "data.max_train_images": max_train_images,
        "detector.head": head,
        "detector.rpn_post_nms_top_n": proposals,
        "train.epochs": epochs,
        "train.batch_size": batch_size,
        "train.lr": lr,
        "seed": seed,
    }
    given: Flags = {option_name(key): value for key, value in (flags | sizes).items()}
    given |= {"--backbone": backbone, "--cell": cell, "--recipe": recipe, "--set": assignments, "--dry-run": dry_run}
    given |= {"--out": out, "--overwrite": overwrite, "--device": None if device == "auto" else device}
    given |= {"--check": check, "--show-data": show_data, "--predict": predict, "--evaluate": evaluate}
    given |= {"--resume": resume, "--threshold": threshold, "--run": source, "--augmented": augmented, "--gpus": gpus}
    use = _use(given)
    place: dict[str, Any] = {"out": out, "overwrite": overwrite}
    if gpus and dry_run:
        raise InputError("--dry-run measures one process", "Leave --gpus out")
    use_gpus(gpus, device, words_of(NAME, given | {"--gpus": None, "--json": as_json}))
    with together() as dist:
        terminal = Terminal(as_json=as_json, quiet=not dist.is_main)
        if dry_run or use not in (None, "--resume"):
            refuse_several(dist, use or "--dry-run")
        if use == "--predict":
            least = 0.5 if threshold is None else threshold
            detect_uses.predict(terminal, predict or [], source or "latest", threshold=least, device=device, **place)
            return
        if use == "--resume":
            _resume(terminal, str(resume), data_dir, device, dist)
            return
        resolved, file = dist.raise_together(lambda: resolve_recipe(terminal, recipe, flags, assignments or []))
        if use == "--check":
            detect_uses.check(terminal, resolved.data)
        elif use == "--show-data":
            detect_uses.show_data(terminal, resolved, augmented=augmented, **place)
        elif evaluate is not None:
            detect_uses.evaluate(terminal, evaluate, resolved.data, **place)
        else:
            job, files = prepare(terminal, resolved, (backbone, cell, sizes), device, dist)
            if dry_run:
                show_estimate(terminal, job)
                return
            asked: Flags = {"backbone": backbone, "cell": cell, "recipe": recipe, "device": device}
            _train(terminal, job, dist.raise_together(lambda: _create(job, [file, *files], asked, place)))


def _create(job: "DetectJob", files: list[Path], asked: dict[str, object], place: dict[str, Any]) -> RunFolder | None:
    """A new run folder; None where the first process makes it."""
    if not job.dist.is_main:
        return None
    name = run_name(job.data.name, job.spec.network.name)
    return create_run(NAME, name, job.recipe, runs=runs_folder(), inputs=files, asked=asked, **place)


def _use(given: Flags) -> str | None:
    """Which of `_USES` is asked for, None for a new training; InputError where other options would be ignored."""
    for use, options in _USES.items():
        if given[use]:
            refuse(use, {name: value for name, value in given.items() if name not in {use, *options}})
            return use
    refuse("training a detector", {name: given[name] for name in ("--threshold", "--run")}, "They go with --predict")
    refuse("training a detector", {"--augmented": given["--augmented"]}, "It goes with --show-data")
    return None


def _dataset(coco: bool, dataset: str | None) -> str | None:
    if coco and dataset not in (None, "coco"):
        raise InputError(f"--coco and --dataset {dataset} exclude each other", "--coco is short for --dataset coco")
    return "coco" if coco else dataset


def _resume(terminal: Terminal, resume: str, data_dir: str | None, device: str, dist: "DistContext") -> None:
    from nascli.detect.job import resume_detect_job
    from nascli.engine.launch import local_device

    def find() -> Path:
        path = find_run(resume, NAME, runs_folder())
        read_run(path, NAME)
        return path

    path = dist.raise_together(find)
    job = resume_detect_job(path, data_dir, dist.raise_together(lambda: local_device(device, dist)), dist)
    _train(terminal, job, dist.raise_together(lambda: resume_run(path, NAME) if dist.is_main else None))


def _train(terminal: Terminal, job: "DetectJob", folder: RunFolder | None) -> None:
    from nascli.detect.job import run_detect_job
    from nascli.engine.task import Run
    from nascli.signals import stop_on_signals

    if folder is None:  # the first process writes and prints
        with stop_on_signals(second_ends=False) as stop:
            run_detect_job(job, None, Run(job.device, job.dist, stop))
        return
    with folder:
        terminal.note(f"run {folder.path}")
        note_shares(terminal, job.dist, job.plan.batch_size)
        folder.update(results=_train_in(terminal, job, folder.path))


def _train_in(terminal: Terminal, job: "DetectJob", folder: Path) -> dict[str, Any]:
    """Train and show what came of it; the results as they stand in `run.json`."""
    from nascli.detect.job import run_detect_job
    from nascli.engine.estimate import peak_memory
    from nascli.engine.task import Run
    from nascli.report.confusion_plot import write_box_confusion
    from nascli.signals import stop_on_signals

    plan = job.plan
    progress = TrainProgress(terminal, epochs=plan.config.epochs, steps=plan.steps, batch_size=plan.batch_size)

    def on_epoch(record: "EpochRecord") -> None:
        ap, ap50 = record.metrics["ap"], record.metrics["ap50"]
        scores = "" if ap is None else f"AP {ap:.3f}  AP50 {ap50:.3f}  "
        terminal.note(
            f"epoch {record.epoch}/{plan.config.epochs}  loss {record.train_loss:.4f}  {scores}lr {record.lr:.4f}  "
            f"{record.images_per_second:.1f} images/s  {duration(record.seconds)}"
        )

    with stop_on_signals(second_ends=job.dist.size == 1) as stop, progress:
        run = Run(job.device, job.dist, stop, terminal.note, progress.on_step, on_epoch)
        report = run_detect_job(job, folder, run)
    report["peak_memory"] = peak_memory(job.device)
    write_box_confusion(folder)
    show_run(terminal, report, folder)
    terminal.result({"run": str(folder), **report})
    is_latest = (runs_folder() / NAME / "latest").resolve() == folder.resolve()
    run_option = [] if is_latest else ["--run", str(folder)]
    terminal.next(shlex.join(["nascli", NAME, *run_option, "--predict", str(job.scored.images[0].path)]))
    return {key: value for key, value in report.items() if key not in ("metric", "per_class", "worst_images")}
