"""Weights in the older HDF5 files of Keras; nothing outside the file is read, and nothing is allocated on its word."""

import re
from pathlib import Path
from typing import Any

import h5py
import torch
from torch import Tensor

from nascli.errors import CorruptFileError, InputError
from nascli.units import shorten

_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, h5py.h5z.FILTER_LZF}
_KIND_HINT = "Of HDF5 files those of Keras are read"
_COPY_HINT = "Save it anew with Keras, into one file of its own: model.save('weights.h5')"


def read_keras(path: Path, most: int) -> dict[str, Tensor]:
    """The tensors of a file, with or without the model around the weights, by `layer.weight`.

    Args:
        most: Bytes that they may have together.

    Raises:
        InputError: It is of another kind, or holds more than numbers in this file itself.
        CorruptFileError: It claims to hold more than `most`.
    """
    entries: dict[str, Tensor] = {}
    claimed = 0
    with h5py.File(path, "r", locking=False) as file:
        if "layers" in file and "model_weights" not in file:
            hint = "Save it in the older way: model.save('weights.h5')"
            raise InputError(f"weights {path}: of the kind .weights.h5 of Keras 3", hint)
        group: Any = _follow(path, file, "model_weights") if "model_weights" in file else file
        for layer in group:
            inside = _follow(path, group, layer)
            for name in inside.attrs.get("weight_names", ()):
                text = name.decode() if isinstance(name, bytes) else str(name)
                short = re.sub(r":\d+$", "", text).rsplit("/", 1)[-1]
                data = _follow(path, inside, text)
                claimed += _check_stored(path, data)
                if claimed > most:
                    size = path.stat().st_size
                    raise CorruptFileError(f"weights {path}: {size:,} bytes that claim to hold more than {claimed:,}")
                entries[f"{layer}.{short}"] = torch.from_numpy(data[()])
        if not entries:
            held = ", ".join(list(file)[:4]) or "nothing"
            raise InputError(f"weights {path}: an HDF5 file without layers of Keras (it holds {held})", _KIND_HINT)
    return entries


def _follow(path: Path, group: Any, name: str) -> Any:  # noqa: ANN401 - h5py has no types
    """The entry of a group under a path of names; InputError where a link in it leads anywhere else."""
    for part in filter(None, name.split("/")):
        link = group.get(part, getlink=True)
        if not isinstance(link, h5py.HardLink | None):
            raise InputError(f"weights {path}: {shorten(name)} is a link to another place", _COPY_HINT, file=path)
        group = group[part]
    return group


def _check_stored(path: Path, data: Any) -> int:  # noqa: ANN401
    """The bytes that a data set claims to have; InputError where they are not numbers in this file itself."""
    filters = data.id.get_create_plist()
    unknown = {filters.get_filter(k)[0] for k in range(filters.get_nfilters())} - _FILTERS
    kinds = {
        "holds no numbers": data.dtype.kind not in "fiu",
        "is kept in another file": bool(data.external) or data.is_virtual,
        "is compressed by a method that is not known": bool(unknown),
        "was never written": data.size > 0 and data.id.get_storage_size() == 0,
    }
    if kind := next((kind for kind, is_so in kinds.items() if is_so), None):
        raise InputError(f"weights {path}: {shorten(data.name)} {kind}", _COPY_HINT, file=path)
    return int(data.nbytes)
