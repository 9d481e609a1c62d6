"""Each benchmark at its smallest setting: it runs to its end and writes the promised figures.

Those that load torch again and again are slow.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import children
import detection_step
import inference
import launches
import numpy as np
import plain_loop
import pytest
import regret
import torch
import training_step
from PIL import Image
from simulate import SimulatedRuns

from nascli.models.families import build_network

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SPREAD = {"least", "median", "most", "rounds"}


def run(script: str, folder: Path, *options: str) -> dict[str, Any]:
    """The figures that a script writes."""
    figures = folder / "figures" / "out.json"
    command = [sys.executable, str(BENCHMARKS / script), "--rounds", "1", "--json", str(figures), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "median" in done.stdout
    values: dict[str, Any] = json.loads(figures.read_text())
    assert values["benchmark"] == script
    assert values["versions"]["nascli"]
    assert values["machine"]["cores"] >= 1
    assert values["settings"]["rounds"] == 1
    return values


def rows(values: dict[str, Any], case: str = "") -> dict[str, dict[str, Any]]:
    """The results of a case by variant."""
    return {row["variant"]: row for row in values["results"] if row["case"] == case}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of two classes of plain images, more or less bright."""
    for split in ("train", "test"):
        for label, name in enumerate(("dark", "light")):
            place = tmp_path / "images" / split / name
            place.mkdir(parents=True)
            for number in range(12):
                Image.new("RGB", (16, 16), (100 * label + 5 * number,) * 3).save(place / f"{number}.jpg")
    return tmp_path / "images"


def test_journal_reports_rates_and_ratios_to_the_bare_work(tmp_path: Path) -> None:
    values = run("journal.py", tmp_path, "--appends", "5", "--trials", "20", "--folder", str(tmp_path))
    found = rows(values)
    assert {name for name, row in found.items() if row["events_per_second"]} == {"append", "bare append"}
    assert {name for name, row in found.items() if row["read_seconds"]} == {"read", "bare read"}
    assert set(found["read"]["read_ratio"]) == SPREAD
    assert [each["events"] for each in values["measurements"] if "events" in each] == [10, 10]


@pytest.mark.slow
def test_replay_takes_every_trial_from_the_journal(tmp_path: Path) -> None:
    options = ("--strategy", "ppo", "--trials", "40", "--keep", str(tmp_path / "kept"))
    values = run("replay.py", tmp_path, *options)
    case, found = values["cases"]["ppo"], rows(values, "ppo")
    assert case["restored"] == 0
    assert [each["restored"] for each in values["measurements"]] == [40, 40]
    for source, asks in (("snapshot", False), ("journal alone", True)):
        assert {"import", "read", "ask", "tell", "loop"} <= set(found[source])
        assert bool(found[source]["ask"]["median"]) == asks
    assert (tmp_path / "kept" / "ppo-synchronous-40.jsonl").stat().st_size == case["journal_bytes"]


@pytest.mark.slow
def test_simulated_workers_are_busier_without_batches(tmp_path: Path) -> None:
    options = ("--strategy", "evolution", "--trials", "120", "--workers", "40")
    values = run("simulated_workers.py", tmp_path, *options)
    found = rows(values)
    busy = {mode: found[mode]["utilisation"]["median"] for mode in ("asynchronous", "synchronous")}
    assert busy["asynchronous"] > 0.99  # minutes of the search would be needed to lose a hundredth
    assert busy["synchronous"] < 0.2  # 4 at a time for 40 workers
    assert found["asynchronous"]["over_synchronous"]["median"] > 1
    assert {each["trials"] for each in values["measurements"]} == {120}


@pytest.mark.slow
def test_search_overhead_measures_what_is_asked_for(tmp_path: Path) -> None:
    options = ("--only", "nascli random", "--trials", "20", "--folder", str(tmp_path))
    values = run("search_overhead.py", tmp_path, *options)
    assert set(rows(values)) == {"nascli random"}
    assert rows(values)["nascli random"]["over_nascli_random"]["median"] == 1
    assert [each["trials"] for each in values["measurements"]] == [20]


def test_detection_scoring_compares_equal_numbers(tmp_path: Path) -> None:
    values = run("detection_scoring.py", tmp_path, "--images", "12", "--boxes", "60", "--found", "8")
    found = rows(values)
    assert set(found) >= {"nascli", "pycocotools"}
    assert found["nascli"]["over_nascli"]["median"] == 1
    assert found["nascli"]["difference"]["most"] < 1e-9
    assert 0 < values["measurements"][0]["numbers"]["ap"] < 1


@pytest.mark.slow
def test_detection_memory_measures_heads_by_proposals(tmp_path: Path) -> None:
    small = ("--filters", "4", "--cells-per-stage", "1", "--side", "64", "--roi-size", "5", "--steps", "1")
    values = run("detection_memory.py", tmp_path, "--proposals", "6", *small)
    found = rows(values, "6 proposals")
    assert set(found) == {"fpn", "nasnet", "nasnet, recomputed"}
    assert {each["learnt_from"]["most"] for each in found.values()} == {6}
    assert found["fpn"]["memory_over_fpn"]["median"] == 1
    assert set(found["nasnet"]["peak_mib"]) == set(found["nasnet"]["seconds"]) == SPREAD


@pytest.mark.parametrize(("last", "low"), [(0.01, 0.8), (0.0, -0.1)])
def test_the_regret_axis_begins_where_the_curves_end(last: float, low: float) -> None:
    accuracies = 0.9 - np.linspace(0.05, last, 20) * np.ones((4, 1))
    cells = np.tile(np.arange(1, 21), (4, 1))
    runs = SimulatedRuns(accuracies, accuracies, cells, optimum=0.9, rows=cells, observed=accuracies)
    axes, _ = regret.draw({"random": runs, "bayesian": runs}, "title").axes
    bottom, top = axes.get_ylim()
    assert low < bottom <= 100 * last
    assert 5 <= top < 5.5
    assert all(bottom <= tick <= top for tick in axes.get_yticks())


def test_the_plain_network_is_the_same_function_where_padding_is_symmetric() -> None:
    for genotype in children.choose_cells(["nasnet-a"], 8):
        ours = build_network(genotype, "cifar10", filters=4, cells_per_stage=2, image_size=13)
        theirs = plain_loop.PlainNetwork(genotype, 4, 2, 10)
        shapes = [[p.shape for p in network.parameters()] for network in (ours, theirs)]
        assert shapes[0] == shapes[1], genotype.name
        with torch.no_grad():
            for value, copied in zip(ours.parameters(), theirs.parameters(), strict=True):
                copied.copy_(value)
            images = torch.randn(4, 3, 13, 13, generator=torch.Generator().manual_seed(0))  # odd at every stride
            torch.testing.assert_close(theirs(images), ours(images), rtol=1e-3, atol=1e-5)


PIPELINE = ("--images", "24", "--batch-size", "4", "--workers", "1", "--crop", "16", "--size", "8", "--compared", "24")


@pytest.mark.slow
def test_the_image_pipeline_reads_the_pack_that_it_makes(folder: Path, tmp_path: Path) -> None:
    values = run("imagenet_pipeline.py", tmp_path, "--data", str(folder), *PIPELINE, "--only", "nascli, pack")
    assert rows(values)["nascli, pack"]["pack_times_as_fast"]["median"] == 1
    assert [each["images"] for each in values["measurements"]] == [20]  # the first batch starts the clock


@pytest.mark.slow
def test_the_image_pipelines_give_like_pixels(folder: Path, tmp_path: Path) -> None:
    values = run("imagenet_pipeline.py", tmp_path, "--data", str(folder), *PIPELINE)
    peers = {"torchvision, PIL", "torchvision, decode_image"}
    assert set(rows(values)) == {"nascli, folder", "nascli, pack", *peers}
    assert {each["mean"] for each in values["measurements"]}  # the script stops where they differ
    for name in peers:
        assert set(rows(values)[name]["folder_times_as_fast"]) == SPREAD


SMALL_PIPELINE = ("--images", "256", "--batch-size", "32", "--workers", "1", "--seconds", "0.2", "--warm", "8")


@pytest.mark.slow
def test_the_part_of_augmentation_in_a_step_is_measured(tmp_path: Path) -> None:
    step = ("--only", "step", "--steps", "2", "--filters", "2", "--cells", "1", "--threads", "1")
    values = run("cifar_pipeline.py", tmp_path, *SMALL_PIPELINE, *step)
    found = rows(values)["step"]
    assert set(found["augmentation_ms"]) == set(found["step_ms"]) == set(found["share"]) == SPREAD
    assert 0 < found["share"]["median"] < 1
    assert found["nascli_times_as_fast"] is None


@pytest.mark.slow
def test_the_pipelines_of_small_images_give_like_pixels(tmp_path: Path) -> None:
    values = run("cifar_pipeline.py", tmp_path, *SMALL_PIPELINE, "--only", "nascli", "--only", "torchvision")
    assert set(rows(values)) == {"nascli", "torchvision"}
    assert rows(values)["torchvision"]["nascli_times_as_fast"]["median"] > 1
    assert len({each["mean"] for each in values["measurements"]}) == 2  # the script stops where they differ


CHILD = ("--train-images", "16", "--held-out", "4", "--epochs", "1", "--batch-size", "8", "--filters", "2")


@pytest.mark.slow
def test_children_of_both_kinds_have_the_same_size(folder: Path, tmp_path: Path) -> None:
    options = ("--data", str(folder), *CHILD, "--cell", "nasnet-a", "--random-cells", "1", "--decode-each-epoch")
    values = run("children.py", tmp_path, *options)
    others = {"plain", "plain, 1 worker", "plain, decoding"}
    assert set(values["cells"]) == {"nasnet-a", "random-0"}
    assert set(values["learning"]) == {"nascli", *others}
    assert [each["count"] for each in values["learning"]["plain"]["loss"]] == [2]
    for cell in values["cells"]:
        found = rows(values, cell)
        assert set(found) == {"nascli", *others}
        assert all(set(found[name]["nascli_times_as_fast"]) == SPREAD for name in others)
        assert len({found[name]["params"]["median"] for name in found}) == 1  # the script stops where they differ
    assert len(values["measurements"]) == 2 * 4


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["nascli ppo 2 workers", "optuna journal", "optuna sqlite", "ray tune"])
def test_search_overhead_of_workers_and_peers(variant: str, tmp_path: Path) -> None:
    if not variant.startswith("nascli"):
        pytest.importorskip(variant.split()[0])
    if variant == "ray tune":
        pytest.importorskip("pandas")
    counts = ("--trials", "20", "--ray-trials", "2", "--sqlite-trials", "2")
    values = run("search_overhead.py", tmp_path, "--only", variant, *counts)
    assert rows(values)[variant]["ms_per_trial"]["median"] > 0


EPOCH = (
    "--images",
    "20",
    "--size",
    "8",
    "--filters",
    "2",
    "--cells-per-stage",
    "1",
    "--epochs",
    "2",
    "--batch-size",
    "5",
)


@pytest.mark.slow
def test_a_whole_training_is_timed_beside_the_reference_loop(tmp_path: Path) -> None:
    options = (*EPOCH, "--threads", "1", "--only", "nascli", "--only", "torchvision")
    values = run("train_epoch.py", tmp_path, *options)
    assert set(rows(values)) == {"nascli", "torchvision"}
    assert len({each["params"] for each in values["measurements"]}) == 1  # the script stops where they differ
    assert [len(each["epoch_seconds"]) for each in values["measurements"]] == [2, 2]
    for name in ("nascli_epoch_times_as_fast", "nascli_process_times_as_fast"):
        assert set(rows(values)["torchvision"][name]) == SPREAD


TINY_DETECTOR = ("--size", "64", "--batch-size", "1", "--boxes", "2", "--classes", "3", "--proposals", "20")


@pytest.mark.slow
def test_detectors_of_equal_backbones_are_compared(tmp_path: Path) -> None:
    options = (*TINY_DETECTOR, "--box-batch-size-per-image", "8", "--seconds", "0", "--threads", "1")
    values = run("detection_step.py", tmp_path, *options)
    assert abs(values["chosen"]["distance"]) < 0.02
    for work, variants in (("training step", 4), ("finding boxes", 8)):  # OpenVINO finds boxes alone
        found = {name: row for name, row in rows(values, work).items() if row["seconds"]}
        assert len(found) == variants
        assert found["nascli"]["nascli_times_as_fast"]["median"] == 1
        costs = [each["backbone_mult_adds"]["median"] for each in found.values()]
        assert max(costs) < 1.02 * min(costs)


@pytest.fixture
def run_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """The figures that a benchmark writes, called in this process."""

    def call(benchmark: ModuleType, *options: str) -> dict[str, Any]:
        file = tmp_path / "out.json"
        monkeypatch.setattr(sys, "argv", [f"{benchmark.__name__}.py", "--rounds", "1", "--json", str(file), *options])
        benchmark.main()
        values: dict[str, Any] = json.loads(file.read_text())
        return values

    return call


def test_launches_of_a_step_are_counted(run_here: Callable[..., dict[str, Any]]) -> None:
    (counted,) = run_here(launches, "--only", "a child of cifar10-gpu")["measurements"]
    convolutions = counted["by_name"]["launches"]["convolution"]
    assert 100 < convolutions < counted["launches"] < 8 * convolutions
    assert (counted["copies"], counted["reads"]) == (1, 0)
    assert 0 < counted["launches_beside_graph"] < 40
    assert 0 < counted["evaluation_beside_graph"] < 25 < convolutions < counted["evaluation"]


ONE_PROCESS = ("--here", "--device", "cpu")
"""As on a GPU."""


def test_training_steps_are_compared_in_one_process(run_here: Callable[..., dict[str, Any]]) -> None:
    options = ("--filters", "2", "--batch-size", "2", "--seconds", "0", "--threads", "1", "--precision", "bfloat16")
    found = rows(run_here(training_step, *ONE_PROCESS, *options), "F = 2")
    assert set(found) == {"nascli", "plain", "plain, channels last"}
    assert found["nascli"]["nascli_times_as_fast"]["median"] == 1
    assert found["nascli"]["peak_mib"] is None  # of which of them it is cannot be told


@pytest.mark.slow
def test_engines_are_compared_in_one_process(run_here: Callable[..., dict[str, Any]]) -> None:
    options = ("--network", "mnasnet", "--eager", "--seconds", "0", "--threads", "1")
    found = rows(run_here(inference, *ONE_PROCESS, *options), "mnasnet, batch 1")
    assert set(found) > {"nascli", "nascli, bfloat16", "peer", "peer, channels last, bfloat16"}
    assert found["peer"]["nascli_times_as_fast"]["median"] > 1


@pytest.mark.slow
def test_detectors_are_compared_in_one_process(run_here: Callable[..., dict[str, Any]]) -> None:
    options = ("--box-batch-size-per-image", "8", "--seconds", "0", "--threads", "1", "--precision", "bfloat16")
    found = rows(run_here(detection_step, *ONE_PROCESS, *TINY_DETECTOR, *options), "training step")
    assert found["nascli"]["nascli_times_as_fast"]["median"] == 1
    assert found["nascli"]["peak_mib"] is None


@pytest.mark.slow
def test_children_are_compared_in_one_process(folder: Path, run_here: Callable[..., dict[str, Any]]) -> None:
    values = run_here(children, *ONE_PROCESS, "--data", str(folder), *CHILD)
    assert set(rows(values, "nasnet-a")) == {"nascli", "plain", "plain, 1 worker"}
    assert [len(each["loss"]) for each in values["measurements"]] == [1, 1, 1]


@pytest.mark.slow
def test_training_steps_of_equal_networks_are_compared(tmp_path: Path) -> None:
    options = ("--filters", "2", "--batch-size", "4", "--seconds", "0", "--threads", "1")
    found = rows(run("training_step.py", tmp_path, *options), "F = 2")
    assert set(found) == {"nascli", "plain", "plain, channels last"}
    assert found["nascli"]["nascli_times_as_fast"]["median"] == 1
    assert set(found["plain"]["nascli_memory"]) == SPREAD


def test_startup_stands_beside_the_bare_interpreter(tmp_path: Path) -> None:
    found = rows(run("startup.py", tmp_path))
    assert found["python -c pass"]["seconds"]["median"] < found["nascli train --help"]["seconds"]["median"]
