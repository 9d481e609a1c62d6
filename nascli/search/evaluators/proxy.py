"""The paper's evaluator: a small child network, a short training, its accuracy on held-out training images.

`ChildSetup` is what every evaluator that looks at child networks shares: the data and how a child is built.
`ProxyTraining` trains it.
"""

import time
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, Self

import torch

from nascli.classify.task import fit_classifier
from nascli.config import DataConfig, NetworkConfig, SearchRecipe, TrainConfig
from nascli.data.dataset import ImageData, split_holdout
from nascli.data.folders.index import HELD_OUT
from nascli.data.registry import load_dataset
from nascli.data.transforms import Normalizer
from nascli.engine.device import temporary_seed, use_device
from nascli.engine.task import Run
from nascli.errors import InputError
from nascli.genotype.genotype import Genotype
from nascli.genotype.space import first_genotype, resolve_space
from nascli.models.cost import Cost, measure_cost
from nascli.models.families import build
from nascli.models.interface import ImageClassifier
from nascli.models.spec import NetworkSpec, resolve_network
from nascli.search.evaluators.child_files import KeptWeights, PausedTrainings
from nascli.search.trial import Score
from nascli.seeding import derive_seed


@dataclass(frozen=True)
class ChildSetup:
    """The data of a search and its child networks.

    Args:
        data: Both `train` and `val` are parts of the data set's training split; `val` gives the reward.
        network: The macro numbers of a child network, as its width.
        augmentation: Crops, flips and the like of training images.
    """

    data: ImageData
    network: NetworkConfig
    augmentation: DataConfig
    device: torch.device
    aux_head: bool = False

    @cached_property
    def resident(self) -> ImageData:
        """The data with what they hold in memory on the device: copied there once per process, not per child."""
        return self.data.to(self.device)

    @property
    def normalizer(self) -> Normalizer:
        """Scales images as the children see them."""
        return Normalizer(self.data.mean, self.data.std)

    def __getstate__(self) -> dict[str, Any]:
        """Without the copy on the device: each process makes its own."""
        return {name: value for name, value in vars(self).items() if name != "resident"}

    def __setstate__(self, values: dict[str, Any]) -> None:
        vars(self).update(values)
        use_device(self.device)

    def spec(self, genotype: Genotype) -> NetworkSpec:
        """The child network of a genotype."""
        return resolve_network(
            genotype,
            self.network,
            classes=self.data.classes,
            image_size=self.data.image_size,
            aux_head=self.aux_head,
            class_names=self.data.class_names,
            mean=self.data.mean,
            std=self.data.std,
        )

    def child(self, genotype: Genotype, seed: int) -> ImageClassifier:
        """The child network that a training from `seed` starts from, on the CPU; the random state is left as it was."""
        with temporary_seed(seed, "init"):
            return build(self.spec(genotype))

    def cost(self, genotype: Genotype) -> Cost:
        """Params and mult-adds of the child network."""
        return _trace_cost(self.spec(genotype))


@dataclass(frozen=True)
class ProxyTraining:
    """The evaluator that trains each child.

    Args:
        setup: The data and how a child is built.
        train: The full training.
        paused: Where trainings for fewer epochs wait to be continued: such a training is the first part of the full
            one. Without it each begins anew and has its own schedule.
        kept: Where the weights of children are kept for others; without it none are.
        parent: The canonical hash of the child whose weights are inherited.

    References:
        Zoph et al. 2018, appendices A.1, A.3 and A.6.
    """

    setup: ChildSetup
    train: TrainConfig
    paused: PausedTrainings | None = None
    kept: KeptWeights | None = None
    parent: str | None = None

    def start_from(self, parent: str) -> Self:
        """The same for children of a network."""
        return replace(self, parent=parent)

    def evaluate(self, genotype: Genotype, seed: int, epochs: int | None = None) -> Score:
        """Train the child; the reward is its top-1 accuracy on the held-out images, in [0, 1].

        A training that was lost, or whose checkpoint is damaged, begins anew and comes to the same.

        Raises:
            DivergedError: The loss became infinite or not a number.
        """
        started, setup, train = time.monotonic(), self.setup, self.train
        network, cost, name = setup.child(genotype, seed), setup.cost(genotype), genotype.canonical_hash()
        if self.kept is not None and self.parent is not None:
            self.kept.give(self.parent, network)
        run = Run(setup.device, retry_on_oom=False)  # rewards of other micro-batches could not be compared
        if self.paused is None:
            train = train if epochs is None else train.model_copy(update={"epochs": epochs})
            result = fit_classifier(network, setup.resident, train, setup.augmentation, seed, run)
        else:
            run, store = replace(run, until=epochs), self.paused.open(name, seed)
            result = fit_classifier(network, setup.resident, train, setup.augmentation, seed, run, store)
        if self.kept is not None and epochs is None:
            self.kept.save(network, name)
        return Score.of(result.evaluation.top1, cost.params, cost.mult_adds, started)


@lru_cache(maxsize=2)  # several trainings of one child trace it once, and so the network that it will be deployed as
def _trace_cost(spec: NetworkSpec) -> Cost:
    return measure_cost(spec)


def load_child_setup(recipe: SearchRecipe, device: torch.device) -> ChildSetup:
    """Load the data set of a recipe and hold out a part of its training split; its test split is unseen.

    Raises:
        InputError: The data set is not there, the space is unknown, or its networks cannot be built for the images.
    """
    source = recipe.data
    if source.workers is None and device.type == "cpu":  # one search worker per core leaves none for decoding
        source = source.model_copy(update={"workers": 0})
    data = load_dataset(source, recipe.network.image_size)
    train, held_out = split_holdout(data.train, recipe.search.holdout, derive_seed(recipe.seed, "holdout"))
    if not len(held_out):
        raise InputError(
            f"data set {data.name}: each class has one training image, so none can be held out to score cells on",
            "Add images: a search needs two of a class at least, and of each to be of use",
        )
    unused = (*(() if data.val_name == HELD_OUT else (data.val_name,)), *data.unused)
    data = replace(data, train=train, val=held_out, val_name=HELD_OUT, unused=unused)
    setup = ChildSetup(data, recipe.network, recipe.data, device, aux_head=recipe.train.aux_weight > 0)
    space = resolve_space(recipe.space)
    setup.spec(first_genotype(space))  # refuse now, not trial by trial
    return setup
