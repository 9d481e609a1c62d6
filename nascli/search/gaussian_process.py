"""A Gaussian process on the features of genotypes: what the results so far say of each of them, and of others.

Rewards become normal scores: the k-th of N, from the worst, is the (k - 1/2) / N quantile of a normal distribution. So
only their order counts, not their distances: cells that learn nothing do not drown the differences between good ones,
and a reward on another scale gives the same model.

The covariance of two genotypes falls with the Euclidean distance d of their features, and every score carries noise.
Length l and noise are those of a small grid under which the scores are most likely; the variance is not chosen but at
its most likely value.

References: Rasmussen and Williams 2006, algorithm 2.1, sections 4.2.1 and 5.4.1.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, cast

import numpy as np
import numpy.typing as npt

Features = Mapping[tuple[str, ...], float]
Floats = npt.NDArray[np.float64]
Shape = Literal["smooth", "rough"]

_COVARIANCES: Mapping[Shape, Callable[[Floats], Floats]] = {
    "smooth": lambda squares: np.exp(-squares / 2),
    "rough": lambda squares: np.exp(-np.sqrt(squares)),
}
"""Covariances from (d / l)^2: `smooth` looks far, `rough` lets neighbors differ by what features do not tell."""

_LENGTHS = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8)
"""Lengths that are tried, in units of the median distance between observations."""

_NOISES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Variances of the noise that are tried, in units of the function's."""

_LEAST = 1e-6
"""The least variance of the function, whose unit is that of the scores."""

_DIGITS = 6
"""Numbers that decide are rounded before they are compared, so that a choice does not depend on the machine."""


@dataclass(frozen=True, eq=False)
class GaussianProcess:
    """A Gaussian process that was told N scores.

    Args:
        length: The most likely one, in units of the median distance.
        noise: The most likely variance of it, as a share of that of the function.
        expected: Scores to expect of the genotypes that were told, (N,).
    """

    length: float
    noise: float
    expected: Floats
    _shape: Shape
    _points: Floats
    _unit: float  # squared length
    _factor: npt.NDArray[Any]  # of the covariance of the noisy scores
    _white: Floats  # the scores, made independent
    _variance: float

    @classmethod
    def fit(cls, features: Floats, scores: Floats, shape: Shape) -> Self:
        """The most likely process of this shape.

        Args:
            features: Of the genotypes whose scores are known, (N, features).
            scores: With mean 0, (N,).
        """
        squares = _square_distances(features, features)
        median = float(np.median(squares[np.triu_indices(len(scores), 1)])) or 1.0
        found = []
        for length in _LENGTHS:
            covariance = _COVARIANCES[shape](squares / (median * length**2))
            spectrum, axes = np.linalg.eigh(covariance)  # noise adds to the spectrum alone
            power = (axes.T @ scores) ** 2
            for noise in _NOISES:
                noisy = np.maximum(spectrum, 0) + noise
                variance = max(float((power / noisy).mean()), _LEAST)
                likelihood = -(len(scores) * math.log(variance) + float(np.log(noisy).sum())) / 2
                found.append((likelihood, length, noise, variance, covariance))
        _, length, noise, variance, covariance = max(found, key=lambda each: each[0])
        factor = np.linalg.cholesky(covariance + noise * np.eye(len(scores)))
        white = np.linalg.solve(factor, scores)
        expected = covariance @ np.linalg.solve(factor.T, white)
        return cls(length, noise, expected, shape, features, median * length**2, factor, white, variance)

    def predict(self, features: Floats) -> tuple[Floats, Floats]:
        """Mean, (M,), and covariance, (M, M), of the scores of M others without their noise."""
        covariance = _COVARIANCES[self._shape]
        towards = np.linalg.solve(self._factor, covariance(_square_distances(self._points, features) / self._unit))
        among = covariance(_square_distances(features, features) / self._unit)
        return towards.T @ self._white, self._variance * (among - towards.T @ towards)

    def choose(self, features: Floats, count: int) -> list[int]:
        """The places of those genotypes that are worth a training, the best first.

        The first is that with the greatest expected improvement over the best that was told, both without noise. Each
        further one is chosen as if those before it had brought what is expected of them, which leaves the mean as it is
        and narrows the doubt about what is like them.

        References:
            Jones, Schonlau, Welch 1998; for several at once Ginsbourger, Le Riche, Carraro 2010 ("kriging believer").
        """
        mean, covariance = self.predict(features)
        best, noise = float(self.expected.max()), self.noise * self._variance
        chosen: list[int] = []
        for _ in range(min(count, len(mean))):
            deviations = np.sqrt(np.maximum(np.diag(covariance), _LEAST**2))
            worth = np.round(log_improvement((mean - best) / deviations) + np.log(deviations), _DIGITS)
            worth[chosen] = -np.inf
            chosen.append(int(worth.argmax()))
            row = covariance[chosen[-1]]
            covariance = covariance - np.outer(row, row) / (row[chosen[-1]] + noise)
        return chosen


def log_improvement(lead: Floats) -> Floats:
    """The logarithm of the expected improvement of a normal variable with deviation 1 over 0, from its mean.

    It is log(phi(u) + u Phi(u)); far below 0 the sum cancels, and the scaled complementary error function takes its
    place.

    References:
        Ament et al. 2023, "Unexpected improvements to expected improvement for Bayesian optimization", section 4.1.
    """
    from scipy.special import erfcx, ndtr  # slow to import

    near = np.maximum(lead, -1.0)
    far = np.minimum(lead, -1.0)
    close = np.log(np.exp(-(near**2) / 2) / math.sqrt(2 * math.pi) + near * ndtr(near))
    share = 1 + far * math.sqrt(math.pi / 2) * erfcx(-far / math.sqrt(2))
    distant = -(far**2) / 2 - math.log(2 * math.pi) / 2 + np.log(np.maximum(share, 1e-16))
    return cast(Floats, np.where(lead > -1.0, close, distant))


def normal_scores(rewards: Sequence[float]) -> Floats:
    """Rewards by their order alone, with mean 0 and deviation 1; equal ones stay equal.

    References:
        Blom 1958, "Statistical estimates and transformed beta-variables", with a = 1/2.
    """
    from scipy.special import ndtri  # slow to import
    from scipy.stats import rankdata

    scores = ndtri((rankdata(rewards) - 0.5) / len(rewards))
    return cast(Floats, (scores - scores.mean()) / (scores.std() or 1.0))


def find_rewards(values: Floats, scores: Floats, rewards: Sequence[float]) -> Floats:
    """The rewards that scores stand for, between those that are known, rounded.

    Args:
        values: Scores.
        scores: Those of the rewards.
        rewards: The highest first.
    """
    return np.round(np.interp(values, scores[::-1], rewards[::-1]), _DIGITS)


def stack_features(features: Sequence[Features]) -> Floats:
    """The features as a matrix: a row per genotype, a column per feature that any of them has, in fixed order."""
    columns = {feature: place for place, feature in enumerate(sorted({name for each in features for name in each}))}
    matrix = np.zeros((len(features), len(columns)))
    for row, each in zip(matrix, features, strict=True):
        for feature, value in each.items():
            row[columns[feature]] = value
    return matrix


def _square_distances(rows: Floats, others: Floats) -> Floats:
    """Squared Euclidean distances of the rows of two matrices."""
    center = rows.mean(0)  # smaller numbers cancel less
    rows, others = rows - center, others - center
    squares = (rows**2).sum(1)[:, None] + (others**2).sum(1) - 2 * rows @ others.T
    return cast(Floats, np.maximum(squares, 0))
