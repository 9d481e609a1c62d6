"""A search in its run folder: the parts made from the recipe, the best cells and the figures written."""

import os
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from nascli.artifacts import RunFolder, read_run, write_json, write_text
from nascli.config import SearchRecipe
from nascli.errors import Interrupted, NascliError
from nascli.genotype.schema import Genotype
from nascli.genotype.space import SearchSpace, resolve_space
from nascli.search.executors import Executor
from nascli.search.journal import Journal
from nascli.search.loop import Observer, Plan, SearchLoop
from nascli.search.ppo import Ppo
from nascli.search.random_search import RandomSearch
from nascli.search.strategy import Strategy
from nascli.search.trial import Trial, TrialState
from nascli.training.interrupts import StopRequest

JOURNAL = "trials.jsonl"

STRATEGIES: dict[str, Callable[[SearchSpace, SearchRecipe], Strategy]] = {
    "ppo": lambda space, recipe: Ppo(space, recipe.ppo, recipe.seed),
    "random": lambda space, recipe: RandomSearch(space, recipe.seed),
}


@dataclass(frozen=True)
class Summary:
    """The figures of a search; rewards are proxy accuracies, over trained children that did not fail.

    Args:
        best: The best trial's number, reward, params, mult-adds and canonical hash.
        trials: Proposals.
        trained: Children trained to their end.
        repeats: Proposals answered by an earlier trial.
        failed: Children without a result.
        reward_mean: Mean reward.
        reward_std: Standard deviation of the rewards (0 for one).
        child_seconds: Summed over the children.
        seconds: Wall-clock time, over all the sittings of a search that was resumed.
    """

    best: Mapping[str, object] | None
    trials: int
    trained: int
    repeats: int
    failed: int
    reward_mean: float | None
    reward_std: float | None
    child_seconds: float
    seconds: float
    reward_is: str = "proxy accuracy (held-out training images after a short training)"


def run_search(
    run: RunFolder, recipe: SearchRecipe, executor: Executor, *, stop: StopRequest, observer: Observer
) -> list[Trial]:
    """Search from wherever the run folder's journal stands to the end of the recipe.

    Writes `trials.jsonl` as it goes, `best.json` whenever there is a better one, and at the end (also when stopped)
    `top/NN.json`, `curves.json` and the results in `run.json`.

    Args:
        run: The run folder.
        recipe: The resolved recipe.
        executor: Runs the evaluations; is closed.
        stop: Looked at between events.
        observer: Told of all that happens.

    Returns:
        All trials.

    Raises:
        Interrupted: `stop` was requested; the hint names the command that goes on.
        NascliError: Every trial failed, or a file cannot be written.
    """
    plan = Plan(
        space=resolve_space(recipe.space),
        trials=recipe.search.trials,
        seed=recipe.seed,
        failure_reward=recipe.search.failure_reward,
        name=run_name(recipe),
    )
    strategy = STRATEGIES[recipe.search.strategy](plan.space, recipe)
    keeper = _Keeper(run, recipe, observer)
    with executor, Journal(run.file(JOURNAL)) as journal:
        try:
            SearchLoop(strategy, executor, journal, plan, keeper).run(stop)
        except Interrupted as interrupted:
            raise Interrupted(interrupted.message, f"Resume with: nascli search --resume {run.path}") from interrupted
        finally:
            keeper.close(journal.trials)
    _refuse_all_failed(journal.trials)
    return journal.trials


def run_name(recipe: SearchRecipe) -> str:
    """Data set and strategy, fit for the name of a folder."""
    data = Path(recipe.data.dataset.removeprefix("folder:")).name
    return f"{re.sub(r'[^A-Za-z0-9.-]+', '-', data)}-{recipe.search.strategy}"


def count_workers(recipe: SearchRecipe, device: torch.device) -> int:
    """Worker processes: as the recipe says, else one a core, or one for a CUDA device; never more than trials."""
    cores = len(os.sched_getaffinity(0)) if device.type == "cpu" else 1
    return min(recipe.search.workers or cores, recipe.search.trials)


def best_trials(trials: Sequence[Trial], count: int) -> list[Trial]:
    """The complete trials with the highest rewards, best first, no network twice; of equals the earlier first."""
    scored = [(-trial.reward, trial.id) for trial in trials if trial.reward is not None and _counts(trial)]
    return [trials[number] for _, number in sorted(scored)[:count]]


def summarise(trials: Sequence[Trial], seconds: float) -> Summary:
    """The figures of a search whose sittings took `seconds`."""
    counted = [trial for trial in trials if _counts(trial)]
    rewards = [trial.reward for trial in counted if trial.reward is not None]
    best = best_trials(trials, 1)
    return Summary(
        best=_figures(best[0]) if best else None,
        trials=len(trials),
        trained=len(counted),
        repeats=sum(trial.repeat_of is not None for trial in trials),
        failed=sum(trial.state is TrialState.FAILED and trial.repeat_of is None for trial in trials),
        reward_mean=statistics.fmean(rewards) if rewards else None,
        reward_std=statistics.pstdev(rewards) if rewards else None,
        child_seconds=round(sum(trial.score.seconds for trial in counted if trial.score), 3),
        seconds=round(seconds, 3),
    )


class _Keeper:
    """Keeps the files beside the journal up to date, and hands everything on to another observer."""

    def __init__(self, run: RunFolder, recipe: SearchRecipe, observer: Observer) -> None:
        self._run, self._recipe, self._observer = run, recipe, observer
        self._best = float("-inf")
        self._updates: list[dict[str, float]] = []
        self._since = time.monotonic()
        earlier = read_run(run.path).get("results") or {}
        self._before = float(earlier.get("seconds", 0.0))

    def began(self, trials: Sequence[Trial]) -> None:
        self._best = max((t.reward for t in trials if t.reward is not None and _counts(t)), default=self._best)
        self._observer.began(trials)

    def changed(self, trial: Trial) -> None:
        if _counts(trial) and trial.reward is not None and trial.reward > self._best:
            self._best = trial.reward
            _write(self._run.path / "best.json", self._with_provenance(trial).to_json())
        self._observer.changed(trial)

    def learnt(self, told: int, diagnostics: Mapping[str, float]) -> None:
        self._updates.append({"trials": told, **diagnostics})
        self._observer.learnt(told, diagnostics)

    def close(self, trials: Sequence[Trial]) -> None:
        """Write everything that follows from the trials."""
        top = best_trials(trials, self._recipe.search.top)
        for place, trial in enumerate(top, start=1):
            text = self._with_provenance(trial).to_json()
            _write(self._run.file(f"top/{place:02d}.json"), text)
            if place == 1:
                _write(self._run.path / "best.json", text)
        try:
            write_json(self._run.path / "curves.json", {"updates": self._updates})
            seconds = self._before + time.monotonic() - self._since
            self._run.update(results=asdict(summarise(trials, seconds)))
        except OSError as error:
            raise _unwritable(self._run.path, error) from error

    def _with_provenance(self, trial: Trial) -> Genotype:
        return trial.genotype.model_copy(
            update={
                "provenance": {
                    "source": "nascli search",
                    "search_run": str(self._run.path),
                    "trial": trial.id,
                    "reward": trial.reward,
                    "reward_is": "proxy accuracy",
                    "dataset": self._recipe.data.dataset,
                    "strategy": self._recipe.search.strategy,
                    "seed": self._recipe.seed,
                }
            }
        )


def _counts(trial: Trial) -> bool:
    """Whether the trial was trained to its end, itself."""
    return trial.state is TrialState.COMPLETE and trial.repeat_of is None


def _figures(trial: Trial) -> dict[str, object]:
    assert trial.score is not None
    return {
        "trial": trial.id,
        "reward": trial.reward,
        "params": trial.score.params,
        "mult_adds": trial.score.mult_adds,
        "hash": trial.hash,
    }


def _refuse_all_failed(trials: Sequence[Trial]) -> None:
    if any(trial.state is TrialState.COMPLETE for trial in trials):
        return
    errors = Counter(trial.error for trial in trials)
    ((error, times),) = errors.most_common(1)
    raise NascliError(
        f"all {len(trials)} trials failed; most often ({times} times): {error}",
        "Try one cell alone with nascli train --cell, or a smaller train.lr",
    )


def _write(path: Path, text: str) -> None:
    try:
        write_text(path, text)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> NascliError:
    return NascliError(
        f"{path} cannot be written: {error.strerror or error}",
        "Finished trials are safe in the journal: make room, then go on with --resume",
    )
