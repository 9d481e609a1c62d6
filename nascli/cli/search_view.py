"""Progress of a search: a live view on a terminal, else a line per finished trial; both on stderr."""

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nascli.cli.console import Terminal
from nascli.cli.latency_view import describe_spread
from nascli.config import SearchRecipe, find_evaluator
from nascli.search.recommend import Recommendation
from nascli.search.trial import Trial, TrialState
from nascli.text import printable
from nascli.units import count_of, format_duration, format_quantity

_BEST_SHOWN = 8
_RUNNING_SHOWN = 8


@contextmanager
def watch(terminal: Terminal, title: str, recipe: SearchRecipe) -> "Iterator[PlainView | LiveView]":
    """An observer that shows a search: a live view if stderr is a terminal, else lines."""
    if not terminal.notes.is_terminal:
        yield PlainView(terminal, recipe)
        return
    view = LiveView(terminal, title, recipe)
    with view.live:
        yield view


def name_source(recipe: SearchRecipe) -> str:
    """The source of the rewards: a data set, or a table."""
    evaluator = recipe.search.evaluator
    return recipe.data.dataset if find_evaluator(evaluator).trains_children else evaluator


def format_percent(reward: float | None) -> str:
    """An accuracy."""
    return "-" if reward is None else f"{reward:.2%}".replace("%", " %")


def format_reward(trial: Trial, recipe: SearchRecipe) -> str:
    """The reward of a trial that has a score; in percent if it is an accuracy, and with that if it weighs a cost."""
    accuracy = trial.score.accuracy if trial.score else None
    if accuracy is None:
        return f"{trial.reward:.4g}"
    return f"{trial.reward:.4f} ({format_percent(accuracy)})" if recipe.weighs_cost else format_percent(trial.reward)


def table_row(trial: Trial, recipe: SearchRecipe) -> tuple[str, ...]:
    """A complete trial as a row of a table with the columns `COLUMNS`."""
    assert trial.score is not None
    score = trial.score
    return (
        str(trial.id),
        format_reward(trial, recipe),
        format_quantity(score.params) if score.params else "-",  # a table may not say
        format_quantity(score.mult_adds) if score.mult_adds else "-",
        format_duration(score.seconds),
        trial.hash[:8],
    )


COLUMNS = ("trial", "reward", "params", "mult-adds", "time", "hash")


def show_best(terminal: Terminal, found: Recommendation, total: int, recipe: SearchRecipe) -> None:
    """The best trials of a search that has ended, with the file of each."""
    best = found.trials[: recipe.search.top]
    again = any(trial.reranks for trial in best)
    timed = any(trial.latency for trial in best)
    more = [
        *(["expected"] if found.expected else []),
        *(["trained again"] if again else []),
        *(["latency"] if timed else []),
    ]
    rows = []
    for place, trial in enumerate(best, start=1):
        number, reward, *figures = table_row(trial, recipe)
        longer = [
            *([format_percent(found.expected.get(trial.id))] if found.expected else []),
            *([_ranking(trial)] if again else []),
            *([_latency(trial)] if timed else []),
        ]
        rows.append((number, reward, *longer, *figures, f"top/{place:02d}.json"))
    columns = (*COLUMNS[:2], *more, *COLUMNS[2:], "file")
    terminal.show_table(f"best of {total} trials on {name_source(recipe)}", rows, columns)


def _latency(trial: Trial) -> str:
    if trial.latency is None:
        return "-"
    figure, spread = describe_spread(trial.latency)
    return figure if trial.latency.is_tabled else f"{figure} ({spread})"


def _ranking(trial: Trial) -> str:
    """Mean and standard deviation over the seeds of the trainings after the search."""
    accuracies = [rerank.accuracy for rerank in trial.reranks]
    if not accuracies:
        return "-"
    spread = f" ± {statistics.stdev(accuracies):.2%}".replace("%", "") if len(accuracies) > 1 else ""
    return f"{statistics.fmean(accuracies):.2%}".replace("%", "") + f"{spread} %"


class _Board:
    """The state of a search: counts, the best trials, those that run, the time left."""

    def __init__(self, terminal: Terminal, recipe: SearchRecipe) -> None:
        self._terminal, self._recipe = terminal, recipe
        self.total = recipe.search.trials
        self.finished = 0
        self.best: list[Trial] = []
        self.started: dict[int, float] = {}
        self.diagnostics: Mapping[str, float] = {}
        self.last_failure = ""
        self._since = time.monotonic()
        self._before = 0
        self._states: Counter[str] = Counter()

    def on_start(self, trials: Sequence[Trial]) -> None:
        """Start from the trials of earlier sessions."""
        for trial in trials:
            self._count(trial)
        self._since, self._before = time.monotonic(), self.finished

    def on_update(self, told: int, diagnostics: Mapping[str, float]) -> None:
        """Keep the strategy's diagnostics."""
        self.diagnostics = diagnostics

    def on_message(self, text: str) -> None:
        """One line."""
        self._terminal.note(text)

    def _count(self, trial: Trial) -> None:
        """Count a trial's new state."""
        if trial.reranks:
            return
        if trial.failure is not None and trial.state is TrialState.FAILED:
            self.last_failure = f"trial {trial.id}: {trial.failure.error}"
        if not trial.finished:
            if trial.duplicate_of is None:
                self.started[trial.id] = time.monotonic()
            return
        self.started.pop(trial.id, None)
        self.finished += 1
        self._states["duplicate" if trial.duplicate_of is not None else trial.state] += 1
        if trial.scored:
            self.best = sorted([*self.best, trial], key=lambda each: each.sort_key)[:_BEST_SHOWN]

    @property
    def elapsed(self) -> float:
        """Seconds of this session."""
        return time.monotonic() - self._since

    @property
    def left(self) -> float | None:
        """Seconds to go at the pace so far; None before the first result."""
        done = self.finished - self._before
        return self.elapsed / done * (self.total - self.finished) if done else None


class PlainView(_Board):
    """A line for every trial that finishes."""

    def on_start(self, trials: Sequence[Trial]) -> None:
        """Count the trials of earlier sessions."""
        super().on_start(trials)
        if trials:
            self._terminal.note(f"the journal holds {self.finished} finished trials")

    def on_trial(self, trial: Trial) -> None:
        """One line, if the trial finished."""
        self._count(trial)
        if what := _news(trial, self._recipe):
            self._terminal.note(f"trial {trial.id}: {what}  ({self.progress})")

    @property
    def progress(self) -> str:
        """The progress in a few words."""
        best = f", best {format_reward(self.best[0], self._recipe)}" if self.best else ""
        left = f", about {format_duration(self.left)} left" if self.left else ""
        return f"{self.finished}/{self.total}{best}{left}"


def _news(trial: Trial, recipe: SearchRecipe) -> str:
    """The news about a trial in one line; empty if there are none."""
    if trial.reranks:
        last = trial.reranks[-1]
        return f"trained again for {last.epochs} epochs, seed {last.index}: {format_percent(last.accuracy)}"
    if trial.failure is not None:
        return f"{trial.state}: {trial.failure.error}"
    if trial.score is None:
        return ""
    if trial.duplicate_of is not None:
        return f"{format_reward(trial, recipe)} (duplicate of trial {trial.duplicate_of})"
    _, reward, params, mult_adds, took, _ = table_row(trial, recipe)
    stopped = f", stopped after {trial.rungs[-1].epochs} epochs" if trial.stopped else ""
    return f"{reward}, {params} params, {mult_adds} mult-adds, {took}{stopped}"


class LiveView(_Board):
    """The best cells, the trials that run, and the progress, redrawn in place."""

    def __init__(self, terminal: Terminal, title: str, recipe: SearchRecipe) -> None:
        super().__init__(terminal, recipe)
        self._title = title
        self.live = Live(
            console=terminal.notes, get_renderable=self.render, refresh_per_second=4, transient=True, screen=False
        )

    def on_trial(self, trial: Trial) -> None:
        """Redraw."""
        self._count(trial)
        self.live.refresh()

    def render(self) -> RenderableType:
        """The view of this moment."""
        left = "" if self.left is None or self.finished == self.total else f"about {format_duration(self.left)} left"
        bar = Table.grid(padding=(0, 2))
        bar.add_row(
            ProgressBar(total=self.total, completed=self.finished, width=40),
            Text(f"{self.finished}/{self.total}", "bold"),
            Text(f"{format_duration(self.elapsed)} so far", "dim"),
            Text(left, "dim"),
        )
        parts: list[RenderableType] = [Text(printable(self._title), "bold"), bar, self.counts, ""]
        parts.append(_best_table(self.best, self._recipe))
        parts += ["", _running_line(self.started)]
        if learned := _describe_learning(self.diagnostics, self.format_value):
            parts.append(Text.assemble(("controller  ", "bold"), (learned, "dim")))
        if self.last_failure:
            parts.append(Text.assemble(("last failure  ", "bold"), (printable(self.last_failure), "red")))
        return Group(*parts)

    def format_value(self, reward: float) -> str:
        """A value in the unit of the rewards."""
        is_accuracy = find_evaluator(self._recipe.search.evaluator).is_accuracy and not self._recipe.weighs_cost
        return format_percent(reward) if is_accuracy else f"{reward:.4g}"

    @property
    def counts(self) -> Text:
        """Trained, duplicates, rejected, failed."""
        states = self._states
        parts: list[str | tuple[str, str]] = [f"{states[TrialState.COMPLETE]} trained"]
        parts += [count_of(states["duplicate"], "duplicate")] if states["duplicate"] else []
        parts += [f"{states[TrialState.REJECTED]} rejected"] if states[TrialState.REJECTED] else []
        parts += [(f"{states[TrialState.FAILED]} failed", "red")] if states[TrialState.FAILED] else []
        return Text(" · ").join(Text.assemble(part) for part in parts)


def _best_table(best: Sequence[Trial], recipe: SearchRecipe) -> RenderableType:
    if not best:
        return Text("none is trained yet", "dim")
    made = Table(box=None, pad_edge=False, header_style="bold", title="best so far", title_justify="left")
    for column in COLUMNS:
        made.add_column(column, justify="right")
    for place, trial in enumerate(best):
        made.add_row(*table_row(trial, recipe), style="green" if place == 0 else None)
    return made


def _running_line(started: Mapping[int, float]) -> Text:
    now = time.monotonic()
    line = Text("training  ", "bold")
    for number, since in list(started.items())[:_RUNNING_SHOWN]:
        line.append(f"trial {number}")
        line.append(f" {format_duration(now - since)}   ", "dim")
    if len(started) > _RUNNING_SHOWN:
        line.append(f"and {len(started) - _RUNNING_SHOWN} more", "dim")
    return line


def _describe_learning(learning: Mapping[str, float], format_value: Callable[[float], str]) -> str:
    """The state of a controller; empty for other strategies."""
    said = {
        "updates": count_of(int(learning.get("updates", 0)), "update"),
        "entropy": f"entropy {learning.get('entropy', 0):.1f} nats",
        "baseline": f"baseline {format_value(learning.get('baseline', 0.0))}",
    }
    return " · ".join(text for name, text in said.items() if name in learning)
