"""Pixels as their owners mean them: alpha, numbers, rotations, sizes, shapes, damage; alike for both tasks."""

import struct
import threading
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from nascli.data.images.decoding import decode_image, decode_pixels
from nascli.errors import CorruptFileError
from tests.cli.program import Nascli
from tests.front_door.made import TRAIN, Lists, draw_noise, write_classes, write_coco

ORIENTATION = 0x0112
DAMAGED_EXIF = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x05\0\0\0\x01\0\0\0\x80"
"""One value, which lies behind the end."""


def see(nascli: Nascli, classifier: str, detector: str, paths: Iterable[object]) -> list[list[Any]]:
    """What a classifier and a detector find in each image, without their names."""
    words = [str(path) for path in paths]
    shown = " ".join(f"--predict {word}" for word in words)
    # one by one: in a batch the place of an image changes the last digits, by the version of torch
    classes = nascli(f"evaluate {classifier} --device cpu --json --batch-size 1 {shown}")
    boxes = nascli(f"detect predict {' '.join(words)} --run {detector} --device cpu --json --threshold 0.01")
    assert (classes.code, boxes.code) == (0, 0), classes.err + boxes.err
    return [
        [one["classes"], other["detections"]]
        for one, other in zip(classes.json["images"], boxes.json["images"], strict=True)
    ]


def ask_both(nascli: Nascli, classifier: str, detector: str, path: object, options: str = "") -> list[Any]:
    """The outcomes of both tasks on one image."""
    return [
        nascli(f"evaluate {classifier} --device cpu --predict {path} {options}"),
        nascli(f"detect predict {path} --run {detector} --device cpu {options}"),
    ]


def check(nascli: Nascli, options: str = "") -> tuple[int, dict[str, int]]:
    """Exit code and counts by kind of `detect check`."""
    checked = nascli(f"detect check --dataset coco:data --json {options}")
    splits = checked.json["splits"]
    kinds: Counter[str] = Counter()
    for issue in (each for split in splits for each in split["issues"]):
        kinds[issue["kind"]] += issue["count"]
    return checked.code, kinds


def with_exif(image: Image.Image, path: Path, exif: bytes) -> Path:
    """A JPEG with these bytes as its camera data."""
    image.save(path, quality=95)
    content = path.read_bytes()
    path.write_bytes(content[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + content[2:])
    return path


def held(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def test_floats_and_deep_gray_are_what_their_bytes_are(nascli: Nascli, classifier: str, detector: str) -> None:
    ramp = np.add.outer(np.arange(48) * 2, np.arange(64) * 2).astype(np.uint8)
    Image.fromarray(ramp).save("bytes.png")
    Image.fromarray((ramp / 255).astype(np.float32)).save("floats.tif")
    Image.fromarray(ramp.astype(np.float32)).save("bytes.tif")
    Image.fromarray(ramp.astype(np.uint16) * 257).save("deep.png")
    Image.fromarray(ramp.astype(np.int32)).save("whole.tif")
    first, *others = see(
        nascli, classifier, detector, ["bytes.png", "floats.tif", "bytes.tif", "deep.png", "whole.tif"]
    )
    assert all(other == first for other in others)


def test_numbers_without_a_usual_range_are_refused(nascli: Nascli, classifier: str, detector: str) -> None:
    Image.fromarray(np.array([[-1000, 3000]] * 9, np.float32)).save("hounsfield.tif")
    for refused in ask_both(nascli, classifier, detector, "hounsfield.tif"):
        assert refused.code == 1
        assert "hounsfield.tif" in refused.err
        assert "from -1000 to 3000" in refused.err


def test_what_is_transparent_is_white(nascli: Nascli, classifier: str, detector: str) -> None:
    shown = np.asarray(draw_noise(1, size=(64, 48)))
    alpha = np.zeros((48, 64, 1), np.uint8)
    alpha[10:30, 20:50] = 255
    laid = np.where(alpha > 0, shown, 255).astype(np.uint8)
    Image.fromarray(laid).save("laid.png")
    for name, hidden in (("black.png", 0), ("red.png", [255, 0, 0])):
        colors = np.where(alpha > 0, shown, hidden).astype(np.uint8)
        Image.fromarray(np.concatenate((colors, alpha), 2)).save(name)
    Image.fromarray(np.concatenate((np.where(alpha > 0, shown, 7).astype(np.uint8), alpha), 2)).save(
        "web.webp", lossless=True, exact=True
    )
    first, *others = see(nascli, classifier, detector, ["laid.png", "black.png", "red.png", "web.webp"])
    assert all(other == first for other in others)


def test_a_transparent_gray_and_a_transparent_palette_are_white_too(tmp_path: Path) -> None:
    Image.new("LA", (4, 4), (0, 0)).save(tmp_path / "gray.png")
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 9, 9, 9])
    palette.save(tmp_path / "one.gif", transparency=1)
    palette.save(tmp_path / "some.png", transparency=bytes([255, 0]))
    for name in ("gray.png", "one.gif", "some.png"):
        assert np.asarray(decode_image(tmp_path / name)).min() == 255, name


def test_a_large_image_is_refused_with_the_way_to_allow_it(nascli: Nascli, classifier: str, detector: str) -> None:
    for name in ("scan.png", "scan.jpg"):
        Image.new("RGB", (1250, 1000), (9, 200, 9)).save(name)
        for refused in ask_both(nascli, classifier, detector, name, "--max-megapixels 1"):
            assert refused.code == 1
            assert f"{name} is too large: 1250x1000 pixels" in refused.err
            assert "--max-megapixels" in refused.err
            assert "remove" not in refused.err
        for taken in ask_both(nascli, classifier, detector, name, "--max-megapixels 2"):
            assert taken.code == 0, taken.err


def enlarge(split: str, lists: Lists, folder: Path) -> None:
    """Make the first image of a split a large one."""
    entry = lists["images"][0]
    entry["width"], entry["height"] = 1250, 1000
    Image.new("RGB", (1250, 1000)).save(folder / entry["file_name"])


def test_the_limit_reaches_training_packing_and_checking(nascli: Nascli) -> None:
    write_classes(Path("classes"))
    Image.new("RGB", (1250, 1000)).save("classes/train/cat/scan.png")
    plan = f"{TRAIN} --dataset folder:classes --image-size 32 --dry-run"
    refused = nascli(f"{plan} --set data.max_megapixels=1")
    assert refused.code == 1
    assert "scan.png is too large" in refused.err
    assert nascli(plan).code == 0
    assert "scan.png is too large" in nascli("pack classes a.h5 --size 32 --max-megapixels 1").err
    assert nascli("pack classes a.h5 --size 32").code == 0, "what was refused is not remembered"

    for limit, expected in ((1, ["image too large"]), (2, [])):
        checked = nascli(f"data check classes --json --max-megapixels {limit}").json["splits"]
        assert [each["kind"] for each in checked[0]["issues"] if "large" in each["kind"]] == expected
    write_coco(Path("data"), enlarge)
    assert check(nascli) == (0, {})
    code, kinds = check(nascli, "--set data.max_megapixels=1")
    assert (code, kinds) == (2, {"image too large": 2})
    write_coco(Path("scans"), side=1100)
    refused = nascli("detect check --dataset coco:scans --set data.max_megapixels=1")
    assert refused.code == 2
    assert "data.max_megapixels" in refused.err


def test_a_large_jpeg_is_decoded_reduced_where_that_suffices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = draw_noise(1, size=(64, 64)).resize((1600, 1200), Image.Resampling.BICUBIC)
    image.save(tmp_path / "a.jpg", exif=held(6))
    image.save(tmp_path / "a.png")
    assert decode_image(tmp_path / "a.jpg", least_side=100).size == (1200, 1600), "usual images are decoded whole"
    monkeypatch.setattr("nascli.data.images.decoding.REDUCED_ABOVE", 1)
    assert decode_image(tmp_path / "a.jpg", least_side=100).size == (150, 200)
    assert decode_pixels(tmp_path / "a.jpg", least_side=250).shape == (400, 300, 3)
    assert decode_image(tmp_path / "a.jpg").size == (1200, 1600)
    assert decode_image(tmp_path / "a.png", least_side=100).size == (1600, 1200)
    reduced = decode_image(tmp_path / "a.jpg", least_side=100)
    whole = decode_image(tmp_path / "a.jpg").resize(reduced.size, Image.Resampling.BOX)
    assert np.abs(np.asarray(reduced).astype(int) - np.asarray(whole)).mean() < 3


def test_damaged_camera_data_do_not_stop_a_photo(nascli: Nascli, classifier: str, detector: str) -> None:
    photo = draw_noise(1, size=(40, 32))
    photo.save("good.jpg", quality=95)
    with_exif(photo, Path("short.jpg"), DAMAGED_EXIF)
    with_exif(photo, Path("cut.jpg"), b"Exif\0\0II*\0")
    with_exif(photo, Path("none.jpg"), b"Exif\0\0not what it should be")
    names = ["good.jpg", "short.jpg", "cut.jpg", "none.jpg"]
    first, *others = see(nascli, classifier, detector, names)
    assert all(other == first for other in others)
    for ran in ask_both(nascli, classifier, detector, "short.jpg"):
        assert "Warning" not in ran.err
        assert ".py" not in ran.err


def test_damaged_camera_data_are_a_remark(nascli: Nascli) -> None:
    def damage(split: str, lists: Lists, folder: Path) -> None:
        file = lists["images"][0]["file_name"]
        with Image.open(folder / file) as image:
            with_exif(image.convert("RGB"), folder / "damaged.jpg", DAMAGED_EXIF)
        (folder / "damaged.jpg").replace(folder / file)

    write_coco(Path("data"), damage)
    assert check(nascli) == (0, {"image with damaged camera data": 2})


def turn(orientation: int, size: tuple[int, int] | None = None) -> Callable[[str, Lists, Path], None]:
    """A change to `write_coco`: its images become JPEGs with that orientation, of another size where one is given."""

    def change(split: str, lists: Lists, folder: Path) -> None:
        for entry in lists["images"]:
            path = folder / entry["file_name"]
            with Image.open(path) as opened:
                image = opened.resize(size or opened.size)
            entry["file_name"] = path.with_suffix(".jpg").name
            entry["width"], entry["height"] = image.size
            image.save(path.with_suffix(".jpg"), quality=95, exif=held(orientation))
            path.unlink()

    return change


@pytest.mark.parametrize(
    ("orientation", "size", "told"),
    [(3, None, False), (2, (80, 64), False), (4, None, False), (6, None, False), (6, (80, 64), True), (1, None, True)],
)
def test_rotations_that_sizes_cannot_tell_are_counted(
    nascli: Nascli, orientation: int, size: tuple[int, int] | None, told: bool
) -> None:
    write_coco(Path("data"), turn(orientation, size))
    kinds = nascli("detect check --dataset coco:data --json").json["splits"][0]["issues"]
    expected = [] if told else [("camera rotation that sizes cannot tell", 4)]
    assert [(each["kind"], each["count"]) for each in kinds] == expected


def test_prediction_turns_a_photo_as_viewers_do(nascli: Nascli, classifier: str, detector: str) -> None:
    photo = draw_noise(1, size=(64, 48))
    photo.save("up.png")
    for orientation, back in ((3, Image.Transpose.ROTATE_180), (6, Image.Transpose.ROTATE_90)):
        photo.transpose(back).save(f"{orientation}.png", exif=held(orientation))
        photo.transpose(back).save(f"{orientation}.tif", exif=held(orientation))
    first, *others = see(nascli, classifier, detector, ["up.png", "3.png", "3.tif", "6.png", "6.tif"])
    assert all(other == first for other in others)
    photo.save("6.jpg", exif=held(6))
    for said in ask_both(nascli, classifier, detector, "6.jpg"):
        assert "1 × image turned upright" in said.err


@pytest.mark.parametrize("size", [(7000, 1), (1, 7000), (1, 1), (2000, 3)])
def test_any_shape_is_looked_at(nascli: Nascli, classifier: str, detector: str, size: tuple[int, int]) -> None:
    Image.new("RGB", size, (200, 9, 9)).save("line.png")
    _, boxes = see(nascli, classifier, detector, ["line.png"])[0]
    for box in (each["bbox"] for each in boxes):
        assert 0 <= box[0] <= box[0] + box[2] <= size[0] + 0.01
        assert 0 <= box[1] <= box[1] + box[3] <= size[1] + 0.01


def test_any_shape_is_packed_and_checked(nascli: Nascli) -> None:
    write_classes(Path("classes"))
    for name, size in (("line", (7000, 1)), ("dot", (1, 1)), ("tall", (3, 900))):
        Image.new("RGB", size).save(f"classes/train/cat/{name}.png")
    assert nascli("pack classes a.h5 --size 16").code == 0
    assert nascli("data show classes --images 99 --out shown").code == 0
    checked = nascli("data check classes --out page --json").json["splits"][0]["issues"]
    assert ("image very long and thin", 2) in [(each["kind"], each["count"]) for each in checked]
    assert nascli(f"{TRAIN} --dataset pack:a.h5 --image-size 32 --out run").code == 0

    def lengthen(split: str, lists: Lists, folder: Path) -> None:
        Image.new("RGB", (7000, 1)).save(folder / "line.png")
        lists["images"].append({"id": 900 + len(split), "file_name": "line.png", "width": 7000, "height": 1})

    write_coco(Path("data"), lengthen)
    assert check(nascli)[1]["image very long and thin"] == 2


NOT_IMAGES = {
    "an empty file": b"",
    "an HTML page": b"<!DOCTYPE html><html><body>Not found</body></html>",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
    "a ZIP archive": b"PK\x03\x04" + bytes(range(60)),
    "a file of zeros": bytes(4000),
}


@pytest.mark.parametrize("kind", NOT_IMAGES)
def test_what_is_called_an_image_and_is_none_is_named(
    nascli: Nascli, classifier: str, detector: str, kind: str
) -> None:
    Path("photo.jpg").write_bytes(NOT_IMAGES[kind])
    for refused in ask_both(nascli, classifier, detector, "photo.jpg"):
        assert refused.code == 1
        assert "photo.jpg" in refused.err
        assert kind in refused.err


FORMATS: dict[str, dict[str, Any]] = {
    "a.jpg": {"quality": 90},
    "b.jpg": {"progressive": True},
    "a.png": {},
    "a.gif": {},
    "a.tif": {},
    "b.tif": {"compression": "tiff_lzw"},
    "a.webp": {},
    "a.bmp": {},
    "a.ppm": {},
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_is_cut_off_is_refused_or_whole(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    draw_noise(3, size=(90, 70)).save(path, **FORMATS[name])
    content, whole = path.read_bytes(), np.asarray(decode_image(path))
    refused = 0
    for part in (0.2, 0.5, 0.8, 0.95, 1 - 2 / len(content)):
        path.write_bytes(content[: int(len(content) * part)])
        for decode in (decode_image, decode_pixels):
            try:
                found = np.asarray(decode(path))
            except CorruptFileError:
                refused += 1
            else:
                assert (found == whole).all(), "no row is filled with gray"
    assert refused >= 8


@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"restart_marker_rows": 1}, {"quality": 98}])
def test_a_jpeg_that_was_cut_off_and_closed_is_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    """Its decoder fills what is missing with gray; an image whose last rows are of that gray is whole."""
    path = tmp_path / "a.jpg"
    pixels = np.full((90, 70, 3), 128, np.uint8)
    pixels[:40] = np.asarray(draw_noise(3, size=(70, 40)))
    for image in (Image.fromarray(pixels), Image.fromarray(pixels).convert("L")):
        image.save(path, **options)
        assert (decode_pixels(path)[-1] == 128).all()
        content = path.read_bytes()
        start = content.rindex(b"\xff\xda")
        for part in (0.2, 0.4):
            path.write_bytes(content[: start + int((len(content) - start) * part)] + b"\xff\xd9")
            for decode in (decode_image, decode_pixels):
                with pytest.raises(CorruptFileError, match="rows are missing"):
                    decode(path)


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_an_interrupted_copy_that_ends_in_zeros_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    draw_noise(3, size=(90, 70)).save(path, quality=98)
    content = path.read_bytes()
    path.write_bytes(content + bytes(4096))
    decode_image(path)
    decode_pixels(path)
    for zeros in (len(content) // 2, 100):
        path.write_bytes(content[:-zeros] + bytes(zeros))
        for decode in (decode_image, decode_pixels):
            with pytest.raises(CorruptFileError, match="zeros"):
                decode(path)


def text_chunk(kind: bytes, content: bytes, checksum: int | None = None) -> bytes:
    checksum = zlib.crc32(kind + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def test_texts_in_a_png_do_not_stop_it(nascli: Nascli, classifier: str, detector: str) -> None:
    image = draw_noise(1, size=(40, 32))
    image.save("plain.png")
    large = PngImagePlugin.PngInfo()
    large.add_text("notes", "x" * (5 << 20), zip=True)
    large.add_itxt("more", "y" * (5 << 20), zip=True)
    image.save("large.png", pnginfo=large)
    content = Path("plain.png").read_bytes()
    for name, chunk in {
        "profile.png": text_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(9 << 20))),
        "checksum.png": text_chunk(b"tEXt", b"a\0b", 1),
        "broken.png": text_chunk(b"zTXt", b"a\0\0not compressed"),
    }.items():
        Path(name).write_bytes(content[:33] + chunk + content[33:])
    first, *others = see(
        nascli, classifier, detector, ["plain.png", "large.png", "profile.png", "checksum.png", "broken.png"]
    )
    assert all(other == first for other in others)


def test_of_several_frames_the_first_is_taken(nascli: Nascli) -> None:
    def animate(split: str, lists: Lists, folder: Path) -> None:
        for entry, ending in zip(lists["images"], (".gif", ".tif", ".webp", ".png"), strict=False):
            path = folder / entry["file_name"]
            with Image.open(path) as image:
                first, second = image.convert("RGB"), Image.new("RGB", image.size)
            entry["file_name"] = f"moving{entry['id']}{ending}"
            first.save(folder / entry["file_name"], save_all=True, append_images=[second])
            found = np.asarray(decode_image(folder / entry["file_name"])).astype(int)
            assert np.abs(found - np.asarray(first)).mean() < 12

    write_coco(Path("data"), animate)
    checked = nascli("detect check --dataset coco:data --json").json["splits"]
    assert [(each["kind"], each["count"]) for each in checked[0]["issues"]] == [("image of several frames", 4)]


def test_no_thread_lets_a_warning_of_pillow_through(tmp_path: Path) -> None:
    path = with_exif(draw_noise(1), tmp_path / "a.jpg", DAMAGED_EXIF)
    shown: list[object] = []

    def decode() -> None:
        for _ in range(20):
            try:
                decode_image(path)
            except CorruptFileError as error:
                shown.append(error)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(warnings, "showwarning", lambda *words, **more: shown.append(words))
            threads = [threading.Thread(target=decode) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    assert shown == []


def test_what_was_scaled_is_a_remark(nascli: Nascli) -> None:
    def deepen(split: str, lists: Lists, folder: Path) -> None:
        for entry, factor in zip(lists["images"], (1, 16, 257), strict=False):
            path = folder / entry["file_name"]
            with Image.open(path) as image:
                gray = np.asarray(image.convert("L"))
            values = gray / np.float32(255) if factor == 1 else gray.astype(np.uint16) * factor
            entry["file_name"] = path.with_suffix(".tif").name
            Image.fromarray(values).save(path.with_suffix(".tif"))

    write_coco(Path("data"), deepen)
    issues = nascli("detect check --dataset coco:data --json").json["splits"][0]["issues"]
    assert {each["kind"]: each["count"] for each in issues} == {
        "image of 32-bit numbers": 1,
        "16-bit image that uses 12 bits at most": 1,
    }
