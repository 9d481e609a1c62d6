"""Packs: an image folder as one HDF5 file that is written once.

    attributes     format, version, size, quality, source, pillow, sha256
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

import hashlib
import io
import json
import os
import weakref
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import numpy.typing as npt

from nascli.data.folder import FolderIndex
from nascli.errors import CorruptFileError, InputError

FORMAT = "nascli image pack"
VERSION = 1
SPLITS = ("train", "val")

Array = npt.NDArray[Any]
Settings = Mapping[str, str | int]

_SETTINGS = ("size", "quality", "source", "pillow")
_COLUMNS = {"offsets": "<i8", "labels": "<i8", "paths": "S", "checksums": "<u4"}
_CLASSES = "classes"
_BLOCK = 16 << 20
_MAKE = "nascli pack SRC FILE.h5 makes one"


@dataclass(frozen=True)
class SplitContents:
    """What is written into one split of a pack.

    Args:
        paths: Of the source images, relative to the source folder.
        labels: One an image.
        lengths: Bytes of each encoded image.
        checksums: CRC-32 of each.
        images: The encoded images; read once, in order.
    """

    paths: Sequence[str]
    labels: Sequence[int]
    lengths: Sequence[int]
    checksums: Sequence[int]
    images: Iterable[bytes]

    def columns(self) -> dict[str, Array]:
        """Everything but the images."""
        return {
            "offsets": np.concatenate([[0], np.cumsum(self.lengths)]).astype(_COLUMNS["offsets"]),
            "labels": np.array(self.labels, dtype=_COLUMNS["labels"]),
            "paths": _to_bytes(self.paths),
            "checksums": np.array(self.checksums, dtype=_COLUMNS["checksums"]),
        }


class _Bytes:
    """The bytes of a file, which each process opens for itself when it first reads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: tuple[int, int] | None = None

    def read(self, start: int, count: int) -> bytes:
        """So many bytes from a position on; fewer where the file ends."""
        if self._opened is None or self._opened[0] != os.getpid():
            descriptor = os.open(self.path, os.O_RDONLY)
            weakref.finalize(self, os.close, descriptor)
            self._opened = os.getpid(), descriptor
        return os.pread(self._opened[1], count, start)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_opened": None}


@dataclass(frozen=True, eq=False)
class PackedSplit:
    """One split of a pack.

    Args:
        file: The pack's bytes.
        start: Where its images begin in them.
        offsets: int64 (N + 1,), from there.
        labels: int64 (N,).
        paths: Bytes (N,), as they were in the source folder.
        checksums: uint32 (N,).
    """

    file: _Bytes
    start: int
    offsets: Array
    labels: Array
    paths: Array
    checksums: Array

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, position: int) -> str:
        """What a person calls an image: its path in the source folder, and the pack."""
        return f"{os.fsdecode(self.paths[position])} in {self.file.path}"

    def read(self, position: int) -> bytes:
        """An encoded image.

        Raises:
            CorruptFileError: It is not what was packed.
        """
        begin, end = (int(offset) for offset in self.offsets[position : position + 2])
        content = self.file.read(self.start + begin, end - begin)
        if zlib.crc32(content) != self.checksums[position]:
            raise CorruptFileError(
                f"image {self.name(position)} is damaged: it has not the checksum that it was packed with",
                "Get the pack again, or make it again with nascli pack --overwrite",
            )
        return content


@dataclass(frozen=True, eq=False, slots=True)
class PackedImage:
    """One image of a pack, as one opens a file."""

    split: PackedSplit
    position: int

    def open(self, mode: Literal["rb"], /) -> io.BytesIO:
        """Its encoded bytes, whose checksum is right."""
        return io.BytesIO(self.split.read(self.position))

    def __str__(self) -> str:
        return self.split.name(self.position)


@dataclass(frozen=True, eq=False)
class Pack:
    """A pack whose tables are read and checked; its images are read when they are needed.

    Args:
        path: The file.
        settings: What it was made with: size, quality, source, pillow.
        class_names: One a label, in order.
        train: The training split.
        val: The split that accuracy is measured on.
    """

    path: Path
    settings: Settings
    class_names: tuple[str, ...]
    train: PackedSplit
    val: PackedSplit

    def index(self) -> FolderIndex[PackedImage]:
        """Its images and labels, as those of a folder."""
        train, val = (
            tuple((PackedImage(split, position), label) for position, label in enumerate(split.labels.tolist()))
            for split in (self.train, self.val)
        )
        return FolderIndex(train, val, self.class_names)

    def verify(self) -> None:
        """Read every image; CorruptFileError, which names it, at the first that is damaged."""
        for split in (self.train, self.val):
            for position in range(len(split)):
                split.read(position)


def open_pack(path: Path) -> Pack:
    """A pack, its tables checked.

    Raises:
        InputError: There is no such file, it is no pack, or one of a newer version.
        CorruptFileError: It is damaged.
    """
    if not path.is_file():
        raise InputError(f"pack {path}: no such file", _MAKE)
    try:
        # nobody writes a pack that has its name, and file systems without locks would refuse
        with h5py.File(path, "r", locking=False) as file:
            return _read(file, path)
    except (OSError, LookupError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        raise CorruptFileError(
            f"{path} is damaged or no pack: {' '.join(str(error).split()) or type(error).__name__}",
            "Get it again, or make it again with nascli pack --overwrite",
        ) from error


def write_pack(path: Path, settings: Settings, class_names: Sequence[str], splits: Mapping[str, SplitContents]) -> None:
    """Write a pack under a name that is not its last one yet: a kill in between leaves a file that cannot be read.

    Args:
        path: Replaced where it exists.
        settings: size, quality, source, pillow.
        class_names: One a label, in order.
        splits: `train` and `val`.
    """
    columns = {_CLASSES: _to_bytes(class_names)}
    for split in SPLITS:
        columns |= {f"{split}/{name}": column for name, column in splits[split].columns().items()}
    # "v110" files carry checksums of HDF5's own structures, so that damage there is an error and not another pack
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        file.attrs.update({"format": FORMAT, "version": VERSION, **settings, "sha256": _checksum(columns, settings)})
        for split in SPLITS:
            file.create_group(split)
            images = file.create_dataset(f"{split}/images", shape=(sum(splits[split].lengths),), dtype="u1")
            for start, block in _blocks(splits[split].images):
                images[start : start + len(block)] = np.frombuffer(block, dtype=np.uint8)
        for name, column in columns.items():
            file.create_dataset(name, data=column)


def _read(file: Any, path: Path) -> Pack:  # noqa: ANN401 - h5py has no types
    if file.attrs.get("format") != FORMAT:
        raise InputError(f"{path} is not a pack of nascli", _MAKE)
    if file.attrs["version"] > VERSION:
        raise InputError(
            f"{path} has pack format {file.attrs['version']}; this nascli reads up to {VERSION}",
            "Install a newer nascli",
        )
    settings = {name: _plain(file.attrs[name]) for name in _SETTINGS}
    names = [_CLASSES, *(f"{split}/{name}" for split in SPLITS for name in _COLUMNS)]
    columns = {name: _column(file[name], path) for name in names}
    if file.attrs["sha256"] != _checksum(columns, settings):
        raise ValueError("the checksum of its tables does not fit them")
    content = _Bytes(path)
    splits = [_split(file, split, columns, content) for split in SPLITS]
    class_names = tuple(os.fsdecode(name) for name in columns[_CLASSES])
    return Pack(path, settings, class_names, *splits)


def _column(dataset: Any, path: Path) -> Array:  # noqa: ANN401
    """A table's values, unless it says it is larger than the file."""
    kind = np.dtype(_COLUMNS.get(dataset.name.rpartition("/")[2], "S")).kind
    if dataset.ndim != 1 or dataset.dtype.kind != kind or dataset.nbytes > path.stat().st_size:
        raise ValueError(f"{dataset.name} has not the form that it has in a pack")
    values: Array = dataset[()]
    return values


def _split(file: Any, split: str, columns: Mapping[str, Array], content: _Bytes) -> PackedSplit:  # noqa: ANN401
    offsets, labels, paths, checksums = (columns[f"{split}/{name}"] for name in _COLUMNS)
    images = file[f"{split}/images"]
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


def _plain(value: Any) -> str | int:  # noqa: ANN401 - whatever the file has
    return value if isinstance(value, str) else int(value)


def _to_bytes(texts: Sequence[str]) -> Array:
    return np.array([os.fsencode(text) for text in texts])


def _blocks(images: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """The images joined to larger pieces, each with the place where it begins."""
    start, held = 0, bytearray()
    for image in images:
        held += image
        if len(held) >= _BLOCK:
            yield start, bytes(held)
            start += len(held)
            held.clear()
    if held:
        yield start, bytes(held)


def _checksum(columns: Mapping[str, Array], settings: Settings) -> str:
    digest = hashlib.sha256(json.dumps(dict(settings), sort_keys=True).encode())
    for name in sorted(columns):
        column = columns[name]
        digest.update(f"{name} {column.dtype.str} {column.shape}\n".encode())
        digest.update(column.tobytes())
    return digest.hexdigest()
