"""Published weights of other tools for NASNet and PNASNet, by their names in our networks of cells.

Known are the files of timm and of Cadene's pretrained-models (both use one naming), and of Keras Applications. The kind
is recognized by its keys. Every module with weights of one of our networks is a `WeightLayer`; each naming says what
its tool calls it. So a file fits when each layer's entry is there in the right shape and nothing else is.

Outputs agree with the tools' own to rounding. Two of them pad strided pools with zeros that count, which the released
TensorFlow code does not: timm those of NASNet that average, Keras all; the network then does so too
(`CellNetworkSpec.zero_padded_pools`). Pretrained-models pads as TensorFlow only at its native sizes.

Each tool publishes how its images are to be prepared. timm and pretrained-models hold the same weights (both took them
from TensorFlow) under the same names, but prepare images in two ways; of the files that they publish, those with 1001
classes and the mobile network are pretrained-models', the large networks with 1000 classes timm's.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from nascli.config import Preprocessing
from nascli.models.cells.cell import Branch, Cell
from nascli.models.cells.network import CellNetwork
from nascli.models.cells.spec import PRESETS, CellNetworkSpec
from nascli.models.layers import FactorizedReduction
from nascli.models.pretrained import ImportedWeights

Part = Literal["stem", "prev", "prev_prev", "branch", "classifier"]
Kind = Literal["nasnet", "pnasnet", "keras"]
Tool = Literal["timm", "pretrained-models", "Keras Applications"]

PREPROCESSING: dict[Tool, Preprocessing] = {
    "timm": Preprocessing(resize="shorter_side", crop=0.911, interpolation="bicubic"),
    "pretrained-models": Preprocessing(resize="shorter_side", crop=0.875, interpolation="bilinear"),
    "Keras Applications": Preprocessing(resize="both_sides", crop=1, interpolation="bilinear"),
}
"""The preparation of images by each tool for these networks; mean and std are 0.5 with all three, as in a new spec.

References: timm 1.0, default configurations of nasnetalarge and pnasnet5large; pretrained-models 0.7.4, TransformImage
and examples/imagenet_eval.py; Keras 3, `nasnet.preprocess_input` and the examples of Keras Applications, which load an
image whole at the size of the network.
Deviation: those examples take the nearest pixel when they resize, which is the loader's default; here it is bilinear.
"""


@dataclass(frozen=True)
class WeightLayer:
    """One module with weights of one of our networks, and what it is.

    Args:
        module: Its path in the network, `cells.3.branches.0.op.body.1`.
        piece: The layer within its part: `conv` and `bn` of a projection; `straight`, `shifted` and `reduced` of a
            factorized reduction; `depthwise`, `pointwise` and `bn` of a separable convolution.
        cell: Position of the cell in the stack; -1 outside of cells.
        side: 0 for the first branch of a block, 1 for the second.
        repeat: 1 or 2, for the first and second application of a separable convolution; 0 otherwise.
    """

    module: str
    part: Part
    piece: str
    cell: int = -1
    block: int = 0
    side: int = 0
    repeat: int = 0


class CellImporter:
    """The files of all three tools."""

    title = "timm, pretrained-models or Keras Applications for NASNet or PNASNet"

    def recognize(self, entries: Mapping[str, Tensor], spec: CellNetworkSpec) -> ImportedWeights | None:
        """The kind of a file by an entry that only it has, and its tool (see the module's docstring)."""
        kind = next((kind for mark, kind in _MARKS.items() if mark in entries), None)
        if kind is None:
            return None
        tool: Tool = "Keras Applications"
        if kind != "keras":
            large = spec.stem_filters == PRESETS["imagenet-large"].stem_filters
            last = entries.get("last_linear.weight")
            tool = "timm" if large and last is not None and last.shape[:1] != (1001,) else "pretrained-models"
        pools = _ZERO_PADDED_POOLS.get((tool, kind), ())
        return ImportedWeights(
            _NAMES[kind], tool, kind, {"preprocessing": PREPROCESSING[tool], "zero_padded_pools": pools}
        )

    def list_keys(self, network: CellNetwork, layout: str) -> Mapping[str, str]:
        """By the names of the tool."""
        kind = next(kind for kind in _NAMES if kind == layout)
        return {name: key for layer in _list_layers(network) for name, key in _list_keys(layer, network, kind)}

    def convert(self, tensor: Tensor, name: str, key: str, network: CellNetwork) -> Tensor:
        """A tensor in our layout: Keras keeps kernels as (H, W, in, out); a background class is dropped."""
        keras = key.endswith("kernel")
        if keras and tensor.ndim == 4:
            tensor = tensor.permute(2, 3, 0, 1) if key.endswith("depthwise_kernel") else tensor.permute(3, 2, 0, 1)
        if keras and tensor.ndim == 2:
            tensor = tensor.T
        if name.startswith("classifier.") and tensor.shape[:1] == (network.spec.classes + 1,) == (1001,):
            tensor = tensor[1:]
        return tensor.contiguous()


_MARKS: dict[str, Kind] = {
    "conv0.conv.weight": "nasnet",
    "conv_0.conv.weight": "pnasnet",
    "stem_conv1.kernel": "keras",
}

_NAMES: dict[Kind, str] = {
    "nasnet": "timm or pretrained-models, NASNet",
    "pnasnet": "timm or pretrained-models, PNASNet",
    "keras": "Keras Applications, NASNet",
}


_ZERO_PADDED_POOLS: dict[tuple[Tool, Kind], tuple[str, ...]] = {
    ("timm", "nasnet"): ("avg",),
    ("Keras Applications", "keras"): ("avg", "max"),
}


def _list_layers(network: CellNetwork) -> Iterator[WeightLayer]:
    """All modules with weights, in the order of the network."""
    yield WeightLayer("stem.0", "stem", "conv")
    yield WeightLayer("stem.1", "stem", "bn")
    for key, cell in network.cells.items():
        assert isinstance(cell, Cell)
        position, path = int(key), f"cells.{key}"
        for part, module in (("prev", cell.prev), ("prev_prev", cell.prev_prev)):
            if module is not None:
                yield from _input_layers(f"{path}.{part}", module, "prev" if part == "prev" else "prev_prev", position)
        for number, branch in enumerate(cell.branches):
            assert isinstance(branch, Branch)
            yield from _branch_layers(f"{path}.branches.{number}.op.body", branch.op.body, position, number)
    yield WeightLayer("classifier", "classifier", "linear")


def _input_layers(path: str, module: nn.Module, part: Part, cell: int) -> Iterator[WeightLayer]:
    for name, layer in module.named_modules():
        if isinstance(layer, FactorizedReduction):
            inside = f"{path}.{name}"
            yield WeightLayer(f"{inside}.straight", part, "straight", cell)
            yield WeightLayer(f"{inside}.shifted", part, "shifted", cell)
            yield WeightLayer(f"{inside}.norm", part, "reduced", cell)
            return
        if isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
            yield WeightLayer(f"{path}.{name}", part, "conv" if isinstance(layer, nn.Conv2d) else "bn", cell)


def _branch_layers(path: str, body: nn.Module, cell: int, number: int) -> Iterator[WeightLayer]:
    """A separable convolution has twice two layers to convolve, a projection one, a pool or identity none."""
    layers = [(name, m) for name, m in body.named_modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    separable = sum(isinstance(layer, nn.Conv2d) for _, layer in layers) == 4
    pieces = ("depthwise", "pointwise", "bn") * 2 if separable else ("conv", "bn")
    for place, ((name, _), piece) in enumerate(zip(layers, pieces, strict=False)):
        repeat = 1 + place // 3 if separable else 0
        yield WeightLayer(f"{path}.{name}", "branch", piece, cell, number // 2, number % 2, repeat)


def _list_keys(layer: WeightLayer, network: CellNetwork, kind: Kind) -> Iterator[tuple[str, str]]:
    """Our tensor names in a layer with the file's."""
    keras = kind == "keras"
    base = (_keras_name if keras else _torch_name)(layer, network, kind)
    ours: tuple[str, ...] = ("weight", "bias") if layer.piece == "linear" else ("weight",)
    theirs: tuple[str, ...] = (_KERAS_WEIGHT.get(layer.piece, "kernel"), "bias")
    if layer.piece in ("bn", "reduced"):
        ours, theirs = ("weight", "bias", "running_mean", "running_var"), _KERAS_NORM
    for name, key in zip(ours, theirs if keras else ours, strict=False):
        yield f"{layer.module}.{name}", f"{base}.{key}"


_KERAS_WEIGHT = {"depthwise": "depthwise_kernel", "pointwise": "pointwise_kernel"}
_TORCH_REDUCTION = {"straight": "path_1.conv", "shifted": "path_2.conv", "reduced": "final_path_bn"}
_KERAS_NORM = ("gamma", "beta", "moving_mean", "moving_variance")


def _torch_name(layer: WeightLayer, network: CellNetwork, kind: Kind) -> str:
    """The module's name in timm and pretrained-models."""
    if layer.part == "stem":
        return f"{'conv0' if kind == 'nasnet' else 'conv_0'}.{layer.piece}"
    if layer.part == "classifier":
        return "last_linear"
    cell = _torch_cell(layer.cell, network, kind)
    if layer.part == "branch":
        name = f"{cell}.comb_iter_{layer.block}_{('left', 'right')[layer.side]}"
        if not layer.repeat:
            return f"{name}.{layer.piece}"
        if layer.piece == "bn":
            return f"{name}.bn_sep_{layer.repeat}"
        return f"{name}.separable_{layer.repeat}.{layer.piece}_conv2d"
    if layer.piece in _TORCH_REDUCTION:
        inside = f"{cell}.conv_prev_1x1" if kind == "pnasnet" else cell
        return f"{inside}.{_TORCH_REDUCTION[layer.piece]}"
    return f"{cell}.{'conv_1x1' if layer.part == 'prev' else 'conv_prev_1x1'}.{layer.piece}"


def _torch_cell(position: int, network: CellNetwork, kind: Kind) -> str:
    """Cells are numbered without NASNet's reductions; NASNet's stages begin at 0, 6 and 12 whatever their length."""
    slot = network.slots[position]
    if slot.stage == 0:
        return f"cell_stem_{position}"
    if kind == "pnasnet":
        return f"cell_{position - 2}"
    if slot.role == "reduction":
        return f"reduction_cell_{slot.stage - 2}"
    return f"cell_{6 * (slot.stage - 1) + _place_in_stage(position, network)}"


def _keras_name(layer: WeightLayer, network: CellNetwork, kind: Kind) -> str:
    """The layer's name in Keras Applications."""
    if layer.part == "stem":
        return f"stem_{layer.piece}1"
    if layer.part == "classifier":
        return "predictions"
    slot, block = network.slots[layer.cell], _keras_block(layer.cell, network)
    if layer.part == "branch":
        bn = "bn_" if layer.piece == "bn" else ""
        block_number = 4 if (slot.role, layer.block) == ("reduction", 4) else layer.block + 1  # its fifth is called 4
        place = f"{slot.role}_{('left', 'right')[layer.side]}{block_number}"
        return f"separable_conv_{layer.repeat}_{bn}{place}_{block}"
    if layer.part == "prev":
        return f"{slot.role}_{layer.piece}_1_{block}"
    return {
        "straight": f"adjust_conv_1_{block}",
        "shifted": f"adjust_conv_2_{block}",
        "reduced": f"adjust_bn_{block}",
        "conv": f"adjust_conv_projection_{block}",
        "bn": f"adjust_bn_{block}",
    }[layer.piece]


def _keras_block(position: int, network: CellNetwork) -> str:
    """Blocks are numbered through, with one number skipped after the first reduction."""
    slot, length = network.slots[position], network.spec.cells_per_stage
    if slot.stage == 0:
        return f"stem_{position + 1}"
    if slot.role == "reduction":
        return f"reduce_{length * (slot.stage - 1)}"
    return str(length * (slot.stage - 1) + (slot.stage > 1) + _place_in_stage(position, network))


def _place_in_stage(position: int, network: CellNetwork) -> int:
    """The number of normal cells of its stage stand before this one."""
    stage = network.slots[position].stage
    return sum(slot.stage == stage and slot.role == "normal" for slot in network.slots[:position])
