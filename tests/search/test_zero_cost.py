"""Scores without training: equal to those computed another way, repeatable, and finite where a kernel is singular."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nascli.config import CellNetworkConfig, DataConfig, MobileNetworkConfig, SearchRecipe, TrainConfig
from nascli.data.in_memory import ImageArray
from nascli.errors import DivergedError, InputError
from nascli.genotype.genotype import Genotype
from nascli.models.cost import measure_cost
from nascli.models.families import build
from nascli.models.interface import ImageClassifier
from nascli.search.evaluators.proxy import ChildSetup, load_child_setup
from nascli.search.evaluators.zero_cost import (
    BATCH,
    ZERO_COST_SCORES,
    ZeroCostScore,
    grad_norm,
    load_fixed_batch,
    naswot,
)
from nascli.seeding import derive_seed
from tests.cells import as_cells
from tests.classify.small_training import AUGMENTATION, CPU, EVERYTHING, make_data
from tests.fakes import TINY
from tests.mobile import SMALL

PROXY = ChildSetup(
    make_data(train=80),
    CellNetworkConfig(filters=4, cells_per_stage=1, dropout=0.5),
    AUGMENTATION,
    CPU,
    aux_head=EVERYTHING.aux_weight > 0,
)
LOOKS = ("naswot", "grad_norm")


def cell(op: int) -> Genotype:
    """Every op is number `op` of the tiny space: 0 separable convolution, 1 max pool, 2 identity."""
    return TINY.decode([0, 1, op, op, 0, 1, 2, op, op, 0] * 2)


def child(seed: int) -> ImageClassifier:
    torch.manual_seed(derive_seed(seed, "init"))
    network = build(PROXY.spec(cell(0))).train()
    network.dropout.p = 0.0
    return network


def with_images(images: Tensor) -> ChildSetup:
    split = PROXY.data.train
    assert isinstance(split, ImageArray)
    return replace(PROXY, data=replace(PROXY.data, train=ImageArray(images, split.labels)))


def test_the_batch_is_of_training_images_and_never_varied() -> None:
    images, labels = load_fixed_batch(PROXY)
    again, _ = load_fixed_batch(replace(PROXY, augmentation=DataConfig()))
    assert images.shape == (BATCH, 3, 8, 8)
    assert torch.equal(images, again)
    assert set(labels.tolist()) == {0, 1, 2}
    few = replace(PROXY, data=make_data(train=20))
    assert len(load_fixed_batch(few)[0]) == 20


def test_naswot_is_the_log_determinant_of_the_agreements_of_the_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    score = naswot(PROXY, cell(0), 5)
    network, (images, _) = child(5), load_fixed_batch(PROXY)
    codes: list[Tensor] = []
    relu = F.relu

    def record(x: Tensor, inplace: bool = False) -> Tensor:
        codes.append((x > 0).flatten(1))
        return relu(x, inplace)

    monkeypatch.setattr(F, "relu", record)
    network(images)
    units = torch.cat(codes, 1).numpy()
    kernel = np.array([[np.sum(one == other) for other in units] for one in units], dtype=np.float64)
    sign, expected = np.linalg.slogdet(kernel)
    assert sign == 1
    assert score == pytest.approx(expected, rel=1e-9)


def test_naswot_prefers_a_cell_with_more_to_tell_images_apart() -> None:
    assert naswot(PROXY, cell(0), 1) > naswot(PROXY, cell(1), 1)
    assert naswot(PROXY, cell(0), 1) > naswot(PROXY, cell(2), 1)


def test_naswot_is_finite_where_images_cannot_be_told_apart() -> None:
    split = PROXY.data.train
    assert isinstance(split, ImageArray)
    same = split.images[:1].expand_as(split.images).clone()
    pairs = split.images[: len(split) // 2].repeat(2, 1, 1, 1)
    scores = [naswot(with_images(images), cell(0), 1) for images in (same, pairs, split.images)]
    assert np.isfinite(scores).all()
    assert 0 < scores[0] < scores[1] < scores[2]


def test_gradient_norm_is_the_sum_over_the_weights() -> None:
    network, (images, labels) = child(7), load_fixed_batch(PROXY)
    torch.nn.CrossEntropyLoss()(network(images), labels).backward()
    gradients = [
        weights.grad
        for name, weights in network.named_parameters()
        if weights.ndim > 1 and not name.startswith("aux_head")
    ]
    assert as_cells(PROXY.spec(cell(0))).aux_head
    expected = sum(float(gradient.square().sum().sqrt()) for gradient in gradients if gradient is not None)
    assert grad_norm(PROXY, cell(0), 7) == pytest.approx(expected, rel=1e-5)


def test_a_gradient_that_is_not_finite_says_so() -> None:
    blinding = replace(PROXY, data=replace(PROXY.data, std=(1e-300,) * 3))
    with pytest.raises(DivergedError, match="gradient norm"):
        grad_norm(blinding, cell(0), 1)


@pytest.mark.parametrize("kind", LOOKS)
def test_a_score_follows_from_its_seed_and_leaves_other_random_draws_alone(kind: str) -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = ZERO_COST_SCORES[kind](PROXY, cell(0), 1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(9)
    assert ZERO_COST_SCORES[kind](PROXY, cell(0), 1) == first
    assert ZERO_COST_SCORES[kind](PROXY, cell(0), 2) != first


@pytest.mark.parametrize("kind", LOOKS)
def test_how_the_child_would_be_trained_changes_nothing(kind: str) -> None:
    other = TrainConfig(epochs=9, lr=1.0, precision="bfloat16", drop_path_prob=0.9, label_smoothing=0.5, aux_weight=0.1)
    network = CellNetworkConfig(filters=4, cells_per_stage=1, image_size=16)
    recipe = SearchRecipe(network=network, train=TrainConfig(aux_weight=0.4))
    setup, changed = (load_child_setup(each, CPU) for each in (recipe, recipe.model_copy(update={"train": other})))
    assert ZERO_COST_SCORES[kind](changed, cell(0), 1) == ZERO_COST_SCORES[kind](setup, cell(0), 1)


@pytest.mark.parametrize("kind", ZERO_COST_SCORES)
def test_the_evaluator_rewards_the_score_and_claims_no_accuracy(kind: str) -> None:
    evaluator: ZeroCostScore = pickle.loads(pickle.dumps(ZeroCostScore(kind, PROXY)))
    score = evaluator.evaluate(cell(0), 3, epochs=2)
    cost = measure_cost(PROXY.spec(cell(0)))
    assert (score.params, score.mult_adds, score.accuracy) == (cost.params, cost.mult_adds, None)
    millions = {"params": cost.params / 1e6, "mult_adds": cost.mult_adds / 1e6}
    assert score.reward == millions.get(kind, ZERO_COST_SCORES[kind](PROXY, cell(0), 3))


def test_an_unknown_score_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean naswot"):
        ZeroCostScore("nasswot", PROXY)


def test_networks_with_relu6_have_codes_too() -> None:
    """The two activations are on and off at the same places while they are below 6."""
    proxy = replace(PROXY, network=MobileNetworkConfig(width=0.5, head_filters=32, dropout=0.5))
    scores = [
        naswot(replace(proxy, network=proxy.network.model_copy(update={"activation": name})), SMALL, 5)
        for name in ("relu", "relu6")
    ]
    assert scores[0] > 0
    assert scores[1] == pytest.approx(scores[0], rel=0.05)
