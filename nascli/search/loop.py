"""The search loop: joins strategy, executor and journal, and owns nothing of what they do.

Order is what makes a search repeatable. The strategy is asked in the order of the trials and told in the order of the
trials, a whole batch at a time; results may come in any order. So proposals depend neither on the number of workers nor
on their speed. And resuming is no case of its own: the loop asks the strategy from the first trial on, and where the
journal has the answer already, it is taken from there. A snapshot of the strategy spares asking and telling what lies
before it.

An asynchronous search tells each result when it comes and asks when a worker is free. Its order is that of the journal,
so it can be resumed too, but not repeated.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from nascli.errors import CorruptFileError, Interrupted, NascliError
from nascli.genotype.space import SearchSpace
from nascli.search.executors.executor import Executor, Job, Outcome
from nascli.search.halving import Halving
from nascli.search.journal import Advanced, Event, Failed, Finished, Journal, proposed
from nascli.search.snapshot import Snapshot, SnapshotFile, Stateful, UpdateRecord
from nascli.search.strategies.strategy import Strategy
from nascli.search.trial import Failure, FailureKind, Score, Trial, TrialState
from nascli.seeding import derive_seed
from nascli.signals import StopRequest

POLL = 0.2
"""Seconds between two looks at the stop request."""

_WATCHED = 50
_TOLERATED = 10
"""More failures than these among the last so many evaluations are a fault of the set-up, not of the cells: 20 %."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a search is to do.

    Args:
        space: What the strategy's tokens count in.
        trials: Proposals in all, repeats included; at least as many as the journal holds.
        seed: The run's seed; that of trial i follows from it and i.
        failure_reward: Told to the strategy for a trial that failed or was rejected.
        name: Begins the names of the genotypes.
        asynchronous: Tell each result when it comes.
        patience: Duplicates in a row after which the search ends; 0 is off.
        rungs: Epochs of the short trainings before the full one, rising.
        keep: Part of the children of a rung that is trained on.
    """

    space: SearchSpace
    trials: int
    seed: int
    failure_reward: float
    name: str = "search"
    asynchronous: bool = False
    patience: int = 0
    rungs: tuple[int, ...] = ()
    keep: float = 1 / 3


class Observer(Protocol):
    """Who watches a search: a live view, a log."""

    def on_start(self, trials: Sequence[Trial]) -> None:
        """What the journal holds, before anything else."""
        ...

    def on_trial(self, trial: Trial) -> None:
        """A trial was proposed, went on or finished, and the journal has it."""
        ...

    def on_update(self, told: int, diagnostics: Mapping[str, float]) -> None:
        """The strategy was told rewards (replayed ones too): trials told in all, and how the learning goes."""
        ...

    def on_message(self, text: str) -> None:
        """Something that a person should know."""
        ...


class SearchLoop:
    """One search, from wherever its journal stands.

    Args:
        strategy: New; it is asked and told again what the journal holds.
        executor: Runs the evaluations; not closed here.
        journal: Where every event goes before anyone acts on it.
        plan: What is to be done.
        observer: Told of all that happens.
        snapshots: Where the strategy's state is kept now and then, if it can be.
    """

    def __init__(
        self,
        strategy: Strategy,
        executor: Executor,
        journal: Journal,
        plan: Plan,
        observer: Observer,
        snapshots: SnapshotFile | None = None,
    ) -> None:
        self._strategy, self._executor, self._journal = strategy, executor, journal
        self._plan, self._observer, self._snapshots = plan, observer, snapshots
        self._asked_before = self._told_before = 0  # proposals and rewards that a snapshot holds already
        self._learnt: list[UpdateRecord] = []
        self._asked = self._told = self._stale = 0
        self._ended = False  # nothing more is asked
        self._waiting: deque[Job] = deque()
        self._first: dict[str, int] = {}  # canonical hash -> the trial that is evaluated
        self._repeats: defaultdict[int, list[int]] = defaultdict(list)  # that trial -> those waiting for its result
        self._halving = Halving(plan.rungs, plan.keep, in_order=not plan.asynchronous)
        self._latest: deque[FailureKind | None] = deque(maxlen=_WATCHED)  # of the evaluations of this sitting

    def run(self, stop: StopRequest) -> None:
        """Go on until every trial is finished.

        Raises:
            Interrupted: `stop` was requested; children that are training are dropped, and run again on resume.
            CorruptFileError: The journal is not of this strategy, seed and version.
            NascliError: The journal cannot be written, or too many of the last evaluations failed.
        """
        self._observer.on_start(self._journal.trials)
        self._restore()
        if self._plan.asynchronous:
            self._replay()
        self._advance()
        while self._waiting or self._executor.busy:
            if stop.requested:
                self._remember()
                done = sum(trial.finished for trial in self._journal.trials)
                raise Interrupted(f"the search stopped after {done} of {self._plan.trials} trials, which are saved")
            while self._waiting and self._executor.free:
                self._executor.submit(self._waiting.popleft())
            for outcome in self._executor.collect(POLL):
                self._take(outcome)
            self._advance()
        self._remember()

    def _advance(self) -> None:
        """Ask what may be asked and somebody is free to run; tell the batch when it is whole and finished."""
        while self._tell_finished_batch() and not self._ended and self._asked < self._plan.trials and self._may_ask():
            trial = self._recall() if self._asked < len(self._journal.trials) else self._propose()
            if trial is None:
                self._end(f"the space is exhausted: all its {len(self._first)} networks were proposed")
                return
            self._asked += 1
            self._admit(trial)

    def _may_ask(self) -> bool:
        """Whether the next trial is known, or somebody has nothing to do."""
        return self._asked < len(self._journal.trials) or len(self._waiting) < self._executor.free

    def _tell_finished_batch(self) -> bool:
        """Tell the batch that was asked last, if it is whole; false while one of its trials is not finished."""
        if self._plan.asynchronous or self._asked < self._told + self._strategy.batch_size:
            return True
        batch = self._journal.trials[self._told : self._asked]
        if not all(trial.finished for trial in batch):
            return False
        for trial in batch:
            self._tell(trial)
        self._learn()
        return True

    def _tell(self, trial: Trial) -> None:
        assert trial.reward is not None
        if self._told >= self._told_before:
            self._strategy.tell(trial.tokens, trial.reward)
        self._told += 1

    def _learn(self) -> None:
        """Say how the learning goes, and keep the strategy if the last snapshot is old."""
        if self._told > self._told_before:
            self._learnt.append((self._told, dict(self._strategy.diagnostics)))
            self._observer.on_update(*self._learnt[-1])
            if self._snapshots is not None and self._snapshots.due:
                self._remember()

    def _remember(self) -> None:
        """Keep the strategy, where it and the journal are at the same point."""
        caught_up = self._asked == len(self._journal.trials) and self._told > self._told_before
        if self._snapshots is not None and isinstance(self._strategy, Stateful) and caught_up:
            snapshot = Snapshot(self._asked, self._told, self._learnt, self._strategy.state())
            self._snapshots.save(snapshot, self._journal)

    def _restore(self) -> None:
        """Take up the strategy where it was kept."""
        if self._snapshots is None or not isinstance(self._strategy, Stateful):
            return
        snapshot = self._snapshots.load(self._journal)
        if snapshot is not None:
            self._strategy.load_state(snapshot.strategy)
            self._asked_before, self._told_before = snapshot.asked, snapshot.told
            self._learnt = list(snapshot.learnt)
            for told, diagnostics in snapshot.learnt:
                self._observer.on_update(told, diagnostics)

    def _replay(self) -> None:
        """Ask and tell again what the journal holds, in its order."""
        trials = self._journal.trials
        for finished, count in [*self._journal.finishes, (-1, len(trials))]:
            while self._asked < count:
                self._recall()
                self._asked += 1
            if finished >= 0:
                self._tell(trials[finished])
                self._learn()
        for trial in list(trials):
            self._admit(trial)

    def _recall(self) -> Trial:
        """The trial that the strategy is asked for again, as the journal has it."""
        trial = self._journal.trials[self._asked]
        spared = self._asked < self._asked_before
        if (not spared and trial.tokens != self._strategy.ask()) or trial.seed != self._seed(trial.id):
            raise CorruptFileError(
                f"{self._journal.path}: trial {trial.id} is not what this recipe proposes with this version of nascli",
                "The journal belongs to another recipe or version; go on with that, or start a new search",
            )
        return trial

    def _propose(self) -> Trial | None:
        tokens = self._strategy.ask()
        if tokens is None:
            return None
        genotype = self._plan.space.decode(tokens, name=f"{self._plan.name}-trial-{self._asked}")
        form = genotype.canonical_hash()
        trial = Trial(
            id=self._asked,
            tokens=tokens,
            genotype=genotype,
            hash=form,
            seed=self._seed(self._asked),
            duplicate_of=self._first.get(form),
        )
        return self._record(proposed(trial))

    def _admit(self, trial: Trial) -> None:
        """Have a trial evaluated, or let it wait for the one that it repeats."""
        self._stale = 0 if trial.duplicate_of is None else self._stale + 1
        if trial.duplicate_of is None:
            self._first[trial.hash] = trial.id
            if not trial.finished and not trial.rungs:
                self._submit(trial)
            self._promote()
        elif not trial.finished:
            self._repeats[trial.duplicate_of].append(trial.id)
            self._settle(trial.duplicate_of)
        if self._plan.patience and self._stale == self._plan.patience:
            self._end(f"the search is exhausted: its last {self._stale} proposals repeat earlier ones")

    def _submit(self, trial: Trial) -> None:
        """Line a trial up for its next training; those that are on their way go first."""
        job = Job(trial.id, trial.genotype, trial.seed, self._halving.epochs(trial))
        if trial.rungs:
            self._waiting.appendleft(job)
        else:
            self._waiting.append(job)

    def _take(self, outcome: Outcome) -> None:
        """Put what came of a training into the journal, and act on it."""
        number, result = outcome.job.trial, outcome.result
        trial = self._journal.trials[number]
        if isinstance(result, Failure):
            reward = self._plan.failure_reward
            self._record(Failed(trial=number, kind=result.kind, error=result.error, reward=reward))
        elif outcome.job.epochs is not None:
            self._record(Advanced(trial=number, epochs=outcome.job.epochs, **vars(result)))
        else:
            self._finish(trial, result)
        self._watch(result)
        self._settle(number)
        self._promote()

    def _promote(self) -> None:
        """Train on whom the rungs let pass; the others are finished, which may decide about later ones."""
        while self._plan.rungs and (decisions := self._halving.decide(self._journal.trials[: self._asked])):
            for number, passed in decisions:
                trial = self._journal.trials[number]
                if passed:
                    self._submit(trial)
                else:
                    self._finish(trial, trial.rungs[-1].score, stopped=True)
                    self._settle(number)

    def _finish(self, trial: Trial, score: Score, *, stopped: bool = False) -> None:
        below = trial.rungs[:-1] if stopped else trial.rungs
        seconds = score.seconds + sum(rung.score.seconds for rung in below)
        self._record(Finished(trial=trial.id, stopped=stopped, **vars(replace(score, seconds=round(seconds, 3)))))

    def _settle(self, number: int) -> None:
        """Give the result of a trial, if it has one, to those that repeat it."""
        trial = self._journal.trials[number]
        if not trial.finished:
            return
        for repeat in self._repeats.pop(number, ()):
            if trial.score is not None:
                self._record(Finished(trial=repeat, stopped=trial.stopped, **vars(replace(trial.score, seconds=0.0))))
            elif trial.failure is not None:
                failure, reward = trial.failure, self._plan.failure_reward
                self._record(Failed(trial=repeat, kind=failure.kind, error=failure.error, reward=reward))

    def _record(self, event: Event) -> Trial:
        trial = self._journal.append(event)
        self._observer.on_trial(trial)
        if self._plan.asynchronous and trial.finished:
            self._tell(trial)
            self._learn()
        return trial

    def _watch(self, result: Score | Failure) -> None:
        """Give up if the evaluations fail too often; a rejected genotype is no failure."""
        kind = result.kind if isinstance(result, Failure) else None
        if kind is FailureKind.REJECTED:
            return
        self._latest.append(kind)
        kinds = [kind for kind in self._latest if kind is not None]
        if len(kinds) <= _TOLERATED:
            return
        (often, times), *_ = Counter(kinds).most_common()
        failed = [trial.failure for trial in self._journal.trials if trial.state is TrialState.FAILED]
        last = next(failure.error for failure in reversed(failed) if failure is not None and failure.kind is often)
        raise NascliError(
            f"{len(kinds)} of the last {len(self._latest)} evaluations failed, {times} of them {often}; the last "
            f"of these: {last}",
            f"{_REMEDIES[often]}; finished trials are safe, and --resume goes on",
        )

    def _end(self, text: str) -> None:
        self._ended = True
        self._observer.on_message(text)

    def _seed(self, number: int) -> int:
        return derive_seed(self._plan.seed, "trial", number)


_REMEDIES = {
    FailureKind.DIVERGED: "A smaller train.lr, or a warm-up, usually mends this",
    FailureKind.OUT_OF_MEMORY: "Use a smaller train.batch_size or network.filters, or fewer workers",
    FailureKind.CRASHED: "Try one cell alone with nascli train --cell to see the whole error",
    FailureKind.WORKER_LOST: "The machine may be short of memory: use fewer workers",
}
