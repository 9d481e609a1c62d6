"""The protocol of all evaluators, and the mean over several seeds. No torch: a worker process may do without it."""

import statistics
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from nascli.genotype.genotype import Genotype
from nascli.search.trial import Score
from nascli.seeding import derive_seed


class Evaluator(Protocol):
    """Scores one genotype, and knows nothing of strategies, trials or journals. Pickled to reach worker processes."""

    def evaluate(self, genotype: Genotype, seed: int, epochs: int | None = None) -> Score:
        """The score of a genotype; equal for equal arguments, apart from the seconds.

        Args:
            genotype: The architecture to score.
            seed: Everything random in the evaluation follows from it.
            epochs: Epochs of the training, in place of the recipe's; ignored by an evaluator that does not train.

        Raises:
            RejectedError: The genotype violates a constraint.
            Exception: Anything else that is wrong with this genotype; the search records it and continues.
        """
        ...


@runtime_checkable
class SupportsInheritance(Evaluator, Protocol):
    """An evaluator that can start a training from the weights of another network that it trained, or wraps one."""

    def start_from(self, parent: str) -> Evaluator:
        """The same evaluator for children of a network, which is named by its canonical hash."""
        ...


def start_from(evaluator: Evaluator, parent: str) -> Evaluator:
    """The evaluator for children of a network; TypeError where it knows no weights."""
    if not isinstance(evaluator, SupportsInheritance):
        raise TypeError(f"{type(evaluator).__name__} has no weights that could be inherited")
    return evaluator.start_from(parent)


@dataclass(frozen=True)
class SeedAverage:
    """An evaluator that scores each genotype with several seeds; reward and accuracy are the means.

    Args:
        evaluator: Scores with one seed.
        num_seeds: Evaluations per genotype; their seeds follow from the trial's.
    """

    evaluator: Evaluator
    num_seeds: int

    def start_from(self, parent: str) -> Evaluator:
        """As the other evaluator's."""
        return replace(self, evaluator=start_from(self.evaluator, parent))

    def evaluate(self, genotype: Genotype, seed: int, epochs: int | None = None) -> Score:
        """The mean score; `accuracies` holds those of the single seeds."""
        seeds = [derive_seed(seed, "repeat", index) for index in range(self.num_seeds)]
        scores = [self.evaluator.evaluate(genotype, each, epochs) for each in seeds]
        accuracies = tuple(score.accuracy for score in scores if score.accuracy is not None)
        return replace(
            scores[0],
            reward=statistics.fmean(score.reward for score in scores),
            accuracy=statistics.fmean(accuracies) if accuracies else None,
            accuracies=accuracies,
            seconds=round(sum(score.seconds for score in scores), 3),
        )
