"""Files of weights of other tools, read as tensors: known by their content, whatever their ending.

Read are files of PyTorch (torch.save of any version), safetensors, and HDF5 of Keras. Nothing in a file is ever run: a
pickle is loaded as tensors and plain values only.
"""

import argparse
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nascli.content import describe_content
from nascli.device_errors import is_out_of_memory
from nascli.errors import CorruptFileError, InputError, NascliError
from nascli.memory import measure_free_memory
from nascli.models.keras_files import read_keras
from nascli.models.tensor_files import read_tensors
from nascli.reading import open_file
from nascli.text import quote
from nascli.units import shorten

WRAPPERS = (
    *("state_dict_ema", "model_ema", "ema_state_dict", "ema"),
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params"),
)
"""Entries under which training programs keep a network's weights, the averaged ones first."""

_PREFIXES = ("module.", "_orig_mod.")
"""Beginnings of names that data parallelism and compilation add."""
_SHARED_PREFIXES = ("model.", "net.", "network.")
"""Beginnings that are dropped where every name has them: those of a module around the network."""
_COUNTERS = {"n_averaged"}
_DEEPEST = 3
"""Wrappers within each other."""

_PYTORCH, _SAFETENSORS, _HDF5 = "a PyTorch file", "a safetensors file", "an HDF5 file"
_READ_HINT = "Files of PyTorch, safetensors and HDF5 files of Keras are read"
_ENDINGS = (".safetensors", ".pth", ".pt", ".bin", ".h5")
_MOST_TIMES, _SMALL = 4, 64 << 20
"""Times its own bytes that a file may unpack to, and bytes beside."""
_MAX_LIST = 8 << 20
"""Bytes of a file's list of contents, which takes a second for each million."""
_DAMAGE = {
    "page": "The download brought a page in place of the file: get it again, from the address of the file itself",
    "pointer": "",
    "empty": "Get it again",
    "zeros": "Get it again",
    "cut off": "Get it again",
}
"""The remedy for a file that is not what its owner copied, by a word of its kind."""
_REMEDIES = {
    "NumPy": _READ_HINT,
    "archive": "Unpack it, and give the file of weights in it",
    "pickle": "Only the program that wrote it can read it; there: torch.save(model.state_dict(), 'weights.pth')",
    "TorchScript": "Where it was made: torch.save(model.state_dict(), 'weights.pth')",
    "exported": "Where it was made: torch.save(model.state_dict(), 'weights.pth')",
    "Keras": "Save it as HDF5 there: model.save('weights.h5')",
}
"""The remedy for a file of another kind, by a word of the kind."""


@dataclass(frozen=True)
class WeightFile:
    """The tensors of a file by name.

    Args:
        wrapper: The entry of the file that holds them, like `model.state_dict`; empty where it is the file itself.
        others: Further entries that hold tensors under the names of `WRAPPERS`, which are not taken.
    """

    entries: Mapping[str, Tensor]
    wrapper: str = ""
    others: tuple[str, ...] = ()


def read_weights(path: Path) -> WeightFile:
    """Read a file of any of the kinds.

    Raises:
        InputError: There is no such file, or it is of another kind, which is named.
        CorruptFileError: The file is damaged.
    """
    if os.path.isdir(path):
        if os.path.isfile(path / "network.json"):
            raise InputError(f"weights {path} are a folder of nascli itself", f"nascli build --network {quote(path)}")
        inside = [each.name for each in sorted(path.iterdir()) if each.suffix in _ENDINGS]
        named = f"Give the file in it: {path / inside[0]}" if inside else "Give a file"
        saved = ", a SavedModel of TensorFlow" if os.path.isfile(path / "saved_model.pb") else ""
        raise InputError(f"weights {path} are a folder{saved}", _READ_HINT if saved else named)
    if not os.path.isfile(path):
        if os.path.exists(path):
            raise InputError(f"weights {path}: neither a file nor a folder", "Give a file", file=path)
        index = path.with_name(f"{path.name}.index")
        if os.path.isfile(index):
            raise InputError(f"weights {path} are a checkpoint of TensorFlow", _READ_HINT)
        raise InputError(f"weights {path}: no such file")
    try:
        kind = identify_weights(path)
    except OSError as error:
        raise InputError(f"weights {path}: {error.strerror or error}", file=path) from error
    if kind not in _READERS:
        refused = CorruptFileError if any(word in kind for word in _DAMAGE) else InputError
        remedies = (remedy for word, remedy in (_DAMAGE | _REMEDIES).items() if word in kind)
        raise refused(f"{path} holds no weights: it is {kind}", next(remedies, _READ_HINT))
    try:
        found = _READERS[kind](path)
        for name, tensor in found.entries.items():
            _require_numbers(path, name, tensor)
        return found
    except NascliError:
        raise
    except Exception as error:  # torch.load raises pickle's own errors; what they advise would run code of the file
        raise _explain(path, kind, error) from error


def _require_numbers(path: Path, name: str, tensor: Tensor) -> None:
    """InputError for a tensor that is more, or less, than numbers in the memory that its shape takes."""
    kinds = {
        "is a sparse tensor": tensor.layout is not torch.strided,
        "is a nested tensor": tensor.is_nested,
        "is quantized": tensor.is_quantized,
        "has a shape and no values (of the device meta)": tensor.is_meta,
        "holds complex numbers": tensor.is_complex(),
    }
    kind = next((kind for kind, is_so in kinds.items() if is_so), None)
    if kind is None and tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        kind = "repeats few values over a larger shape"
    if kind:
        raise InputError(
            f"weights {path}: entry {shorten(name)} {kind}",
            "Where it was made, save plain numbers: tensor.dequantize(), tensor.to_dense() or tensor.clone()",
            file=path,
            field=shorten(name),
        )


def identify_weights(path: Path) -> str:
    """A file's kind, in words that follow "it is"; of an archive, what it is an archive of."""
    kind = describe_content(path)
    with open_file(path) as file:
        head = file.read(64)
    if kind in (_PYTORCH, "a ZIP archive"):
        return _identify_archive(path, kind)
    if path.suffix == ".index" or ".data-0" in path.suffix:
        return "a part of a TensorFlow checkpoint"
    if kind == "of an unknown kind" and head[:1] == b"\x08" and head[2:3] == b"\x12":
        return "an ONNX model"
    if kind == "of an unknown kind" and head[4:8] == b"TFL3":
        return "a TensorFlow Lite model"
    return kind


def _identify_archive(path: Path, kind: str) -> str:
    try:
        with open_file(path) as file, zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            _refuse_bomb(path, archive.infolist())
    except (OSError, zipfile.BadZipFile):  # cut off: its table of contents is at its end
        return kind if kind == _PYTORCH else f"{kind} that is cut off"
    if any(re.search(r"^[^/]+/(code/|constants\.pkl$)", name) for name in names):
        return "a TorchScript program"
    if any(name.endswith(("archive_format", "serialized_exported_program.json")) for name in names):
        return "a program exported by PyTorch"
    if any(name.endswith("data.pkl") for name in names):
        return _PYTORCH
    if "model.weights.h5" in names or {"metadata.json", "config.json"} <= set(names):
        return "a model in the format .keras of Keras 3"
    if names and all(name.endswith(".npy") for name in names):
        return "an archive of NumPy arrays"
    return kind


def _may_unpack_to(size: int) -> int:
    """Bytes that a file of so many may unpack to."""
    return _MOST_TIMES * size + _SMALL


def _refuse_bomb(path: Path, parts: Sequence[zipfile.ZipInfo]) -> None:
    """CorruptFileError for an archive that would unpack to far more than it is; torch.save does not compress."""
    claimed, size = sum(part.file_size for part in parts), path.stat().st_size
    if claimed > _may_unpack_to(size):
        raise CorruptFileError(f"weights {path}: {size:,} bytes that claim to unpack to {claimed:,}", "Get it again")
    lists = [part.file_size for part in parts if part.filename.endswith("data.pkl")]
    if max(lists, default=0) > _MAX_LIST:
        raise InputError(
            f"weights {path}: its list of contents (data.pkl) has {max(lists):,} bytes; {_MAX_LIST:,} are read",
            _REMEDIES["exported"],
            file=path,
        )


def _read_torch(path: Path) -> WeightFile:
    harmless: list[Any] = [argparse.Namespace]  # options of a training: a holder of plain values
    with (
        warnings.catch_warnings(),
        torch.serialization.safe_globals(harmless),
        open_file(path) as file,
    ):  # a path would be known by its ending
        warnings.simplefilter("ignore")  # what torch thinks of its own kinds of tensors
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    wrapper, others = list[str](), tuple[str, ...]()
    for _ in range(_DEEPEST):
        found = [name for name in WRAPPERS if isinstance(loaded, Mapping) and _holds_tensors(loaded.get(name))]
        if not found or _tensors(loaded):
            break
        wrapper.append(found[0])
        others, loaded = tuple(found[1:]), loaded[found[0]]
    entries = _tensors(loaded)
    if not entries:
        held = ", ".join(map(str, list(loaded)[:4])) if isinstance(loaded, Mapping) else f"a {type(loaded).__name__}"
        raise InputError(f"weights {path}: not a dictionary of tensors (it holds {held or 'nothing'})", _READ_HINT)
    return WeightFile(strip_prefixes(entries, path), ".".join(wrapper), others)


def _tensors(values: object) -> dict[str, Tensor]:
    """The tensors that stand in a dictionary itself."""
    items = values.items() if isinstance(values, Mapping) else ()
    return {str(name): value.detach() for name, value in items if isinstance(value, Tensor)}


def _holds_tensors(values: object, depth: int = _DEEPEST) -> bool:
    if not isinstance(values, Mapping) or not depth:
        return False
    return bool(_tensors(values)) or any(_holds_tensors(values.get(name), depth - 1) for name in WRAPPERS)


def strip_prefixes(entries: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The same tensors under the names that they have in the network itself.

    Raises:
        InputError: Two have one name then.
    """
    named: dict[str, Tensor] = {}
    for name, tensor in entries.items():
        own = _strip(name)
        if own in named:
            raise InputError(
                f"weights {path}: entry {own} is there twice, once as {name}",
                "Take one of the two networks out of the file",
            )
        if name not in _COUNTERS:
            named[own] = tensor
    for prefix in _SHARED_PREFIXES:
        if named and all(name.startswith(prefix) for name in named):
            named = {name.removeprefix(prefix): tensor for name, tensor in named.items()}
    return named


def _strip(name: str) -> str:
    while prefix := next((each for each in _PREFIXES if name.startswith(each)), None):
        name = name.removeprefix(prefix)
    return name


def _read_safetensors(path: Path) -> WeightFile:
    return WeightFile(strip_prefixes(read_tensors(path), path))


def _read_keras(path: Path) -> WeightFile:
    return WeightFile(read_keras(path, _may_unpack_to(path.stat().st_size)))


_READERS: dict[str, Callable[[Path], WeightFile]] = {
    _PYTORCH: _read_torch,
    _SAFETENSORS: _read_safetensors,
    _HDF5: _read_keras,
}
"""The kinds of files that are read."""


def _explain(path: Path, kind: str, error: Exception) -> CorruptFileError:
    """The error of a file of a known kind that could not be read; no other library's advice is in it."""
    if is_out_of_memory(error):
        free = measure_free_memory()
        return CorruptFileError(
            f"weights {path} claim more memory than the {free:,} bytes that are free", "Get it again"
        )
    if isinstance(error, pickle.UnpicklingError) and _is_whole(path):
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f" ({named[1]})" if named else ""
        message = f"weights {path} hold more than tensors{what}; nothing but tensors is loaded"
        return CorruptFileError(message, _REMEDIES["pickle"])
    return CorruptFileError(f"weights {path} are damaged, perhaps cut off: {kind} that cannot be read", "Get it again")


def _is_whole(path: Path) -> bool:
    """Whether a file of torch.save is undamaged, as far as it has checksums."""
    if not zipfile.is_zipfile(path):
        with open_file(path) as file:
            return file.read(2) != b"PK"
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile, ValueError):
        return False
