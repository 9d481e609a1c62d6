"""JPEGs: their headers, and windows of them that are the same whoever decodes them and however little of them."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nascli.data import decoding
from nascli.data.decoding import Window, decode_image, decode_window, to_bytes
from nascli.data.jpeg import cut_rows, read_frame
from nascli.errors import CorruptFileError

ROUNDING = 2
"""Between two decoders; none was seen where both are libjpeg-turbo."""


def picture(height: int, width: int, seed: int = 0) -> Image.Image:
    """Smooth colours with some noise, so that every block differs."""
    random = np.random.default_rng(seed)
    small = Image.fromarray(random.integers(0, 256, (height // 7 + 2, width // 7 + 2, 3), dtype=np.uint8))
    smooth = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return Image.fromarray((smooth + random.integers(-9, 10, smooth.shape)).clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, **options: Any) -> bytearray:  # noqa: ANN401 - Pillow's
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return bytearray(file.getvalue())


def rows_of(content: bytes | bytearray) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": "4:4:4"}, {"subsampling": "4:2:2"}, {"exif": b"Exif\0\0"}]
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_header_says_the_size(options: dict[str, Any], mode: str) -> None:
    content = encoded(picture(37, 50).convert(mode), **options)
    frame = read_frame(content)
    assert frame is not None
    assert (frame.height, frame.width, frame.turned, frame.rows_alone) == (37, 50, False, 0)


def test_what_is_no_usual_jpeg_is_left_to_a_decoder() -> None:
    file = io.BytesIO()
    picture(9, 9).save(file, "PNG")
    inks = encoded(Image.new("CMYK", (20, 10)))
    good = encoded(picture(9, 9))
    for content in (b"", b"\xff\xd8", file.getvalue(), inks, good[:60], b"\0" + good, good[:2] + b"\0" + good[2:]):
        assert read_frame(content) is None


@given(cut=st.integers(0, 700), place=st.integers(0, 700), byte=st.integers(0, 255))
def test_damaged_headers_are_read_without_failing(cut: int, place: int, byte: int) -> None:
    content = encoded(picture(20, 20), restart_marker_rows=1)
    content[place % len(content)] = byte
    short, frame = read_frame(content[: len(content) - cut]), read_frame(content)
    assert short is None or short.pixels_at <= len(content) - cut
    if frame is not None:
        part, first = cut_rows(content, frame, 0, 1)
        assert (first, len(part) <= len(content)) == (0, True)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_pictures_are_found(orientation: int) -> None:
    image = picture(12, 20)
    exif = image.getexif()
    exif[0x0112] = orientation
    frame = read_frame(encoded(image, exif=exif))
    assert frame is not None
    assert frame.turned == (orientation != 1)
    named = encoded(image, xmp=f'<x tiff:Orientation="{orientation}"/>'.encode())
    frame = read_frame(named)
    assert frame is not None
    assert frame.turned == (orientation != 1)


@given(
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    edges=st.tuples(st.integers(0, 69), st.integers(1, 70)),
    subsampling=st.sampled_from(["4:2:0", "4:4:4", "4:2:2"]),
    rows=st.integers(1, 2),
    grey=st.booleans(),
)
@settings(max_examples=150)
def test_rows_of_a_part_are_those_of_the_whole(
    size: tuple[int, int], edges: tuple[int, int], subsampling: str, rows: int, grey: bool
) -> None:
    image = picture(*size)
    options = {"restart_marker_rows": rows, "quality": 90}
    content = encoded(image.convert("L"), **options) if grey else encoded(image, subsampling=subsampling, **options)
    frame = read_frame(content)
    assert frame is not None
    assert frame.rows_alone in (8 * rows, 16 * rows)
    top = min(edges[0], size[0] - 1)
    bottom = min(max(edges[1], top + 1), size[0])
    before = bytes(content)
    part, first = cut_rows(content, frame, top, bottom)
    assert bytes(content) == before
    found = rows_of(part)
    assert len(found) <= size[0]
    np.testing.assert_array_equal(found[top - first : bottom - first], rows_of(content)[top:bottom])


def test_no_more_is_kept_than_is_needed() -> None:
    content = encoded(picture(400, 60), restart_marker_rows=1)
    frame = read_frame(content)
    assert frame is not None
    part, first = cut_rows(content, frame, 178, 190)
    assert first == 176
    assert len(rows_of(part)) == 16
    assert len(part) - frame.pixels_at < len(content) / 12
    assert cut_rows(content, frame, 0, 400) == (content, 0)
    assert cut_rows(content[:-2], frame, 178, 190) == (content[:-2], 0)  # a decoder is to say that it is truncated
    plain = encoded(picture(400, 60))
    frame = read_frame(plain)
    assert frame is not None
    assert cut_rows(plain, frame, 178, 190) == (plain, 0)


def save_kinds(folder: Path) -> dict[str, Path]:
    """A picture in every way that matters to a decoder."""
    image = picture(45, 61)
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
    for name, mode in (("grey.jpg", "L"), ("inks.jpg", "CMYK"), ("palette.png", "P"), ("bits.png", "1")):
        image.convert(mode).save(folder / name)
    return {path.name: path for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("native", [True, False])
def test_a_window_is_that_of_the_picture(tmp_path: Path, native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not native:  # a torchvision without decoders
        monkeypatch.setattr(decoding, "jpeg_decoder", lambda: None)
    window = Window(20, 31, 9, 40)
    kinds = save_kinds(tmp_path)
    assert len(kinds) == 11
    for name, path in kinds.items():
        whole = to_bytes(decode_image(path)).permute(1, 2, 0)
        assert whole.shape == ((61, 45, 3) if name == "turned.jpg" else (45, 61, 3))
        asked: list[tuple[int, int]] = []

        def choose(height: int, width: int, asked: list[tuple[int, int]] = asked) -> Window:
            asked.append((height, width))
            return window

        found = decode_window(path, choose)
        assert set(asked) == {tuple(whole.shape[:2])}
        assert found.dtype == torch.uint8
        difference = (found.int() - whole[20:31, 9:40].int()).abs().max()
        assert difference <= (ROUNDING if native else 0), name


def test_damage_is_named_and_absurd_sizes_are_refused_before_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jpg"
    content = encoded(picture(90, 90), restart_marker_rows=1)
    for wrong in (content[: len(content) // 2], content[:30], b"", b"poison"):
        path.write_bytes(wrong)
        with pytest.raises(CorruptFileError, match=r"^image .*a\.jpg cannot be decoded: "):
            decode_window(path, lambda height, width: Window(0, 1, 0, 1))
    with pytest.raises(CorruptFileError, match=r"gone\.jpg cannot be decoded"):
        decode_window(tmp_path / "gone.jpg", lambda height, width: Window(0, 1, 0, 1))
    path.write_bytes(content)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 6000)
    monkeypatch.setattr(decoding, "_decode_rows", None)  # would fail if it were called
    with pytest.raises(CorruptFileError, match="it claims 90x90 pixels, more than 6,000"):
        decode_window(path, lambda height, width: Window(0, 1, 0, 1))
