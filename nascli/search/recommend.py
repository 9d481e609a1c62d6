"""Which networks a search hands over: not those that were luckiest, but those that all its results speak for.

The best of many short trainings is partly the luckiest one. A Gaussian process on the features of the networks tells
how much of an accuracy is luck: networks like a good one are good, too, unless it was chance. So networks are sorted by
the accuracy that the process expects of them, whatever strategy proposed them. Where the best were trained again, with
other seeds, those trainings decide.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nascli.genotype.space import SearchSpace
from nascli.search.gaussian_process import Features, GaussianProcess, find_rewards, normal_scores, stack_features
from nascli.search.objective import Objective, weigh_accuracy
from nascli.search.rerank import sort_reranked
from nascli.search.trial import Trial

_FEWEST = 10
"""Trainings below which a process tells no more than they do."""

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
    of luck, and nothing is expected but what it is; nor is anything of fewer than ten trainings.
    """
    told = [
        (trial.score.accuracy, trial)
        for trial in trials
        if trial.scored and not trial.stopped and trial.score is not None and trial.score.accuracy is not None
    ]
    if len(told) < _FEWEST:
        return {}
    told = sorted(told, key=lambda each: (-each[0], each[1].hash))[:_MOST]
    values = expect([space.features(trial.genotype) for _, trial in told], [accuracy for accuracy, _ in told])
    return {trial.id: value for (_, trial), value in zip(told, values, strict=True)}


def expect(features: Sequence[Features], accuracies: Sequence[float]) -> list[float]:
    """The accuracy to expect of another training of each of some networks.

    Args:
        features: Of each network.
        accuracies: Of one training of each, the highest first.
    """
    scores = normal_scores(accuracies)
    expected = GaussianProcess.fit(stack_features(features), scores, "rough").expected
    return [float(value) for value in find_rewards(expected, scores, accuracies)]
