"""From encoded images to pixels.

Pillow reads every format. JPEGs of the usual kind are given to torchvision's decoder first where only the pixels are
wanted: it writes them where a tensor has them, without Python's lock. What it refuses, Pillow has to judge. Both decode
by libjpeg-turbo, with the same settings.
"""

import contextlib
import errno
import functools
import io
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from nascli.config import MAX_MEGAPIXELS
from nascli.content import describe_bytes
from nascli.data.images import bombs, exif, png
from nascli.data.images.damage import ends_in_zeros, lacks_rows, may_lack_rows
from nascli.data.images.formats import decodable_formats, register_plugins
from nascli.data.images.pixels import Note, PixelRangeError, correct_png, ignore_note, to_rgb
from nascli.data.issues import Issue, IssueLog
from nascli.errors import CorruptFileError, InputError, TooLargeError
from nascli.reading import open_file

REDUCED_ABOVE = 90
"""Megapixels from which a JPEG is decoded at a half, a quarter or an eighth of its size where that suffices.

Below, every image is decoded whole: reducing changes pixels a little, and saves memory that few images take.
"""

THIN = 100
"""Times its shorter side that an image's longer side has where that is worth a remark."""

_RGB = 3
"""`torchvision.io.ImageReadMode.RGB`, as its operator takes it."""
_HEAD = 2048
_MULTI_FRAME = ("GIF", "PNG", "TIFF", "WEBP", "AVIF")
_PILLOW = re.compile(r"PIL\.")


class ImageSource(Protocol):
    """A file, or an image in a pack. As text it is what a user calls it."""

    def open(self, mode: Literal["rb"], /) -> BinaryIO:
        """Its encoded bytes."""


def open_source(source: ImageSource) -> BinaryIO:
    """The encoded bytes of an image; OSError, at once, where its file is none (`nascli.reading`)."""
    return open_file(source) if isinstance(source, Path) else source.open("rb")


def decode_image(
    source: ImageSource,
    *,
    max_megapixels: int = MAX_MEGAPIXELS,
    least_side: int | None = None,
    annotated_size: tuple[int, int] | None = None,
    note: Note = ignore_note,
) -> Image.Image:
    """Decode the image in a file or a pack, as RGB; of several frames the first.

    Args:
        max_megapixels: Millions of pixels of the largest image that is decoded.
        least_side: Pixels of the shorter side that suffice: a large JPEG may be decoded reduced to no less.
        annotated_size: Width and height for which somebody drew boxes on it: where it is stored in that size, it stays
            as it is. By default it is turned as its camera says that it was held.
        note: Called for what is worth a remark.

    Raises:
        CorruptFileError: It is not an image, is truncated, damaged, too large, or its numbers mean no brightness.
    """
    try:
        with open_source(source) as file:
            try:
                return _decode(file, max_megapixels, least_side, annotated_size, note)
            except Exception:  # whatever a text in a PNG makes its decoder raise
                file.seek(0)
                without_text = png.drop_texts(file)
                if without_text is None:
                    raise
            return _decode(without_text, max_megapixels, least_side, annotated_size, note)
    except Exception as error:  # decoders raise whatever their format makes them raise
        raise explain(source, error) from error


def decode_pixels(
    source: ImageSource, *, max_megapixels: int = MAX_MEGAPIXELS, least_side: int | None = None
) -> Tensor:
    """Decode an image as `decode_image` does, by the fastest decoder that takes it, to uint8 (H, W, 3)."""
    pixels = _decode_usual_jpeg(source, max_megapixels)
    if pixels is not None:
        return pixels
    image = decode_image(source, max_megapixels=max_megapixels, least_side=least_side)
    return image_to_tensor(image).permute(1, 2, 0)


def image_to_tensor(image: Image.Image) -> Tensor:
    """An RGB image as uint8 (3, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def inspect_headers(paths: Iterable[Path]) -> tuple[Issue, ...]:
    """Count what is worth a remark in the headers of a user's own images; what is wrong with one, decoding says."""
    log = IssueLog()
    for path in paths:
        with contextlib.suppress(Exception), open_file(path) as file, open_header(file) as image:
            note_header(image, log.note_on(path))
    return log.issues


def note_header(image: Image.Image, note: Note, annotated_size: tuple[int, int] | None = None) -> None:
    """Call `note` for what is worth a remark in the header of an image; `annotated_size` is that of `decode_image`."""
    if image.format in _MULTI_FRAME and getattr(image, "is_animated", False):
        note("image of several frames", "the first is used")
    if exif.is_damaged(image):
        note("image with damaged camera data", "its EXIF data cannot be read whole")
    if max(image.size) > THIN * min(image.size):
        note("image very long and thin", f"it has {image.width}x{image.height} pixels")
    orientation = exif.read_orientation(image)
    if orientation == 1:
        return
    if annotated_size is None:
        note("image turned upright", f"its camera was held in orientation {orientation}")
    elif image.size == annotated_size and (orientation not in exif.ON_ITS_SIDE or image.width == image.height):
        note("camera rotation that sizes cannot tell", f"its camera was held in orientation {orientation}")


def read_size(path: Path, *, upright: bool = False) -> tuple[int, int]:
    """Width and height of an image as its pixels are stored, from its header; `upright` turns it as its camera says.

    Raises:
        InputError: There is no such file.
        CorruptFileError: It is not an image; the message says what it is.
    """
    try:
        with open_file(path) as file, open_header(file) as image:
            turned = upright and exif.read_orientation(image) in exif.ON_ITS_SIDE
            return image.size[::-1] if turned else image.size
    except FileNotFoundError as error:
        raise InputError(f"image {path}: no such file") from error
    except Exception as error:  # decoders raise whatever their format makes them raise
        raise explain(path, error) from error


@functools.cache
def jpeg_decoder() -> Callable[[Tensor, int], Tensor] | None:
    """torchvision's JPEG decoder: from bytes (B,) and a mode to uint8 (3, H, W). None where this torchvision has none.

    The operator is called instead of `torchvision.io.decode_jpeg`, which warns at each call that it may go one day.
    """
    import torchvision  # noqa: F401 - registers its operators; takes a second, and most runs do not stream

    packet = getattr(torch.ops.image, "decode_jpeg", None)
    return None if packet is None else packet.default


@contextlib.contextmanager
def open_header(file: BinaryIO, max_megapixels: int | None = None) -> Iterator[Image.Image]:
    """Open an image whose header alone is read; one that is too large, or that zeros were written over, is refused.

    Args:
        max_megapixels: Millions of pixels of the largest image; None where it is not decoded, which takes no memory.
    """
    _prepare_pillow(max_megapixels or MAX_MEGAPIXELS)
    bombs.check_header(file)
    try:
        with Image.open(file, formats=decodable_formats()) as image:
            pixels = image.width * image.height
            if max_megapixels is not None and pixels > max_megapixels * 10**6:
                size = f"{image.width}x{image.height} pixels, {pixels / 1e6:,.1f} megapixels"
                raise Image.DecompressionBombError(f"{size}; {max_megapixels:,} are allowed")
            if ends_in_zeros(file, image.format):
                raise ValueError("it ends in zeros, as an interrupted copy leaves it")
            yield image
    except UnidentifiedImageError as error:
        file.seek(0)
        raise ValueError(_describe_unidentified(file.read(_HEAD))) from error


def explain(source: object, error: Exception) -> CorruptFileError:
    """The error of an image that cannot be decoded, from what a decoder raised.

    Raises:
        OSError: Too many files are open.
    """
    hint, reason = "Replace or remove the file", str(error)
    if isinstance(error, CorruptFileError):
        return error
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        raise error  # no fault of the image, and the next ones could not be opened either
    if isinstance(error, Image.DecompressionBombError):
        if pillows := re.search(r"\((\d+) pixels\) exceeds", reason):
            reason = f"it has {int(pillows[1]) / 1e6:,.1f} megapixels"
        return TooLargeError(
            f"image {source} is too large: {reason}",
            "Allow for more by --set data.max_megapixels=N (--max-megapixels N where nothing is trained), or reduce it",
            file=source,
        )
    if isinstance(error.__cause__, UnidentifiedImageError):
        hint = "Replace it, or save it as PNG or JPEG"
    elif isinstance(error, PixelRangeError):
        hint = "Save it with 8 or 16 bits per value, or as floats from 0 to 1"
    elif isinstance(error, MemoryError):
        reason, hint = "there is not enough memory for it", "Reduce it, or allow for fewer data.max_megapixels"
    elif isinstance(error, OSError) and error.strerror:
        reason = error.strerror
    return CorruptFileError(f"image {source} cannot be decoded: {reason}", hint, file=source)


def _decode(
    file: BinaryIO,
    max_megapixels: int,
    least_side: int | None,
    annotated_size: tuple[int, int] | None,
    note: Note,
) -> Image.Image:
    with open_header(file, max_megapixels) as image:
        if annotated_size is None:
            note_header(image, note)
        if image.format == "PNG" and (image.mode.startswith("I") or "transparency" in image.info):
            correct_png(image, png.read_samples(file))
        if least_side is not None and image.width * image.height > REDUCED_ABOVE * 10**6:
            image.draft(None, (least_side, least_side))  # a JPEG is, others are not reduced by it
        bombs.check_scans(file, image)
        image.load()
        if lacks_rows(file, image):
            raise ValueError("it ends too early: its last rows are missing")
        orientation = 1 if image.size == annotated_size else exif.read_orientation(image)
        pixels = to_rgb(image, note)
    return pixels if orientation == 1 else pixels.transpose(exif.TURNS[orientation])


def _decode_usual_jpeg(source: ImageSource, max_megapixels: int) -> Tensor | None:
    """Decode an upright JPEG in gray or RGB; None where it is anything else, or where something is wrong with it."""
    decoder = jpeg_decoder()
    if decoder is None:
        return None
    try:
        with open_source(source) as file:
            if not bombs.is_plausible_jpeg(file, max_megapixels):
                return None
            content = bytearray(file.read())
        with open_header(stream := io.BytesIO(content), max_megapixels) as image:
            usual = image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L")
            if not usual or image.width * image.height > REDUCED_ABOVE * 10**6 or exif.read_orientation(image) != 1:
                return None
            bombs.check_scans(stream, image)
        pixels = decoder(torch.frombuffer(content, dtype=torch.uint8), _RGB).permute(1, 2, 0)
        return None if may_lack_rows(pixels[-1, -1].tolist()) else pixels
    except Exception:  # whatever it is, `decode_image` explains it
        return None


def _prepare_pillow(max_megapixels: int) -> None:
    """Let Pillow open what is allowed, and keep its warnings, which name lines of its source, from users.

    Both are set for the whole process, and never back: threads share them, so that a change for a moment in one would
    come and go in all others.
    """
    register_plugins()
    if Image.MAX_IMAGE_PIXELS is not None and max_megapixels * 10**6 > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_megapixels * 10**6
    filters: Any = warnings.filters
    if not filters or filters[0][3] != _PILLOW:
        warnings.filterwarnings("ignore", module=_PILLOW.pattern)


def _describe_unidentified(head: bytes) -> str:
    kind = describe_bytes(head)
    if "image" in kind:
        return f"it is {kind}, of a kind that is not known here or with a damaged header"
    return "it is not an image" + (f" but {kind}" if kind != "of an unknown kind" else "")
