"""Published weights of other tools, read into our networks.

Read are the files of timm and of Cadene's pretrained-models (`.pth`, `.safetensors`; both use one naming), and of Keras
Applications (`.h5`). The kind is recognised by its keys. Nothing in a file is ever run: `.pth` is loaded as tensors.

Every part of one of our networks is a `Slot`; each naming says how its tool calls that part. So a file fits when each
slot's entry is there in the right shape and nothing else is.

Outputs agree with the tools' own to rounding, but for two things that they do differently from the released TensorFlow
code, which is followed here: timm counts zero padding in the averages of strided pools at the border, and Keras pads
strided pools, maximum and average, with zeros. (Pretrained-models pads as TensorFlow only at its native sizes.)

Each tool publishes how its images are to be prepared. timm and pretrained-models hold the same weights (both took them
from TensorFlow) under the same names, but prepare images in two ways; of the files that they publish, those with 1001
classes and the mobile network are pretrained-models', the large networks with 1000 classes timm's.
"""

import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import h5py
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from nascli.config import Preprocessing
from nascli.errors import CorruptFileError, InputError
from nascli.models.cells.cell import Cell, Half
from nascli.models.cells.network import CellNetwork
from nascli.models.cells.spec import PRESETS
from nascli.models.interface import ImageClassifier
from nascli.models.layers import FactorizedReduction

Part = Literal["stem", "newer", "older", "half", "classifier"]
Kind = Literal["nasnet", "pnasnet", "keras"]
Tool = Literal["timm", "pretrained-models", "Keras Applications"]

PREPROCESSING: dict[Tool, Preprocessing] = {
    "timm": Preprocessing(resize="shorter_side", crop=0.911, interpolation="bicubic"),
    "pretrained-models": Preprocessing(resize="shorter_side", crop=0.875, interpolation="bilinear"),
    "Keras Applications": Preprocessing(resize="both_sides", crop=1, interpolation="bilinear"),
}
"""What each tool does to an image for these networks; mean and std are 0.5 with all three, as in a new `NetworkSpec`.

References: timm 1.0, default configurations of nasnetalarge and pnasnet5large; pretrained-models 0.7.4, TransformImage
and examples/imagenet_eval.py; Keras 3, `nasnet.preprocess_input` and the examples of Keras Applications, which load a
picture whole at the size of the network.
Deviation: those examples take the nearest pixel when they resize, which is the loader's default; here it is bilinear.
"""


@dataclass(frozen=True)
class Slot:
    """One module with weights of one of our networks, and what it is.

    Args:
        module: Its path in the network, `cells.3.halves.0.op.body.1`.
        part: What it belongs to.
        piece: Which layer of that part: `conv` and `bn` of a projection; `straight`, `shifted` and `bn` of a factorized
            reduction; `depthwise`, `pointwise` and `bn` of a separable convolution.
        cell: Position of the cell in the plan; -1 outside of cells.
        block: Number of the block for a half.
        side: 0 for the first half of a block, 1 for the second.
        repeat: 1 or 2, for the first and second application of a separable convolution; 0 otherwise.
    """

    module: str
    part: Part
    piece: str
    cell: int = -1
    block: int = 0
    side: int = 0
    repeat: int = 0


@dataclass(frozen=True)
class Imported:
    """What a file of another tool was.

    Args:
        name: Tool and network: `timm or pretrained-models, NASNet`, ...
        tool: Whose file it most likely is.
        preprocessing: How that tool prepares images for the network.
    """

    name: str
    tool: Tool
    preprocessing: Preprocessing


def import_weights(path: Path, network: ImageClassifier) -> Imported:
    """Fill a network with the weights of another tool's file.

    Args:
        path: The file.
        network: Its weights and statistics are replaced; with 1000 classes a file of 1001 loses its first, the
            background.

    Returns:
        What the file was, and how images are prepared for its weights.

    Raises:
        InputError: There is no such file, its kind is unknown, or it does not fit: the first missing, surplus and
            misshaped entries are named.
        CorruptFileError: The file is damaged.
    """
    if not isinstance(network, CellNetwork):
        raise InputError(f"weights {path}: no tool's weights can be read for {network.spec.name}")
    entries = _read(path)
    kind = _recognise(entries, path)
    expected = {name: key for slot in _slots(network) for name, key in _pairs(slot, network, kind)}
    found = {name: entries[key] for name, key in expected.items() if key in entries}
    converted = {name: _convert(tensor, name, expected[name], network, kind) for name, tensor in found.items()}
    _refuse_misfit(path, network, entries, expected, converted)
    network.load_state_dict(converted, strict=False)  # what is left out are batch counters, which carry nothing
    tool = _tool(kind, entries[expected["classifier.weight"]], network)
    return Imported(_NAMES[kind], tool, PREPROCESSING[tool])


_NAMES: dict[Kind, str] = {
    "nasnet": "timm or pretrained-models, NASNet",
    "pnasnet": "timm or pretrained-models, PNASNet",
    "keras": "Keras Applications, NASNet",
}


def _tool(kind: Kind, classifier: Tensor, network: CellNetwork) -> Tool:
    """Who publishes such a file (see the module's docstring)."""
    if kind == "keras":
        return "Keras Applications"
    large = network.spec.stem_filters == PRESETS["imagenet-large"].stem_filters
    return "timm" if large and classifier.shape[0] != 1001 else "pretrained-models"


def _slots(network: CellNetwork) -> Iterator[Slot]:
    """All modules with weights, in the order of the network."""
    yield Slot("stem.0", "stem", "conv")
    yield Slot("stem.1", "stem", "bn")
    for key, cell in network.cells.items():
        assert isinstance(cell, Cell)
        position, path = int(key), f"cells.{key}"
        for part, module in (("newer", cell.newer), ("older", cell.older)):
            if module is not None:
                yield from _input_slots(f"{path}.{part}", module, "newer" if part == "newer" else "older", position)
        for number, half in enumerate(cell.halves):
            assert isinstance(half, Half)
            yield from _half_slots(f"{path}.halves.{number}.op.body", half.op.body, position, number)
    yield Slot("classifier", "classifier", "linear")


def _input_slots(path: str, module: nn.Module, part: Part, cell: int) -> Iterator[Slot]:
    for name, layer in module.named_modules():
        if isinstance(layer, FactorizedReduction):
            inside = f"{path}.{name}"
            yield Slot(f"{inside}.straight", part, "straight", cell)
            yield Slot(f"{inside}.shifted", part, "shifted", cell)
            yield Slot(f"{inside}.norm", part, "reduced", cell)
            return
        if isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
            yield Slot(f"{path}.{name}", part, "conv" if isinstance(layer, nn.Conv2d) else "bn", cell)


def _half_slots(path: str, body: nn.Module, cell: int, number: int) -> Iterator[Slot]:
    """A separable convolution has twice two layers to convolve, a projection one, a pool or identity none."""
    layers = [(name, m) for name, m in body.named_modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    separable = sum(isinstance(layer, nn.Conv2d) for _, layer in layers) == 4
    pieces = ("depthwise", "pointwise", "bn") * 2 if separable else ("conv", "bn")
    for place, ((name, _), piece) in enumerate(zip(layers, pieces, strict=False)):
        repeat = 1 + place // 3 if separable else 0
        yield Slot(f"{path}.{name}", "half", piece, cell, number // 2, number % 2, repeat)


def _pairs(slot: Slot, network: CellNetwork, kind: Kind) -> Iterator[tuple[str, str]]:
    """Our tensor names in a slot with the file's."""
    base = (_keras_name if kind == "keras" else _torch_name)(slot, network, kind)
    weights = {"weight": _KERAS_WEIGHT.get(slot.piece, "kernel") if kind == "keras" else "weight"}
    if slot.piece == "linear":
        weights["bias"] = "bias"
    if slot.piece in ("bn", "reduced"):
        statistics = ("bias", "running_mean", "running_var")
        weights = {"weight": "gamma" if kind == "keras" else "weight"}
        weights |= dict(zip(statistics, _KERAS_NORM if kind == "keras" else statistics, strict=True))
    for ours, theirs in weights.items():
        yield f"{slot.module}.{ours}", f"{base}.{theirs}"


_KERAS_WEIGHT = {"depthwise": "depthwise_kernel", "pointwise": "pointwise_kernel"}
_TORCH_REDUCTION = {"straight": "path_1.conv", "shifted": "path_2.conv", "reduced": "final_path_bn"}
_KERAS_NORM = ("beta", "moving_mean", "moving_variance")


def _torch_name(slot: Slot, network: CellNetwork, kind: Kind) -> str:
    """The module's name in timm and pretrained-models."""
    if slot.part == "stem":
        return f"{'conv0' if kind == 'nasnet' else 'conv_0'}.{slot.piece}"
    if slot.part == "classifier":
        return "last_linear"
    cell = _torch_cell(slot.cell, network, kind)
    if slot.part == "half":
        name = f"{cell}.comb_iter_{slot.block}_{('left', 'right')[slot.side]}"
        if not slot.repeat:
            return f"{name}.{slot.piece}"
        if slot.piece == "bn":
            return f"{name}.bn_sep_{slot.repeat}"
        return f"{name}.separable_{slot.repeat}.{slot.piece}_conv2d"
    if slot.piece in _TORCH_REDUCTION:
        inside = f"{cell}.conv_prev_1x1" if kind == "pnasnet" else cell
        return f"{inside}.{_TORCH_REDUCTION[slot.piece]}"
    return f"{cell}.{'conv_1x1' if slot.part == 'newer' else 'conv_prev_1x1'}.{slot.piece}"


def _torch_cell(position: int, network: CellNetwork, kind: Kind) -> str:
    """Cells are numbered without NASNet's reductions; NASNet's stages begin at 0, 6 and 12 whatever their length."""
    step = network.plan[position]
    if step.stage == 0:
        return f"cell_stem_{position}"
    if kind == "pnasnet":
        return f"cell_{position - 2}"
    if step.role == "reduction":
        return f"reduction_cell_{step.stage - 2}"
    return f"cell_{6 * (step.stage - 1) + _place_in_stage(position, network)}"


def _keras_name(slot: Slot, network: CellNetwork, kind: Kind) -> str:
    """The layer's name in Keras Applications."""
    if slot.part == "stem":
        return f"stem_{slot.piece}1"
    if slot.part == "classifier":
        return "predictions"
    step, block = network.plan[slot.cell], _keras_block(slot.cell, network)
    if slot.part == "half":
        bn = "bn_" if slot.piece == "bn" else ""
        block_number = 4 if (step.role, slot.block) == ("reduction", 4) else slot.block + 1  # its fifth is called 4
        place = f"{step.role}_{('left', 'right')[slot.side]}{block_number}"
        return f"separable_conv_{slot.repeat}_{bn}{place}_{block}"
    if slot.part == "newer":
        return f"{step.role}_{slot.piece}_1_{block}"
    return {
        "straight": f"adjust_conv_1_{block}",
        "shifted": f"adjust_conv_2_{block}",
        "reduced": f"adjust_bn_{block}",
        "conv": f"adjust_conv_projection_{block}",
        "bn": f"adjust_bn_{block}",
    }[slot.piece]


def _keras_block(position: int, network: CellNetwork) -> str:
    """Blocks are numbered through, with one number left out after the first reduction."""
    step, length = network.plan[position], network.spec.cells_per_stage
    if step.stage == 0:
        return f"stem_{position + 1}"
    if step.role == "reduction":
        return f"reduce_{length * (step.stage - 1)}"
    return str(length * (step.stage - 1) + (step.stage > 1) + _place_in_stage(position, network))


def _place_in_stage(position: int, network: CellNetwork) -> int:
    """How many normal cells of its stage stand before this one."""
    stage = network.plan[position].stage
    return sum(step.stage == stage and step.role == "normal" for step in network.plan[:position])


def _convert(tensor: Tensor, name: str, key: str, network: CellNetwork, kind: Kind) -> Tensor:
    """A tensor in our layout: Keras keeps kernels as (H, W, in, out); a background class is dropped."""
    if kind == "keras" and tensor.ndim == 4:
        tensor = tensor.permute(2, 3, 0, 1) if key.endswith("depthwise_kernel") else tensor.permute(3, 2, 0, 1)
    if kind == "keras" and tensor.ndim == 2:
        tensor = tensor.T
    if name.startswith("classifier.") and tensor.shape[0] == network.spec.classes + 1 == 1001:
        tensor = tensor[1:]
    return tensor.contiguous()


def _refuse_misfit(
    path: Path,
    network: CellNetwork,
    entries: Mapping[str, Tensor],
    expected: Mapping[str, str],
    got: Mapping[str, Tensor],
) -> None:
    wanted = network.state_dict()
    named = set(expected.values())
    missing = [key for name, key in expected.items() if name not in got]
    surplus = [key for key in entries if key not in named and not key.endswith("num_batches_tracked")]
    misshaped = [
        f"{expected[name]} (the file has {list(tensor.shape)}, the network {list(wanted[name].shape)})"
        for name, tensor in got.items()
        if tensor.shape != wanted[name].shape
    ]
    faults = {"missing": missing, "surplus": surplus, "misshaped": misshaped}
    if any(faults.values()):
        said = "; ".join(f"{len(names)} {fault}, first {names[0]}" for fault, names in faults.items() if names)
        raise InputError(
            f"weights {path} do not fit {network.spec.genotype.name} at this size: {said}",
            "Choose the --cell and --preset that the file was made for",
        )
    broken = next((expected[name] for name, tensor in got.items() if not bool(torch.isfinite(tensor).all())), None)
    if broken:
        raise CorruptFileError(f"weights {path}: entry {broken} holds values that are not finite")


def _recognise(entries: Mapping[str, Tensor], path: Path) -> Kind:
    marks: dict[str, Kind] = {
        "conv0.conv.weight": "nasnet",
        "conv_0.conv.weight": "pnasnet",
        "stem_conv1.kernel": "keras",
    }
    for mark, kind in marks.items():
        if mark in entries:
            return kind
    some = ", ".join(list(entries)[:3]) or "nothing"
    raise InputError(
        f"weights {path}: not a file of timm, pretrained-models or Keras Applications for NASNet or PNASNet "
        f"(it holds {some} ...)"
    )


def _read(path: Path) -> dict[str, Tensor]:
    readers: dict[str, Callable[[Path], dict[str, Tensor]]] = {
        ".safetensors": load_file,
        ".h5": _read_keras,
        ".hdf5": _read_keras,
        ".pth": _read_torch,
        ".pt": _read_torch,
        ".bin": _read_torch,
    }
    if path.suffix not in readers:
        raise InputError(f"weights {path}: unknown ending {path.suffix!r}", f"Known: {', '.join(readers)}")
    if not path.is_file():
        raise InputError(f"weights {path}: no such file")
    try:
        return readers[path.suffix](path)
    except InputError:
        raise
    except (SafetensorError, OSError, KeyError, RuntimeError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise CorruptFileError(
            f"weights {path} are damaged or not what their ending says: {_first_line(error)}"
        ) from error
    except Exception as error:  # torch.load raises pickle's own errors, and refuses code with one of them
        raise CorruptFileError(
            f"weights {path} hold more than tensors, or are damaged: {_first_line(error)}"
        ) from error


def _read_torch(path: Path) -> dict[str, Tensor]:
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else loaded
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise InputError(f"weights {path}: not a dictionary of tensors")
    return {str(name).removeprefix("module."): tensor for name, tensor in state.items()}


def _read_keras(path: Path) -> dict[str, Tensor]:
    """A legacy Keras file, with or without the model around the weights: `layer.weight` to tensor."""
    entries: dict[str, Tensor] = {}
    with h5py.File(path, "r") as file:
        group = file.get("model_weights", file)
        for layer in group:
            for name in group[layer].attrs.get("weight_names", ()):
                text = name.decode() if isinstance(name, bytes) else str(name)
                short = re.sub(r":\d+$", "", text).rsplit("/", 1)[-1]
                entries[f"{layer}.{short}"] = torch.from_numpy(group[layer][text][()])
    return entries


def _first_line(error: Exception) -> str:
    said = "" if isinstance(error, KeyError) else str(error).strip()  # a key alone says nothing
    return (said or "unreadable").splitlines()[0]
