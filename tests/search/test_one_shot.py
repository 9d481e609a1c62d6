"""The one-shot evaluator: a supernet trained once and resumable, and scores that depend on the child alone."""

import itertools
import pickle
import statistics
from collections.abc import Mapping
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nascli.config import SearchRecipe, load_recipe
from nascli.data.dataset import ImageData
from nascli.data.in_memory import ImageArray
from nascli.data.transforms import FloatBatch
from nascli.errors import CorruptFileError, DivergedError, InputError, Interrupted
from nascli.genotype.cells.space import ENAS, resolve_cell_space
from nascli.genotype.genotype import Genotype
from nascli.models.cells.network import CellNetwork
from nascli.models.cost import measure_cost
from nascli.models.serialization import SUPERNET_FILE
from nascli.progress import PROGRESS
from nascli.search.evaluators.one_shot import OneShotEvaluator, build_one_shot
from nascli.search.evaluators.proxy import ChildSetup
from nascli.search.evaluators.supernet_task import SupernetTask
from nascli.search.strategies.random import RandomSearch
from nascli.search.trial import Score
from nascli.signals import StopRequest
from tests.published import as_cells

CLASSES = 4
STEPS = 12


def recipe(**flags: object) -> SearchRecipe:
    small = {
        "space.name": "small",
        "space.ops": ["sep_conv_3x3", "max_pool_3x3", "identity"],
        "space.blocks": 2,
        "space.combines": ["add", "concat"],
        "network.filters": 4,
        "network.cells_per_stage": 1,
        "network.image_size": 8,
        "network.dropout": 0.1,
        "data.flip": True,
        "train.threads": 1,
        "supernet.threads": 1,
        "train.aux_weight": 0.4,
        "supernet.epochs": 3,
        "supernet.batch_size": 16,
        "supernet.bn_calibration_images": 40,
    }
    return load_recipe(SearchRecipe, None, small | {key.replace("__", "."): value for key, value in flags.items()})


def colored(images: int, seed: int) -> ImageArray:
    """Noise of one color; which color is the class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % CLASSES
    tints = torch.tensor([[160, 80, 80], [80, 160, 80], [80, 80, 160], [140, 140, 60]])[labels]
    noise = torch.randint(-30, 30, (images, 3, 8, 8), generator=generator)
    return ImageArray((tints[:, :, None, None] + noise).clamp(0, 255).byte(), labels)


def proxy(config: SearchRecipe) -> ChildSetup:
    names = tuple(f"color {k}" for k in range(CLASSES))
    data = ImageData("colors", colored(66, 1), colored(60, 2), names, (0.5,) * 3, (0.25,) * 3)
    return ChildSetup(data, config.network, config.data, torch.device("cpu"), config.train.aux_weight > 0)


def train(folder: Path, stop_at: int | None = None, **flags: object) -> OneShotEvaluator:
    """Train in a folder; `stop_at` asks to stop after that step, as Ctrl-C does."""
    folder.mkdir(exist_ok=True)
    stop = StopRequest()

    def progress(step: int, steps: int, loss: float) -> None:
        assert (steps, loss > 0) == (STEPS, True)
        stop.requested = step == stop_at

    config = recipe(**flags)
    return build_one_shot(config, proxy(config), folder, stop=stop, progress=progress)


def drawn(count: int, config: SearchRecipe | None = None) -> list[Genotype]:
    space = resolve_cell_space((config or recipe()).space)
    draw = RandomSearch(space, seed=7)
    return [space.decode(draw.ask()) for _ in range(count)]


def without_time(score: Score) -> Score:
    return replace(score, seconds=0.0)


def score_all(evaluator: OneShotEvaluator, genotypes: list[Genotype]) -> list[Score]:
    torch.set_num_threads(1)
    return [without_time(evaluator.evaluate(genotype, 0)) for genotype in genotypes]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, OneShotEvaluator]:
    folder = tmp_path_factory.mktemp("shared")
    return folder, train(folder)


@pytest.fixture(scope="module")
def folder(trained: tuple[Path, OneShotEvaluator]) -> Path:
    """A folder with finished weights."""
    return trained[0]


@pytest.fixture(scope="module")
def evaluator(trained: tuple[Path, OneShotEvaluator]) -> OneShotEvaluator:
    return trained[1]


def test_children_are_far_better_than_chance_though_none_was_trained_alone(tmp_path: Path) -> None:
    config = recipe(
        space__ops=["conv_1x1", "max_pool_3x3", "identity"],
        space__blocks=1,
        space__combines=["add"],
        network__filters=8,
        network__dropout=0.0,
        supernet__epochs=12,
    )
    evaluator = build_one_shot(config, proxy(config), tmp_path, stop=StopRequest())
    scores = [evaluator.evaluate(genotype, 0) for genotype in drawn(8, config)]
    assert statistics.fmean(score.reward for score in scores) > 0.6  # 0.25 by chance
    for score in scores:
        assert score.reward == score.accuracy
        assert (score.reward * 60) % 1 == pytest.approx(0, abs=1e-6)


def test_a_score_has_the_costs_of_the_stand_alone_child(evaluator: OneShotEvaluator) -> None:
    genotype = drawn(1)[0]
    score = evaluator.evaluate(genotype, 0)
    cost = measure_cost(evaluator.setup.spec(genotype))
    assert (score.params, score.mult_adds) == (cost.params, cost.mult_adds)
    assert score.seconds > 0


def test_a_score_depends_on_the_genotype_alone(evaluator: OneShotEvaluator) -> None:
    genotypes = drawn(4)
    weights = evaluator.weights.clone()
    torch.manual_seed(0)
    state = torch.get_rng_state()
    scores = score_all(evaluator, genotypes)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(9)
    assert score_all(evaluator, genotypes[::-1]) == scores[::-1]
    assert without_time(evaluator.evaluate(genotypes[1], 5, epochs=3)) == scores[1]
    assert torch.equal(evaluator.weights, weights)
    assert len({score.reward for score in scores}) > 1


def test_another_process_gives_the_same_scores_from_the_same_memory(evaluator: OneShotEvaluator) -> None:
    genotypes = drawn(2)
    scores = score_all(evaluator, genotypes)
    with get_context("spawn").Pool(1) as pool:
        assert pool.apply(score_all, (evaluator, genotypes)) == scores
        assert evaluator.weights.is_shared()  # type: ignore[no-untyped-call]
    assert score_all(pickle.loads(pickle.dumps(evaluator)), genotypes) == scores


def test_the_statistics_are_the_mean_over_whole_batches_of_training_images(evaluator: OneShotEvaluator) -> None:
    child = evaluator.network(drawn(1)[0])
    assert isinstance(child, CellNetwork)
    assert not child.training
    assert len(evaluator.calibration) == 32  # 40 are asked for, 16 are a batch
    convolution, norm = child.stem
    train = evaluator.setup.data.train
    means = []
    for part in torch.split(evaluator.calibration, 16):
        ((images, _),) = train.take(part).evaluation_batches(16)
        means.append(convolution((images / 255 - 0.5) / 0.25).mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_mean, torch.stack(means).mean(0), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("stop_at", [1, 4, 9])
def test_a_training_that_was_stopped_ends_with_the_same_weights(folder: Path, tmp_path: Path, stop_at: int) -> None:
    with pytest.raises(Interrupted, match=f"after step {stop_at} of {STEPS}") as stopped:
        train(tmp_path, stop_at)
    assert f"--resume {tmp_path}" in stopped.value.hint
    assert not (tmp_path / SUPERNET_FILE).exists()
    train(tmp_path)
    assert (tmp_path / SUPERNET_FILE).read_bytes() == (folder / SUPERNET_FILE).read_bytes()


def test_a_training_that_was_killed_goes_on_from_its_last_checkpoint(folder: Path, tmp_path: Path) -> None:
    config = recipe()
    steps: list[int] = []

    def kill(step: int, steps_in_all: int, loss: float) -> None:
        if step == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_one_shot(config, proxy(config), tmp_path, stop=StopRequest(), progress=kill)
    build_one_shot(config, proxy(config), tmp_path, stop=StopRequest(), progress=lambda step, _, __: steps.append(step))
    assert steps == list(range(9, STEPS + 1))  # an epoch has 4 steps and ends with a checkpoint
    assert (tmp_path / SUPERNET_FILE).read_bytes() == (folder / SUPERNET_FILE).read_bytes()


@pytest.mark.parametrize(
    "flags",
    [
        {"supernet__grad_accum_steps": 3},
        {"data__mixup": 0.4},
        {"supernet__precision": "bfloat16"},
        {"supernet__ema_decay": 0.5},
    ],
    ids=str,
)
def test_its_own_section_and_data_reach_the_shared_weights_stopped_or_not(
    evaluator: OneShotEvaluator, tmp_path: Path, flags: dict[str, Any]
) -> None:
    whole = train(tmp_path / "whole", **flags)
    assert not torch.equal(whole.weights, evaluator.weights)
    assert bool(whole.weights.isfinite().all())
    with pytest.raises(Interrupted):
        train(tmp_path / "stopped", 6, **flags)
    assert torch.equal(train(tmp_path / "stopped", **flags).weights, whole.weights)


def test_the_gradients_of_parts_add_up_to_those_of_the_batch(tmp_path: Path) -> None:
    found = []
    for parts in (1, 4):
        one_step = {"supernet__epochs": 1, "supernet__batch_size": 64}
        config = recipe(supernet__grad_accum_steps=parts, network__dropout=0.0, data__flip=False, **one_step)
        setting = proxy(config)
        alike = setting.data.train.take(torch.zeros(64, dtype=torch.int64))  # each part has the batch's statistics
        setting = replace(setting, data=replace(setting.data, train=alike))
        folder = tmp_path / str(parts)
        folder.mkdir()
        found.append(build_one_shot(config, setting, folder, stop=StopRequest()).weights)
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-6)


def test_memory_that_runs_out_makes_smaller_micro_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = train(tmp_path / "two", supernet__grad_accum_steps=2)
    config, tries, notes, loss = recipe(), itertools.count(), list[str](), SupernetTask.loss

    def guarded(task: SupernetTask, micro: FloatBatch) -> Mapping[str, Tensor]:
        if next(tries) == 0:
            raise torch.OutOfMemoryError("no room")
        return loss(task, micro)

    monkeypatch.setattr(SupernetTask, "loss", guarded)
    found = build_one_shot(config, proxy(config), tmp_path, stop=StopRequest(), log=notes.append)
    assert torch.equal(found.weights, expected.weights)
    assert ["2 micro-batches" in note for note in notes] == [True]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"supernet__precision": "float16"}, r"supernet\.precision float16 needs a CUDA device"),
        ({"supernet__grad_accum_steps": 9}, r"supernet\.grad_accum_steps = 9 is too many for a batch of 16 images"),
    ],
)
def test_what_cannot_be_trained_so_is_refused_before_the_first_step(
    tmp_path: Path, flags: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        train(tmp_path, **flags)
    assert not list(tmp_path.iterdir())


def test_finished_weights_are_loaded_and_not_trained_again(folder: Path, evaluator: OneShotEvaluator) -> None:
    assert {path.name for path in folder.iterdir()} == {SUPERNET_FILE, PROGRESS}
    elsewhere = {
        "search__trials": 99,
        "supernet__bn_calibration_images": 20,
        "data__data_dir": "elsewhere",
    }  # touch no weight
    config = recipe(**elsewhere)
    again = build_one_shot(config, proxy(config), folder, stop=StopRequest(), progress=lambda *_: pytest.fail("trains"))
    assert torch.equal(again.weights, evaluator.weights)


def test_another_seed_gives_other_weights(evaluator: OneShotEvaluator, tmp_path: Path) -> None:
    assert not torch.equal(train(tmp_path, seed=1).weights, evaluator.weights)


def test_weights_of_another_recipe_are_refused(folder: Path, evaluator: OneShotEvaluator) -> None:
    with pytest.raises(InputError, match="belong to another recipe"):
        train(folder, supernet__lr=0.01)


def test_damaged_weights_are_named(folder: Path, evaluator: OneShotEvaluator, tmp_path: Path) -> None:
    whole = (folder / SUPERNET_FILE).read_bytes()
    (tmp_path / SUPERNET_FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptFileError, match=SUPERNET_FILE):
        train(tmp_path)


def test_a_genotype_of_another_space_is_refused_by_name(evaluator: OneShotEvaluator) -> None:
    stranger = ENAS.decode([0] * len(ENAS.decision_sizes))
    with pytest.raises(InputError, match=r"5 blocks, space 'small' has 2"):
        evaluator.evaluate(stranger, 0)
    ours = as_cells(drawn(1)[0])
    joined = ours.model_copy(update={"normal": ours.normal.model_copy(update={"concat": (0, 3)})})
    with pytest.raises(InputError, match=r"normal\.concat is \[0, 3\]"):
        evaluator.evaluate(joined, 0)


@pytest.mark.parametrize(
    "flags",
    [
        {"space__cells": "one", "space__inputs": "distinct", "supernet__epochs": 1},
        {
            "space__concat": "all",
            "network__cells_per_stage": 2,
            "network__reduction_placement": "in_place",
            "supernet__epochs": 1,
        },
    ],
)
def test_spaces_of_one_cell_of_distinct_inputs_and_of_any_concat_are_scored(
    flags: dict[str, object], tmp_path: Path
) -> None:
    config = recipe(**flags)
    evaluator = build_one_shot(config, proxy(config), tmp_path, stop=StopRequest())
    for genotype in drawn(3, config):
        assert 0 <= evaluator.evaluate(genotype, 0).reward <= 1


def test_a_training_that_diverges_says_so(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"supernet: .* step \d") as diverged:
        train(tmp_path, supernet__lr=1e30, supernet__clip_grad_norm=0.0)
    assert "supernet.lr" in diverged.value.hint


def test_a_data_set_with_one_image_is_refused(tmp_path: Path) -> None:
    config = recipe()
    setting = proxy(config)
    data = replace(setting.data, train=setting.data.train.take(torch.tensor([0])))
    with pytest.raises(InputError, match="too few"):
        build_one_shot(config, replace(setting, data=data), tmp_path, stop=StopRequest())
