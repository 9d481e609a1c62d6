"""Bayesian optimization: a model of the reward, fitted to all results so far, chooses what is worth a training.

1. The first proposals are random.
2. The model is a Gaussian process on the features of genotypes (`SearchSpace.features`), which is told the order of the
   rewards alone (`nascli.search.gaussian_process`). Of a training that was stopped, how far it came is one more.
3. Candidates are mutants of the best that the model was told, some of them mutated more than once, and a few random
   genotypes; none of them was proposed before.
4. The candidates with the greatest expected improvement are proposed, a batch at a time.

It pays where a training costs more than the second or so that a batch of proposals takes, and where trainings are few:
it learns from every result at once, and one lucky reward does not mislead it.

A proposal follows from the seed, its number, and what was proposed and told before it: all that is drawn for it comes
from generators of its own. So earlier proposals can be skipped, and a search resumes without fitting old models again.

References: White, Neiswanger, Savani 2021 (BANANAS), section 3: features by paths, mutants as candidates. The order in
place of the rewards: Salinas, Shen, Perrone 2020, section 4.
"""

import math
import random
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from nascli.config import BayesianConfig
from nascli.genotype.space import SearchSpace, draw_tokens
from nascli.search.gaussian_process import Features, GaussianProcess, find_rewards, normal_scores, stack_features
from nascli.search.strategies.evolution import Mutation
from nascli.search.strategies.strategy import Tokens
from nascli.seeding import derive_seed


class Observation(NamedTuple):
    """The reward of a proposal, and the share of a full training's epochs that it comes from."""

    tokens: Tokens
    reward: float
    share: float = 1.0


_FEWEST = 3
"""Observations without which there is nothing to fit."""

_RANDOM, _AGAIN = 0.15, 0.3
"""Share of the candidates that are random; probability that a mutant is mutated once more, and again."""

_TRIES = 20
"""Draws for each candidate that is wanted; in a space that is nearly exhausted new ones are rare."""

_TRAINED = ("trained",)
"""The feature of a training that was stopped."""

_REMEMBERED = 2**14
"""Candidates whose hashes and features are remembered: mutants of the best are the same again and again."""


class BayesianSearch:
    """Proposes where a Gaussian process expects the greatest improvement."""

    def __init__(self, space: SearchSpace, config: BayesianConfig, seed: int) -> None:
        self.batch_size = config.batch_size
        self.diagnostics: Mapping[str, float] = {}
        self._space, self._config, self._seed = space, config, seed
        self._mutation = Mutation(space)
        self._proposed: list[Tokens] = []
        self._seen: set[str] = set()  # canonical hashes of the first `_hashed` proposals
        self._hashed = 0
        self._hash = lru_cache(_REMEMBERED)(lambda tokens: space.decode(tokens).canonical_hash())
        self._extract = lru_cache(_REMEMBERED)(lambda tokens: space.features(space.decode(tokens)))
        self._results: list[Observation] = []
        self._queue: list[Tokens] = []  # proposals of the model as it is

    def ask(self) -> Tokens:
        """A random sequence at first; then what the model chooses, or a random one where it has nothing new."""
        number = len(self._proposed)
        draw = random.Random(derive_seed(self._seed, "surrogate", number))
        if number >= self._config.n_startup_trials and len(self._results) >= _FEWEST and not self._queue:
            self._queue = self._choose(draw)
        self._proposed.append(self._queue.pop() if self._queue else self._sample(draw))
        return self._proposed[-1]

    def tell(self, tokens: Tokens, reward: float) -> None:
        """Keep the result; the model is fitted again at the next proposal."""
        self._results.append(Observation(tokens, reward))
        self._queue.clear()

    def tell_stopped(self, tokens: Tokens, reward: float, share: float) -> None:
        """The same of a training that was stopped: the model learns what its epochs are worth."""
        self._results.append(Observation(tokens, reward, share))
        self._queue.clear()

    def skip(self, proposals: Sequence[Tokens], diagnostics: Mapping[str, float]) -> None:
        """Become the strategy that has made these proposals."""
        self._proposed += proposals
        self.diagnostics = dict(diagnostics)

    def _sample(self, draw: random.Random) -> Tokens:
        return draw_tokens(self._space.decision_sizes, draw)

    def _choose(self, draw: random.Random) -> list[Tokens]:
        """A batch of proposals, the last to be proposed first."""
        told = select_observations(self._results, self._config.max_observations)
        candidates = self._find_candidates([each.tokens for each in told], draw)
        if not candidates:
            return []
        features = stack_features([*map(self._describe, told), *map(self._extract, candidates)])
        rewards = [each.reward for each in told]
        scores = normal_scores(rewards)
        model = GaussianProcess.fit(features[: len(told)], scores, "smooth")
        best = find_rewards(model.expected, scores, rewards).max()
        self.diagnostics = {"length": model.length, "noise": model.noise, "best_expected": float(best)}
        return [candidates[place] for place in reversed(model.choose(features[len(told) :], self.batch_size))]

    def _describe(self, told: Observation) -> Features:
        """The features of a genotype, and how far it was trained: 0 in full, as candidates will be, less if stopped."""
        features = self._extract(told.tokens)
        return features if told.share == 1 else {**features, _TRAINED: math.log(told.share)}

    def _find_candidates(self, told: list[Tokens], draw: random.Random) -> list[Tokens]:
        """Genotypes that were not proposed: mutants of the best tenth, and random ones."""
        parents = told[: max(5, len(told) // 10)]
        self._seen.update(map(self._hash, self._proposed[self._hashed :]))
        self._hashed = len(self._proposed)
        found: dict[str, Tokens] = {}
        for _ in range(_TRIES * self._config.candidates):
            if len(found) == self._config.candidates:
                break
            if draw.random() < _RANDOM:
                tokens = self._sample(draw)
            else:
                tokens = self._mutation.mutate(draw.choice(parents), draw)
                while draw.random() < _AGAIN:
                    tokens = self._mutation.mutate(tokens, draw)
            canonical_hash = self._hash(tokens)
            if canonical_hash not in self._seen:
                found.setdefault(canonical_hash, tokens)
        return list(found.values())


def select_observations(results: Sequence[Observation], most: int) -> list[Observation]:
    """The results to fit, best first: all, or of more than `most` the best half and the latest."""
    ranked = sorted(results, key=lambda result: -result.reward)
    if len(ranked) <= most:
        return ranked
    best = ranked[: most // 2]
    return best + [result for result in results[-(most - len(best)) :] if result not in best]
