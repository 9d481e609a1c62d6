"""`nascli detect train`: a trained network, or a cell with random weights, as the backbone of a detector."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nascli.cli.console import Terminal
from nascli.cli.data_notes import note_issues
from nascli.cli.detect_recipe import COCO, KEYS, resolve_recipe
from nascli.cli.detect_view import describe_split, show_scores
from nascli.cli.options import (
    CELL,
    DEVICE,
    DRY_RUN,
    GPUS,
    NEW_RUN,
    RECIPE,
    RESUME,
    Call,
    Setting,
    command,
    field_settings,
    place_run,
    run_label,
    runs_folder,
)
from nascli.cli.processes import (
    check_agreement,
    join_processes,
    note_run,
    open_in_main,
    refuse_several,
    resume_in_main,
    start_processes,
)
from nascli.config import NETWORK_SECTIONS, CellNetworkConfig, DetectRecipe, MobileNetworkConfig, parse
from nascli.errors import InputError
from nascli.runs.find import find_run
from nascli.runs.folder import RunFolder
from nascli.runs.start import create_run
from nascli.units import count_of, format_duration

if TYPE_CHECKING:
    from nascli.data.detection.dataset import DetectionData
    from nascli.detect.job import DetectJob
    from nascli.detect.start import DetectorWeights
    from nascli.engine.dist import DistContext
    from nascli.engine.meters import EpochRecord
    from nascli.models.interface import ImageClassifier

LARGEST_CIFAR_SIDE = 160
"""Longer side in pixels above which a backbone with the CIFAR stem is warned about."""

TRAIN_KEYS = {
    **KEYS,
    "--from": "start.weights",
    "--head": "detector.head",
    "--proposals": "detector.rpn_post_nms_top_n",
    "--epochs": "train.epochs",
    "--batch-size": "train.batch_size",
    "--lr": "train.lr",
    "--keep-best": "train.keep_best",
    "--patience": "train.patience",
    "--seed": "seed",
}
SIZING = [
    *field_settings(
        CellNetworkConfig,
        {"--preset": "preset", "--filters": "filters", "--cells-per-stage": "cells_per_stage"},
        "Size of the network of --cell",
    ),
    *field_settings(MobileNetworkConfig, {"--width": "width"}, "Size of the network of --cell"),
]
BACKBONE = Setting[str | None](
    "--backbone", "Train run whose network is the backbone; the newest by default.", metavar="RUN|latest"
)


@command(
    "train",
    [COCO, BACKBONE, CELL, *SIZING, *field_settings(DetectRecipe, TRAIN_KEYS), GPUS, *NEW_RUN],
    examples=[
        "nascli detect --dataset digit-scenes",
        "nascli detect --coco --backbone runs/train/latest --dry-run",
        "nascli detect --coco --head nasnet --proposals 300",
        "nascli detect --from runs/detect/latest --dataset coco:mine",
        "nascli detect --resume latest",
    ],
)
def train(call: Call) -> None:
    """Train a Faster R-CNN on a network and score it.

    The backbone is the newest train run unless --backbone names another; --cell starts from random weights instead, and
    --from from a whole detector, which may have other classes.
    Average precision is COCO's. Without --recipe the data set chooses one. --gpus starts a process per GPU; torchrun
    does so on several machines. The batch size is that of all processes together.
    """
    if call[RESUME]:
        call.refuse_with_resume({"--dataset", "--data-dir", "--device", "--gpus"})
    start_processes(call)
    with join_processes(call) as dist:
        terminal = call.terminal(quiet=not dist.is_main)
        if call[DRY_RUN]:
            refuse_several(dist, "--dry-run")
        if call[RESUME]:
            job, folder = _resume(call, dist)
            _note_data(terminal, job.data)
            _train(terminal, job, folder)
            return
        recipe, file = dist.raise_together(lambda: resolve_recipe(call, terminal))
        job, files = _prepare(call, terminal, recipe, file, dist)
        if call[DRY_RUN]:
            _show_estimate(terminal, job)
            return
        _train(terminal, job, open_in_main(dist, lambda: _create(call, job, [file, *files])))


def _prepare(
    call: Call, terminal: Terminal, recipe: DetectRecipe, file: Path, dist: "DistContext"
) -> tuple["DetectJob", list[Path]]:
    """The job that the options ask for, and the files it was made from."""
    from nascli.cli.detect_recipe import take_numbers
    from nascli.data.detection.registry import load_detection_data
    from nascli.detect.job import prepare_detect_job
    from nascli.detect.start import keep_backbone, take_detector
    from nascli.engine.device import settle_precision
    from nascli.engine.launch import local_device
    from nascli.models.families import build

    where = dist.raise_together(lambda: local_device(call[DEVICE], dist))
    recipe = settle_precision(recipe, where)
    check_agreement(dist, recipe.train)
    weights = dist.raise_together(lambda: _open_detector(call, terminal, recipe))
    if weights:
        recipe = dist.raise_together(lambda: take_numbers(call, recipe, file, weights))
        network, origin, files = build(weights.spec.network), f"network of {weights.folder}", weights.files
    else:
        network, origin, files = dist.raise_together(lambda: _open_backbone(call, terminal, recipe.seed))
    with terminal.status("reading annotations and the header of every image"):
        data = dist.broadcast_from_main(lambda: load_detection_data(recipe.data))
    _note_data(terminal, data)
    terminal.note(f"backbone {network.spec.name}: {origin}")
    if network.feature_info[0].stride == 1 and recipe.detector.max_size > LARGEST_CIFAR_SIDE:
        terminal.note(
            f"its first stage keeps the full resolution: images of up to {recipe.detector.max_size} pixels take much "
            "time and memory; lower --batch-size or detector.max_size, or use a backbone with the ImageNet stem"
        )
    trained = call[CELL] is None
    job = prepare_detect_job(recipe, data, network, trained=trained, backbone=origin, device=where, dist=dist)
    if weights:
        job = dist.raise_together(lambda: take_detector(job, weights))
        terminal.note(job.start.text if job.start else "")
    elif trained:
        job = keep_backbone(job, files[0].parent)
    sources = dict.fromkeys((data.train.source, data.val.source))
    return job, [*files, *(each for each in sources if each.is_file())]


def _open_detector(call: Call, terminal: Terminal, recipe: DetectRecipe) -> "DetectorWeights | None":
    """The detector of --from, or of the recipe."""
    from nascli.detect.start import open_detector_weights

    if recipe.start.weights is None:
        return None
    call.refuse("--from brings a network with it; it excludes", [BACKBONE, CELL, *SIZING])
    return open_detector_weights(find_run(recipe.start.weights, "detect", runs_folder(), terminal.note))


def _open_backbone(call: Call, terminal: Terminal, seed: int) -> tuple["ImageClassifier", str, list[Path]]:
    """The backbone, where its weights come from in words, and its files."""
    from nascli.detect.backbone import load_backbone, random_backbone
    from nascli.genotype.resolve import find_cell
    from nascli.models.families import open_architecture

    cell, sizes = call[CELL], call.keys(CellNetworkConfig) | call.keys(MobileNetworkConfig)
    if cell is not None:
        call.refuse("--cell excludes", [BACKBONE], "--cell starts from random weights, --backbone from trained ones")
        opened = open_architecture(find_cell(cell, runs_folder(), terminal.note))
        if opened.unused_weights:
            terminal.note(opened.unused_weights)
        numbers = {key.removeprefix("network."): value for key, value in opened.numbers.items()} | sizes
        section = NETWORK_SECTIONS[str(numbers.pop("family"))]
        network = random_backbone(opened.architecture, parse(section, numbers, "options"), seed)
        return network, "random weights, since --cell was given", [opened.file] if opened.file else []
    if sizes:
        flag = next(each.flag for each in SIZING if each in call.given)
        raise InputError(f"{flag} needs --cell", "A trained backbone has its sizes already")
    newest = runs_folder() / "train" / "latest"
    if call[BACKBONE] is None and not os.path.lexists(newest) and not any(newest.parent.glob("*/run.json")):
        raise InputError(
            f"there is no trained backbone: {newest} is absent",
            "Train one by nascli train --cell nasnet-a, or give --cell nasnet-a to start from random weights",
        )
    folder = find_run(call[BACKBONE] or "latest", "train", runs_folder(), terminal.note)
    files = [folder / name for name in ("network.json", "weights.safetensors")]
    return load_backbone(folder), f"weights of {folder}", files


def _note_data(terminal: Terminal, data: "DetectionData") -> None:
    """The counts of the data, and the issues in them."""
    terminal.note(
        f"{data.name}: {describe_split(data.train)} to train on, {describe_split(data.val)} to validate on, "
        f"{count_of(len(data.categories), 'class')}"
    )
    for split in dict.fromkeys((data.train, data.val)):
        note_issues(terminal, split.source, split.issues)


def _create(call: Call, job: "DetectJob", files: list[Path]) -> RunFolder:
    from nascli.detect.model import format_detector
    from nascli.engine.device import describe_device

    return create_run(
        "detect",
        run_label(job.data.name, job.spec.network.name),
        job.recipe,
        **place_run(call),
        inputs=files,
        asked={"backbone": call[BACKBONE], "cell": call[CELL], "recipe": call[RECIPE], "device": call[DEVICE]},
        start_weights=job.start and job.start.record,
        write_start=job.start.write if job.start else None,
        files=format_detector(job.spec),
        device=describe_device(job.device),
        data=job.describe_data(),
        splits=[split.to_dict() for split in dict.fromkeys((job.data.train, job.data.val))],
    )


def _resume(call: Call, dist: "DistContext") -> tuple["DetectJob", RunFolder | None]:
    """The job of an earlier run, and its folder, which the main process alone has."""
    from nascli.detect.job import MAY_MOVE, resume_detect_job
    from nascli.engine.launch import local_device

    note = call.terminal(quiet=not dist.is_main).note
    path = dist.raise_together(lambda: find_run(str(call[RESUME]), "detect", runs_folder(), note))
    with resume_in_main(dist, path, "detect") as folder:
        device = dist.raise_together(lambda: local_device(call[DEVICE], dist))
        moved = {key.removeprefix("data."): value for key, value in call.keys(DetectRecipe).items()}
        job = resume_detect_job(path, device, dist, **moved, note=note)
        if folder is not None:
            folder.move_inputs(job.recipe, {"data": MAY_MOVE}, job.describe_data())
    return job, folder


def _train(terminal: Terminal, job: "DetectJob", folder: RunFolder | None) -> None:
    from nascli.detect.job import run_detect_job
    from nascli.engine.task import Run
    from nascli.signals import stop_on_signals

    if folder is None:  # the main process writes and prints
        with stop_on_signals(second_ends=False) as stop:
            run_detect_job(job, None, Run(job.device, job.dist, stop, terminal.note))
        return
    with folder:
        note_run(terminal, folder, job.recipe, job.device, job.dist, job.plan.batch_size)
        folder.update(results=_train_in(terminal, job, folder.path))


def _train_in(terminal: Terminal, job: "DetectJob", folder: Path) -> dict[str, Any]:
    """Train and show the scores; returns the results as they stand in `run.json`."""
    from nascli.cli.progress import TrainProgress
    from nascli.detect.job import train_detector, write_detections
    from nascli.detect.results_file import DETECTION_FILE, RESULTS_FILE
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
            f"{record.images_per_second:.1f} images/s  {format_duration(record.seconds)}"
        )

    with stop_on_signals(second_ends=job.dist.size == 1) as stop, progress:
        training = Run(job.device, job.dist, stop, terminal.note, progress.on_step, on_epoch)
        report, detections = train_detector(job, folder, training)
    peak = {"peak_memory": peak_memory(job.device)}
    _show_run(terminal, report | peak)
    terminal.result({"run": str(folder), **report, **peak})  # before it is written: a full disk shall not take it
    report = write_detections(job, report, detections, folder) | peak
    write_box_confusion(folder)
    files = (RESULTS_FILE, DETECTION_FILE, "confusion.png", "detections", "worst")
    terminal.show(f"\nwritten: {', '.join(str(folder / name) for name in files)}")
    terminal.result(report)
    is_latest = (runs_folder() / "detect" / "latest").resolve() == folder.resolve()
    run_option = [] if is_latest else ["--run", folder]
    terminal.next(["nascli", "detect", "predict", job.scored.images[0].path, *run_option])
    return {key: value for key, value in report.items() if key not in ("metric", "per_class", "worst_images")}


def _show_run(terminal: Terminal, report: dict[str, Any]) -> None:
    """The scores and the cost of a finished run as tables."""
    split = report["split"] if report["split"] == "val" else f"{report['split']} (the images it was trained on)"
    more = [
        ("steps", f"{report['steps']:,} in {format_duration(report['seconds'])}"),
        ("peak memory", _mebibytes(report["peak_memory"])),
    ]
    show_scores(terminal, f"{report['cell']} on {report['dataset']}, {split}", report, more)


def _show_estimate(terminal: Terminal, job: "DetectJob") -> None:
    """The plan of a run and its cost, measured now."""
    from nascli.detect.estimate import estimate_detect_job
    from nascli.engine.estimate import peak_memory

    plan = estimate_detect_job(job)
    peak = peak_memory(job.device)
    config = job.recipe.detector
    rows = [
        ("backbone", f"{job.spec.network.name}: {job.backbone}"),
        ("head", f"{config.head}, {config.rpn_post_nms_top_n:,} proposals per image"),
        ("params", f"{plan.params:,}"),
        ("input", f"shorter side {config.min_size} px, longer at most {config.max_size} px"),
        ("to train on", f"{plan.train_images:,} images, {plan.train_boxes:,} boxes, {plan.classes} classes"),
        ("to score", f"{plan.scored_images:,} images, {plan.scored_boxes:,} boxes"),
        ("steps", f"{plan.steps:,} in {plan.epochs} epochs"),
        ("time per step", f"{plan.seconds_per_step * 1000:.0f} ms"),
        ("peak memory", _mebibytes(peak)),
        ("estimated total", format_duration(plan.seconds)),
    ]
    terminal.show_table(f"plan on {job.data.name}; no run was made", rows)
    about = {"dry_run": True, "dataset": job.data.name, "backbone": job.backbone}
    terminal.result({**about, **asdict(plan), "peak_memory": peak})
    terminal.next("nascli detect with the same options, without --dry-run")


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
