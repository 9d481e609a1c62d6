"""`nascli evaluate`: how good trained networks are on a data set, and what they see in a person's own images."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from nascli.cli.console import Terminal
from nascli.cli.evaluate_view import show_evaluation, show_predictions, show_runs
from nascli.cli.options import DataDirOption, DeviceOption, JsonOption, runs_folder
from nascli.errors import InputError, NascliError
from nascli.files import write_bytes, write_json, write_text
from nascli.runs import find_run

if TYPE_CHECKING:
    from nascli.classify.evaluate import EvaluationReport

NAME = "evaluate"

LARGEST_INLINE = 20
"""Classes up to which the confusion matrix stands in `evaluation.json`; with more it is a file beside it."""


def run(
    run: Annotated[
        list[str],
        typer.Argument(metavar="RUN", help="Folders of nascli train or of build --import-weights, or latest."),
    ],
    dataset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Another data set with the same classes; by default the run's own."),
    ] = None,
    data_dir: DataDirOption = None,
    flip: Annotated[
        bool, typer.Option("--flip", help="Average the probabilities of each image and its mirror image.")
    ] = False,
    crops: Annotated[
        int,
        typer.Option(
            metavar="N", help="Average over 5 parts of each image (corners and centre), or 10 (mirrored too)."
        ),
    ] = 1,
    predict: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="Name what is on this picture, or those of a folder; repeat for more."),
    ] = None,
    max_bad: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Images that cannot be decoded and may be left out; by default what the run's recipe says.",
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at once; changes speed and memory only.")] = 256,
    device: DeviceOption = "auto",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where evaluation.json goes; by default the run folder.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure trained networks on test images; or, with --predict, name what is on your own pictures.

    Top-1, top-5, loss, each class, who is taken for whom, calibration. Several runs stand in one table.

    Examples:

      nascli evaluate latest

      nascli evaluate runs/train/* --dataset folder:photos --flip

      nascli evaluate nasnet-large --dataset imagenet --crops 10

      nascli evaluate latest --predict holiday.jpg --predict photos --json
    """
    from nascli.engine.device import resolve_device

    terminal = Terminal(as_json=as_json)
    if predict:
        _refuse_for_predict(run, {"--dataset": dataset, "--data-dir": data_dir, "--max-bad": max_bad, "--out": out})
    if out and len(run) > 1:
        raise InputError(f"--out is for one RUN, here are {len(run)}", "Without it each keeps its own evaluation.json")
    found = [find_run(each, "train", runs_folder()) for each in run]
    folders = list({folder.resolve(): folder for folder in found}.values())  # latest is one of runs/train/* too
    how = {
        "batch_size": batch_size,
        "device": resolve_device(device),
        "crops": crops,
        "flip": flip,
        "note": terminal.note,
    }
    if predict:
        _predict(terminal, folders[0], predict, how)
        return
    asked = {"dataset": dataset, "data_dir": data_dir, "max_unreadable_images": max_bad}
    results = _measure(terminal, folders, asked, out, how)
    best = max(results, key=lambda each: each["top1"])
    if len(run) == 1:
        show_evaluation(terminal, best, out or folders[0])
        terminal.result(best)
    else:
        show_runs(terminal, results)
        terminal.result({"runs": results})
    terminal.next(f"nascli detect --backbone {shlex.quote(best['run'])}")


def _refuse_for_predict(runs: list[str], options: dict[str, object]) -> None:
    """InputError where something is given that --predict would ignore."""
    if len(runs) > 1:
        raise InputError(
            f"--predict is for one RUN, here are {len(runs)}: {', '.join(runs)}", "Write --predict before each picture"
        )
    surplus = [name for name, value in options.items() if value is not None]
    if surplus:
        raise InputError(f"--predict excludes {', '.join(surplus)}", "It needs no data set, and writes no file")


def _measure(
    terminal: Terminal, folders: list[Path], asked: dict[str, Any], out: Path | None, how: dict[str, Any]
) -> list[dict[str, Any]]:
    """The results of each folder, written. All are looked at before the first is measured."""
    from nascli.classify.evaluate import evaluate_runs, open_trained_run

    assessments = evaluate_runs([open_trained_run(folder, **asked) for folder in folders], **how)
    results = []
    for folder in folders:
        with terminal.notes.status(f"measuring {escape(str(folder))}"):
            assessment = next(assessments)
        results.append(_write(assessment, out or folder))
    return results


def _predict(terminal: Terminal, folder: Path, paths: list[Path], how: dict[str, Any]) -> None:
    from nascli.classify.predict import predict_classes
    from nascli.data.folder import find_images

    found = find_images(paths)
    with terminal.notes.status("looking at pictures"):
        predictions, done = predict_classes(folder, found, **how)
    show_predictions(terminal, predictions, done)
    terminal.result({**done, "images": [prediction.to_dict() for prediction in predictions]})
    terminal.next(f"nascli evaluate {shlex.quote(str(folder))}")


def _write(assessment: "EvaluationReport", folder: Path) -> dict[str, Any]:
    """Write `evaluation.json` and what stands beside it; the results with the names of these files."""
    from nascli.report.confusion_plot import MAX_CLASSES, plot_confusion

    confusion, names = assessment.confusion, assessment.class_names
    results = assessment.results | {"confusion_file": None, "confusion_picture": None, "confusion_matrix": None}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if confusion.classes <= MAX_CLASSES:
            title = f"{results['cell']} on the test images of {results['dataset']}"
            write_bytes(folder / "confusion.png", plot_confusion(confusion.counts.numpy(), names, title).png)
            results["confusion_picture"] = "confusion.png"
        if confusion.classes <= LARGEST_INLINE:
            results["confusion_matrix"] = confusion.counts.tolist()
        else:
            write_text(folder / "confusion.csv", confusion.to_csv(names))
            results["confusion_file"] = "confusion.csv"
        write_json(folder / "evaluation.json", results)
    except OSError as error:
        path = folder / "evaluation.json"
        raise NascliError(f"{path} cannot be written: {error.strerror or error}", "Choose another --out") from error
    return results
