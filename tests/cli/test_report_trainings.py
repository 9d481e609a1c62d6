"""Learning curves of trainings: one run, several, and runs that differ in their seed alone."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nascli.config import DetectRecipe
from nascli.records import format_line
from nascli.report.learning_curves import group_runs, read_training, summarize
from nascli.runs.start import create_run
from tests.cli.program import Nascli

TRAIN = "train --cell cell.json --dataset folder:images --cells-per-stage 1 --batch-size 16 --device cpu --epochs 3"


def best_of(run: str) -> float:
    lines = (Path(run) / "metrics.jsonl").read_text().splitlines()
    return float(max(json.loads(line)["top1"] for line in lines))


@pytest.fixture
def runs(nascli: Nascli) -> Nascli:
    """Three runs: two of one network that differ in their seed, and a narrower network."""
    for name, filters, seed in (("a", 4, 1), ("b", 4, 2), ("c", 2, 1)):
        assert nascli(f"{TRAIN} --filters {filters} --seed {seed} --out {name}").code == 0
    return nascli


def test_curves_of_runs_are_grouped_by_what_differs_but_the_seed(runs: Nascli) -> None:
    Path("latest").symlink_to("c")
    ran = runs("report a b c a latest --out curves --json")
    assert ran.code == 0, ran.err
    assert [line["name"] for line in ran.json["lines"]] == ["filters 4", "filters 2"]
    both, narrow = ran.json["lines"]
    assert [(each["run"], each["seed"]) for each in both["runs"]] == [("a", 1), ("b", 2)]
    assert both["best"] == pytest.approx((best_of("a") + best_of("b")) / 2)
    assert both["half_width"] == pytest.approx(abs(best_of("a") - best_of("b")) / 2)
    assert (narrow["best"], narrow["half_width"]) == (best_of("c"), None)
    with Image.open("curves/learning-curves.png") as picture:
        assert picture.width > 1000
        assert len(picture.convert("RGB").getcolors(1 << 20) or ()) > 50
    shown = runs("report a b c --out curves")
    assert "filters 4" in shown.out
    assert "t-intervals" in shown.err

    alone = runs("report c --json")
    assert alone.json["figure"] == "c/learning-curves.png"
    assert [line["name"] for line in alone.json["lines"]] == ["c"]


def test_what_has_no_curves_is_refused(runs: Nascli) -> None:
    assert "--out" in runs("report a b").err
    assert "--baseline" in runs("report a --baseline b").err
    shutil.copytree("a", "empty")
    Path("empty/metrics.jsonl").unlink()
    ran = runs("report empty")
    assert ran.code == 2
    assert "no epoch" in ran.err
    Path("search").mkdir()
    shutil.copyfile("a/run.json", "search/run.json")
    text = Path("search/run.json").read_text().replace('"command": "train"', '"command": "search"')
    Path("search/run.json").write_text("\n".join(line for line in text.splitlines() if '"checksum"' not in line))
    assert runs("report a search --out curves").code != 0
    assert not Path("curves").exists()


def test_detectors_of_other_backbones_are_other_lines(tmp_path: Path) -> None:
    for number, backbone in enumerate(("wide", "wide", "narrow")):
        weights = {"weights": f"runs/train/{backbone}", "origin": "a run", "sha256": "0" * 64}
        recipe = DetectRecipe(seed=number)
        out = tmp_path / str(number)
        with create_run("detect", "made", recipe, runs=tmp_path, out=out, start_weights=weights) as run:
            run.file("metrics.jsonl").write_bytes(format_line({"epoch": 1, "train_loss": 1.0, "lr": 0.1, "ap": 0.5}))
    lines = group_runs([read_training(tmp_path / str(number)) for number in range(3)])
    assert [(line.name, len(line.runs)) for line in lines] == [("backbone wide", 2), ("backbone narrow", 1)]


def test_bands_are_both_values_of_two_and_intervals_of_more() -> None:
    two = np.array([[1.0, np.nan], [3.0, 5.0]])
    mean, low, high = summarize(two)
    assert mean.tolist() == [2, 5]
    assert low.tolist() == [1, 5]
    assert high.tolist() == [3, 5]
    mean, low, high = summarize(np.array([[1.0], [2.0], [3.0]]))
    assert float(mean[0]) == 2
    assert float(high[0] - mean[0]) == pytest.approx(4.302653 / np.sqrt(3), rel=1e-6)  # t of 2 degrees of freedom
