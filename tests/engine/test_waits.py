"""A training step never waits for its device: counted on the device `meta`, which has shapes and no values.

A copy from the CPU and a number that is read back both make a program wait for a GPU.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nascli.classify.task import ClassifyTask
from nascli.config import DataConfig, TrainConfig, TrainRecipe, find_recipe, load_recipe, recipes_folder
from nascli.engine.step import train_step
from nascli.engine.task import Run
from nascli.engine.train_state import start_state
from nascli.models.families import build_network
from tests.classify.small_training import make_data, make_network

META = torch.device("meta")
STEPS = 3
READS = ("_local_scalar_dense", "nonzero", "unique", "masked_select", "equal", "item", "is_nonzero")


class Waits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts all operations, the copies to the device `meta`, and those whose result the CPU has to know."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: Counter[str] = Counter()
        self.copies: Counter[str] = Counter()
        self.reads: Counter[str] = Counter()

    def __torch_dispatch__(
        self,
        function: Any,  # noqa: ANN401 - an operation
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - its result
        given = [each for each in tree_leaves((args, kwargs or {})) if isinstance(each, torch.Tensor)]
        on_device = [each.is_meta for each in given]
        name = function.overloadpacket.__name__
        self.operations[name] += 1
        if name in READS and any(on_device):
            self.reads[name] += 1
        result = function(*args, **(kwargs or {}))
        made = [each for each in tree_leaves(result) if isinstance(each, torch.Tensor)]
        numbers = [each for each in given if not each.is_meta and each.dim()]  # a scalar goes along with a launch
        if numbers and any(each.is_meta for each in [*made, *given]):
            self.copies[name] += 1
        return result


def count_waits(augmentation: DataConfig, config: TrainConfig) -> Waits:
    """Those of the last of some steps, after which nothing is made for the first time."""
    data = make_data(64, 16)
    network = make_network()
    task = ClassifyTask(network, data, config, augmentation, 1, Run(META))
    state = start_state(task, Run(META))
    for group in state.optimizer.param_groups:
        group |= {"fused": False, "foreach": True}  # torch has no fused kernel for this device
    batches = iter(task.batches(0, 0))
    waits = Waits()
    for step in range(STEPS):
        waits = Waits()
        with waits:
            task.begin_step(step)
            train_step(state, task, next(batches), 7, Run(META))
    return waits


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
    with Waits() as waits:
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
    with Waits() as waits:
        torch.ones(3).to(META)
        torch.ones(3, device=META).index_select(0, torch.tensor([0, 1]).to(META))
        with pytest.raises(RuntimeError):
            torch.ones(1, device=META).item()
    assert sum(waits.copies.values()) == 2
    assert sum(waits.reads.values()) == 1
