"""The first use of the README: a YOLO export, from the archive to drawn boxes, by its own lines."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

import nascli as package
from tests.cli.program import Nascli
from tests.front_door.exports import write_yolo

README = (Path(package.__file__).parents[1] / "README.md").read_text(encoding="utf-8")
SMALL = (
    "--filters 4 --epochs 1 --batch-size 2 --device cpu --set train.threads=1 --set train.warmup_steps=1 "
    "--set detector.min_size=64 --set detector.max_size=64 --set detector.rpn_post_nms_top_n=20"
)


def test_from_unzip_to_a_drawn_prediction_in_three_commands(nascli: Nascli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NASCLI_RUNS")
    block = next(each for each in re.findall(r"```bash\n(.*?)```", README, re.DOTALL) if each.startswith("unzip"))
    unpack, train, predict = (line.partition(" #")[0] for line in block.splitlines())
    made = write_yolo(Path("made"))
    (made / "README.dataset.txt").write_text("Exported by a service.\n")
    (made / "__MACOSX" / "train").mkdir(parents=True)
    (made / "__MACOSX" / "train" / "._train-0.jpg").write_bytes(b"\0\5\26\7")
    shutil.make_archive("export", "zip", made)

    _, archive, _, folder = shlex.split(unpack)
    shutil.unpack_archive(archive, folder)
    assert nascli(f"{train.removeprefix('nascli ')} {SMALL}").code == 0
    assert nascli(f"{predict.removeprefix('nascli ')} --threshold 0 --device cpu").code == 0

    (found,) = Path("runs/detect/latest").rglob("predictions.json")
    images = json.loads(found.read_text(encoding="utf-8"))["images"]
    assert [Path(image["file"]).name for image in images] == ["valid-0.jpg", "valid-1.jpg"]
    assert all(len(image["detections"]) for image in images)
    assert len([*found.parent.glob("*.jpg")]) == 2
