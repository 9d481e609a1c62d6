"""RGB bytes from a decoded image, whatever its pixels are: one conversion for every task.

The bytes of an image follow from its own file alone, so that they are the same in training, scoring and prediction.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nascli.data.images.png import Samples

Note = Callable[[str, str], None]
"""Called with a kind of `nascli.data.issues` and an example in words, for what is worth a remark."""

_BITS = "significant_bits"
"""Key of an image's `info`: bits that its samples use, as far as its file says."""
_TIFF_BITS, _TIFF_WHITE_IS_ZERO = 258, 262
_BYTE, _WORD = 255, 65535
_ROUNDING = 1e-3
"""Part of the range by which floats may leave it, since somebody's arithmetic was rounded."""
_DARKEST_BYTES = 16
"""Floats above 1 that stay below this are no bytes: either the image is black, or its range is another."""


class PixelRangeError(ValueError):
    """The numbers of an image have no usual meaning as brightness."""


def ignore_note(kind: str, example: str) -> None:
    """The `Note` of whoever wants none."""


def to_rgb(image: Image.Image, note: Note = ignore_note) -> Image.Image:
    """Convert a decoded image of any mode to RGB, by `CONVERSIONS`; what is transparent is laid on white.

    Raises:
        PixelRangeError: It holds floats or 32-bit numbers of an unusual range.
    """
    convert = CONVERSIONS.get(image.mode)
    if convert is None:
        raise ValueError(f"its pixels are of a kind that is not known: {image.mode}")
    return convert(image, note)


def correct_png(image: Image.Image, samples: Samples) -> None:
    """Put into the `info` of a PNG what Pillow leaves out of it, or gives in other numbers than its pixels."""
    image.info[_BITS] = samples.used or samples.bits
    clear = image.info.get("transparency")
    if image.mode == "L" and isinstance(clear, int) and samples.bits < 8:
        image.info["transparency"] = clear * _BYTE // (2**samples.bits - 1)
    elif image.mode == "RGB" and isinstance(clear, tuple) and samples.bits == 16:
        image.info["transparency"] = tuple(value >> 8 for value in clear)


def _convert_bytes(image: Image.Image, note: Note) -> Image.Image:
    """By Pillow, where there is no transparency."""
    if image.has_transparency_data:
        return _lay_on_white(image, note)
    return image if image.mode == "RGB" else image.convert("RGB")


def _lay_on_white(image: Image.Image, note: Note) -> Image.Image:
    layer = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    if layer.getchannel("A").getextrema() == (_BYTE, _BYTE):
        return layer.convert("RGB")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def _scale_16_bits(image: Image.Image, note: Note) -> Image.Image:
    """By 257, or by the largest number of as many bits as the file says that are used.

    Files of 12 bits often do not say so. Whether an image is dark or uses few bits cannot be told from its values, and
    two images of one camera must not be scaled differently: it is remarked on, and stays as dark as it is.
    """
    values = np.asarray(image)
    top = 2 ** _find_bits(image, values) - 1
    if top == _WORD and 0 < int(values.max()) < 2**12:
        note("16-bit image that uses 12 bits at most", f"its values run {_describe_range(values)}")
    gray = _to_rgb(_scale(values, top), image)
    if (clear := image.info.get("transparency")) is not None:
        gray.paste("white", mask=Image.fromarray(values == clear))
    return gray


def _scale_whole_numbers(image: Image.Image, note: Note) -> Image.Image:
    """Numbers of 32 bits: 0 to 255 stay, 0 to 65,535 are numbers of 16 bits; a PGM or PNG has no other than these."""
    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    known = image.format in ("PPM", "PNG")
    if low < 0 or high > _WORD:
        raise PixelRangeError(f"its values are whole numbers of 32 bits, {_describe_range(values)}")
    if not known:
        note("image of 32-bit numbers", f"its values run {_describe_range(values)}")
    top = _WORD if known or high > _BYTE else _BYTE
    return _to_rgb(_scale(values, top), image)


def _scale_floats(image: Image.Image, note: Note) -> Image.Image:
    """0 to 1 are multiplied by 255, 0 to 255 stay."""
    values = np.asarray(image)
    if not np.isfinite(values).all():
        raise PixelRangeError("some of its values are not finite (NaN or infinity)")
    low, high = float(values.min()), float(values.max())
    for top, least in ((1, 0), (_BYTE, _DARKEST_BYTES)):
        if -_ROUNDING * top <= low and least <= high <= (1 + _ROUNDING) * top:
            note("image of 32-bit numbers", f"its values run {_describe_range(values)}")
            scaled = np.rint(values * np.float32(_BYTE / top)).clip(0, _BYTE)
            return _to_rgb(scaled.astype(np.uint8), image)
    raise PixelRangeError(f"its values are floats {_describe_range(values)}")


CONVERSIONS: Mapping[str, Callable[[Image.Image, Note], Image.Image]] = {
    **dict.fromkeys(("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"), _convert_bytes),
    **dict.fromkeys(("LA", "La", "PA", "RGBA", "RGBa"), _lay_on_white),
    **dict.fromkeys(("I;16", "I;16L", "I;16B", "I;16N"), _scale_16_bits),
    "I": _scale_whole_numbers,
    "F": _scale_floats,
}
"""The conversion of each of Pillow's modes."""


def _find_bits(image: Image.Image, values: NDArray[np.uint16]) -> int:
    """Bits of a sample, of which the file says something in a TIFF's BitsPerSample or in a PNG's sBIT."""
    tags = getattr(image, "tag_v2", {})
    bits = int(tags[_TIFF_BITS][0]) if _TIFF_BITS in tags else int(image.info.get(_BITS, 16))
    if image.format == "PNG" and 8 < bits < 16:
        # PNG wants fewer bits moved to the upper end, and repeated below; many writers leave them at the lower end
        upper = values >> (16 - bits)
        moved = values & (2 ** (16 - bits) - 1)
        if int(values.max()) >= 2**bits or not ((moved != 0) & (moved != upper >> (2 * bits - 16))).any():
            return 16
    return bits if 8 < bits < 16 else 16


def _describe_range(values: NDArray[Any]) -> str:
    low, high = (
        f"{each:,}" if isinstance(each, int) else f"{each:.6g}" for each in (values.min().item(), values.max().item())
    )
    return f"from {low} to {high}"


def _scale(values: NDArray[Any], top: int) -> NDArray[np.uint8]:
    """Bytes from whole numbers of 0 to 65,535: 255 from `top` on, below rounded down; by a table, to save memory."""
    table: NDArray[np.uint8] = (np.arange(_WORD + 1) * _BYTE // top).clip(0, _BYTE).astype(np.uint8)
    return table.take(values)


def _to_rgb(gray: NDArray[np.uint8], image: Image.Image) -> Image.Image:
    if getattr(image, "tag_v2", {}).get(_TIFF_WHITE_IS_ZERO) == 0:
        gray = _BYTE - gray  # Pillow itself follows this for numbers of 8 bits and fewer
    return Image.fromarray(gray).convert("RGB")
