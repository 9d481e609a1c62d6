"""The best cells of a search: their pictures, their files, and what training them again said."""

import shlex
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nascli.errors import NascliError
from nascli.files import read_json
from nascli.genotype.drawing import genotype_png, genotype_svg
from nascli.report.figures import Picture, inline_svg
from nascli.report.search_data import SearchData, reward_of
from nascli.search.study import best_trials
from nascli.search.trial import Trial

_MOST_DRAWN = 5
_PNG_SCALE = 1.0


@dataclass(frozen=True)
class Reranked:
    """A trial's trainings after the search, at their largest number of epochs.

    Args:
        trial: The trial.
        epochs: Of each of the trainings.
        mean: Of their accuracies.
        deviation: Sample standard deviation over seeds; None for one seed.
        seeds: How many trainings.
    """

    trial: Trial
    epochs: int
    mean: float
    deviation: float | None
    seeds: int


def shown_trials(data: SearchData) -> list[Trial]:
    """The trials that are drawn: the best by reward, or by what training them again said where that was done."""
    again = [each.trial for each in reranked_trials(data)]
    return (again or best_trials(data.trials, data.recipe.search.top))[:_MOST_DRAWN]


def reranked_trials(data: SearchData) -> list[Reranked]:
    """The trials that were trained again after the search, best mean first."""
    found = []
    for trial in data.scored:
        if trial.reranks:
            epochs = max(rerank.epochs for rerank in trial.reranks)
            scores = [rerank.accuracy for rerank in trial.reranks if rerank.epochs == epochs]
            deviation = statistics.stdev(scores) if len(scores) > 1 else None
            found.append(Reranked(trial, epochs, statistics.fmean(scores), deviation, len(scores)))
    return sorted(found, key=lambda each: (-each.mean, each.trial.id))


def cell_pictures(data: SearchData) -> list[Picture]:
    """Both cells of each of the best trials."""
    return [_cell_picture(data, place, trial) for place, trial in enumerate(shown_trials(data), start=1)]


def train_command(data: SearchData, trial: Trial) -> str:
    """What trains a trial's cell in full: from its file in `top/`, or one that is written first."""
    dataset = shlex.quote(data.recipe.data.dataset)
    file = _written(data.path).get(trial.id)
    if file is not None:
        return f"nascli train --cell {shlex.quote(str(file))} --dataset {dataset}"
    name = f"trial-{trial.id}.json"
    decode = f"nascli decode {shlex.quote(str(data.path))} --trial {trial.id} --out {name}"
    return f"{decode} && nascli train --cell {name} --dataset {dataset}"


def _cell_picture(data: SearchData, place: int, trial: Trial) -> Picture:
    assert trial.score is not None
    score = trial.score
    figures = (
        f"{data.measure} {data.amount(score.reward)}, {score.params:,} params, {score.mult_adds:,} mult-adds as a child"
    )
    name = f"cell-{place:02d}"
    alt = f"Normal and reduction cell of trial {trial.id}: {figures}."
    return Picture(
        name=name,
        title=f"{place}. Trial {trial.id}: {data.amount(reward_of(trial))}",
        caption=f"{figures[:1].upper()}{figures[1:]}. Canonical hash {trial.hash}.",
        alt=alt,
        svg=inline_svg(genotype_svg(trial.genotype), name, alt),
        png=genotype_png(trial.genotype, _PNG_SCALE),
    )


def _written(run: Path) -> dict[int, Path]:
    """The files of `top/` by the trial that they say they are of."""
    return {trial: file for file in sorted((run / "top").glob("*.json")) for trial in _trial_of(file)}


def _trial_of(file: Path) -> Iterator[int]:
    try:
        provenance = read_json(file).get("provenance")
    except NascliError:
        return
    trial = provenance.get("trial") if isinstance(provenance, dict) else None
    if isinstance(trial, int):
        yield trial
