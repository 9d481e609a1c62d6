"""A training step never waits for its device: counted on the device `meta`, which has shapes and no values.

A copy from the CPU and a number that is read back both make a program wait for a GPU.
"""

import pytest
import torch
from launches import META, StepCounter, count_step

from nascli.classify.task import ClassifyTask
from nascli.config import DataConfig, TrainConfig, TrainRecipe, find_recipe, load_recipe, recipes_folder
from nascli.engine.task import Run
from nascli.models.families import build_network
from tests.classify.small_training import make_data, make_network


def count_waits(augmentation: DataConfig, config: TrainConfig) -> StepCounter:
    """Those of the last of some steps, after which nothing is made for the first time."""
    run = Run(META)
    return count_step(ClassifyTask(make_network(), make_data(64, 16), config, augmentation, 1, run), run)


@pytest.mark.parametrize("name", sorted(each.stem for each in (recipes_folder() / "train").glob("*.toml")))
def test_a_step_of_every_recipe_copies_once_and_reads_nothing(name: str) -> None:
    recipe = load_recipe(TrainRecipe, find_recipe("train", name), {})
    smaller = {"batch_size": 16, "epochs": 2, "grad_accum_steps": 1, "precision": "float32", "compile": False}
    waits = count_waits(recipe.data, recipe.train.model_copy(update=smaller))
    assert sum(waits.copies.values()) <= 1, waits.copies
    assert not waits.reads


@pytest.mark.parametrize("mixing", [{"mixup": 0.2}, {"cutmix": 1.0}, {"mixup": 0.2, "cutmix": 1.0}])
def test_neither_does_mixing(mixing: dict[str, float]) -> None:
    every = DataConfig(crop_padding=2, flip=True, cutout=4, rand_augment=2, color_jitter=0.5, **mixing)
    config = TrainConfig(
        epochs=2, batch_size=16, drop_path_prob=0.2, aux_weight=0.4, ema_decay=0.9, optimizer="rmsprop"
    )
    waits = count_waits(every, config)
    assert sum(waits.copies.values()) <= 1, waits.copies
    assert not waits.reads


def test_all_drop_path_masks_of_a_network_are_drawn_at_once() -> None:
    network = build_network("nasnet-a", "cifar10", filters=4).to(META)
    network.drop_path_prob = 0.3
    with StepCounter(META) as waits:
        network(torch.zeros(2, 3, 32, 32, device=META))
    assert waits.operations["rand"] == 1
    assert not waits.operations["bernoulli_"]


def test_batch_norms_do_not_count_their_batches() -> None:
    network = make_network()
    assert not [name for name, buffer in network.named_buffers() if not buffer.is_floating_point()]
    plain = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.load_state_dict(plain)  # a dictionary without torch's note of versions
    assert network.state_dict().keys() == plain.keys()


def test_a_copy_and_a_read_are_counted() -> None:
    with StepCounter(META) as waits:
        torch.ones(3).to(META)
        torch.ones(3, device=META).index_select(0, torch.tensor([0, 1]).to(META))
        with pytest.raises(RuntimeError):
            torch.ones(1, device=META).item()
    assert sum(waits.copies.values()) == 2
    assert sum(waits.reads.values()) == 1
