"""Networks as files that other programs run: ONNX, and torch's own exported programs. Neither needs nascli.

Shapes: N batch, C channels, H height, W width.

Both hold the inference form (`nascli.models.deploy.fuse.fold`) in float32, for the H and W of the network and any N of
one or more. What a file computes is compared with the network first: one that gives other logits is not written.
"""

import copy
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import Dim, ExportedProgram

from nascli.errors import InputError, NascliError
from nascli.files import cannot_write, write_bytes
from nascli.models.deploy.engines import relative_difference
from nascli.models.deploy.fuse import fold
from nascli.models.interface import ImageClassifier
from nascli.models.spec import NetworkSpec

INPUT, OUTPUT = "images", "logits"
METADATA_FILE = "metadata.json"
"""Name of the metadata inside an exported program."""

TOLERANCE = 1e-4
"""The largest difference of a logit, relative to the largest logit, between a file and the network."""

_BATCHES_COMPARED = (1, 3)
_LARGEST_ONNX = 2**31
"""Bytes; beyond them ONNX wants the weights in files of their own."""


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    Args:
        path: The file.
        size: Its bytes.
        difference: From the network: the largest of a logit relative to the largest logit, on batches of 1 and 3.
    """

    path: Path
    size: int
    difference: float


def export_onnx(network: ImageClassifier, path: Path) -> Exported:
    """Write a network as ONNX: `images` (N, 3, H, W) to `logits` (N, classes).

    The entries of `describe` are the file's `metadata_props`; what is not text is JSON there.

    Args:
        network: A trained network; it is left as it is.
        path: The file; it is written whole or not at all, and replaced if it is there.

    Raises:
        InputError: The packages of the extra `onnx` are absent, or the network is larger than a file of ONNX.
        NascliError: The file gives other logits than the network, or cannot be written.
    """
    runtime = _import_onnxruntime()
    reference = _copy_to_cpu(network)
    weights = sum(4 * parameter.numel() for parameter in reference.parameters())
    if weights >= _LARGEST_ONNX:
        raise InputError(f"{path}: {weights / 2**30:.1f} GiB of weights are too many for one ONNX file", "Use .pt2")
    content = _onnx(_trace(reference), describe(network.spec))
    session = runtime.InferenceSession(content, _options(runtime), providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        (logits,) = session.run([OUTPUT], {INPUT: images.numpy()})
        return torch.from_numpy(logits)

    return _write(path, content, _compare_logits(path, run, reference))


def export_program(network: ImageClassifier, path: Path) -> Exported:
    """Write a network as a program of `torch.export`: torch alone loads and runs it.

    The entries of `describe` are JSON in the program's extra file `metadata.json`.

    Args:
        network: A trained network; it is left as it is.
        path: The file; it is written whole or not at all, and replaced if it is there.

    Raises:
        NascliError: The file gives other logits than the network, or cannot be written.
    """
    reference = _copy_to_cpu(network)
    buffer = io.BytesIO()
    program = _trace(reference)
    torch.export.save(program, buffer, extra_files={METADATA_FILE: json.dumps(describe(network.spec), indent=2)})
    content = buffer.getvalue()
    loaded = torch.export.load(io.BytesIO(content)).module()
    return _write(path, content, _compare_logits(path, loaded, reference))


EXPORTS: dict[str, Callable[[ImageClassifier, Path], Exported]] = {".onnx": export_onnx, ".pt2": export_program}
"""The ways to write a network, by the ending of the file's name."""


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


def _trace(network: ImageClassifier) -> ExportedProgram:
    """The folded network as a graph of plain tensor functions: paddings are numbers in it, and N is free."""
    folded = fold(network)
    _name_input(folded)
    program = torch.export.export(
        folded, (_images(network.spec, 2),), dynamic_shapes=({0: Dim("batch", min=1)},), strict=False
    )
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names files of this machine
    return program


def _name_input(folded: fx.GraphModule) -> None:
    (old,) = folded.graph.find_nodes(op="placeholder")
    with folded.graph.inserting_before(old):
        new = folded.graph.placeholder(INPUT)
    old.replace_all_uses_with(new)
    folded.graph.erase_node(old)
    folded.recompile()


def _onnx(program: ExportedProgram, metadata: dict[str, object]) -> bytes:
    made = torch.onnx.export(
        program,
        dynamo=True,
        verbose=False,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=({0: "batch"},),
    )
    assert made is not None
    for part in (made.model.graph, *made.model.graph, *made.model.graph.initializers.values()):
        part.metadata_props.clear()  # where each step came from, in names of torch
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
    made.model.metadata_props.update(texts)
    content: bytes = made.model_proto.SerializeToString()
    return content


def _compare_logits(path: Path, run: Callable[[Tensor], Tensor], reference: ImageClassifier) -> float:
    """The distance of the logits of what is about to be written are from the network's.

    Raises:
        NascliError: Further than `TOLERANCE`.
    """
    differences = []
    with torch.no_grad():
        for batch in _BATCHES_COMPARED:
            images = _images(reference.spec, batch)
            differences.append(relative_difference(run(images), reference(images)))
    worst = max(differences)
    if not worst <= TOLERANCE:
        raise NascliError(
            f"{path} would give other logits than the network: they differ by {worst:.1e} of the largest, "
            f"{TOLERANCE:g} is allowed",
            "Nothing was written. Other versions of torch and onnxscript may do better",
        )
    return worst


def _write(path: Path, content: bytes, difference: float) -> Exported:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)
    except OSError as error:
        raise cannot_write(path, error, "Choose another place") from error
    return Exported(path, len(content), difference)


def _images(spec: NetworkSpec, batch: int) -> Tensor:
    side = spec.image_size
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(0))


def _import_onnxruntime() -> ModuleType:
    try:
        import onnx  # noqa: F401 - these two are for torch.onnx.export, which says less clearly what it lacks
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(f"ONNX needs {error.name}, which is not installed", 'pip install "nascli[onnx]"') from error
    runtime: ModuleType = onnxruntime
    return runtime


def _options(runtime: ModuleType) -> Any:  # noqa: ANN401 - the runtime has no types
    """As many threads as torch takes; of its messages only errors are shown."""
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    return options
