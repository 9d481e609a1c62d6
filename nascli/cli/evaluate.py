"""`nascli evaluate`: how good trained networks are on a data set, and which classes they see in a user's own images."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nascli.cli.console import Terminal
from nascli.cli.data_notes import VAL_SPLIT, note_issues
from nascli.cli.options import DEVICE, JSON, MAX_MEGAPIXELS, Call, Setting, command, runs_folder
from nascli.errors import InputError, NascliError
from nascli.files import check_writable, write_bytes, write_text
from nascli.records import write_record
from nascli.references import is_reference
from nascli.runs.find import find_run
from nascli.units import format_quantity
from nascli.zoo import PREFIX

if TYPE_CHECKING:
    from nascli.classify.evaluate import EvaluationReport
    from nascli.classify.metrics import InferenceOptions
    from nascli.classify.predict import ImagePredictions
    from nascli.data.images.walk import FoundImages

LARGEST_INLINE = 20
"""Classes up to which the confusion matrix stands in `evaluation.json`; with more it is a file beside it."""

ALL_CLASSES = 20
"""Classes up to which each has a row; of more, the weakest have one."""

WEAKEST = 10

_NO_FILES: dict[str, Any] = {"confusion_file": None, "confusion_figure": None, "confusion_matrix": None}

RUNS = Setting[list[str]](
    "runs",
    "Folders of train or of build --import-weights; latest, hf:ORG/NAME, zoo:NAME.",
    [],
    metavar="RUN",
    show_default=False,
)
CELL = Setting[str | None]("--cell", "With --weights zoo: the same as zoo:NAME.", metavar="NAME")
WEIGHTS = Setting[Literal["zoo"] | None]("--weights", "Weights of --cell: those that ship with nascli.", metavar="zoo")
DATASET = Setting[str | None](
    "--dataset", "Another data set with some of its classes; by default the run's own.", metavar="NAME"
)
DATA_DIR = Setting[str | None]("--data-dir", "Folder of the data sets; by default the run's own.", metavar="DIR")
FLIP = Setting[bool]("--flip", "Average the probabilities of each image and its mirror image.", False)
CROPS = Setting[int](
    "--crops", "Average over 5 crops of each image (corners and center), or 10 (mirrored too).", 1, metavar="N"
)
PREDICT = Setting[list[Path]](
    "--predict", "Classify this image, or those in and below a folder; repeat for more.", [], metavar="PATH"
)
MAX_UNREADABLE = Setting[int | None](
    "--max-unreadable",
    "Skip up to N images that cannot be decoded; by default as the run's recipe says, with --predict none.",
    min=0,
    metavar="N",
)
BATCH_SIZE = Setting[int]("--batch-size", "Images per batch; changes speed and memory only.", 256, min=1, metavar="N")
ENGINE = Setting[Literal["auto", "trained", "folded", "graphed", "compiled", "openvino"] | None](
    "--engine",
    "What answers: the network as it was trained, or a faster form; auto, the fastest here, is the default for int8 "
    "and for --predict with 32 images or more, else trained.",
)
PRECISION = Setting[Literal["float32", "bfloat16", "int8", "auto"]](
    "--precision", "What the engine computes in; int8 and auto: as build --optimize admitted it.", "float32"
)
FOLDER = Setting[Path | None](
    "--out", "Folder for evaluation.json; by default the run folder, of hf: and zoo: none.", metavar="DIR"
)


@command(
    "evaluate",
    [
        RUNS,
        CELL,
        WEIGHTS,
        DATASET,
        DATA_DIR,
        VAL_SPLIT,
        FLIP,
        CROPS,
        PREDICT,
        MAX_UNREADABLE,
        MAX_MEGAPIXELS,
        BATCH_SIZE,
        ENGINE,
        PRECISION,
        DEVICE,
        FOLDER,
        JSON,
    ],
    examples=[
        "nascli evaluate latest",
        "nascli evaluate runs/train/* --dataset folder:photos --flip",
        "nascli evaluate nasnet-large --dataset imagenet --crops 10",
        "nascli evaluate latest --predict holiday.jpg --predict photos --json",
    ],
)
def run(call: Call) -> None:
    """Measure trained networks on test images; or, with --predict, classify your own images.

    Top-1, top-5, loss, each class, the confusions, calibration. Several runs stand in one table.
    """
    from nascli.classify.metrics import InferenceOptions
    from nascli.data.images.walk import find_images
    from nascli.engine.device import resolve_device
    from nascli.engine.task import Run
    from nascli.models.deploy.engines import MANY_IMAGES

    terminal, runs, out = call.terminal(), _list_runs(call), call[FOLDER]
    if call[PREDICT]:
        if len(runs) > 1:
            raise InputError(
                f"--predict is for one RUN, here are {len(runs)}: {', '.join(runs)}",
                "Write --predict before each image",
            )
        surplus = (DATASET, DATA_DIR, VAL_SPLIT, FOLDER)
        call.refuse("--predict excludes", surplus, "It needs no data set, and writes no file")
    if out and len(runs) > 1:
        raise InputError(f"--out is for one RUN, here are {len(runs)}", "Without it each keeps its own evaluation.json")
    found = {find_run(each, "train", runs_folder(), terminal.note): each for each in runs}
    folders = list({folder.resolve(): folder for folder in found}.values())  # latest is one of runs/train/* too
    places = {folder: out or (None if is_reference(found[folder]) else folder) for folder in folders}
    on = Run(resolve_device(call[DEVICE]), log=terminal.note)
    images = find_images(call[PREDICT]) if call[PREDICT] else None
    is_worth_it = call[PRECISION] in ("int8", "auto") or (images and len(images.files) >= MANY_IMAGES)
    engine = call[ENGINE] or ("auto" if is_worth_it else "trained")
    options = InferenceOptions(on, call[BATCH_SIZE], call[CROPS], call[FLIP], engine, call[PRECISION])
    if images:
        limits = {"max_megapixels": call[MAX_MEGAPIXELS], "max_unreadable": call[MAX_UNREADABLE] or 0}
        _predict(terminal, folders[0], images, options, limits)
        return
    asked = {
        "dataset": call[DATASET],
        "data_dir": call[DATA_DIR],
        "val_split": call[VAL_SPLIT],
        "max_unreadable_images": call[MAX_UNREADABLE],
        "max_megapixels": call[MAX_MEGAPIXELS],
    }
    results, errors = _measure(terminal, places, asked, options)
    best = max(results, key=lambda each: each["top1"])
    if len(runs) == 1:
        _show_evaluation(terminal, best)
        terminal.result(best)
    else:
        _show_runs(terminal, results)
        terminal.result({"runs": results})
    if errors:  # what was measured is shown all the same
        raise errors[0]
    if files := _list_files(results, list(places.values())):
        terminal.show("\nwritten: " + ", ".join(files))
    backbone = found[next(folder for folder in folders if str(folder) == best["run"])]
    terminal.next(["nascli", "detect", "--backbone", backbone if is_reference(backbone) else Path(best["run"])])


def _list_runs(call: Call) -> list[str]:
    """The runs that the command line names; `--cell NAME --weights zoo` is another way to write one."""
    cell, weights = call[CELL], call[WEIGHTS]
    if cell is None and weights is None:
        if not call[RUNS]:
            raise InputError("evaluate needs a RUN", "nascli train makes one; or name one of the zoo: zoo:NAME")
        return call[RUNS]
    call.refuse("--cell and --weights name a network, and exclude", [RUNS])
    if cell is None or weights is None:
        raise InputError(
            "--cell and --weights go together", "A genotype alone has no weights; --weights zoo takes those of the zoo"
        )
    return [PREFIX + cell]


def _measure(
    terminal: Terminal, places: Mapping[Path, Path | None], asked: dict[str, Any], options: "InferenceOptions"
) -> tuple[list[dict[str, Any]], list[NascliError]]:
    """The results of each folder, and the errors of writing them. All are checked before the first is measured.

    Args:
        places: The networks' folders, each with the one that its results are written into, if any.
    """
    from nascli.classify.evaluate import evaluate_runs, open_trained_run

    trained = [open_trained_run(folder, **asked) for folder in places]
    for each in filter(None, places.values()):
        check_writable(each / "evaluation.json")
    reports = evaluate_runs(trained, options)
    results, errors = list[dict[str, Any]](), list[NascliError]()
    for folder, place in places.items():
        with terminal.status(f"measuring {folder}"):
            report = next(reports)
        note_issues(terminal, report.results["dataset"], report.issues)
        results.append(report.results | _NO_FILES)
        try:
            results[-1] |= _write(report, place) if place else {}
        except NascliError as error:
            errors.append(error)
    return results, errors


def _write(report: "EvaluationReport", folder: Path) -> dict[str, Any]:
    """Write `evaluation.json` and the confusion beside it; the entries of the results that say which files."""
    from nascli.report.confusion_plot import MAX_CLASSES, plot_confusion

    confusion, names = report.confusion, report.class_names
    results, files = report.results, dict(_NO_FILES)
    if confusion.classes <= MAX_CLASSES:
        title = f"{results['cell']} on the {results['split']} images of {results['dataset']}"
        write_bytes(folder / "confusion.png", plot_confusion(confusion.counts.numpy(), names, title).png)
        files["confusion_figure"] = "confusion.png"
    if confusion.classes <= LARGEST_INLINE:
        files["confusion_matrix"] = confusion.counts.tolist()
    else:
        write_text(folder / "confusion.csv", confusion.to_csv(names))
        files["confusion_file"] = "confusion.csv"
    write_record(folder / "evaluation.json", results | files)
    return files


def _list_files(results: Sequence[Mapping[str, Any]], places: Sequence[Path | None]) -> list[str]:
    """The files of one run, or in words those of several; none where there is no folder for them."""
    if not any(places):
        return []
    if len(results) > 1:
        return ["evaluation.json in each run's folder"]
    (one,), (place,) = results, places
    assert place is not None
    written = ("evaluation.json", one["confusion_file"], one["confusion_figure"])
    return [str(place / name) for name in written if name]


def _predict(
    terminal: Terminal,
    folder: Path,
    found: "FoundImages",
    options: "InferenceOptions",
    limits: Mapping[str, Any],
) -> None:
    from nascli.classify.predict import predict_classes
    from nascli.data.images.decoding import inspect_headers

    issues = (*found.issues, *inspect_headers(found.files))
    note_issues(terminal, "--predict", issues)
    with terminal.status("classifying images"):
        predictions, done = predict_classes(folder, found.files, options, **limits)
    _show_predictions(terminal, predictions, done)
    listed = [each.to_dict() for each in issues]
    terminal.result({**done, "issues": listed, "images": [prediction.to_dict() for prediction in predictions]})
    terminal.next(["nascli", "evaluate", folder])


def _show_evaluation(terminal: Terminal, results: Mapping[str, Any]) -> None:
    """One network: the figures and the classes."""
    skipped = len(results["skipped"])
    classes, seen = results["classes"], results["classes_in_images"]
    rows = [
        ("top-1", f"{results['top1']:.2%}"),
        *([("top-5", f"{results['top5']:.2%}")] if classes > 5 else []),
        ("loss", f"{results['loss']:.4f}"),
        ("calibration error", f"{results['calibration_error']:.2%}"),
        (
            "images",
            f"{results['images']:,}" + (f", {skipped:,} more skipped that cannot be decoded" if skipped else ""),
        ),
        ("images/s", f"{results['images_per_second']:,.0f}"),
        ("classes", f"{classes:,}" if seen == classes else f"{seen:,} of {classes:,} in the images"),
        ("averaged over", _describe_views(results["tta"])),
        *_describe_input(results["preprocessing"]),
    ]
    terminal.show_table(f"{results['cell']} on the {results['split']} images of {results['dataset']}", rows)
    terminal.show("")
    _show_classes(terminal, results["per_class"])


def _show_runs(terminal: Terminal, measured: Sequence[Mapping[str, Any]]) -> None:
    """Several networks: one row each."""
    data = {results["dataset"] for results in measured}
    views = {_describe_views(results["tta"]) for results in measured}
    columns = ("run", "cell", *(["data set"] if len(data) > 1 else []), "params", "top-1", "top-5", "loss", "ECE")
    names = [Path(results["run"]).resolve().name for results in measured]
    rows = [
        (
            name if names.count(name) == 1 else results["run"],
            results["cell"],
            *([results["dataset"]] if len(data) > 1 else []),
            format_quantity(results["params"]),
            f"{results['top1']:.2%}",
            f"{results['top5']:.2%}" if results["classes"] > 5 else "-",
            f"{results['loss']:.4f}",
            f"{results['calibration_error']:.2%}",
            f"{results['images_per_second']:,.0f}",
        )
        for name, results in zip(names, measured, strict=True)
    ]
    title = f"{len(measured)} networks on test images" + (f" of {data.pop()}" if len(data) == 1 else "")
    terminal.show_table(title, rows, (*columns, "images/s"))
    terminal.show(f"\nECE: expected calibration error. Averaged over: {'; '.join(sorted(views))}")


def _show_predictions(terminal: Terminal, predictions: "Sequence[ImagePredictions]", done: Mapping[str, Any]) -> None:
    """One row per image: its classes, the likeliest first."""

    def describe(label: int, name: str | None, probability: float) -> str:
        return f"{label if name is None else name} {probability:.1%}"

    rows = [
        (str(each.path), *(describe(one.label, one.name, one.probability) for one in each.top)) for each in predictions
    ]
    places = ("likeliest", "second", "third", "fourth", "fifth")[: len(predictions[0].top)]
    terminal.show_table(f"classes by {done['cell']}", rows, ("image", *places))
    (size, *_) = (text for _, text in _describe_input(done["preprocessing"]))
    terminal.show(f"\ninput: {size}; averaged over {_describe_views(done['tta'])}")


def _show_classes(terminal: Terminal, classes: Sequence[Mapping[str, Any]]) -> None:
    """Each class, or those with the lowest top-1."""
    title, shown = "by class", list(classes)
    if len(classes) > ALL_CLASSES:
        seen = [each for each in classes if each["images"]]
        shown = sorted(seen, key=lambda each: (each["top1"], each["label"]))[:WEAKEST]
        title = f"the {len(shown)} classes with the lowest top-1"
    labels = _label_classes([each["name"] for each in classes])
    rows = [
        (
            labels[each["name"]],
            f"{each['images']:,}",
            "-" if each["top1"] is None else f"{each['top1']:.2%}",
            "-" if each["confused_with"] is None else f"{labels[each['confused_with']]} ({each['confused']:,})",
        )
        for each in shown
    ]
    terminal.show_table(title, rows, ("class", "images", "top-1", "most often taken for"))


def _label_classes(names: Sequence[str]) -> dict[str, str]:
    """A readable label of each class: its name; of ImageNet's WordNet ids, the category besides."""
    from nascli.data.imagenet import are_imagenet_wnids, imagenet_categories

    if not are_imagenet_wnids(names):
        return {name: name for name in names}
    return {wnid: f"{wnid} {name}" for wnid, name in zip(names, imagenet_categories(), strict=True)}


def _describe_views(views: Mapping[str, Any]) -> str:
    """The views of an image that were averaged, in words."""
    if views["crops"] == 1:
        return "the image and its mirror image" if views["flip"] else "the image alone"
    zeros = f", {views['padding']} of them zeros on each side" if views["padding"] else ""
    mirrored = ", mirrored too" if views["flip"] else ""
    return f"{views['count']} views: four corners and center of {views['cut_from']} px{zeros}{mirrored}"


def _describe_input(used: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The preprocessing of an image in words, as rows."""
    stretched = used["resize"] == "both_sides"
    part = "whole" if stretched and used["crop"] == 1 else f"central crop {used['crop']:g}"
    yield "input", f"{used['image_size']} px, {part}, {used['interpolation']}" + (", stretched" if stretched else "")
    for name in ("mean", "std"):
        yield name, " ".join(f"{value:.4g}" for value in used[name])
