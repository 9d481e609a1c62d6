"""Published weights of other tools, read into our networks: what of a file fits.

The importer of a family knows what tools call the weights of its networks; `weight_files` reads the files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from nascli.errors import CorruptFileError, InputError
from nascli.models.families import build, find_family
from nascli.models.interface import ImageClassifier
from nascli.models.spec import NetworkSpec
from nascli.models.weight_files import read_weights
from nascli.units import shorten

IMAGENET_OUTPUTS = 1000
"""Classes of ImageNet; some tools put the background before them."""

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True)
class ImportedWeights:
    """A file of another tool, as it was recognized.

    Args:
        name: Tool and network: `timm or pretrained-models, NASNet`, ...
        tool: The tool that most likely published it.
        layout: The importer's own word for the names in it.
        numbers: Fields of the network's spec that are the tool's: with them it computes what the tool computes.
        wrapper: The entry of the file that holds the weights; empty where it is the file itself.
        others: Further weights in the file, which are not taken.
    """

    name: str
    tool: str
    layout: str
    numbers: Mapping[str, object]
    wrapper: str = ""
    others: tuple[str, ...] = ()


class Importer(Protocol):
    """The files of other tools that a family of networks can read; networks and specs are the family's."""

    title: str
    """Tools and networks, for the message that refuses a file."""

    def recognize(self, entries: Mapping[str, Tensor], spec: Any) -> ImportedWeights | None:  # noqa: ANN401
        """The kind of a file, None for an unknown one; InputError for one that is known not to fit."""

    def list_keys(self, network: Any, layout: str) -> Mapping[str, str]:  # noqa: ANN401
        """The entry of such a file for each tensor of the network."""

    def convert(self, tensor: Tensor, name: str, key: str, network: Any) -> Tensor:  # noqa: ANN401
        """The entry `key` in the layout of our tensor `name`."""


class OwnImporter:
    """Files of the weights of nascli itself, without the network.json that says what they are of."""

    title = "nascli"

    def recognize(self, entries: Mapping[str, Tensor], spec: NetworkSpec) -> ImportedWeights | None:
        """By the names of most of the network's own tensors."""
        with torch.device("meta"):
            own = set(build(spec).state_dict())
        own_layout = len(own & set(entries)) > len(own) / 2
        return ImportedWeights("nascli", "nascli", "nascli", {}) if own_layout else None

    def list_keys(self, network: ImageClassifier, layout: str) -> Mapping[str, str]:
        """The network's own names."""
        return {name: name for name in network.state_dict() if not name.endswith("num_batches_tracked")}

    def convert(self, tensor: Tensor, name: str, key: str, network: ImageClassifier) -> Tensor:
        """As it is."""
        return tensor


def import_network(
    path: Path, spec: NetworkSpec, *, any_classes: bool = False
) -> tuple[ImageClassifier, ImportedWeights]:
    """A network with the weights of another tool's file, which computes what that tool computes with them.

    Args:
        spec: The network, but for the numbers that the tool has of its own; with 1000 classes a file of 1001 loses its
            first, the background.
        any_classes: The network gets as many classes as the file has, whatever `spec` says; and weights of nascli
            itself are taken, too, without their auxiliary head.

    Returns:
        The network, in evaluation mode, and what the file was.

    Raises:
        InputError: There is no such file, its kind is unknown, or it does not fit: the first missing, surplus and
            misshaped entries are named.
        CorruptFileError: The file is damaged.
    """
    importer = find_family(spec.family).importer() or (OwnImporter() if any_classes else None)
    if importer is None:
        raise InputError(f"weights {path}: no tool's weights can be read for {spec.name}")
    held = read_weights(path)
    entries = held.entries
    file = importer.recognize(entries, spec)
    if file is None and any_classes:
        importer = OwnImporter()
        file = importer.recognize(entries, spec)
        entries = {name: tensor for name, tensor in entries.items() if not name.startswith("aux_head.")}
    if file is None:
        some = ", ".join(map(shorten, list(entries)[:3]))
        with torch.device("meta"):
            own = set(entries) & set(build(spec).state_dict())
        hint = "These are weights of nascli itself: give their folder to --network or --backbone" if own else ""
        raise InputError(f"weights {path}: not a file of {importer.title} (it holds {some} ...)", hint)
    spec = spec.model_copy(update=dict(file.numbers))
    if any_classes:
        spec = spec.model_copy(update={"classes": _count_outputs(entries, spec, importer, file.layout)})
    network = build(spec).eval()
    keys = importer.list_keys(network, file.layout)
    found = {name: entries[key] for name, key in keys.items() if key in entries}
    converted = {name: importer.convert(tensor, name, keys[name], network) for name, tensor in found.items()}
    _refuse_misfit(path, network, entries, keys, converted)
    network.load_state_dict(converted, strict=False)  # only batch counters are absent, which carry nothing
    return network, replace(file, wrapper=held.wrapper, others=held.others)


def _refuse_misfit(
    path: Path,
    network: ImageClassifier,
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
    said = describe_misfits(missing, surplus, misshaped)
    if said:
        classes = _count_classes(got, wanted)
        if classes and len(misshaped) <= 2 and not missing and not surplus:
            hint = f"The file is for {classes} classes, the network has {network.spec.classes}: --classes {classes}"
        else:
            hint = "Choose the --cell and --preset that the file was made for"
        raise InputError(f"weights {path} do not fit {network.spec.name} at this size: {said}", hint)
    floats = (name for name in got if wanted[name].is_floating_point())
    if name := next((name for name in floats if got[name].dtype not in _FLOATS), None):
        raise InputError(
            f"weights {path}: entry {expected[name]} holds numbers of the type {str(got[name].dtype)[6:]}, not floats",
            "Where it was made, save it as floats: what such numbers stand for, is not in the file",
            file=path,
        )
    broken = next((expected[name] for name, tensor in got.items() if not bool(torch.isfinite(tensor).all())), None)
    if broken:
        raise CorruptFileError(f"weights {path}: entry {broken} holds values that are not finite")


def describe_misfits(missing: Sequence[str], surplus: Sequence[str], misshaped: Sequence[str]) -> str:
    """The number of entries of a file that do not fit a network, and the first of each kind; empty where all do."""
    misfits = {"missing": missing, "surplus": surplus, "misshaped": misshaped}
    return "; ".join(
        f"{len(names)} {misfit}, first {shorten(names[0], 200)}" for misfit, names in misfits.items() if names
    )


def _count_outputs(entries: Mapping[str, Tensor], spec: NetworkSpec, importer: Importer, layout: str) -> int:
    """The classes of a file, without the background; those of `spec` where it has no classifier's bias."""
    with torch.device("meta"):
        key = importer.list_keys(build(spec), layout).get("classifier.bias", "")
    outputs = len(entries[key]) if key in entries and entries[key].ndim == 1 else 0
    return IMAGENET_OUTPUTS if outputs == IMAGENET_OUTPUTS + 1 else outputs or spec.classes


def _count_classes(got: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> int | None:
    """The outputs of a file's classifier, where these alone tell it from the network's."""
    ours, theirs = wanted.get("classifier.weight"), got.get("classifier.weight")
    if ours is None or theirs is None or theirs.shape[1:] != ours.shape[1:] or theirs.shape == ours.shape:
        return None
    return theirs.shape[0]
