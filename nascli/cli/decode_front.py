"""The front of a search run for `nascli decode --front`: its networks as a table, and each with its files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nascli.cli.console import Terminal
from nascli.cli.latency_view import format_latency
from nascli.cli.options import Call, Setting, runs_folder
from nascli.config import SearchRecipe, find_evaluator
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
_COSTS = {"params": "params", "mult_adds": "mult-adds", "latency": "latency"}


@dataclass(frozen=True)
class Front:
    """The front of a run, cheapest network first, with the genotypes in the same order; `cost_is` names the cost."""

    run: Path
    recipe: SearchRecipe
    members: Sequence["Member"]
    genotypes: Sequence[Genotype]
    cost_is: str


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
    return Front(run, recipe, members, genotypes, cost_is)


def number_file(file: Path, place: int) -> Path:
    """The file of the network at a place, from 1: `a-01.json` for `a.json`."""
    return file.with_name(f"{file.stem}-{place:02d}{file.suffix}")


def show_front(terminal: Terminal, front: Front, files: Sequence[Sequence[Path]]) -> None:
    """Show the front as a table, and the files that were written for each network."""
    from nascli.search.front import describe_member

    rows = [_describe_row(member, front) for member in front.members]
    columns = [name for name in rows[0] if any(row[name] for row in rows)]
    title = f"{count_of(len(rows), 'network')} of {front.run.name} that no other beats in accuracy and "
    terminal.show_table(
        title + _COSTS[front.cost_is], [[row[name] or "-" for name in columns] for row in rows], columns
    )
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


def _describe_row(member: "Member", front: Front) -> dict[str, str]:
    """The columns of a network; empty where they say nothing of it."""
    is_accuracy = find_evaluator(front.recipe.search.evaluator).is_accuracy
    accuracy = f"{member.accuracy:.2%}".replace("%", " %") if is_accuracy else f"{member.accuracy:.5g}"
    sizes = _sizes(member)
    latency = sizes.pop("latency")
    return {
        "trial": str(member.trial.id),
        "proxy accuracy" if is_accuracy else "reward": accuracy,
        **({"reward": f"{member.trial.reward:.4f}"} if front.recipe.weighs_cost else {}),
        **{_COSTS[name]: format_quantity(value or 0.0) for name, value in sizes.items()},
        "latency": "" if latency is None else format_latency(latency),
        "cell": member.trial.hash[:8],
    }


def _sizes(member: "Member") -> dict[str, float | None]:
    score, latency = member.trial.score, member.trial.latency
    assert score is not None, "a trial on the front has a score"
    return {"params": score.params, "mult_adds": score.mult_adds, "latency": latency.seconds if latency else None}
