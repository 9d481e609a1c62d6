"""Every file of a run, damaged as disks and copies do it: found, or without consequence; never another result."""

import random
import shlex
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.reliability.begun import DATA, SEARCH, make_data, make_runs
from tests.reliability.harness import Bench, Rule, Tally, damage, write_at
from tests.reliability.zygote import Zygote

_RULE = Rule(same=True, named=True)


@dataclass(frozen=True)
class _Kind:
    """Files, and the commands that read them.

    Attributes:
        part: What is made to be damaged.
        files: Patterns of the files that are damaged.
        commands: Each with what it leaves out of 10 tries, by its cost.
        tries: Tries in the slow tier.
    """

    part: str
    files: tuple[str, ...]
    commands: tuple[str, ...]
    tries: int
    half: bool = False


_LIST = ("runs . --json",)
_KINDS = {
    "train": _Kind(
        "train",
        ("train/*",),
        (
            "evaluate train --out page --json",
            "train --resume train --json",
            "build --cell train --json",
            "evaluate train --predict images/val/cat --json",
            *_LIST,
            "status train",
        ),
        150,
    ),
    "train, killed": _Kind("train", ("train-half/*",), ("train --resume train-half --json",), 100, half=True),
    "detect": _Kind(
        "detect",
        ("detect/*",),
        (
            "detect predict scenes/val2017 --run detect --out page --json",
            "detect --resume detect --json",
            "detect score detect/results.json --dataset coco:scenes --json",
            *_LIST,
        ),
        100,
    ),
    "detect, killed": _Kind("detect", ("detect-half/*",), ("detect --resume detect-half --json",), 60, half=True),
    "search": _Kind(
        "search",
        ("search/*", "search/top/*"),
        (
            "report search --out page --json",
            "search --resume search --json",
            "decode search --json",
            "decode search --trial 1 --json",
            "build --cell search --json",
            *_LIST,
        ),
        150,
    ),
    "search, killed": _Kind("search", ("search-half/*",), ("search --resume search-half --json",), 25, half=True),
    "table": _Kind("search", ("cells.h5",), (f"{SEARCH} --evaluator table:cells.h5 --out run --json",), 12),
    "pack": _Kind(
        "pack",
        ("pack.h5",),
        (
            "data check pack:pack.h5 --json",
            "train --cell nasnet-a --filters 4 --cells-per-stage 1 --epochs 1 --device cpu --set train.threads=1 "
            "--batch-size 4 --set data.workers=0 --dataset pack:pack.h5 --out run --json",
        ),
        120,
    ),
    "pack, killed": _Kind(
        "pack", ("half.h5.partial/*",), ("pack images half.h5 --size 16 --workers 1 --json",), 80, True
    ),
}


@pytest.fixture(scope="module")
def bench(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, bool], Bench]:
    """The bench of a part, made once."""
    made: dict[tuple[str, bool], Bench] = {}

    def make(part: str, half: bool) -> Bench:
        if (part, half) not in made:
            begun = make_runs(zygote, make_data(tmp_path_factory.mktemp("begun")), part, half=half)
            made[part, half] = Bench(zygote, begun, tmp_path_factory.mktemp("work"), DATA)
        return made[part, half]

    return make


def _damage(kind: _Kind, name: str, bench: Bench, tries: int, tally: Tally) -> None:
    for seed in range(tries):
        draw = random.Random(f"{name} {seed}")
        paths = sorted({path for pattern in kind.files for path in bench.begun.glob(pattern) if path.is_file()})
        paths = [path for path in paths if path.name != ".lock"]
        path = draw.choice(paths)
        others = [other.read_bytes() for other in paths if other != path]
        what, content = damage(path.read_bytes(), others, draw)
        file = str(path.relative_to(bench.begun))
        command = shlex.split(draw.choice(kind.commands))
        bench.attempt(tally, f"{name}, seed {seed}: {file}: {what}", write_at(file, content), command, _RULE, file)


@pytest.mark.parametrize(("name", "tries"), [("train", 6), ("pack", 6)])
def test_some_damaged_files(
    bench: Callable[[str, bool], Bench], record_property: Callable[[str, object], None], name: str, tries: int
) -> None:
    kind, tally = _KINDS[name], Tally(f"damaged: {name}, some")
    _damage(kind, name, bench(kind.part, kind.half), tries, tally)
    tally.check(record_property)


@pytest.mark.slow
@pytest.mark.parametrize("name", _KINDS)
def test_damaged_files(
    bench: Callable[[str, bool], Bench], record_property: Callable[[str, object], None], name: str
) -> None:
    kind, tally = _KINDS[name], Tally(f"damaged: {name}")
    _damage(kind, name, bench(kind.part, kind.half), kind.tries, tally)
    tally.check(record_property)
