"""`nascli train` with real files: what it writes, how it is stopped and resumed, what it refuses."""

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from nascli.cli.train_source import DEFAULT_RECIPES
from nascli.config import SearchRecipe, TrainRecipe, find_recipe, load_recipe
from nascli.engine.optim import remark_on_lr
from nascli.genotype.resolve import zoo_genotype
from nascli.models.serialization import load_network
from nascli.models.spec import write_network
from nascli.records import read_lines
from nascli.runs.start import create_run
from tests.cells import read_cells
from tests.classify.small_training import GENOTYPE, make_spec
from tests.cli.program import SETTINGS, Nascli, write_images

TRAIN = f"train --cell cell.json --dataset folder:images {SETTINGS}"


def metrics(folder: str) -> list[dict[str, object]]:
    lines = read_lines(Path(folder, "metrics.jsonl"))
    return [{k: v for k, v in line.items() if k not in ("seconds", "images_per_second")} for line in lines]


def same_weights(first: str, second: str) -> bool:
    one, two = (Path(folder, "weights.safetensors").read_bytes() for folder in (first, second))
    return one == two


def test_a_run_leaves_every_file_and_says_what_comes_next(nascli: Nascli) -> None:
    ran = nascli(f"{TRAIN} --out done")
    assert ran.code == 0, ran.err
    assert "tiny on folder:images: final" in ran.out
    assert "top-1" in ran.out
    assert [line for line in ran.err.splitlines() if line.startswith("epoch 2/3  train loss ")]
    assert ran.next == ["nascli evaluate done", "nascli detect --backbone done"]
    written = {path.name for path in Path("done").iterdir()} - {".lock"}
    written_on_the_way = {"checkpoint.pt", "checkpoint.previous.pt", "progress.json"}
    results = {"run.json", "recipe.toml", "network.json", "metrics.jsonl", "weights.safetensors"}
    assert written == results | written_on_the_way
    run = json.loads(Path("done/run.json").read_text())
    lines = metrics("done")
    assert run["status"] == "complete"
    assert run["results"]["label"] == "final"
    assert run["results"]["top1"] == lines[-1]["top1"]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert [line["step"] for line in lines] == [3, 6, 9]
    assert "cell.json" in "".join(run["inputs"])
    spec = read_cells(Path("done/network.json"))
    assert (spec.filters, spec.cells_per_stage, spec.image_size, spec.classes) == (4, 1, 8, 3)
    assert spec.class_names == ("cat", "cow", "dog")
    assert load_network("done").spec == spec


def test_json_is_one_object_alone_on_stdout(nascli: Nascli) -> None:
    ran = nascli(f"{TRAIN} --json")
    run = Path(ran.json["run"])
    assert ran.json | {"run": ""} == json.loads((run / "run.json").read_text())["results"] | {"run": ""}
    assert {"top1", "top5", "loss", "params", "mult_adds", "seconds", "images"} <= set(ran.json)
    assert Path("runs/train/latest").resolve() == run.resolve()
    assert "folder" not in run.name
    assert "images-tiny" in run.name


def test_a_learning_rate_of_sgd_is_remarked_on_with_adamw() -> None:
    """The recipe of digits has SGD's 0.1."""
    config = load_recipe(TrainRecipe, find_recipe("train", "digits")).train
    assert not remark_on_lr(config)
    for name in ("adamw", "muon"):
        changed = config.model_copy(update={"optimizer": name})
        assert "train.lr = 0.1" in remark_on_lr(changed)
        assert not remark_on_lr(changed.model_copy(update={"lr": 0.002}))


def test_the_same_recipe_file_repeats_the_run_and_another_seed_does_not(nascli: Nascli) -> None:
    nascli(f"{TRAIN} --out first")
    assert nascli("train --cell cell.json --recipe first/recipe.toml --out second").code == 0
    assert nascli("train --cell cell.json --recipe first/recipe.toml --seed 4 --out third").code == 0
    assert same_weights("first", "second")
    assert metrics("first") == metrics("second")
    assert not same_weights("first", "third")


@pytest.mark.parametrize(
    ("option", "key", "value"),
    [
        ("--epochs 1", "train.epochs", 1),
        ("--batch-size 20", "train.batch_size", 20),
        ("--lr 0.3", "train.lr", 0.3),
        ("--filters 6", "network.filters", 6),
        ("--cells-per-stage 2", "network.cells_per_stage", 2),
        ("--image-size 12", "network.image_size", 12),
        ("--seed 8", "seed", 8),
        ("--set train.momentum=0.5", "train.momentum", 0.5),
        ("--data-dir elsewhere", "data.data_dir", "elsewhere"),
        ("--preset cifar10 --filters 4 --cells-per-stage 1", "network.stem", "cifar"),
    ],
)
def test_an_option_reaches_the_recipe(nascli: Nascli, option: str, key: str, value: object) -> None:
    base = "train --cell cell.json --dataset folder:images --epochs 1 --filters 4 --cells-per-stage 1 --out run"
    assert nascli(f"{base} {option}").code == 0
    found = tomllib.loads(Path("run/recipe.toml").read_text())
    for part in key.split("."):
        found = found[part]
    assert found == value


def test_a_preset_replaces_the_numbers_of_the_recipe(nascli: Nascli) -> None:
    ran = nascli("train --cell cell.json --dataset digits --preset cifar10 --dry-run")
    assert ran.code == 0
    assert "N = 6, F = 32" in ran.out


def test_a_network_file_brings_its_macro_numbers(nascli: Nascli) -> None:
    nascli("build --cell cell.json --filters 6 --cells-per-stage 2 --image-size 16 --classes 7 --out net")
    base = "train --dataset folder:images --epochs 1"
    assert nascli(f"{base} --cell net/network.json --out a").code == 0
    assert nascli(f"{base} --cell net --filters 4 --out b").code == 0
    a, b = (read_cells(Path(name, "network.json")) for name in "ab")
    assert (a.filters, a.cells_per_stage, a.image_size, a.stem_filters, a.classes) == (6, 2, 16, 18, 3)
    assert (b.filters, b.cells_per_stage, b.stem_filters) == (4, 2, 12)


def test_every_macro_number_of_a_network_file_is_used(nascli: Nascli) -> None:
    numbers = {"skip_reduction_input": True, "reduction_placement": "in_place", "cells_per_stage": 2, "stem_filters": 7}
    numbers |= {"dropout": 0.3, "batch_norm_momentum": 0.2, "batch_norm_epsilon": 1e-4}
    write_network(Path("other.json"), make_spec().model_copy(update=numbers))
    assert nascli("train --dataset folder:images --epochs 1 --cell other.json --out run").code == 0
    spec = read_cells(Path("run/network.json")).model_dump()
    assert {name: spec[name] for name in numbers} == numbers


@pytest.mark.parametrize("cell", ["best.json", "runs/search/latest", "enas"])
def test_a_cell_is_found_where_the_search_left_it(nascli: Nascli, cell: str) -> None:
    with create_run("search", "x", SearchRecipe(), runs=Path("runs").resolve()) as run:
        run.file("best.json").write_text(zoo_genotype("enas").to_json())
    options = "--dataset folder:images --epochs 1 --filters 4 --cells-per-stage 1 --json"
    ran = nascli(f"train --cell {cell} {options}")
    assert ran.json["cell"] == "enas"
    assert ("best.json: taken from" in ran.err) == (cell == "best.json")


def test_a_data_set_chooses_its_recipe(nascli: Nascli) -> None:
    ran = nascli("train --cell cell.json --dry-run --json")
    assert "recipe digits" in ran.err
    assert ran.json["dataset"] == "digits"
    assert ran.json["epochs"] == load_recipe(TrainRecipe, find_recipe("train", "digits")).train.epochs
    for dataset, recipe in [item for recipes in DEFAULT_RECIPES.values() for item in recipes.items()]:
        own = load_recipe(TrainRecipe, find_recipe("train", recipe)).data.dataset
        assert own == ("cifar10" if dataset == "cifar100" else dataset)


def test_a_dry_run_measures_and_writes_nothing(nascli: Nascli) -> None:
    before = sorted(Path().rglob("*"))
    ran = nascli(f"{TRAIN} --dry-run")
    assert "estimated total" in ran.out
    assert "9 in 3 epochs" in ran.out
    assert len(ran.next) == 1
    assert ran.next[0].startswith("nascli train --cell cell.json --dataset folder:images --epochs 3")
    plan = nascli(f"{TRAIN} --dry-run --json").json
    assert plan["steps"] == 9
    assert plan["seconds"] > 9 * plan["seconds_per_step"] > 0
    assert sorted(Path().rglob("*")) == before
    assert nascli(ran.next[0].removeprefix("nascli ")).code == 0


def wait_for_epoch(folder: str, epoch: int) -> None:
    deadline = time.monotonic() + 300
    while not (Path(folder, "metrics.jsonl").is_file() and len(metrics(folder)) >= epoch):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def terminated_after_epoch(folder: str, epoch: int) -> Iterator[None]:
    """Send SIGTERM to this process when `folder` has seen that many epochs; one that comes late does nothing."""

    def terminate() -> None:
        wait_for_epoch(folder, epoch)
        signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    sender = Thread(target=terminate)
    sender.start()
    try:
        yield
    finally:
        sender.join()
        signal.signal(signal.SIGTERM, before)


LONG = f"{TRAIN} --set train.epochs=24 --set train.checkpoint_minutes=1e-9"
"""Long enough to be hit in the middle; a checkpoint after every step."""


def test_killed_and_terminated_and_resumed_it_ends_where_it_would_have(nascli: Nascli) -> None:
    assert nascli(f"{LONG} --out whole").code == 0
    command = [sys.executable, "-c", "from nascli.cli.app import main; main()", *f"{LONG} --out parts".split()]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"}) as process:
        wait_for_epoch("parts", 2)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert json.loads(Path("parts/run.json").read_text())["status"] == "running"
    before = len(metrics("parts"))
    assert 2 <= before < 20
    with terminated_after_epoch("parts", before + 2):
        ran = nascli("train --resume parts")
    assert ran.code == 130, ran.err
    assert "resuming from checkpoint.pt, step" in ran.err
    assert "interrupted: stopped after step" in ran.err
    assert "Resume with: nascli train --resume" in ran.err
    assert json.loads(Path("parts/run.json").read_text())["status"] == "interrupted"
    assert before + 2 <= len(metrics("parts")) < 24
    assert nascli("train --resume parts --json").code == 0
    assert same_weights("whole", "parts")
    assert metrics("whole") == metrics("parts")
    run = json.loads(Path("parts/run.json").read_text())
    assert (run["status"], run["resumed"]) == ("complete", 2)


def test_a_finished_run_can_be_resumed_and_latest_is_it(nascli: Nascli) -> None:
    first = nascli(f"{TRAIN} --json").json
    again = nascli("train --resume latest --json").json
    assert again == first | {"run": again["run"]}


def test_moved_data_are_found_on_resume(nascli: Nascli) -> None:
    Path("here/imagenet").parent.mkdir()
    Path("images").rename("here/imagenet")
    line = "train --cell cell.json --dataset imagenet --recipe mini.toml --data-dir here --out run"
    Path("mini.toml").write_text(
        "[data]\nworkers = 0\n[network]\nimage_size = 12\nfilters = 4\ncells_per_stage = 1\n[train]\nepochs = 1\n"
    )
    assert nascli(line).code == 0
    Path("here").rename("there")
    assert nascli("train --resume run").code == 2
    assert nascli("train --resume run --data-dir there").code == 0


def test_data_that_changed_are_refused_on_resume(nascli: Nascli) -> None:
    assert nascli(f"{TRAIN} --out run").code == 0
    removed = [Path(f"images/train/cat/0{k}.png") for k in range(3)]
    for path in removed:
        path.rename(path.with_suffix(".gone"))
    ran = nascli("train --resume run")
    assert ran.code == 2
    assert (
        "run was begun with 60 training and 18 validation images, now there are 57 training and 18 validation images "
        "(data set folder:images)"
    ) in ran.err
    for path in removed:
        path.with_suffix(".gone").rename(path)
    Image.new("RGB", (8, 8), "white").save(removed[0])
    assert "run was begun with other 60 training and 18 validation images" in nascli("train --resume run").err


def test_a_folder_that_moved_is_named_on_resume(nascli: Nascli) -> None:
    first = nascli(f"{TRAIN} --out run --json").json
    Path("images").rename("elsewhere")
    assert nascli("train --resume run").code == 2
    ran = nascli("train --resume run --dataset folder:elsewhere --json")
    assert ran.code == 0, ran.err
    assert ran.json == first | {"dataset": "folder:elsewhere"}
    assert nascli("evaluate run").code == 0  # it remembers
    assert nascli("train --resume run").code == 0


def test_the_learning_rate_of_a_base_batch_is_said(nascli: Nascli) -> None:
    ran = nascli(f"{TRAIN} --lr 0.05 --set train.lr_base_size=64 --json")
    assert ran.code == 0, ran.err
    assert "learning rate 0.05 for 64 images per step: 0.0125 for 16" in ran.err
    ran = nascli(f"{TRAIN} --lr 0.0125 --out plain --json")
    assert "images per step" not in ran.err
    assert metrics(str(max(Path("runs/train").iterdir()))) == metrics("plain")


def test_data_without_a_recipe_are_said_to_have_none(nascli: Nascli) -> None:
    ran = nascli("train --cell cell.json --dataset folder:images --filters 4 --cells-per-stage 1 --dry-run")
    assert "no recipe for folder:images: what is not given has its default" in ran.err
    for spelling in ("data.dataset=folder:images", "'data.dataset = \"folder:images\"'"):
        line = f"train --cell cell.json --set {spelling} --filters 4 --cells-per-stage 1 --dry-run"
        assert "no recipe for folder:images" in nascli(line).err


def test_the_next_command_can_be_pasted_whatever_the_folder_is_called(nascli: Nascli) -> None:
    ran = nascli(f"{TRAIN} --out 'my run'")
    assert ran.next == ["nascli evaluate 'my run'", "nascli detect --backbone 'my run'"]
    assert nascli(ran.next[0].removeprefix("nascli ")).code == 0


def spoil() -> None:
    """The files that wrong usages name."""
    Path("torn.json").write_text('{"schema": 1, "na')
    Path("key.toml").write_text("[train]\nepoch = 3\n")
    Path("torn.toml").write_text("[train\n")
    Path("empty").mkdir()
    Path("full").mkdir()
    Path("full/notes.txt").write_text("mine")
    write_images(Path("one"), names=("cat",))
    write_images(Path("broken"), names=("cat", "dog"), count=3)
    Path("broken/train/dog/01.png").write_bytes(b"\x89PNG")
    with create_run("search", "x", SearchRecipe(), runs=Path("runs"), out=Path("searched")):
        pass


@pytest.mark.parametrize(
    ("options", "code", "phrase"),
    [
        ("", 2, "--cell is missing"),
        ("--cell nasnet-z", 2, "Did you mean nasnet-a?"),
        ("--cell gone.json", 2, "gone.json: No such file"),
        ("--cell torn.json", 1, "torn.json is not JSON"),
        ("--cell empty", 2, "neither best.json nor network.json"),
        ("--cell cell.json --dataset digit", 2, "Did you mean digits?"),
        ("--cell cell.json --dataset folder:gone", 2, "gone: no such folder"),
        ("--cell cell.json --dataset folder:one", 2, "at least two are needed"),
        ("--cell cell.json --dataset folder:broken", 1, "broken/train/dog/01.png cannot be decoded"),
        ("--cell cell.json --dataset imagenet", 2, "data/imagenet/train: no such folder. Put the images at"),
        ("--cell cell.json --recipe cifar", 2, "Did you mean cifar10"),
        ("--cell cell.json --recipe gone.toml", 2, "gone.toml: no such file"),
        ("--cell cell.json --recipe key.toml", 2, "key.toml: unknown key train.epoch. Did you mean epochs?"),
        ("--cell cell.json --recipe torn.toml", 1, "torn.toml is not TOML"),
        ("--cell cell.json --set train.lr", 2, "not of the form key=value"),
        ("--cell cell.json --set train.rate=1", 2, "unknown key train.rate"),
        ("--cell cell.json --epochs 0", 2, "train.epochs = 0"),
        ("--cell cell.json --batch-size 1", 2, "train.batch_size = 1"),
        ("--cell cell.json --device cuda:99", 2, "CUDA devices"),
        ("--cell cell.json --device tpu", 2, "no such device"),
        ("--cell cell.json --out full", 2, "full is not empty"),
        ("--cell cell.json --out full --overwrite", 2, "not a run folder"),
        ("--resume gone", 2, "gone: no such folder. nascli train makes one"),
        ("--resume latest", 2, "nascli train makes one"),
        ("--resume empty", 2, "not a run folder"),
        ("--resume searched", 2, "a run of nascli search, not of nascli train"),
        ("--resume x --cell cell.json --lr 1 --seed 0", 2, "it excludes --cell, --lr, --seed"),
        ("--resume x --set train.lr=1 --dry-run", 2, "it excludes --set, --dry-run"),
        ("--cell cell.json --preset huge", 2, "huge"),
    ],
)
def test_wrong_usage_is_one_line(nascli: Nascli, options: str, code: int, phrase: str) -> None:
    spoil()
    ran = nascli(f"train {options}")
    assert ran.code == code, ran.err
    assert phrase in " ".join(ran.err.split())
    assert ran.out == ""
    assert "Traceback" not in ran.err
    assert not Path("runs/train").exists()


def test_a_preset_beside_a_network_file_is_refused(nascli: Nascli) -> None:
    nascli("build --cell cell.json --filters 4 --cells-per-stage 1 --out net")
    ran = nascli("train --cell net --preset cifar10")
    assert ran.code == 2
    assert "--preset and a network.json exclude each other" in ran.err


def test_damaged_checkpoints_are_told_from_each_other(nascli: Nascli) -> None:
    nascli(f"{TRAIN} --out run")
    good = Path("run/weights.safetensors").read_bytes()
    newest, previous = Path("run/checkpoint.pt"), Path("run/checkpoint.previous.pt")
    newest.write_bytes(newest.read_bytes()[:3000])
    ran = nascli("train --resume run")
    assert ran.code == 0
    assert "run/checkpoint.pt is damaged" in ran.err
    assert "resuming from checkpoint.previous.pt, step 6" in ran.err
    assert Path("run/weights.safetensors").read_bytes() == good
    for path in (newest, previous):
        path.write_bytes(b"")
    ran = nascli("train --resume run")
    assert ran.code == 1
    assert "error: run/checkpoint.pt is damaged" in ran.err
    assert "--overwrite" in ran.err


def test_a_run_folder_that_was_changed_is_not_gone_on_with(nascli: Nascli) -> None:
    nascli(f"{TRAIN} --out run")
    recipe = Path("run/recipe.toml")
    recipe.write_text(recipe.read_text().replace("epochs = 3", "epochs = 4"))
    ran = nascli("train --resume run")
    assert ran.code == 2
    assert "run/recipe.toml: train.epochs is 4, but the run was begun with 3" in ran.err
    assert "--recipe run/recipe.toml" in ran.err


def test_a_run_folder_in_use_is_refused(nascli: Nascli) -> None:
    nascli(f"{TRAIN} --out run")
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fcntl, time; f = open('run/.lock', 'w'); fcntl.flock(f, 2); print(1, flush=True); time.sleep(60)",
        ],
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        for options in ("--resume run", f"{TRAIN.removeprefix('train ')} --out run --overwrite"):
            ran = nascli(f"train {options}")
            assert ran.code == 2
            assert "run is in use by another process" in ran.err
    finally:
        holder.kill()
        holder.communicate()


def test_divergence_is_one_line_and_the_run_is_marked(nascli: Nascli) -> None:
    ran = nascli(f"{TRAIN} --lr 1e30 --set train.clip_grad_norm=0 --set train.warmup_epochs=0 --out run")
    assert ran.code == 1
    assert "training diverged: the loss is" in ran.err
    assert "at step" in ran.err
    assert json.loads(Path("run/run.json").read_text())["status"] == "failed"


def test_a_device_without_enough_memory_is_explained(nascli: Nascli, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhaust(network: torch.nn.Module, x: torch.Tensor) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("nascli.models.cells.network.CellNetwork.forward_with_aux", exhaust)
    ran = nascli(f"{TRAIN} --out run")
    assert ran.code == 1
    assert [f"computed in {parts} micro-batches" in ran.err for parts in (2, 4, 8, 16)] == [True, True, True, False]
    assert "not enough memory for two images of 8 pixels at once" in ran.err
    assert "--filters" in ran.err


def test_the_averaged_weights_are_the_ones_kept(nascli: Nascli) -> None:
    nascli(f"{TRAIN} --out averaged")
    nascli(f"{TRAIN} --set train.ema_decay=0 --out last")
    averaged, last = (load_file(f"{name}/weights.safetensors") for name in ("averaged", "last"))
    assert averaged.keys() == last.keys()
    assert any((averaged[name] != last[name]).any() for name in averaged)


def test_the_cell_of_the_run_is_the_one_given(nascli: Nascli) -> None:
    nascli(f"{TRAIN} --out run")
    assert read_cells(Path("run/network.json")).genotype == GENOTYPE
