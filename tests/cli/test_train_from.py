"""`nascli train --from`: weights of a run, a folder, a file or a supernet, in a network for other classes."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from nascli.engine.checkpoint import CheckpointStore
from nascli.models.tensor_files import write_tensors
from tests.cli.program import SETTINGS, Nascli, write_images

STILL = "--epochs 1 --batch-size 8 --lr 1e-30 --set train.freeze_batch_norm=both"
"""A training that moves no weight."""

OTHERS = f"--dataset folder:others {STILL}"

SEARCH = """
[space]
name = "mine"
ops = ["conv_3x3", "max_pool_3x3"]
blocks = 1
inputs = "distinct"
cells = "one"
[network]
filters = 4
cells_per_stage = 1
[search]
trials = 2
workers = 1
[supernet]
epochs = 1
batch_size = 16
bn_calibration_images = 32
"""


def tensors(folder: str) -> dict[str, Tensor]:
    return {k: v for k, v in load_file(f"{folder}/weights.safetensors").items() if "num_batches" not in k}


def start_of(folder: str) -> dict[str, object]:
    record: dict[str, object] = json.loads(Path(folder, "run.json").read_text())["start_weights"]
    return record


def changed(one: str, other: str) -> set[str]:
    first, second = tensors(one), tensors(other)
    return {name for name in first if name not in second or not torch.equal(first[name], second[name])}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def base(nascli: Nascli, kept: Path) -> None:
    """A run `base` of cats, cows and dogs with an auxiliary head; images of four classes, of which two are the same."""
    if not (kept / "base").exists():
        write_images(kept / "others", ("cow", "dog", "hen", "pig"), count=10)
        ran = nascli(f"train --cell cell.json --dataset folder:images {SETTINGS} --epochs 1 --out base")
        assert ran.code == 0, ran.err
        shutil.copytree("base", kept / "base")
    for name in ("others", "base"):
        shutil.copytree(kept / name, name, dirs_exist_ok=True)


def test_every_tensor_is_taken_and_the_outputs_of_classes_of_the_same_name(nascli: Nascli, base: None) -> None:
    ran = nascli(f"train --from base {OTHERS} --set train.aux_weight=0.4 --out tuned")
    assert ran.code == 0, ran.err
    assert "train run base: 91 tensors taken; 2 of 4 classes taken by name" in ran.err
    record = start_of("tuned")
    assert (record["tensors"], record["new"], record["classes"], record["new_classes"]) == (91, 0, 2, 2)
    before, after = tensors("base"), tensors("tuned")
    heads = {"classifier.weight", "classifier.bias", "aux_head.layers.9.weight", "aux_head.layers.9.bias"}
    norms = {name for name in before if name.startswith("aux_head") and "running" in name}  # never frozen
    assert changed("base", "tuned") == heads | norms
    for name in heads:
        assert torch.equal(after[name][:2], before[name][1:])
        assert after[name].shape[0] == 4


def test_the_recipe_says_it_and_repeats_it(nascli: Nascli, base: None) -> None:
    nascli("train --from base --dataset folder:others --epochs 1 --batch-size 8 --image-size 12 --out tuned")
    recipe = Path("tuned/recipe.toml").read_text()
    assert 'weights = "base"' in recipe
    assert "image_size = 12" in recipe
    inputs = json.loads(Path("tuned/run.json").read_text())["inputs"]
    assert {"base/network.json", "base/weights.safetensors"} <= inputs.keys()
    again = nascli("train --recipe tuned/recipe.toml --out again")
    assert again.code == 0, again.err
    assert not changed("tuned", "again")


def test_of_another_image_size_the_auxiliary_head_is_new(nascli: Nascli, base: None) -> None:
    ran = nascli(f"train --from base {OTHERS} --image-size 24 --set train.aux_weight=0.4 --out tuned")
    assert ran.code == 0, ran.err
    assert "79 tensors taken, 12 new: auxiliary head" in ran.err
    assert json.loads(Path("tuned/network.json").read_text())["image_size"] == 24


def test_without_a_class_of_the_same_name_the_classifier_is_new(nascli: Nascli, base: None) -> None:
    write_images(Path("birds"), ("hen", "owl"))
    ran = nascli(f"train --from base --dataset folder:birds {STILL} --out tuned")
    assert "77 tensors taken, 2 new: classifier, 12 not needed" in ran.err
    assert changed("tuned", "base") == {"classifier.weight", "classifier.bias"}
    same = nascli(f"train --from base {OTHERS} --set start.classes=new --out new")
    assert "77 tensors taken, 2 new: classifier" in same.err


def test_images_are_prepared_as_the_weights_know_them_unless_told_otherwise(nascli: Nascli, base: None) -> None:
    write_images(Path("dark"), ("cat", "cow"), count=4)
    seen = {}
    for name, more in (("kept", ""), ("own", "--set start.preprocessing=data")):
        nascli(f"train --from base --dataset folder:dark {STILL} --out {name} {more}")
        seen[name] = json.loads(Path(name, "network.json").read_text())["mean"]
    assert seen["kept"] == json.loads(Path("base/network.json").read_text())["mean"] != seen["own"]


def test_the_classifier_alone_is_trained(nascli: Nascli, base: None) -> None:
    line = "train --from base --dataset folder:others --epochs 1 --batch-size 8 --freeze backbone"
    nascli(f"{line} --set train.ema_decay=0.5 --set train.classifier_lr_factor=10 --out tuned")
    assert changed("tuned", "base") == {"classifier.weight", "classifier.bias"}
    assert (
        nascli(f"{line} --dry-run --json").json["memory"]
        < nascli("train --from base --dataset folder:others --epochs 1 --batch-size 8 --dry-run --json").json["memory"]
    )


def test_a_run_goes_on_from_a_run_that_was_tuned_and_from_latest(nascli: Nascli, base: None) -> None:
    assert nascli(f"train --from base {OTHERS}").code == 0
    ran = nascli(f"train --from latest --dataset folder:images {STILL} --out back")
    assert "2 of 3 classes taken by name" in ran.err
    assert Path(str(start_of("back")["weights"])).name != "latest"


def test_a_file_of_our_own_needs_the_cell(nascli: Nascli, base: None) -> None:
    shutil.copy("base/weights.safetensors", "mine.safetensors")
    line = f"train --from mine.safetensors --dataset folder:others {STILL} --image-size 8 --out tuned"
    refused = nascli(line)
    assert (refused.code, "--cell" in refused.err) == (2, True)
    ran = nascli(f"{line} --cell cell.json --filters 4 --cells-per-stage 1")
    assert ran.code == 0, ran.err
    assert changed("tuned", "base") == {"classifier.weight", "classifier.bias"}


@pytest.mark.slow
def test_a_child_of_a_supernet_begins_with_what_it_inherits(nascli: Nascli) -> None:
    Path("tiny.toml").write_text(SEARCH)
    search = "search --recipe tiny.toml --dataset folder:images --evaluator one_shot --strategy random --out found"
    ran = nascli(search)
    assert ran.code == 0, ran.err
    write_images(Path("others"), ("cow", "dog", "hen", "pig"))
    ran = nascli(f"train --from found {OTHERS} --out tuned")
    assert ran.code == 0, ran.err
    assert "2 of 4 classes taken by name; statistics of batch norms measured on 32 training images" in ran.err
    note = nascli("train --cell found --dataset folder:nowhere").err
    assert "found/supernet.safetensors is not used" in note
    assert "nascli train --from found" in note
    other = json.loads(Path("found/best.json").read_text())
    Path("other.json").write_text(json.dumps({k: v for k, v in other.items() if k != "checksum"} | {"name": "other"}))
    child = nascli(f"train --from found --cell other.json {OTHERS} --out child")
    assert "child other of the supernet in found" in child.err
    assert not changed("child", "tuned")
    Path("found/supernet.safetensors").unlink()
    assert (gone := nascli(f"train --from found {OTHERS}")).code == 2
    assert "holds no weights" in gone.err


@pytest.mark.parametrize("saves", [0, 1, 3])
def test_a_killed_run_resumes_bit_for_bit_without_its_source(
    saves: int, nascli: Nascli, base: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It replaces another run, and ends at its first checkpoint, before that is written, or at a later one."""
    line = "train --from base --dataset folder:others --epochs 2 --batch-size 20 --set train.checkpoint_steps=1"
    line += " --set train.ema_decay=0.5 --set train.layer_decay=0.7 --freeze stem"
    nascli(f"{line} --out whole")
    whole, left = CheckpointStore.save, [saves]

    def save(store: CheckpointStore, state: dict[str, object]) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        whole(store, state)

    shutil.copytree("base", "cut")
    monkeypatch.setattr(CheckpointStore, "save", save)
    assert nascli(f"{line} --out cut --overwrite").code != 0
    monkeypatch.setattr(CheckpointStore, "save", whole)
    assert Path("cut/checkpoint.pt").exists() == (saves > 0)
    shutil.rmtree("base")
    ran = nascli("train --resume cut")
    assert ran.code == 0, ran.err
    assert Path("cut/weights.safetensors").read_bytes() == Path("whole/weights.safetensors").read_bytes()
    assert not Path("cut/start.safetensors").exists()


def test_other_weights_to_begin_with_are_noticed(nascli: Nascli, base: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(store: CheckpointStore, state: dict[str, object]) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(CheckpointStore, "save", save)
        nascli(f"train --from base {OTHERS} --out cut")
    start = load_file("cut/start.safetensors")
    write_tensors(Path("cut/start.safetensors"), start | {"classifier.bias": start["classifier.bias"] + 1})
    assert (ran := nascli("train --resume cut")).code == 2
    assert "cut/start.safetensors" in ran.err
    Path("cut/start.safetensors").write_bytes(b"x" * 100)
    assert (ran := nascli("train --resume cut")).code == 1
    assert "damaged" in ran.err or "no safetensors" in ran.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--from base --cell cell.json", "excludes --cell"),
        ("--from base --preset cifar10", "--preset"),
        ("--from base --filters 8", "78 misshaped, first stem.0.weight"),
        ("--from base --cells-per-stage 2", "missing, first cells."),
        ("--from base --set start.classes=keep", "hen, pig"),
        ("--from base --freeze stage4", "stem, stage1, stage2, stage3, classifier"),
        ("--from base --freeze backbone --freeze classifier", "every stage"),
        ("--from base --freeze backbone --set train.layer_decay=0.5", "layer_decay"),
        ("--from base --resume base", "--from"),
        ("--from nothing", "nothing: no such folder"),
        ("--from images", "no weights.safetensors"),
        ("--from cell.json", "--cell"),
        ("--from cell.json --cell cell.json", "holds no weights"),
        ("--cell cell.json --freeze stem", "--from"),
        ("--cell cell.json --set train.freeze_batch_norm=both", "--from"),
    ],
)
def test_what_cannot_be_begun_with_is_refused(options: str, words: str, nascli: Nascli, base: None) -> None:
    ran = nascli(f"train {options} --dataset folder:others --epochs 1 --batch-size 8 --out refused")
    assert ran.code == 2, ran.err
    assert words in ran.err
    assert not Path("refused").exists()


def test_damaged_weights_and_half_a_run_are_refused(nascli: Nascli, base: None) -> None:
    content = bytearray(Path("base/weights.safetensors").read_bytes())
    content[-1] ^= 1
    Path("base/weights.safetensors").write_bytes(content)
    ran = nascli(f"train --from base {OTHERS} --out refused")
    assert (ran.code, "damaged" in ran.err) == (1, True)
    Path("base/weights.safetensors").unlink()
    ran = nascli(f"train --from base {OTHERS} --out refused")
    assert (ran.code, "nascli train --resume base" in ran.err) == (2, True)
    assert not Path("refused").exists()
