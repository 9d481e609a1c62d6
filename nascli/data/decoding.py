"""From encoded images to pixels.

Pillow reads every format. The usual JPEGs are given to torchvision's decoder first where only the pixels are wanted: it
writes them where a tensor has them, without Python's lock, and decides on nothing: what it refuses, Pillow is asked
about. Both decode by libjpeg-turbo, with the same settings.
"""

import functools
import warnings
from collections.abc import Callable
from typing import BinaryIO, Literal, NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from nascli.data.jpeg import Frame, cut_rows, read_frame
from nascli.errors import CorruptFileError

_RGB = 3
"""`torchvision.io.ImageReadMode.RGB`, as its operator takes it."""

_SHARE_OF_8_BITS = 257
"""65535 / 255: of 16 bits, what one step of 8 is worth."""


class ImageSource(Protocol):
    """What an image is decoded from: a file, or an image in a pack. As text it is what a person calls it."""

    def open(self, mode: Literal["rb"], /) -> BinaryIO:
        """Its encoded bytes."""


class Window(NamedTuple):
    """A rectangle of an image: rows from `top` on and before `bottom`, columns from `left` on and before `right`."""

    top: int
    bottom: int
    left: int
    right: int


Choice = Callable[[int, int], Window]
"""Which part of an image is wanted, given its height and width; the same whenever it is asked."""


def decode_image(source: ImageSource) -> Image.Image:
    """The picture in a file or a pack, as RGB and upright.

    Raises:
        CorruptFileError: It is not an image, is truncated, damaged, or claims an absurd size.
    """
    try:
        with warnings.catch_warnings(), source.open("rb") as file:
            # threads share the filters of warnings: an error made of this one would get lost, so the size is looked at
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                _refuse_absurd(image)
                ImageOps.exif_transpose(image, in_place=True)  # decodes it, too
                return image if image.mode == "RGB" else to_8_bits(image).convert("RGB")
    except CorruptFileError:
        raise
    except Exception as error:  # decoders raise whatever their format makes them raise
        reason = "it is not an image" if isinstance(error, UnidentifiedImageError) else error
        raise CorruptFileError(f"image {source} cannot be decoded: {reason}", "Replace or remove the file") from error


def decode_window(source: ImageSource, choose: Choice) -> Tensor:
    """Part of the picture in a file or a pack, as RGB and upright; of a JPEG that allows it no other rows are decoded.

    Args:
        source: The encoded image.
        choose: Asked for the part.

    Returns:
        uint8 (h, w, 3); rows need not follow each other in memory.

    Raises:
        CorruptFileError: It is not an image, is truncated, damaged, or claims an absurd size.
    """
    pixels = _decode_jpeg_window(source, choose)
    if pixels is None:
        whole = to_bytes(decode_image(source)).permute(1, 2, 0)
        top, bottom, left, right = choose(*whole.shape[:2])
        pixels = whole[top:bottom, left:right]
    return pixels


def to_8_bits(image: Image.Image) -> Image.Image:
    """A grey picture of 16 bits a pixel as one of 8: value / 257, rounded down; any other as it is.

    Pillow's own conversion would cut off at 255, which leaves nearly nothing but white.
    """
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.int64)
    return Image.fromarray((values // _SHARE_OF_8_BITS).clip(0, 255).astype(np.uint8))


def to_bytes(image: Image.Image) -> Tensor:
    """An RGB picture as uint8 (3, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@functools.cache
def jpeg_decoder() -> Callable[[Tensor, int], Tensor] | None:
    """torchvision's JPEG decoder: from bytes (B,) and a mode to uint8 (3, H, W). None where this torchvision has none.

    The operator is taken instead of `torchvision.io.decode_jpeg`, which warns at each call that it may go one day.
    """
    import torchvision  # noqa: F401 - registers its operators; takes a second, and most runs do not stream

    packet = getattr(torch.ops.image, "decode_jpeg", None)
    return None if packet is None else packet.default


def _decode_jpeg_window(source: ImageSource, choose: Choice) -> Tensor | None:
    """The part, where it is a JPEG that torchvision decodes; what is wrong with another one, Pillow is to say."""
    decoder = jpeg_decoder()
    if decoder is None:
        return None
    try:
        with source.open("rb") as file:
            content = bytearray(file.read())
        frame = read_frame(content)
        if frame is None or frame.turned or _is_absurd(frame.width, frame.height):
            return None
        window = choose(frame.height, frame.width)
        return _decode_rows(decoder, content, frame, window)
    except (OSError, RuntimeError):
        return None


def _decode_rows(decoder: Callable[[Tensor, int], Tensor], content: bytearray, frame: Frame, window: Window) -> Tensor:
    part, first = cut_rows(content, frame, window.top, window.bottom)
    pixels = decoder(torch.frombuffer(part, dtype=torch.uint8), _RGB).permute(1, 2, 0)
    return pixels[window.top - first : window.bottom - first, window.left : window.right]


def _is_absurd(width: int, height: int) -> bool:
    return Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS


def _refuse_absurd(image: Image.Image) -> None:
    if _is_absurd(image.width, image.height):
        raise ValueError(f"it claims {image.width}x{image.height} pixels, more than {Image.MAX_IMAGE_PIXELS:,}")
