"""Networks as files that other programs run: ONNX, OpenVINO's and torch's own exported programs. None needs nascli.

Shapes: N batch, C channels, H height, W width.

All hold the folded network (`nascli.models.deploy.fuse.fold`) in float32, for the H and W of the network and any N of
one or more. What a file computes is compared with the network first: one that gives other logits is not written.
"""

import copy
import importlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from nascli.errors import InputError
from nascli.files import make_folder, write_bytes
from nascli.models.deploy.engines import compare_logits
from nascli.models.deploy.fuse import fold
from nascli.models.deploy.ir import serialize, weights_beside
from nascli.models.deploy.openvino import OpenvinoEngine
from nascli.models.deploy.program import INPUT, OUTPUT, probe_images, quiet, to_texts, trace_program
from nascli.models.deploy.translation import convert
from nascli.models.interface import ImageClassifier
from nascli.models.spec import NetworkSpec

METADATA_FILE = "metadata.json"
"""Name of the metadata inside an exported program."""

TOLERANCE = 1e-4
"""The largest difference of a logit, relative to the largest logit, between a file and the network."""

_LARGEST_ONNX = 2**31
"""Bytes; beyond them ONNX wants the weights in files of their own."""


@dataclass(frozen=True)
class Exported:
    """A file that was written; `size` is in bytes, with that of a file beside it.

    `difference` from the network is the largest of a logit relative to the largest logit, on batches of 1 and 3, on
    zeros and on noise.
    """

    path: Path
    size: int
    difference: float


def export_onnx(network: ImageClassifier, path: Path) -> Exported:
    """Write a trained network as ONNX: `images` (N, 3, H, W) to `logits` (N, classes).

    The file is written whole or not at all, and replaced if it is there; so for `export_program`.

    The entries of `describe` are the file's `metadata_props`; what is not text is JSON there.

    Raises:
        InputError: The packages of the extra `onnx` are absent, or the network is larger than a file of ONNX.
        NascliError: The file gives other logits than the network, or cannot be written.
    """
    check_onnx(network, path, "onnx", "onnxruntime", "onnxscript", hint="Use .pt2")
    reference = _copy_to_cpu(network)
    with quiet():
        content = _serialize_onnx(trace_program(fold(reference), network.spec), describe(network.spec))
    session = open_session(content)

    def run(images: Tensor) -> Tensor:
        (logits,) = session.run([OUTPUT], {INPUT: images.numpy()})
        return torch.from_numpy(logits)

    difference = _compare(path, run, reference)
    return _write(path, content, difference)


def export_program(network: ImageClassifier, path: Path) -> Exported:
    """Write a trained network as a program of `torch.export`: torch alone loads and runs it.

    The entries of `describe` are JSON in the program's extra file `metadata.json`.

    Raises:
        NascliError: The file gives other logits than the network, or cannot be written.
    """
    reference = _copy_to_cpu(network)
    buffer = io.BytesIO()
    with quiet():
        program = trace_program(fold(reference), network.spec)
        torch.export.save(program, buffer, extra_files={METADATA_FILE: json.dumps(describe(network.spec), indent=2)})
        content = buffer.getvalue()
        loaded = torch.export.load(io.BytesIO(content)).module()
    difference = _compare(path, loaded, reference)
    return _write(path, content, difference)


def export_ir(network: ImageClassifier, path: Path) -> Exported:
    """Write a trained network for OpenVINO: a graph, and its weights in a file beside it that ends in `.bin`.

    The entries of `describe` stand in the `rt_info` of the graph, under `nascli`; what is not text is JSON there.

    Raises:
        InputError: The package of the extra `openvino` is absent.
        NascliError: The files give other logits than the network, or cannot be written.
    """
    reference = _copy_to_cpu(network)
    model, side = convert(reference), network.spec.image_size
    model.reshape([-1, 3, side, side])
    content = serialize(model, describe(network.spec))
    difference = _compare(path, OpenvinoEngine(content.open(path), "float32"), reference)
    make_folder(path.parent)
    content.write(path)
    return Exported(path, len(content.graph) + len(content.weights), difference)


EXPORTS: dict[str, Callable[[ImageClassifier, Path], Exported]] = {
    ".onnx": export_onnx,
    ".xml": export_ir,
    ".pt2": export_program,
}
"""The ways to write a network, by the ending of the file's name."""


def check_onnx(network: nn.Module, path: Path, *packages: str, hint: str = "") -> None:
    """Refuse what cannot become one file of ONNX, before time is spent on it.

    Args:
        packages: Are imported; torch's exporters say less clearly what they lack.
        hint: For a network that is too large.

    Raises:
        InputError: A package is absent, or the network is too large.
    """
    import_onnx(*packages)
    weights = sum(4 * parameter.numel() for parameter in network.parameters())
    if weights >= _LARGEST_ONNX:
        raise InputError(f"{path}: {weights / 2**30:.1f} GiB of weights are too many for one ONNX file", hint)


def import_onnx(*packages: str) -> list[Any]:
    """Packages of the extra `onnx`; InputError where one is not installed."""
    try:
        return [importlib.import_module(package) for package in packages]
    except ImportError as error:
        raise InputError(f"ONNX needs {error.name}, which is not installed", 'pip install "nascli[onnx]"') from error


def open_session(content: bytes) -> Any:  # noqa: ANN401 - ONNX Runtime's
    """A session of ONNX Runtime that answers for the content of a file, with as many threads as torch has."""
    (onnxruntime,) = import_onnx("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def list_files(path: Path) -> list[Path]:
    """The files that an export to `path` writes."""
    return [path, weights_beside(path)] if path.suffix == ".xml" else [path]


def describe(spec: NetworkSpec) -> dict[str, object]:
    """The metadata of an exported file: how to feed the network, and how to read its outputs.

    An image is resized and cut to `image_size` as `preprocessing` says, its RGB values are brought to [0, 1], `mean` is
    subtracted and the result divided by `std`. `class_names` are in the order of the outputs.
    """
    metadata = {
        "input": INPUT,
        "output": OUTPUT,
        "cell": spec.name,
        "image_size": spec.image_size,
        "preprocessing": spec.preprocessing.model_dump(mode="json"),
        "mean": list(spec.mean),
        "std": list(spec.std),
        "classes": spec.classes,
    }
    return metadata if spec.class_names is None else {**metadata, "class_names": list(spec.class_names)}


def _copy_to_cpu(network: ImageClassifier) -> ImageClassifier:
    """The network as it is compared with, on the CPU; weights lie in memory as other programs expect them."""
    twin = copy.deepcopy(network).eval()
    return twin.to("cpu", torch.float32, memory_format=torch.contiguous_format)  # type: ignore[call-overload,no-any-return]


def _serialize_onnx(program: ExportedProgram, metadata: dict[str, object]) -> bytes:
    made = torch.onnx.export(
        program,
        dynamo=True,
        verbose=False,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=({0: "batch"},),
    )
    assert made is not None
    for entry in (made.model.graph, *made.model.graph, *made.model.graph.initializers.values()):
        entry.metadata_props.clear()  # where each step came from, in names of torch
    made.model.metadata_props.update(to_texts(metadata))
    content: bytes = made.model_proto.SerializeToString()
    return content


def _compare(path: Path, run: Callable[[Tensor], Tensor], reference: ImageClassifier) -> float:
    """The largest difference of the logits of `run`, which answers for the file, from the network's."""
    subject = f"{path} would give"
    hint = "Nothing was written. Other versions of torch, onnxscript and openvino may do better"
    with torch.no_grad():
        return max(
            compare_logits(run(images), reference(images), TOLERANCE, subject=subject, hint=hint)
            for images in probe_images(reference.spec)
        )


def _write(path: Path, content: bytes, difference: float) -> Exported:
    make_folder(path.parent)
    write_bytes(path, content)
    return Exported(path, len(content), difference)
