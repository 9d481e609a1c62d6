"""A family of another package, found by its entry point, through every command: nascli itself never names it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nascli.config import NETWORK_SECTIONS, SPACE_SECTIONS, load_plugins
from nascli.config.section import PLUGIN_GROUP
from nascli.genotype import families
from nascli.models import families as networks
from nascli.records import read_record
from nascli.runs.find import read_run
from nascli.search.journal import read_trials
from nascli.search.trial import Trial
from tests.cli.program import Nascli, write_images
from tests.detect.coco_folder import write_coco

RECIPE = """
seed = 5
[data]
dataset = "folder:images"
[space]
name = "odd-chain"
family = "chain"
kernels = [1, 3]
[network]
filters = 4
[train]
epochs = 1
batch_size = 32
[search]
strategy = "exhaustive"
trials = 64
workers = 1
top = 2
"""
SETTINGS = "--dataset folder:images --epochs 3 --batch-size 16 --filters 4 --seed 3"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The package as if it were installed: its entry point is found here and in other processes."""
    site = tmp_path_factory.mktemp("site")
    metadata = site / "chain_family-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: chain-family\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[{PLUGIN_GROUP}]\nchain = tests.outside_family.family\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        paths = [str(site), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        patch.setenv("OMP_NUM_THREADS", "1")
        load_plugins.cache_clear()
        load_plugins()
        yield
    tables: list[dict[str, Any]] = [SPACE_SECTIONS, NETWORK_SECTIONS, families.FAMILIES, networks.FAMILIES]
    for table in tables:
        del table["chain"]
    for name in ("family", "network"):
        sys.modules.pop(f"tests.outside_family.{name}", None)


@pytest.fixture
def nascli(installed: None, capsys: pytest.CaptureFixture[str]) -> Nascli:
    write_images(Path("images"))
    Path("chain.toml").write_text(RECIPE)
    return Nascli(capsys)


def start(*arguments: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "nascli", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_after(process: "subprocess.Popen[bytes]", file: Path, lines: int) -> None:
    """Kill a command as soon as its file has so many lines."""
    deadline = time.monotonic() + 120
    while not file.exists() or file.read_bytes().count(b"\n") < lines:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()


def lasting(folder: str) -> list[Trial]:
    """The trials of a run without their times."""
    trials = read_trials(Path(folder, "trials.jsonl"))
    return [replace(t, score=t.score and replace(t.score, seconds=0.0)) for t in trials]


@pytest.mark.slow
def test_a_killed_search_ends_as_the_undisturbed_one_and_becomes_a_table_that_others_search(nascli: Nascli) -> None:
    ran = nascli("search --recipe chain.toml --out whole")
    assert ran.code == 0, ran.err
    trials = read_trials(Path("whole/trials.jsonl"))
    assert len({trial.hash for trial in trials}) == 4**3
    kill_after(start("search", "--recipe", "chain.toml", "--out", "killed"), Path("killed/trials.jsonl"), 80)
    assert len([trial for trial in read_trials(Path("killed/trials.jsonl")) if trial.finished]) < 4**3
    assert nascli("search --resume killed").code == 0
    assert lasting("killed") == lasting("whole")

    assert nascli("report whole --table chain.h5").code == 0
    for strategy in ("random", "evolution", "ppo", "bayesian"):
        ran = nascli(
            f"search --recipe chain.toml --strategy {strategy} --trials 25 --evaluator table:chain.h5 --out {strategy} "
            "--set bayesian.n_startup_trials=6 --set evolution.population=6 --set ppo.batch_size=5 --json"
        )
        assert ran.code == 0, ran.err
        assert ran.json["trials"] == 25
    ran = nascli("report evolution --json")
    assert ran.code == 0, ran.err
    page = Path("evolution/report.html").read_text(encoding="utf-8")
    for phrase in ("3 layers, 2 kernels", "Kernels of the chain", "conv 3×3"):
        assert phrase in page
    ran = nascli("search --recipe chain.toml --evaluator one_shot --out none")
    assert ran.code == 2
    assert "chain" in ran.err


def test_a_chain_is_decoded_drawn_and_built(nascli: Nascli) -> None:
    ran = nascli(
        "decode --space chain --tokens 1,0,2,1,0,0 --out cell.json --draw cell.svg --draw cell.dot --draw cell.png"
    )
    assert ran.code == 0, ran.err
    assert "conv 5×5, 2F" in ran.out
    assert "tokens  1,0,2,1,0,0" in ran.out
    assert "conv 5×5, 2F" in Path("cell.svg").read_text(encoding="utf-8")
    assert "layer_0 -> layer_1" in Path("cell.dot").read_text(encoding="utf-8")
    assert Path("cell.png").read_bytes().startswith(b"\x89PNG")
    again = nascli("decode cell.json --json")
    assert again.json["tokens"] == [1, 0, 2, 1, 0, 0]
    assert read_record(Path("cell.json")) == again.json["genotype"]
    written = nascli("decode cell.json --to chain").out.strip()
    assert written == "3x1 5x2 1x1"
    assert nascli(f"decode '{written}' --from chain --json").json["canonical_hash"] == again.json["canonical_hash"]
    refused = nascli("decode cell.json --to darts")
    assert refused.code == 2
    assert "chain" in refused.err
    built = nascli("build --cell cell.json --filters 4 --image-size 8 --classes 3 --out built --json")
    assert built.code == 0, built.err
    params = 3 * 4 * 9 + 4 * 8 * 25 + 8 * 4 + 2 * (4 + 8 + 4) + 4 * 3 + 3
    assert built.json["params"] == params


def test_a_killed_training_ends_as_the_undisturbed_one_and_is_evaluated_and_detects(nascli: Nascli) -> None:
    assert nascli("decode --space chain --tokens 1,1,1,0,1,1 --out cell.json").code == 0
    arguments = f"train --cell cell.json {SETTINGS}"
    ran = nascli(f"{arguments} --out whole")
    assert ran.code == 0, ran.err
    kill_after(start(*arguments.split(), "--out", "killed"), Path("killed/metrics.jsonl"), 1)
    assert nascli("train --resume killed").code == 0
    whole, killed = (Path(folder, "weights.safetensors").read_bytes() for folder in ("whole", "killed"))
    assert whole == killed
    assert nascli("build --network whole").code == 0
    evaluated = nascli("evaluate whole --json")
    assert evaluated.code == 0, evaluated.err
    assert evaluated.json["top1"] == read_run(Path("whole"))["results"]["top1"]
    write_coco(Path("data/coco"))
    detected = nascli(
        "detect --coco --backbone whole --recipe digit-scenes --epochs 1 --batch-size 4 "
        "--set detector.pyramid_channels=8 --set detector.head_channels=16 --set detector.rpn_post_nms_top_n=20 "
        "--out found --json"
    )
    assert detected.code == 0, detected.err
    assert "ap50" in detected.json
