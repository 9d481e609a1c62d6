"""`nascli build` with real files."""

import json
from pathlib import Path

import pytest
import torch

from nascli.cli.app import main
from nascli.genotype.resolve import zoo_genotype
from nascli.models.interface import ImageClassifier
from nascli.models.latency import Latency
from nascli.models.serialization import save_weights
from nascli.models.spec import write_network
from tests.cells import as_cells, read_cells
from tests.classify.small_training import make_network
from tests.fakes import make_latency


def test_json_is_one_object_with_the_exact_counts(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["build", "--cell", "nasnet-a", "--preset", "imagenet-mobile", "--json"])
    values = json.loads(capsys.readouterr().out)
    assert values["params"] == 5_289_978
    assert values["params_auxiliary"] == 2_411_240
    assert values["mult_adds"] == 563_638_816
    assert values["image_size"] == 224


def test_table_by_cell_and_network_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cell = tmp_path / "best.json"
    cell.write_text(zoo_genotype("darts-v2").to_json())
    numbers = ["--filters", "8", "--cells-per-stage", "1", "--classes", "5", "--image-size", "16"]
    with pytest.raises(SystemExit) as caught:
        main(["build", "--cell", str(cell), *numbers, "--out", str(tmp_path / "net")])
    assert caught.value.code in (0, None)
    printed = capsys.readouterr()
    assert "stage 2 reduction" in printed.out
    assert "16×16 px" in printed.out
    assert f"nascli train --cell {tmp_path}/net/network.json" in printed.err
    spec = read_cells(tmp_path / "net" / "network.json")
    assert (spec.filters, spec.cells_per_stage, spec.classes, spec.image_size) == (8, 1, 5, 16)
    with pytest.raises(SystemExit) as caught:
        main(["build", "--cell", str(cell), "--out", str(tmp_path / "net")])
    assert caught.value.code == 2
    assert "--overwrite" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "phrase"),
    [
        (["--cell", "nasnet-z"], 2, "neither a file nor a published cell. Did you mean nasnet-a?"),
        (["--cell", "gone.json"], 2, "gone.json: No such file"),
        (["--cell", "cut.json"], 1, "cut.json is not JSON"),
        (["--cell", "newer.json"], 2, "newer.json: schema 2 is newer than this nascli reads (1). Upgrade nascli"),
        (["--cell", "op.json"], 2, "op.json: normal.blocks[0].ops: unknown op 'sep_conv_4x4'"),
        (["--cell", "nasnet-a", "--filters", "0"], 2, "filters = 0"),
        (
            ["--cell", "nasnet-a", "--preset", "imagenet-large", "--image-size", "16"],
            2,
            "too small for the ImageNet stem",
        ),
        (["--cell", "nasnet-a", "--preset", "huge"], 2, "huge"),
        (["--cell", "nasnet-a", "--cells-per-stage", "few"], 2, "cells_per_stage = 'few'"),
        (["--cell", "nasnet-a", "--cells-per-stage", "auto"], 2, "--cells-per-stage auto needs a target. For example"),
        (["--cell", "nasnet-a", "--target-params", "3.3X"], 2, "unknown unit 'X'. The units of params are G, M, k"),
        (["--cell", "nasnet-a", "--target-latency", "20"], 2, "--target-latency 20: the number has no unit"),
        (["--cell", "nasnet-a", "--target-mult-adds", "many"], 2, "not a number with a unit"),
        (["--cell", "nasnet-a", "--target-params", "0"], 2, "--target-params 0: a target is larger than 0"),
        (
            ["--cell", "nasnet-a", "--target-params", "3M", "--filters", "8"],
            2,
            "a target of 3M params decides F; it excludes --filters",
        ),
        (["--cell", "nasnet-a", "--target-params", "3M", "--target-mult-adds", "9M"], 2, "two targets: 3M params and"),
        (["--cell", "enas", "--target-params", "1k", "--cells-per-stage", "1"], 2, "the least is"),
        (["--cell", "nasnet-a", "--out", "cut.json"], 1, "cut.json cannot be written"),
        ([], 2, "build needs --cell or --network, one of the two"),
        (["--cell", "enas", "--network", "net"], 2, "build needs --cell or --network, one of the two"),
        (["--network", "latest"], 2, "no such folder. nascli train makes one"),
        (["--network", "."], 2, "there is no weights.safetensors in it. Give a folder that nascli train has finished"),
        (["--network", "net", "--filters", "8"], 2, "the network of --network stays as it is; it excludes --filters"),
        (["--network", "net", "--target-params", "3M"], 2, "--network stays as it is; it excludes --target-params"),
        (["--network", "net", "--out", "other"], 2, "--network stays as it is; it excludes --out"),
        (
            ["--cell", "enas", "--threads", "2"],
            2,
            "without --benchmark or --optimize or --target-latency there is no use for --threads. Give",
        ),
        (["--cell", "enas", "--engine", "folded"], 2, "without --target-latency there is no use for --engine"),
        (["--cell", "enas", "--export", "m.onnx"], 2, "--cell has random weights. Give a trained one with --network"),
        (["--network", "net", "--export", "m.pth"], 2, "unknown kind '.pth'. Known: .onnx, .xml, .pt2"),
        (["--network", "net", "--export", "there.onnx"], 2, "there.onnx exists. Replace it with --overwrite"),
        (["--network", "net", "--export", "there.xml"], 2, "there.bin exists. Replace it with --overwrite"),
    ],
)
def test_wrong_usage(arguments: list[str], code: int, phrase: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = zoo_genotype("nasnet-a").to_json()
    Path("cut.json").write_text(text[:200])
    Path("newer.json").write_text(text.replace('"schema": 1', '"schema": 2'))
    Path("there.onnx").write_text("")
    Path("there.bin").write_text("")
    Path("op.json").write_text(text.replace("sep_conv_5x5", "sep_conv_4x4", 1))
    with pytest.raises(SystemExit) as caught:
        main(["build", *arguments])
    printed = capsys.readouterr()
    assert caught.value.code == code
    assert phrase in " ".join(printed.err.split())
    assert "Traceback" not in printed.err
    assert printed.out == ""


def build(*arguments: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["build", *arguments])
    assert caught.value.code in (0, None)


SMALL = ("--cell", "darts-v2", "--image-size", "16")


def test_a_target_gives_the_published_size_and_writes_it(capsys: pytest.CaptureFixture[str]) -> None:
    build("--cell", "nasnet-a", "--preset", "cifar10", "--target-params", "3.3M", "--out", "net", "--json")
    values = json.loads(capsys.readouterr().out)
    table = values["size_table"]
    assert (table["filters"], table["cells_per_stage"], values["params"]) == (32, 6, 3_346_538)
    assert (table["quantity"], table["target"]) == ("params", 3.3e6)
    assert abs(table["distance"]) < 0.02
    assert [size["filters"] for size in table["sizes"]] == [30, 31, 32, 33, 34]
    assert table["sizes"][2]["params"] == values["params"]
    spec = read_cells(Path("net/network.json"))
    assert (spec.filters, spec.cells_per_stage, spec.stem_filters) == (32, 6, 96)


def test_the_table_marks_the_chosen_size(capsys: pytest.CaptureFixture[str]) -> None:
    build(*SMALL, "--target-mult-adds", "3M", "--cells-per-stage", "1")
    printed = capsys.readouterr()
    assert "sizes around 3M mult-adds" in printed.out
    (marked,) = (line for line in printed.out.splitlines() if "<- chosen" in line)
    assert marked.split()[:2] == ["1", "10"]
    assert "F = 10, N = 1: 2.997M mult-adds, -0.1 % off the target of 3M mult-adds" in printed.err
    assert "is nearer" not in printed.err
    assert "--out DIR writes this size" in printed.err


def test_a_target_between_two_steps_says_which_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    build(*SMALL, "--target-params", "5k", "--cells-per-stage", "1")
    said = capsys.readouterr().err
    assert "no size with N = 1 is nearer; the steps of F are whole: F = 2 has" in said
    assert "F = 3 has" in said
    assert "--cells-per-stage auto tries other N" in said


@pytest.mark.slow
def test_n_varies_with_auto(capsys: pytest.CaptureFixture[str]) -> None:
    build(*SMALL, "--target-params", "223k", "--cells-per-stage", "auto", "--json")
    values = json.loads(capsys.readouterr().out)
    table = values["size_table"]
    assert abs(table["distance"]) <= 0.02
    assert table["cells_per_stage"] != 6
    assert {abs(size["distance"]) > 0.02 for size in table["sizes"] if size["cells_per_stage"] == 6} == {True}
    assert values["params"] == pytest.approx(223_000 * (1 + table["distance"]))


def latency_by_filters(
    network: ImageClassifier, engine: str, precision: str, device: torch.device, **values: object
) -> Latency:
    """In place of a measurement: a millisecond per filter."""
    threads = torch.get_num_threads()
    said = {"engine": engine, "precision": precision, "device": str(device), "threads": threads}
    return make_latency(as_cells(network.spec).filters / 1000, **said, image_size=network.spec.image_size)


def test_a_target_of_latency_is_met_in_the_engine_that_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nascli.models.deploy.timing.measure_latency", latency_by_filters)
    build(*SMALL, "--target-latency", "9ms", "--cells-per-stage", "1", "--device", "cpu", "--threads", "2")
    printed = capsys.readouterr()
    (marked,) = (line for line in printed.out.splitlines() if "<- chosen" in line)
    assert "9ms (9.9ms, 10.8ms)" in marked
    assert "F = 9, N = 1: a latency of 9ms" in printed.err
    assert "1 image of 16×16 px, openvino in float32, 2 threads" in printed.err


def test_another_engine_and_precision_can_be_the_target(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nascli.models.deploy.timing.measure_latency", latency_by_filters)
    how = ("--engine", "folded", "--precision", "bfloat16", "--device", "cpu", "--json")
    build(*SMALL, "--target-latency", "9ms", "--cells-per-stage", "1", *how)
    latencies = [size["latency"] for size in json.loads(capsys.readouterr().out)["size_table"]["sizes"]]
    assert {(each["engine"], each["precision"], each["reference"]) for each in latencies} == {
        ("folded", "bfloat16", 0.001)
    }


def test_an_engine_that_cannot_take_a_network_gives_way_to_the_folded_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(network: ImageClassifier) -> object:
        raise RuntimeError("no such step")

    monkeypatch.setattr("nascli.models.deploy.engines.convert", fail)
    monkeypatch.setattr("nascli.models.deploy.timing.measure_latency", latency_by_filters)
    target = (*SMALL, "--target-latency", "9ms", "--cells-per-stage", "1", "--device", "cpu")
    build(*target)
    said = capsys.readouterr().err
    assert "the engine cannot take darts-v2: no such step; the folded network" in said
    assert "folded in float32" in said
    with pytest.raises(SystemExit) as caught:
        main(["build", *target, "--engine", "openvino"])
    assert caught.value.code == 1
    assert "no such step" in capsys.readouterr().err


def test_speed_is_measured_of_every_engine(capsys: pytest.CaptureFixture[str]) -> None:
    numbers = (*SMALL, "--filters", "4", "--cells-per-stage", "1")
    build(*numbers, "--benchmark", "--batch", "1", "--batch", "2", "--threads", "1", "--device", "cpu")
    printed = capsys.readouterr()
    assert "float32, channels last, 1 thread" in printed.out
    assert [line.split()[:2] for line in printed.out.splitlines() if line.startswith(("trained", "folded"))] == [
        ["trained", "1"],
        ["trained", "2"],
        ["folded", "1"],
        ["folded", "2"],
    ]
    assert "the weights are random: speed does not depend on them" in printed.err


def test_a_trained_network_is_measured_and_exported(capsys: pytest.CaptureFixture[str]) -> None:
    network = make_network()
    write_network(Path("network.json"), network.spec)
    save_weights(Path("weights.safetensors"), network)
    build("--network", ".", "--benchmark", "--batch", "2", "--export", "out/model.pt2", "--device", "cpu", "--json")
    printed = capsys.readouterr()
    values = json.loads(printed.out)
    assert values["cell"] == "tiny"
    assert {row["batch"] for row in values["speed"]} == {2}
    assert all(row["difference"] < 1e-4 and row["images_per_second"] > 0 for row in values["speed"])
    (made,) = values["exported"]
    assert made["path"] == "out/model.pt2"
    assert made["size"] == Path("out/model.pt2").stat().st_size
    assert "wrote out/model.pt2: images (N, 3, 8, 8) to logits (N, 3)" in printed.err
    assert "next: nascli evaluate" in printed.err


def test_best_json_that_is_not_here_is_the_newest_searchs(capsys: pytest.CaptureFixture[str]) -> None:
    newest = Path("runs/search/latest")
    newest.mkdir(parents=True)
    (newest / "best.json").write_text(zoo_genotype("enas").to_json())
    with pytest.raises(SystemExit):
        main(["build", "--cell", "best.json", "--json"])
    printed = capsys.readouterr()
    assert json.loads(printed.out)["cell"] == "enas"
    assert "taken from" in printed.err
