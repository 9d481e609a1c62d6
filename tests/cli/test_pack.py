"""`nascli pack` as a user calls it: a folder in, one file out, whatever happens on the way."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nascli.data.pack.format import open_pack
from tests.cli.program import SETTINGS, Nascli


def test_a_folder_becomes_one_file(nascli: Nascli) -> None:
    ran = nascli("pack images packs/images.h5")
    assert ran.code == 0, ran.err
    assert "training images" in ran.out
    assert "written: packs/images.h5" in ran.out
    assert "packing: 7 of 78 images" in ran.err
    assert ran.next == ["nascli train --cell nasnet-a --dataset pack:packs/images.h5"]
    assert [path.name for path in Path("packs").iterdir()] == ["images.h5"]
    made = nascli("pack images other.h5 --workers 1 --json").json
    assert made == {
        "path": "other.h5",
        "train_images": 60,
        "val_images": 18,
        "classes": 3,
        "bytes": Path("other.h5").stat().st_size,
        "skipped": [],
        "val_name": "val",
        "issues": [],
    }
    assert Path("other.h5").read_bytes() == Path("packs/images.h5").read_bytes()


def test_size_and_quality_reach_the_pack(nascli: Nascli) -> None:
    Image.new("RGB", (60, 40)).save("images/train/cat/00.png")
    assert nascli("pack images small.h5 --size 16 --quality 50").code == 0
    settings = open_pack(Path("small.h5")).settings
    assert (settings["size"], settings["quality"]) == (16, 50)


def test_an_existing_file_is_replaced_only_when_told_to(nascli: Nascli) -> None:
    Path("mine.h5").write_text("precious")
    ran = nascli("pack images mine.h5")
    assert ran.code == 2
    assert "mine.h5 exists. Replace it with --overwrite, or give another name" in ran.err
    assert Path("mine.h5").read_text() == "precious"
    assert nascli("pack images mine.h5 --overwrite").code == 0
    assert open_pack(Path("mine.h5")).class_names == ("cat", "cow", "dog")


def test_bad_images_are_named_and_left_out_up_to_a_number(nascli: Nascli) -> None:
    for name in ("train/cow/03.png", "val/dog/01.png"):
        path = Path("images", name)
        path.write_bytes(path.read_bytes()[:50])
    ran = nascli("pack images p.h5")
    assert ran.code == 1
    assert "error: image images/train/cow/03.png cannot be decoded: " in ran.err
    ran = nascli("pack images p.h5 --max-unreadable 1")
    assert ran.code == 1
    assert "2 images cannot be decoded, 1 may be skipped: images/train/cow/03.png, images/val/dog/01.png" in ran.err
    assert not Path("p.h5").exists()
    ran = nascli("pack images p.h5 --max-unreadable 2 --json")
    assert ran.code == 0
    assert ran.json["skipped"] == ["images/train/cow/03.png", "images/val/dog/01.png"]
    assert "warning: image images/val/dog/01.png cannot be decoded: " in ran.err


@pytest.mark.parametrize(
    ("options", "code", "phrase"),
    [
        ("gone p.h5", 2, "gone: no such folder"),
        ("images/train p.h5", 2, "val lies beside it"),
        ("images", 2, "FILE"),
        ("images p.h5 --size 4", 2, "--size"),
        ("images p.h5 --quality 101", 2, "--quality"),
        ("images images", 2, "images is a folder"),
        ("images cell.json/p.h5", 1, "cell.json/p.h5 cannot be written"),
    ],
)
def test_wrong_usage_is_explained(nascli: Nascli, options: str, code: int, phrase: str) -> None:
    ran = nascli(f"pack {options}")
    assert ran.code == code, ran.err
    assert phrase in ran.err
    assert "Traceback" not in ran.err
    assert not Path("p.h5").exists()


def write_large(folder: Path) -> None:
    """Images that take some milliseconds each."""
    noise = np.random.default_rng(0)
    for part, count in (("train", 40), ("val", 10)):
        for name in ("cat", "dog"):
            (folder / part / name).mkdir(parents=True)
            for k in range(count):
                pixels = noise.integers(0, 256, (300, 400, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{k}.png", compress_level=0)


def shard_bytes(partial: Path) -> int:
    return sum(shard.stat().st_size for shard in partial.glob("*.npz"))


def end_by(number: signal.Signals, line: str, partial: Path, size: int) -> int:
    """The exit code of a command that is sent a signal when the shards in a folder have more bytes than `size`."""
    command = [sys.executable, "-c", "from nascli.cli.app import main; main()", *shlex.split(line)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"}) as process:
        deadline = time.monotonic() + 120
        while shard_bytes(partial) <= size:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.001)
        process.send_signal(number)
        process.communicate()
    return process.returncode


def test_killed_and_terminated_and_given_again_it_makes_the_same_file(nascli: Nascli) -> None:
    write_large(Path("large"))
    assert nascli("pack large whole.h5 --size 200").code == 0
    partial, line = Path("parts.h5.partial"), "pack large parts.h5 --size 200 --workers 1"
    assert end_by(signal.SIGKILL, line, partial, 100_000) == -signal.SIGKILL
    assert end_by(signal.SIGTERM, line, partial, shard_bytes(partial) + 100_000) == 130
    assert not Path("parts.h5").exists()
    ran = nascli(line)
    assert ran.code == 0
    assert "resumes from parts.h5.partial: " in ran.err
    assert Path("parts.h5").read_bytes() == Path("whole.h5").read_bytes()
    assert not partial.exists()


TRAIN = f"train --cell cell.json --dataset pack:images.h5 {SETTINGS} --set train.epochs=1"


def test_a_network_is_trained_and_measured_on_a_pack_in_memory(nascli: Nascli) -> None:
    assert nascli("pack images images.h5").code == 0
    ran = nascli(f"{TRAIN} --json")
    assert ran.code == 0, ran.err
    assert ran.json["dataset"] == "pack:images.h5"
    assert "images.h5-tiny" in ran.json["run"]
    assert "pack" not in Path(ran.json["run"]).name
    assert nascli("evaluate latest --json").json["top1"] == ran.json["top1"]
    assert nascli("evaluate latest --dataset folder:images --json").code == 0


def test_a_network_is_trained_on_a_streamed_pack_and_a_damaged_image_is_named(nascli: Nascli) -> None:
    Image.new("RGB", (30, 20)).save("images/train/cat/00.png")  # of another size: it does not lie in memory
    assert nascli("pack images images.h5").code == 0
    streamed = f"{TRAIN} --image-size 8 --batch-size 20 --set data.workers=1"
    assert nascli(f"{streamed} --out run").code == 0
    path = Path("images.h5")
    pack, content = open_pack(path), bytearray(path.read_bytes())
    content[pack.train.start + int(pack.train.offsets[30]) + 9] ^= 1
    path.write_bytes(content)
    ran = nascli(f"{streamed} --out stopped")
    assert ran.code == 1
    assert "image train/cow/10.png in images.h5 is damaged" in ran.err
    assert json.loads(Path("stopped/run.json").read_text())["status"] == "failed"


def test_a_run_that_a_bad_image_stopped_goes_on_with_a_higher_limit(
    nascli: Nascli, caplog: pytest.LogCaptureFixture
) -> None:
    Image.new("RGB", (30, 20)).save("images/train/cat/00.png")
    Path("images/val/dog/03.png").write_bytes(b"poison")
    line = TRAIN.replace("pack:images.h5", "folder:images") + " --image-size 8 --set data.workers=0"
    ran = nascli(f"{line} --out run")
    assert ran.code == 1
    assert "image images/val/dog/03.png cannot be decoded: it is not an image" in ran.err
    assert "--set data.max_unreadable_images=N" in ran.err
    recipe = Path("run/recipe.toml")
    recipe.write_text(recipe.read_text().replace("max_unreadable_images = 0", "max_unreadable_images = 1"))
    ran = nascli("train --resume run --json")
    assert ran.code == 0, ran.err
    assert ran.json["images"] == 17  # of 18
    assert [text for text in caplog.messages if "val/dog/03.png" in text] == [
        "warning: image images/val/dog/03.png cannot be decoded: it is not an image but a text that begins "
        "with 'poison'; it is skipped (1 of 1 allowed)"
    ]
    assert nascli(f"{line} --set data.max_unreadable_images=1 --out again --json").json["loss"] == ran.json["loss"]
