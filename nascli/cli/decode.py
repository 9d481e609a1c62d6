"""`nascli decode`: whatever stands for a cell pair, as a genotype: on the terminal, in a file, in a drawing."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from nascli.cli.decode_source import (
    FROM,
    SELECT,
    SOURCE,
    SPACE,
    TOKENS,
    TRIAL,
    find_genotype,
)
from nascli.cli.options import JSON, Call, Setting, command
from nascli.errors import InputError
from nascli.files import write_text, writing
from nascli.genotype.genotype import Genotype

LONGEST_NAME = 200

NAME = Setting[str | None]("--name", "Name the genotype.", metavar="NAME")
CANONICAL = Setting[bool]("--canonical", "Take the canonical form: no dead blocks, one fixed order.", False)
TO = Setting[str | None]("--to", "Print it in this notation: darts, enas, slim, nni or naonet.", metavar="NOTATION")
FILE = Setting[Path | None]("--out", "Write the genotype into this file.", metavar="FILE.json")
DRAW = Setting[list[Path]](
    "--draw", "Draw both cells, as .svg, .png, .dot or .mmd; repeat for more.", [], metavar="FILE"
)
REPLACE = Setting[bool]("--overwrite", "Replace the files of --out and --draw.", False)
LIST = Setting[bool]("--list", "List the published cells and stop.", False)


@command(
    "decode",
    [SOURCE, TRIAL, FROM, SELECT, TOKENS, SPACE, NAME, CANONICAL, TO, FILE, DRAW, REPLACE, LIST, JSON],
    examples=[
        "nascli decode nasnet-a --draw nasnet-a.svg",
        "nascli decode runs/search/latest --trial 17 --out trial-17.json --draw trial-17.png",
        "nascli decode \"Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1)], normal_concat=[2], "
        "reduce=[('max_pool_3x3', 0), ('skip_connect', 1)], reduce_concat=[2])\" --out mine.json",
        "nascli decode genotypes.py --select DARTS_V2 --out darts-v2.json",
        'nascli decode --from enas "0 2 0 0 0 4 0 1 0 4 1 1 1 0 0 1 0 2 1 1  1 0 1 0 0 3 0 2 1 1 3 1 1 0 0 4 0 3 1 1"',
        "nascli decode darts-v2 --to darts",
        "nascli decode --space darts --tokens "
        "0,1,3,3,0,0,1,3,3,0,1,0,3,2,0,0,2,2,5,0,0,1,0,0,0,2,1,2,0,0,0,2,0,2,0,2,1,2,0,0",
        "nascli decode --list",
    ],
)
def run(call: Call) -> None:
    """Show a cell pair, write it as genotype JSON, draw it.

    States are numbered as in the JSON: 0 is h[i-1], the output two cells back, 1 is h[i]; each block makes one more.
    """
    from nascli.cli.decode_view import show_genotype, show_zoo
    from nascli.genotype.notations import write_notation

    terminal = call.terminal()
    if call[LIST]:
        if [each for each in call.given if each not in (LIST, JSON)]:
            raise InputError("--list shows the zoo and decodes nothing", "Run it alone, then decode one of the names")
        show_zoo(terminal)
        return
    found = find_genotype(call, terminal)
    genotype = found.genotype.canonical() if call[CANONICAL] else found.genotype
    name, to, out = call[NAME], call[TO], call[FILE]
    if name is not None:
        if not 1 <= len(name) <= LONGEST_NAME:
            raise InputError(f"--name has {len(name)} letters", f"Give 1 to {LONGEST_NAME}")
        genotype = genotype.model_copy(update={"name": name})
    notation_text = write_notation(genotype, to) if to is not None else None
    files = _write(genotype, out, call[DRAW], overwrite=call[REPLACE])
    show_genotype(terminal, genotype, found.run, files, notation_text)
    terminal.next(f"nascli build --cell {shlex.quote(str(out))}" if out else found.next_command)


def _write(genotype: Genotype, out: Path | None, drawings: Sequence[Path], *, overwrite: bool) -> list[Path]:
    """Write all files; everything that can be wrong with their names is found before the first is written."""
    from nascli.genotype.drawing import draw_genotype, drawing_format

    if out is not None and out.suffix.lower() != ".json":
        raise InputError(f"--out {out}: a genotype file ends in .json", "Use --draw for drawings")
    for path in drawings:
        drawing_format(path)
    files = [*([out] if out else []), *dict.fromkeys(drawings)]
    for path in files:
        with writing(path, "Choose another place"):
            if path.is_dir() or (path.exists() and not overwrite):
                raise InputError(f"{path} exists", "Choose another name, or replace it with --overwrite")
    for path in files:
        with writing(path, "Choose another place"):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path == out:
                write_text(path, genotype.to_json())
            else:
                draw_genotype(genotype, path)
    return files
