"""The sources of `nascli decode`: a search run, a genotype file, a zoo name, tokens, another tool's notation."""

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from nascli.cli.console import Terminal
from nascli.cli.options import Call, Setting, runs_folder
from nascli.errors import InputError
from nascli.genotype.genotype import Genotype, parse_genotype
from nascli.genotype.notations import find_notation, list_notations, read_notation, recognize
from nascli.genotype.resolve import NETWORK_FILE, find_cell, load_genotype
from nascli.genotype.space import find_space
from nascli.reading import MAX_TEXT, naming, read_file
from nascli.runs.find import find_run, read_run
from nascli.text import quote, quote_command
from nascli.text_files import decode_text
from nascli.units import shorten

STDIN = "-"
_LONGEST_STREAM = 1 << 24  # letters of a genotype and all that a log or a program may have around it
_LONGEST_REPEATED = 2000  # letters of a text that the offered command repeats


SOURCE = Setting[str | None](
    "source",
    "A search run's folder, latest, a genotype file, a zoo name; or a file or text in another tool's notation "
    "(- reads it from standard input).",
    metavar="SOURCE",
)
TRIAL = Setting[int | None]("--trial", "This trial of the run, not its best one.", metavar="N")
FROM = Setting[str | None](
    "--from",
    f"Notation of SOURCE: {', '.join(list_notations())}; not needed where the text can be in one alone.",
    metavar="NOTATION",
)
SELECT = Setting[str | None]("--select", "Select one of several genotypes in a darts text.", metavar="NAME")
TOKENS = Setting[str | None]("--tokens", "A decision sequence, instead of SOURCE.", metavar="LIST")
SPACE = Setting[str | None](
    "--space",
    "Space of --tokens: nasnet (default), enas, darts, mnasnet, nas-bench-201, nas-bench-macro. "
    "With --from nni: darts, enas, pnas, amoebanet, nasnet.",
    metavar="NAME",
)


@dataclass(frozen=True)
class Found:
    """A genotype, the search run it comes from if any, and the command that follows if no file is written."""

    genotype: Genotype
    run: Path | None
    next_command: str


def find_genotype(call: Call, terminal: Terminal) -> Found:
    """The genotype that is meant; InputError where that is nothing, two things at once, or not readable."""
    source, tokens = call[SOURCE], call[TOKENS]
    if (source is None) == (tokens is None):
        raise InputError(
            "nothing to decode" if source is None else f"both {shorten(source, 40)} and --tokens are given",
            "Give one: a search run, latest, a genotype file, a zoo name (nascli decode --list), another tool's "
            "notation, or --tokens",
        )
    text, notation = _in_notation(call)
    if call[SPACE] is not None and tokens is None and not (notation and find_notation(notation).asks == "space"):
        raise InputError("--space says what --tokens count in, but there are no --tokens", "Leave it out")
    if call[SELECT] is not None and not (notation and find_notation(notation).asks == "name"):
        raise InputError("--select chooses one genotype of a DARTS text, but there is none", "Leave it out")
    if call[TRIAL] is not None and not _is_run(source):
        raise InputError(f"--trial {call[TRIAL]} belongs to a search run", "Give its folder, or latest, as SOURCE")
    if tokens is not None:
        return _from_tokens(tokens, call[SPACE] or "nasnet")
    assert source is not None
    if notation is not None and text is not None:
        return _from_notation(text, notation, call)
    if text is not None:
        genotype = parse_genotype(text, "standard input")
        return Found(genotype, None, f"nascli decode {STDIN} --out decoded.json")
    if _is_run(source):
        return _from_run(find_run(source, "search", runs_folder(), terminal.note), call[TRIAL], terminal)
    if possible := recognize(source):
        raise InputError(
            f"{shorten(source, 40)} looks like numbers, not like a source",
            f"Give them as --tokens LIST, or say whose notation they are with --from {' or '.join(possible)}",
        )
    cell = find_cell(source, runs_folder(), terminal.note)
    return Found(load_genotype(cell), None, f"nascli build --cell {quote(Path(cell))}")


def _is_run(source: str | None) -> bool:
    """Whether the source is a search run; the cell of any other run is that of its network."""
    if source is None or source == "latest":
        return source is not None
    return os.path.isdir(source) and not os.path.isfile(os.path.join(source, NETWORK_FILE))


def _in_notation(call: Call) -> tuple[str | None, str | None]:
    """The text of the source and the notation it is in; no text where the source stands for something else."""
    source, notation = call[SOURCE], call[FROM]
    if notation is not None:
        find_notation(notation)
        if source is None:
            raise InputError(f"--from {notation} says how to read SOURCE, but there is none", "Give one")
    if source is None or _is_run(source):
        if notation is not None:
            raise InputError(f"{source} is a run folder, not a text for --from", "Give a file or the text itself")
        return None, None
    is_file = os.path.isfile(source)  # Path.is_file fails on a text that is too long for a name
    text = _read(source) if is_file or source == STDIN else source
    if notation is not None:
        return text, notation
    recognized = recognize(text)
    if len(recognized) == 1:
        return text, recognized[0]
    if is_file and not source.endswith(".json") and not text.lstrip().startswith("{"):
        raise InputError(
            f"{source}: neither genotype JSON nor a notation that shows itself",
            f"Say which one with --from: {', '.join(list_notations())}",
        )
    return (text if source == STDIN else None), None


def _read(source: str) -> str:
    if source == STDIN:
        with naming("standard input"):
            text = sys.stdin.read(_LONGEST_STREAM + 1)
        if len(text) > _LONGEST_STREAM:
            raise InputError(
                f"standard input has more than the {_LONGEST_STREAM:,} letters that are read", "Cut out the genotype"
            )
        return text
    try:
        return decode_text(read_file(source, MAX_TEXT), source, errors="replace")
    except OSError as error:
        raise InputError(f"{source}: {error.strerror or error}") from error


def _from_notation(text: str, notation: str, call: Call) -> Found:
    source = call[SOURCE] or ""
    is_text = source == text
    label = "the text" if is_text else "standard input" if source == STDIN else source
    from_file = not is_text and source != STDIN
    try:
        genotype = read_notation(
            text,
            notation,
            which=call[SELECT] or call[SPACE],
            name=Path(source).stem if from_file else "decoded",
            provenance={"file": source} if from_file else None,
        )
    except InputError as error:
        raise error.reword(f"{label}: {error.message}", error.hint) from error
    one_line = "\n" not in text.strip() and len(text) <= _LONGEST_REPEATED
    repeated = text.strip() if one_line and not from_file else source
    options = {"--from": notation, "--select": call[SELECT], "--space": call[SPACE]}
    words = [repeated, *(word for name, value in options.items() if value for word in (name, value))]
    file = re.sub(r"[^A-Za-z0-9.]+", "-", genotype.name).strip("-.") or "decoded"
    return Found(genotype, None, quote_command(["nascli", "decode", *words, "--out", f"{file}.json"]))


def _from_tokens(text: str, space: str) -> Found:
    parts = re.split(r"[,\s]+", text.strip(" \t\n,[]()"))
    try:
        numbers = [int(part) for part in parts if part]
    except ValueError as error:
        raise InputError(f"--tokens: {error}", "Give whole numbers between commas or spaces") from error
    genotype = find_space(space).decode(numbers)
    said = ",".join(map(str, numbers))
    return Found(genotype, None, f"nascli decode --space {space} --tokens {said} --out decoded.json")


def _from_run(folder: Path, trial: int | None, terminal: Terminal) -> Found:
    from nascli.search.recorded import read_recorded, with_provenance

    quoted = quote(folder)
    if trial is None:
        if not (folder / "best.json").is_file():
            read_run(folder, "search")  # says so if this is no run folder, or another command's
            raise InputError(
                f"{folder}: no trial has finished yet, so there is no best.json", "Name one with --trial N"
            )
        return Found(load_genotype(folder), folder, f"nascli build --cell {quoted}")
    _, recipe, _, trials = read_recorded(folder)
    if not 0 <= trial < len(trials):
        raise InputError(
            f"{folder} has no trial {trial}",
            f"It has the trials 0 to {len(trials) - 1}" if trials else "It has none yet",
        )
    chosen = trials[trial]
    if chosen.score is None:
        why = f": {chosen.failure.error}" if chosen.failure else ""
        terminal.note(f"trial {trial} is {chosen.state}, so it has no reward{why}")
    return Found(
        with_provenance(chosen, recipe, folder),
        folder,
        f"nascli decode {quoted} --trial {trial} --out trial-{trial}.json",
    )
