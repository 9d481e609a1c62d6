"""`nascli train`: a cell, built at one size, trained on a data set."""

from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nascli.cli.console import Terminal
from nascli.cli.data_notes import describe_images, note_images
from nascli.cli.options import (
    CELL,
    DEVICE,
    DRY_RUN,
    GPUS,
    JSON,
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
from nascli.cli.train_source import open_source
from nascli.config import TrainRecipe
from nascli.runs.find import find_run, read_run
from nascli.runs.folder import RunFolder
from nascli.runs.start import create_run
from nascli.text import printable
from nascli.units import format_duration, format_quantity

if TYPE_CHECKING:
    from nascli.classify.job import TrainJob
    from nascli.engine.dist import DistContext

KEYS = {
    "--from": "start.weights",
    "--freeze": "train.freeze",
    "--dataset": "data.dataset",
    "--data-dir": "data.data_dir",
    "--val-split": "data.val_split",
    "--val-fraction": "data.val_fraction",
    "--strict": "data.strict",
    "--teacher": "train.teacher",
    "--epochs": "train.epochs",
    "--batch-size": "train.batch_size",
    "--lr": "train.lr",
    "--keep-best": "train.keep_best",
    "--patience": "train.patience",
    "--preset": "network.preset",
    "--filters": "network.filters",
    "--cells-per-stage": "network.cells_per_stage",
    "--width": "network.width",
    "--image-size": "network.image_size",
    "--seed": "seed",
}
TRACK = Setting[Literal["mlflow", "trackio", "wandb"] | None](
    "--track", "Send the figures of each epoch to this tracker, too, through its own client."
)
TENSORBOARD = Setting[bool]("--tensorboard", "Write event files for TensorBoard into the run folder, too.", False)


@command(
    "train",
    [CELL, *field_settings(TrainRecipe, KEYS), GPUS, TENSORBOARD, TRACK, *NEW_RUN],
    examples=[
        "nascli train --cell nasnet-a --dataset digits",
        "nascli train --cell runs/search/latest --dataset cifar10 --recipe cifar10-cpu --dry-run",
        "nascli train --from runs/train/latest --dataset folder:photos --freeze backbone",
        "nascli train --from nasnetamobile.pth --cell nasnet-a --preset imagenet-mobile --dataset folder:photos",
        "nascli train --resume latest",
        "torchrun --nproc-per-node 2 -m nascli train --cell nasnet-a --dataset digits --device cpu",
    ],
)
def run(call: Call) -> None:
    """Train a network to the end and measure it.

    The cell is a genotype file, a search run, a zoo name, or a network.json, whose macro numbers are used then. --from
    begins with the weights of a network instead, and takes its cell and numbers. Without --recipe the data set chooses
    one. --gpus starts a process per GPU; torchrun does so on several machines. The batch size is that of all processes
    together.
    """
    if call[RESUME]:
        call.refuse_with_resume({"--dataset", "--data-dir", "--teacher", "--device", "--gpus", "--tensorboard"})
    start_processes(call)
    with join_processes(call) as dist:
        terminal = call.terminal(quiet=not dist.is_main)
        if call[TENSORBOARD]:
            from nascli.engine.tensorboard import import_tensorboard

            dist.raise_together(import_tensorboard)
        if call[TRACK]:
            from nascli.engine.trackers import import_client

            dist.raise_together(lambda: import_client(str(call[TRACK])))
        if call[RESUME]:
            folder, job = _resume(call, dist)
        else:
            job, files = dist.raise_together(lambda: _prepare(call, terminal, dist))
            check_agreement(dist, job.recipe.train)
            if call[DRY_RUN]:
                refuse_several(dist, "--dry-run")
                _show_estimate(terminal, job)
                terminal.next(["nascli", *call.words(DRY_RUN, JSON)])
                return
            folder = open_in_main(dist, lambda: _create(call, job, files))
        _train(terminal, folder, job)


def _prepare(call: Call, terminal: Terminal, dist: "DistContext") -> tuple["TrainJob", tuple[Path, ...]]:
    """The job that the options ask for, and the files it was made from."""
    from nascli.classify.prepare import prepare_train_job
    from nascli.engine.device import settle_precision
    from nascli.engine.launch import local_device
    from nascli.engine.optim import remark_on_lr

    source = open_source(call, terminal)
    device = local_device(call[DEVICE], dist)
    recipe = settle_precision(source.recipe, device)
    job = prepare_train_job(recipe, source.architecture.architecture, device, dist, source.weights)
    note_images(terminal, job.data)
    if job.start:
        terminal.note(job.start.text)
    job.check()  # what cannot be trained is refused before there is a folder
    if remark := remark_on_lr(job.recipe.train):
        terminal.note(remark)
    if job.unused_keys:
        terminal.note(f"no effect on {job.spec.name}: {', '.join(job.unused_keys)}")
    return job, source.files


def _create(call: Call, job: "TrainJob", files: tuple[Path, ...]) -> RunFolder:
    from nascli.classify.job import describe_data
    from nascli.engine.device import describe_device
    from nascli.models.families import NETWORK_FILE
    from nascli.models.spec import format_network

    return create_run(
        "train",
        run_label(job.data.name, job.spec.name),
        job.recipe,
        **place_run(call),
        inputs=files,
        files={NETWORK_FILE: format_network(job.spec)},
        device=describe_device(job.device),
        asked={
            "cell": call[CELL],
            "recipe": call[RECIPE],
            "device": call[DEVICE],
            "tensorboard": call[TENSORBOARD],
            "track": call[TRACK],
        },
        data=describe_data(job.data),
        teacher=job.teacher and job.teacher.description,
        start_weights=job.start and job.start.record,
        write_start=job.start.write if job.start else None,
        **describe_images(job.data),
    )


def _resume(call: Call, dist: "DistContext") -> tuple[RunFolder | None, "TrainJob"]:
    """The run folder, which the main process alone has, and its job."""
    from nascli.classify.job import MAY_MOVE, describe_data
    from nascli.classify.prepare import resume_train_job
    from nascli.classify.teacher import find_teacher
    from nascli.engine.launch import local_device

    keys = call.keys(TrainRecipe)

    def open_job() -> "TrainJob":
        if "train.teacher" in keys:
            keys["train.teacher"] = find_teacher(keys["train.teacher"], runs_folder(), note)
        return resume_train_job(path, keys, local_device(call[DEVICE], dist), dist, note)

    note = call.terminal(quiet=not dist.is_main).note
    path = dist.raise_together(lambda: find_run(str(call[RESUME]), "train", runs_folder(), note))
    with resume_in_main(dist, path, "train") as folder:
        job = dist.raise_together(open_job)
        if folder is not None:
            folder.move_inputs(job.recipe, {"data": MAY_MOVE, "train": ("teacher",)}, describe_data(job.data))
            if call[TENSORBOARD]:
                folder.update(asked=read_run(path)["asked"] | {"tensorboard": True})
    return folder, job


def _train(terminal: Terminal, folder: RunFolder | None, job: "TrainJob") -> None:
    from nascli.classify.job import run_train_job
    from nascli.cli.progress import TrainProgress, call_all
    from nascli.engine.task import Run
    from nascli.engine.tensorboard import EVENTS_FOLDER, TensorBoardWriter
    from nascli.engine.trackers import Tracker
    from nascli.signals import stop_on_signals

    if folder is None:  # the main process writes and prints
        with stop_on_signals(second_ends=False) as stop:
            run_train_job(job, None, Run(job.device, job.dist, stop, terminal.note))
        return
    with folder:
        plan = job.plan
        config = plan.config
        note_run(terminal, folder, job.recipe, job.device, plan.dist, plan.batch_size)
        if config.lr_base_size:
            terminal.note(
                f"learning rate {config.lr:g} for {config.lr_base_size} images per step: "
                f"{plan.peak_lr:g} for {plan.batch_size}"
            )
        with ExitStack() as entered:
            stop = entered.enter_context(stop_on_signals(second_ends=job.dist.size == 1))
            progress = TrainProgress(terminal, epochs=plan.config.epochs, steps=plan.steps, batch_size=plan.batch_size)
            watchers: list[TrainProgress | TensorBoardWriter | Tracker] = [entered.enter_context(progress)]
            asked = read_run(folder.path)["asked"]
            if asked.get("track"):
                settings = job.recipe.model_dump(mode="json", exclude_none=True)
                watchers.append(entered.enter_context(Tracker(asked["track"], folder.path, settings, terminal.note)))
            if asked.get("tensorboard"):
                events = TensorBoardWriter(folder.path / EVENTS_FOLDER, plan.learning_rate, plan.steps_per_epoch)
                watchers.append(entered.enter_context(events))
            on_step = call_all(*(each.on_step for each in watchers))
            on_epoch = call_all(*(each.on_epoch for each in watchers))
            training = Run(job.device, job.dist, stop, terminal.note, on_step, on_epoch)
            results = run_train_job(job, folder.path, training)
        _show_results(terminal, folder.path, results)
        folder.update(results=results)


def _show_results(terminal: Terminal, folder: Path, results: dict[str, Any]) -> None:
    split, validation = printable(results["split"]), results["validation"]
    rows = [
        (f"top-1 on {split}", f"{results['top1']:.2%}"),
        *([(f"top-5 on {split}", f"{results['top5']:.2%}")] if results["classes"] > 5 else []),
        (f"loss on {split}", f"{results['loss']:.4f}"),
        (f"images of {split}", f"{results['images']:,}"),
        *([("top-1 on images held out", f"{validation['top1']:.2%}")] if validation else []),
        ("params", f"{results['params']:,}"),
        (f"mult-adds at {results['image_size']} px", format_quantity(results["mult_adds"])),
        ("time", format_duration(results["seconds"])),
    ]
    terminal.show_table(f"{results['cell']} on {results['dataset']}: final", rows)
    terminal.show(f"\nweights: {folder / 'weights.safetensors'}")
    terminal.result({"run": str(folder), **results})
    terminal.next(["nascli", "evaluate", folder], ["nascli", "detect", "--backbone", folder])


def _show_estimate(terminal: Terminal, job: "TrainJob") -> None:
    from nascli.classify.estimate import estimate_train_job

    plan = estimate_train_job(job)
    rows = [
        ("network", f"{job.spec.name}, {job.spec.size_text}"),
        ("params", f"{plan.params:,}"),
        (f"mult-adds at {plan.image_size} px", format_quantity(plan.mult_adds)),
        ("images", f"{plan.train_images:,} to train on, {plan.val_images:,} to validate on"),
        ("steps", f"{plan.steps:,} in {plan.epochs} epochs"),
        ("time per step", f"{plan.seconds_per_step * 1000:.0f} ms"),
        ("memory per step", f"{plan.memory / 2**20:,.1f} MiB"),
        ("estimated total", format_duration(plan.seconds)),
    ]
    terminal.show_table(f"plan on {job.data.name}; nothing was written", rows)
    about = {"dry_run": True, "dataset": job.data.name, "cell": job.spec.name}
    terminal.result({**about, **asdict(plan), **describe_images(job.data)})
