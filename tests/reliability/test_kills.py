"""A kill loses nothing: whatever the moment, the documented command ends with the files of a run that nobody killed."""

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.front_door.made import DETECT, TRAIN, write_classes, write_coco
from tests.reliability.killed import Count, Killer
from tests.reliability.rehearsal import Scenario, resume_run_of
from tests.reliability.zygote import Zygote

_SEARCH = (
    "search --recipe digits --dataset folder:images --device cpu --workers {workers} --filters 2 --epochs 2 "
    "--set train.batch_size=4 --set search.holdout=0.3 --trials {trials} --strategy {strategy} --out run"
)
_TRAIN = (
    f"{TRAIN} --dataset folder:images --out run --epochs 3 --set train.checkpoint_steps=2 --set train.ema_decay=0.8 "
    "--set data.flip=true --set train.drop_path_prob=0.3"
)
_DETECT = f"{DETECT} --dataset coco:scenes --out run --epochs 2 --set train.checkpoint_steps=1"
_PACK = "pack images pack.h5 --size 16 --workers 2"


def _run(name: str, line: str, *before: str) -> Scenario:
    command = tuple(shlex.split(line))
    first = command[0]
    return Scenario(name, command, "run", _split(before), resume_run_of(command, first, "run"))


def _repeat(name: str, line: str, out: str, *before: str) -> Scenario:
    return Scenario(name, tuple(shlex.split(line)), out, _split(before))


def _pack_again(folder: Path) -> tuple[str, ...]:
    command = tuple(shlex.split(_PACK))
    ended = (folder / "pack.h5").exists() and not (folder / "pack.h5.partial").exists()
    return (*command, "--overwrite") if ended else command


def _split(lines: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(shlex.split(line)) for line in lines)


def _search(name: str, strategy: str = "", *, workers: int = 2, trials: int = 6, more: str = "") -> Scenario:
    line = _SEARCH.format(strategy=strategy or name, workers=workers, trials=trials)
    return _run(f"search {name}", f"{line} {more}")


_SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        _run("train", _TRAIN),
        _repeat("train --overwrite", f"{_TRAIN} --overwrite", "run", f"{_TRAIN} --seed 5"),
        _run("detect", _DETECT),
        _repeat("detect --overwrite", f"{_DETECT} --overwrite", "run", f"{_DETECT} --seed 5"),
        _search("evolution", more="--set evolution.population=3 --set evolution.sample=2"),
        _search("evolution, one worker", "evolution", workers=1, trials=3, more="--evaluator params"),
        _search("ppo"),
        _search("bayesian", trials=5, more="--set bayesian.n_startup_trials=2"),
        Scenario("pack", tuple(shlex.split(_PACK)), "pack.h5", resume=_pack_again),
        _repeat("pack --overwrite", f"{_PACK} --overwrite", "pack.h5", _PACK.replace("16", "12")),
        _repeat("evaluate", "evaluate run", "run", _TRAIN),
        _repeat("detect predict", "detect predict scenes/val2017 --run run", "run", _DETECT),
        _repeat("report", "report run", "run", _SEARCH.format(strategy="random", workers=2, trials=3)),
        _run(
            "search halving",
            _SEARCH.format(strategy="random", workers=2, trials=6)
            + " --set halving.rungs=[1] --set halving.restart=false",
        ),
    )
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`images/` of two classes, `scenes/` with boxes."""
    folder = tmp_path_factory.mktemp("data")
    write_classes(folder / "images", counts=(8, 4))
    write_coco(folder / "scenes")
    return folder


def _kill(zygote: Zygote, name: str, data: Path, work: Path, goal: int) -> Count:
    killer, count = Killer(zygote, _SCENARIOS[name], data, work / "kills"), Count()
    for seed in range(4 * goal):
        if count.kills >= goal:
            break
        killer.run_chain(seed, count)
    return count


def _check(name: str, count: Count, goal: int, record: Callable[[str, object], None]) -> None:
    summary = f"{name}: {count.kills} kills, {count.resumes} resumed, {count.equal} chains equal"
    record("tries", {"name": f"kills: {summary}", "tries": count.kills, "held": count.kills - len(count.worst)})
    assert not count.worst, "\n".join([summary, *count.worst])
    assert count.kills >= goal


@pytest.mark.parametrize(
    ("name", "goal"), [("train", 4), ("detect", 3), ("pack", 3), ("search evolution, one worker", 2)]
)
def test_a_few_kills(
    zygote: Zygote, data: Path, tmp_path: Path, record_property: Callable[[str, object], None], name: str, goal: int
) -> None:
    _check(name, _kill(zygote, name, data, tmp_path, goal), goal, record_property)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "goal"),
    [
        ("train", 40),
        ("train --overwrite", 15),
        ("detect", 30),
        ("detect --overwrite", 10),
        ("search evolution", 20),
        ("search ppo", 15),
        ("search bayesian", 10),
        ("search halving", 15),
        ("pack", 30),
        ("pack --overwrite", 10),
        ("evaluate", 10),
        ("detect predict", 5),
        ("report", 5),
    ],
)
def test_many_kills(
    zygote: Zygote, data: Path, tmp_path: Path, record_property: Callable[[str, object], None], name: str, goal: int
) -> None:
    _check(name, _kill(zygote, name, data, tmp_path, goal), goal, record_property)
