"""NSGA-II: evolution towards the whole front of accuracy and cost, with no weight between the two.

1. Until N results are told (the population), proposals are random.
2. A child has two parents. Each is the better of two that are drawn from the living, with replacement: the one of the
   lower rank; of equal ranks the one of the larger crowding distance; of equals the one drawn first.
3. With probability `crossover` the child takes each token from either parent, else all of the first one. Then one
   decision of it is changed, as in regularized evolution (`Mutation`): first a kind of decision is drawn.
4. After each batch the best N of the living and the newly born live on, by rank, then by crowding distance. Rank 0 are
   those that no other dominates, rank 1 those that none but rank 0 dominates, and so on. The crowding distance of one
   is how far its neighbors in its rank lie apart, in shares of the rank's range, summed over accuracy and cost;
   infinite for the first and the last, so that the ends of the front live.
5. What failed or has no cost is never born, but counts as told.

A caller that tells rewards alone (`tell`) has one objective: every cost is the same.

References:
    Deb, Pratap, Agarwal, Meyarivan 2002, "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II"; its
    experiments have N = 100, as many children per generation, and crossover 0.9.

Deviation: exactly one decision mutates (there each does with probability 1 / their number), and real numbers are
crossed there by simulated binary crossover, which tokens have no order for. A network that was proposed before, in
canonical form, is drawn again a few times, since its answer would tell nothing new.
"""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from nascli.config import Nsga2Config
from nascli.genotype.space import SearchSpace, draw_tokens
from nascli.search.front import Point, find_front
from nascli.search.strategies.evolution import Mutation
from nascli.search.strategies.strategy import Tokens
from nascli.seeding import derive_seed

_TRIES = 20
"""Draws for each proposal; in a space that is nearly exhausted new ones are rare."""


class _Individual(NamedTuple):
    """One that lives: rank and crowding distance are those among all of which the living were chosen."""

    tokens: Tokens
    point: Point
    rank: int = 0
    crowding: float = 0.0

    @property
    def sort_key(self) -> tuple[int, float]:
        """Sorts the better one first."""
        return self.rank, -self.crowding


class Nsga2:
    """Proposes children of those that are best in accuracy and cost together."""

    def __init__(self, space: SearchSpace, config: Nsga2Config, seed: int) -> None:
        self.batch_size = config.batch_size
        self.diagnostics: Mapping[str, float] = {}
        self._space, self._config = space, config
        self._mutation = Mutation(space)
        self._draw = random.Random(derive_seed(seed, "nsga2"))
        self._seen: set[str] = set()  # canonical hashes of all proposals
        self._told = 0
        self._living: list[_Individual] = []
        self._born: list[_Individual] = []  # since the living were chosen

    def ask(self) -> Tokens:
        """A random sequence at first, then a child; one that is new, as far as a few draws find one."""
        for _ in range(_TRIES):
            tokens = self._breed() if self._living else draw_tokens(self._space.decision_sizes, self._draw)
            found = self._space.decode(tokens).canonical_hash()
            if found not in self._seen:
                break
        self._seen.add(found)
        return tokens

    def tell(self, tokens: Tokens, reward: float) -> None:
        """A birth, all costs being the same."""
        self.tell_point(tokens, Point(reward, 0.0))

    def tell_point(self, tokens: Tokens, point: Point | None) -> None:
        """A birth, if there is a result; after the last of a batch the choice of those who live on."""
        self._told += 1
        if point is not None:
            self._born.append(_Individual(tokens, point))
        if self._told >= self._config.population and self._told % self.batch_size == 0:
            self._select()

    def _select(self) -> None:
        together = [*self._living, *self._born]
        ranked: list[_Individual] = []
        for rank, places in enumerate(sort_by_rank([each.point for each in together])):
            distances = crowding_distances([together[place].point for place in places])
            ranked += [
                together[place]._replace(rank=rank, crowding=distance)
                for place, distance in zip(places, distances, strict=True)
            ]
        self._living = sorted(ranked, key=lambda each: each.sort_key)[: self._config.population]
        self._born = []
        first = [each.point for each in self._living if each.rank == 0]
        if first:
            accuracies, costs = zip(*first, strict=True)
            self.diagnostics = {"front": len(first), "best_accuracy": max(accuracies), "least_cost": min(costs)}

    def _breed(self) -> Tokens:
        one, other = self._find_parent(), self._find_parent()
        child = one
        if self._draw.random() < self._config.crossover:
            child = tuple(self._draw.choice(pair) for pair in zip(one, other, strict=True))
        return self._mutation.mutate(child, self._draw)

    def _find_parent(self) -> Tokens:
        rivals = [self._draw.choice(self._living) for _ in range(2)]
        return min(rivals, key=lambda rival: rival.sort_key).tokens


def sort_by_rank(points: Sequence[Point]) -> Iterator[list[int]]:
    """The places of the points of each rank, cheapest first: those that none dominates but points of earlier ranks."""
    left = list(range(len(points)))
    while left:
        front = [left[place] for place in find_front([points[each] for each in left])]
        yield front
        left = sorted({*left} - {*front})


def crowding_distances(front: Sequence[Point]) -> list[float]:
    """The distance of each point's neighbors, for points that do not dominate each other, cheapest first.

    In two dimensions that order is the order by accuracy, too, so that the neighbors are the same in both.
    """
    spans = [abs(front[-1][axis] - front[0][axis]) or math.inf for axis in range(2)]
    inner = [
        sum(abs(after[axis] - before[axis]) / spans[axis] for axis in range(2))
        for before, after in zip(front, front[2:], strict=False)
    ]
    return [math.inf, *inner, math.inf][: len(front)]
