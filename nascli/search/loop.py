"""The search loop: joins strategy, executor and journal, and owns nothing of what they do.

1. The asker (`asker.py`) tells the strategy what is finished and asks for the next trial.
2. The life of a trial (`lifecycle.py`) makes jobs of it, takes their outcomes, and writes its result.
3. The budget of failures (`failure_budget.py`) ends a search whose set-up is at fault.

Whatever the workers and however often it is killed, a synchronous search ends with the same trials. An asynchronous one
can be resumed too, but not repeated.
"""

from collections.abc import Callable, Sequence

from nascli.errors import Interrupted
from nascli.search.asker import Asker
from nascli.search.executors.executor import Executor
from nascli.search.failure_budget import FailureBudget
from nascli.search.journal import Event, Journal
from nascli.search.lifecycle import Lifecycle
from nascli.search.plan import POLL, Observer, SearchPlan
from nascli.search.snapshot import SnapshotFile
from nascli.search.strategies.strategy import Strategy
from nascli.search.trial import Trial
from nascli.signals import StopRequest


class SearchLoop:
    """One search, from wherever its journal stands.

    Args:
        strategy: New; it is asked and told again what the journal holds.
        executor: Runs the evaluations; not closed here.
        journal: Every event is written to it before anything follows from it.
        snapshots: Where the strategy's state is saved now and then, if it is `Stateful`.
        on_poll: Called whenever outcomes were looked for.
    """

    def __init__(
        self,
        strategy: Strategy,
        executor: Executor,
        journal: Journal,
        plan: SearchPlan,
        observer: Observer,
        snapshots: SnapshotFile | None = None,
        on_poll: Callable[[], None] = lambda: None,
    ) -> None:
        self._executor, self._journal, self._plan, self._observer = executor, journal, plan, observer
        self._on_poll = on_poll
        self._asker = Asker(strategy, journal, plan, self._record, observer, snapshots)
        self._lifecycle = Lifecycle(journal, plan, self._record)
        self._budget = FailureBudget()

    def run(self, stop: StopRequest) -> None:
        """Search until every trial is finished.

        Raises:
            Interrupted: `stop` was requested; children that are training are dropped, and run again on resume.
            CorruptFileError: The journal is not of this strategy, seed and version.
            NascliError: The journal cannot be written, or too many of the last evaluations failed.
        """
        waiting = self._lifecycle.waiting
        self._observer.on_start(self._journal.trials)
        self._asker.restore()
        if self._plan.asynchronous:
            replayed = list(self._asker.replay())
            self._lifecycle.admit(*replayed, told=self._list_ancestors())
        self._ask()
        while waiting or self._executor.busy:
            if stop.requested:
                self._asker.save()
                done = sum(trial.finished for trial in self._journal.trials)
                raise Interrupted(f"the search stopped after {done} of {self._plan.trials} trials, which are saved")
            while waiting and self._executor.free:
                self._executor.submit(waiting.popleft())
            for outcome in self._executor.collect(POLL):
                self._lifecycle.apply(outcome)
                self._budget.count(outcome.result)
            self._ask()
            self._on_poll()
        self._asker.save()

    def _ask(self) -> None:
        """Tell what is finished, and ask for trials while one may be asked and a worker is free to run it."""
        while self._asker.tell_finished() and not self._asker.exhausted:
            if not self._asker.replaying and len(self._lifecycle.waiting) >= self._executor.free:
                return
            trial = self._asker.ask()
            if trial is None:
                return
            self._lifecycle.admit(trial, told=self._list_ancestors())

    def _list_ancestors(self) -> Sequence[Trial]:
        """The trials that weights may be inherited from; none where the plan says that none are."""
        return self._asker.told if self._plan.inherit_weights else ()

    def _record(self, event: Event) -> Trial:
        trial = self._journal.append(event)
        self._observer.on_trial(trial)
        return trial
