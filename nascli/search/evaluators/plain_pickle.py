"""Pickles of plain values, read without running code of theirs: also inside bz2 and in what `torch.save` wrote.

`pickle` calls whatever a file names. Here a file may name a few containers and NumPy's numbers; tensors are skipped,
and anything else is refused.
"""

import bz2
import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from nascli.content import describe_content
from nascli.errors import CorruptFileError, InputError
from nascli.reading import open_file

_TORCH_MAGIC = 0x1950A86A20F9469CFC6C
"""The first of four pickles in a file of `torch.save` before PyTorch 1.6; the last of them is the value."""

_FAULTS = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,  # of a length that damage made
    RuntimeError,
    zlib.error,
)
"""What reading a damaged pickle ends with."""


class _Skipped:
    """Stands for a tensor, its storage and its type: takes what their constructors take, and keeps nothing."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class _NumberType:
    """Stands for `numpy.dtype`, of numbers alone."""

    def __init__(self, code: str, *_: object) -> None:
        self._format = {"f8": "d", "f4": "f", "i8": "q", "i4": "i"}[code]
        self._order = "<"

    def __setstate__(self, state: tuple[int, str]) -> None:
        self._order = {"<": "<", ">": ">", "=": "<"}[state[1]]

    def read(self, content: bytes) -> float:
        """The number in these bytes."""
        return float(struct.unpack(self._order + self._format, content)[0])


def _read_number(kind: _NumberType, content: bytes) -> float:
    return kind.read(content)


def _read_bytes(text: str, encoding: str) -> bytes:
    """Bytes as pickle's protocol 2 has them."""
    if encoding != "latin1":
        raise ValueError(f"bytes as {encoding}")
    return text.encode("latin1")


_KNOWN: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
    ("_codecs", "encode"): _read_bytes,
    ("numpy", "dtype"): _NumberType,
    ("numpy.core.multiarray", "scalar"): _read_number,
    ("numpy._core.multiarray", "scalar"): _read_number,
}
"""What a file may name, and what stands for it."""

_TENSORS = {"torch", "torch._utils", "torch.storage"}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401
        """The stand-in for a class of this name; InputError for one that is not known."""
        found = _Skipped if module in _TENSORS else _KNOWN.get((module, name))
        if found is None:
            raise InputError(f"it names {module}.{name}", "Reading it would run code, which is never done")
        return found

    def persistent_load(self, pid: object) -> Any:  # noqa: ANN401
        """Nothing: the storage of a tensor is not read."""
        return _Skipped()


def read_plain_pickle(path: Path) -> Any:  # noqa: ANN401
    """The value of a file: dicts, lists, tuples, sets, texts and numbers.

    Raises:
        InputError: There is no such file, it is no pickle, or it names what would have to be called.
        CorruptFileError: It is damaged.
    """
    try:
        file = open_file(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}", "Check the path", file=path) from error
    with file:
        try:
            return _read(file)
        except InputError as error:
            raise InputError(f"{path} holds more than plain values: {error.message}", error.hint, file=path) from error
        except _FAULTS as error:
            raise CorruptFileError(
                f"{path}, {describe_content(path)}, cannot be read: {' '.join(str(error).split()) or 'it ends early'}",
                "Get it again, and compare its size with the original's",
            ) from error


def _read(file: IO[bytes]) -> Any:  # noqa: ANN401
    head = file.read(4)
    file.seek(0)
    if head.startswith(b"BZh"):
        with bz2.open(file) as content:
            return _PlainUnpickler(content).load()
    if head == b"PK\x03\x04":
        with zipfile.ZipFile(file) as archive:
            name = next((each for each in archive.namelist() if each.endswith("data.pkl")), "")
            with archive.open(name) as content:
                return _PlainUnpickler(content).load()
    value = _PlainUnpickler(file).load()
    if isinstance(value, int) and value == _TORCH_MAGIC:
        _, _, value = (_PlainUnpickler(file).load() for _ in ("protocol", "system", "value"))
    return value
