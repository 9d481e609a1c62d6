"""From encoded images to pixels."""

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features

from nascli.data.images import decoding
from nascli.data.images.decoding import decode_image, decode_pixels, image_to_tensor, read_size
from nascli.errors import CorruptFileError, InputError, TooLargeError

ROUNDING = 2
"""Between two decoders; none was seen where both are libjpeg-turbo."""

GRAY = np.array([[0, 256, 257, 1000], [32768, 40000, 65534, 65535]])
IN_8_BITS = [[0, 0, 1, 3], [127, 155, 254, 255]]


@pytest.mark.parametrize(
    ("suffix", "kind"), [("png", "u2"), ("tif", "u2"), ("tif", ">u2"), ("tif", "i4"), ("pgm", "u2")]
)
def test_gray_of_16_bits_is_scaled_to_8(tmp_path: Path, suffix: str, kind: str) -> None:
    path = tmp_path / f"gray.{suffix}"
    Image.fromarray(GRAY.astype(kind)).save(path)
    image = decode_image(path)
    assert image.mode == "RGB"
    assert image_to_tensor(image).tolist() == [IN_8_BITS] * 3


def test_a_turned_image_of_16_bits_is_put_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it by a quarter, clockwise
    Image.fromarray(GRAY.astype("u2")).save(tmp_path / "turned.png", exif=exif)
    assert image_to_tensor(decode_image(tmp_path / "turned.png"))[0].tolist() == np.rot90(IN_8_BITS, -1).tolist()


def test_the_pixels_of_an_image_of_16_bits_are_scaled_too(tmp_path: Path) -> None:
    Image.fromarray(np.full((9, 9), 100 * 257, dtype=np.uint16)).save(tmp_path / "gray.png")
    assert torch.unique(decode_pixels(tmp_path / "gray.png")).tolist() == [100]


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "RGBA"])
def test_gray_of_8_bits_stays_as_it_is(tmp_path: Path, mode: str) -> None:
    gray = Image.fromarray(np.array([[0, 1, 254, 255], [3, 127, 128, 200]], dtype=np.uint8))
    image = gray.convert(mode, dither=Image.Dither.NONE)
    image.save(tmp_path / "gray.png")
    assert torch.equal(image_to_tensor(decode_image(tmp_path / "gray.png")), image_to_tensor(image.convert("RGB")))
    if mode != "1":
        assert image_to_tensor(image.convert("RGB"))[0].tolist() == np.asarray(gray).tolist()


def make_image(height: int, width: int, seed: int = 0) -> Image.Image:
    """Smooth colors with some noise, so that every block differs."""
    random = np.random.default_rng(seed)
    small = Image.fromarray(random.integers(0, 256, (height // 7 + 2, width // 7 + 2, 3), dtype=np.uint8))
    smooth = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return Image.fromarray((smooth + random.integers(-9, 10, smooth.shape)).clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, **options: Any) -> bytearray:  # noqa: ANN401 - Pillow's
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return bytearray(file.getvalue())


def save_kinds(folder: Path) -> dict[str, Path]:
    """A image in every way that matters to a decoder."""
    image = make_image(45, 61)
    turned = image.getexif()
    turned[0x0112] = 6
    kinds: dict[str, dict[str, Any]] = {
        "plain.jpg": {},
        "rows.jpg": {"restart_marker_rows": 1},
        "fine.jpg": {"subsampling": "4:4:4", "quality": 98},
        "progressive.jpg": {"progressive": True},
        "turned.jpg": {"exif": turned},
        "lossless.png": {},
        "lossy.webp": {},
    }
    for name, options in kinds.items():
        image.save(folder / name, **options)
    for name, mode in (("gray.jpg", "L"), ("inks.jpg", "CMYK"), ("palette.png", "P"), ("bits.png", "1")):
        image.convert(mode).save(folder / name)
    return {path.name: path for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("native", [True, False])
def test_pixels_are_those_of_the_image(tmp_path: Path, native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not native:  # a torchvision without decoders
        monkeypatch.setattr(decoding, "jpeg_decoder", lambda: None)
    kinds = save_kinds(tmp_path)
    assert len(kinds) == 11
    for name, path in kinds.items():
        whole = image_to_tensor(decode_image(path)).permute(1, 2, 0)
        assert whole.shape == ((61, 45, 3) if name == "turned.jpg" else (45, 61, 3))
        found = decode_pixels(path)
        assert found.dtype == torch.uint8
        assert found.shape == whole.shape
        difference = (found.int() - whole.int()).abs().max()
        assert difference <= (ROUNDING if native else 0), name


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_are_upright_whether_exif_or_xmp_says_how(tmp_path: Path, orientation: int) -> None:
    image = make_image(12, 20)
    exif = image.getexif()
    exif[0x0112] = orientation
    xmp = f'<x tiff:Orientation="{orientation}"/>'.encode()
    for name, options in (("exif.jpg", {"exif": exif}), ("xmp.jpg", {"xmp": xmp})):
        image.save(tmp_path / name, **options)
        whole = image_to_tensor(decode_image(tmp_path / name)).permute(1, 2, 0)
        assert whole.shape == ((20, 12, 3) if orientation > 4 else (12, 20, 3))
        assert int((decode_pixels(tmp_path / name).int() - whole.int()).abs().max()) <= ROUNDING


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.avif", "a.tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_of_every_format_are_put_upright(tmp_path: Path, name: str, orientation: int) -> None:
    if name == "a.avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    image = make_image(12, 20).resize((60, 36))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "plain.jpg", exif=exif, quality=98)
    image.save(tmp_path / name, exif=exif)  # for AVIF Pillow takes the orientation out of what it is given
    expected = np.asarray(decode_image(tmp_path / "plain.jpg")).astype(int)
    found = np.asarray(decode_image(tmp_path / name))
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < 8


def test_a_png_may_say_behind_its_pixels_how_it_was_held(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    make_image(12, 20).save(path, exif=exif)
    content = path.read_bytes()
    start, end = content.index(b"eXIf") - 4, content.index(b"IDAT") - 4
    last = content.index(b"IEND") - 4
    path.write_bytes(content[:start] + content[end:last] + content[start:end] + content[last:])
    assert decode_image(path).size == (12, 20)
    assert read_size(path) == (20, 12)


@given(cut=st.integers(0, 700), place=st.integers(0, 700), byte=st.integers(0, 255))
def test_damaged_jpegs_are_refused_or_decoded_whole(
    tmp_path_factory: pytest.TempPathFactory, cut: int, place: int, byte: int
) -> None:
    content = encoded(make_image(20, 20))
    content[place % len(content)] = byte
    path = tmp_path_factory.getbasetemp() / "damaged.jpg"
    path.write_bytes(content[: len(content) - cut])
    with contextlib.suppress(CorruptFileError):
        assert decode_pixels(path).shape[2] == 3


def test_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    content = encoded(make_image(90, 90))
    for wrong in (content[: len(content) // 2], content[:30], b"", b"poison"):
        path.write_bytes(wrong)
        with pytest.raises(CorruptFileError, match=r"^image .*a\.jpg cannot be decoded: "):
            decode_pixels(path)
    with pytest.raises(CorruptFileError, match=r"gone\.jpg cannot be decoded"):
        decode_pixels(tmp_path / "gone.jpg")


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_what_is_too_large_is_refused_before_decoding(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("L", (1250, 1000)).save(tmp_path / name)
    assert decode_pixels(tmp_path / name, max_megapixels=2).shape == (1000, 1250, 3)
    decoded: list[object] = []
    monkeypatch.setattr(decoding, "jpeg_decoder", lambda: lambda *arguments: decoded.append(arguments))
    for decode in (decode_pixels, decode_image):
        with pytest.raises(TooLargeError, match=rf"{name} is too large: 1250x1000 pixels.*data\.max_megapixels"):
            decode(tmp_path / name, max_megapixels=1)
    assert not decoded


def test_a_size_is_that_of_the_stored_pixels(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    for name in ("a.jpg", "a.png", "a.webp"):
        Image.new("RGB", (7, 5)).save(tmp_path / name, exif=exif)
        assert read_size(tmp_path / name) == (7, 5)
    (tmp_path / "a.jpg").write_text("<html></html>")
    with pytest.raises(CorruptFileError, match="an HTML page"):
        read_size(tmp_path / "a.jpg")
    with pytest.raises(InputError, match="no such file"):
        read_size(tmp_path / "none.jpg")
