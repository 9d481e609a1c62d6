"""RGB bytes from images of every mode, of every kind of number."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nascli.data.images.decoding import decode_image
from nascli.data.images.pixels import CONVERSIONS, PixelRangeError, to_rgb
from nascli.errors import CorruptFileError

WHITE = (255, 255, 255)
ONE_PIXEL: dict[str, tuple[Any, tuple[int, int, int]]] = {
    "1": (255, WHITE),
    "L": (100, (100, 100, 100)),
    "LA": ((100, 0), WHITE),
    "La": ((50, 128), (177, 177, 177)),  # half of 100 above half of white
    "P": (3, (30, 40, 50)),
    "PA": ((3, 0), WHITE),
    "RGB": ((10, 20, 30), (10, 20, 30)),
    "RGBA": ((10, 20, 30, 0), WHITE),
    "RGBa": ((10, 20, 30, 255), (10, 20, 30)),
    "RGBX": ((10, 20, 30, 0), (10, 20, 30)),
    "CMYK": ((255, 0, 0, 0), (0, 255, 255)),
    "YCbCr": ((200, 128, 128), (200, 200, 200)),
    "LAB": ((255, 128, 128), WHITE),
    "HSV": ((0, 255, 255), (255, 0, 0)),
    "I": (65535, WHITE),
    "I;16": (25700, (100, 100, 100)),
    "I;16L": (25700, (100, 100, 100)),
    "I;16B": (25700, (100, 100, 100)),
    "I;16N": (25700, (100, 100, 100)),
    "F": (0.4, (102, 102, 102)),
}


@pytest.mark.parametrize("mode", sorted({*CONVERSIONS, *ONE_PIXEL}))
def test_every_mode_of_pillow_becomes_rgb(mode: str) -> None:
    value, expected = ONE_PIXEL[mode]
    image = Image.new(mode, (2, 2))
    if mode in ("P", "PA"):
        image.putpalette([0] * 9 + [30, 40, 50] + [0] * 756)
    if mode.startswith("I;16"):
        image = Image.frombytes(mode, (2, 2), struct.pack(">H" if mode.endswith("B") else "<H", value) * 4)
    else:
        image.paste(value, (0, 0, 2, 2))
    found = to_rgb(image)
    assert found.mode == "RGB"
    assert np.abs(np.asarray(found)[1, 1].astype(int) - expected).max() <= 1


def save_tiff(path: Path, values: np.ndarray[Any, Any]) -> Path:
    Image.fromarray(values).save(path)
    return path


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 0.5, 1]], np.float32), [0, 128, 255]),
        (np.array([[-1e-6, 0.25, 1.0002]], np.float32), [0, 64, 255]),
        (np.array([[0, 17.4, 255]], np.float32), [0, 17, 255]),
        (np.array([[0, 7, 255]], np.int32), [0, 7, 255]),
        (np.array([[0, 257, 65535]], np.int32), [0, 1, 255]),
        (np.array([[0, 0, 0]], np.float32), [0, 0, 0]),
    ],
)
def test_numbers_of_32_bits_are_scaled_by_a_usual_range(
    tmp_path: Path, values: np.ndarray[Any, Any], expected: list[int]
) -> None:
    image = decode_image(save_tiff(tmp_path / "a.tif", values))
    assert np.asarray(image)[0, :, 0].tolist() == expected


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.array([[0, 1.5]], np.float32), "from 0 to 1.5"),
        (np.array([[-1, 1]], np.float32), "from -1 to 1"),
        (np.array([[0, 4000]], np.float32), "from 0 to 4000"),
        (np.array([[0, np.nan]], np.float32), "NaN"),
        (np.array([[0, np.inf]], np.float32), "infinity"),
        (np.array([[-3, 70000]], np.int32), "from -3 to 70,000"),
    ],
)
def test_numbers_of_another_range_are_refused_by_name(tmp_path: Path, values: np.ndarray[Any, Any], words: str) -> None:
    with pytest.raises(CorruptFileError, match=r"a\.tif.*8 or 16 bits") as caught:
        decode_image(save_tiff(tmp_path / "a.tif", values))
    assert words in str(caught.value)
    with pytest.raises(PixelRangeError):
        to_rgb(Image.fromarray(values))


def write_png(bits: int, color: int, rows: list[bytes], *chunks: tuple[bytes, bytes]) -> io.BytesIO:
    """A PNG with pixels as they are given; its first row says how wide it is."""

    def pack(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    width = len(rows[0]) * 8 // (bits * {0: 1, 2: 3}[color])
    head = struct.pack(">IIBBBBB", width, len(rows), bits, color, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [(b"IHDR", head), *chunks, (b"IDAT", pixels), (b"IEND", b"")]
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + b"".join(pack(*part) for part in parts))


def decode_bytes(tmp_path: Path, file: io.BytesIO) -> list[Any]:
    path = tmp_path / "a.png"
    path.write_bytes(file.getvalue())
    found: list[Any] = np.asarray(decode_image(path))[0].tolist()
    return found


def words(*values: int) -> bytes:
    return struct.pack(f">{len(values)}H", *values)


@pytest.mark.parametrize(
    ("bits", "row", "clear", "expected"),
    [
        (1, b"\x40", 1, [0, 255, 0, 0, 0, 0, 0, 0]),
        (2, b"\x1b", 1, [0, 255, 170, 255]),
        (4, b"\x5a", 5, [255, 170]),
        (8, b"\x05\x64", 5, [255, 100]),
        (16, words(1000, 25700), 1000, [255, 100]),
    ],
)
def test_the_clear_gray_of_a_png_is_white(
    tmp_path: Path, bits: int, row: bytes, clear: int, expected: list[int]
) -> None:
    found = decode_bytes(tmp_path, write_png(bits, 0, [row], (b"tRNS", words(clear))))
    assert found == [[value] * 3 for value in expected]


def test_the_clear_color_of_a_png_is_white(tmp_path: Path) -> None:
    assert decode_bytes(tmp_path, write_png(8, 2, [b"\1\2\3\4\5\6"], (b"tRNS", words(1, 2, 3)))) == [
        [255] * 3,
        [4, 5, 6],
    ]
    deep = write_png(16, 2, [words(1000, 2000, 3000, 256, 512, 768)], (b"tRNS", words(1000, 2000, 3000)))
    assert decode_bytes(tmp_path, deep) == [[255] * 3, [1, 2, 3]]


@pytest.mark.parametrize("used", [10, 12, 14])
def test_a_png_that_uses_fewer_of_its_16_bits_says_so(tmp_path: Path, used: int) -> None:
    """Whether they lie at the lower end, as many write them, or at the upper end, as the format wants it."""
    numbers = [0, 1, 2**used // 3, 2**used - 1]
    expected = [[value * 255 // (2**used - 1)] * 3 for value in numbers]
    said = (b"sBIT", bytes([used]))
    assert decode_bytes(tmp_path, write_png(16, 0, [words(*numbers)], said)) == expected
    moved = [value << (16 - used) | value >> (2 * used - 16) for value in numbers]
    found = decode_bytes(tmp_path, write_png(16, 0, [words(*moved)], said))
    assert np.abs(np.subtract(found, expected)).max() <= 1
    zeros_below = [value << (16 - used) for value in numbers[:2]]
    dark = decode_bytes(tmp_path, write_png(16, 0, [words(*zeros_below)], said))
    assert np.max(dark) <= 1
    assert np.max(decode_bytes(tmp_path, write_png(16, 0, [words(*numbers)]))) == (2**used - 1) // 257


def write_tiff(path: Path, bits: int, photometric: int, row: bytes, width: int) -> Path:
    """A TIFF of one row and one sample per pixel."""
    tags = {256: width, 257: 1, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: 1, 279: len(row)}
    start = 8 + len(row) + len(row) % 2
    entries = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in tags.items())
    head = struct.pack("<2sHI", b"II", 42, start) + row.ljust(start - 8, b"\0")
    path.write_bytes(head + struct.pack("<H", len(tags)) + entries + bytes(4))
    return path


def test_a_tiff_of_12_bits_is_scaled_by_its_own_range(tmp_path: Path) -> None:
    image = decode_image(write_tiff(tmp_path / "a.tif", 12, 1, bytes.fromhex("000fff"), 2))
    assert np.asarray(image)[0, :, 0].tolist() == [0, 255]


def test_a_tiff_whose_zero_is_white(tmp_path: Path) -> None:
    for bits, row in ((8, b"\x00\xff"), (16, struct.pack("<HH", 0, 65535))):
        image = decode_image(write_tiff(tmp_path / "a.tif", bits, 0, row, 2))
        assert np.asarray(image)[0, :, 0].tolist() == [255, 0]
