"""HDF5 files that are written once and refused when damaged: a format, a version, and a checksum over all columns."""

import hashlib
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO

import h5py
import numpy as np
import numpy.typing as npt

from nascli.content import describe_content
from nascli.errors import CorruptFileError, InputError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_PAGE = 1 << 16
_BEST_DEFLATE = 1100
"""Bytes that one byte of a compressed column can stand for, and a little more."""

Columns = Mapping[str, npt.NDArray[Any]]
Attributes = Mapping[str, str | int]


@dataclass(frozen=True)
class CheckedFormat:
    """A kind of file: its name in the file and in messages, the newest version that is read, hints of its errors."""

    name: str
    noun: str
    version: int
    make_hint: str
    damage_hint: str

    @contextmanager
    def create(self, file: BinaryIO | io.RawIOBase) -> Iterator[Any]:
        """Open a new file for writing, in memory: HDF5 that meets a full disk ends the process."""
        # "v110" files carry checksums of HDF5's own structures, so that damage there is an error and not other values
        with h5py.File(file, "w", libver=("v110", "v110")) as opened:
            yield opened

    def fill(self, opened: Any, columns: Columns, attributes: Attributes, **options: Any) -> None:  # noqa: ANN401
        """Write columns and attributes, with format, version and checksum; `options` are those of h5py's data sets."""
        digest = checksum(columns, attributes)
        written = {"format": self.name, "version": self.version, **attributes, "sha256": digest}
        for name, value in written.items():
            # of fixed length: texts of another lie in a heap without checksums, in which HDF5 may look for ever
            opened.attrs[name] = np.bytes_(os.fsencode(value)) if isinstance(value, str) else value
        for name, column in columns.items():
            opened.create_dataset(name, data=column, **options)

    @contextmanager
    def open(self, file: Path | BinaryIO, path: Path) -> Iterator[Any]:
        """Open a file for reading.

        Args:
            file: A file, or its content.
            path: Its name, for messages.

        Raises:
            InputError: It is another kind of file, or of a newer version.
            CorruptFileError: It is damaged; raised for whatever goes wrong while it is open.
        """
        try:
            # nobody writes a file that has its name, and file systems without locks would refuse
            with h5py.File(file, "r", locking=False) as opened:
                if "format" not in opened.attrs or read_attribute(opened, "format") != self.name:
                    raise InputError(f"{path} is not a {self.noun} of nascli", self.make_hint)
                version = read_attribute(opened, "version")
                if not isinstance(version, int):
                    raise ValueError("its version is no number")
                if version > self.version:
                    raise InputError(
                        f"{path} has {self.noun} format {version}; this nascli reads up to {self.version}",
                        "Install a newer nascli",
                    )
                yield opened
        except (OSError, LookupError, ValueError, TypeError, RuntimeError, AttributeError) as error:
            kind = describe_content(path) if os.path.isfile(path) else ""
            if kind and "HDF5" not in kind:
                raise CorruptFileError(f"{path} is no {self.noun} but {kind}", self.damage_hint) from error
            raise CorruptFileError(
                f"{path} is damaged or no {self.noun}: {' '.join(str(error).split()) or type(error).__name__}",
                self.damage_hint,
            ) from error


class SparseMemory(io.RawIOBase):
    """A file in memory, of which only what was written takes memory: HDF5's structures around large data.

    The data themselves, whose place `reserve` says, are written where the structures have been copied to.
    """

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}
        self._place = self._size = 0

    def copy_to(self, file: IO[bytes]) -> None:
        """Write what was written here to the same places of a file, which gets the size of this one."""
        file.truncate(self._size)
        for number, page in sorted(self._pages.items()):
            file.seek(number * _PAGE)
            file.write(page[: self._size - number * _PAGE])

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the place that is read or written next."""
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        return self._place

    def truncate(self, size: int | None = None) -> int:
        """Set the size; without one the present place is it."""
        self._size = self._place if size is None else size
        return self._size

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Read; what was not written is zeros."""
        view = memoryview(buffer).cast("B")
        for part, number, start in self._parts(len(view)):
            page = self._pages.get(number)
            view[part] = bytes(part.stop - part.start) if page is None else page[start : start + part.stop - part.start]
        self._place += len(view)
        return len(view)

    def write(self, content: "ReadableBuffer") -> int:
        """Write, behind the end too."""
        view = memoryview(content).cast("B")
        for part, number, start in self._parts(len(view)):
            self._pages.setdefault(number, bytearray(_PAGE))[start : start + part.stop - part.start] = view[part]
        self._place += len(view)
        self._size = max(self._size, self._place)
        return len(view)

    def _parts(self, count: int) -> Iterator[tuple[slice, int, int]]:
        """The parts of the next bytes that lie in one page: which bytes, the page, where they begin in it."""
        done = 0
        while done < count:
            number, start = divmod(self._place + done, _PAGE)
            length = min(count - done, _PAGE - start)
            yield slice(done, done + length), number, start
            done += length


def reserve(opened: Any, name: str, size: int) -> int:  # noqa: ANN401 - h5py has no types
    """Make a column of bytes that HDF5 does not write; returns its place in the file."""
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    place: int = opened.create_dataset(name, shape=(size,), dtype="u1", dcpl=plan).id.get_offset()
    return place


def follow(opened: Any, name: str) -> Any:  # noqa: ANN401
    """The entry of a file under a path of names; ValueError where a link in it leads elsewhere."""
    for part in name.split("/"):
        if not isinstance(opened.get(part, getlink=True), h5py.HardLink | None):
            raise ValueError(f"{name} is a link to another place")
        opened = opened[part]
    return opened


def read_attribute(opened: Any, name: str) -> str | int:  # noqa: ANN401
    """Read a text of fixed length or an integer; "" for one of another kind, which is not looked at."""
    kind = opened.attrs.get_id(name)
    if kind.shape != () or kind.dtype.kind not in "Siu":
        return ""
    value = opened.attrs[name]
    return os.fsdecode(value) if isinstance(value, bytes) else int(value)


def read_column(opened: Any, name: str, dtype: str, ndim: int) -> npt.NDArray[Any]:  # noqa: ANN401
    """Read a column; ValueError where it has another kind or dimension, or claims more than the file can hold of it."""
    column = follow(opened, name)
    is_expected = column.ndim == ndim and column.dtype.kind == np.dtype(dtype).kind
    ratio = _BEST_DEFLATE if column.compression else 1
    if not is_expected or column.external or column.nbytes > ratio * column.id.get_storage_size():
        raise ValueError(f"{column.name} has not the expected type and shape")
    values: npt.NDArray[Any] = column[()]
    return values


def check_content(opened: Any, columns: Columns, attributes: Attributes, noun: str) -> None:  # noqa: ANN401
    """ValueError where columns and attributes are not those that the file was written with."""
    if read_attribute(opened, "sha256") != checksum(columns, attributes):
        raise ValueError(f"the checksum of its {noun} does not fit")


def checksum(columns: Columns, attributes: Attributes) -> str:
    """SHA-256 over names, types, shapes and bytes of columns, and over attributes in their order."""
    digest = hashlib.sha256()
    for name in sorted(columns):
        column = columns[name]
        digest.update(f"{name} {column.dtype.str} {column.shape}\n".encode())
        digest.update(column.tobytes())
    for name, value in attributes.items():
        digest.update(f"{name} {len(str(value))}\n{value}".encode())
    return digest.hexdigest()
