"""A folder with one of everything that nascli writes, made by its own commands, to be damaged."""

import shlex
from pathlib import Path

from tests.front_door.made import DETECT, TRAIN, write_classes, write_coco, write_perfect_results
from tests.reliability.zygote import Zygote

DATA = ("images", "scenes")
"""The folders of data in it."""

SEARCH = (
    "search --recipe digits --dataset folder:images --device cpu --workers 1 --filters 2 --epochs 1 "
    "--strategy evolution "
    "--set train.batch_size=4 --set search.holdout=0.3 --set evolution.population=2 --set evolution.sample=2 --trials 4"
)
TRAIN_HERE = f"{TRAIN} --dataset folder:images --epochs 3 --set train.checkpoint_steps=1"
DETECT_HERE = f"{DETECT} --dataset coco:scenes --epochs 2 --set train.checkpoint_steps=1"

_COMPLETE = {
    "train": (f"{TRAIN_HERE} --out train", "evaluate train"),
    "detect": (f"{DETECT_HERE} --out detect",),
    "search": (f"{SEARCH} --out search", "report search --table cells.h5"),
    "built": ("build --cell train --out built", "build --cell nasnet-a --filters 4 --cells-per-stage 1 --out plain"),
    "pack": ("pack images pack.h5 --size 16",),
}
_HALVES = {
    "train": f"{TRAIN_HERE} --out train-half",
    "detect": f"{DETECT_HERE} --out detect-half",
    "search": f"{SEARCH} --out search-half",
    "pack": "pack images half.h5 --size 16 --workers 1",
}


def make_data(folder: Path) -> Path:
    """`images/` of two classes and `scenes/` with boxes and `results.json`."""
    folder.mkdir(exist_ok=True)
    write_classes(folder / "images")
    write_coco(folder / "scenes")
    write_perfect_results(folder / "scenes")
    return folder


def make_runs(zygote: Zygote, folder: Path, *parts: str, half: bool = False) -> Path:
    """The parts, complete: `train`, `detect`, `search` (and `cells.h5`), `built` (and `plain`), `pack`.

    Args:
        half: Runs that were killed four fifths through, too: `train-half`, `half.h5.partial` and the like.
    """
    for part in parts:
        for line in _COMPLETE[part]:
            ended = zygote.call(*shlex.split(line), folder=folder)
            assert ended.code == 0, f"{line}: {ended.err}"
        if half and part in _HALVES:
            _kill_late(zygote, folder, shlex.split(_HALVES[part]))
    return folder


def _kill_late(zygote: Zygote, folder: Path, command: list[str]) -> None:
    trial = [word.replace("half", "rehearsal") for word in command]
    writes = zygote.call(*trial, folder=folder).writes
    ended = zygote.call(*command, folder=folder, kill_at=4 * writes // 5)
    assert ended.is_killed, ended.err
