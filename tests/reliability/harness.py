"""Tries of the program on damaged, odd and hostile input, judged by one rule and counted.

A try has held where the program does the same as with the undamaged input, or refuses in one line that names the file,
with exit code 1 or 2. It has not where there is a traceback, a fault called unexpected, a hang, a death by a signal, a
refusal that does not say of what, or another result without a word.
"""

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.reliability.results import drop_times, read_results
from tests.reliability.zygote import Ended, Zygote

_REMARKS = 3
"""The exit code of data that can be used, and of which there is something to say."""

_MEMORY = 6 << 30
"""Bytes that a try may allocate."""

_CPU_SECONDS = 20.0
"""Computation of a call that does more than this hangs."""

_CONTROLS = ("\x1b", "\x9b", "\x07", "\x00", "\x08")
_UNEXPECTED = "what it did not expect"


@dataclass(frozen=True)
class Rule:
    """Bounds on how a try may end.

    Attributes:
        codes: Exit codes that are fine beside 0.
        same: The result has to be that of the undamaged input, where the exit code is 0.
        named: An error has to have the name of the damaged file.
    """

    codes: tuple[int, ...] = (1, 2)
    same: bool = False
    named: bool = False


@dataclass
class Tally:
    """Tries of a kind, counted by how they ended."""

    name: str
    ends: Counter[str] = field(default_factory=Counter)
    worst: list[str] = field(default_factory=list)

    @property
    def tries(self) -> int:
        return sum(self.ends.values())

    @property
    def held(self) -> int:
        return self.ends["same"] + self.ends["refused"]

    def add(self, verdict: str, story: str) -> None:
        """Count a try; the story of one that did not hold is kept, with what repeats it."""
        self.ends[verdict] += 1
        if verdict not in ("same", "refused"):
            self.worst.append(f"{verdict}: {story}")

    def check(self, record: Callable[[str, object], None]) -> None:
        """Record the figures for the table, and fail the test where a try did not hold."""
        record("tries", {"name": self.name, "tries": self.tries, "held": self.held})
        shown = "\n\n".join(self.worst[:20])
        assert self.held == self.tries, (
            f"{self.name}: {self.tries} tries, {self.held} held ({dict(self.ends)})\n{shown}"
        )
        assert self.tries > 0


class Bench:
    """Tries commands on copies of a folder.

    Args:
        begun: The folder that each try gets a copy of.
        work: An empty folder.
        linked: Folders of `begun` that a copy has as links, since no try changes them.
    """

    def __init__(self, zygote: Zygote, begun: Path, work: Path, linked: Sequence[str] = ()) -> None:
        self._zygote, self.begun, self._work, self._linked = zygote, begun, work, tuple(linked)
        work.mkdir(exist_ok=True)
        self._usual: dict[tuple[str, ...], tuple[object, dict[str, object]]] = {}

    def copy(self) -> Path:
        """A fresh copy, in place of the last one."""
        folder = self._work / "try"
        shutil.rmtree(folder, ignore_errors=True)
        ignored = shutil.ignore_patterns(*self._linked) if self._linked else None
        shutil.copytree(self.begun, folder, symlinks=True, ignore=ignored)
        for name in self._linked:
            (folder / name).symlink_to(self.begun / name)
        return folder

    def attempt(
        self,
        tally: Tally,
        what: str,
        change: Callable[[Path], object],
        command: Sequence[str],
        rule: Rule,
        file: str = "",
    ) -> None:
        """Change a copy, call the program there, judge how it ends.

        Args:
            what: The change in words, with its seed.
            file: The changed file: it is in the error, and not compared where the program left it as it is.
        """
        command = tuple(command)
        expected = self._expect(command) if rule.same else None
        folder = self.copy()
        change(folder)
        damaged = _bytes_of(folder / file) if file else None
        ended = self._zygote.call(*command, folder=folder, memory=_MEMORY)
        verdict = judge(ended, rule, Path(file).name)
        if verdict == "ok":
            verdict = "same"
            if expected is not None:
                found = self._result(ended, folder)
                unread = file if damaged is not None and _bytes_of(folder / file) == damaged else ""
                if difference := _differ(expected, found, unread):
                    is_listed = '"damaged"' in ended.out and Path(file).name in ended.out  # by nascli runs
                    is_told = f"{file}: " in ended.err and "begun with" in ended.err  # a key that may change
                    verdict = "refused" if is_listed or is_told else f"another result ({difference})"
        line = " ".join(map(ascii, command)) if any(not part.isprintable() for part in command) else " ".join(command)
        story = f"{what}\n  nascli {line}\n  exit code {ended.code}, {ended.cpu:.0f} s: {ended.err[-700:]!r}"
        tally.add(verdict, story)

    def _expect(self, command: tuple[str, ...]) -> tuple[object, dict[str, object]]:
        if command not in self._usual:
            folder = self.copy()
            ended = self._zygote.call(*command, folder=folder, memory=_MEMORY)
            assert ended.code == 0, f"{command}: {ended.err}"
            self._usual[command] = self._result(ended, folder)
        return self._usual[command]

    def _result(self, ended: Ended, folder: Path) -> tuple[object, dict[str, object]]:
        try:
            out = drop_times(json.loads(ended.out))
        except ValueError:
            out = None
        found: dict[str, object] = {}
        for entry in folder.iterdir():
            if entry.name not in self._linked and not entry.is_symlink():
                found |= {f"{entry.name}/{name}": value for name, value in read_results(entry).items()}
        return out, found


def judge(ended: Ended, rule: Rule, name: str = "") -> str:
    """`ok` (exit code 0), `refused`, or the word for what is wrong."""
    text = ended.out + ended.err
    if ended.code is None or ended.cpu > _CPU_SECONDS:
        return "hang"
    if ended.code < 0:
        return f"signal {-ended.code}"
    if "Traceback (most recent call last)" in text:
        return "traceback"
    if _UNEXPECTED in text or '"unexpected"' in text:
        return "unexpected"
    if ended.left:
        return "processes left"
    if any(control in text for control in _CONTROLS):
        return "control characters"
    if ended.code == 0 or (ended.code == _REMARKS and _REMARKS in rule.codes):
        return "ok"
    if ended.code not in rule.codes:
        return f"exit code {ended.code}"
    lines = [line for line in ended.err.splitlines() if line.lower().startswith("error: ")]
    if len(lines) != 1:
        return f"{len(lines)} lines of error"
    return "refused" if not rule.named or name in lines[0] else "file not named"


def damage(content: bytes, others: Sequence[bytes], draw: random.Random) -> tuple[str, bytes]:
    """A file's content after something that disks, copies and editors do to it; and what it is in words.

    Args:
        others: The contents of other files, one of which may stand in its place.
    """
    kinds: list[Callable[[], tuple[str, bytes]]] = [
        lambda: _cut(content, draw),
        lambda: ("cut to nothing", b""),
        lambda: _flip(content, draw),
        lambda: _flip(content, draw),
        lambda: _zero(content, draw),
        lambda: ("appended", content + draw.randbytes(draw.randint(1, 300))),
        lambda: ("swapped", draw.choice(others)) if others else _flip(content, draw),
        lambda: _repeat(content, draw),
        lambda: _digit(content, draw),
        lambda: _digit(content, draw),
        lambda: _line(content, draw),
    ]
    return draw.choice(kinds)()


def _cut(content: bytes, draw: random.Random) -> tuple[str, bytes]:
    size = draw.randrange(len(content) or 1)
    return f"cut to {size} of {len(content)} bytes", content[:size]


def _flip(content: bytes, draw: random.Random) -> tuple[str, bytes]:
    place, bit = draw.randrange(len(content) or 1), draw.randrange(8)
    changed = bytearray(content or b"\0")
    changed[place] ^= 1 << bit
    return f"bit {bit} of byte {place} of {len(content)} flipped", bytes(changed)


def _zero(content: bytes, draw: random.Random) -> tuple[str, bytes]:
    begin = draw.randrange(len(content) or 1)
    end = min(len(content), begin + draw.choice((1, 16, 512, 4096)))
    return f"bytes {begin} to {end} zero", content[:begin] + bytes(end - begin) + content[end:]


def _repeat(content: bytes, draw: random.Random) -> tuple[str, bytes]:
    begin = draw.randrange(len(content) or 1)
    end = min(len(content), begin + draw.choice((1, 30, 512)))
    return f"bytes {begin} to {end} twice", content[:end] + content[begin:]


def _digit(content: bytes, draw: random.Random) -> tuple[str, bytes]:
    places = [place for place, byte in enumerate(content[:200_000]) if chr(byte).isdigit() and byte < 128]
    if not places:
        return _flip(content, draw)
    place = draw.choice(places)
    digit = draw.choice([each for each in b"0123456789" if each != content[place]])
    return f"digit {place} is {chr(digit)}", content[:place] + bytes([digit]) + content[place + 1 :]


def _line(content: bytes, draw: random.Random) -> tuple[str, bytes]:
    lines = content.splitlines(keepends=True)
    if not lines:
        return "a line end", b"\n"
    number = draw.randrange(len(lines))
    if draw.random() < 0.5:
        return f"line {number + 1} removed", b"".join(lines[:number] + lines[number + 1 :])
    other = draw.randrange(len(lines))
    lines[number], lines[other] = lines[other], lines[number]
    return f"lines {number + 1} and {other + 1} exchanged", b"".join(lines)


def _differ(expected: tuple[object, dict[str, object]], found: tuple[object, dict[str, object]], unread: str) -> str:
    if expected[0] != found[0]:
        return "stdout"
    names = sorted(
        name
        for name in expected[1].keys() | found[1].keys()
        if name.removesuffix("/.") != unread and expected[1].get(name) != found[1].get(name)
    )
    return ", ".join(names[:4])


def _bytes_of(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def write_at(file: str, content: bytes) -> Callable[[Path], Any]:
    """The change that a file gets this content; what was there, a link too, is replaced."""

    def change(folder: Path) -> None:
        path = folder / file
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    return change
