"""A table of the latencies of layers: made by its command or by hand, and summed by searches."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nascli.genotype.mobile.space import MNASNET
from nascli.models.deploy.layer_table import LatencyTable, as_text, cover_layers, read_latency_table
from nascli.models.interface import ImageClassifier
from nascli.models.latency import Latency
from nascli.models.spec import resolve_network
from nascli.search.latency_table import TableMaker
from nascli.signals import StopRequest
from tests.cli.program import Nascli
from tests.fakes import make_latency

RECIPE = """
[data]
dataset = "digits"
max_train_images = 200
[space]
name = "small"
family = "mobile"
stem = 8
strides = [1, 2]
ops = ["depthwise", "mbconv2"]
kernels = [3]
se = [0.0]
skips = ["identity"]
filters = [[8, 16], [16]]
layers = [[1, 2], [1]]
[network]
head_filters = 16
image_size = 8
[train]
epochs = 1
batch_size = 64
[search]
strategy = "evolution"
trials = 4
workers = 1
[objective]
quantity = "latency"
target = "1ms"
[objective.network]
head_filters = 16
image_size = 16
"""


@pytest.fixture
def nascli(capsys: pytest.CaptureFixture[str]) -> Nascli:
    return Nascli(capsys)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def phone(tmp_path: Path, recipe: Path, nascli: Nascli) -> Path:
    """A table as a phone could fill it: of all keys that the command lists, a layer's seconds from its channels."""
    keys = nascli(f"latency {tmp_path}/none.json --recipe {recipe} --dry-run --json").json["keys"]
    rows = [{"key": key, "seconds": 1e-6 * (key["in"] + 2 * key["out"]) * (1 + (key["size"] > 8))} for key in keys]
    table = {"engine": "tflite", "precision": "float16", "device": "pixel", "threads": 1, "layers": rows}
    path = tmp_path / "phone.json"
    path.write_text(json.dumps(table))
    return path


def results(run: Path) -> list[dict[str, Any]]:
    """The journal without what differs from run to run."""
    events = [json.loads(line) for line in (run / "trials.jsonl").read_text().splitlines()]
    return [{key: value for key, value in each.items() if key not in ("seconds", "crc", "time")} for each in events]


def test_a_search_by_a_table_is_repeatable_and_resumes_bit_for_bit(
    tmp_path: Path, recipe: Path, phone: Path, nascli: Nascli
) -> None:
    whole = nascli(f"search --recipe {recipe} --latency-table {phone} --out {tmp_path}/whole")
    assert whole.code == 0
    assert "tflite" in whole.err
    assert "busy" not in whole.err
    assert nascli(f"search --recipe {recipe} --latency-table {phone} --out {tmp_path}/again").code == 0
    expected = results(tmp_path / "whole")
    assert results(tmp_path / "again") == expected
    finished = [each for each in expected if each["event"] == "finished"]
    assert {each["latency"]["image_size"] for each in finished} == {16}
    for each in finished:
        assert each["reward"] == pytest.approx(each["accuracy"] * (each["latency"]["seconds"] / 1e-3) ** -0.07)

    journal = tmp_path / "again" / "trials.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    for count in (3, len(lines) - 1):
        journal.write_bytes(b"".join(lines[:count]) + lines[count][:20])
        record = json.loads((tmp_path / "again" / "run.json").read_text())
        record = {**record, "results": None}
        del record["checksum"]
        (tmp_path / "again" / "run.json").write_text(json.dumps(record))
        assert nascli(f"search --resume {tmp_path}/again").code == 0
        assert results(tmp_path / "again") == expected


def test_a_table_that_changed_is_refused_on_resume(tmp_path: Path, recipe: Path, phone: Path, nascli: Nascli) -> None:
    run = tmp_path / "run"
    assert nascli(f"search --recipe {recipe} --latency-table {phone} --trials 2 --out {run}").code == 0
    assert str(phone) in json.loads((run / "run.json").read_text())["inputs"]
    phone.write_text(phone.read_text().replace("tflite", "other"))
    refused = nascli(f"search --resume {run} --trials 3")
    assert (refused.code, str(phone) in refused.err) == (2, True)


def test_a_layer_that_the_table_lacks_is_named(tmp_path: Path, recipe: Path, phone: Path, nascli: Nascli) -> None:
    table = json.loads(phone.read_text())
    lost = next(row["key"] for row in table["layers"] if row["key"]["layer"] == "mbconv2")
    table["layers"] = [row for row in table["layers"] if row["key"] != lost]
    phone.write_text(json.dumps(table))
    refused = nascli(f"search --recipe {recipe} --latency-table {phone} --out {tmp_path}/run")
    assert refused.code == 2
    assert as_text(lost) in refused.err
    assert "nascli latency" in refused.err
    assert not (tmp_path / "run").exists()


def test_a_table_that_nothing_asks_for_is_refused(tmp_path: Path, phone: Path, nascli: Nascli) -> None:
    refused = nascli(f"search --dataset digits --latency-table {phone} --out {tmp_path}/run")
    assert (refused.code, "--target-latency" in refused.err) == (2, True)


def test_a_table_of_other_networks_is_not_added_to(
    tmp_path: Path, recipe: Path, phone: Path, nascli: Nascli, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = json.loads(phone.read_text())
    phone.write_text(json.dumps({**table, "engine": "openvino", "precision": "float32", "device": "cpu"}))
    refused = nascli(f"latency {phone} --recipe {recipe} --set objective.network.image_size=24")
    assert (refused.code, "image size" in refused.err) == (2, True)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda table: [row.update(seconds=0.0) for row in table["layers"]], "0 seconds"),
        (lambda table: table["layers"].append(table["layers"][0]), "layers[0]"),
        (lambda table: table["layers"][1].update(seconds=-1.0), "layers[1].seconds"),
        (lambda table: table["layers"][2].update(seconds="fast"), "layers[2].seconds"),
        (lambda table: table.pop("engine"), "engine"),
        (lambda table: table.pop("layers"), "layers"),
    ],
)
def test_a_damaged_table_is_refused(
    tmp_path: Path, recipe: Path, phone: Path, nascli: Nascli, change: Callable[[dict[str, Any]], object], word: str
) -> None:
    table = json.loads(phone.read_text())
    change(table)
    phone.write_text(json.dumps(table))
    refused = nascli(f"search --recipe {recipe} --latency-table {phone} --out {tmp_path}/run")
    assert refused.code in (1, 2)
    assert word in refused.err
    assert str(phone) in refused.err


def test_cells_have_no_table_of_layers(tmp_path: Path, nascli: Nascli) -> None:
    refused = nascli(f"latency {tmp_path}/cells.json --space nasnet --dataset digits")
    assert (refused.code, "cells" in refused.err) == (2, True)


def test_the_command_measures_what_is_missing_and_scales_the_sums(
    tmp_path: Path, recipe: Path, nascli: Nascli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Passes take 10 us for a frame and 30 us with a layer in it; a whole network 1 ms."""
    timed: list[int] = []

    def time_alone(program: Callable[[torch.Tensor], object], images: torch.Tensor) -> tuple[float, float, float]:
        program(images)
        timed.append(images.shape[1])
        seconds = 3e-5 if len(timed) == 1 or len(timed) % 2 else 1e-5
        return seconds, 2 * seconds, 3 * seconds

    def measure(network: ImageClassifier, engine: str, *_: object) -> Latency:
        return make_latency(1e-3, engine=engine, image_size=network.spec.image_size, reference=5e-4)

    monkeypatch.setattr("nascli.models.deploy.layer_times.time_alone", time_alone)
    monkeypatch.setattr("nascli.search.evaluators.costs.measure_latency", measure)
    path = tmp_path / "table.json"
    made = nascli(f"latency {path} --recipe {recipe} --json").json
    table = read_latency_table(path)
    assert made["layers"] == made["missing"] == len(table.layers)
    assert (timed[0], len(timed)) == (3, 2 * len(table.layers) - 1)  # the stem reads the image, and has no frame
    assert {round(row.seconds * 1e6) for row in table.layers} == {20, 30}
    assert table.reference == 5e-4
    # networks of 2 + 1 or 2 layers besides stem, head, classifier: 30 + 20 (4 or 5) us
    assert table.scale in (pytest.approx(1e-3 / 110e-6), pytest.approx(1e-3 / 130e-6))

    timed.clear()
    values = json.loads(path.read_text())
    del values["checksum"]
    values["layers"] = values["layers"][1:]
    path.write_text(json.dumps(values))
    assert nascli(f"latency {path} --recipe {recipe} --json").json["missing"] == 1
    assert len(timed) == 1
    other = nascli(f"latency {path} --recipe {recipe} --set latency.threads=2")
    assert (other.code, "threads" in other.err) == (2, True)


def test_few_networks_have_every_layer_of_the_space() -> None:
    """The paper's space has about 1,300 layers at one size; random networks have no others."""
    from nascli.config import MobileNetworkConfig

    config = MobileNetworkConfig(width=0.35, image_size=32)
    covered = list(cover_layers(MNASNET, lambda genotype: resolve_network(genotype, config, classes=10)))
    known = {as_text(key) for _, keys in covered for key in keys}
    assert len(known) == sum(len(keys) for _, keys in covered) == 1317
    sizes = MNASNET.decision_sizes
    for step in range(60):
        genotype = MNASNET.decode([(7 * step + 5 * place) % size for place, size in enumerate(sizes)])
        keys = resolve_network(genotype, config, classes=10).layer_keys()
        assert keys
        assert {as_text(key) for key in keys} <= known


def test_a_stopped_table_is_refused_by_searches_and_a_whole_one_stays_as_it_is(
    tmp_path: Path, recipe: Path, nascli: Nascli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal comes after the last layer, before the whole networks that the scale is from."""
    measured = make_latency(1e-3, engine="openvino", image_size=16)
    monkeypatch.setattr("nascli.models.deploy.layer_times.time_alone", lambda *_: (3e-5, 3e-5, 3e-5))
    monkeypatch.setattr("nascli.search.evaluators.costs.measure_latency", lambda *_: measured)
    path, searched = tmp_path / "table.json", tmp_path / "run"
    count = nascli(f"latency {path} --recipe {recipe} --dry-run --json").json["missing"]
    told: list[int] = []

    def stop_at_last(self: TableMaker, stop: StopRequest, on_layer: Callable[[], None]) -> LatencyTable:
        def count_layer() -> None:
            told.append(1)
            if len(told) == count:
                stop.requested = True

        return whole(self, stop, count_layer)

    whole = TableMaker.measure
    with monkeypatch.context() as stopped:
        stopped.setattr(TableMaker, "measure", stop_at_last)
        assert nascli(f"latency {path} --recipe {recipe}").code == 130
    refused = nascli(f"search --recipe {recipe} --latency-table {path} --out {searched}")
    assert (refused.code, "complete" in refused.err, searched.exists()) == (2, True, False)
    assert nascli(f"latency {path} --recipe {recipe}").code == 0
    table = read_latency_table(path)
    assert (table.complete, len(table.layers), table.scale != 1.0) == (True, count, True)
    written = path.read_bytes()
    assert nascli(f"latency {path} --recipe {recipe} --json").json["missing"] == 0
    assert path.read_bytes() == written
