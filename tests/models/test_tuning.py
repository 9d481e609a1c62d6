"""Frozen stages, frozen batch norms, and the part of the learning rate that each stage has."""

import pytest
import torch
from torch import nn

from nascli.classify.task import ClassifyTask
from nascli.config import FineTuneConfig
from nascli.engine.optim import group_parameters
from nascli.engine.task import Run
from nascli.engine.train_state import start_state
from nascli.errors import InputError
from nascli.models.families import build_network
from nascli.models.interface import ImageClassifier
from nascli.models.tuning import find_lr_factors, freeze_weights
from tests.classify.small_training import (
    AUGMENTATION,
    CPU,
    EVERYTHING,
    equal,
    make_data,
    make_network,
    run_fit,
    weights,
)

STAGES = ("stem", "stage1", "stage2", "stage3", "classifier")


def tuned(**keys: object) -> FineTuneConfig:
    return FineTuneConfig.model_validate(EVERYTHING.model_dump() | keys)


def frozen_network(config: FineTuneConfig) -> ImageClassifier:
    network = make_network()
    freeze_weights(network, config)
    return network


def stage_of(network: ImageClassifier, name: str) -> str:
    """The stage of a tensor by its name."""
    paths = {f"{unit.path}.": stage for stage, units in network.units_by_stage().items() for unit in units}
    return next((stage for path, stage in paths.items() if name.startswith(path)), "aux_head")


def test_every_family_has_stages_from_the_stem_to_the_classifier() -> None:
    assert tuple(make_network().units_by_stage()) == STAGES
    large = build_network("nasnet-a", "imagenet-mobile", filters=4, cells_per_stage=1)
    assert [unit.path for unit in large.units_by_stage()["stem"]] == ["stem", "cells.0", "cells.1"]
    mobile = build_network("mnasnet-a1", "mnasnet", width=0.25)
    assert tuple(mobile.units_by_stage()) == ("stem", *(f"block{k}" for k in range(1, 8)), "head", "classifier")
    assert tuple(build_network("resnet-20").units_by_stage()) == STAGES


def test_layer_decay_and_the_factor_of_the_classifier_give_each_stage_its_part_of_the_rate() -> None:
    network = make_network()
    factors = find_lr_factors(network, tuned(layer_decay=0.5, classifier_lr_factor=10))
    parts = {stage_of(network, name): factor for name, factor in factors.items()}
    assert parts == dict(zip(STAGES, (1 / 16, 1 / 8, 1 / 4, 1 / 2, 10), strict=True)) | {"aux_head": 10}
    assert factors.keys() == {name for name, _ in network.named_parameters()}
    groups = group_parameters(network, tuned(weight_decay=0.1), lambda name: factors[name])
    assert sum(len(group["params"]) for group in groups) == len(factors)
    assert {(group["weight_decay"], group["lr_factor"]) for group in groups} == {
        (decay, factor) for decay in (0.0, 0.1) for factor in parts.values()
    }


def test_each_step_sets_the_rate_of_each_group() -> None:
    """Half the rate for one more stage to the classifier: SGD's first step is that much shorter."""
    steps = {}
    for factor in (1.0, 0.5):
        network = make_network()
        before = weights(network)
        run_fit(network, tuned(epochs=1, batch_size=68, ema_decay=0, warmup_epochs=0, classifier_lr_factor=factor))
        steps[factor] = network.state_dict()["classifier.weight"] - before["classifier.weight"]
    torch.testing.assert_close(steps[0.5], steps[1.0] / 2)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_frozen_stages_keep_every_tensor_and_the_others_train(checkpointing: bool) -> None:
    config = tuned(freeze=["stem", "stage1"], grad_checkpointing=checkpointing)
    network = frozen_network(config)
    before = weights(network)
    run_fit(network, config)
    after = weights(network)
    still = {name for name in before if torch.equal(before[name], after[name])}
    assert still == {name for name in before if stage_of(network, name) in ("stem", "stage1")}


def test_frozen_parameters_have_no_gradient_and_no_state_and_the_backward_pass_stops_at_them() -> None:
    config = tuned(freeze="backbone", aux_weight=0, ema_decay=0)
    network = make_network(aux_head=False)
    freeze_weights(network, config)
    task = ClassifyTask(network, make_data(), config, AUGMENTATION, 1, Run(CPU))
    state = start_state(task, Run(CPU))
    assert {len(group["params"]) for group in state.optimizer.param_groups} == {1}
    assert len(state.optimizer.state) == 2
    network.train()
    features = network.features(torch.zeros(2, 3, 8, 8))
    assert not any(each.requires_grad for each in features.values())
    sum(task.loss((torch.zeros(2, 3, 8, 8), torch.zeros(2, dtype=torch.int64))).values()).backward()  # type: ignore[union-attr]
    assert {name for name, each in network.named_parameters() if each.grad is not None} == {
        "classifier.weight",
        "classifier.bias",
    }


@pytest.mark.parametrize(
    ("what", "moving"),
    [
        ("off", {"running_mean", "running_var", "weight", "bias"}),
        ("statistics", {"weight", "bias"}),
        ("scale", {"running_mean", "running_var"}),
        ("both", set()),
    ],
)
def test_batch_norms_keep_what_is_frozen_of_them(what: str, moving: set[str]) -> None:
    config = tuned(freeze_batch_norm=what, ema_decay=0)
    network = frozen_network(config)
    norms = {
        path: each
        for path, each in network.named_modules()
        if isinstance(each, nn.BatchNorm2d) and not path.startswith("aux_head")
    }
    before = weights(network)
    run_fit(network, config)
    after = weights(network)
    changed = {
        (path, name)
        for path in norms
        for name in ("running_mean", "running_var", "weight", "bias")
        if not torch.equal(before[f"{path}.{name}"], after[f"{path}.{name}"])
    }
    assert changed == {(path, name) for path in norms for name in moving}


def test_fine_tuning_keys_at_their_defaults_change_no_bit() -> None:
    one, two = make_network(), frozen_network(tuned())
    run_fit(one)
    run_fit(two, tuned())
    assert equal(weights(one), weights(two))


@pytest.mark.parametrize(
    ("keys", "key", "word"),
    [
        ({"freeze": ["stage4"]}, "train.freeze", "stem, stage1, stage2, stage3, classifier"),
        ({"freeze": ["backbone", "classifier"]}, "train.freeze", "every stage"),
        ({"freeze": list(STAGES)}, "train.freeze", "every stage"),
        ({"freeze": ["backbone"], "layer_decay": 0.5}, "train.layer_decay", "no stage"),
    ],
)
def test_what_cannot_be_trained_is_refused(keys: dict[str, object], key: str, word: str) -> None:
    with pytest.raises(InputError) as refused:
        find_lr_factors(frozen_network(tuned(**keys)), tuned(**keys))
    assert refused.value.field == key
    assert word in str(refused.value)
