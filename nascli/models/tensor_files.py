"""Tensors on disk: safetensors files that carry the SHA-256 of their content, by which a changed bit is noticed.

The digest is over the header (names, types, shapes, places; other metadata) and all values, so it stands in the header
itself, as `nascli_sha256`. A file of another tool has none, and is read as it is.
"""

import hashlib
import json
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save
from torch import Tensor

from nascli.content import describe_content
from nascli.errors import CorruptFileError, InputError
from nascli.files import open_whole

DIGEST = "nascli_sha256"
"""The key of the digest in a file's metadata."""

_METADATA = "__metadata__"
_LENGTH = 8
"""Bytes of the number that says how long the header is, and to a multiple of which it is filled up."""

_REMEDY = "Copy it again from where it was written"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], **metadata: str) -> None:
    """Write tensors with their digest, whole or not at all; equal tensors give equal bytes.

    The header is written here, since safetensors' own writer orders several metadata differently from run to run.
    """
    content = memoryview(save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}))
    begin = _LENGTH + int.from_bytes(content[:_LENGTH], "little")
    entries = json.loads(bytes(content[_LENGTH:begin]))
    metadata = {"format": "pt", **metadata}
    digest = _begin_digest({_METADATA: metadata, **entries})
    digest.update(content[begin:])
    header = json.dumps(
        {_METADATA: {**metadata, DIGEST: digest.hexdigest()}, **entries}, separators=(",", ":")
    ).encode()
    header += b" " * (-len(header) % _LENGTH)
    with open_whole(path) as file:
        file.write(len(header).to_bytes(_LENGTH, "little") + header)
        file.write(content[begin:])


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; those of a file with a digest are as they were written.

    They share the memory of the file: copy them where they are kept.

    Raises:
        InputError: There is no such file.
        CorruptFileError: It is damaged, changed after it was written, or no safetensors file.
    """
    try:
        tensors = _load(path)
        with path.open("rb") as file:
            header = _read_header(file)
            written = header.get(_METADATA, {}).get(DIGEST)
            if written is not None and written != _finish_digest(header, file):
                raise CorruptFileError(
                    f"weights {path} are damaged: {DIGEST} in their header does not fit, so a value or a name was "
                    "changed after nascli wrote them",
                    _REMEDY,
                    file=path,
                )
    except OSError as error:
        raise InputError(f"weights {path}: {error.strerror or error}", file=path) from error
    except (SafetensorError, ValueError, RecursionError) as error:
        kind = describe_content(path)
        wrong = "are damaged" if kind == "a safetensors file" else f"are no safetensors file: it is {kind}"
        raise CorruptFileError(f"weights {path} {wrong}", _REMEDY, file=path) from error
    return tensors


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a file that `read_tensors` has read."""
    with path.open("rb") as file:
        return dict(_read_header(file).get(_METADATA, {}))


def digest_tensors(path: Path) -> str:
    """The digest of a file that `read_tensors` has read: the one in it, or the one it would have."""
    with path.open("rb") as file:
        header = _read_header(file)
        return str(header.get(_METADATA, {}).get(DIGEST) or _finish_digest(header, file))


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and values of tensors."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())  # NumPy has no bfloat16
    return digest.hexdigest()


def _load(path: Path) -> dict[str, Tensor]:
    try:
        str(path).encode()
    except UnicodeEncodeError:  # a name that is no UTF-8, by which safetensors opens no file
        return load(path.read_bytes())
    return load_file(path)


def _read_header(file: BufferedReader) -> dict[str, Any]:
    length = int.from_bytes(file.read(_LENGTH), "little")
    header: dict[str, Any] = json.loads(file.read(length))
    return header


def _begin_digest(header: Mapping[str, Any]) -> "hashlib._Hash":
    metadata = {name: value for name, value in header.get(_METADATA, {}).items() if name != DIGEST}
    return hashlib.sha256(json.dumps({**header, _METADATA: metadata}, sort_keys=True).encode())


def _finish_digest(header: Mapping[str, Any], file: BufferedReader) -> str:
    """The digest of a header and the values that follow it."""
    digest = _begin_digest(header)
    return hashlib.file_digest(file, lambda: digest).hexdigest()
