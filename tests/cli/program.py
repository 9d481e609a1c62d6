"""The program called in this process, with a folder of tiny images and a tiny cell to train on in a moment."""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nascli.cli.app import main
from tests.classify.small_training import GENOTYPE

SETTINGS = (
    "--epochs 3 --batch-size 16 --filters 4 --cells-per-stage 1 --seed 3 --set data.crop_padding=1 "
    "--set data.flip=true --set data.cutout=2 --set train.aux_weight=0.4 --set train.drop_path_prob=0.3 "
    "--set train.ema_decay=0.8"
)
"""Everything switched on."""


@dataclass(frozen=True)
class Ran:
    """The outcome of a command: exit code, stdout, stderr with single spaces."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:  # noqa: ANN401 - any JSON
        return json.loads(self.out)

    @property
    def next(self) -> list[str]:
        return [line.removeprefix("next: ") for line in self.err.splitlines() if line.startswith("next: ")]


def exit_code(*arguments: str) -> int:
    """Call the program in this process; its exit code."""
    with pytest.raises(SystemExit) as left:
        main(arguments)
    return int(left.value.code or 0)


class Nascli:
    """The program, called in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, line: str) -> Ran:
        with pytest.raises(SystemExit) as left:
            main(shlex.split(line))
        captured = self._capsys.readouterr()
        return Ran(int(left.value.code or 0), captured.out, captured.err)


def write_images(folder: Path, names: tuple[str, ...] = ("cat", "cow", "dog"), size: int = 8, count: int = 20) -> None:
    """Noisy images whose brightness is their class: `count` per class to train on, 6 to test on."""
    noise = np.random.default_rng(0)
    for label, name in enumerate(names):
        for part, number in (("train", count), ("val", 6)):
            (folder / part / name).mkdir(parents=True)
            for k in range(number):
                pixels = noise.integers(0, 120, (size, size, 3)) + 60 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / part / name / f"{k:02}.png")


def prepare() -> None:
    """`images/` and `cell.json` in the current folder."""
    write_images(Path("images"))
    Path("cell.json").write_text(GENOTYPE.to_json(), encoding="utf-8")
