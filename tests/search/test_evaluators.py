"""Proxy training: repeatable, honest about the test split, and loud when it diverges."""

import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nascli.classify.task import FitResult, fit_classifier
from nascli.config import DataConfig, SearchRecipe, load_recipe
from nascli.data.dataset import ImageData
from nascli.data.in_memory import ImageArray
from nascli.data.registry import load_dataset
from nascli.errors import DivergedError, InputError, NascliError
from nascli.models.cost import measure_cost
from nascli.models.interface import ImageClassifier
from nascli.search.evaluators.child_files import KeptWeights, PausedTrainings
from nascli.search.evaluators.proxy import ProxyTraining, load_child_setup
from tests.cells import as_cells
from tests.fakes import TINY

CPU = torch.device("cpu")
CELL = TINY.decode([0] * len(TINY.decision_sizes))


def recipe(**flags: object) -> SearchRecipe:
    small = {"network.filters": 4, "network.cells_per_stage": 1, "network.image_size": 8, "train.epochs": 1}
    return load_recipe(SearchRecipe, None, small | {key.replace("__", "."): value for key, value in flags.items()})


def build(recipe: SearchRecipe) -> ProxyTraining:
    return ProxyTraining(load_child_setup(recipe, CPU), recipe.train)


@pytest.fixture(scope="module")
def evaluator() -> ProxyTraining:
    return build(recipe(search__holdout=0.2, train__batch_size=16))


def count_images(split: object) -> Counter[bytes]:
    assert isinstance(split, ImageArray)
    return Counter(image.numpy().tobytes() for image in split.images)


def test_the_reward_is_measured_on_held_out_training_images(evaluator: ProxyTraining) -> None:
    data = load_dataset(DataConfig(), 8)
    train, held_out = count_images(evaluator.setup.data.train), count_images(evaluator.setup.data.val)
    assert train + held_out == count_images(data.train)
    assert held_out.total() == pytest.approx(0.2 * len(data.train), abs=10)


def test_the_held_out_part_follows_from_the_seed() -> None:
    one, same, other = (count_images(load_child_setup(recipe(seed=seed), CPU).data.val) for seed in (1, 1, 2))
    assert one == same != other


def test_the_same_seed_gives_the_same_score_and_another_seed_another(evaluator: ProxyTraining) -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = replace(evaluator.evaluate(CELL, 1), seconds=0.0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(9)
    assert replace(evaluator.evaluate(CELL, 1), seconds=0.0) == first
    assert evaluator.evaluate(CELL, 2).reward != first.reward


def test_a_training_in_parts_comes_to_that_in_one(evaluator: ProxyTraining, tmp_path: Path) -> None:
    whole = replace(evaluator, train=evaluator.train.model_copy(update={"epochs": 3}))
    parts = replace(whole, paused=PausedTrainings(tmp_path))
    first = parts.evaluate(CELL, 1, 1)
    assert first.reward != whole.evaluate(CELL, 1, 1).reward, "the first epoch of three has the larger learning rates"
    parts.evaluate(CELL, 1, 2)
    assert replace(parts.evaluate(CELL, 1), seconds=0.0) == replace(whole.evaluate(CELL, 1), seconds=0.0)


@pytest.mark.parametrize("lost", ["damaged", "absent"])
def test_a_training_whose_first_part_is_lost_comes_to_the_same(
    evaluator: ProxyTraining, tmp_path: Path, lost: str
) -> None:
    whole = replace(evaluator, train=evaluator.train.model_copy(update={"epochs": 2}))
    parts = replace(whole, paused=PausedTrainings(tmp_path))
    parts.evaluate(CELL, 1, 1)
    files = sorted(tmp_path.rglob("checkpoint*.pt"))
    assert files
    for file in files:
        file.write_bytes(b"PK") if lost == "damaged" else file.unlink()
    assert replace(parts.evaluate(CELL, 1), seconds=0.0) == replace(whole.evaluate(CELL, 1), seconds=0.0)


def test_a_child_goes_on_from_the_weights_that_it_inherits(evaluator: ProxyTraining, tmp_path: Path) -> None:
    keeping = replace(evaluator, kept=KeptWeights(tmp_path))
    parent = keeping.evaluate(CELL, 1)
    assert parent.reward == evaluator.evaluate(CELL, 1).reward
    heir = keeping.start_from(CELL.canonical_hash())
    assert heir.evaluate(CELL, 2).reward > evaluator.evaluate(CELL, 2).reward
    other = TINY.decode([size - 1 for size in TINY.decision_sizes])
    assert other.canonical_hash() != CELL.canonical_hash()
    assert heir.evaluate(other, 3).reward != evaluator.evaluate(other, 3).reward
    with pytest.raises(NascliError, match="lost"):
        keeping.start_from("lost").evaluate(CELL, 4)


def test_the_score_is_an_accuracy_with_the_costs_of_the_child(evaluator: ProxyTraining) -> None:
    score = evaluator.evaluate(CELL, 3)
    cost = measure_cost(evaluator.setup.spec(CELL))
    assert (score.params, score.mult_adds) == (cost.params, cost.mult_adds)
    assert score.reward == score.accuracy
    assert 0.2 < score.accuracy <= 1  # ten classes: 0.1 by chance
    assert (score.accuracy * len(evaluator.setup.data.val)) % 1 == pytest.approx(0, abs=1e-6)
    assert score.seconds > 0


def test_images_come_to_the_device_once_and_do_not_travel(
    evaluator: ProxyTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[ImageData] = []

    def watch(network: ImageClassifier, data: ImageData, *rest: Any, **how: Any) -> FitResult:  # noqa: ANN401
        seen.append(data)
        return fit_classifier(network, data, *rest, **how)

    monkeypatch.setattr("nascli.search.evaluators.proxy.fit_classifier", watch)
    own = replace(evaluator, setup=replace(evaluator.setup))
    scores = [own.evaluate(CELL, seed) for seed in (1, 1)]
    assert seen[0] is seen[1] is own.setup.resident
    sent = pickle.loads(pickle.dumps(own))
    assert "resident" not in vars(sent.setup)
    assert sent.evaluate(CELL, 1).reward == scores[0].reward == scores[1].reward


def test_a_child_that_diverges_says_so() -> None:
    with pytest.raises(DivergedError):
        build(recipe(train__lr=1e30, train__clip_grad_norm=0.0)).evaluate(CELL, 1)


def test_an_auxiliary_head_is_no_part_of_the_params() -> None:
    with_head = load_child_setup(recipe(train__aux_weight=0.4, network__image_size=16), CPU)
    without = load_child_setup(recipe(network__image_size=16), CPU)
    assert as_cells(with_head.spec(CELL)).aux_head
    assert measure_cost(with_head.spec(CELL)).params == measure_cost(without.spec(CELL)).params


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"data__dataset": "digitz"}, "digitz"),
        ({"space__name": "nasnett"}, "Did you mean nasnet"),
        ({"network__stem": "imagenet"}, "too small for the ImageNet stem"),
    ],
)
def test_what_cannot_be_searched_is_refused_at_once(flags: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_child_setup(recipe(**flags), CPU)


def test_every_shipped_recipe_is_valid_and_opens_with_its_promise() -> None:
    from nascli.config import recipes_folder
    from nascli.genotype.space import resolve_space

    paths = sorted((recipes_folder() / "search").glob("*.toml"))
    assert {path.stem for path in paths} >= {"digits", "cifar10-cpu", "cifar10-paper"}
    for path in paths:
        resolve_space(load_recipe(SearchRecipe, path).space)
        comment = "".join(line for line in path.read_text().splitlines() if line.startswith("#"))
        for word in ("nascli search", "Source", "Hardware", "verified"):
            assert word in comment, f"{path.name} does not say {word}"
    assert Path(load_recipe(SearchRecipe, None).data.data_dir) == Path("data")
