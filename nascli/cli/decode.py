"""`nascli decode`: whatever stands for an architecture, as a genotype: on the terminal, in a file, in a drawing."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nascli.cli.console import Terminal
from nascli.cli.decode_front import FRONT, find_run_front, number_file, show_front
from nascli.cli.decode_source import FROM, SELECT, SOURCE, SPACE, TOKENS, TRIAL, find_genotype
from nascli.cli.options import JSON, Call, Setting, command
from nascli.config import SearchRecipe
from nascli.errors import InputError
from nascli.files import make_folder, write_text, writing
from nascli.genotype.drawing import draw_genotype, drawing_format, genotype_tree
from nascli.genotype.families import genotype_families
from nascli.genotype.genotype import Genotype, sign_genotype
from nascli.genotype.notations import list_notations, write_notation
from nascli.genotype.resolve import zoo_genotype, zoo_names
from nascli.genotype.space import SearchSpace, list_spaces, resolve_space
from nascli.runs.find import read_run
from nascli.runs.record import parse_recipe
from nascli.text import printable, quote
from nascli.units import count_of

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.tree import Tree

LONGEST_NAME = 200
_LONGEST_LINE = 600

NAME = Setting[str | None]("--name", "Name the genotype.", metavar="NAME")
CANONICAL = Setting[bool]("--canonical", "Take the canonical form: no dead blocks or idle skips, one order.", False)
TO = Setting[str | None]("--to", f"Print it in this notation: {', '.join(list_notations())}.", metavar="NOTATION")
FILE = Setting[Path | None]("--out", "Write the genotype into this file.", metavar="FILE.json")
DRAW = Setting[list[Path]]("--draw", "Draw it, as .svg, .png, .dot or .mmd; repeat for more.", [], metavar="FILE")
REPLACE = Setting[bool]("--overwrite", "Replace the files of --out and --draw.", False)
LIST = Setting[bool]("--list", "List the published architectures and stop.", False)


@command(
    "decode",
    [SOURCE, TRIAL, FRONT, FROM, SELECT, TOKENS, SPACE, NAME, CANONICAL, TO, FILE, DRAW, REPLACE, LIST, JSON],
    examples=[
        "nascli decode nasnet-a --draw nasnet-a.svg",
        "nascli decode runs/search/latest --trial 17 --out trial-17.json --draw trial-17.png",
        "nascli decode runs/search/latest --front --out front.json --draw front.svg",
        "nascli decode \"Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1)], normal_concat=[2], "
        "reduce=[('max_pool_3x3', 0), ('skip_connect', 1)], reduce_concat=[2])\" --out mine.json",
        "nascli decode genotypes.py --select DARTS_V2 --out darts-v2.json",
        'nascli decode --from enas "0 2 0 0 0 4 0 1 0 4 1 1 1 0 0 1 0 2 1 1  1 0 1 0 0 3 0 2 1 1 3 1 1 0 0 4 0 3 1 1"',
        "nascli decode darts-v2 --to darts",
        "nascli decode mnasnet-a1 --to timm",
        "nascli decode --space darts --tokens "
        "0,1,3,3,0,0,1,3,3,0,1,0,3,2,0,0,2,2,5,0,0,1,0,0,0,2,1,2,0,0,0,2,0,2,0,2,1,2,0,0",
        "nascli decode --list",
    ],
)
def run(call: Call) -> None:
    """Show an architecture, write it as genotype JSON, draw it.

    States of cells are numbered as in the JSON: 0 is h[i-1], the output two cells back, 1 is h[i]; each block makes
    one more.
    """
    terminal = call.terminal()
    if call[LIST]:
        if [each for each in call.given if each not in (LIST, JSON)]:
            raise InputError("--list shows the zoo and decodes nothing", "Run it alone, then decode one of the names")
        _show_zoo(terminal)
        return
    if call[FRONT]:
        _decode_front(call, terminal)
        return
    found = find_genotype(call, terminal)
    genotype = found.genotype.canonical() if call[CANONICAL] else found.genotype
    name, to, out = call[NAME], call[TO], call[FILE]
    if name is not None:
        if not 1 <= len(name) <= LONGEST_NAME:
            raise InputError(f"--name has {count_of(len(name), 'letter')}", f"Give 1 to {LONGEST_NAME}")
        genotype = genotype.model_copy(update={"name": name})
    notation_text = write_notation(genotype, to) if to is not None else None
    (files,) = _write([_Output(genotype, out, call[DRAW])], overwrite=call[REPLACE])
    _show_genotype(terminal, genotype, found.run, files, notation_text)
    terminal.next(f"nascli build --cell {quote(out)}" if out else found.next_command)


def _decode_front(call: Call, terminal: Terminal) -> None:
    """Show all networks of a run's front, and write the files that are asked for of each."""
    front = find_run_front(call, SOURCE, (CANONICAL, FILE, DRAW, REPLACE, JSON), terminal)
    file, outputs = call[FILE], []
    for place, found in enumerate(front.genotypes, start=1):
        genotype = found.canonical() if call[CANONICAL] else found
        out = number_file(file, place) if file else None
        outputs.append(_Output(genotype, out, [number_file(each, place) for each in call[DRAW]]))
    show_front(terminal, front, _write(outputs, overwrite=call[REPLACE]))


class _Output(NamedTuple):
    """A genotype, and the files that are to be written of it."""

    genotype: Genotype
    out: Path | None
    drawings: Sequence[Path]

    @property
    def files(self) -> list[Path]:
        return [*([self.out] if self.out else []), *dict.fromkeys(self.drawings)]


def _write(outputs: Sequence[_Output], *, overwrite: bool) -> list[list[Path]]:
    """Write all files; everything that can be wrong with their names is found before the first is written."""
    for _, out, drawings in outputs:
        if out is not None and out.suffix.lower() != ".json":
            raise InputError(f"--out {out}: a genotype file ends in .json", "Use --draw for drawings")
        for path in drawings:
            drawing_format(path)
    for path in [file for output in outputs for file in output.files]:
        with writing(path):
            if path.is_dir() or (path.exists() and not overwrite):
                raise InputError(f"{path} exists", "Choose another name, or replace it with --overwrite")
    for output in outputs:
        for path in output.files:
            make_folder(path.parent)
            if path == output.out:
                write_text(path, sign_genotype(output.genotype))
            else:
                draw_genotype(output.genotype, path)
    return [output.files for output in outputs]


@dataclass(frozen=True)
class _Uncut:
    """A tree whose lines are never cut to the terminal's width: rich would drop their ends silently."""

    tree: "Tree"

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        yield from console.render(self.tree, options.update(width=_LONGEST_LINE))


def _show_genotype(
    terminal: Terminal, genotype: Genotype, folder: Path | None, files: Sequence[Path], notation_text: str | None
) -> None:
    """Show a genotype: in another tool's notation where that is asked for, else as a tree with its tokens.

    Args:
        folder: The search run that it comes from, which knows its space.
    """
    from rich.text import Text

    tokens, reason = None, None
    try:
        tokens = _space(genotype, folder).encode(genotype)
    except InputError as error:
        reason = str(error)
    if notation_text is not None:
        for line in notation_text.rstrip("\n").split("\n"):
            terminal.show(line)
    else:
        terminal.show(_Uncut(_render_tree(genotype)))
        said = ",".join(map(str, tokens)) if tokens else f"none: {reason}"
        terminal.show(Text.assemble(("tokens  ", "bold"), (said, "default" if tokens else "dim")))
    for file in files:
        terminal.note(f"wrote {file}")
    terminal.result(
        {
            "genotype": json.loads(genotype.to_json()),
            "canonical_hash": genotype.canonical_hash(),
            "tokens": tokens,
            "tokens_reason": reason,
            "notation_text": notation_text,
            "files": [str(file) for file in files],
        }
    )


def _render_tree(genotype: Genotype) -> "Tree":
    """The branches of a genotype under its name, space and hash."""
    from rich.text import Text
    from rich.tree import Tree

    facts = f"  space {genotype.space}, canonical hash {genotype.canonical_hash()}"
    tree = Tree(Text.assemble((printable(genotype.name), "bold"), (printable(facts), "dim")), guide_style="dim")
    for part in genotype_tree(genotype):
        branch = tree.add(Text(printable(part.caption), "bold"))
        for line in part.lines:
            text = Text.assemble(*((printable(span), style) for span, style in line.spans))
            text.rstrip()
            branch.add(text)
    return tree


def _show_zoo(terminal: Terminal) -> None:
    """List the published architectures, each with its space, size, hash and source."""
    from rich.text import Text

    cells = [zoo_genotype(name) for name in zoo_names()]
    zoo = [
        {
            "name": cell.name,
            "space": cell.space,
            "size": genotype_families()[cell.family].describe(cell),
            "canonical_hash": cell.canonical_hash(),
            "source": cell.provenance.get("source"),
        }
        for cell in cells
    ]
    rows = [("name", "space", "size", "canonical hash", "source"), *(tuple(map(str, cell.values())) for cell in zoo)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        line = "  ".join(f"{word:<{width}}" for word, width in zip(row, widths, strict=True)).rstrip()
        terminal.show(Text(line, "" if number else "bold"))
    terminal.result({"zoo": zoo})
    terminal.next(f"nascli decode {cells[0].name} --draw {cells[0].name}.svg")


def _space(genotype: Genotype, folder: Path | None) -> SearchSpace:
    """The space a genotype says it is of: a known one, or the one that its search run's recipe spells out."""
    spaces = list_spaces()
    if genotype.space in spaces:
        return spaces[genotype.space]
    if folder is None:
        raise InputError(
            f"space {genotype.space!r} is none of {', '.join(spaces)}", "Give its search run, which has the space"
        )
    return resolve_space(parse_recipe(SearchRecipe, read_run(folder), folder).space)
