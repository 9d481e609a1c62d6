"""The life of a trial: its trainings, from rung to rung, and its result, which duplicates take over.

Every step is written to the journal before anything follows from it. Nothing here knows the strategy.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from nascli.search.executors.executor import Job, JobOutcome
from nascli.search.halving import Halving
from nascli.search.inheritance import find_parent
from nascli.search.journal import Advanced, Event, Failed, Finished, Journal
from nascli.search.plan import SearchPlan
from nascli.search.trial import Failure, Score, Trial


class Lifecycle:
    """The trials of a search that were proposed and are not finished.

    `waiting` are the next jobs for the executor; `record` appends an event to the journal and reports it.
    """

    def __init__(self, journal: Journal, plan: SearchPlan, record: Callable[[Event], Trial]) -> None:
        self.waiting: deque[Job] = deque()
        self._journal, self._plan, self._record = journal, plan, record
        self._admitted = 0
        self._parents: dict[int, str] = {}
        self._duplicates: defaultdict[int, list[int]] = defaultdict(list)  # first trial -> those waiting for its result
        self._halving = Halving(plan.rungs, plan.promote_fraction, in_order=not plan.asynchronous)

    def admit(self, *trials: Trial, told: Sequence[Trial] = ()) -> None:
        """Have the next trials evaluated, or let them wait for those that they duplicate.

        Their weights are inherited from one of `told`, if there are any.
        """
        self._admitted += len(trials)
        for trial in trials:
            if parent := find_parent(trial, told):
                self._parents[trial.id] = parent.hash
            if trial.duplicate_of is None:
                if not trial.finished and not trial.rungs:
                    self._submit(trial)
                self._promote()
            elif not trial.finished:
                self._duplicates[trial.duplicate_of].append(trial.id)
                self._finish_duplicates(trial.duplicate_of)

    def apply(self, outcome: JobOutcome) -> None:
        """Write the outcome of a job to the journal, and do what follows from it."""
        number, result = outcome.job.trial, outcome.result
        trial = self._journal.trials[number]
        if isinstance(result, Failure):
            self._fail(number, result)
        else:
            if trial.rungs:  # it was measured before the first of its trainings
                result = replace(result, latency=trial.rungs[0].score.latency)
            if self._plan.objective is not None:
                result = self._plan.objective.weigh(result)
            if outcome.job.epochs is not None:
                self._record(Advanced(trial=number, epochs=outcome.job.epochs, **vars(result)))
            else:
                self._finish(trial, result)
        self._finish_duplicates(number)
        self._promote()

    def _submit(self, trial: Trial) -> None:
        """Queue the next training of a trial; promoted trials go first."""
        epochs, parent = self._halving.epochs(trial), self._parents.get(trial.id)
        job = Job(trial.id, trial.genotype, trial.seed, epochs, parent)
        if trial.rungs:
            self.waiting.appendleft(job)
        else:
            self.waiting.append(job)

    def _promote(self) -> None:
        """Queue the trials that pass their rung and finish the others, until no decision is left.

        A trial that finishes here can let later ones be decided, which wait for it in a synchronous search.
        """
        while self._plan.rungs and (decisions := self._halving.decide(self._journal.trials[: self._admitted])):
            for number, passed in decisions:
                trial = self._journal.trials[number]
                if passed:
                    self._submit(trial)
                else:
                    self._finish(trial, trial.rungs[-1].score, stopped=True)
                    self._finish_duplicates(number)

    def _finish(self, trial: Trial, score: Score, *, stopped: bool = False) -> None:
        """Finish a trial; its seconds are those of all its trainings."""
        below = trial.rungs[:-1] if stopped else trial.rungs
        seconds = score.seconds + sum(rung.score.seconds for rung in below)
        self._record(Finished(trial=trial.id, stopped=stopped, **vars(replace(score, seconds=round(seconds, 3)))))

    def _finish_duplicates(self, number: int) -> None:
        """Give the result of a trial, if it has one, to its duplicates."""
        trial = self._journal.trials[number]
        if not trial.finished:
            return
        for duplicate in self._duplicates.pop(number, ()):
            if trial.score is not None:
                score = replace(trial.score, seconds=0.0)
                self._record(Finished(trial=duplicate, stopped=trial.stopped, **vars(score)))
            elif trial.failure is not None:
                self._fail(duplicate, trial.failure)

    def _fail(self, number: int, failure: Failure) -> None:
        self._record(Failed(trial=number, reward=self._plan.failure_reward, **vars(failure)))
