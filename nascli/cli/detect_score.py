"""`nascli detect score`: the average precision of a trained detector, or of results of any tool."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nascli.cli.console import Terminal
from nascli.cli.data_notes import note_issues
from nascli.cli.detect_data import DATA, FOLDER
from nascli.cli.detect_recipe import resolve_recipe
from nascli.cli.detect_view import describe_split, show_scores
from nascli.cli.options import DEVICE, JSON, OVERWRITE, Call, Setting, command, runs_folder
from nascli.cli.processes import require_one_process
from nascli.files import check_writable, fill_folder, write_text
from nascli.records import write_record
from nascli.runs.find import find_run, is_run
from nascli.units import count_of

if TYPE_CHECKING:
    from nascli.data.detection.dataset import DetectionSplit
    from nascli.detect.coco_eval import Detection

EngineName = Literal["auto", "trained", "folded", "openvino"]
ENGINE_HELP = "What answers: the detector as it was trained, or a faster form; auto is the fastest here."
ENGINE = Setting[EngineName]("--engine", ENGINE_HELP, "trained")
PRECISION = Setting[Literal["float32", "bfloat16"]]("--precision", "What the engine computes in.", "float32")
RESULTS = Setting[Path](
    "results", "A COCO results file of any tool, or the run of a detector.", ..., metavar="RESULTS.json|RUN|latest"
)

_Found = tuple["DetectionSplit", "list[Detection]", dict[str, Any]]
"""The split that is scored, the detections on it, and what the report says of their origin."""


@command(
    "score",
    [RESULTS, *DATA, ENGINE, PRECISION, DEVICE, FOLDER, OVERWRITE, JSON],
    examples=[
        "nascli detect score results.json --coco --out scored",
        "nascli detect score latest --engine auto",
        "nascli detect score runs/detect/mine --dataset coco:other/data",
    ],
)
def score(call: Call) -> None:
    """Score a COCO results file of any tool, for which no image is needed, or a trained detector.

    A detector is run on the data of its training, or on those that the options name. With --out, the scores, the
    confusion and the worst images are written too.
    """
    from nascli.detect.coco_eval import METRIC, score_detections
    from nascli.detect.confusion import write_error_analysis
    from nascli.detect.predict import check_output_folder
    from nascli.detect.results_file import DETECTION_FILE, RESULTS_FILE, format_results, hash_results
    from nascli.report.confusion_plot import write_box_confusion

    require_one_process("detect score")
    terminal, given, out = call.terminal(), call[RESULTS], call[FOLDER]
    folder = check_output_folder(out, call[OVERWRITE]) if out else None
    if folder:
        check_writable(folder / DETECTION_FILE)
    computed = given.name == "latest" or is_run(given)
    split, found, origin = (_run_detector if computed else _read_results)(call, terminal)
    report = {**origin, "metric": METRIC, **score_detections(split, found).to_dict()}
    show_scores(terminal, f"{given} on {report['dataset']}, {split.name}", report, [])
    terminal.result(report)  # before anything is written: a full disk shall not take the scores
    if folder:
        with fill_folder(folder) as place:
            report["worst_images"] = write_error_analysis(split, found, place)
            if computed:
                text = format_results(split, found)
                write_text(place / RESULTS_FILE, text)
                report |= hash_results(text)
            write_record(place / DETECTION_FILE, report)
            write_box_confusion(place)
        terminal.show(f"\nwritten: {folder}")
        terminal.result(report)


def _read_results(call: Call, terminal: Terminal) -> _Found:
    """The detections of a file."""
    from nascli.data.detection.registry import load_ground_truth
    from nascli.detect.results import read_results

    call.refuse("results are read, not computed; they exclude", [ENGINE, PRECISION, DEVICE])
    path, config = call[RESULTS], resolve_recipe(call, terminal)[0].data
    split = load_ground_truth(config)
    read = read_results(path, split, strict=config.strict)
    terminal.note(
        f"{split.source}: {describe_split(split)}, {count_of(len(split.categories), 'class')}; "
        f"{len(read.detections):,} found"
    )
    note_issues(terminal, split.source, split.issues)
    note_issues(terminal, path, read.issues)
    for each in read.doubts:
        terminal.note(f"warning: {each.first}: {each.remedy}")
    return (
        split,
        read.detections,
        {
            "results": str(path),
            "dataset": config.dataset,
            "split": split.name,
            "issues": [each.to_dict() for each in split.issues],
            "results_issues": [each.to_dict() for each in read.issues],
        },
    )


def _run_detector(call: Call, terminal: Terminal) -> _Found:
    """The detections of a trained detector."""
    from nascli.data.detection.registry import load_ground_truth
    from nascli.detect.engines import accelerate
    from nascli.detect.inference import detect_known
    from nascli.detect.model import load_detector
    from nascli.engine.device import resolve_device
    from nascli.engine.dist import device_name
    from nascli.engine.task import Run

    folder = find_run(str(call[RESULTS]), "detect", runs_folder(), terminal.note)
    run = Run(resolve_device(call[DEVICE]), log=terminal.note)
    detector, spec = load_detector(folder, run.device)
    recipe, _ = resolve_recipe(call, terminal, run=folder)
    split = load_ground_truth(recipe.data, images=True)
    terminal.note(f"{split.source}: {describe_split(split)}, {count_of(len(split.categories), 'class')}")
    note_issues(terminal, split.source, split.issues)
    answering, engine = accelerate(detector, call[ENGINE], call[PRECISION])
    batch_size = -(-recipe.train.batch_size // recipe.train.grad_accum_steps)  # which detections depend on
    since = time.perf_counter()
    with terminal.status("detecting boxes"):
        found = detect_known(answering, spec.categories, split, run, batch_size)
    seconds = time.perf_counter() - since
    return (
        split,
        found,
        {
            "run": str(folder),
            "dataset": recipe.data.dataset,
            "split": split.name,
            "issues": [each.to_dict() for each in split.issues],
            "engine": engine,
            "precision": call[PRECISION],
            "device": device_name(run.device, run.dist),
            "seconds": round(seconds, 1),
        },
    )
