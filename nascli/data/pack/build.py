"""Packing: an image folder becomes one file.

Images are resized and encoded in threads (Pillow works without Python's lock) and kept in shards, in the order of the
folder. When all are there, they are written to one file in the folder of the shards, which is read back and then moved
to its name.
"""

import hashlib
import io
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import PIL
from PIL import Image

from nascli.config import MAX_MEGAPIXELS
from nascli.data.dataset import UnreadableImages, no_image_left
from nascli.data.folders.folder import scan_folder
from nascli.data.folders.index import ImageIndex, SplitRequest
from nascli.data.folders.labels import scan_table
from nascli.data.folders.table import TABLE_ENDINGS
from nascli.data.images.decoding import decode_image
from nascli.data.pack.format import SPLITS, PackedRow, open_pack, write_pack
from nascli.data.pack.shards import ShardStore
from nascli.data.streaming import worker_count
from nascli.errors import CannotWriteError, CorruptFileError, InputError, Interrupted, NascliError
from nascli.files import is_stream, sync_folder, writing
from nascli.partial import PARTIAL, remove_partial
from nascli.progress import ProgressFile
from nascli.reading import read_file
from nascli.text import printable

_PREFETCH = 4
"""Images per thread that are encoded before they are asked for."""
_REDUCED_FACTOR = 2
"""Times the size in the pack that a large image is decoded in at least."""
_JPEG_START = b"\xff\xd8\xff"


@dataclass(frozen=True)
class PackSettings:
    """The encoding of images in a pack.

    Args:
        size: Shorter side in pixels; a smaller image keeps its size.
        quality: JPEG quality, 1 to 100.
    """

    size: int = 256
    quality: int = 90


@dataclass(frozen=True)
class PackSummary:
    """A pack that was made.

    Args:
        val_name: The split that `val_images` are.
        skipped: The images that could not be decoded.
    """

    path: Path
    train_images: int
    val_images: int
    classes: int
    bytes: int
    skipped: tuple[str, ...]
    val_name: str = "val"


@dataclass(frozen=True)
class PackCallbacks:
    """Callbacks of a packing run: progress (images done, of all), messages, cancellation (asked after each image), and
    the images, as soon as they are listed."""

    on_image: Callable[[int, int], None] = lambda done, images: None
    log: Callable[[str], None] = lambda text: None
    should_stop: Callable[[], bool] = lambda: False
    on_index: Callable[[ImageIndex[Path]], None] = lambda index: None


@dataclass(frozen=True, slots=True)
class _Entry:
    """An image to pack; its stamp changes when its file, name or class does."""

    split: str
    path: Path
    name: str
    label: int
    stamp: int


_Encoder = Callable[[Path], bytes | CorruptFileError]


def pack_folder(
    source: Path,
    path: Path,
    settings: PackSettings,
    *,
    request: SplitRequest | None = None,
    max_unreadable: int = 0,
    max_megapixels: int | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    callbacks: PackCallbacks | None = None,
) -> PackSummary:
    """Pack an image folder, or resume packing it. The same folder gives the same bytes.

    Args:
        source: An image folder, or a table of labels.
        request: Its splits.
        max_unreadable: Images that cannot be decoded and are skipped before packing stops.
        max_megapixels: Millions of pixels of the largest image that is decoded; None is the default.
        overwrite: Replace a pack, and what was begun with other settings.
        workers: Threads; None is one per core.

    Raises:
        InputError: The folder is not one of images, the pack exists, or another process writes it.
        CorruptFileError: More images than `max_unreadable` cannot be decoded; the message has their paths.
        Interrupted: A callback asked to stop; finished images are kept.
        NascliError: The pack cannot be written; finished images are kept.
    """
    callbacks = callbacks or PackCallbacks()
    remove_partial(path.parent)
    shards = _beside(path, PARTIAL)
    is_complete = path.is_file() and shards.is_dir() and not overwrite  # then a kill came while it cleared up
    _refuse_existing(path, overwrite or is_complete)
    index = (scan_table if source.suffix.lower() in TABLE_ENDINGS else scan_folder)(source, request)
    callbacks.on_index(index)
    entries = list(_list_entries(index, source))
    unreadable = UnreadableImages(max_unreadable, "--max-unreadable N", callbacks.log)
    about = {**asdict(settings), "pillow": PIL.__version__}
    origin = {"source": printable(str(source.resolve())), "val_name": index.val_name}
    if is_complete:
        if not _is_packed(path, about | origin, index.class_names, entries):
            _refuse_existing(path, overwrite)
        with writing(path), ShardStore(shards, about, overwrite=True) as store:
            callbacks.log(f"{path} is complete: {shards}, which a kill left, is removed")
            store.remove()
        return _summarize(path, index.val_name)
    with writing(path):
        store = ShardStore(shards, about, overwrite=overwrite)
    with _keeping(path), store:
        _refuse_existing(path, overwrite)  # another process may have ended between the first look and the lock
        _take_over(store, entries, unreadable, callbacks)
        encode = partial(_encode_image, settings=settings, max_megapixels=max_megapixels or MAX_MEGAPIXELS)
        _encode_rest(store, entries, encode, worker_count(workers), unreadable, callbacks)
        store.flush()
        _write_checked(path, about | origin, index.class_names, store, entries)
        store.remove()
    return _summarize(path, index.val_name, unreadable.names)


def _take_over(
    store: ShardStore, entries: Sequence[_Entry], unreadable: UnreadableImages, callbacks: PackCallbacks
) -> None:
    """Resume from the shards: their images are done, and those that cannot be decoded count again."""
    store.restore([entry.stamp for entry in entries])
    if store.rows:
        callbacks.log(f"resumes from {store.path}: {len(store.rows):,} of {len(entries):,} images are done")
    for entry, row in zip(entries, store.rows, strict=False):
        if row.error:
            unreadable.report(str(entry.path), CorruptFileError(*row.error))


def _summarize(path: Path, val_name: str, skipped: tuple[str, ...] = ()) -> PackSummary:
    pack = open_pack(path)
    counts = (len(pack.train), len(pack.val), len(pack.class_names), path.stat().st_size)
    return PackSummary(path, *counts, skipped, val_name)


def _is_packed(
    path: Path, settings: Mapping[str, str | int], class_names: Sequence[str], entries: Sequence[_Entry]
) -> bool:
    """Whether a pack is the one that is asked for: of the same images, none of which was touched since."""
    try:
        pack = open_pack(path)
        made = path.stat().st_mtime_ns
        if any(entry.path.stat().st_ctime_ns >= made for entry in entries):
            return False
    except (NascliError, OSError):
        return False
    found = pack.index()
    packed = [(split, image.path, label) for split in SPLITS for image, label in getattr(found, split)]
    asked = [(entry.split, entry.name, entry.label) for entry in entries]
    return (dict(pack.settings), pack.class_names, packed) == (dict(settings), tuple(class_names), asked)


@contextmanager
def _keeping(path: Path) -> Iterator[None]:
    """Say of a pack that cannot be written how it is ended once there is room."""
    try:
        yield
    except CannotWriteError as error:
        if _beside(path, PARTIAL).is_dir():
            error.hint += "; finished images are kept, and the same command resumes"
        raise


def _list_entries(index: ImageIndex[Path], source: Path) -> Iterator[_Entry]:
    for split, files in zip(SPLITS, (index.train, index.val), strict=True):
        for path, label in files:
            name = os.path.relpath(path, source if os.path.isdir(source) else source.parent)
            try:
                status = path.stat()
                state = (status.st_size, status.st_mtime_ns)
            except OSError:  # a link that leads nowhere; decoding it will say so
                state = (0, 0)
            text = repr((split, name, label, index.class_names[label], *state))
            stamp = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
            yield _Entry(split, path, name, label, stamp)


def _encode_rest(
    store: ShardStore,
    entries: Sequence[_Entry],
    encode: _Encoder,
    threads: int,
    unreadable: UnreadableImages,
    callbacks: PackCallbacks,
) -> None:
    rest = entries[len(store.rows) :]
    progress = ProgressFile(store.path, "images")
    progress.begin(len(store.rows), len(entries), "packing")
    with closing(_encode_ahead((entry.path for entry in rest), encode, threads)) as contents:
        for entry, content in zip(rest, contents, strict=True):
            if isinstance(content, CorruptFileError):
                unreadable.report(str(entry.path), content)  # one too many is not kept: other options may allow for it
            store.append(entry.stamp, content)
            callbacks.on_image(len(store.rows), len(entries))
            if progress.is_due:
                progress.write(len(store.rows), len(entries), "packing")
            if callbacks.should_stop():
                store.flush()
                raise Interrupted(
                    f"stopped after {len(store.rows):,} of {len(entries):,} images; they are saved",
                    "Give the same command again to resume",
                )


def _encode_ahead(
    paths: Iterable[Path], encode: _Encoder, threads: int
) -> Generator[bytes | CorruptFileError, None, None]:
    """Each image as bytes, or why there are none; in order, encoded ahead."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[bytes | CorruptFileError]] = deque()
        try:
            for path in paths:
                waiting.append(pool.submit(encode, path))
                if len(waiting) > _PREFETCH * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _encode_image(path: Path, settings: PackSettings, max_megapixels: int) -> bytes | CorruptFileError:
    """An image as it lies in a pack: a JPEG whose shorter side has the pixels of the settings, or fewer.

    A JPEG that is small enough is copied byte for byte. Others are turned upright and reduced by bilinear
    interpolation, as in evaluation: where that resizes to the size of the pack it finds nothing left to do.
    """
    try:
        image = decode_image(path, max_megapixels=max_megapixels, least_side=_REDUCED_FACTOR * settings.size)
        shorter = min(image.size)
        if shorter > settings.size:
            width, height = (settings.size * side // shorter for side in image.size)
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        elif (content := read_file(path)).startswith(_JPEG_START):
            return content
        encoded = io.BytesIO()
        image.save(encoded, "JPEG", quality=settings.quality, comment=b"")
    except CorruptFileError as error:
        return error
    except Exception as error:  # encoders raise whatever they like, too
        return CorruptFileError(f"image {path} cannot be made a JPEG: {error}", "Replace or remove the file")
    return encoded.getvalue()


def _write_checked(
    path: Path,
    settings: dict[str, str | int],
    class_names: Sequence[str],
    store: ShardStore,
    entries: Sequence[_Entry],
) -> None:
    """Write a pack that gets its name after it was read back."""
    rows: dict[str, list[PackedRow]] = {split: [] for split in SPLITS}
    images = {}
    for split in SPLITS:
        positions = [position for position, entry in enumerate(entries) if entry.split == split]
        for position in positions:
            entry, done = entries[position], store.rows[position]
            if not done.error:
                rows[split].append(PackedRow(entry.name, entry.label, done.length, done.checksum))
        if not rows[split]:
            raise no_image_left(len(positions))
        images[split] = filter(None, store.read(positions[0], positions[-1] + 1))
    unchecked = store.path / path.name
    write_pack(unchecked, settings, class_names, rows, images)
    open_pack(unchecked).verify()
    with writing(path):
        unchecked.replace(path)
        sync_folder(path.parent)


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder", "Give the name of a file, such as images.h5")
    if is_stream(path):
        raise InputError(f"{path} is a device or a pipe", "Give the name of a file, such as images.h5")
    if os.path.exists(path) and not overwrite:
        raise InputError(f"{path} exists", "Replace it with --overwrite, or give another name")


def _beside(path: Path, suffix: str) -> Path:
    return path.parent / (path.name + suffix)  # `.` and `/` have no name, and are refused for what they are
