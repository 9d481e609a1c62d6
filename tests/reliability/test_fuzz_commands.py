"""Command lines drawn from the program's own list of options, with values of any kind: no traceback, no surprise."""

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.processes import ENVIRONMENT
from tests.reliability.begun import make_data, make_runs
from tests.reliability.harness import Bench, Rule, Tally
from tests.reliability.nasty import NASTY_NAMES
from tests.reliability.zygote import Zygote

_REAL = (
    *("images", "scenes", "train", "built", "pack.h5", "pack:pack.h5", "folder:images", "coco:scenes", "digits", "toy"),
    *(
        "scenes/results.json",
        "scenes/annotations/instances_val2017.json",
        "images/val/cat/000.png",
        "plain/network.json",
    ),
    *("nasnet-a", "darts-v2", "resnet-20", "latest", ".", "/dev/null", "/proc/self/mem", "new", "new.h5", "new.svg"),
)
_NUMBERS = (
    "0",
    "1",
    "-1",
    "2",
    "3",
    "1e9",
    "99999999999999999999",
    "0.5",
    "nan",
    "inf",
    "-inf",
    "1" * 5000,
    "0x10",
    "",
)
_SETTINGS = (
    *("train.lr=0.1", "train.lr=nan", "train.lr=[[[[", "train.lr=" + "[" * 5000, "network.filters=100000000", "x=1"),
    *("train.threads=100000000", "train.epochs=-1", "data.workers=9999999", "seed=" + "9" * 5000, "=", "a.b.c.d=1"),
    *("train.lr=1\nseed=3", "train={}", "train.precision='x'", "data.crop_padding=1e9", "data.max_megapixels=0"),
)
_SLOW = {"watch", "gpus", "executor", "compile", "export", "benchmark", "batch", "data_dir", "workers", "resume"}
"""Options that wait, start a cluster, or compile."""

_RULE = Rule(codes=(1, 2, 3, 130))


def _list_commands() -> list[dict[str, Any]]:
    printed = subprocess.run(
        [sys.executable, "-m", "nascli", "--help-json"], capture_output=True, check=True, env=ENVIRONMENT
    ).stdout
    commands = json.loads(printed)["commands"]
    return [each for command in commands for each in command["subcommands"] or [command]]


def _draw_value(option: dict[str, Any], draw: random.Random) -> str:
    pools: list[tuple[str, ...]] = [_REAL, tuple(name for name in NASTY_NAMES if _fits(name))]
    if option["name"] == "set":
        pools = [_SETTINGS, _SETTINGS, *pools]
    elif option["type"] in ("integer", "number"):
        pools = [_NUMBERS, _NUMBERS, *pools]
    elif option["choices"]:
        pools = [tuple(map(str, option["choices"])), *pools]
    else:
        pools = [_REAL, _REAL, *pools, _NUMBERS]
    value = draw.choice(draw.choice(pools))
    return "local" if value == "ray" else value


def _fits(name: str) -> bool:
    try:
        return b"\0" not in name.encode("utf-8", "surrogateescape") and len(name) < 1000
    except UnicodeEncodeError:
        return False


def _draw_line(commands: list[dict[str, Any]], draw: random.Random) -> list[str]:
    command = draw.choice(commands)
    line: list[str] = command["name"].split()
    options = [each for each in command["options"] if each["name"] not in _SLOW]
    for option in options:
        if not option["flags"] and draw.random() < 0.95:
            line += [_draw_value(option, draw)]
        elif option["flags"] and option["required"] and draw.random() < 0.8:
            line += [option["flags"][0], _draw_value(option, draw)]
    named = [each for each in options if each["flags"]]
    for option in draw.sample(named, min(len(named), draw.choice((0, 1, 2, 3, 5)))):
        line += [option["flags"][0]] if option["type"] == "flag" else [option["flags"][0], _draw_value(option, draw)]
    if any(each["name"] == "dry_run" for each in options):
        line += ["--dry-run"]
    if draw.random() < 0.1:
        line.insert(
            draw.randrange(len(line) + 1), draw.choice(("--json", "--debg", "-", "--", "--help", "-x", "--version", ""))
        )
    return line


def _try_lines(bench: Bench, commands: list[dict[str, Any]], seeds: range, tally: Tally) -> None:
    for seed in seeds:
        line = _draw_line(commands, random.Random(f"line {seed}"))
        bench.attempt(tally, f"seed {seed}", lambda folder: None, line, _RULE)


def test_some_command_lines(zygote: Zygote, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    bench, tally = Bench(zygote, make_data(tmp_path / "begun"), tmp_path / "work"), Tally("command lines, some")
    quick = [each for each in _list_commands() if all(option["name"] != "dry_run" for option in each["options"])]
    _try_lines(bench, quick, range(12), tally)
    tally.check(record_property)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_command_lines(
    zygote: Zygote, tmp_path: Path, record_property: Callable[[str, object], None], part: int
) -> None:
    begun = make_runs(zygote, make_data(tmp_path / "begun"), "train", "built", "pack")
    bench, tally = Bench(zygote, begun, tmp_path / "work"), Tally(f"command lines: {part}")
    _try_lines(bench, _list_commands(), range(100 + 150 * part, 250 + 150 * part), tally)
    tally.check(record_property)
