"""The weights that a detector's training begins with: those of a detector, whatever its classes, or of a backbone."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from nascli.detect.job import DetectJob
from nascli.detect.model import DetectorSpec, check_detector, read_detector
from nascli.engine.start import Start
from nascli.models.families import NETWORK_FILE
from nascli.models.serialization import WEIGHTS_FILE
from nascli.models.start import Taken, copy_weights, count_taken, match_classes
from nascli.models.tensor_files import read_tensors
from nascli.runs.record import DETECTOR_FILE

SHAPING = ("head", "pyramid_channels", "head_channels", "roi_size", "anchor_scales")
"""Keys of `detector` that the shapes of weights follow from."""

_PREDICTOR = "roi_heads.box_predictor"


@dataclass(frozen=True)
class DetectorWeights:
    """A trained detector as it is in its folder."""

    folder: Path
    spec: DetectorSpec
    tensors: Mapping[str, Tensor]

    @property
    def files(self) -> list[Path]:
        """The files that it is read from."""
        return [self.folder / name for name in (NETWORK_FILE, DETECTOR_FILE, WEIGHTS_FILE)]


def open_detector_weights(folder: Path) -> DetectorWeights:
    """The detector of a finished run.

    Raises:
        InputError: There is none in the folder, or it is not trained to the end.
        CorruptFileError: A file is damaged.
    """
    check_detector(folder)
    return DetectorWeights(folder, read_detector(folder), read_tensors(folder / WEIGHTS_FILE))


def keep_backbone(job: DetectJob, folder: Path) -> DetectJob:
    """The job, with its weights, of which those of the backbone are a file's, as those to begin with."""
    return replace(job, start=Start.of(job.detector, {"weights": str(folder), "origin": job.backbone}))


def take_detector(job: DetectJob, weights: DetectorWeights) -> DetectJob:
    """The job with the weights of a detector; its outputs per class are matched by name, and its background is one.

    Raises:
        InputError: It has other shapes, or all classes are to be kept and some are new.
        CorruptFileError: The weights hold values that are not finite.
    """
    names, known = job.spec.class_names, weights.spec.class_names
    choice = job.recipe.start.classes
    classes = match_classes(known, len(known), names, choice)
    labels = {} if choice == "new" else {0: 0} | {own + 1: theirs + 1 for own, theirs in classes.items()}
    corners = {4 * own + k: 4 * theirs + k for own, theirs in labels.items() for k in range(4)}
    rows = {
        f"{_PREDICTOR}.{layer}.{name}": places
        for layer, places in (("cls_score", labels), ("bbox_pred", corners))
        for name in ("weight", "bias")
    }
    origin = f"detector {weights.folder}"
    new = copy_weights(job.detector.state_dict(), weights.tensors, rows, origin)
    taken: Taken = count_taken(job.detector.state_dict(), weights.tensors, new, len(classes), len(names))
    record = {"weights": job.recipe.start.weights, "origin": origin, **taken.to_dict()}
    return replace(job, start=Start.of(job.detector, record, f"{origin}: {taken}"))
