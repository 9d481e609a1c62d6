"""Regularized evolution: the oldest of a population dies, not the worst, so nothing lives on by one lucky training.

1. The first P proposals are random. A later one is a mutant; a caller that asks for more before any of the P was told
   gets random ones until then, and as long as fewer than P were told the parent is drawn from those.
2. The parent is the best of S drawn from the living, with replacement; of equals the one drawn first.
3. A mutant differs from its parent in one token: first a kind of decision is drawn (`SearchSpace.decision_kinds`: an
   input, an op, a combination), of those that leave a choice; then one decision of that kind, then another value.
4. The population holds what was told, in the order of telling, at most P of them: the first told is the first to die.
   A proposal that is never told is never born.

Deviation from Real et al. 2019: combinations mutate too, which AmoebaNet's space has none of; no mutation leaves the
tokens as they are (theirs does in 1 of 20), since a duplicate would be answered from the journal and tell nothing new.
"""

import random
from collections import deque
from collections.abc import Mapping

from nascli.config import EvolutionConfig
from nascli.genotype.space import SearchSpace, draw_tokens
from nascli.search.strategies.strategy import Tokens
from nascli.seeding import derive_seed


class Mutation:
    """One decision of a sequence, changed.

    Args:
        space: Its decisions are changed, each kind of them with equal probability.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._sizes = space.decision_sizes
        places: dict[str, list[int]] = {}  # of decisions that have a choice, by kind, in order of first appearance
        for place, (kind, size) in enumerate(zip(space.decision_kinds, self._sizes, strict=True)):
            if size > 1:
                places.setdefault(kind, []).append(place)
        self._kinds = list(places.values())

    def mutate(self, parent: Tokens, draw: random.Random) -> Tokens:
        """A mutant of a sequence; in a space with one sequence alone the same."""
        if not self._kinds:
            return parent
        place = draw.choice(draw.choice(self._kinds))
        token = draw.randrange(self._sizes[place] - 1)
        token += token >= parent[place]
        return (*parent[:place], token, *parent[place + 1 :])


class Evolution:
    """Proposes mutants of the best of a few, drawn from the latest results.

    References:
        Real et al. 2019, section 3 and algorithm 1.
    """

    def __init__(self, space: SearchSpace, config: EvolutionConfig, seed: int) -> None:
        self.batch_size = config.batch_size
        self._config = config
        self._sizes = space.decision_sizes
        self._mutation = Mutation(space)
        self._draw = random.Random(derive_seed(seed, "evolution"))
        self._asked = 0
        self._living: deque[tuple[float, Tokens]] = deque(maxlen=config.population)

    @property
    def diagnostics(self) -> Mapping[str, float]:
        """After the first result: how many live, the best and the mean of their rewards."""
        if not self._living:
            return {}
        rewards = [reward for reward, _ in self._living]
        return {"population": len(rewards), "best_living": max(rewards), "mean_living": sum(rewards) / len(rewards)}

    def ask(self) -> Tokens:
        """A random sequence at first, then mutants."""
        self._asked += 1
        if self._asked <= self._config.population or not self._living:
            return draw_tokens(self._sizes, self._draw)
        rivals = [self._draw.choice(self._living) for _ in range(self._config.sample)]
        return self._mutation.mutate(max(rivals, key=lambda rival: rival[0])[1], self._draw)

    def tell(self, tokens: Tokens, reward: float) -> None:
        """A birth, and where the population is full a death."""
        self._living.append((reward, tokens))
