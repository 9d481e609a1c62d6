"""What `nascli evaluate` shows: one network measured, several side by side, the classes of a person's pictures."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from nascli.cli.console import Terminal, count, table

if TYPE_CHECKING:
    from nascli.classify.predict import ImagePredictions, Prediction

_ALL_CLASSES = 20
"""Up to so many classes each has a row."""

_WEAKEST = 10
"""How many have one where there are more."""


def show_evaluation(terminal: Terminal, results: Mapping[str, Any], folder: Path) -> None:
    """One network: the figures, the classes, the files."""
    rows = [
        ("top-1", f"{results['top1']:.2%}"),
        ("top-5", f"{results['top5']:.2%}"),
        ("loss", f"{results['loss']:.4f}"),
        ("calibration error", f"{results['calibration_error']:.2%}"),
        ("images", _images(results)),
        ("images/s", f"{results['images_per_second']:,.0f}"),
        ("classes", _classes(results)),
        ("averaged over", describe_views(results["tta"])),
        *_input(results["preprocessing"]),
    ]
    terminal.show(table(escape(f"{results['cell']} on the test images of {results['dataset']}"), ("", ""), rows))
    terminal.show("")
    terminal.show(_class_table(results["per_class"]))
    written = ["evaluation.json", results["confusion_file"], results["confusion_picture"]]
    terminal.show("\nwritten: " + ", ".join(escape(str(folder / name)) for name in written if name))


def show_runs(terminal: Terminal, measured: Sequence[Mapping[str, Any]]) -> None:
    """Several networks: one row each."""
    data = {results["dataset"] for results in measured}
    views = {describe_views(results["tta"]) for results in measured}
    columns = ("run", "cell", *(["data set"] if len(data) > 1 else []), "params", "top-1", "top-5", "loss", "ECE")
    rows = [
        (
            escape(name),
            escape(results["cell"]),
            *([escape(results["dataset"])] if len(data) > 1 else []),
            count(results["params"]),
            f"{results['top1']:.2%}",
            f"{results['top5']:.2%}",
            f"{results['loss']:.4f}",
            f"{results['calibration_error']:.2%}",
            f"{results['images_per_second']:,.0f}",
        )
        for name, results in zip(_run_names([results["run"] for results in measured]), measured, strict=True)
    ]
    title = f"{len(measured)} networks on test images" + (f" of {data.pop()}" if len(data) == 1 else "")
    terminal.show(table(escape(title), (*columns, "images/s"), rows))
    terminal.show(
        f"\nECE: expected calibration error. Averaged over: {'; '.join(sorted(views))}\n"
        "written: evaluation.json in each run's folder"
    )


def show_predictions(terminal: Terminal, predictions: "Sequence[ImagePredictions]", done: Mapping[str, Any]) -> None:
    """One row a picture: its classes, the likeliest first."""
    rows = [
        (escape(str(each.path)), *(f"{escape(_name(guess))} {guess.probability:.1%}" for guess in each.top))
        for each in predictions
    ]
    places = ("likeliest", "second", "third", "fourth", "fifth")[: len(predictions[0].top)]
    terminal.show(table(escape(f"what {done['cell']} sees"), ("picture", *places), rows))
    (size, *_) = (text for _, text in _input(done["preprocessing"]))
    terminal.show(f"\ninput: {size}; averaged over {describe_views(done['tta'])}")


def describe_views(views: Mapping[str, Any]) -> str:
    """Which views of an image were averaged, in words."""
    if views["crops"] == 1:
        return "the image and its mirror image" if views["flip"] else "the image alone"
    zeros = f", {views['padding']} of them zeros on each side" if views["padding"] else ""
    mirrored = ", mirrored too" if views["flip"] else ""
    return f"{views['count']} views: four corners and centre of {views['cut_from']} px{zeros}{mirrored}"


def _class_table(classes: Sequence[Mapping[str, Any]]) -> Table:
    """Each class, or the ones that are recognised least."""
    title, shown = "by class", list(classes)
    if len(classes) > _ALL_CLASSES:
        seen = [each for each in classes if each["images"]]
        shown = sorted(seen, key=lambda each: (each["top1"], each["label"]))[:_WEAKEST]
        title = f"the {len(shown)} classes with the lowest top-1"
    readable = _readable([each["name"] for each in classes])
    rows = [
        (
            escape(readable[each["name"]]),
            f"{each['images']:,}",
            "-" if each["top1"] is None else f"{each['top1']:.2%}",
            "-"
            if each["confused_with"] is None
            else f"{escape(readable[each['confused_with']])} ({each['confused']:,})",
        )
        for each in shown
    ]
    return table(title, ("class", "images", "top-1", "most often taken for"), rows)


def _readable(names: Sequence[str]) -> dict[str, str]:
    """What to call each of these classes: itself; of ImageNet's, which are called by their ids, the name besides."""
    from nascli.data.imagenet import are_imagenet_wnids, imagenet_categories

    if not are_imagenet_wnids(names):
        return {name: name for name in names}
    return {wnid: f"{wnid} {name}" for wnid, name in zip(names, imagenet_categories(), strict=True)}


def _run_names(folders: Sequence[str]) -> list[str]:
    """What each run's folder is called, without the folders above it; where several are called so, with them."""
    names = [Path(folder).resolve().name for folder in folders]
    return [name if names.count(name) == 1 else folder for name, folder in zip(names, folders, strict=True)]


def _name(guess: "Prediction") -> str:
    return str(guess.label) if guess.name is None else guess.name


def _images(results: Mapping[str, Any]) -> str:
    """How many were measured, and how many more there are that cannot be decoded."""
    skipped = len(results["skipped"])
    return f"{results['images']:,}" + (f", {skipped:,} more skipped that cannot be decoded" if skipped else "")


def _classes(results: Mapping[str, Any]) -> str:
    """How many the network chooses among, and how many of them the images have."""
    every, seen = results["classes"], results["classes_in_images"]
    return f"{every:,}" if seen == every else f"{seen:,} of {every:,} in the images"


def _input(used: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What was done to an image, in words."""
    stretched = used["resize"] == "both_sides"
    part = "whole" if stretched and used["crop"] == 1 else f"central crop {used['crop']:g}"
    yield "input", f"{used['image_size']} px, {part}, {used['interpolation']}" + (", stretched" if stretched else "")
    for name in ("mean", "std"):
        yield name, " ".join(f"{value:.4g}" for value in used[name])
