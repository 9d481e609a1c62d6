"""Training a detector: it learns, it can be stopped anywhere, it says where it diverged."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nascli.config import DetectRecipe
from nascli.data.annotated import training_target
from nascli.data.detection_sets import load_detection_data
from nascli.detection.inference import find_all, read_batches
from nascli.detection.job import DetectJob, prepare_job, reopen_job, run_job
from nascli.detection.loop import DetectPlan, flip
from nascli.errors import CorruptFileError, DivergedError, InputError, Interrupted
from nascli.training.interrupts import StopRequest
from tests.detection.coco_folder import damage_pixels, write_coco
from tests.detection.parts import small_network, small_recipe

CPU = torch.device("cpu")


@pytest.fixture
def recipe(tmp_path: Path) -> DetectRecipe:
    return small_recipe(str(write_coco(tmp_path / "data")))


def new_job(recipe: DetectRecipe) -> DetectJob:
    torch.manual_seed(3)
    data = load_detection_data(recipe.data)
    return prepare_job(recipe, data, small_network(), trained=True, backbone="a test's", device=CPU)


def write_recipe(folder: Path, recipe: DetectRecipe) -> None:
    from nascli.config import to_toml

    folder.mkdir(exist_ok=True)
    (folder / "recipe.toml").write_text(to_toml(recipe))


def train(recipe: DetectRecipe, folder: Path) -> dict[str, Any]:
    write_recipe(folder, recipe)
    return run_job(new_job(recipe), folder, stop=StopRequest())


def test_the_loss_falls_and_every_file_is_there(tmp_path: Path, recipe: DetectRecipe) -> None:
    longer = recipe.model_copy(update={"train": recipe.train.model_copy(update={"epochs": 6, "score_every": 3})})
    report = train(longer, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert lines[-1]["train_loss"] < 0.8 * lines[0]["train_loss"]
    assert [line["ap"] is not None for line in lines] == [False, False, True, False, False, True]
    assert report["ap"] == lines[-1]["ap"]
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names >= {
        "weights.safetensors",
        "network.json",
        "detector.json",
        "detection.json",
        "results.json",
        "confusion.json",
        "checkpoint.pt",
    }
    assert len(list((tmp_path / "run" / "pictures").glob("*.png"))) == 4
    assert len(list((tmp_path / "run" / "worst").glob("*.png"))) == len(report["worst_images"]) == 4
    assert report["worst_images"][0]["ap"] == min(each["ap"] for each in report["worst_images"])
    stored = json.loads((tmp_path / "run" / "detection.json").read_text())
    assert stored == json.loads(json.dumps(report))
    assert [each["name"] for each in stored["per_class"]] == ["red thing", "blue thing"]
    for found in json.loads((tmp_path / "run" / "results.json").read_text()):
        assert found["category_id"] in (3, 7)
        assert found["image_id"] in (1, 2, 3, 4)


class StopAfter(StopRequest):
    """Asks to stop when it was looked at so many times."""

    def __init__(self, looks: int) -> None:
        self.left = looks

    @property
    def requested(self) -> bool:  # type: ignore[override]
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("looks", [0, 2, 6])
def test_stopped_and_resumed_is_equal_to_uninterrupted(tmp_path: Path, recipe: DetectRecipe, looks: int) -> None:
    """Six steps and a scoring batch: stopped after the first step, inside an epoch, and while scoring."""
    expected = train(recipe, tmp_path / "whole")
    stopped = tmp_path / "stopped"
    write_recipe(stopped, recipe)
    with pytest.raises(Interrupted, match=r"step \d of 6; the state is saved.*nascli detect --resume"):
        run_job(new_job(recipe), stopped, stop=StopAfter(looks))
    assert not (stopped / "weights.safetensors").exists()
    report = run_job(reopen_job(stopped, None, CPU), stopped, stop=StopRequest())
    assert {**report, "seconds": 0} == {**expected, "seconds": 0}
    for name in ("weights.safetensors", "results.json"):
        assert (stopped / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_killed_before_a_checkpoint_of_its_own_it_begins_anew(tmp_path: Path, recipe: DetectRecipe) -> None:
    """What a kill leaves: the checkpoint written before the first step, and lines of epochs it does not know."""
    expected = train(recipe, tmp_path / "whole")
    killed = tmp_path / "killed"
    write_recipe(killed, recipe)
    with pytest.raises(Interrupted):
        run_job(new_job(recipe), killed, stop=StopAfter(0))
    first = killed / "checkpoint.previous.pt"
    first.replace(killed / "checkpoint.pt")
    (killed / "metrics.jsonl").write_text('{"epoch": 1, "torn')
    run_job(reopen_job(killed, None, CPU), killed, stop=StopRequest())
    assert (killed / "weights.safetensors").read_bytes() == (tmp_path / "whole" / "weights.safetensors").read_bytes()
    assert len((killed / "metrics.jsonl").read_text().splitlines()) == expected["epochs"]


def test_resume_refuses_what_would_not_be_the_same_run(tmp_path: Path, recipe: DetectRecipe) -> None:
    with pytest.raises(InputError, match="stopped before its first checkpoint"):
        reopen_job(tmp_path, None, CPU)
    train(recipe, tmp_path / "run")
    other = recipe.model_copy(update={"seed": 5})
    write_recipe(tmp_path / "run", other)
    with pytest.raises(InputError, match="another recipe"):
        run_job(reopen_job(tmp_path / "run", None, CPU), tmp_path / "run", stop=StopRequest())
    annotations = tmp_path / "data" / "annotations"
    for file in annotations.iterdir():
        file.write_text(file.read_text().replace("red thing", "green thing"))
    with pytest.raises(InputError, match="categories are not those"):
        reopen_job(tmp_path / "run", None, CPU)


def test_the_data_may_have_moved(tmp_path: Path, recipe: DetectRecipe) -> None:
    write_recipe(tmp_path / "run", recipe)
    with pytest.raises(Interrupted):
        run_job(new_job(recipe), tmp_path / "run", stop=StopAfter(1))
    (tmp_path / "data").rename(tmp_path / "moved")
    job = reopen_job(tmp_path / "run", str(tmp_path / "moved"), CPU)
    assert run_job(job, tmp_path / "run", stop=StopRequest())["steps"] == 6


def test_a_loss_that_is_not_finite_names_step_and_images(tmp_path: Path, recipe: DetectRecipe) -> None:
    wild = recipe.model_copy(
        update={"train": recipe.train.model_copy(update={"lr": 1e30, "warmup_steps": 0, "clip_norm": 0.0})}
    )
    with pytest.raises(DivergedError, match=r"at step \d, on the images with ids \d, \d, \d, \d.*train\.lr"):
        train(wild, tmp_path / "run")
    weights = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["state"]["detector"]
    assert all(bool(torch.isfinite(tensor.float()).all()) for tensor in weights.values()), "none was saved damaged"


def test_flipping_twice_is_nothing_and_once_mirrors_pixels_with_boxes(recipe: DetectRecipe) -> None:
    image = load_detection_data(recipe.data).train.images[0]
    _, [picture] = next(read_batches([image], 1))
    target = training_target(image)
    mirrored, boxes = flip(picture, target)
    again, back = flip(mirrored, boxes)
    assert torch.equal(again, picture)
    assert torch.equal(back["boxes"], target["boxes"])

    def inside(pixels: Tensor, box: Tensor) -> Tensor:
        x1, y1, x2, y2 = (int(v) for v in box)
        return pixels[:, y1:y2, x1:x2].float().mean((1, 2))

    for before, after in zip(target["boxes"], boxes["boxes"], strict=True):
        assert torch.equal(inside(picture, before), inside(mirrored, after))


def test_an_epoch_uses_each_image_once_and_another_order_each_time(recipe: DetectRecipe) -> None:
    plan = DetectPlan(recipe.train, 0, CPU, 10)
    assert (plan.batch_size, plan.steps_per_epoch, plan.steps) == (4, 2, 6)
    orders = [plan.order(epoch) for epoch in range(3)]
    assert all(len(set(order)) == 8 for order in orders)
    assert orders[0] != orders[1]
    assert orders == [plan.order(epoch) for epoch in range(3)]
    assert replace(plan, images=3).batch_size == 3


def test_a_damaged_picture_is_named(tmp_path: Path, recipe: DetectRecipe) -> None:
    (tmp_path / "data" / "train2017" / "0005.png").write_bytes(b"no picture")
    with pytest.raises(CorruptFileError, match=r"0005\.png cannot be read"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoint.pt").exists(), "before the first step"


@pytest.mark.parametrize("place", ["train2017/0005.png", "val2017/0002.png"])
def test_damage_that_only_decoding_tells_costs_no_step(tmp_path: Path, recipe: DetectRecipe, place: str) -> None:
    expected = train(recipe, tmp_path / "whole")
    path = tmp_path / "data" / place
    whole = path.read_bytes()
    damage_pixels(path)
    with pytest.raises(CorruptFileError, match=rf"{path.name} cannot be read.*the state is saved.*--resume"):
        train(recipe, tmp_path / "run")
    path.write_bytes(whole)
    report = run_job(reopen_job(tmp_path / "run", None, CPU), tmp_path / "run", stop=StopRequest())
    assert {**report, "seconds": 0} == {**expected, "seconds": 0}
    for name in ("weights.safetensors", "results.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_detections_do_not_depend_on_the_batch(recipe: DetectRecipe) -> None:
    job = new_job(recipe)
    one, four = (find_all(job.detector, job.data.val, CPU, size) for size in (1, 4))
    assert [each["image_id"] for each in one] == [each["image_id"] for each in four]
    for a, b in zip(one, four, strict=True):
        assert a["score"] == pytest.approx(b["score"], abs=1e-4)


def test_random_weights_have_no_batch_norms_to_freeze(recipe: DetectRecipe) -> None:
    frozen = recipe.model_copy(update={"detector": recipe.detector.model_copy(update={"freeze_batch_norm": True})})
    data = load_detection_data(recipe.data)
    with pytest.raises(InputError, match="freeze_batch_norm=false"):
        prepare_job(frozen, data, small_network(), trained=False, backbone="random", device=CPU)
