"""The search loop: joins strategy, executor and journal, and owns nothing of what they do.

Order is what makes a search repeatable. The strategy is asked in the order of the trials and told in the order of the
trials, a whole batch at a time; results may come in any order. So proposals depend neither on the number of workers nor
on their speed. And resuming is no case of its own: the loop asks the strategy from the first trial on, and where the
journal has the answer already, it is taken from there.
"""

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from nascli.errors import CorruptFileError, Interrupted
from nascli.genotype.canonical import canonical_hash
from nascli.genotype.encoding import decode_tokens
from nascli.genotype.space import SearchSpace
from nascli.search.executors import Executor, Job
from nascli.search.journal import Failed, Finished, Journal, proposed
from nascli.search.strategy import Strategy
from nascli.search.trial import Score, Trial
from nascli.training.interrupts import StopRequest
from nascli.training.runtime import derive_seed

_POLL = 0.2
"""Seconds between two looks at the stop request."""


@dataclass(frozen=True)
class Plan:
    """What a search is to do.

    Args:
        space: What the strategy's tokens count in.
        trials: Proposals in all, repeats included; at least as many as the journal holds.
        seed: The run's seed; that of trial i follows from it and i.
        failure_reward: Told to the strategy for a trial that failed.
        name: Begins the names of the genotypes.
    """

    space: SearchSpace
    trials: int
    seed: int
    failure_reward: float
    name: str = "search"


class Observer(Protocol):
    """Who watches a search: a live view, a log."""

    def began(self, trials: Sequence[Trial]) -> None:
        """What the journal holds, before anything else."""
        ...

    def changed(self, trial: Trial) -> None:
        """A trial was proposed or finished, and the journal has it."""
        ...

    def learnt(self, told: int, diagnostics: Mapping[str, float]) -> None:
        """The strategy was told a batch (a replayed one too): trials told in all, and how the learning goes."""
        ...


class SearchLoop:
    """One search, from wherever its journal stands.

    Args:
        strategy: New; it is asked and told again what the journal holds.
        executor: Runs the evaluations; not closed here.
        journal: Where every event goes before anyone acts on it.
        plan: What is to be done.
        observer: Told of all that happens.
    """

    def __init__(
        self, strategy: Strategy, executor: Executor, journal: Journal, plan: Plan, observer: Observer
    ) -> None:
        self._strategy, self._executor, self._journal = strategy, executor, journal
        self._plan, self._observer = plan, observer
        self._asked = self._told = 0
        self._waiting: deque[Trial] = deque()
        self._first: dict[str, int] = {}  # canonical hash -> the trial that is evaluated
        self._repeats: defaultdict[int, list[int]] = defaultdict(list)  # that trial -> those waiting for its result

    def run(self, stop: StopRequest) -> None:
        """Go on until every trial is finished.

        Raises:
            Interrupted: `stop` was requested; children that are training are dropped, and run again on resume.
            CorruptFileError: The journal is not of this strategy, seed and version.
            NascliError: The journal cannot be written.
        """
        self._observer.began(self._journal.trials)
        self._ask_and_tell()
        while self._waiting or self._executor.busy:
            if stop.requested:
                done = sum(trial.finished for trial in self._journal.trials)
                raise Interrupted(f"the search stopped after {done} of {self._plan.trials} trials, which are saved")
            while self._waiting and self._executor.free:
                trial = self._waiting.popleft()
                self._executor.submit(Job(trial.id, trial.genotype, trial.seed))
            for outcome in self._executor.collect(_POLL):
                self._finish(outcome.trial, outcome.result)
            self._ask_and_tell()

    def _ask_and_tell(self) -> None:
        """Ask what may be asked and somebody is free to run; tell the batch when it is whole and finished."""
        size = self._strategy.batch_size
        while True:
            if self._asked == self._told + size and not self._tell():
                return
            known = self._asked < len(self._journal.trials)
            idle = len(self._waiting) < self._executor.free
            if self._asked == self._plan.trials or not (known or idle):
                return
            self._admit(self._recall() if known else self._propose())
            self._asked += 1

    def _tell(self) -> bool:
        """Tell the batch that was asked last; false while one of its trials is not finished."""
        batch = self._journal.trials[self._told : self._asked]
        if not all(trial.finished for trial in batch):
            return False
        for trial in batch:
            assert trial.reward is not None
            self._strategy.tell(trial.tokens, trial.reward)
        self._told = self._asked
        self._observer.learnt(self._told, self._strategy.diagnostics)
        return True

    def _recall(self) -> Trial:
        """The trial that the strategy is asked for again, as the journal has it."""
        trial = self._journal.trials[self._asked]
        if trial.tokens != self._strategy.ask() or trial.seed != self._seed(trial.id):
            raise CorruptFileError(
                f"{self._journal.path}: trial {trial.id} is not what this recipe proposes with this version of nascli",
                "The journal belongs to another recipe or version; go on with that, or start a new search",
            )
        return trial

    def _propose(self) -> Trial:
        tokens = self._strategy.ask()
        genotype = decode_tokens(tokens, self._plan.space, name=f"{self._plan.name}-trial-{self._asked}")
        form = canonical_hash(genotype)
        trial = Trial(
            id=self._asked,
            tokens=tokens,
            genotype=genotype,
            hash=form,
            seed=self._seed(self._asked),
            repeat_of=self._first.get(form),
        )
        self._observer.changed(self._journal.append(proposed(trial)))
        return trial

    def _admit(self, trial: Trial) -> None:
        """Have a trial evaluated, or let it wait for the one that it repeats."""
        if trial.repeat_of is None:
            self._first[trial.hash] = trial.id
            if not trial.finished:
                self._waiting.append(trial)
        elif not trial.finished:
            self._repeats[trial.repeat_of].append(trial.id)
            self._settle(trial.repeat_of)

    def _finish(self, number: int, result: Score | str) -> None:
        if isinstance(result, Score):
            event: Finished | Failed = Finished(trial=number, **vars(result))
        else:
            event = Failed(trial=number, error=result, reward=self._plan.failure_reward)
        self._observer.changed(self._journal.append(event))
        self._settle(number)

    def _settle(self, number: int) -> None:
        """Give the result of a trial, if it has one, to those that repeat it."""
        trial = self._journal.trials[number]
        if not trial.finished:
            return
        for repeat in self._repeats.pop(number, ()):
            if trial.score is not None:
                event: Finished | Failed = Finished(trial=repeat, **(vars(trial.score) | {"seconds": 0.0}))
            else:
                event = Failed(trial=repeat, error=trial.error or "", reward=trial.reward or 0.0)
            self._observer.changed(self._journal.append(event))

    def _seed(self, number: int) -> int:
        return derive_seed(self._plan.seed, "trial", number)
