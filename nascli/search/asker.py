"""Asking and telling the strategy, in an order that makes a search repeatable.

The strategy is asked in the order of the trials and told in the order of the trials, a whole batch at a time, so
proposals depend neither on the number of workers nor on their speed. An asynchronous search tells each result when it
comes; its order is that of the journal.

Resuming is no case of its own: the strategy is asked from the first trial on, and where the journal has the trial
already, that one is used. A snapshot of the strategy spares asking and telling what lies before it. A strategy that is
`Skippable` is spared every proposal whose successor was told a reward; only those at the journal's end are made again.
"""

from collections.abc import Callable, Iterator
from typing import NoReturn

from nascli.errors import CannotWriteError, CorruptFileError
from nascli.search.front import point_of
from nascli.search.journal import Event, Journal, Proposed
from nascli.search.plan import Observer, SearchPlan
from nascli.search.snapshot import Snapshot, SnapshotFile, UpdateRecord
from nascli.search.strategies.strategy import Skippable, Stateful, Strategy, tell_result
from nascli.search.trial import Trial
from nascli.seeding import derive_seed


class Asker:
    """The strategy of a search, and how much of the journal it has been asked and told.

    Args:
        strategy: New; it is asked and told again what the journal holds.
        record: Appends an event to the journal and reports it.
        snapshots: Where the strategy's state is saved now and then, if it is `Stateful`.
    """

    def __init__(
        self,
        strategy: Strategy,
        journal: Journal,
        plan: SearchPlan,
        record: Callable[[Event], Trial],
        observer: Observer,
        snapshots: SnapshotFile | None,
    ) -> None:
        self._strategy, self._journal, self._plan = strategy, journal, plan
        self._record, self._observer, self._snapshots = record, observer, snapshots
        self._asked = self._told = 0
        self._asked_in_snapshot = self._told_in_snapshot = 0  # their proposals and rewards are not repeated
        self._updates: list[UpdateRecord] = []
        self._unasked: list[Trial] = []  # of the journal, for which the strategy was not asked again yet
        self._first: dict[str, int] = {}  # canonical hash -> the first trial with it
        self._duplicates = 0  # in a row
        self._ended = False

    @property
    def exhausted(self) -> bool:
        """Whether nothing more is to be asked."""
        return self._ended or self._asked >= self._plan.trials

    @property
    def replaying(self) -> bool:
        """Whether the next trial is in the journal already."""
        return self._asked < len(self._journal.trials)

    @property
    def told(self) -> list[Trial]:
        """The trials whose rewards the strategy was told, in that order."""
        trials = self._journal.trials
        if self._plan.asynchronous:
            return [trials[number] for number, _ in self._journal.finishes[: self._told]]
        return list(trials[: self._told])

    def restore(self) -> None:
        """Load the strategy's last snapshot, if it is of this journal."""
        if self._snapshots is None or not isinstance(self._strategy, Stateful):
            return
        snapshot = self._snapshots.load(self._journal)
        if snapshot is not None:
            self._strategy.load_state(snapshot.strategy)
            self._asked_in_snapshot, self._told_in_snapshot = snapshot.asked, snapshot.told
            self._updates = list(snapshot.updates)
            for told, diagnostics in snapshot.updates:
                self._observer.on_update(told, diagnostics)

    def save(self) -> None:
        """Write a snapshot of the strategy, where it and the journal are at the same point.

        Where the file cannot be written the search goes on without, after a warning.
        """
        caught_up = self._asked == len(self._journal.trials) and self._told > self._told_in_snapshot
        if self._snapshots is not None and isinstance(self._strategy, Stateful) and caught_up:
            snapshot = Snapshot(self._asked, self._told, self._updates, self._strategy.state())
            try:
                self._snapshots.save(snapshot, self._journal)
            except CannotWriteError as error:
                self._snapshots = None
                self._observer.on_message(f"warning: {error.message}; without a snapshot a resume takes longer")

    def replay(self) -> Iterator[Trial]:
        """Ask and tell again all that the journal of an asynchronous search holds, in its order.

        Each finish in the journal comes with the number of trials that had been proposed by then: those are asked
        before it is told, as they were the first time.
        """
        for finished, proposals in [*self._journal.finishes, (None, len(self._journal.trials))]:
            while self._asked < proposals:
                yield self._recall()
            if finished is not None:
                self._tell(self._journal.trials[finished])
                self._close_update()

    def ask(self) -> Trial | None:
        """The next trial: the journal's, else a new proposal, which is written to it; None if none is left."""
        trial = self._recall() if self.replaying else self._propose()
        if trial is None:
            self._end(f"the space is exhausted: all its {len(self._first)} networks were proposed")
        return trial

    def tell_finished(self) -> bool:
        """Tell the strategy the results that are due; returns whether the next trial may be asked.

        Due is the last batch once all its trials are finished, or asynchronously every result there is.
        """
        trials = self._journal.trials
        if self._plan.asynchronous:
            while self._told < len(self._journal.finishes):
                self._tell(trials[self._journal.finishes[self._told][0]])
                self._close_update()
            return True
        if self._asked < self._told + self._strategy.batch_size:
            return True
        batch = trials[self._told : self._asked]
        if not all(trial.finished for trial in batch):
            return False
        for trial in batch:
            self._tell(trial)
        self._close_update()
        return True

    def _tell(self, trial: Trial) -> None:
        assert trial.reward is not None
        if self._told >= self._told_in_snapshot:
            self._skip()
            point, share = point_of(trial, self._plan.cost), self._share_trained(trial)
            tell_result(self._strategy, trial.tokens, trial.reward, point, share)
        self._told += 1

    def _share_trained(self, trial: Trial) -> float:
        """The epochs whose accuracy a trial has, as a share of a full training's."""
        first = trial if trial.duplicate_of is None else self._journal.trials[trial.duplicate_of]
        return first.rungs[-1].epochs / self._plan.epochs if first.stopped else 1.0

    def _close_update(self) -> None:
        """Report the strategy's diagnostics, and save it if the last snapshot is old.

        Only after all of a batch was told: its last reward starts the strategy's update, so before it the diagnostics
        are those of the batch before, and a snapshot would lie in the middle of a batch.
        """
        if self._told > self._told_in_snapshot:
            self._updates.append((self._told, dict(self._strategy.diagnostics)))
            self._observer.on_update(*self._updates[-1])
            if self._snapshots is not None and self._snapshots.due:
                self.save()

    def _recall(self) -> Trial:
        """The next trial of the journal, after the strategy was asked for it again."""
        trial = self._journal.trials[self._asked]
        if trial.seed != self._seed(trial.id):
            self._refuse(trial)
        if self._asked >= self._asked_in_snapshot:
            self._unasked.append(trial)
            last = self._asked == len(self._journal.trials) - 1
            if last or not isinstance(self._strategy, Skippable):
                self._ask_again()
        return self._count(trial)

    def _ask_again(self) -> None:
        """Have the strategy make proposals of the journal again; they have to be the same."""
        for trial in self._unasked:
            if trial.tokens != self._strategy.ask():
                self._refuse(trial)
        self._unasked.clear()

    def _skip(self) -> None:
        """Have the strategy skip the proposals for which it was not asked again, before it is told a reward."""
        if isinstance(self._strategy, Skippable) and self._unasked:
            self._strategy.skip([trial.tokens for trial in self._unasked], self._unasked[-1].diagnostics)
            self._unasked.clear()

    def _refuse(self, trial: Trial) -> NoReturn:
        raise CorruptFileError(
            f"{self._journal.path}: trial {trial.id} is not what this recipe proposes with this version of nascli",
            "The journal belongs to another recipe or version: use that one, or start a new search",
        )

    def _propose(self) -> Trial | None:
        tokens = self._strategy.ask()
        if tokens is None:
            return None
        genotype = self._plan.space.decode(tokens, name=f"{self._plan.name}-trial-{self._asked}")
        canonical_hash = genotype.canonical_hash()
        trial = Trial(
            id=self._asked,
            tokens=tokens,
            genotype=genotype,
            hash=canonical_hash,
            seed=self._seed(self._asked),
            duplicate_of=self._first.get(canonical_hash),
            diagnostics=dict(self._strategy.diagnostics) if isinstance(self._strategy, Skippable) else {},
        )
        return self._count(self._record(Proposed.of(trial)))

    def _count(self, trial: Trial) -> Trial:
        """Count a trial as asked; too many duplicates in a row end the search."""
        self._asked += 1
        if trial.duplicate_of is None:
            self._first[trial.hash] = trial.id
            self._duplicates = 0
        else:
            self._duplicates += 1
        if self._plan.patience and self._duplicates == self._plan.patience:
            self._end(f"the search is exhausted: its last {self._duplicates} proposals repeat earlier ones")
        return trial

    def _end(self, text: str) -> None:
        self._ended = True
        self._observer.on_message(text)

    def _seed(self, number: int) -> int:
        return derive_seed(self._plan.seed, "trial", number)
