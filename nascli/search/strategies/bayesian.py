"""Bayesian optimization: a model of the reward, fitted to all results so far, chooses what is worth a training.

1. The first proposals are random.
2. The model is a Gaussian process on the features of genotypes (`SearchSpace.features`), centered: the covariance of
   two genotypes is exp(-d^2 / 2 l^2), d their Euclidean distance, and every reward carries noise. Length l and noise
   are those of a small grid under which the rewards are most likely; mean and scale are the rewards' own.
3. Candidates are random genotypes and mutants of those that the model was told are best, none of them proposed before.
4. One function is drawn from the model for each proposal, and the candidate where it is highest is proposed (Thompson
   sampling). So what may be good is tried as well as what is good, and a batch of proposals is not all alike.

It pays where a training costs more than the second or so that a batch of proposals takes, and where trainings are few:
it learns from every result at once, and one lucky reward does not mislead it.

A proposal follows from the seed, its number, and what was proposed and told before it: all that is drawn for it comes
from generators of its own. So earlier proposals can be skipped, and a search resumes without fitting old models again.

The numbers that decide are rounded before they are compared, so that a proposal does not depend on the machine.

References: Thompson 1933; Rasmussen and Williams 2006, algorithm 2.1 and section 5.4.1. Features by paths: White,
Neiswanger, Savani 2021 (BANANAS), section 3.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from nascli.config import BayesianConfig
from nascli.genotype.space import SearchSpace, draw_tokens
from nascli.search.strategies.evolution import Mutation
from nascli.search.strategies.strategy import Tokens
from nascli.seeding import derive_seed

Features = Mapping[tuple[str, ...], float]
Observation = tuple[Tokens, float]
Floats = npt.NDArray[np.float64]

_LENGTHS = (0.7, 1.0, 1.4, 2.0)
"""Lengths that are tried, in units of the median distance between observations."""

_NOISES = (0.1, 0.3, 1.0)
"""Variances of the noise that are tried, in units of the function's."""

_JITTER = 1e-6
"""Added to variances of 1, so that rounding makes none of them negative."""

_DIGITS = 6
_FEWEST = 3
"""Observations without which there is nothing to fit."""

_TRIES = 20
"""Draws for each candidate that is wanted; in a space that is nearly exhausted new ones are rare."""

_HASHES = 2**14
"""Canonical hashes that are remembered; a nearly exhausted space gives the same candidates again and again."""


class BayesianSearch:
    """Proposes where a Gaussian process expects, or cannot exclude, the highest reward."""

    def __init__(self, space: SearchSpace, config: BayesianConfig, seed: int) -> None:
        self.batch_size = config.batch_size
        self.diagnostics: Mapping[str, float] = {}
        self._space, self._config, self._seed = space, config, seed
        self._mutation = Mutation(space)
        self._proposed: list[Tokens] = []
        self._seen: set[str] = set()  # canonical hashes of the first `_hashed` proposals
        self._hashed = 0
        self._hash = lru_cache(_HASHES)(lambda tokens: space.decode(tokens).canonical_hash())
        self._results: list[Observation] = []
        self._queue: list[Tokens] = []  # proposals of the model as it is
        self._features: dict[Tokens, Features] = {}  # of the observations that were fitted last

    def ask(self) -> Tokens:
        """A random sequence at first; then what the model chooses, or a random one where it has nothing new."""
        number = len(self._proposed)
        draw = random.Random(derive_seed(self._seed, "surrogate", number))
        if number >= self._config.n_startup_trials and len(self._results) >= _FEWEST and not self._queue:
            self._queue = self._choose(draw, np.random.default_rng(derive_seed(self._seed, "function", number)))
        self._proposed.append(self._queue.pop() if self._queue else self._sample(draw))
        return self._proposed[-1]

    def tell(self, tokens: Tokens, reward: float) -> None:
        """Keep the result; the model is fitted again at the next proposal."""
        self._results.append((tokens, reward))
        self._queue.clear()

    def skip(self, proposals: Sequence[Tokens], diagnostics: Mapping[str, float]) -> None:
        """Become the strategy that has made these proposals."""
        self._proposed += proposals
        self.diagnostics = dict(diagnostics)

    def _sample(self, draw: random.Random) -> Tokens:
        return draw_tokens(self._space.decision_sizes, draw)

    def _choose(self, draw: random.Random, normal: np.random.Generator) -> list[Tokens]:
        """A batch of proposals, the last to be proposed first."""
        told = select_observations(self._results, self._config.max_observations)
        known = [tokens for tokens, _ in told]
        candidates = self._find_candidates(known, draw)
        if not candidates:
            return []
        self._features = {tokens: self._features.get(tokens) or self._extract(tokens) for tokens in known}
        features = stack_features([*(self._features[tokens] for tokens in known), *map(self._extract, candidates)])
        model = fit_posterior(features[: len(told)], np.array([reward for _, reward in told]), features[len(told) :])
        self.diagnostics = {"length": model.length, "noise": model.noise, "best_expected": model.best}
        chosen: list[Tokens] = []
        for _ in range(min(self.batch_size, len(candidates))):
            heights = model.draw(normal)
            heights[[candidates.index(tokens) for tokens in chosen]] = -np.inf
            chosen.insert(0, candidates[int(heights.argmax())])
        return chosen

    def _extract(self, tokens: Tokens) -> Features:
        return self._space.features(self._space.decode(tokens))

    def _find_candidates(self, told: list[Tokens], draw: random.Random) -> list[Tokens]:
        """Cells that were not proposed: one half random, the other mutants of the best tenth, some of them twice."""
        parents = told[: max(5, len(told) // 10)]
        self._seen.update(map(self._hash, self._proposed[self._hashed :]))
        self._hashed = len(self._proposed)
        found: dict[str, Tokens] = {}
        for _ in range(_TRIES * self._config.candidates):
            if len(found) == self._config.candidates:
                break
            if draw.random() < 0.5:
                tokens = self._sample(draw)
            else:
                tokens = self._mutation.mutate(draw.choice(parents), draw)
                if draw.random() < 0.3:
                    tokens = self._mutation.mutate(tokens, draw)
            canonical_hash = self._hash(tokens)
            if canonical_hash not in self._seen:
                found.setdefault(canonical_hash, tokens)
        return list(found.values())


@dataclass(frozen=True, eq=False)
class Posterior:
    """The rewards of M candidates under a Gaussian process that was told others.

    Args:
        mean: Expected rewards, (M,).
        factor: Its product with its transpose is their covariance, (M, M).
        length: The most likely one, in units of the median distance.
        noise: The most likely one, as a share of the variance of the function.
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


def select_observations(results: Sequence[Observation], most: int) -> list[Observation]:
    """The results to fit, best first: all, or of more than `most` the best half and the latest."""
    ranked = sorted(results, key=lambda result: -result[1])
    if len(ranked) <= most:
        return ranked
    best = ranked[: most // 2]
    return best + [result for result in results[-(most - len(best)) :] if result not in best]


def stack_features(features: Sequence[Features]) -> Floats:
    """The features as a matrix: a row per genotype, a column per feature that any of them has, in fixed order."""
    columns = {feature: place for place, feature in enumerate(sorted({name for each in features for name in each}))}
    matrix = np.zeros((len(features), len(columns)))
    for row, each in zip(matrix, features, strict=True):
        for feature, value in each.items():
            row[columns[feature]] = value
    return matrix


def fit_posterior(told: Floats, rewards: Floats, candidates: Floats) -> Posterior:
    """The posterior at the candidates, with the length and the noise under which the rewards are most likely.

    A Gaussian process with a squared-exponential covariance. Its prior mean is the mean of the rewards; its prior
    variance is not chosen but at its most likely value, given length and noise (Rasmussen and Williams 2006, 5.4.1).

    Args:
        told: Features of the genotypes whose rewards are known, (N, features).
        rewards: (N,).
        candidates: Features of the others, (M, features).
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
        (_log_likelihood(_kernel(distances[:count, :count], unit * length**2), values, noise), length, noise)
        for length, noise in choices
    )
    mean, covariance = _condition(_kernel(distances, unit * length**2), values, noise)
    factor = _cholesky(covariance + _JITTER * np.eye(len(candidates)))
    return Posterior(rewards.mean() + scale * mean, scale * factor, length, noise)


def _kernel(distances: Floats, length: float) -> Floats:
    """Covariances from squared distances and the squared length."""
    return np.exp(-distances / (2 * length))


def _cholesky(covariance: Floats) -> Floats:
    return np.linalg.cholesky(covariance).astype(np.float64, copy=False)


def _log_likelihood(kernel: Floats, values: Floats, noise: float) -> float:
    """The logarithm of the density of N values, but for a constant, at the variance that makes it greatest."""
    factor = _cholesky(kernel + noise * np.eye(len(values)))
    variance = _variance(factor, values)
    return -len(values) / 2 * math.log(variance) - float(np.log(np.diag(factor)).sum())


def _variance(factor: Floats, values: Floats) -> float:
    """The function's variance: the mean square of the values after they were made independent."""
    return max(float((np.linalg.solve(factor, values) ** 2).mean()), _JITTER)


def _condition(kernel: Floats, values: Floats, noise: float) -> tuple[Floats, Floats]:
    """Mean and covariance at the last M points of the kernel, given N noisy values at the first."""
    count = len(values)
    factor = _cholesky(kernel[:count, :count] + noise * np.eye(count))
    whitened = np.linalg.solve(factor, kernel[:count, count:])  # (N, M)
    mean = whitened.T @ np.linalg.solve(factor, values)
    return mean, _variance(factor, values) * (kernel[count:, count:] - whitened.T @ whitened)
