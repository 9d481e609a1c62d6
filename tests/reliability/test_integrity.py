"""Every file that nascli writes and reads back, with a bit flipped: read as it was, or refused by its name."""

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from nascli.config import DetectRecipe, SearchRecipe, TrainRecipe
from nascli.data.issues import IssueLog
from nascli.data.pack.format import open_pack
from nascli.detect.model import read_detector
from nascli.detect.results_file import read_result_entries
from nascli.errors import NascliError
from nascli.genotype.genotype import read_genotype
from nascli.models.spec import read_network
from nascli.models.tensor_files import read_tensors
from nascli.progress import read_progress
from nascli.records import read_lines, read_record
from nascli.runs.record import check_recipe_file, read_run_record
from nascli.search.evaluators.tabular import TabularBenchmark
from nascli.search.recorded import read_recorded
from tests.cli.program import exit_code
from tests.reliability.begun import make_data, make_runs
from tests.reliability.zygote import Zygote
from tests.search.test_study import recipe, search

_RECIPES: dict[str, type[TrainRecipe | DetectRecipe | SearchRecipe]] = {
    "train": TrainRecipe,
    "detect": DetectRecipe,
    "search": SearchRecipe,
}
_DECIDES_NOTHING = "progress.json"
"""The file without which everything goes on: damaged, it is as if it were not there."""


def _read_recipe(path: Path) -> object:
    record = read_run_record(path.parent)
    check_recipe_file(_RECIPES[record["command"]], record, path.parent, {})
    return record["recipe"]


def _read_pack(path: Path) -> object:
    pack = open_pack(path)
    pack.verify()
    index = pack.index()
    return index.class_names, [(str(image), image.open("rb").read()) for image, _ in (*index.train, *index.val)]


def _read_values(path: Path) -> object:
    values = read_record(path)
    others = len(json.loads(path.read_bytes())) - 1  # the checksum is the last, and stays where its key is damaged
    return list(values.items())[:others]


_READERS: dict[str, Callable[[Path], object]] = {
    "run.json": _read_values,
    "recipe.toml": _read_recipe,
    "network.json": read_network,
    "detector.json": lambda path: read_detector(path.parent),
    "weights.safetensors": lambda path: {name: each.numpy().tobytes() for name, each in read_tensors(path).items()},
    "metrics.jsonl": read_lines,
    "trials.jsonl": lambda path: read_recorded(path.parent).trials,
    "results.json": lambda path: read_result_entries(path, IssueLog()),
    "predictions.json": lambda path: read_result_entries(path, IssueLog()),
    "evaluation.json": _read_values,
    "detection.json": _read_values,
    "confusion.json": _read_values,
    "curves.json": _read_values,
    "progress.json": read_progress,
    "pack.h5": _read_pack,
    "cells.h5": lambda path: vars(TabularBenchmark.read(path)),
}


def _flip(files: Sequence[Path], tries: int, seed: int) -> tuple[int, list[str]]:
    """Flip bits of the files, `tries` of each; how many were tried, and those that slipped through."""
    draw, tried, slipped = random.Random(seed), 0, list[str]()
    for path in files:
        read = _READERS.get(path.name, read_genotype)
        content, whole = path.read_bytes(), repr(read(path))
        for place in draw.sample(range(len(content)), min(tries, len(content))):
            damaged = bytearray(content)
            damaged[place] ^= 1 << draw.randrange(8)
            path.write_bytes(damaged)
            tried += 1
            try:
                found = repr(read(path))
            except NascliError as error:
                found = whole if path.name in str(error) else f"{error}"
            if found != whole and not (path.name == _DECIDES_NOTHING and found == "None"):
                slipped.append(f"{path}, byte {place}: {damaged[max(0, place - 20) : place + 20]!r}")
        path.write_bytes(content)
    return tried, slipped


def _check(
    name: str, files: Sequence[Path], tries: int, seed: int, record_property: Callable[[str, object], None]
) -> None:
    tried, slipped = _flip(files, tries, seed)
    record_property("tries", {"name": f"flipped bits: {name}", "tries": tried, "held": tried - len(slipped)})
    assert not slipped


def _find(folder: Path) -> list[Path]:
    genotypes = {*folder.glob("search/best.json"), *folder.glob("search/top/*.json"), *folder.glob("cell.json")}
    named = {
        path
        for run in (".", "train", "classifier", "detect", "detector", "search", "page")
        for path in folder.glob(f"{run}/*")
    }
    return sorted(genotypes | {path for path in named if path.name in _READERS and path.is_file()})


def test_a_flipped_bit_is_found_or_has_no_consequence(
    classifier: str, detector: str, record_property: Callable[[str, object], None]
) -> None:
    search(Path("search"), recipe())
    assert exit_code("decode", "search", "--out", "cell.json") == 0
    files = _find(Path())
    assert {"run.json", "results.json", "progress.json", "cell.json"} <= {path.name for path in files}
    _check("of a few files", files, 10, 0, record_property)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_flipped_bits_of_everything(
    zygote: Zygote, tmp_path: Path, record_property: Callable[[str, object], None], seed: int
) -> None:
    folder = make_runs(zygote, make_data(tmp_path), "train", "detect", "search", "pack")
    line = ("detect", "predict", "scenes/val2017", "--run", "detect", "--out", "page")
    assert zygote.call(*line, folder=folder).code == 0
    files = _find(folder)
    assert {*_READERS} <= {path.name for path in files}
    _check(f"seed {seed}", files, 400, seed, record_property)
