"""Evaluators: each scores one genotype, and knows nothing of strategies, trials or journals."""

import statistics
import time
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, Protocol

import torch

from nascli.classify.task import fit_classifier
from nascli.config import DataConfig, NetworkConfig, SearchRecipe, TrainConfig
from nascli.data.dataset import ImageData, split_holdout
from nascli.data.registry import load_dataset
from nascli.engine.task import Run
from nascli.genotype.genotype import Genotype
from nascli.genotype.space import resolve_space
from nascli.models.cost import Cost, measure_cost
from nascli.models.families import build
from nascli.models.interface import ImageClassifier
from nascli.models.spec import NetworkSpec, resolve_network
from nascli.search.trial import Score
from nascli.seeding import derive_seed


class Evaluator(Protocol):
    """Scores genotypes. It can be pickled, so that worker processes can have it."""

    def evaluate(self, genotype: Genotype, seed: int, epochs: int | None = None) -> Score:
        """The score of a genotype; equal for equal arguments, apart from the seconds.

        Args:
            genotype: What is scored.
            seed: Everything random in the evaluation follows from it.
            epochs: Train for so many, not for those of the recipe; nothing to an evaluator that does not train.

        Raises:
            RejectedError: The genotype violates a constraint.
            Exception: Whatever went wrong with this genotype; the search records it and goes on.
        """
        ...


@dataclass(frozen=True)
class ProxyTraining:
    """The paper's evaluator: a small child network, a short training, its accuracy on held-out training images.

    Args:
        data: Its `train` is trained on, its `val` gives the reward; both are parts of the training split.
        network: The macro numbers of a child network.
        train: The short training.
        augmentation: How a training image is varied.
        device: Where to compute.

    References:
        Zoph et al. 2018, appendices A.1, A.3 and A.6.
    """

    data: ImageData
    network: NetworkConfig
    train: TrainConfig
    augmentation: DataConfig
    device: torch.device

    @cached_property
    def resident(self) -> ImageData:
        """The data with what they hold in memory on the device: copied there once in a process, not for each child."""
        return self.data.to(self.device)

    def __getstate__(self) -> dict[str, Any]:
        """Without the copy on the device: each process makes its own."""
        return {name: value for name, value in vars(self).items() if name != "resident"}

    def spec(self, genotype: Genotype) -> NetworkSpec:
        """The child network of a genotype."""
        return resolve_network(
            genotype,
            self.network,
            classes=self.data.classes,
            image_size=self.data.image_size,
            aux_head=self.train.aux_weight > 0,
            class_names=self.data.class_names,
            mean=self.data.mean,
            std=self.data.std,
        )

    def child(self, genotype: Genotype, seed: int) -> ImageClassifier:
        """The child network that a training from `seed` starts from, on the CPU; the random state is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derive_seed(seed, "init"))  # weights are drawn on the CPU
            return build(self.spec(genotype))

    def cost(self, genotype: Genotype) -> Cost:
        """What the child network costs."""
        return _traced(self.spec(genotype))

    def evaluate(self, genotype: Genotype, seed: int, epochs: int | None = None) -> Score:
        """Train the child from scratch; the reward is its top-1 accuracy on the held-out images, in [0, 1].

        Raises:
            DivergedError: The loss became infinite or not a number.
        """
        started = time.monotonic()
        network = self.child(genotype, seed)
        cost = self.cost(genotype)
        train = self.train if epochs is None else self.train.model_copy(update={"epochs": epochs})
        result = fit_classifier(network, self.resident, train, self.augmentation, seed, Run(self.device))
        accuracy = result.evaluation.top1
        return Score(
            reward=accuracy,
            accuracy=accuracy,
            params=cost.params,
            mult_adds=cost.mult_adds,
            seconds=round(time.monotonic() - started, 3),
        )


@lru_cache(maxsize=1)
def _traced(spec: NetworkSpec) -> Cost:
    """The cost of a child; that of the same one again, as when a training is repeated, is not traced again."""
    return measure_cost(spec)


@dataclass(frozen=True)
class Repeated:
    """Several evaluations of the same genotype, each with a seed of its own; reward and accuracy are their means.

    Args:
        evaluator: What is repeated.
        times: How often.
    """

    evaluator: Evaluator
    times: int

    def evaluate(self, genotype: Genotype, seed: int, epochs: int | None = None) -> Score:
        """The mean score; `accuracies` holds them one by one."""
        seeds = [derive_seed(seed, "repeat", index) for index in range(self.times)]
        scores = [self.evaluator.evaluate(genotype, each, epochs) for each in seeds]
        accuracies = tuple(score.accuracy for score in scores if score.accuracy is not None)
        return replace(
            scores[0],
            reward=statistics.fmean(score.reward for score in scores),
            accuracy=statistics.fmean(accuracies) if accuracies else None,
            accuracies=accuracies,
            seconds=round(sum(score.seconds for score in scores), 3),
        )


def proxy_training(recipe: SearchRecipe, device: torch.device) -> ProxyTraining:
    """The evaluator of a recipe: loads the data set and holds a part of its training split out, the test split unseen.

    Raises:
        InputError: The data set is not there, the space is unknown, or its networks cannot be built for the images.
    """
    source = recipe.data
    if source.workers is None and device.type == "cpu":  # a search worker to a core leaves none for decoding
        source = source.model_copy(update={"workers": 0})
    data = load_dataset(source, recipe.network.image_size)
    train, held_out = split_holdout(data.train, recipe.search.holdout, derive_seed(recipe.seed, "holdout"))
    data = replace(data, train=train, val=held_out)
    evaluator = ProxyTraining(data, recipe.network, recipe.train, recipe.data, device)
    space = resolve_space(recipe.space)
    evaluator.spec(space.decode([0] * len(space.decision_sizes)))  # refuse now, not trial by trial
    return evaluator
