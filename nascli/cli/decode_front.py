"""The front of a search run for `nascli decode --front`: its networks as a table, and each with its files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nascli.cli.console import Terminal
from nascli.cli.latency_view import format_latency
from nascli.cli.options import Call, Setting, runs_folder
from nascli.config import find_evaluator
from nascli.errors import InputError
from nascli.genotype.genotype import Genotype
from nascli.runs.find import find_run
from nascli.text import quote
from nascli.units import count_of, format_quantity

if TYPE_CHECKING:
    from nascli.search.front import Member

FRONT = Setting[bool](
    "--front",
    "All networks of the run that no other beats in accuracy and cost. Each gets files of its own: --out a.json writes "
    "a-01.json and so on.",
    False,
)
ACCURACY_OF = {True: "proxy accuracy", False: "reward"}


@dataclass(frozen=True)
class Front:
    """The front of a run, cheapest network first, with the genotypes in the same order.

    Args:
        cost_is: The quantity that stands against the accuracy.
        is_accuracy: Whether the networks were trained; else their rewards take the place of accuracies.
    """

    run: Path
    members: Sequence["Member"]
    genotypes: Sequence[Genotype]
    cost_is: str
    is_accuracy: bool


def find_run_front(call: Call, source: Setting[str | None], allowed: Sequence[object], terminal: Terminal) -> Front:
    """The front of the run that is meant; InputError where it is none, or an option asks for something else."""
    from nascli.search.front import cost_quantity, front_of
    from nascli.search.recorded import read_recorded, with_provenance

    if refused := [each.flag for each in call.given if each not in (source, FRONT, *allowed)]:
        raise InputError(f"{refused[0]} is about one network, and --front shows several", "Leave one of the two out")
    if call[source] is None:
        raise InputError("--front belongs to a search run", "Give its folder, or latest, as SOURCE")
    run = find_run(str(call[source]), "search", runs_folder(), terminal.note)
    _, recipe, _, trials = read_recorded(run)
    cost_is = cost_quantity(recipe)
    members = front_of(trials, cost_is)
    if not members:
        raise InputError(f"{run}: no trial has its result yet, so there is no front", "Wait for one, or resume it")
    genotypes = [
        with_provenance(member.trial, recipe, run, accuracy=member.accuracy, cost=member.cost, cost_is=cost_is)
        for member in members
    ]
    return Front(run, members, genotypes, cost_is, find_evaluator(recipe.search.evaluator).is_accuracy)


def number_file(file: Path, place: int) -> Path:
    """The file of the network at a place, from 1: `a-01.json` for `a.json`."""
    return file.with_name(f"{file.stem}-{place:02d}{file.suffix}")


def show_front(terminal: Terminal, front: Front, files: Sequence[Sequence[Path]]) -> None:
    """Show the front as a table, and the files that were written for each network."""
    from nascli.search.front import describe_member

    names = {"params": "params", "mult_adds": "mult-adds", "latency": "latency"}
    timed = any(member.trial.latency for member in front.members)
    columns = ["trial", ACCURACY_OF[front.is_accuracy], *list(names.values())[: 3 if timed else 2], "cell"]
    title = f"{count_of(len(front.members), 'network')} of {front.run.name} that no other beats in accuracy and "
    rows = [_table_row(member, is_accuracy=front.is_accuracy, timed=timed) for member in front.members]
    terminal.show_table(title + names[front.cost_is], rows, columns)
    for file in (file for each in files for file in each):
        terminal.note(f"wrote {file}")
    listed = [
        {**describe_member(member), **_sizes(member), "files": [str(file) for file in written]}
        for member, written in zip(front.members, files, strict=True)
    ]
    terminal.result({"run": str(front.run), "cost_is": front.cost_is, "front": listed})
    genotypes = [file for each in files for file in each if file.suffix == ".json"]
    if genotypes:
        terminal.next(f"nascli build --cell {quote(genotypes[-1])}")
    else:
        terminal.next(f"nascli decode {quote(front.run)} --front --out front.json")


def _table_row(member: "Member", *, is_accuracy: bool, timed: bool) -> list[str]:
    accuracy = f"{member.accuracy:.2%}".replace("%", " %") if is_accuracy else f"{member.accuracy:.5g}"
    sizes = _sizes(member)
    figures = [format_quantity(float(sizes[name] or 0)) for name in ("params", "mult_adds")]
    seconds = sizes["latency"]
    latency = [format_latency(seconds) if seconds is not None else "-"] if timed else []
    return [str(member.trial.id), accuracy, *figures, *latency, member.trial.hash[:8]]


def _sizes(member: "Member") -> dict[str, float | None]:
    score, latency = member.trial.score, member.trial.latency
    assert score is not None, "a trial on the front has a score"
    return {"params": score.params, "mult_adds": score.mult_adds, "latency": latency.seconds if latency else None}
