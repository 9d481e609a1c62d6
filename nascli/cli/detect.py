"""`nascli detect`: a detector trained, used on a user's own images, and its data looked at."""

from dataclasses import asdict
from pathlib import Path

from nascli.cli.detect_data import FOLDER, check, show
from nascli.cli.detect_score import ENGINE_HELP, PRECISION, EngineName, score
from nascli.cli.detect_train import train
from nascli.cli.options import (
    DEVICE,
    JSON,
    MAX_MEGAPIXELS,
    OVERWRITE,
    Call,
    Setting,
    command,
    command_group,
    runs_folder,
)
from nascli.cli.processes import require_one_process
from nascli.errors import InputError
from nascli.runs.find import find_run

IMAGES = Setting[list[Path]]("images", "Images or folders of images.", ..., metavar="PATH")
RUN = Setting[str]("--run", "The detector's run.", "latest", metavar="RUN|latest")
ENGINE = Setting[EngineName | None]("--engine", f"{ENGINE_HELP} By default trained, auto for 32 images or more.")
FILES = Setting[list[Path]]("files", "Files to write: .onnx, or .xml for OpenVINO.", ..., metavar="FILE")
REPLACE = Setting[bool]("--overwrite", "Replace files that are there.", False)
THRESHOLD = Setting[float]("--threshold", "Lowest score of a box.", 0.5, min=0, max=1, metavar="SCORE")


@command(
    "predict",
    [IMAGES, RUN, THRESHOLD, MAX_MEGAPIXELS, FOLDER, OVERWRITE, ENGINE, PRECISION, DEVICE, JSON],
    examples=[
        "nascli detect predict holiday.jpg photos --threshold 0.6",
        "nascli detect predict photos --run runs/detect/mine",
    ],
)
def predict(call: Call) -> None:
    """Find boxes on your own images; they are drawn and listed."""
    from nascli.cli.data_notes import note_issues
    from nascli.detect.engines import accelerate
    from nascli.detect.model import load_detector
    from nascli.detect.predict import ImageReader, choose_output_folder, predict_boxes, write_predictions
    from nascli.engine.device import resolve_device
    from nascli.files import fill_folder
    from nascli.models.deploy.engines import MANY_IMAGES

    require_one_process("detect predict")
    terminal, threshold = call.terminal(), call[THRESHOLD]
    run_folder = find_run(call[RUN], "detect", runs_folder(), terminal.note)
    device = resolve_device(call[DEVICE])
    detector, spec = load_detector(run_folder, device)
    reader = ImageReader(call[MAX_MEGAPIXELS])
    collected = reader.collect(call[IMAGES])
    wanted = call[ENGINE] or ("auto" if len(collected.files) >= MANY_IMAGES else "trained")
    answering, engine = accelerate(detector, wanted, call[PRECISION])
    note_issues(terminal, "images", collected.issues)
    folder = choose_output_folder(run_folder, "predictions", call[FOLDER], call[OVERWRITE])
    with fill_folder(folder) as place:
        predictions = predict_boxes(
            (answering, spec),
            collected.files,
            folder,
            device=device,
            threshold=threshold,
            reader=reader,
            place=place,
        )
        rows = [(str(each.path), str(len(each.objects)), each.summary()) for each in predictions]
        terminal.show_table(f"boxes with a score of at least {threshold:g}", rows, ("image", "boxes", "found"))
        found = [prediction.to_dict() for prediction in predictions]
        about = {
            "run": str(run_folder),
            "out": str(folder),
            "threshold": threshold,
            "engine": engine,
            "precision": call[PRECISION],
            "issues": [each.to_dict() for each in collected.issues],
        }
        terminal.result({**about, "images": found})  # before it is written: a full disk shall not take it
        write_predictions(predictions, place, threshold)
    terminal.show(f"drawn in {folder}")
    other = max(threshold - 0.2, 0.05) if threshold > 0.05 else 0.3  # so that there are more boxes, or fewer
    about_run = ["--run", run_folder, "--threshold", f"{other:.2g}"]
    terminal.next(["nascli", "detect", "predict", call[IMAGES][0], *about_run])


@command(
    "export",
    [FILES, RUN, REPLACE, JSON],
    examples=["nascli detect export model.onnx", "nascli detect export model.xml --run runs/detect/mine"],
)
def export(call: Call) -> None:
    """Write a detector for programs without nascli: an image in, its boxes out.

    What a file finds is compared with what the detector finds before it is written.
    """
    from nascli.detect.export import EXPORTS
    from nascli.detect.model import load_detector
    from nascli.engine.device import resolve_device
    from nascli.models.deploy.export import list_files

    require_one_process("detect export")
    terminal, files = call.terminal(), list(dict.fromkeys(call[FILES]))
    for path in files:
        if path.suffix not in EXPORTS:
            raise InputError(f"{path}: unknown kind {path.suffix!r} of a detector", f"Known: {', '.join(EXPORTS)}")
        if (there := [each for each in list_files(path) if each.exists()]) and not call[REPLACE]:
            raise InputError(f"{there[0]} exists", "Replace it with --overwrite, or choose another file", file=there[0])
    run_folder = find_run(call[RUN], "detect", runs_folder(), terminal.note)
    detector, spec = load_detector(run_folder, resolve_device("cpu"))
    exported = []
    for path in files:
        with terminal.status(f"exporting {path}"):
            made = EXPORTS[path.suffix](detector, spec, path)
        exported.append(asdict(made))
        terminal.note(
            f"wrote {path}: an image (3, H, W) to boxes, labels and scores; as the detector on {len(made.found)} "
            f"images with {min(made.found)} to {max(made.found)} boxes, scores within {made.difference:.1e}"
        )
    terminal.result({"run": str(run_folder), "exported": exported})


run = command_group(
    "detect",
    """Train a Faster R-CNN on a network and score it, find boxes on your own images, check data.

    Without one of the commands below, options are those of train (nascli detect train --help): nascli detect --coco
    trains.""",
    [train, predict, export, check, show, score],
    default="train",
)
