"""`nascli detect`: a detector trained, used on a user's own images, and its data looked at."""

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
from nascli.runs.find import find_run

IMAGES = Setting[list[Path]]("images", "Images or folders of images.", ..., metavar="PATH")
RUN = Setting[str]("--run", "The detector's run.", "latest", metavar="RUN|latest")
ENGINE = Setting[EngineName]("--engine", ENGINE_HELP, "auto")
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
    from nascli.detect.predict import choose_output_folder, collect_images, predict_boxes, write_predictions
    from nascli.engine.device import resolve_device
    from nascli.files import fill_folder

    require_one_process("detect predict")
    terminal, threshold, limit = call.terminal(), call[THRESHOLD], call[MAX_MEGAPIXELS]
    run_folder = find_run(call[RUN], "detect", runs_folder(), terminal.note)
    device = resolve_device(call[DEVICE])
    detector, spec = load_detector(run_folder, device)
    answering, engine = accelerate(detector, call[ENGINE], call[PRECISION])
    collected = collect_images(call[IMAGES], limit)
    note_issues(terminal, "images", collected.issues)
    folder = choose_output_folder(run_folder, "predictions", call[FOLDER], call[OVERWRITE])
    with fill_folder(folder) as place:
        predictions = predict_boxes(
            (answering, spec),
            collected.files,
            folder,
            device=device,
            threshold=threshold,
            max_megapixels=limit,
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


run = command_group(
    "detect",
    """Train a Faster R-CNN on a network and score it, find boxes on your own images, check data.

    Without one of the commands below, options are those of train (nascli detect train --help): nascli detect --coco
    trains.""",
    [train, predict, check, show, score],
    default="train",
)
