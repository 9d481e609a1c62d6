"""From encoded images to pixels."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nascli.data.decoding import decode_image, decode_window, to_bytes
from nascli.data.streaming import random_window

GREY = np.array([[0, 256, 257, 1000], [32768, 40000, 65534, 65535]])
IN_8_BITS = [[0, 0, 1, 3], [127, 155, 254, 255]]


@pytest.mark.parametrize(
    ("suffix", "kind"), [("png", "u2"), ("tif", "u2"), ("tif", ">u2"), ("tif", "i4"), ("pgm", "u2")]
)
def test_grey_of_16_bits_is_scaled_to_8(tmp_path: Path, suffix: str, kind: str) -> None:
    path = tmp_path / f"grey.{suffix}"
    Image.fromarray(GREY.astype(kind)).save(path)
    image = decode_image(path)
    assert image.mode == "RGB"
    assert to_bytes(image).tolist() == [IN_8_BITS] * 3


def test_a_turned_image_of_16_bits_is_put_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it by a quarter, clockwise
    Image.fromarray(GREY.astype("u2")).save(tmp_path / "turned.png", exif=exif)
    assert to_bytes(decode_image(tmp_path / "turned.png"))[0].tolist() == np.rot90(IN_8_BITS, -1).tolist()


def test_a_part_of_an_image_of_16_bits_is_scaled_too(tmp_path: Path) -> None:
    Image.fromarray(np.full((9, 9), 100 * 257, dtype=np.uint16)).save(tmp_path / "grey.png")
    part = decode_window(tmp_path / "grey.png", lambda height, width: random_window(height, width, seed=0))
    assert torch.unique(part).tolist() == [100]


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "RGBA"])
def test_grey_of_8_bits_stays_as_it_is(tmp_path: Path, mode: str) -> None:
    grey = Image.fromarray(np.array([[0, 1, 254, 255], [3, 127, 128, 200]], dtype=np.uint8))
    image = grey.convert(mode, dither=Image.Dither.NONE)
    image.save(tmp_path / "grey.png")
    assert torch.equal(to_bytes(decode_image(tmp_path / "grey.png")), to_bytes(image.convert("RGB")))
    if mode != "1":
        assert to_bytes(image.convert("RGB"))[0].tolist() == np.asarray(grey).tolist()
