"""The words and tables of a search's report, section by section."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence

from nascli.config import to_toml
from nascli.report.best_cells import reranked_trials, shown_trials, train_command
from nascli.report.figures import Picture
from nascli.report.page import Html, command, facts, foldable, joined, paragraph, pictures, table, words
from nascli.report.random_baseline import baseline_command, chance_to_reach, random_curve
from nascli.report.search_data import SearchData, best_so_far, reward_of
from nascli.search.study import best_trials
from nascli.search.trial import Trial, TrialState

_MOST_ERRORS = 20
_LONGEST_ERROR = 300
_MANY_WITHOUT_RESULT = 0.2
_PROXY = (
    "Proxy accuracy is that of a small network on held-out training images after a short training. It ranks cells; it "
    "is not final accuracy, which nascli train measures on the test split, and the two are never to be compared."
)


def head(data: SearchData, warnings: Sequence[str]) -> list[Html]:
    """What was searched, what it came to, and what to mind."""
    recipe = data.recipe
    best = best_trials(data.trials, 1)
    results = data.record.get("results") or {}
    seconds = results.get("seconds")
    child_seconds = sum(trial.score.seconds for trial in data.scored if trial.score)
    pairs = [
        (
            f"Best {data.measure}",
            data.amount(reward_of(best[0])) if best else "none yet",
            f"trial {best[0].id}" if best else "",
        ),
        ("Data set", recipe.data.dataset, f"{recipe.search.holdout:.0%} of its training split held out"),
        ("Strategy", recipe.search.strategy, _warmup(data)),
        ("Search space", recipe.space.name, data.space.summary()),
        ("Evaluator", recipe.search.evaluator, f"{recipe.train.epochs} epochs" if data.trains else ""),
        ("Seed", str(recipe.seed), ""),
        ("Trials", f"{len(data.trials):,}", f"of {recipe.search.trials:,} asked"),
        ("Trained" if data.trains else "Scored", f"{len(data.scored):,}", ""),
        ("Duplicates", f"{data.duplicates:,}", "take an earlier result"),
        ("Rejected", f"{data.count(TrialState.REJECTED):,}", "violate a constraint"),
        ("Failed", f"{data.count(TrialState.FAILED):,}", ""),
        ("Wall time", _duration(seconds) if isinstance(seconds, int | float) else "not known yet", ""),
        ("Child-seconds", f"{child_seconds:,.0f}", "summed over children"),
        (
            "Status",
            str(data.record.get("status", "unknown")),
            str(data.record.get("finished") or "").replace("T", " ").replace("+00:00", " UTC"),
        ),
    ]
    title = f"Search on {recipe.data.dataset} by {recipe.search.strategy}"
    return [
        Html(f"<h1>{words(title)}</h1>"),
        Html(f'<div class="path">{words(data.path)}</div>'),
        facts(pairs),
        paragraph(_PROXY if data.trains else "The reward here is a score without training; it is no accuracy."),
        *(paragraph(warning, "warning") for warning in warnings),
    ]


def cautions(data: SearchData) -> Iterator[str]:
    """What a reader should mind, apart from what the strategy says of itself."""
    lost = data.count(TrialState.FAILED)
    tried = lost + len(data.scored)
    if tried and lost / tried > _MANY_WITHOUT_RESULT:
        yield f"{lost} of {tried} children failed: the best is the best of what survived. The errors are listed below."
    running = sum(not trial.finished for trial in data.trials)
    if data.record.get("status") != "complete" or running:
        yield f"The search is not complete ({running} trials without an outcome): everything here is as of now."


def verdict(data: SearchData, random: SearchData | None) -> str:
    """How the search stands against random search with as many trials, in words."""
    if random is None:
        return "There is no random search to compare with, so nothing here shows that the strategy did anything."
    if random.path == data.path:
        return "This is a random search: it is the baseline of others, and has none itself."
    if not data.complete:
        return "No trial has a result yet."
    curve = random_curve(random)
    budget = min(len(data.finished), curve.trials)
    best = best_so_far([trial.score.reward if trial.score else None for trial in data.finished[:budget]])[-1]
    low, mean, high = curve.at(budget)
    place = "above" if best > high else "below" if best < low else "inside"
    reached = sum(reward_of(trial) >= best for trial in random.complete)
    said = (
        f"After {budget} trials each: {data.recipe.search.strategy} {data.amount(best)}, random search "
        f"{data.amount(mean)} on average ({data.amount(low)} to {data.amount(high)}), so the search lies {place} the "
        f"band. {reached} of the {curve.trials} random trials reach what the search reached."
    )
    if 2 * budget > curve.trials:
        said += (
            f" That is hardly more than one random search of this length: a random search of {2 * budget:,} trials or "
            "more would say how often luck alone reaches as far."
        )
    else:
        said += f" In {chance_to_reach(random, best, budget):.2%} of its orderings {budget} trials reach as far."
    return said


def against_random(data: SearchData, random: SearchData | None, progress: Sequence[Picture]) -> list[Html]:
    """The comparison, or how to get one."""
    parts = [paragraph(verdict(data, random), "verdict")]
    if random is None:
        parts += [
            paragraph("A search by random with the same data, network and training is made by:"),
            command(baseline_command(data)),
            paragraph("Then make this report again; the newest such search beside this run folder is found by itself."),
        ]
    elif random.path != data.path:
        parts += [
            paragraph(f"Baseline: {random.path}, seed {random.recipe.seed}, {len(random.finished)} trials."),
            paragraph(
                "One search is one draw: strategies are told apart by several searches with different seeds, and in "
                "the end by the final accuracy of their cells."
            ),
        ]
    return [*parts, pictures(progress)]


def all_trials(data: SearchData, rewards: Picture | None) -> list[Html]:
    """Every reward, in order."""
    values = [reward_of(trial) for trial in data.scored]
    if not values:
        return [paragraph("No trial has a result yet."), pictures([rewards], "single")]
    mean = sum(values) / len(values)
    spread = (sum((value - mean) ** 2 for value in values) / max(len(values) - 1, 1)) ** 0.5
    said = f"Mean {data.measure} of the {len(values)} evaluated cells {data.amount(mean)}, standard deviation "
    return [paragraph(f"{said}{data.amount(spread)}."), pictures([rewards], "single")]


def learning(data: SearchData, curves: Picture | None) -> list[Html]:
    """The strategy's own diagnostics, where it has any."""
    if curves is None:
        return [paragraph(f"The run holds no diagnostics of {data.recipe.search.strategy}.")]
    return [pictures([curves], "single")]


def sizes(costs: Sequence[Picture]) -> list[Html]:
    """Cost against reward."""
    if not costs:
        return [paragraph("No trial has a result yet.")]
    said = "Where the larger cells are simply the better ones, the search has found size; look along the front."
    return [paragraph(said), pictures(costs)]


def choices(data: SearchData, maps: Sequence[Picture]) -> list[Html]:
    """Ops and inputs over time."""
    said = (
        "All proposals count, duplicates too: this is what the strategy prefers. Each row can be read against the "
        "first column, the share that uniform choice would give it."
    )
    one = (
        " One cell serves as normal and reduction cell in this space."
        if getattr(data.space, "cells", "two") == "one"
        else ""
    )
    return [paragraph(said + one), pictures(maps)]


def best_cells(data: SearchData, cells: Sequence[Picture]) -> list[Html]:
    """The best cells drawn, each with the command that trains it."""
    parts: list[Html] = []
    if again := reranked_trials(data):
        rows = [
            (
                f"{each.trial.id}",
                data.amount(reward_of(each.trial)),
                f"{each.mean:.2%}" + ("" if each.deviation is None else f" ± {100 * each.deviation:.2f}"),
                f"{each.seeds}",
                f"{each.epochs}",
                train_command(data, each.trial),
            )
            for each in again
        ]
        columns = ("trial", f"{data.measure} in the search", "trained again", "seeds", "epochs", "train it in full")
        parts += [
            paragraph(
                "The best were trained again after the search (mean ± standard deviation over seeds). The reward that "
                "a cell was picked for flatters it, on average; this accuracy is fresh, and still a proxy."
            ),
            table(columns, rows, numbers=(0, 1, 2, 3, 4)),
        ]
    if not cells:
        return [*parts, paragraph("No trial has a result yet.")]
    for trial, picture in zip(shown_trials(data), cells, strict=True):
        parts += [pictures([picture], "single"), command(train_command(data, trial))]
    return parts


def cost(data: SearchData, seconds: Picture | None) -> list[Html]:
    """Time, failures, rungs."""
    parts = [pictures([seconds]) if seconds else paragraph("The evaluations took no time worth a picture.")]
    if any(trial.rungs for trial in data.trials):
        rows = [(f"{epochs}", f"{count}") for epochs, count in sorted(rung_counts(data).items())]
        parts += [
            paragraph(
                "Successive halving: after how many epochs children were stopped. A reward is the accuracy at that "
                "point, so those of children stopped early and late are not of one kind."
            ),
            table(("epochs", "children that ended there"), rows, numbers=(0, 1)),
        ]
    parts += _failures(data, TrialState.FAILED, "Failures")
    parts += _failures(data, TrialState.REJECTED, "Rejected before training")
    return parts


def rung_counts(data: SearchData) -> Counter[int]:
    """How many complete children ended after how many epochs, with successive halving."""
    return Counter(_epochs_of(trial, data) for trial in data.scored)


def setup(data: SearchData) -> list[Html]:
    """Everything that repeats the run."""
    record = data.record
    versions = record.get("versions") or {}
    machine = record.get("machine") or {}
    rows = [
        ("seed", str(data.recipe.seed)),
        ("device", str((record.get("asked") or {}).get("device", "not said"))),
        *((f"version of {name}", str(version)) for name, version in versions.items()),
        *((name, str(value)) for name, value in machine.items()),
        ("command line", " ".join(["nascli", *map(str, record.get("argv") or [])])),
        ("started", str(record.get("started", ""))),
        ("finished", str(record.get("finished") or "")),
        ("resumed", f"{record.get('resumed', 0)} times"),
        *((f"SHA-256 of {file}", str(digest)) for file, digest in (record.get("inputs") or {}).items()),
    ]
    return [
        table(("what", "value"), rows),
        paragraph("The resolved recipe; nascli search --recipe with this text repeats the run."),
        foldable("recipe.toml", to_toml(data.recipe)),
        foldable("results in run.json", json.dumps(record.get("results"), indent=2)),
    ]


def _failures(data: SearchData, state: TrialState, title: str) -> list[Html]:
    """Errors by kind and text, the most frequent first."""
    failed = [trial.failure for trial in data.trials if trial.state is state and trial.duplicate_of is None]
    counts = Counter((str(failure.kind), failure.error) for failure in failed if failure is not None)
    if not counts:
        return [paragraph("No child failed.")] if state is TrialState.FAILED else []
    rows = [(kind, _cut(error), f"{times}") for (kind, error), times in counts.most_common(_MOST_ERRORS)]
    rest = counts.total() - sum(times for _, times in counts.most_common(_MOST_ERRORS))
    more = [paragraph(f"and {rest} more with {len(counts) - len(rows)} other texts")] if rest else []
    return [Html(f"<h3>{title}</h3>"), joined([table(("kind", "error", "trials"), rows, numbers=(2,)), *more])]


def _epochs_of(trial: Trial, data: SearchData) -> int:
    """The epochs after which a complete trial ended."""
    return trial.rungs[-1].epochs if trial.stopped else data.recipe.train.epochs


def _warmup(data: SearchData) -> str:
    search = data.recipe.search
    return (
        f"after {search.warm_start_trials} proposals of {search.warm_start_strategy}"
        if search.warm_start_trials
        else ""
    )


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_ERROR else f"{text[: _LONGEST_ERROR - 1]}…"


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60:02d} min" if hours else f"{rest // 60} min {rest % 60:02d} s"
