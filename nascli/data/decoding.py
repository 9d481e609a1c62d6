"""From encoded images to pixels.

Pillow reads every format. JPEGs of the usual kind are given to torchvision's decoder first where only the pixels are
wanted: it writes them where a tensor has them, without Python's lock. What it refuses, Pillow has to judge. Both decode
by libjpeg-turbo, with the same settings.
"""

import contextlib
import functools
import io
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from nascli.data.formats import register_plugins
from nascli.errors import CorruptFileError, InputError
from nascli.files import describe_content

ORIENTATION = 0x0112
"""The EXIF tag that says how the camera was held; 1 is upright, from 5 on it lay on its side."""

_RGB = 3
"""`torchvision.io.ImageReadMode.RGB`, as its operator takes it."""


class ImageSource(Protocol):
    """A file, or an image in a pack. As text it is what a user calls it."""

    def open(self, mode: Literal["rb"], /) -> BinaryIO:
        """Its encoded bytes."""


def decode_image(source: ImageSource) -> Image.Image:
    """Decode the image in a file or a pack, as RGB and upright.

    Raises:
        CorruptFileError: It is not an image, is truncated, damaged, or claims an absurd size.
    """
    try:
        with source.open("rb") as file, _open_header(file) as image:
            if _is_absurd(image):
                raise ValueError(f"it claims {image.width}x{image.height} pixels, more than {Image.MAX_IMAGE_PIXELS:,}")
            ImageOps.exif_transpose(image, in_place=True)  # decodes it, too
            return image if image.mode == "RGB" else to_8_bits(image).convert("RGB")
    except Exception as error:  # decoders raise whatever their format makes them raise
        if isinstance(error, CorruptFileError):
            raise
        reason = "it is not an image" if isinstance(error, UnidentifiedImageError) else error
        raise CorruptFileError(f"image {source} cannot be decoded: {reason}", "Replace or remove the file") from error


def decode_pixels(source: ImageSource) -> Tensor:
    """Decode an image as `decode_image` does, by the fastest decoder that takes it, to uint8 (H, W, 3)."""
    pixels = _decode_usual_jpeg(source)
    return image_to_tensor(decode_image(source)).permute(1, 2, 0) if pixels is None else pixels


def to_8_bits(image: Image.Image) -> Image.Image:
    """Turn a gray image of 16 bits per pixel into one of 8: value / 257, rounded down; any other stays as it is.

    Pillow's own conversion would cut off at 255, which leaves nearly nothing but white.
    """
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.int64) // 257  # 65535 / 255: one step of 8 bits in 16
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def image_to_tensor(image: Image.Image) -> Tensor:
    """An RGB image as uint8 (3, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def read_size(path: Path, *, upright: bool = False) -> tuple[int, int]:
    """Width and height of an image as its pixels are stored, from its header; `upright` turns it as its camera says.

    Raises:
        InputError: There is no such file.
        CorruptFileError: It is not an image; the message says what it is.
    """
    try:
        with path.open("rb") as file, _open_header(file) as image:
            size = image.size
            return size[::-1] if upright and image.getexif().get(ORIENTATION, 1) >= 5 else size
    except FileNotFoundError as error:
        raise InputError(f"image {path}: no such file") from error
    except Exception as error:  # decoders raise whatever their format makes them raise
        reason = f"it is {describe_content(path)}" if isinstance(error, UnidentifiedImageError) else error
        raise CorruptFileError(f"image {path} cannot be read: {reason}", "Replace or remove the file") from error


@functools.cache
def jpeg_decoder() -> Callable[[Tensor, int], Tensor] | None:
    """torchvision's JPEG decoder: from bytes (B,) and a mode to uint8 (3, H, W). None where this torchvision has none.

    The operator is called instead of `torchvision.io.decode_jpeg`, which warns at each call that it may go one day.
    """
    import torchvision  # noqa: F401 - registers its operators; takes a second, and most runs do not stream

    packet = getattr(torch.ops.image, "decode_jpeg", None)
    return None if packet is None else packet.default


def _decode_usual_jpeg(source: ImageSource) -> Tensor | None:
    """Decode an upright JPEG in gray or RGB; None where it is anything else, or where something is wrong with it."""
    decoder = jpeg_decoder()
    if decoder is None:
        return None
    try:
        with source.open("rb") as file:
            content = bytearray(file.read())
        with _open_header(io.BytesIO(content)) as image:
            usual = image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L")
            if not usual or _is_absurd(image) or image.getexif().get(ORIENTATION, 1) != 1:
                return None
        return decoder(torch.frombuffer(content, dtype=torch.uint8), _RGB).permute(1, 2, 0)
    except Exception:  # whatever it is, `decode_image` explains it
        return None


@contextlib.contextmanager
def _open_header(file: BinaryIO) -> Iterator[Image.Image]:
    """Open an image whose header alone is read."""
    register_plugins()
    with warnings.catch_warnings():
        # threads share the filters of warnings: an error made of this one would get lost, so callers check the size
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(file) as image:
            yield image


def _is_absurd(image: Image.Image) -> bool:
    return Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS
