"""Trained detectors as files that other programs run, ONNX and OpenVINO's: an image in, its boxes out.

Shapes: H and W of an image, M boxes of it.

All that a detector does is inside the file: the image is normalized, resized and padded, boxes are chosen, and come in
pixels of the image. What the file answers is compared with the detector first: one that finds other boxes is not
written.

Both formats come from the ONNX exporter of torch that traces (`dynamo=False`): torchvision's detectors are written for
it. The newer one, with torch 2.15, stops at the first size that is known at run time only, that of the resized image.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nascli.data.images.decoding import REDUCED_ABOVE
from nascli.detect.compare import compare_detectors
from nascli.detect.model import DetectorSpec
from nascli.detect.whole import WholeDetector
from nascli.files import make_folder, write_bytes
from nascli.models.deploy.export import check_onnx, import_onnx, open_session
from nascli.models.deploy.ir import serialize
from nascli.models.deploy.openvino import open_core
from nascli.models.deploy.program import quiet, to_texts

INPUT, OUTPUTS = "image", ("boxes", "labels", "scores")

_OPSET = 18


@dataclass(frozen=True)
class ExportedDetector:
    """A file that was written.

    Args:
        size: Bytes, with those of a file beside it.
        found: Boxes on each of the images that it was compared on.
        difference: The largest of a score from the detector's.
        shift: The largest distance of a side of a box from the detector's, relative to the longer side of the image.
    """

    path: Path
    size: int
    found: tuple[int, ...]
    difference: float
    shift: float


def export_onnx(detector: nn.Module, spec: DetectorSpec, path: Path) -> ExportedDetector:
    """Write a trained detector as ONNX: `image` (3, H, W) to `boxes` (M, 4), `labels` (M,) and `scores` (M,).

    The file is written whole or not at all, and replaced if it is there; so for `export_ir`. The entries of `describe`
    are the file's `metadata_props`; what is not text is JSON there.

    Args:
        detector: From `load_detector`, on the CPU; it is left as it is.

    Raises:
        InputError: The packages of the extra `onnx` are absent, or the detector is larger than a file of ONNX.
        NascliError: The file finds other boxes than the detector, or cannot be written.
    """
    check_onnx(detector, path, "onnx", "onnxruntime")
    content = _trace(detector, describe(spec))
    session = open_session(content)

    def run(image: Tensor) -> list[Tensor]:
        return [torch.from_numpy(each) for each in session.run(list(OUTPUTS), {INPUT: image.numpy()})]

    compared = compare_detectors(run, detector, spec.config, path)
    make_folder(path.parent)
    write_bytes(path, content)
    return ExportedDetector(path, len(content), *compared)


def export_ir(detector: nn.Module, spec: DetectorSpec, path: Path) -> ExportedDetector:
    """Write a trained detector for OpenVINO: a graph, and its weights in a file beside it that ends in `.bin`.

    The entries of `describe` stand in the `rt_info` of the graph, under `nascli`; what is not text is JSON there.

    Args:
        detector: As for `export_onnx`.

    Raises:
        InputError: OpenVINO or onnx, which it is made by, is absent, or the detector is larger than a file of ONNX.
        NascliError: The files find other boxes than the detector, or cannot be written.
    """
    core = open_core()
    check_onnx(detector, path, "onnx")
    content = serialize(core.read_model(io.BytesIO(_trace(detector, {}))), describe(spec))
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = core.compile_model(content.open(path), "CPU", options)

    def run(image: Tensor) -> list[Tensor]:
        answer = compiled(image.numpy())
        return [torch.from_numpy(answer[name]) for name in OUTPUTS]

    compared = compare_detectors(run, detector, spec.config, path)
    make_folder(path.parent)
    content.write(path)
    return ExportedDetector(path, len(content.graph) + len(content.weights), *compared)


EXPORTS: dict[str, Callable[[nn.Module, DetectorSpec, Path], ExportedDetector]] = {
    ".onnx": export_onnx,
    ".xml": export_ir,
}
"""The ways to write a detector, by the ending of the file's name."""


def describe(spec: DetectorSpec) -> dict[str, object]:
    """The metadata of an exported file: how to feed the detector, and how to read its outputs.

    The image is RGB in [0, 1], of any H and W. `mean`, `std`, `resize`, `min_size` and `max_size` tell what is done
    with it inside the file. `categories` are those of labels 1 to K, in order.
    """
    config = spec.config
    return {
        "input": INPUT,
        "outputs": list(OUTPUTS),
        "cell": spec.network.name,
        "head": config.head,
        "mean": list(spec.network.mean),
        "std": list(spec.network.std),
        "resize": config.resize,
        "min_size": config.min_size,
        "max_size": config.max_size,
        "largest_megapixels": REDUCED_ABOVE,
        "score_thresh": config.box_score_thresh,
        "nms_thresh": config.box_nms_thresh,
        "detections_per_image": config.box_detections_per_img,
        "categories": [{"id": each.id, "name": each.name} for each in spec.categories],
    }


def _trace(detector: nn.Module, metadata: dict[str, object]) -> bytes:
    """The detector as the content of an ONNX file."""
    (onnx,) = import_onnx("onnx")
    buffer, free = io.BytesIO(), {0: "found"}
    with quiet(), torch.no_grad():
        torch.onnx.export(
            WholeDetector(detector).eval(),
            (torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(0)),),
            buffer,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=_OPSET,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            dynamic_axes={INPUT: {1: "height", 2: "width"}, **dict.fromkeys(OUTPUTS, free)},
        )
    made: Any = onnx.load_from_string(buffer.getvalue())
    onnx.helper.set_model_props(made, to_texts(metadata))
    content: bytes = made.SerializeToString()
    return content
