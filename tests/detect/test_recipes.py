"""Every shipped detection recipe: it opens with a command that uses it, and trains."""

import re
import shlex
from pathlib import Path

import pytest
import torch

from nascli.config import DetectRecipe, load_recipe, recipes_folder, to_toml
from nascli.data.detection.registry import load_detection_data
from nascli.detect.job import prepare_detect_job, run_detect_job
from nascli.engine.task import Run
from tests.detect.coco_folder import write_coco
from tests.detect.small_detector import small_network

RECIPES = sorted((recipes_folder() / "detect").glob("*.toml"))
DEFAULTS = {"--coco": "coco", "digit-scenes": "digit-scenes"}
"""The recipe that a data set chooses, where none is given."""


def test_the_recipes_were_found() -> None:
    assert {"coco", "coco-cpu", "coco-modern", "coco-paper", "digit-scenes"} <= {path.stem for path in RECIPES}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.stem))
def test_the_command_that_a_recipe_opens_with_uses_it(path: Path) -> None:
    head = path.read_text(encoding="utf-8").split("\n\n")[0]
    command = shlex.split(re.findall(r"(nascli detect .+)", head[head.index("Command:") :])[0])
    if "--recipe" in command:
        assert command[command.index("--recipe") + 1] == path.stem
    else:
        assert [DEFAULTS[word] for word in command if word in DEFAULTS] == [path.stem]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.stem))
def test_a_recipe_trains_two_steps(path: Path, tmp_path: Path) -> None:
    """With everything at its least size, all else as the recipe has it."""
    recipe = load_recipe(DetectRecipe, path)
    least: dict[str, object] = {"min_size": 64, "max_size": 64, "anchor_size": 8.0, "roi_size": 5, "head_channels": 16}
    least |= {
        "pyramid_channels": 8,
        "rpn_post_nms_top_n": 12,
        "box_batch_size_per_image": 8,
        "box_detections_per_img": 5,
    }
    short: dict[str, object] = {"epochs": 1, "batch_size": 4, "grad_accum_steps": min(2, recipe.train.grad_accum_steps)}
    short |= {"warmup_steps": 1, "threads": 1, "jitter_size": 64 if recipe.train.jitter_size else 0}
    data_dir = write_coco(tmp_path / "data", train=8, val=2, narrow=2)
    reduced = recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update={"dataset": "coco", "data_dir": str(data_dir)}),
            "detector": recipe.detector.model_copy(update=least),
            "train": recipe.train.model_copy(update=short),
        }
    )
    torch.manual_seed(0)
    data = load_detection_data(reduced.data)
    device = torch.device("cpu")
    job = prepare_detect_job(reduced, data, small_network(), trained=True, backbone="a test's", device=device)
    (tmp_path / "run").mkdir()
    report = run_detect_job(job, tmp_path / "run", Run(device))
    assert (report["steps"], report["images"]) == (2, 2)
    assert 0 < report["train_loss"] < 20


def test_a_recipe_written_by_a_run_is_the_same_recipe(tmp_path: Path) -> None:
    recipe = load_recipe(DetectRecipe, recipes_folder() / "detect" / "coco-modern.toml")
    assert recipe.train.scale_jitter == (0.1, 2.0)
    (tmp_path / "recipe.toml").write_text(to_toml(recipe))
    assert load_recipe(DetectRecipe, tmp_path / "recipe.toml") == recipe
