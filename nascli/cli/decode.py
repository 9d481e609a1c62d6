"""`nascli decode`: whatever stands for a cell pair, as a genotype: on the terminal, in a file, in a picture."""

import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text
from rich.tree import Tree

from nascli.artifacts import find_run, read_run, write_text
from nascli.cli.console import Terminal
from nascli.cli.options import JsonOption, find_cell, runs_folder
from nascli.config import SearchRecipe, SpaceConfig, parse
from nascli.errors import InputError, NascliError
from nascli.genotype.canonical import canonical, canonical_hash
from nascli.genotype.drawing import draw_genotype, drawing_format
from nascli.genotype.drawing.palette import OP_STYLES, printable, state_name
from nascli.genotype.encoding import decode_tokens, encode_genotype
from nascli.genotype.schema import CellSpec, Genotype
from nascli.genotype.sources import load_genotype, zoo_genotype, zoo_names
from nascli.genotype.space import SPACES, SearchSpace, resolve_space

NAME = "decode"

_FAMILY_STYLES = {"separable": "blue", "convolution": "yellow", "pool": "green", "identity": "default"}
_STATE_STYLES = ("red", "cyan")  # h[i-1] and h[i], as in the pictures
_LONGEST_NAME = 200
_LONGEST_LINE = 3 * _LONGEST_NAME


@dataclass(frozen=True)
class _Uncut:
    """A tree whose lines are never cut to the terminal's width: rich would drop their ends without a word."""

    tree: Tree

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self.tree, options.update(width=_LONGEST_LINE))


@dataclass(frozen=True)
class _Found:
    """A genotype, the search run it comes from if any, and the command that follows if no file is written."""

    genotype: Genotype
    run: Path | None
    next_command: str


def run(
    source: Annotated[
        str | None,
        typer.Argument(metavar="SOURCE", help="A search run's folder, latest, a genotype file, or a zoo name."),
    ] = None,
    trial: Annotated[int | None, typer.Option(metavar="N", help="This trial of the run, not its best one.")] = None,
    tokens: Annotated[str | None, typer.Option(metavar="LIST", help="A decision sequence, instead of SOURCE.")] = None,
    space: Annotated[
        str | None, typer.Option(metavar="NAME", help="What --tokens count in: nasnet (unless given), enas or darts.")
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Name the genotype.")] = None,
    canonical_form: Annotated[
        bool, typer.Option("--canonical", help="Take the canonical form: no dead blocks, one fixed order.")
    ] = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE.json", help="Write the genotype here.")] = None,
    draw: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Draw both cells, as .svg, .png, .dot or .mmd; repeat for more."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the files of --out and --draw.")] = False,
    list_zoo: Annotated[bool, typer.Option("--list", help="List the published cells and stop.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show a cell pair, write it as genotype JSON, draw it.

    States are numbered as in the JSON: 0 is h\\[i-1], the output two cells back, 1 is h\\[i]; each block makes one more.

    Examples:

      nascli decode nasnet-a --draw nasnet-a.svg

      nascli decode runs/search/latest --trial 17 --out trial-17.json --draw trial-17.png

      nascli decode --space darts --tokens 0,1,3,3,0,0,1,3,3,0,1,0,3,2,0,0,2,2,5,0,0,1,0,0,0,2,1,2,0,0,0,2,0,2,0,2,1,2,0,0

      nascli decode --list
    """  # noqa: E501 - a command that is pasted has to stay on one line
    terminal = Terminal(as_json=as_json)
    if list_zoo:
        if any((source, trial is not None, tokens, space, name, canonical_form, out, draw)):
            raise InputError("--list shows the zoo and decodes nothing", "Run it alone, then decode one of the names")
        _show_zoo(terminal)
        return
    found = _find(source, trial, tokens, space, terminal)
    genotype = canonical(found.genotype) if canonical_form else found.genotype
    if name is not None:
        genotype = _named(genotype, name)
    files = _write(genotype, out, draw or [], overwrite=overwrite)
    _show(terminal, genotype, found.run, files)
    terminal.next(f"nascli build --cell {shlex.quote(str(out))}" if out else found.next_command)


def genotype_tree(genotype: Genotype) -> Tree:
    """Both cells, a line for each block: its state, its combination, its two ops with what they read."""
    facts = f"  space {genotype.space}, canonical hash {canonical_hash(genotype)}"
    tree = Tree(Text.assemble((printable(genotype.name), "bold"), (printable(facts), "dim")), guide_style="dim")
    for caption, cell in (("normal cell", genotype.normal), ("reduction cell", genotype.reduction)):
        branch = tree.add(Text(caption, "bold"))
        for line in _cell_lines(cell):
            branch.add(line)
    return tree


def _cell_lines(cell: CellSpec) -> list[Text]:
    width = max(len(OP_STYLES[op].label) for block in cell.blocks for op in block.ops)
    digits = len(str(len(cell.blocks) + 1))
    lines = []
    for k, block in enumerate(cell.blocks):
        line = Text.assemble((f"{k + 2:>{digits}}", "bold"), f"  {block.combine:<6}")
        for op, state in zip(block.ops, block.inputs, strict=True):
            line.append(f"  {OP_STYLES[op].label:>{width}}", _FAMILY_STYLES[OP_STYLES[op].family])
            line.append(" ← ", "dim")
            line.append(f"{state_name(state):<6}", _state_style(state))
        if k + 2 not in cell.live:
            line = Text(f"{line.plain}  dead: reaches no output", "dim")
        line.rstrip()
        lines.append(line)
    joined = Text(f"{'':{digits}}  concat  ")
    for state in cell.concat:
        joined.append(f"{state_name(state)}  ", _state_style(state))
    joined.append("→ h[i+1]")
    return [*lines, joined]


def _state_style(state: int) -> str:
    return _STATE_STYLES[state] if state < len(_STATE_STYLES) else "bold"


def _find(source: str | None, trial: int | None, tokens: str | None, space: str | None, terminal: Terminal) -> _Found:
    if (source is None) == (tokens is None):
        raise InputError(
            "nothing to decode" if source is None else f"both {source} and --tokens are given",
            "Give one: a search run, latest, a genotype file, a zoo name (nascli decode --list), or --tokens",
        )
    if space is not None and tokens is None:
        raise InputError("--space says what --tokens count in, but there are no --tokens", "Leave it out")
    if source is not None and re.fullmatch(r"[\d,\s]*,[\d,\s]*", source):
        raise InputError(f"{source[:20]}... looks like tokens, not like a source", "Give them as --tokens LIST")
    if source is not None and (source == "latest" or Path(source).is_dir()):
        return _from_run(find_run(source, "search", runs_folder()), trial, terminal)
    if trial is not None:
        raise InputError(f"--trial {trial} belongs to a search run", "Give the run's folder, or latest, as SOURCE")
    if source is not None:
        cell = find_cell(source, terminal.note)
        return _Found(load_genotype(cell), None, f"nascli build --cell {shlex.quote(cell)}")
    return _from_tokens(tokens or "", space or "nasnet")


def _from_tokens(text: str, space: str) -> _Found:
    parts = re.split(r"[,\s]+", text.strip(" \t\n,[]()"))
    try:
        numbers = [int(part) for part in parts if part]
    except ValueError as error:
        raise InputError(f"--tokens: {error}", "Give whole numbers between commas or spaces") from error
    genotype = decode_tokens(numbers, resolve_space(SpaceConfig(name=space)))
    said = ",".join(map(str, numbers))
    return _Found(genotype, None, f"nascli decode --space {space} --tokens {said} --out decoded.json")


def _from_run(folder: Path, trial: int | None, terminal: Terminal) -> _Found:
    from nascli.search.journal import read_trials

    quoted = shlex.quote(str(folder))
    if trial is None:
        if not (folder / "best.json").is_file():
            read_run(folder, "search")  # says so if this is no run folder, or another command's
            raise InputError(
                f"{folder}: no trial has finished yet, so there is no best.json", "Name one with --trial N"
            )
        return _Found(load_genotype(folder), folder, f"nascli build --cell {quoted}")
    trials = read_trials(folder / "trials.jsonl")
    if not 0 <= trial < len(trials):
        raise InputError(
            f"{folder} has no trial {trial}",
            f"It has the trials 0 to {len(trials) - 1}" if trials else "It has none yet",
        )
    chosen = trials[trial]
    provenance = chosen.genotype.provenance | {"source": "nascli search", "search_run": str(folder), "trial": trial}
    if chosen.score is not None:
        provenance |= {"reward": chosen.score.reward, "reward_is": "proxy accuracy"}
    else:
        why = f": {chosen.failure.error}" if chosen.failure else ""
        terminal.note(f"trial {trial} is {chosen.state}, so it has no reward{why}")
    return _Found(
        chosen.genotype.model_copy(update={"provenance": provenance}),
        folder,
        f"nascli decode {quoted} --trial {trial} --out trial-{trial}.json",
    )


def _named(genotype: Genotype, name: str) -> Genotype:
    if not 1 <= len(name) <= _LONGEST_NAME:
        raise InputError(f"--name has {len(name)} letters", f"Give 1 to {_LONGEST_NAME}")
    return genotype.model_copy(update={"name": name})


def _write(genotype: Genotype, out: Path | None, drawings: Sequence[Path], *, overwrite: bool) -> list[Path]:
    """Write all files; everything that can be wrong with their names is found before the first is written."""
    if out is not None and out.suffix.lower() != ".json":
        raise InputError(f"--out {out}: a genotype file ends in .json", "Use --draw for pictures")
    for path in drawings:
        drawing_format(path)
    files = [*([out] if out else []), *dict.fromkeys(drawings)]
    for path in files:
        with _explained(path):
            if path.is_dir() or (path.exists() and not overwrite):
                raise InputError(f"{path} exists", "Choose another name, or replace it with --overwrite")
    for path in files:
        with _explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path == out:
                write_text(path, genotype.to_json())
            else:
                draw_genotype(genotype, path)
    return files


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NascliError(f"{path} cannot be written: {error.strerror or error}", "Choose another place") from error


def _show(terminal: Terminal, genotype: Genotype, folder: Path | None, files: Sequence[Path]) -> None:
    tokens, reason = None, None
    try:
        tokens = encode_genotype(genotype, _space(genotype, folder))
    except InputError as error:
        reason = str(error)
    terminal.show(_Uncut(genotype_tree(genotype)))
    said = ",".join(map(str, tokens)) if tokens else f"none: {reason}"
    terminal.show(Text.assemble(("tokens  ", "bold"), (said, "default" if tokens else "dim")))
    for file in files:
        terminal.note(f"wrote {file}")
    terminal.result(
        {
            "genotype": genotype.model_dump(mode="json", by_alias=True),
            "canonical_hash": canonical_hash(genotype),
            "tokens": tokens,
            "tokens_reason": reason,
            "files": [str(file) for file in files],
        }
    )


def _space(genotype: Genotype, folder: Path | None) -> SearchSpace:
    """The space a genotype says it is of: a known one, or the one that its search run's recipe spells out."""
    if genotype.space in SPACES:
        return SPACES[genotype.space]
    if folder is None:
        raise InputError(f"space {genotype.space!r} is none of {', '.join(SPACES)}", "Only its search run can say it")
    recipe = parse(SearchRecipe, read_run(folder).get("recipe"), str(folder / "run.json"))
    return resolve_space(recipe.space)


def _show_zoo(terminal: Terminal) -> None:
    cells = [zoo_genotype(name) for name in zoo_names()]
    zoo = [
        {
            "name": cell.name,
            "space": cell.space,
            "blocks": len(cell.normal.blocks),
            "canonical_hash": canonical_hash(cell),
            "source": cell.provenance.get("source"),
        }
        for cell in cells
    ]
    rows = [("name", "space", "blocks", "canonical hash", "source"), *(map(str, cell.values()) for cell in zoo)]
    width = max(map(len, zoo_names()))
    for number, row in enumerate(rows):
        name, space, blocks, hashed, source = row
        line = f"{name:<{width}}  {space:<6}  {blocks:>6}  {hashed:<16}  {source}"
        terminal.show(Text(line, "" if number else "bold"))
    terminal.result({"zoo": zoo})
    terminal.next(f"nascli decode {cells[0].name} --draw {cells[0].name}.svg")
