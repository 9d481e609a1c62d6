"""The files of a search beside its journal: the best networks, the front, curves, and the results in `run.json`."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from nascli.config import SearchRecipe
from nascli.errors import CorruptFileError
from nascli.files import write_text, writing
from nascli.genotype.genotype import sign_genotype
from nascli.genotype.space import resolve_space
from nascli.progress import ProgressFile
from nascli.records import write_record
from nascli.runs.find import read_run
from nascli.runs.folder import RunFolder
from nascli.runs.record import RUN_FILE
from nascli.search.front import Member, cost_quantity, describe_member, front_of
from nascli.search.journal import Journal
from nascli.search.objective import describe_reward, find_objective
from nascli.search.plan import Observer
from nascli.search.recommend import recommend
from nascli.search.recorded import with_provenance
from nascli.search.trial import Trial, TrialState

if TYPE_CHECKING:
    from nascli.search.evaluators.child_files import PausedTrainings


@dataclass(frozen=True)
class Summary:
    """The results of a search; rewards are those of the cells that were scored, each once.

    Args:
        best: The recommended trial: its number, reward, params, mult-adds, latency where it was measured, and
            canonical hash.
        trials: Proposals in all: cells trained (scored to their end), duplicates, cells rejected, cells failed.
        reward_std: Standard deviation over the cells scored (0 for one).
        child_seconds: Summed over the cells, ranking included.
        seconds: Wall-clock time, over all sessions of a search that was resumed.
        reward_is: The kind of the rewards, in words.
        cost_is: The quantity that stands against the accuracy: params, mult_adds, or latency in seconds.
        front: The networks that no other beats in both, cheapest first: trial, accuracy, cost, and canonical hash.
    """

    best: Mapping[str, object] | None
    trials: int
    trained: int
    duplicates: int
    rejected: int
    failed: int
    reward_mean: float | None
    reward_std: float | None
    child_seconds: float
    seconds: float
    reward_is: str
    cost_is: str
    front: Sequence[Mapping[str, object]]


class ResultWriter:
    """An observer that keeps the files beside the journal up to date, and passes everything on to another observer.

    `paused` are trainings that wait to be continued: those of a trial are removed when it is finished.
    """

    def __init__(
        self, run: RunFolder, recipe: SearchRecipe, observer: Observer, paused: "PausedTrainings | None" = None
    ) -> None:
        self._run, self._recipe, self._observer, self._paused = run, recipe, observer, paused
        self._best = float("-inf")
        self._updates: list[dict[str, float]] = []
        self._collapsed = False
        self._progress = ProgressFile(run.path, "trials")
        self._finished = 0
        self._running: dict[int, float] = {}
        self._since = time.monotonic()
        self._earlier = read_run(run.path).get("results") or {}

    def check_length(self, journal: Journal) -> None:
        """Hold the length of a journal against the trials that `run.json` counted when the search last stopped."""
        counted, found = self._earlier.get("trials") or 0, len(journal.trials)
        if found < counted and not found:
            raise CorruptFileError(
                f"{journal.path} has no trial, and {self._run.path / RUN_FILE} counted {counted}: it was emptied or "
                "removed",
                "Copy it again from where it was written, or start a new search",
                file=journal.path,
            )
        if found < counted:
            self._observer.on_message(
                f"warning: {journal.path} has {found} trials, and there were {counted}: searched again"
            )

    def on_start(self, trials: Sequence[Trial]) -> None:
        """Find the best reward so far."""
        self._best = max((t.reward for t in trials if t.reward is not None and _is_candidate(t)), default=self._best)
        self._observer.on_start(trials)
        for trial in trials:
            self._remove_paused(trial)
        self._finished = sum(trial.finished for trial in trials)
        self._progress.begin(self._finished, self._recipe.search.trials, "searching", running=self._running)

    def on_poll(self) -> None:
        """Write `progress.json` if it is time."""
        if self._progress.is_due:
            self._progress.write(self._finished, self._recipe.search.trials, "searching", running=self._running)

    def _count(self, trial: Trial) -> None:
        if trial.reranks:
            self._progress.write(self._finished, self._recipe.search.trials, "ranking")
        elif trial.finished:
            self._finished += 1
            self._running.pop(trial.id, None)
        elif trial.duplicate_of is None:
            self._running.setdefault(trial.id, time.time())

    def on_trial(self, trial: Trial) -> None:
        """Write `best.json` if the trial is better than all before."""
        self._count(trial)
        self._remove_paused(trial)
        if _is_candidate(trial) and trial.reward is not None and trial.reward > self._best:
            self._best = trial.reward
            write_text(self._run.file("best.json"), sign_genotype(with_provenance(trial, self._recipe, self._run.path)))
        self._observer.on_trial(trial)

    def _remove_paused(self, trial: Trial) -> None:
        if self._paused is not None and trial.finished:
            self._paused.remove(trial.hash)

    def on_update(self, told: int, diagnostics: Mapping[str, float]) -> None:
        """Keep the diagnostics for `curves.json`, and warn once of a collapsed controller."""
        self._updates.append({"trials": told, **diagnostics})
        self._observer.on_update(told, diagnostics)
        collapsed = bool(diagnostics.get("collapsed"))
        if collapsed and not self._collapsed:
            self.on_message(
                "warning: the controller's entropy has collapsed: it proposes nearly the same cells again and again "
                "(a larger entropy_weight or a smaller lr keeps it searching)"
            )
        self._collapsed = collapsed

    def on_message(self, text: str) -> None:
        """Pass it on."""
        self._observer.on_message(text)

    def close(self, trials: Sequence[Trial]) -> None:
        """Write everything that follows from the trials."""
        top = recommend(trials, resolve_space(self._recipe.space), find_objective(self._recipe)).trials
        top = top[: self._recipe.search.top]
        for place, trial in enumerate(top, start=1):
            text = sign_genotype(with_provenance(trial, self._recipe, self._run.path))
            write_text(self._run.file(f"top/{place:02d}.json"), text)
            if place == 1:
                write_text(self._run.file("best.json"), text)
        cost_is = cost_quantity(self._recipe)
        self._write_front(front_of(trials, cost_is), cost_is)
        write_record(self._run.file("curves.json"), {"updates": self._updates})
        self._progress.write(self._finished, self._recipe.search.trials, "finishing")
        seconds = (self._earlier.get("seconds") or 0.0) + time.monotonic() - self._since
        reward_is = describe_reward(self._recipe)
        self._run.update(results=asdict(summarize(trials, seconds, reward_is, cost_is, next(iter(top), None))))

    def _write_front(self, front: Sequence[Member], cost_is: str) -> None:
        """Write the networks of the front, cheapest first, and remove the files of an earlier, longer one."""
        written = set()
        for place, member in enumerate(front, start=1):
            file = self._run.file(f"front/{place:02d}.json")
            genotype = with_provenance(
                member.trial,
                self._recipe,
                self._run.path,
                accuracy=member.accuracy,
                cost=member.cost,
                cost_is=cost_is,
            )
            write_text(file, sign_genotype(genotype))
            written.add(file)
        with writing(self._run.path):
            for stale in {*self._run.path.glob("front/[0-9]*.json")} - written:
                stale.unlink()


def summarize(
    trials: Sequence[Trial],
    seconds: float,
    reward_is: str = "proxy accuracy",
    cost_is: str = "mult_adds",
    best: Trial | None = None,
) -> Summary:
    """The results of a search whose sessions took `seconds`, and which recommends `best`."""
    counted = [trial for trial in trials if trial.scored]
    rewards = [trial.reward for trial in counted if trial.reward is not None]
    child_seconds = [trial.score.seconds for trial in counted if trial.score is not None]
    child_seconds += [rerank.seconds for trial in counted for rerank in trial.reranks]
    return Summary(
        best=_describe(best) if best else None,
        trials=len(trials),
        trained=len(counted),
        duplicates=sum(trial.duplicate_of is not None for trial in trials),
        rejected=count_trials(trials, TrialState.REJECTED),
        failed=count_trials(trials, TrialState.FAILED),
        reward_mean=statistics.fmean(rewards) if rewards else None,
        reward_std=statistics.pstdev(rewards) if rewards else None,
        child_seconds=round(sum(child_seconds), 3),
        seconds=round(seconds, 3),
        reward_is=reward_is,
        cost_is=cost_is,
        front=[describe_member(member) for member in front_of(trials, cost_is)],
    )


def _is_candidate(trial: Trial) -> bool:
    """Whether the trial may be the best so far."""
    return trial.scored and not trial.stopped and not trial.reranks


def count_trials(trials: Sequence[Trial], state: TrialState) -> int:
    """The trials of this state, duplicates left out."""
    return sum(trial.state is state and trial.duplicate_of is None for trial in trials)


def _describe(trial: Trial) -> dict[str, object]:
    figures = {name: getattr(trial.score, name) for name in ("reward", "accuracy", "params", "mult_adds")}
    latency = trial.latency and trial.latency.model_dump()
    return {"trial": trial.id, **figures, "latency": latency, "hash": trial.hash}
