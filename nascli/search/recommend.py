"""The networks that a search hands over: not those that were luckiest, but those that all its results speak for.

The best of many short trainings is partly the luckiest one. A Gaussian process on the features of the networks tells
how much of an accuracy is luck: networks like a good one are good, too, unless it was chance; and where networks were
trained several times, their trainings differ by chance alone. So networks are sorted by the accuracy that the process
expects of them, whatever strategy proposed them. Where the best were trained again after the search, those trainings
decide.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from nascli.genotype.space import SearchSpace
from nascli.search.gaussian_process import Features, GaussianProcess, find_rewards, normal_scores, stack_features
from nascli.search.objective import Objective, weigh_accuracy
from nascli.search.rerank import sort_reranked
from nascli.search.trial import Trial

_FEWEST = 10
"""Networks below which a process tells no more than their rewards do."""

_MOST = 400
"""Trainings that the process is fitted to, the best ones; the time is cubic in it."""


@dataclass(frozen=True)
class Recommendation:
    """The scored networks of a search.

    Args:
        trials: Best first, no network twice.
        expected: The accuracy to expect of another training, by trial; empty where rewards stand for themselves.
    """

    trials: Sequence[Trial]
    expected: Mapping[int, float]


def recommend(trials: Sequence[Trial], space: SearchSpace, objective: Objective | None = None) -> Recommendation:
    """All scored networks, best first.

    Those that were trained again come first, by their mean accuracy there; then the others by `sort_expected`.
    """
    expected = expect_accuracies(trials, space)
    first = sort_reranked(trials, objective)
    chosen = {trial.id for trial in first}
    rest = [trial for trial in sort_expected(trials, expected, objective) if trial.id not in chosen]
    return Recommendation([*first, *rest], expected)


def sort_expected(
    trials: Sequence[Trial], expected: Mapping[int, float], objective: Objective | None = None
) -> list[Trial]:
    """The scored trials by their expected accuracy, which an objective weighs by the cost; best first.

    Those that nothing is expected of, as they were stopped on a rung or are far from the best, are behind all others.
    Equals are sorted by their reward and then by their hash, so that the order of the trials does not matter; without
    expectations by reward, of equals the earlier first.
    """
    scored = [trial for trial in trials if trial.scored]
    if not expected:
        return sorted(scored, key=lambda trial: trial.sort_key)

    def key(trial: Trial) -> tuple[bool, bool, float, float, str]:
        known = trial.id in expected
        worth = weigh_accuracy(trial, expected[trial.id], objective) if known else 0.0
        return trial.stopped, not known, -worth, -(trial.reward or 0.0), trial.hash

    return sorted(scored, key=key)


def expect_accuracies(trials: Sequence[Trial], space: SearchSpace) -> dict[int, float]:
    """The accuracy to expect of another training of each network, by trial.

    Those stopped on a rung have none, and of very many the worse ones. Where nothing was trained a score is no matter
    of luck, and nothing is expected but what it is; nor is anything of fewer than ten networks.
    """
    told = [
        (trial.score.accuracies or (trial.score.accuracy,), trial)
        for trial in trials
        if trial.scored and not trial.stopped and trial.score is not None and trial.score.accuracy is not None
    ]
    if len(told) < _FEWEST:
        return {}
    told.sort(key=lambda each: (-fmean(each[0]), each[1].hash))
    told = told[: _MOST // max(len(accuracies) for accuracies, _ in told)]
    values = expect([space.features(trial.genotype) for _, trial in told], [accuracies for accuracies, _ in told])
    return {trial.id: value for (_, trial), value in zip(told, values, strict=True)}


def expect(features: Sequence[Features], accuracies: Sequence[Sequence[float]]) -> list[float]:
    """The accuracy to expect of another training of each of some networks.

    Each training is told as a result of its own: where networks were trained more than once, the process learns from
    how these differ how much of an accuracy is luck.

    Args:
        features: Of each network.
        accuracies: Of the trainings of each network, one at least.
    """
    trainings = [(accuracy, place) for place, own in enumerate(accuracies) for accuracy in own]
    trainings.sort(key=lambda training: (-training[0], training[1]))
    told, places = [accuracy for accuracy, _ in trainings], [place for _, place in trainings]
    scores = normal_scores(told)
    process = GaussianProcess.fit(stack_features(features)[places], scores, "rough")
    expected = dict(zip(places, find_rewards(process.expected, scores, told).tolist(), strict=True))
    return [expected[place] for place in range(len(features))]
