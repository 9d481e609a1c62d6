"""A search as its run folder records it: run.json, recipe and journal, each held against the others. No torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nascli.config import SearchRecipe
from nascli.errors import InputError
from nascli.genotype.genotype import Genotype
from nascli.genotype.space import SearchSpace, resolve_space
from nascli.runs.find import read_run
from nascli.runs.record import check_recipe_file, parse_recipe
from nascli.search.journal import read_trials
from nascli.search.objective import describe_reward
from nascli.search.trial import Trial

JOURNAL = "trials.jsonl"

MAY_CHANGE = {
    "data": {"data_dir", "workers", "max_unreadable_images", "max_megapixels"},
    "search": {"workers"},
    "supernet": {"checkpoint_minutes", "checkpoint_steps"},
    "train": {"graphs"},
}
"""Keys of a search's `recipe.toml` that may be others when it is resumed: they do not touch what is in the journal."""


class RecordedSearch(NamedTuple):
    """The content of the run folder of a search, which may still be running; `record` is its `run.json`."""

    record: Mapping[str, Any]
    recipe: SearchRecipe
    space: SearchSpace
    trials: list[Trial]


def read_recorded(path: Path) -> RecordedSearch:
    """Read a search with all checks that resuming it makes, too.

    Raises:
        InputError: The folder is no run of a search.
        CorruptFileError: One of its files is damaged, or does not fit the others.
    """
    record = read_run(path, "search")
    recipe = parse_recipe(SearchRecipe, record, path)
    check_recipe_file(SearchRecipe, record, path, MAY_CHANGE)
    space = resolve_space(recipe.space)
    return RecordedSearch(record, recipe, space, read_trials(path / JOURNAL, space))


def check_trials(journal: Path, space: SearchSpace, total: int) -> None:
    """InputError where a journal has proposed more than `total` trials."""
    proposed = len(read_trials(journal, space)) if journal.exists() else 0
    if total < proposed:
        raise InputError(
            f"--trials {total}: {proposed} were proposed already ({journal})",
            f"Give {proposed} or more, or leave --trials out",
        )


def with_provenance(trial: Trial, recipe: SearchRecipe, run: Path, **figures: str | float) -> Genotype:
    """The genotype of a trial, with what it was found by in its provenance: the run, the reward, further figures."""
    reward = {} if trial.score is None else {"reward": trial.reward, "reward_is": describe_reward(recipe)}
    if trial.score is not None and recipe.weighs_cost:
        reward["accuracy"] = trial.score.accuracy
    provenance = {
        "source": "nascli search",
        "search_run": str(run),
        "trial": trial.id,
        **reward,
        **figures,
        "dataset": recipe.data.dataset,
        "strategy": recipe.search.strategy,
        "seed": recipe.seed,
    }
    return trial.genotype.model_copy(update={"provenance": provenance})
