"""Training a detector: it learns, it can be stopped anywhere, it says where it diverged."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from nascli.config import DetectRecipe
from nascli.data.detection.registry import load_detection_data
from nascli.detect.estimate import estimate_detect_job
from nascli.detect.inference import detect_boxes
from nascli.detect.job import DetectJob, prepare_detect_job, resume_detect_job, run_detect_job
from nascli.detect.model import Detector
from nascli.engine.task import Run
from nascli.errors import CorruptFileError, DeviceMemoryError, DivergedError, InputError, Interrupted
from nascli.records import read_record
from nascli.signals import StopRequest
from tests.detect.coco_folder import damage_pixels, write_coco
from tests.detect.small_detector import small_network, small_recipe

CPU = torch.device("cpu")


@pytest.fixture
def recipe(tmp_path: Path) -> DetectRecipe:
    return small_recipe(str(write_coco(tmp_path / "data")))


def new_job(recipe: DetectRecipe) -> DetectJob:
    torch.manual_seed(3)
    data = load_detection_data(recipe.data)
    return prepare_detect_job(recipe, data, small_network(), trained=True, backbone="a test's", device=CPU)


def write_recipe(folder: Path, recipe: DetectRecipe) -> None:
    from nascli.config import to_toml

    folder.mkdir(exist_ok=True)
    (folder / "recipe.toml").write_text(to_toml(recipe))


def train(recipe: DetectRecipe, folder: Path) -> dict[str, Any]:
    write_recipe(folder, recipe)
    return run_detect_job(new_job(recipe), folder, Run(CPU))


def test_the_loss_falls_and_every_file_is_there(tmp_path: Path, recipe: DetectRecipe) -> None:
    longer = recipe.model_copy(update={"train": recipe.train.model_copy(update={"epochs": 12, "eval_interval": 6})})
    report = train(longer, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [*range(1, 13)]
    assert lines[-1]["train_loss"] < 0.8 * lines[0]["train_loss"]
    assert [line["ap"] is not None for line in lines] == [epoch in (6, 12) for epoch in range(1, 13)]
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
    assert len(list((tmp_path / "run" / "detections").glob("*.png"))) == 4
    assert len(list((tmp_path / "run" / "worst").glob("*.png"))) == len(report["worst_images"]) == 4
    assert report["worst_images"][0]["ap"] == min(each["ap"] for each in report["worst_images"])
    stored = read_record(tmp_path / "run" / "detection.json")
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
        run_detect_job(new_job(recipe), stopped, Run(CPU, stop=StopAfter(looks)))
    assert not (stopped / "weights.safetensors").exists()
    report = run_detect_job(resume_detect_job(stopped, CPU), stopped, Run(CPU))
    assert {**report, "seconds": 0} == {**expected, "seconds": 0}
    for name in ("weights.safetensors", "results.json"):
        assert (stopped / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


EVERYTHING: tuple[dict[str, Any], ...] = (
    {
        "grad_accum_steps": 2,
        "aspect_grouping": True,
        "ema_decay": 0.9,
        "multi_scale": [48, 64],
        "precision": "bfloat16",
        "schedule": "steps",
    },
    {"ema_decay": 0.5, "scale_jitter": [0.3, 2.0], "eval_interval": 1},
)
"""All that a training can be told to do besides, in two trainings, since some of it excludes the rest."""


@pytest.mark.parametrize("settings", EVERYTHING, ids=["sizes and shapes", "jitter"])
def test_with_everything_on_a_resumed_run_is_equal_too(tmp_path: Path, settings: dict[str, Any]) -> None:
    """Nine steps in three epochs, stopped inside the second."""
    recipe = small_recipe(str(write_coco(tmp_path / "data", train=12, narrow=6)), **settings)
    expected = train(recipe, tmp_path / "whole")
    stopped = tmp_path / "stopped"
    write_recipe(stopped, recipe)
    with pytest.raises(Interrupted, match="step 5 of 9"):
        run_detect_job(new_job(recipe), stopped, Run(CPU, stop=StopAfter(4 if "eval_interval" not in settings else 5)))
    report = run_detect_job(resume_detect_job(stopped, CPU), stopped, Run(CPU))
    assert {**report, "seconds": 0} == {**expected, "seconds": 0}
    for name in ("weights.safetensors", "results.json"):
        assert (stopped / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_the_averaged_detector_is_what_is_scored_and_kept(tmp_path: Path, recipe: DetectRecipe) -> None:
    averaged = recipe.model_copy(update={"train": recipe.train.model_copy(update={"ema_decay": 0.5})})
    report = train(averaged, tmp_path / "run")
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["state"]
    kept = load_file(tmp_path / "run" / "weights.safetensors")
    assert all(torch.equal(tensor, state["ema"]["module"][name]) for name, tensor in kept.items())
    assert any(not torch.equal(tensor, state["modules"][name]) for name, tensor in kept.items())
    before = (tmp_path / "run" / "results.json").read_bytes()
    again = run_detect_job(resume_detect_job(tmp_path / "run", CPU), tmp_path / "run", Run(CPU))
    assert (again["ap"], (tmp_path / "run" / "results.json").read_bytes()) == (report["ap"], before)
    assert load_file(tmp_path / "run" / "weights.safetensors").keys() == kept.keys()


def test_killed_before_a_checkpoint_of_its_own_it_begins_anew(tmp_path: Path, recipe: DetectRecipe) -> None:
    """A kill leaves the checkpoint written before the first step, and lines of epochs it does not know."""
    expected = train(recipe, tmp_path / "whole")
    killed = tmp_path / "killed"
    write_recipe(killed, recipe)
    with pytest.raises(Interrupted):
        run_detect_job(new_job(recipe), killed, Run(CPU, stop=StopAfter(0)))
    first = killed / "checkpoint.previous.pt"
    first.replace(killed / "checkpoint.pt")
    (killed / "metrics.jsonl").write_text('{"epoch": 1, "torn')
    run_detect_job(resume_detect_job(killed, CPU), killed, Run(CPU))
    assert (killed / "weights.safetensors").read_bytes() == (tmp_path / "whole" / "weights.safetensors").read_bytes()
    assert len((killed / "metrics.jsonl").read_text().splitlines()) == expected["epochs"]


def test_resume_refuses_what_would_not_be_the_same_run(tmp_path: Path, recipe: DetectRecipe) -> None:
    with pytest.raises(InputError, match="stopped before it began"):
        resume_detect_job(tmp_path, CPU)
    train(recipe, tmp_path / "run")
    other = recipe.model_copy(update={"seed": 5})
    write_recipe(tmp_path / "run", other)
    with pytest.raises(InputError, match="another recipe"):
        run_detect_job(resume_detect_job(tmp_path / "run", CPU), tmp_path / "run", Run(CPU))
    annotations = tmp_path / "data" / "annotations"
    for file in annotations.iterdir():
        file.write_text(file.read_text().replace("red thing", "green thing"))
    with pytest.raises(InputError, match="categories are not those"):
        resume_detect_job(tmp_path / "run", CPU)


def test_the_data_may_have_moved(tmp_path: Path, recipe: DetectRecipe) -> None:
    write_recipe(tmp_path / "run", recipe)
    with pytest.raises(Interrupted):
        run_detect_job(new_job(recipe), tmp_path / "run", Run(CPU, stop=StopAfter(1)))
    (tmp_path / "data").rename(tmp_path / "moved")
    job = resume_detect_job(tmp_path / "run", CPU, dataset=f"coco:{tmp_path / 'moved'}")
    assert run_detect_job(job, tmp_path / "run", Run(CPU))["steps"] == 6


def test_a_loss_that_is_not_finite_names_step_and_images(tmp_path: Path, recipe: DetectRecipe) -> None:
    wild = recipe.model_copy(
        update={"train": recipe.train.model_copy(update={"lr": 1e30, "warmup_steps": 0, "clip_grad_norm": 0.0})}
    )
    with pytest.raises(DivergedError, match=r"at step \d, on the images with ids \d, \d, \d, \d.*train\.lr"):
        train(wild, tmp_path / "run")
    weights = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["state"]["modules"]
    assert all(bool(torch.isfinite(tensor.float()).all()) for tensor in weights.values()), "none was saved damaged"


def test_a_damaged_image_is_named(tmp_path: Path, recipe: DetectRecipe) -> None:
    (tmp_path / "data" / "train2017" / "0005.png").write_bytes(b"no image")
    with pytest.raises(CorruptFileError, match=r"0005\.png cannot be decoded"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoint.pt").exists(), "before the first step"


@pytest.mark.parametrize("place", ["train2017/0005.png", "val2017/0002.png"])
def test_damage_that_only_decoding_tells_costs_no_step(tmp_path: Path, recipe: DetectRecipe, place: str) -> None:
    expected = train(recipe, tmp_path / "whole")
    path = tmp_path / "data" / place
    whole = path.read_bytes()
    damage_pixels(path)
    with pytest.raises(CorruptFileError, match=rf"{path.name} cannot be decoded.*the state is saved.*--resume"):
        train(recipe, tmp_path / "run")
    path.write_bytes(whole)
    report = run_detect_job(resume_detect_job(tmp_path / "run", CPU), tmp_path / "run", Run(CPU))
    assert {**report, "seconds": 0} == {**expected, "seconds": 0}
    for name in ("weights.safetensors", "results.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def limit_memory(monkeypatch: pytest.MonkeyPatch, images: int) -> None:
    """As if the device could hold so many images."""
    forward = Detector.forward

    def guarded(detector: Detector, given: list[Tensor], targets: Any = None) -> Any:  # noqa: ANN401
        if len(given) > images:
            raise torch.OutOfMemoryError("no room")
        return forward(detector, given, targets)

    monkeypatch.setattr(Detector, "forward", guarded)


def test_memory_that_runs_out_halves_the_batch_and_leaves_a_run_that_resumes(
    tmp_path: Path, recipe: DetectRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends as one that had two micro-batches from the beginning."""
    halved = recipe.model_copy(update={"train": recipe.train.model_copy(update={"grad_accum_steps": 2})})
    expected = train(halved, tmp_path / "halved")
    limit_memory(monkeypatch, 2)
    folder, notes = tmp_path / "run", list[str]()
    write_recipe(folder, recipe)
    with pytest.raises(Interrupted):
        run_detect_job(new_job(recipe), folder, Run(CPU, stop=StopAfter(2), log=notes.append))
    (note,) = (each for each in notes if "memory" in each)
    assert note.startswith("out of memory: from step 1 on a batch of 4 images is computed in 2 micro-batches")
    report = run_detect_job(resume_detect_job(folder, CPU), folder, Run(CPU))
    assert {**report, "seconds": 0} == {**expected, "seconds": 0}
    for name in ("weights.safetensors", "results.json"):
        assert (folder / name).read_bytes() == (tmp_path / "halved" / name).read_bytes(), name


def test_memory_that_does_not_hold_one_image_is_explained(
    tmp_path: Path, recipe: DetectRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_memory(monkeypatch, 0)
    write_recipe(tmp_path / "run", recipe)
    with pytest.raises(DeviceMemoryError, match=r"one image of up to 64 pixels.*grad_checkpointing"):
        run_detect_job(new_job(recipe), tmp_path / "run", Run(CPU, log=lambda text: None))


def test_a_plan_says_which_numbers_to_lower_where_memory_runs_out(
    recipe: DetectRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_memory(monkeypatch, 2)
    with pytest.raises(DeviceMemoryError, match=r"4 images of up to 64 pixels.*grad_accum_steps.*detector\.max_size"):
        estimate_detect_job(new_job(recipe))


def test_memory_that_runs_out_while_scoring_makes_the_batches_smaller(
    recipe: DetectRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, notes = new_job(recipe), list[str]()
    expected = detect_boxes(job.detector, job.data.val, Run(CPU), 1)
    limit_memory(monkeypatch, 1)
    assert detect_boxes(job.detector, job.data.val, Run(CPU, log=notes.append), 4) == expected
    assert notes == [f"out of memory: from here on {count} images are evaluated at once" for count in (2, 1)]


def test_detections_do_not_depend_on_the_batch(recipe: DetectRecipe) -> None:
    job = new_job(recipe)
    one, four = (detect_boxes(job.detector, job.data.val, Run(CPU), size) for size in (1, 4))
    assert [each["image_id"] for each in one] == [each["image_id"] for each in four]
    for a, b in zip(one, four, strict=True):
        assert a["score"] == pytest.approx(b["score"], abs=1e-4)


def test_random_weights_have_no_batch_norms_to_freeze(recipe: DetectRecipe) -> None:
    frozen = recipe.model_copy(update={"detector": recipe.detector.model_copy(update={"freeze_batch_norm": True})})
    data = load_detection_data(recipe.data)
    with pytest.raises(InputError, match="freeze_batch_norm=false"):
        prepare_detect_job(frozen, data, small_network(), trained=False, backbone="random", device=CPU)
