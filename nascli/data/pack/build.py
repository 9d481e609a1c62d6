"""Packing: an image folder becomes one file, and a kill at any moment costs the images that were under way then.

The images are resized and encoded in threads (Pillow works without Python's lock) and kept as records, in the order of
the folder. When all are there, they are written to FILE.h5.unchecked, which is read back and then gets its name.
"""

import hashlib
import io
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import PIL
from PIL import Image

from nascli.data.dataset import UnreadableImages, no_image_left
from nascli.data.decoding import decode_image
from nascli.data.folder import FolderIndex, scan_folder
from nascli.data.pack.format import SPLITS, SplitContents, open_pack, write_pack
from nascli.data.pack.records import PackRecords
from nascli.data.streaming import worker_count
from nascli.errors import CorruptFileError, InputError, Interrupted
from nascli.files import cannot_write, sync_folder

PARTIAL = ".partial"
UNCHECKED = ".unchecked"
"""What follows the name of a pack in those of the files that it is made by way of."""

_AHEAD = 4
"""Images a thread that are encoded before they are asked for."""
_JPEG = b"\xff\xd8\xff"


@dataclass(frozen=True)
class PackSettings:
    """How an image is brought into a pack.

    Args:
        size: Pixels of its shorter side; a smaller one stays as it is.
        quality: Of the JPEG, 1 to 100.
    """

    size: int = 256
    quality: int = 90


@dataclass(frozen=True)
class PackSummary:
    """A pack that was made.

    Args:
        path: The file.
        train_images: Images in the training split.
        val_images: Images in the split that accuracy is measured on.
        classes: How many there are.
        bytes: Of the file.
        skipped: The images that could not be decoded.
    """

    path: Path
    train_images: int
    val_images: int
    classes: int
    bytes: int
    skipped: tuple[str, ...]


@dataclass(frozen=True)
class PackWatch:
    """Who is told how packing goes, and who is asked whether to go on.

    Args:
        on_image: Told after each image: how many are done, how many there are.
        note: Told, in one line, what is left out and what is gone on from.
        stopped: Asked after each image.
    """

    on_image: Callable[[int, int], None] = lambda done, images: None
    note: Callable[[str], None] = lambda text: None
    stopped: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class _Entry:
    """An image that is to be packed; its stamp is another one when its file, name or class is."""

    split: str
    path: Path
    name: str
    label: int
    stamp: bytes


def pack_folder(
    source: Path,
    path: Path,
    settings: PackSettings,
    *,
    max_bad: int = 0,
    overwrite: bool = False,
    workers: int | None = None,
    watch: PackWatch | None = None,
) -> PackSummary:
    """Pack an image folder, or go on with packing it. The same folder gives the same bytes.

    Args:
        source: Holds `train/<class>/*` and `val/` or `test/`.
        path: The pack.
        settings: Size and quality.
        max_bad: How many images that cannot be decoded are left out before packing stops.
        overwrite: Replace a pack, and what was begun with other settings.
        workers: Threads; None is one a core.
        watch: Told and asked as it goes.

    Raises:
        InputError: The folder is not one of images, the pack exists, or another process writes it.
        CorruptFileError: More images than `max_bad` cannot be decoded; the message has their paths.
        Interrupted: The watch said stop; what is done is kept.
        NascliError: The pack cannot be written; what is done is kept.
    """
    watch = watch or PackWatch()
    _refuse_existing(path, overwrite)
    index = scan_folder(source)
    entries = list(_entries(index, source))
    bad = UnreadableImages(max_bad, "--max-bad N", watch.note)
    about = {**asdict(settings), "pillow": PIL.__version__}
    with _explained(path), PackRecords(_beside(path, PARTIAL), about, overwrite=overwrite) as records:
        _refuse_existing(path, overwrite)  # another process may have ended between the first look and the lock
        _restore(records, entries, bad, watch)
        _encode_rest(records, entries, settings, workers, bad, watch)
        splits = {split: _contents(split, records, entries) for split in SPLITS}
        _write_checked(path, {**about, "source": str(source.resolve())}, index.class_names, splits)
        records.path.unlink(missing_ok=True)
    pack = open_pack(path)
    return PackSummary(path, len(pack.train), len(pack.val), len(pack.class_names), path.stat().st_size, bad.names)


def encode_image(path: Path, settings: PackSettings) -> bytes:
    """An image as it lies in a pack: a JPEG whose shorter side has the pixels of the settings, or fewer.

    A JPEG that is small enough is taken byte for byte. Others are turned upright and reduced by bilinear interpolation,
    as in evaluation: where that resizes to the size of the pack it finds nothing left to do.

    Raises:
        CorruptFileError: It cannot be decoded; the message has its path.
    """
    image = decode_image(path)
    shorter = min(image.size)
    try:
        if shorter > settings.size:
            width, height = (settings.size * side // shorter for side in image.size)
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        elif (content := path.read_bytes()).startswith(_JPEG):
            return content
        encoded = io.BytesIO()
        image.save(encoded, "JPEG", quality=settings.quality, comment=b"")
    except Exception as error:  # encoders raise whatever they like, too
        raise CorruptFileError(f"image {path} cannot be made a JPEG: {error}", "Replace or remove the file") from error
    return encoded.getvalue()


def _entries(index: FolderIndex[Path], source: Path) -> Iterator[_Entry]:
    for split, files in zip(SPLITS, (index.train, index.val), strict=True):
        for path, label in files:
            name = str(path.relative_to(source))
            try:
                status = path.stat()
                state = (status.st_size, status.st_mtime_ns)
            except OSError:  # a link that leads nowhere; decoding it will say so
                state = (0, 0)
            text = repr((split, name, label, index.class_names[label], *state))
            yield _Entry(split, path, name, label, hashlib.sha256(text.encode()).digest()[:8])


def _restore(records: PackRecords, entries: Sequence[_Entry], bad: UnreadableImages, watch: PackWatch) -> None:
    records.restore([entry.stamp for entry in entries])
    if len(records):
        watch.note(f"going on from {records.path}: {len(records):,} of {len(entries):,} images are there")
    for position, error in records.bad.items():
        bad.report(str(entries[position].path), error)


def _encode_rest(
    records: PackRecords,
    entries: Sequence[_Entry],
    settings: PackSettings,
    workers: int | None,
    bad: UnreadableImages,
    watch: PackWatch,
) -> None:
    rest = entries[len(records) :]
    with closing(_encoded(rest, settings, worker_count(workers))) as encoded:
        for entry, content in zip(rest, encoded, strict=True):
            records.append(entry.stamp, content)
            if isinstance(content, CorruptFileError):
                bad.report(str(entry.path), content)
            watch.on_image(len(records), len(entries))
            if watch.stopped():
                raise Interrupted(
                    f"stopped after {len(records):,} of {len(entries):,} images; they are saved",
                    "Give the same command again to go on",
                )


def _encoded(
    entries: Iterable[_Entry], settings: PackSettings, threads: int
) -> Generator[bytes | CorruptFileError, None, None]:
    """Each image as bytes, or why there are none; in order, some ahead of the one that is taken."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[bytes | CorruptFileError]] = deque()
        try:
            for entry in entries:
                waiting.append(pool.submit(_try_to_encode, entry.path, settings))
                if len(waiting) > _AHEAD * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _try_to_encode(path: Path, settings: PackSettings) -> bytes | CorruptFileError:
    try:
        return encode_image(path, settings)
    except CorruptFileError as error:
        return error


def _contents(split: str, records: PackRecords, entries: Sequence[_Entry]) -> SplitContents:
    of_split = [position for position, entry in enumerate(entries) if entry.split == split]
    kept = [position for position in of_split if position not in records.bad]
    if not kept:
        raise no_image_left(len(of_split))
    return SplitContents(
        paths=[entries[position].name for position in kept],
        labels=[entries[position].label for position in kept],
        lengths=[records.lengths[position] for position in kept],
        checksums=[records.checksums[position] for position in kept],
        images=map(records.read, kept),
    )


def _write_checked(
    path: Path, settings: dict[str, str | int], class_names: Sequence[str], splits: dict[str, SplitContents]
) -> None:
    """A pack that gets its name after it was read back."""
    unchecked = _beside(path, UNCHECKED)
    try:
        write_pack(unchecked, settings, class_names, splits)
        with unchecked.open("rb") as file:
            os.fsync(file.fileno())
        open_pack(unchecked).verify()
        unchecked.replace(path)
    except BaseException:
        unchecked.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if path.is_dir():
        raise InputError(f"{path} is a folder", "Give the name of a file, such as images.h5")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists", "Replace it with --overwrite, or give another name")


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """What the file system refuses, in words."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except (OSError, RuntimeError) as error:  # HDF5 on a full disk raises either
        raise cannot_write(
            path,
            error,
            "Free some space or choose another place, then give the same command again: what is done is kept",
        ) from error
