"""Published weights of other tools, read into our networks: files, and what of them fits.

Files are `.pth` and `.safetensors` of PyTorch tools and `.h5` of Keras. Nothing in a file is ever run: `.pth` is loaded
as tensors. The importer of a family knows what tools call the weights of its networks.
"""

import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import h5py
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from nascli.config import Preprocessing
from nascli.errors import CorruptFileError, InputError
from nascli.models.families import find_family
from nascli.models.interface import ImageClassifier


@dataclass(frozen=True)
class ImportedWeights:
    """A file of another tool, as it was recognized.

    Args:
        name: Tool and network: `timm or pretrained-models, NASNet`, ...
        tool: The tool that most likely published it.
        preprocessing: How that tool prepares images for the network.
        keys: The entry of such a file for each tensor of the network.
    """

    name: str
    tool: str
    preprocessing: Preprocessing
    keys: Mapping[str, str]


class Importer(Protocol):
    """The files of other tools that a family of networks can read; networks are the family's."""

    title: str
    """Tools and networks, for the message that refuses a file."""

    def recognize(self, entries: Mapping[str, Tensor], network: Any) -> ImportedWeights | None:  # noqa: ANN401
        """The kind of a file, None for an unknown one."""

    def convert(self, tensor: Tensor, name: str, key: str, network: Any) -> Tensor:  # noqa: ANN401
        """The entry `key` in the layout of our tensor `name`."""


def import_weights(path: Path, network: ImageClassifier) -> ImportedWeights:
    """Fill a network with the weights of another tool's file.

    Args:
        network: Its weights and statistics are replaced; with 1000 classes a file of 1001 loses its first, the
            background.

    Returns:
        What the file was, and how images are prepared for its weights.

    Raises:
        InputError: There is no such file, its kind is unknown, or it does not fit: the first missing, surplus and
            misshaped entries are named.
        CorruptFileError: The file is damaged.
    """
    importer = find_family(network.spec.family).importer()
    if importer is None:
        raise InputError(f"weights {path}: no tool's weights can be read for {network.spec.name}")
    entries = _read(path)
    file = importer.recognize(entries, network)
    if file is None:
        some = ", ".join(list(entries)[:3]) or "nothing"
        raise InputError(f"weights {path}: not a file of {importer.title} (it holds {some} ...)")
    found = {name: entries[key] for name, key in file.keys.items() if key in entries}
    converted = {name: importer.convert(tensor, name, file.keys[name], network) for name, tensor in found.items()}
    _refuse_misfit(path, network, entries, file.keys, converted)
    network.load_state_dict(converted, strict=False)  # only batch counters are absent, which carry nothing
    return file


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
    misfits = {"missing": missing, "surplus": surplus, "misshaped": misshaped}
    if any(misfits.values()):
        said = "; ".join(f"{len(names)} {misfit}, first {names[0]}" for misfit, names in misfits.items() if names)
        raise InputError(
            f"weights {path} do not fit {network.spec.name} at this size: {said}",
            "Choose the --cell and --preset that the file was made for",
        )
    broken = next((expected[name] for name, tensor in got.items() if not bool(torch.isfinite(tensor).all())), None)
    if broken:
        raise CorruptFileError(f"weights {path}: entry {broken} holds values that are not finite")


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix not in _READERS:
        raise InputError(f"weights {path}: unknown ending {path.suffix!r}", f"Known: {', '.join(_READERS)}")
    if not path.is_file():
        raise InputError(f"weights {path}: no such file")
    try:
        return _READERS[path.suffix](path)
    except InputError:
        raise
    except Exception as error:  # torch.load raises pickle's own errors, and refuses code with one of them
        known = SafetensorError, OSError, KeyError, RuntimeError, ValueError, EOFError, zipfile.BadZipFile
        damage = (
            "are damaged or not what their ending says"
            if isinstance(error, known)
            else "hold more than tensors, or are damaged"
        )
        said = "" if isinstance(error, KeyError) else str(error).strip()  # a key alone says nothing
        raise CorruptFileError(f"weights {path} {damage}: {(said or 'unreadable').splitlines()[0]}") from error


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


_READERS: dict[str, Callable[[Path], dict[str, Tensor]]] = {
    ".safetensors": load_file,
    ".h5": _read_keras,
    ".hdf5": _read_keras,
    ".pth": _read_torch,
    ".pt": _read_torch,
    ".bin": _read_torch,
}
