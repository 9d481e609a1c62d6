"""Every field of every JSON that is read, with a value of any kind in it: one line of error, or no consequence."""

import copy
import json
import random
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nascli.records import CHECKSUM, format_line, sha256_json
from tests.reliability.begun import make_data, make_runs
from tests.reliability.harness import Bench, Rule, Tally, write_at
from tests.reliability.zygote import Zygote

_DEEP, _HUGE, _NAN, _INFINITE = "<deep>", "<huge>", "<nan>", "<infinite>"
_WRITTEN = {_DEEP: "[" * 30_000 + "]" * 30_000, _HUGE: "1" + "0" * 6_000, _NAN: "NaN", _INFINITE: "-1e999"}
"""What Python's JSON does not write, put in place of a mark."""

_ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3.7, -0.0, 1e308, 10**30, _DEEP, _HUGE, _NAN, _INFINITE),
    *("", " ", "x", "nan", "1", "1e5", "\ud800", "\0", "\x1b[31m", "../../x", "/dev/zero", "x" * 100_000),
    *([], [[]], [None], [1] * 1000, ["x"], {}, {"a": 1}, {"": None}, {"\ud800": 1}, [{"id": {}}], [[[[1]]]]),
)

_SCORE = "detect score scenes/results.json --dataset coco:scenes --json"
_FILES: dict[str, tuple[str, ...]] = {
    "train/run.json": (
        "train --resume train",
        "runs .",
        "evaluate train --out page",
        "status train",
        "build --cell train",
    ),
    "train/network.json": ("evaluate train --out page", "build --cell train/network.json", "train --resume train"),
    "train/metrics.jsonl": ("train --resume train", "status train", "runs ."),
    "train/progress.json": ("status train", "status train --json", "runs ."),
    "train/evaluation.json": ("runs .", "evaluate train"),
    "built/network.json": ("build --cell built/network.json", "evaluate built --dataset folder:images"),
    "detect/run.json": ("detect --resume detect", "runs .", "detect predict scenes/val2017 --run detect"),
    "detect/detector.json": ("detect predict scenes/val2017 --run detect --json", "detect --resume detect"),
    "detect/network.json": ("detect predict scenes/val2017 --run detect --json",),
    "detect/detection.json": ("runs .", "detect --resume detect"),
    "detect/results.json": ("detect score detect/results.json --dataset coco:scenes",),
    "search/run.json": ("report search", "search --resume search", "runs .", "decode search", "build --cell search"),
    "search/best.json": ("build --cell search/best.json", "decode search/best.json", "build --cell search"),
    "search/top/01.json": ("build --cell search/top/01.json", "decode search/top/01.json --to darts", "report search"),
    "search/curves.json": ("report search", "search --resume search"),
    "search/trials.jsonl": (
        "report search",
        "search --resume search",
        "decode search --trial 1",
        "runs .",
        "status search",
    ),
    "search/progress.json": ("status search", "runs ."),
    "scenes/annotations/instances_val2017.json": ("data check coco:scenes --json", "data check scenes", _SCORE),
    "scenes/annotations/instances_train2017.json": ("data check coco:scenes", "data split coco:scenes --out new"),
    "scenes/results.json": (_SCORE,),
    "shown/metadata.jsonl": ("data check folder:shown --json", "data check shown", "data convert shown --out new"),
}
_PARTS: dict[str, tuple[str, ...]] = {"built": ("train", "built"), "scenes": (), "shown": ()}
_RULE = Rule(codes=(1, 2, 3))


def place_odd_value(values: Any, draw: random.Random) -> tuple[str, Any]:  # noqa: ANN401 - any JSON
    """The values with one field odd, gone or new; and which."""
    values = copy.deepcopy(values)
    path: list[Any] = []
    at = values
    while True:
        keys: list[Any] = list(at) if isinstance(at, dict) else list(range(len(at)))
        if not keys:
            return f"{path} stays empty", values
        key = draw.choice(keys)
        path.append(key)
        if not isinstance(at[key], dict | list) or not at[key] or draw.random() < 0.3:
            break
        at = at[key]
    chance = draw.random()
    if chance < 0.1:
        del at[key]
        return f"{path} removed", values
    odd = draw.choice(_ODD)
    if chance < 0.2 and isinstance(at, dict):
        at["new"] = odd
        return f"{path[:-1]} + new: {ascii(odd)[:40]}", values
    at[key] = odd
    return f"{path} = {ascii(odd)[:40]}", values


def _write(values: Any) -> bytes:  # noqa: ANN401 - any JSON
    text = json.dumps(values, indent=1)
    for mark, written in _WRITTEN.items():
        text = text.replace(json.dumps(mark), written)
    return text.encode()


def _change(content: bytes, name: str, draw: random.Random, *, renew: bool) -> tuple[str, bytes]:
    """The content of a JSON file with one odd field, and its checksum made to fit again."""
    if name.endswith(".jsonl"):
        lines = content.splitlines(keepends=True)
        number = draw.randrange(len(lines))
        what, values = place_odd_value(json.loads(lines[number]), draw)
        crc = values.pop("crc", None) if isinstance(values, dict) else None
        line = _write(values).replace(b"\n", b" ") + b"\n"
        if crc is not None and renew and not any(written.encode() in line for written in _WRITTEN.values()):
            line = format_line(values)
        lines[number] = line
        return f"line {number + 1}: {what}", b"".join(lines)
    values = json.loads(content)
    checksum = values.pop(CHECKSUM, None) if isinstance(values, dict) else None
    what, values = place_odd_value(values, draw)
    if checksum is not None:
        plain = json.loads(json.dumps(values))
        values = {**values, CHECKSUM: sha256_json(plain) if renew else checksum}
    return what, _write(values)


def _try_fields(bench: Bench, names: list[str], seeds: range, tally: Tally) -> None:
    for seed in seeds:
        draw = random.Random(f"fields {seed}")
        name = names[seed % len(names)]
        path = bench.begun / name
        renew = draw.random() < 0.8
        what, content = _change(path.read_bytes(), name, draw, renew=renew)
        command = shlex.split(draw.choice(_FILES[name]))
        story = f"seed {seed}: {name}: {what}, checksum {'renewed' if renew else 'left'}"
        bench.attempt(tally, story, write_at(name, content), command, _RULE, name)


def make_shown(folder: Path) -> None:
    """`shown/`: images with `metadata.jsonl`."""
    rows = []
    for path in sorted((folder / "images" / "train").rglob("*.png")):
        name = f"{path.parent.name}-{path.name}"
        (folder / "shown").mkdir(exist_ok=True)
        (folder / "shown" / name).write_bytes(path.read_bytes())
        rows.append(json.dumps({"file_name": name, "label": path.parent.name}))
    (folder / "shown" / "metadata.jsonl").write_text("\n".join(rows) + "\n")


def test_some_odd_fields(zygote: Zygote, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    folder = make_data(tmp_path / "begun")
    make_shown(folder)
    bench, tally = Bench(zygote, folder, tmp_path / "work", ["images"]), Tally("odd fields, some")
    _try_fields(bench, [name for name in _FILES if name.startswith(("scenes", "shown"))], range(12), tally)
    tally.check(record_property)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["train", "built", "detect", "search", "scenes", "shown"])
def test_odd_fields(zygote: Zygote, tmp_path: Path, record_property: Callable[[str, object], None], part: str) -> None:
    folder = make_data(tmp_path / "begun")
    make_shown(folder)
    make_runs(zygote, folder, *_PARTS.get(part, (part,)))
    linked = [] if part == "scenes" else ["images", "scenes"]
    bench, tally = Bench(zygote, folder, tmp_path / "work", linked), Tally(f"odd fields: {part}")
    _try_fields(bench, [name for name in _FILES if name.startswith(part + "/")], range(150), tally)
    tally.check(record_property)
