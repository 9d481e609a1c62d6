"""A model of the reward, fitted to all results so far, chooses what is worth a training: Bayesian optimization.

1. The first proposals are random.
2. The model is a Gaussian process on the traits of cells (`traits.py`), counted and centred: the covariance of two
   cells is exp(-d^2 / 2 l^2), d their Euclidean distance, and every reward carries noise. Length l and noise are those
   of a few, under which the rewards are most likely; mean and scale are the rewards' own.
3. Candidates are random cells and mutants of the cells that the model thinks best, none of which was proposed before.
4. One function is drawn from the model for each proposal, and the candidate where it is highest is proposed (Thompson
   sampling). So what may be good is tried as well as what is good, and a batch of proposals is not all alike.

It pays where a training costs more than the second or so that a batch of proposals takes, and where trainings are few:
it learns from every result at once, and one lucky reward does not mislead it.

The numbers that decide are rounded before they are compared, so that a proposal does not depend on the machine.

References: Thompson 1933; Rasmussen and Williams 2006, algorithm 2.1 and section 5.4.1. Features by paths: White,
Neiswanger, Savani 2021 (BANANAS), section 3.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nascli.config import BayesianConfig
from nascli.genotype.space import SearchSpace
from nascli.search.strategies.evolution import Mutation
from nascli.search.strategies.path_encoding import Features, Floats, tabulated
from nascli.search.strategies.strategy import Tokens
from nascli.seeding import derive_seed

_LENGTHS = (0.7, 1.0, 1.4, 2.0)
"""Lengths that are tried, times the median distance of the cells that were told."""

_NOISES = (0.1, 0.3, 1.0)
"""Variances of the noise that are tried, times that of the function."""

_JITTER = 1e-6
"""Added to variances of 1, so that rounding makes none of them negative."""

_DIGITS = 6
_FEWEST = 3
"""Results without which there is nothing to fit."""

_DRAWS = 20
"""BatchRng for each candidate that is wanted; in a space that is nearly exhausted new ones are rare."""


class BayesianSearch:
    """Proposes where a Gaussian process expects, or cannot exclude, the highest reward.

    Args:
        space: What may be proposed.
        config: How many random ones first, candidates, results to fit, proposals a batch.
        seed: The run's seed.
    """

    def __init__(self, space: SearchSpace, config: BayesianConfig, seed: int) -> None:
        self.batch_size = config.batch_size
        self._space, self._config = space, config
        self._mutation = Mutation(space)
        self._draw = random.Random(derive_seed(seed, "surrogate"))
        self._normal = np.random.default_rng(derive_seed(seed, "surrogate", "function"))
        self._asked = 0
        self._seen: set[str] = set()  # canonical hashes of what was proposed
        self._results: list[tuple[Tokens, float]] = []
        self._queue: list[Tokens] = []  # proposals of the model as it is
        self._known: dict[Tokens, tuple[str, Features]] = {}
        self.diagnostics: Mapping[str, float] = {}

    def ask(self) -> Tokens:
        """A random sequence at first; then what the model chooses, or a random one where it has nothing new."""
        self._asked += 1
        if self._asked > self._config.n_startup_trials and len(self._results) >= _FEWEST and not self._queue:
            self._queue = self._choose()
        tokens = self._queue.pop() if self._queue else self._random()
        self._seen.add(self._look_up(tokens)[0])
        return tokens

    def tell(self, tokens: Tokens, reward: float) -> None:
        """Keep the result; the model is fitted again at the next proposal."""
        self._results.append((tokens, reward))
        self._queue.clear()

    def _random(self) -> Tokens:
        return tuple(self._draw.randrange(size) for size in self._space.decision_sizes)

    def _look_up(self, tokens: Tokens) -> tuple[str, Features]:
        """Canonical hash and traits."""
        if tokens not in self._known:
            genotype = self._space.decode(tokens)
            self._known[tokens] = genotype.canonical_hash(), self._space.features(genotype)
        return self._known[tokens]

    def _choose(self) -> list[Tokens]:
        """A batch of proposals, the last to be proposed first."""
        told = self._fitted()
        known = [tokens for tokens, _ in told]
        candidates = self._candidates(known)
        if not candidates:
            return []
        counts = tabulated([self._look_up(tokens)[1] for tokens in [*known, *candidates]])
        model = fit(counts[: len(told)], np.array([reward for _, reward in told]), counts[len(told) :])
        self.diagnostics = {"length": model.length, "noise": model.noise, "best_expected": model.best}
        chosen: list[Tokens] = []
        for _ in range(min(self.batch_size, len(candidates))):
            heights = model.draw(self._normal)
            heights[[candidates.index(tokens) for tokens in chosen]] = -np.inf
            chosen.insert(0, candidates[int(heights.argmax())])
        return chosen

    def _fitted(self) -> list[tuple[Tokens, float]]:
        """The results that the model sees, best first: all, or of too many the best half and the latest."""
        most = self._config.max_observations
        ranked = sorted(self._results, key=lambda result: -result[1])
        if len(ranked) <= most:
            return ranked
        best = ranked[: most // 2]
        return best + [result for result in self._results[-(most - len(best)) :] if result not in best]

    def _candidates(self, told: list[Tokens]) -> list[Tokens]:
        """Cells that were not proposed: one half random, the other mutants of the best tenth, some of them twice."""
        parents = told[: max(5, len(told) // 10)]
        found: dict[str, Tokens] = {}
        for _ in range(_DRAWS * self._config.candidates):
            if len(found) == self._config.candidates:
                break
            if self._draw.random() < 0.5:
                tokens = self._random()
            else:
                tokens = self._mutation.of(self._draw.choice(parents), self._draw)
                if self._draw.random() < 0.3:
                    tokens = self._mutation.of(tokens, self._draw)
            form = self._look_up(tokens)[0]
            if form not in self._seen:
                found.setdefault(form, tokens)
        return list(found.values())


@dataclass(frozen=True, eq=False)
class Posterior:
    """What a Gaussian process expects of M candidates.

    Args:
        mean: Expected rewards, (M,).
        factor: Its product with its transpose is their covariance, (M, M).
        length: That was most likely, in units of the median distance.
        noise: That was most likely, as a part of the variance of the function.
    """

    mean: Floats
    factor: Floats
    length: float
    noise: float

    @property
    def best(self) -> float:
        """The highest expected reward."""
        return float(self.mean.max())

    def draw(self, generator: np.random.Generator) -> Floats:
        """The rewards of the candidates under one function out of all that agree with what was told, rounded."""
        return np.round(self.mean + self.factor @ generator.standard_normal(len(self.mean)), _DIGITS)


def fit(told: Floats, rewards: Floats, candidates: Floats) -> Posterior:
    """The posterior at the candidates, with the length and the noise under which the rewards are most likely.

    Args:
        told: Features of the cells whose rewards are known, (N, traits).
        rewards: (N,).
        candidates: Features of the others, (M, traits).
    """
    count = len(told)
    points = np.vstack([told, candidates]) - told.mean(0)
    squares = (points**2).sum(1)
    distances = np.maximum(squares[:, None] + squares - 2 * points @ points.T, 0)
    unit = float(np.median(distances[:count, :count][np.triu_indices(count, 1)])) or 1.0
    scale = float(rewards.std()) or 1.0
    values = (rewards - rewards.mean()) / scale
    choices = [(length, noise) for length in _LENGTHS for noise in _NOISES]
    _, length, noise = max(
        (_likelihood(_kernel(distances[:count, :count], unit * length**2), values, noise), length, noise)
        for length, noise in choices
    )
    mean, covariance = _conditioned(_kernel(distances, unit * length**2), values, noise)
    factor = _factor(covariance + _JITTER * np.eye(len(candidates)))
    return Posterior(rewards.mean() + scale * mean, scale * factor, length, noise)


def _kernel(distances: Floats, length: float) -> Floats:
    """Covariances from squared distances and the squared length."""
    return np.exp(-distances / (2 * length))


def _factor(covariance: Floats) -> Floats:
    """Cholesky's: lower triangular, its product with its transpose is the covariance."""
    return np.linalg.cholesky(covariance).astype(np.float64, copy=False)


def _likelihood(kernel: Floats, values: Floats, noise: float) -> float:
    """The logarithm of the density of N values, but for a constant, at the variance that makes it greatest."""
    factor = _factor(kernel + noise * np.eye(len(values)))
    variance = _variance(factor, values)
    return -len(values) / 2 * math.log(variance) - float(np.log(np.diag(factor)).sum())


def _variance(factor: Floats, values: Floats) -> float:
    """Of the function: the mean square of the values after they were made independent."""
    return max(float((np.linalg.solve(factor, values) ** 2).mean()), _JITTER)


def _conditioned(kernel: Floats, values: Floats, noise: float) -> tuple[Floats, Floats]:
    """Mean and covariance at the last M points of the kernel, given N noisy values at the first."""
    count = len(values)
    factor = _factor(kernel[:count, :count] + noise * np.eye(count))
    whitened = np.linalg.solve(factor, kernel[:count, count:])  # (N, M)
    mean = whitened.T @ np.linalg.solve(factor, values)
    return mean, _variance(factor, values) * (kernel[count:, count:] - whitened.T @ whitened)
