"""Weights of timm and torchvision for MnasNet and MobileNetV2, by their names in our mobile networks.

All list the modules of a network in the order of the computation, as we do; so a layout is a list of names. Both tools
pad with as many zeros on both sides, and add a layer's input to its output wherever stride and channels allow: that is
compared with the genotype's skips, since it changes no shape. An activation is in no file either: of the networks that
timm names alike MobileNetV2 has ReLU6, and is known by its layers; for any other the activation of the spec stays.

References: timm 1.0, `timm.models.efficientnet` and its default configurations; torchvision 0.29, `mnasnet.py` and
`mobilenetv2.py` and the descriptions of their weights.
"""

from collections.abc import Iterator, Mapping
from typing import Literal

from torch import Tensor, nn

from nascli.config import Preprocessing
from nascli.errors import InputError
from nascli.genotype.mobile.genotype import MobileBlock, MobileGenotype
from nascli.models.mobile.network import MobileNetwork
from nascli.models.mobile.spec import MOST_HEAD_FILTERS, MobileNetworkSpec
from nascli.models.pretrained import ImportedWeights

Layout = Literal["timm", "torchvision MnasNet", "torchvision MobileNetV2"]

_MARKS: dict[str, Layout] = {
    "blocks.0.0.conv_dw.weight": "timm",
    "layers.8.0.layers.0.weight": "torchvision MnasNet",
    "features.1.conv.0.0.weight": "torchvision MobileNetV2",
}
"""An entry that only files of a layout have."""

_GATE = ("se.conv_reduce", "se.conv_expand")
_LAYERS: dict[Layout, dict[str, tuple[str, ...]]] = {
    "timm": {
        "conv": ("conv", "bn1", *_GATE),
        "depthwise": ("conv_dw", "bn1", *_GATE, "conv_pw", "bn2"),
        "mbconv": ("conv_pw", "bn1", "conv_dw", "bn2", *_GATE, "conv_pwl", "bn3"),
    },
    "torchvision MnasNet": {
        "conv": ("0", "1", *_GATE),
        "depthwise": ("3", "4", *_GATE, "6", "7"),
        "mbconv": ("layers.0", "layers.1", "layers.3", "layers.4", *_GATE, "layers.6", "layers.7"),
    },
    "torchvision MobileNetV2": {
        "conv": ("conv.0.0", "conv.0.1", *_GATE),
        "depthwise": ("conv.0.0", "conv.0.1", *_GATE, "conv.1", "conv.2"),
        "mbconv": ("conv.0.0", "conv.0.1", "conv.1.0", "conv.1.1", *_GATE, "conv.2", "conv.3"),
    },
}
"""The modules of a layer in order, by its op; a layer that a tool has not gets names that no file of it has."""

_COMMON = {
    "stem": "imagenet",
    "padding": "symmetric",
    "batch_norm_epsilon": 1e-5,
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
}
_MOMENTUM: dict[Layout, float] = {"timm": 0.1, "torchvision MnasNet": 3e-4, "torchvision MobileNetV2": 0.1}
_LATER_WIDTHS = (0.75, 1.3)
"""Widths whose weights torchvision trained later, for images resized to 232 pixels and not to 256."""

_UNSCALED_STEM = 32


class MobileImporter:
    """The files of both tools."""

    title = "timm or torchvision for MnasNet or MobileNetV2"

    def recognize(self, entries: Mapping[str, Tensor], spec: MobileNetworkSpec) -> ImportedWeights | None:
        """The layout of a file by an entry that only it has; InputError for files that are known not to fit."""
        layout = next((layout for mark, layout in _MARKS.items() if mark in entries), None)
        if layout is None:
            return None
        if layout == "torchvision MnasNet":
            _refuse_version_1(entries, spec)
        _refuse_other_skips(spec.model_copy(update=_COMMON), layout)
        tool, six = layout.split()[0], layout == "torchvision MobileNetV2" or _is_mobilenetv2(spec.genotype)
        numbers: dict[str, object] = {**_COMMON, "batch_norm_momentum": _MOMENTUM[layout]}
        numbers["preprocessing"] = _prepare_images(layout, spec.width)
        if six:
            numbers["activation"] = "relu6"
        head = entries.get(f"{_name_modules(spec.genotype, layout)[-3]}.weight")
        if head is not None and head.ndim == 4 and 1 <= head.shape[0] <= MOST_HEAD_FILTERS:
            numbers["head_filters"] = head.shape[0]  # wider than 1280 in MobileNetV2 of widths above 1
        return ImportedWeights(f"{tool}, {'MobileNetV2' if six else 'MnasNet'}", tool, layout, numbers)

    def list_keys(self, network: MobileNetwork, layout: str) -> Mapping[str, str]:
        """By the order of the modules."""
        modules = (
            (path, module)
            for path, module in network.named_modules()
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.Linear)
        )
        names = _name_modules(network.spec.genotype, next(each for each in _LAYERS if each == layout))
        return {
            f"{path}.{tensor}": f"{name}.{tensor}"
            for (path, module), name in zip(modules, names, strict=True)
            for tensor in module.state_dict()
            if tensor != "num_batches_tracked"
        }

    def convert(self, tensor: Tensor, name: str, key: str, network: MobileNetwork) -> Tensor:
        """As it is."""
        return tensor.contiguous()


def _name_modules(genotype: MobileGenotype, layout: Layout) -> list[str]:
    """All modules with weights in order: stem, layers, head, classifier."""
    layers = [name for place in range(len(genotype.blocks)) for name in _name_block(genotype, place, layout)]
    if layout == "timm":
        return ["conv_stem", "bn1", *layers, "conv_head", "bn2", "classifier"]
    if layout == "torchvision MnasNet":
        head = 7 + len(genotype.blocks)
        return ["layers.0", "layers.1", *layers, f"layers.{head}", f"layers.{head + 1}", "classifier.1"]
    head = 1 + sum(block.layers for block in genotype.blocks)
    return ["features.0.0", "features.0.1", *layers, f"features.{head}.0", f"features.{head}.1", "classifier.1"]


def _name_block(genotype: MobileGenotype, place: int, layout: Layout) -> Iterator[str]:
    block, before = genotype.blocks[place], sum(block.layers for block in genotype.blocks[:place])
    inner = _LAYERS[layout].get("mbconv" if block.expansion > 1 else block.op, ("linear", "linear_norm"))
    for layer in range(block.layers):
        prefix = {
            "timm": f"blocks.{place}.{layer}",
            "torchvision MnasNet": f"layers.{7 + place}.{layer}" if place else "layers",
            "torchvision MobileNetV2": f"features.{1 + before + layer}",
        }[layout]
        yield from (f"{prefix}.{name}" for name in inner if block.se or name not in _GATE)


def _prepare_images(layout: Layout, width: float) -> Preprocessing:
    later = layout == "torchvision MnasNet" and width in _LATER_WIDTHS
    return Preprocessing(
        resize="shorter_side",
        crop=224 / 232 if later else 0.875,
        interpolation="bicubic" if layout == "timm" else "bilinear",
    )


def _is_mobilenetv2(genotype: MobileGenotype) -> bool:
    """Whether the layers, of whatever widths, are MobileNetV2's: 3x3, expanded six times, without gates."""

    def fits(block: MobileBlock, op: str) -> bool:
        return (block.op, block.kernel, block.se) == (op, 3, 0)

    first, *others = genotype.blocks
    return fits(first, "depthwise") and all(fits(block, "mbconv6") for block in others)


def _refuse_other_skips(spec: MobileNetworkSpec, layout: Layout) -> None:
    """InputError where the tool adds an input and the genotype does not, or the other way round."""
    for place in range(len(spec.genotype.blocks)):
        for plan in spec.plan_layers(place):
            expected = "identity" if plan.stride == 1 and plan.channels_in == plan.channels_out else "none"
            if plan.skip != expected:
                raise InputError(
                    f"{spec.name}: {layout} has the skip {expected} in block {place + 1}, this network has {plan.skip}",
                    "Choose the --cell that the file was made for; for timm's mnasnet_small it is mnasnet-small-timm",
                )


def _refuse_version_1(entries: Mapping[str, Tensor], spec: MobileNetworkSpec) -> None:
    """InputError for files of torchvision's version 1, whose stem and first block are those of width 1 at any width."""
    stem = entries.get("layers.0.weight")
    if spec.stem_filters != _UNSCALED_STEM and stem is not None and stem.shape[:1] == (_UNSCALED_STEM,):
        filters = (spec.genotype.blocks[0].filters, *spec.block_filters[1:])
        raise InputError(
            f"a file of torchvision's version 1, with {_UNSCALED_STEM} channels in the stem where width {spec.width:g} "
            f"has {spec.stem_filters}",
            "Take today's file, or a genotype that says it with width 1: "
            f"stem {_UNSCALED_STEM}, filters {', '.join(map(str, filters))}",
        )
