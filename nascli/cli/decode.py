"""`nascli decode`: whatever stands for a cell pair, as a genotype: on the terminal, in a file, in a picture."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from nascli.cli.console import Terminal
from nascli.cli.decode_source import Asked, find_genotype
from nascli.cli.decode_view import LONGEST_NAME, show_genotype, show_zoo
from nascli.cli.options import JsonOption
from nascli.errors import InputError, NascliError
from nascli.files import write_text
from nascli.genotype.cells.formats import write_notation
from nascli.genotype.drawing import draw_genotype, drawing_format
from nascli.genotype.genotype import Genotype

NAME = "decode"


def run(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="SOURCE",
            help="A search run's folder, latest, a genotype file, a zoo name; or a file or text in another tool's "
            "notation (- reads it from standard input).",
        ),
    ] = None,
    trial: Annotated[int | None, typer.Option(metavar="N", help="This trial of the run, not its best one.")] = None,
    notation: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What SOURCE is written in: darts, enas, slim, nni or naonet. Seen without it: darts, slim, nni.",
        ),
    ] = None,
    pick: Annotated[
        str | None, typer.Option(metavar="NAME", help="The one that is meant of several genotypes in a darts text.")
    ] = None,
    tokens: Annotated[str | None, typer.Option(metavar="LIST", help="A decision sequence, instead of SOURCE.")] = None,
    space: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What --tokens count in: nasnet (unless given), enas or darts. With nni: darts, enas, pnas, amoebanet "
            "or nasnet.",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Name the genotype.")] = None,
    canonical_form: Annotated[
        bool, typer.Option("--canonical", help="Take the canonical form: no dead blocks, one fixed order.")
    ] = False,
    as_notation: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="Print it in this notation: darts, enas, slim, nni or naonet."),
    ] = None,
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

      nascli decode "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1)], normal_concat=[2], reduce=[('max_pool_3x3', 0), ('skip_connect', 1)], reduce_concat=[2])" --out mine.json

      nascli decode genotypes.py --pick DARTS_V2 --out darts-v2.json

      nascli decode --notation enas "0 2 0 0 0 4 0 1 0 4 1 1 1 0 0 1 0 2 1 1  1 0 1 0 0 3 0 2 1 1 3 1 1 0 0 4 0 3 1 1"

      nascli decode darts-v2 --as darts

      nascli decode --space darts --tokens 0,1,3,3,0,0,1,3,3,0,1,0,3,2,0,0,2,2,5,0,0,1,0,0,0,2,1,2,0,0,0,2,0,2,0,2,1,2,0,0

      nascli decode --list
    """  # noqa: E501 - a command that is pasted has to stay on one line
    terminal = Terminal(as_json=as_json)
    asked = Asked(source=source, trial=trial, tokens=tokens, space=space, notation=notation, pick=pick)
    if list_zoo:
        if asked != Asked() or any((name, canonical_form, as_notation, out, draw)):
            raise InputError("--list shows the zoo and decodes nothing", "Run it alone, then decode one of the names")
        show_zoo(terminal)
        return
    found = find_genotype(asked, terminal)
    genotype = found.genotype.canonical() if canonical_form else found.genotype
    if name is not None:
        genotype = _named(genotype, name)
    notation_text = write_notation(genotype, as_notation) if as_notation is not None else None
    files = _write(genotype, out, draw or [], overwrite=overwrite)
    show_genotype(terminal, genotype, found.run, files, notation_text)
    terminal.next(f"nascli build --cell {shlex.quote(str(out))}" if out else found.next_command)


def _named(genotype: Genotype, name: str) -> Genotype:
    if not 1 <= len(name) <= LONGEST_NAME:
        raise InputError(f"--name has {len(name)} letters", f"Give 1 to {LONGEST_NAME}")
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
