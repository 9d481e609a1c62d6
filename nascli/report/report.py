"""The report of a search: one HTML page that needs nothing else, and its figures as PNG files beside it.

`report.html.j2` holds the page and its texts; here are the values that it shows.
"""

import json
import re
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from nascli.config import to_toml
from nascli.errors import InputError, NascliError
from nascli.files import make_folder, make_inner_folder, write_bytes, write_text, writing
from nascli.records import read_record
from nascli.report.baseline import baseline_command, choose_baseline, compare_with_random
from nascli.report.cell_plots import draw_best_cells, plot_choices, plot_seconds
from nascli.report.figures import RenderedFigure, report_style
from nascli.report.front_data import FrontData, compare_at_target, select_main
from nascli.report.front_plots import plot_fronts, plot_hypervolume
from nascli.report.progress_plots import plot_learning, plot_progress, plot_rewards
from nascli.report.search_data import SearchData, read_search, reward_of, select_best, summarize_reranks
from nascli.report.template import render_page
from nascli.search.strategies.strategy import COLLAPSED
from nascli.search.trial import Trial, TrialState
from nascli.text import quote, quote_command
from nascli.text_files import read_text
from nascli.units import UNITS, format_duration, format_quantity, shorten

PAGE = "report.html"
FIGURES = "report"
"""The folder of the PNG files, beside the page."""

_MAX_ERRORS = 20
_MAX_ERROR_LENGTH = 300
_MANY_FAILED = 0.2


@dataclass(frozen=True)
class SearchReport:
    """The files of a report, and its conclusions.

    Args:
        baseline: The run folder of the random search it was compared with; None where there is none.
        verdict: The search beside random search, in a few sentences.
        warnings: Reasons to doubt the search.
        front: Accuracies and costs of the search, beside those of the baseline.
    """

    page: Path
    dataset: str
    figures: tuple[Path, ...]
    baseline: Path | None
    verdict: str
    warnings: tuple[str, ...]
    front: FrontData


def write_search_report(run: Path, *, baseline: Path | None = None, out: Path | None = None) -> SearchReport:
    """Write the report of a search run, which may still be running.

    The same run gives the same files, byte for byte. An earlier report in the folder is replaced.

    Args:
        run: The run folder of a search.
        baseline: The run folder of a random search; default: the newest comparable one beside `run`.
        out: The folder to write into, made if it is not there; default: `run`.

    Raises:
        InputError: `run` is no search run or has no trial yet, or `baseline` cannot be compared with it.
        CorruptFileError: A file of a run is damaged.
        NascliError: The folder cannot be written.
    """
    data = read_search(run)
    folder = run if out is None else out
    if not data.trials:
        raise InputError(f"{run} has no trial yet, so there is nothing to report", "Wait for its first, or resume it")
    random = choose_baseline(data, baseline)
    make_folder(folder)  # before anything is drawn, to refuse a folder that cannot be written
    make_inner_folder(folder / FIGURES)
    warnings = tuple(collect_warnings(data))
    main = select_main(data, random)
    verdict = f"{compare_with_random(data, random)} {compare_at_target(main)}".rstrip()
    with report_style():
        plots: dict[str, Sequence[RenderedFigure | None]] = {
            "progress": plot_progress(data, random),
            "rewards": [plot_rewards(data)],
            "learning": [plot_learning(data)],
            "fronts": plot_fronts(main),
            "hypervolume": [plot_hypervolume(main)],
            "choices": plot_choices(data),
            "cells": draw_best_cells(data),
            "seconds": [plot_seconds(data)],
        }
    drawn = {name: [figure for figure in group if figure is not None] for name, group in plots.items()}
    page = _render_page(data, random, drawn, main=main, verdict=verdict, warnings=warnings)
    files = _write(folder, page, [figure for group in drawn.values() for figure in group])
    return SearchReport(
        folder / PAGE, data.recipe.data.dataset, files, random.path if random else None, verdict, warnings, main
    )


def collect_warnings(data: SearchData) -> Iterator[str]:
    """Reasons to doubt the search: a collapsed controller, many failed children, an end that is not reached."""
    if collapse := collapse_warning(data):
        yield collapse
    lost = data.count(TrialState.FAILED)
    tried = lost + len(data.scored)
    if tried and lost / tried > _MANY_FAILED:
        yield f"{lost} of {tried} children failed: the best is the best of what survived. The errors are listed below."
    running = sum(not trial.finished for trial in data.trials)
    if data.record.get("status") != "complete" or running:
        yield f"The search is not complete ({running} trials without an outcome): everything here is as of now."


def collapse_warning(data: SearchData) -> str | None:
    """A warning of a controller whose entropy went to nearly nothing; None where it did not, or is not known."""
    known = [update for update in data.updates if "entropy" in update and "trials" in update]
    bound = COLLAPSED * data.uniform_entropy
    if not known or known[-1]["entropy"] >= bound:
        return None
    above = [place for place, update in enumerate(known) if update["entropy"] >= bound]
    since = known[above[-1] + 1 if above else 0]["trials"]  # since then it stayed below
    later = [trial for trial in data.finished if trial.id >= since]
    duplicates = sum(trial.duplicate_of is not None for trial in later)
    since_then = f"; {duplicates} of the {len(later)} trials since then are duplicates" if later else ""
    return (
        f"The controller's entropy collapsed: since trial {since:.0f} it is under {COLLAPSED:.0%} of that of uniform "
        f"proposals (now {known[-1]['entropy']:.3g} of {data.uniform_entropy:.3g} nats), so it proposes variations of "
        f"few cells{since_then}. The search explores little after this point: a larger entropy weight or a smaller "
        "learning rate keeps it open longer."
    )


def train_command(data: SearchData, trial: Trial) -> str:
    """The command that trains a trial's cell in full: from its file in `top/`, or one that is written first."""
    dataset = data.recipe.data.dataset
    file = _find_cell_files(data.path).get(trial.id)
    if file is not None:
        return quote_command(["nascli", "train", "--cell", file, "--dataset", dataset])
    name = f"trial-{trial.id}.json"
    decode = f"nascli decode {quote(data.path)} --trial {trial.id} --out {name}"
    return f"{decode} && nascli train --cell {name} --dataset {quote(dataset)}"


def rung_counts(data: SearchData) -> Counter[int]:
    """The number of complete children by the epochs after which they ended, with successive halving."""
    return Counter(trial.rungs[-1].epochs if trial.stopped else data.recipe.train.epochs for trial in data.scored)


class _Failures(NamedTuple):
    """Rows (kind, error, trials), the most frequent first, and how many trials and texts have no row."""

    rows: list[tuple[str, str, int]]
    trials: int
    texts: int


def _render_page(
    data: SearchData,
    random: SearchData | None,
    figures: dict[str, list[RenderedFigure]],
    *,
    main: FrontData,
    verdict: str,
    warnings: Sequence[str],
) -> str:
    """The whole document; of its values the SVG of the figures alone is not escaped."""
    rewards = [reward_of(trial) for trial in data.scored]
    return render_page(
        "report.html.j2",
        data=data,
        recipe=data.recipe,
        random=random,
        figures=figures,
        main=main,
        verdict=verdict,
        warnings=warnings,
        best_trial=next(iter(data.recommendation.trials), None),
        child_seconds=sum(trial.score.seconds for trial in data.scored if trial.score),
        duplicates=sum(trial.duplicate_of is not None for trial in data.trials),
        count=lambda state: data.count(TrialState(state)),
        format_duration=format_duration,
        format_quantity=format_quantity,
        format_latency=lambda seconds: format_quantity(seconds, UNITS["latency"]),
        front_command=quote_command(["nascli", "decode", data.path, "--front", "--out", "front.json"]),
        baseline_command=baseline_command(data),
        mean=data.format_reward(statistics.fmean(rewards)) if rewards else "",
        deviation=data.format_reward(statistics.stdev(rewards) if len(rewards) > 1 else 0.0) if rewards else "",
        reranks=[(each, data.format_reward(reward_of(each.trial))) for each in summarize_reranks(data)],
        best=select_best(data),
        train_command=lambda trial: train_command(data, trial),
        rungs=sorted(rung_counts(data).items()) if any(trial.rungs for trial in data.trials) else [],
        failed=_count_failures(data, TrialState.FAILED),
        rejected=_count_failures(data, TrialState.REJECTED),
        toml=to_toml(data.recipe),
        results=json.dumps(data.record.get("results"), indent=2),
    )


def _count_failures(data: SearchData, state: TrialState) -> _Failures:
    trials = [trial.failure for trial in data.trials if trial.state is state and trial.duplicate_of is None]
    counts = Counter((str(failure.kind), failure.error) for failure in trials if failure is not None)
    rows = [
        (kind, shorten(error, _MAX_ERROR_LENGTH), times) for (kind, error), times in counts.most_common(_MAX_ERRORS)
    ]
    return _Failures(rows, counts.total() - sum(times for *_, times in rows), len(counts) - len(rows))


def _find_cell_files(run: Path) -> dict[int, Path]:
    """The files of `top/` by the trial in their provenance."""
    found = {}
    for file in sorted((run / "top").glob("*.json")):
        try:
            provenance = read_record(file).get("provenance")
        except NascliError:
            continue
        trial = provenance.get("trial") if isinstance(provenance, dict) else None
        if isinstance(trial, int):
            found[trial] = file
    return found


def _write(folder: Path, page: str, figures: Sequence[RenderedFigure]) -> tuple[Path, ...]:
    """Write the figures, then the page; figures that an earlier page names and this one has not are removed."""
    page_file = folder / PAGE
    earlier = read_text(page_file, None, "replace") if page_file.is_file() else ""  # other files are the user's
    names = re.findall(r'<figure id="figure-([a-z0-9-]+)"', earlier)
    files = tuple(folder / FIGURES / f"{figure.name}.png" for figure in figures)
    for file, figure in zip(files, figures, strict=True):
        write_bytes(file, figure.png)
    with writing(folder):
        for stale in {folder / FIGURES / f"{name}.png" for name in names} - set(files):
            stale.unlink(missing_ok=True)
    write_text(page_file, page)
    return files
