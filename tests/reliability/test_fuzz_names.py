"""Names that are trouble, for everything that has a name: shown as they are, escaped, or refused in one line."""

import csv
import json
import os
import random
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.reliability.begun import make_data, make_runs
from tests.reliability.harness import Bench, Rule, Tally
from tests.reliability.nasty import FILE_NAMES, NASTY_NAMES
from tests.reliability.zygote import Zygote

_TINY = "--filters 4 --cells-per-stage 1"
_TRAIN = (
    f"train --cell nasnet-a {_TINY} --epochs 1 --device cpu --set train.threads=1 --batch-size 4 --set data.workers=0"
)


@dataclass(frozen=True)
class _Target:
    """Something that has a name.

    Attributes:
        names: Those that it can have.
        give: Gives the name to it, in a copy.
        commands: They meet the name; `{}` in one stands for it.
    """

    names: tuple[str, ...]
    give: Callable[[Path, str], object]
    commands: tuple[str, ...]


def _name_class(folder: Path, name: str) -> None:
    for split in ("train", "val"):
        (folder / "images" / split / "cat").rename(folder / "images" / split / name)


def _name_image(folder: Path, name: str) -> None:
    image = folder / "images" / "val" / "cat" / "000.png"
    image.rename(image.with_name(f"{name}.png"[-250:]))
    (folder / "images" / "train" / "dog" / name).write_bytes(b"no image")


def _name_category(folder: Path, name: str) -> None:
    for path in (folder / "scenes" / "annotations").iterdir():
        values = json.loads(path.read_text())
        values["categories"][0] |= {"name": name, "supercategory": name}
        path.write_text(json.dumps(values))


def _name_scene(folder: Path, name: str) -> None:
    for path in (folder / "scenes" / "annotations").iterdir():
        values = json.loads(path.read_text())
        values["images"][0]["file_name"] = name
        path.write_text(json.dumps(values))


def _name_cell(folder: Path, name: str) -> None:
    path = folder / "plain" / "network.json"
    values = json.loads(path.read_text())
    (folder / "cell.json").write_text(json.dumps(values["genotype"] | {"name": name}))


def _name_in_table(folder: Path, name: str) -> None:
    with (folder / "table.csv").open("w", newline="", encoding="utf-8", errors="surrogatepass") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "split"])
        for split in ("train", "val"):
            for label in ("cat", "dog"):
                for image in sorted((folder / "images" / split / label).iterdir()):
                    rows.writerow([image.relative_to(folder), name if label == "cat" else label, split])


def _name_dataset(folder: Path, name: str) -> None:
    (folder / "images").rename(folder / name)


def _name_recipe(folder: Path, name: str) -> None:
    (folder / f"{name}.toml"[-250:]).write_text("seed = 3\n")


def _name_run(folder: Path, name: str) -> None:
    (folder / "train").rename(folder / name)


def _leave(folder: Path, name: str) -> None:
    """Give the name by the command alone."""


def _is_argument(name: str) -> bool:
    """Whether a command line can hold it."""
    try:
        return b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        return False


_ARGUMENTS = tuple(name for name in NASTY_NAMES if _is_argument(name))
_TARGETS = {
    "class folder": _Target(
        FILE_NAMES,
        _name_class,
        (
            "data check folder:images --out page",
            "data check folder:images --json",
            "data show folder:images --out shown",
            "data convert folder:images --out new",
            f"{_TRAIN} --dataset folder:images --out run",
            "pack images new.h5 --size 16",
        ),
    ),
    "image": _Target(
        FILE_NAMES,
        _name_image,
        (
            "data check folder:images --out page",
            "evaluate train --predict images/val --json",
            "evaluate train --predict images/train/dog --max-unreadable 3",
            "pack images new.h5 --size 16 --max-unreadable 1",
        ),
    ),
    "category": _Target(
        NASTY_NAMES,
        _name_category,
        (
            "data check coco:scenes --out page",
            "data check coco:scenes --json",
            "data show coco:scenes --out shown",
            "detect score scenes/results.json --dataset coco:scenes",
            "detect score scenes/results.json --dataset coco:scenes --json",
            "data convert coco:scenes --out new",
        ),
    ),
    "scene": _Target(NASTY_NAMES, _name_scene, ("data check coco:scenes", "data convert coco:scenes --out new")),
    "cell": _Target(
        NASTY_NAMES,
        _name_cell,
        (
            f"build --cell cell.json {_TINY} --out new",
            f"build --cell cell.json {_TINY} --json",
            "decode cell.json --draw cell.svg --draw cell.png",
            "decode cell.json --draw cell.dot --draw cell.mmd --out new.json",
            f"{_TRAIN.replace('nasnet-a', 'cell.json')} --dataset folder:images --out run",
        ),
    ),
    "label in a table": _Target(
        NASTY_NAMES, _name_in_table, ("data check csv:table.csv", "data convert csv:table.csv --out new")
    ),
    "data set": _Target(
        FILE_NAMES,
        _name_dataset,
        ("data check {}", "data check folder:{} --json", f"{_TRAIN} --dataset folder:{{}} --out run", "pack {} new.h5"),
    ),
    "recipe": _Target(FILE_NAMES, _name_recipe, (f"{_TRAIN} --dataset folder:images --recipe {{}}.toml --dry-run",)),
    "run": _Target(
        FILE_NAMES,
        _name_run,
        ("runs .", "runs . --json", "status {}", "evaluate {}", "train --resume {}", "build --cell {}", "report {}"),
    ),
    "argument": _Target(
        _ARGUMENTS,
        _leave,
        (
            f"build --cell nasnet-a {_TINY} --out {{}}",
            "build --cell {}",
            "decode {}",
            "decode nasnet-a --name {} --out new.json",
            "decode nasnet-a --draw {}.svg",
            "decode --tokens {}",
            "runs {}",
            "status {}",
            "data check {}",
            "detect score {} --dataset coco:scenes",
            "detect predict {} --run train",
            "evaluate train --predict {}",
            "evaluate train --val-split {}",
            "search --space {} --dry-run",
            "search --constraint {} --dry-run",
            "search --set {} --dry-run",
            "search --set space.name={} --dry-run",
            "train --cell nasnet-a --recipe {} --dry-run",
            "train --cell nasnet-a --device {} --dry-run",
            "pack images {}",
            "{}",
        ),
    ),
}


def _give(target: _Target, name: str, folder: Path) -> None:
    target.give(folder, name)


_RULE = Rule(codes=(1, 2, 3))


def _try_names(bench: Bench, name: str, tries: int, tally: Tally) -> None:
    target = _TARGETS[name]
    draw = random.Random(f"names {name}")
    for number in range(tries):
        text = target.names[number % len(target.names)] if tries >= len(target.names) else draw.choice(target.names)
        command = [word.replace("{}", text) for word in shlex.split(draw.choice(target.commands))]
        bench.attempt(tally, f"try {number}: {name} {ascii(text)[:60]}", partial(_give, target, text), command, _RULE)


def test_some_nasty_names(zygote: Zygote, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    bench, tally = Bench(zygote, make_data(tmp_path / "begun"), tmp_path / "work"), Tally("nasty names, some")
    for name in ("category", "label in a table"):
        _try_names(bench, name, 8, tally)
    tally.check(record_property)


@pytest.mark.slow
@pytest.mark.parametrize("name", _TARGETS)
def test_nasty_names(zygote: Zygote, tmp_path: Path, record_property: Callable[[str, object], None], name: str) -> None:
    begun = make_runs(zygote, make_data(tmp_path / "begun"), "train", "built")
    bench, tally = Bench(zygote, begun, tmp_path / "work"), Tally(f"nasty names: {name}")
    _try_names(bench, name, 2 * len(_TARGETS[name].names), tally)
    tally.check(record_property)
