"""Trials as an exhaustive search leaves them, without a training."""

import random
from collections.abc import Sequence

from nascli.config import CellSpaceConfig, SearchConfig, SearchRecipe
from nascli.genotype.cells.space import CellSpace, resolve_cell_space
from nascli.search.strategies.exhaustive import ExhaustiveSearch
from nascli.search.trial import Failure, FailureKind, Score, Trial

RECIPE = SearchRecipe(
    space=CellSpaceConfig(
        name="toy", ops=("sep_conv_3x3", "max_pool_3x3", "identity"), blocks=1, inputs="distinct", cells="one"
    ),
    search=SearchConfig(strategy="exhaustive"),
)
SPACE = resolve_cell_space(RECIPE.space)
"""18 sequences, 9 cells."""


def trained(space: CellSpace = SPACE, seeds: int = 2, noise: float = 0.01, failing: Sequence[int] = ()) -> list[Trial]:
    """The trials of an exhaustive search: the more separable convolutions, the better; some cells fail."""
    trials = []
    for number, tokens in enumerate(iter(ExhaustiveSearch(space).ask, None)):
        genotype = space.decode(tokens)
        trial = Trial(id=number, tokens=tokens, genotype=genotype, hash=genotype.canonical_hash(), seed=number)
        if number in failing:
            trials.append(trial.fail(Failure(FailureKind.DIVERGED, "the loss became nan"), 0.0))
            continue
        draw = random.Random(trial.hash)
        quality = 0.6 + 0.1 * sum(op == "sep_conv_3x3" for block in genotype.normal.blocks for op in block.ops)
        quality += 0.03 * draw.random()
        accuracies = tuple(quality + noise * draw.random() for _ in range(seeds))
        mean = sum(accuracies) / seeds
        score = Score(
            reward=mean, accuracy=mean, params=100 + number, mult_adds=2**33, seconds=1.5, accuracies=accuracies
        )
        trials.append(trial.complete(score))
    return trials
