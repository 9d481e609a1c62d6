"""Folders that links lead around in, files that are none, and images made to exhaust a decoder: one line, at once."""

import io
import os
import resource
import struct
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from PIL import Image

from nascli.data.folders.folder import scan_folder
from nascli.data.images.decoding import decode_image, decode_pixels, inspect_headers, read_size
from nascli.errors import CorruptFileError, TooLargeError
from tests.classify.small_training import GENOTYPE
from tests.cli.program import Nascli
from tests.front_door.made import quote, write_classes, write_coco
from tests.reliability.bounded import bounded, put_in_place

DRY = "--cell nasnet-a --filters 4 --cells-per-stage 1 --device cpu --set train.threads=1 --dry-run"


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png(width: int, height: int, extra: bytes = b"", pixels: bytes | None = None) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes((1 + 3 * width) * height)) if pixels is None else pixels
    chunks = _chunk(b"IHDR", header) + extra + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def _gif(width: int, height: int, frames: int) -> bytes:
    frame = b",\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff" + frame * frames + b";"


def _tiff(width: int, height: int) -> bytes:
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, height), (279, 8)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 16) + bytes(8) + struct.pack("<H", len(tags)) + entries + bytes(4)


def _jpeg(size: int, **options: bool) -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (size, size), "orange").save(written, "JPEG", **options)
    return written.getvalue()


def _repeat_scans(content: bytes, times: int) -> bytes:
    start, end = content.rindex(b"\xff\xda"), content.rindex(b"\xff\xd9")
    return content[:end] + content[start:end] * times + content[end:]


BLANKS = zlib.compress(b" " * (64 << 20), 9)
TOO_LARGE: dict[str, Callable[[], bytes]] = {
    "a.png": lambda: _png(50_000, 50_000, pixels=b""),
    "b.png": lambda: _png(2**31 - 1, 2**31 - 1, pixels=b""),
    "a.gif": lambda: _gif(50_000, 50_000, 1),
    "a.tif": lambda: _tiff(50_000, 50_000),
    "a.bmp": lambda: b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 50_000, 50_000, 1, 24, *[0] * 6),
    "a.webp": lambda: b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff" * 6,
    "a.qoi": lambda: b"qoif" + struct.pack(">IIBB", 50_000, 50_000, 3, 0) + b"\xfd" * 100,
}
REFUSED: dict[str, Callable[[], bytes]] = {
    "header.jpg": lambda: _jpeg(32)[:2] + (b"\xff\xe1\xff\xffExif\0\0" + bytes(65_527)) * 400 + _jpeg(32)[2:],
    "passes.jpg": lambda: _repeat_scans(_jpeg(2000, progressive=True), 1000),
    "comment.ppm": lambda: b"P6\n#" + b"x" * (4 << 20) + b"\n1 1\n255\nabc",
    "digits.ppm": lambda: b"P6 " + b"9" * 10_000 + b" 1 255 abc",
    "program.png": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(/tmp/x) run showpage\n",
    "claim.png": lambda: _png(8, 8)[:33] + struct.pack(">I", 2**31 - 1) + b"tEXtabc",
}
DECODED: dict[str, Callable[[], bytes]] = {
    "text.png": lambda: _png(8, 8, _chunk(b"zTXt", b"Comment\0\0" + BLANKS)),
    "profile.png": lambda: _png(8, 8, _chunk(b"iCCP", b"x\0\0" + BLANKS)),
    "pixels.png": lambda: _png(8, 8, pixels=zlib.compress(bytes(64 << 20), 9)),
    "frames.gif": lambda: _gif(8, 8, 100_000),
    "frames.png": lambda: _png(8, 8, _chunk(b"acTL", struct.pack(">II", 100_000, 0))),
    "exif.png": lambda: _png(8, 8, _chunk(b"eXIf", b"II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x03\0\xff\xff\xff\xff" * 9)),
}


@pytest.mark.parametrize("name", TOO_LARGE | REFUSED)
def test_an_image_made_to_exhaust_a_decoder_is_refused_before_its_pixels_are(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes((TOO_LARGE | REFUSED)[name]())
    for decode in (decode_image, decode_pixels):
        with bounded(10, 300), pytest.raises(CorruptFileError) as refused:
            decode(path)
        assert refused.value.file == str(path)
        if name != "a.webp":  # Pillow before 12 gives up on it without a size
            assert isinstance(refused.value, TooLargeError) == (name in TOO_LARGE)
        assert "DOS" not in str(refused.value)
    with bounded(10, 300):
        inspect_headers([path])


@pytest.mark.parametrize("name", DECODED)
def test_what_is_large_beside_the_pixels_keeps_no_image_from_being_decoded(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(DECODED[name]())
    with bounded(10, 300):
        assert decode_image(path).size == (8, 8)
        assert decode_pixels(path).shape == (8, 8, 3)
        inspect_headers([path])


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif"])
def test_zeros_of_a_terabyte_behind_an_image_are_not_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes({"a.png": _png(8, 8), "a.jpg": _jpeg(8), "a.gif": _gif(8, 8, 1)}[name])
    os.truncate(path, 1 << 40)
    for read in (decode_image, decode_pixels, read_size):
        # whether a PNG or JPEG was written over by zeros, cannot be told without reading them: it counts as damaged
        expected = nullcontext() if name == "a.gif" else pytest.raises(CorruptFileError, match="zeros")
        with bounded(10, 300), expected:
            read(path)


KINDS = ["pipe", "/dev/zero", "/dev/random", "/dev/stdin", "/proc/self/mem", "nowhere", "loop"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_under_the_name_of_an_image_is_said_at_once(kind: str, tmp_path: Path, nascli: Nascli) -> None:
    data = write_classes(tmp_path / "data", counts=(2, 1))
    odd = put_in_place(data / "train" / "cat" / "zz.png", kind)
    commands = [f"data check folder:{data}", f"train {DRY} --dataset folder:{data}", f"pack {data} {tmp_path / 'p.h5'}"]
    commands += [f"data convert folder:{data} {tmp_path / 'c'} --copy", f"evaluate x --predict {odd}"]
    for line in commands:
        with bounded():
            ran = nascli(line)
        # a pipe in a folder is passed over, and said; a link is somebody's image that cannot be read
        assert ran.code in ((0, 3) if kind == "pipe" and "predict" not in line else (1, 2)), line
        assert "zz.png" in ran.err + ran.out or "predict" in line
        assert "did not expect" not in ran.err


@pytest.mark.parametrize("kind", [*KINDS, "folder"])
def test_what_is_no_file_under_the_name_of_an_annotated_image(kind: str, tmp_path: Path, nascli: Nascli) -> None:
    data = write_coco(tmp_path / "data")
    odd = put_in_place(data / "train2017" / "000001.png", kind)
    for line in (
        f"detect check --dataset coco:{data}",
        f"data check coco:{data}",
        f"data convert coco:{data} {tmp_path / 'c'}",
        f"detect show --dataset coco:{data} --out {tmp_path / 's'} --overwrite",
        f"detect train {DRY} --set detector.freeze_batch_norm=false --dataset coco:{data}",
    ):
        with bounded():
            ran = nascli(line)
        assert ran.code in (1, 2), line
        assert odd.name in ran.out + ran.err
        assert "did not expect" not in ran.err


def test_each_folder_is_counted_once_however_many_links_lead_to_it(tmp_path: Path, nascli: Nascli) -> None:
    data = write_classes(tmp_path / "data")
    cat = data / "train" / "cat"
    for name, target in {"self": ".", "up": "..", "root": "/", "data": str(data), "above": "../../.."}.items():
        (cat / name).symlink_to(target)
    for k in range(8):  # every path through these would be 8 ** 40 images
        (cat / f"again{k}").symlink_to(".")
    for one, other in ("ab", "ba"):
        (cat / one).mkdir()
        (cat / one / "there").symlink_to(f"../{other}")
    (data / "train" / "kitty").symlink_to("cat")
    with bounded():
        index = scan_folder(data)
    assert len(index.train) == 12
    assert index.class_names == ("cat", "dog")
    counts = {issue.kind: issue.count for issue in index.issues}
    assert counts["folder that links lead to again"] >= 11
    assert counts["link to a folder above"] == 2
    with bounded():
        ran = nascli(f"data check {data} --json")
    assert ran.code == 3
    assert ran.json["splits"][0]["images"] == 12


@pytest.mark.parametrize("place", ["images/train", "images", "labels", ""])
def test_a_yolo_folder_with_links_to_the_whole_disk_is_read_at_once(place: str, tmp_path: Path, nascli: Nascli) -> None:
    for split in ("train", "val"):
        for k in range(2):
            image, label = tmp_path / "images" / split / f"{k}.png", tmp_path / "labels" / split / f"{k}.txt"
            image.parent.mkdir(parents=True, exist_ok=True)
            label.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8 + k, 8)).save(image)
            label.write_text("0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cat]\n")
    (tmp_path / place / "disk").symlink_to("/")
    (tmp_path / place / "self").symlink_to(".")
    with bounded():
        ran = nascli(f"data check {quote(tmp_path)} --json")
    assert ran.code in (0, 3)
    assert [each["images"] for each in ran.json["splits"]] == [2, 2]


def test_too_many_open_files_are_no_fault_of_an_image(tmp_path: Path, nascli: Nascli) -> None:
    data = write_classes(tmp_path / "data", counts=(2, 1))
    cell = tmp_path / "cell.json"
    cell.write_text(GENOTYPE.to_json())
    commands = [
        f"data check {quote(data)}",
        f"pack {quote(data)} {quote(tmp_path / 'p.h5')}",
        f"decode {quote(cell)}",
        f"runs {quote(tmp_path)}",
    ]
    for line in commands:  # imports open files
        nascli(line.replace("p.h5", "other.h5"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with (tmp_path / "next").open("w") as file:
        resource.setrlimit(resource.RLIMIT_NOFILE, (file.fileno() + 1, hard))
        try:
            for decode in (decode_image, decode_pixels, read_size):
                with pytest.raises(OSError, match="Too many open files"):
                    decode(data / "train" / "cat" / "000.png")
            ran = [nascli(line) for line in commands]
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for each in ran[:2]:
        assert each.code == 1
        assert "ulimit -n" in each.err
    assert not any("did not expect" in each.err for each in ran), [each.err for each in ran]
