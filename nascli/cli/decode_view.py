"""The output of `nascli decode`: a genotype as a tree with its tokens, the zoo."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text
from rich.tree import Tree

from nascli.cli.console import Terminal
from nascli.config import SearchRecipe, parse
from nascli.errors import InputError
from nascli.genotype.drawing import genotype_tree
from nascli.genotype.drawing.shapes import printable
from nascli.genotype.families import genotype_families
from nascli.genotype.genotype import Genotype
from nascli.genotype.resolve import zoo_genotype, zoo_names
from nascli.genotype.space import SearchSpace, list_spaces, resolve_space
from nascli.runs import read_run

_LONGEST_LINE = 600


@dataclass(frozen=True)
class _Uncut:
    """A tree whose lines are never cut to the terminal's width: rich would drop their ends silently."""

    tree: Tree

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self.tree, options.update(width=_LONGEST_LINE))


def show_genotype(
    terminal: Terminal, genotype: Genotype, folder: Path | None, files: Sequence[Path], notation_text: str | None
) -> None:
    """Show a genotype: in another tool's notation where that is asked for, else as a tree with its tokens.

    Args:
        folder: The search run that it comes from, which knows its space.
        files: Files that were written; named on the terminal.
        notation_text: The genotype in another tool's notation; None for the tree.
    """
    tokens, reason = None, None
    try:
        tokens = _space(genotype, folder).encode(genotype)
    except InputError as error:
        reason = str(error)
    if notation_text is not None:
        terminal.show(Text(notation_text.rstrip("\n")))
    else:
        terminal.show(_Uncut(render_tree(genotype)))
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


def render_tree(genotype: Genotype) -> Tree:
    """The branches of a genotype under its name, space and hash."""
    facts = f"  space {genotype.space}, canonical hash {genotype.canonical_hash()}"
    tree = Tree(Text.assemble((printable(genotype.name), "bold"), (printable(facts), "dim")), guide_style="dim")
    for part in genotype_tree(genotype):
        branch = tree.add(Text(part.caption, "bold"))
        for line in part.lines:
            text = Text.assemble(*line.spans)
            text.rstrip()
            branch.add(text)
    return tree


def show_zoo(terminal: Terminal) -> None:
    """List the published cells, each with its space, size, hash and source."""
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
    rows = [("name", "space", "size", "canonical hash", "source"), *(map(str, cell.values()) for cell in zoo)]
    width = max(map(len, zoo_names()))
    for number, row in enumerate(rows):
        name, space, size, hashed, source = row
        line = f"{name:<{width}}  {space:<6}  {size:<8}  {hashed:<16}  {source}"
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
    recipe = parse(SearchRecipe, read_run(folder).get("recipe"), str(folder / "run.json"))
    return resolve_space(recipe.space)
