"""Packs: an image folder as one HDF5 file that is written once.

    attributes     format, version, size, quality, source, pillow, val_name, sha256
    classes        S (C,): names of the classes; a label is a position among them
    train/, val/
      images       uint8 (B,): the encoded images, one after the other and in one piece
      offsets      int64 (N + 1,): image k is images[offsets[k]:offsets[k + 1]]
      labels       int64 (N,)
      paths        S (N,): of the source images, relative to the source folder
      checksums    uint32 (N,): CRC-32 of each image

Each image has a checksum of its own, compared whenever the image is read: a small part of the time of decoding, and no
other image has to be read for it, as with one over many images. `sha256` covers everything but the images.

HDF5 is asked once where `images` begins. From there the bytes are read with plain reads at a position, which processes
and threads can make at the same time and which know nothing of a fork; no HDF5 file stays open.
"""

import io
import os
import weakref
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from nascli.data.checked_h5 import (
    CheckedFormat,
    SparseMemory,
    check_content,
    follow,
    read_attribute,
    read_column,
    reserve,
)
from nascli.data.folders.index import ImageIndex
from nascli.errors import CorruptFileError, InputError
from nascli.files import open_whole
from nascli.reading import naming

SPLITS = ("train", "val")

Array = npt.NDArray[Any]
Settings = Mapping[str, str | int]

_FORMAT = CheckedFormat(
    name="nascli image pack",
    noun="pack",
    version=1,
    make_hint="nascli pack SRC FILE.h5 makes one",
    damage_hint="Get it again, or make it again with nascli pack --overwrite",
)
_SETTINGS = ("size", "quality", "source", "pillow", "val_name")
_COLUMNS = {"offsets": "<i8", "labels": "<i8", "paths": "S", "checksums": "<u4"}
_CLASSES = "classes"


class PackedRow(NamedTuple):
    """A row of a split's tables; the image has `length` bytes."""

    path: str
    label: int
    length: int
    checksum: int


class _FileBytes:
    """The bytes of a file, which each process opens for itself when it first reads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: tuple[int, int] | None = None

    def read(self, start: int, count: int) -> bytes:
        """Read `count` bytes from a position on; fewer where the file ends."""
        if self._descriptor is None or self._descriptor[0] != os.getpid():
            descriptor = os.open(self.path, os.O_RDONLY)
            weakref.finalize(self, os.close, descriptor)
            self._descriptor = os.getpid(), descriptor
        with naming(self.path):
            return os.pread(self._descriptor[1], count, start)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_descriptor": None}


@dataclass(frozen=True, eq=False)
class PackedSplit:
    """One split of a pack: its tables, and the position in the file from which offsets count."""

    file: _FileBytes
    start: int
    offsets: Array
    labels: Array
    paths: Array
    checksums: Array

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False, slots=True)
class PackedImage:
    """One image of a pack, an `ImageSource`."""

    split: PackedSplit
    position: int

    def open(self, mode: Literal["rb"], /) -> io.BytesIO:
        """Its encoded bytes; CorruptFileError where they are not what was packed."""
        split = self.split
        begin, end = (int(offset) for offset in split.offsets[self.position : self.position + 2])
        content = split.file.read(split.start + begin, end - begin)
        if zlib.crc32(content) != split.checksums[self.position]:
            raise CorruptFileError(
                f"image {self} is damaged: it has not the checksum that it was packed with", _FORMAT.damage_hint
            )
        return io.BytesIO(content)

    @property
    def path(self) -> str:
        """Its path in the folder that was packed."""
        return os.fsdecode(self.split.paths[self.position])

    def __str__(self) -> str:
        return f"{self.path} in {self.split.file.path}"


@dataclass(frozen=True, eq=False)
class Pack:
    """A pack whose tables are read and checked; its images are read when they are needed."""

    path: Path
    settings: Settings
    class_names: tuple[str, ...]
    train: PackedSplit
    val: PackedSplit

    def index(self) -> ImageIndex[PackedImage]:
        """Its images and labels, as those of a folder."""
        train, val = (
            tuple((PackedImage(split, position), label) for position, label in enumerate(split.labels.tolist()))
            for split in (self.train, self.val)
        )
        return ImageIndex(train, val, self.class_names, str(self.settings["val_name"]))

    def verify(self) -> None:
        """Read every image; CorruptFileError, which names it, at the first that is damaged."""
        for split in (self.train, self.val):
            for position in range(len(split)):
                PackedImage(split, position).open("rb")


def open_pack(path: Path) -> Pack:
    """Open a pack and check its tables.

    Raises:
        InputError: There is no such file, it is no pack, or one of a newer version.
        CorruptFileError: It is damaged.
    """
    if not os.path.isfile(path):
        raise InputError(f"pack {path}: no such file", _FORMAT.make_hint)
    with _FORMAT.open(path, path) as file:
        settings = {name: read_attribute(file, name) for name in _SETTINGS}
        kinds = {_CLASSES: "S"} | {f"{split}/{name}": kind for split in SPLITS for name, kind in _COLUMNS.items()}
        columns = {name: read_column(file, name, kind, 1) for name, kind in kinds.items()}
        check_content(file, columns, settings, "tables")
        content = _FileBytes(path)
        train, val = (_open_split(file, split, columns, content) for split in SPLITS)
        class_names = tuple(os.fsdecode(name) for name in columns[_CLASSES])
        return Pack(path, settings, class_names, train, val)


def write_pack(
    path: Path,
    settings: Settings,
    class_names: Sequence[str],
    rows: Mapping[str, Sequence[PackedRow]],
    images: Mapping[str, Iterable[bytes]],
) -> None:
    """Write a pack, whole or not at all.

    HDF5 makes in memory what surrounds the images, and leaves them out; they are written to their place.

    Args:
        rows: Of each split.
        images: The encoded images of these rows, read once and in order.
    """
    columns = {_CLASSES: _encode_names(class_names)}
    structure, places = SparseMemory(), dict[str, int]()
    with _FORMAT.create(structure) as file:
        for split in SPLITS:
            paths, labels, lengths, checksums = zip(*rows[split], strict=True)
            values = (np.cumsum((0, *lengths)), labels, _encode_names(paths), checksums)
            for (name, dtype), value in zip(_COLUMNS.items(), values, strict=True):
                columns[f"{split}/{name}"] = np.asarray(value, dtype=dtype)
            places[split] = reserve(file, f"{split}/images", sum(lengths))
        _FORMAT.fill(file, columns, {name: settings[name] for name in _SETTINGS})
    with open_whole(path) as whole:
        structure.copy_to(whole)
        for split in SPLITS:
            whole.seek(places[split])
            whole.writelines(images[split])


def _open_split(file: Any, split: str, columns: Mapping[str, Array], content: _FileBytes) -> PackedSplit:  # noqa: ANN401
    offsets, labels, paths, checksums = (columns[f"{split}/{name}"] for name in _COLUMNS)
    images = follow(file, f"{split}/images")
    start = images.id.get_offset()
    fits = (
        start is not None
        and images.dtype == np.uint8
        and len(offsets) - 1 == len(labels) == len(paths) == len(checksums) > 0
        and offsets[0] == 0
        and bool((np.diff(offsets) > 0).all())
        and images.shape == (offsets[-1],)
        and 0 <= labels.min() <= labels.max() < len(columns[_CLASSES])
    )
    if not fits:
        raise ValueError(f"the tables of {split} do not fit each other")
    return PackedSplit(content, start, offsets, labels, paths, checksums)


def _encode_names(names: Sequence[str]) -> Array:
    return np.array([os.fsencode(name) for name in names])
