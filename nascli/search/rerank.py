"""Ranking the best cells again, by longer trainings with several seeds.

A short training ranks cells roughly, and the best of many is partly the luckiest: so the paper trains its 250 best to
convergence and chooses among those (section 4 and appendix A.1).
"""

import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from nascli.errors import Interrupted, NascliError
from nascli.search.executors.executor import Executor, Job, JobOutcome
from nascli.search.journal import Journal, Reranked
from nascli.search.objective import Objective, weigh_accuracy
from nascli.search.plan import POLL, Observer
from nascli.search.trial import Failure, FailureKind, Trial
from nascli.seeding import derive_seed
from nascli.signals import StopRequest


@dataclass(frozen=True)
class RerankPlan:
    """The trainings that rank the best: `trials` are ids, best first; `num_seeds` are trainings per trial."""

    trials: Sequence[int]
    epochs: int
    num_seeds: int
    seed: int


def rerank(executor: Executor, journal: Journal, plan: RerankPlan, observer: Observer, stop: StopRequest) -> None:
    """Do the trainings of the plan that the journal does not hold yet.

    Every trial is trained with its first seed before any with its second. A training that diverges, or whose genotype
    violates a constraint that is measured anew, counts as accuracy 0.

    Raises:
        Interrupted: `stop` was requested; unfinished trainings are dropped.
        NascliError: A training failed for another reason, or the journal cannot be written.
    """
    waiting = deque(
        _make_job(journal.trials[number], index, plan)
        for index in range(plan.num_seeds)
        for number in plan.trials
        if index >= len(journal.trials[number].reranks)
    )
    orders = deque(waiting)  # the journal holds them in this order, whatever order they come back in
    done: dict[Job, JobOutcome] = {}
    while orders:
        if stop.requested:
            raise Interrupted(f"the ranking of the best cells stopped with {len(orders)} trainings to do")
        while waiting and executor.free:
            executor.submit(waiting.popleft())
        done |= {outcome.job: outcome for outcome in executor.collect(POLL)}
        while orders and orders[0] in done:
            event = _make_event(done.pop(orders.popleft()), journal, plan)
            observer.on_trial(journal.append(event))


def sort_reranked(trials: Sequence[Trial], objective: Objective | None = None) -> list[Trial]:
    """The trials that were trained again, the best first by the mean accuracy there; of equals the earlier first.

    An objective weighs that accuracy by the trial's cost.
    """

    def worth(trial: Trial) -> float:
        return weigh_accuracy(trial, statistics.fmean(rerank.accuracy for rerank in trial.reranks), objective)

    return sorted((trial for trial in trials if trial.reranks), key=lambda trial: (-worth(trial), trial.id))


def _make_job(trial: Trial, index: int, plan: RerankPlan) -> Job:
    return Job(trial.id, trial.genotype, derive_seed(plan.seed, "rerank", trial.id, index), plan.epochs)


def _make_event(outcome: JobOutcome, journal: Journal, plan: RerankPlan) -> Reranked:
    result, number = outcome.result, outcome.job.trial
    accuracy, seconds = 0.0, 0.0
    if not isinstance(result, Failure):
        accuracy, seconds = result.accuracy or 0.0, result.seconds
    elif result.kind not in (FailureKind.DIVERGED, FailureKind.REJECTED):
        raise NascliError(
            f"trial {number} could not be trained again ({result.kind}): {result.error}",
            "All trials are safe; --resume continues with the ranking",
        )
    index = len(journal.trials[number].reranks)
    return Reranked(trial=number, index=index, epochs=plan.epochs, accuracy=accuracy, seconds=seconds)
