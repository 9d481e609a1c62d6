"""A search in its run folder: run to its end, the best cells and the results written."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from nascli.config import TABLE, SearchRecipe, to_toml
from nascli.errors import Interrupted, NascliError
from nascli.genotype.space import resolve_space
from nascli.runs.folder import RunFolder
from nascli.search.builders import build_strategy
from nascli.search.evaluators.child_files import find_paused
from nascli.search.evaluators.tabular import TabularBenchmark, write_table
from nascli.search.executors.executor import Executor
from nascli.search.front import cost_quantity
from nascli.search.journal import Journal
from nascli.search.loop import SearchLoop
from nascli.search.objective import find_objective
from nascli.search.plan import Observer, SearchPlan
from nascli.search.recommend import expect_accuracies, sort_expected
from nascli.search.recorded import JOURNAL, read_recorded
from nascli.search.rerank import RerankPlan, rerank
from nascli.search.results import ResultWriter, count_trials
from nascli.search.snapshot import SNAPSHOT, SnapshotFile
from nascli.search.trial import Trial, TrialState
from nascli.signals import StopRequest
from nascli.text import quote
from nascli.units import count_of


def run_search(
    run: RunFolder,
    recipe: SearchRecipe,
    executor: Executor,
    *,
    stop: StopRequest,
    observer: Observer,
    ranking: Executor | None = None,
) -> list[Trial]:
    """Search from wherever the run folder's journal stands to the end of the recipe.

    Writes `trials.jsonl` as it goes, `best.json` whenever there is a better one, and at the end (also when stopped)
    `strategy.pt` (see `nascli.search.snapshot`), `top/NN.json`, `front/NN.json`, `curves.json` and the results in
    `run.json`.

    Args:
        executor: Runs the evaluations; is closed.
        stop: Looked at between events.
        ranking: Trains the best again, if the recipe asks for it; is closed.

    Returns:
        All trials.

    Raises:
        Interrupted: `stop` was requested; the hint names the command that resumes.
        NascliError: Every trial failed, or too many of the last ones, or a file cannot be written.
    """
    plan = _make_plan(recipe)
    strategy = build_strategy(recipe, plan.space)
    writer = ResultWriter(run, recipe, observer, find_paused(recipe, run.path))
    with Journal(run.file(JOURNAL), plan.space) as journal:
        writer.check_length(journal)
        try:
            with executor:
                SearchLoop(strategy, executor, journal, plan, writer, _open_snapshots(run, recipe), writer.on_poll).run(
                    stop
                )
            _check_scored(journal.trials)
            if ranking is not None:
                with ranking:
                    rerank(ranking, journal, _make_rerank_plan(recipe, journal.trials), writer, stop)
        except Interrupted as interrupted:
            command = f"nascli search --resume {quote(run.path)}"
            raise Interrupted(interrupted.message, f"Resume with: {command}") from interrupted
        finally:
            writer.close(journal.trials)
    return journal.trials


def tabulate_run(path: Path, table: Path) -> TabularBenchmark:
    """Write the scored cells of a run folder as a table file, with the recipe, machine, versions and hours.

    Raises:
        InputError: Nothing was scored.
        CorruptFileError: A file of the run is damaged.
        NascliError: The file cannot be written.
    """
    record, recipe, _, trials = read_recorded(path)
    results = record.get("results") or {}
    about = {
        "hours": round((results.get("seconds") or 0.0) / 3600, 3),
        "training_hours": round((results.get("child_seconds") or 0.0) / 3600, 3),
        **{f"version of {name}": version for name, version in record["versions"].items()},
        **{name: value for name, value in record["machine"].items() if value is not None},
    }
    return write_table(table, trials, recipe_toml=to_toml(recipe), about=about)


def search_name(recipe: SearchRecipe) -> str:
    """The name of a search's run folder: data set, or table, and strategy."""
    kind = recipe.search.evaluator
    data = Path(kind).stem if kind.startswith(TABLE) else Path(recipe.data.dataset.removeprefix("folder:")).name
    return f"{re.sub(r'[^A-Za-z0-9.-]+', '-', data)}-{recipe.search.strategy}"


def _make_plan(recipe: SearchRecipe) -> SearchPlan:
    search = recipe.search
    return SearchPlan(
        space=resolve_space(recipe.space),
        trials=search.trials,
        seed=recipe.seed,
        failure_reward=search.failure_reward,
        name=search_name(recipe),
        asynchronous=search.asynchronous,
        patience=search.patience,
        rungs=recipe.halving.rungs,
        epochs=recipe.train.epochs,
        promote_fraction=recipe.halving.promote_fraction,
        inherit_weights=search.inherit_weights,
        objective=find_objective(recipe),
        cost=cost_quantity(recipe),
    )


def _open_snapshots(run: RunFolder, recipe: SearchRecipe) -> SnapshotFile:
    """Bound to the settings that the strategy is made from; the journal it belongs to says what it was told."""
    search = recipe.search
    sections = {"seed", "space", search.strategy, search.warm_start_strategy}
    keys = {"strategy", "warm_start_trials", "warm_start_strategy", "asynchronous"}
    made_from = recipe.model_dump(mode="json", include={**dict.fromkeys(sections, True), "search": keys})
    return SnapshotFile(run.file(SNAPSHOT), json.dumps(made_from, sort_keys=True))


def _make_rerank_plan(recipe: SearchRecipe, trials: Sequence[Trial]) -> RerankPlan:
    """The best by their first trainings alone, so that it is the same plan whatever was trained again already."""
    expected = expect_accuracies(trials, resolve_space(recipe.space))
    best = sort_expected(trials, expected, find_objective(recipe))[: recipe.rerank.top]
    epochs = recipe.rerank.epochs or recipe.train.epochs
    return RerankPlan([trial.id for trial in best], epochs, recipe.rerank.num_seeds, recipe.seed)


def _check_scored(trials: Sequence[Trial]) -> None:
    """Refuse to end a search without a single score (NascliError)."""
    if any(trial.scored for trial in trials):
        return
    failures = [trial.failure for trial in trials if trial.failure is not None]
    ((failure, times),) = Counter(failures).most_common(1)
    reason = f"most often ({count_of(times, 'time')}): {failure.error}"
    if count_trials(trials, TrialState.FAILED):
        all_of = "all " if len(trials) > 1 else ""
        raise NascliError(
            f"{all_of}{count_of(len(trials), 'trial')} failed; {reason}",
            "Try one cell alone with nascli train --cell, or a smaller train.lr",
        )
    raise NascliError(
        f"none of {count_of(len(trials), 'cell')} satisfies the constraints; {reason}",
        "Set wider constraints with --constraint",
    )
