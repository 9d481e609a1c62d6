"""The choice of the network that a child inherits its first weights from."""

from collections.abc import Sequence

from nascli.search.trial import Trial, TrialState


def find_parent(trial: Trial, told: Sequence[Trial]) -> Trial | None:
    """The network most like a trial's: that with the fewest other decisions; of equals the better, then the earlier.

    Args:
        told: The trials whose rewards the strategy was told, so that the choice does not depend on which workers are
            faster. Only those that were trained to the end themselves have weights to give.
    """
    trained = (
        each for each in told if each.state is TrialState.COMPLETE and not each.stopped and each.duplicate_of is None
    )
    return min(trained, key=lambda each: (_count_others(trial, each), *each.sort_key), default=None)


def _count_others(trial: Trial, other: Trial) -> int:
    return sum(one != another for one, another in zip(trial.tokens, other.tokens, strict=True))
