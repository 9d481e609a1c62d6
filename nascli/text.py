"""Names that other people gave: compared, shown, and quoted, as a reader sees them and a shell reads them."""

import codecs
import os
import shlex
import unicodedata
import zlib
from collections.abc import Iterable

_ESCAPED = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode categories without a look of their own: controls, what turns the direction of writing, lone surrogates (bytes
that are no UTF-8), private and unassigned letters."""

_JOINERS = {"\u200c", "\u200d"}
"""Of category Cf, but part of the words of some languages and of many emoji."""

_PLAIN = {"×": "x", "·": "-", "±": "~", "–": "-", "…": "~", "←": "<", "→": ">"}
"""Signs that nascli's own lines hold, as an output without Unicode has them: one column each, too."""

_SEPARATORS = str.maketrans({"/": "-", "\\": "-"})
_LONGEST_FILE, _SHORTENED = 150, 40
"""Bytes of a name that a file can have, with something behind it; and the letters that are left of a longer one."""

_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
"""What spreadsheets begin a formula with; the wide ones in some languages."""

SPELL_OUT = "nascli-spell-out"
"""The handler of encoding errors (`errors=`) that writes an escape for a letter that an output cannot hold."""


def nfc(name: str) -> str:
    """The name in Unicode's composed form: é is one letter, though macOS writes an e with an accent behind it."""
    return unicodedata.normalize("NFC", name)


def as_read(name: str) -> str:
    """The name as a reader tells it from others: composed letters, single spaces."""
    return " ".join(nfc(name).split())


def printable(text: str, encoding: str = "utf-8") -> str:
    """The text on one line, fit for an output: what has no look of its own is an escape as `\\x0a`.

    Args:
        encoding: That of the output; letters which it has not are escaped, too.
    """
    if not text.isascii() or not text.isprintable():
        text = "".join(map(_escape_invisible, text))
    return text if encoding.lower().startswith("utf") else text.encode(encoding, SPELL_OUT).decode(encoding)


def quote(word: object, encoding: str = "utf-8") -> str:
    """A word of a command line for a shell; bash's `$'...'` where it holds what is not `printable`.

    A path whose name begins with a dash, as an option does, gets `./` before it.
    """
    text = str(word)
    if isinstance(word, os.PathLike) and text.startswith("-"):
        text = os.path.join(os.curdir, text)
    if printable(text, encoding) == text:
        return shlex.quote(text)
    return "$'" + "".join(_ansi_c(letter, encoding) for letter in text) + "'"


def quote_command(words: Iterable[object], encoding: str = "utf-8") -> str:
    """A command line to paste."""
    return " ".join(quote(word, encoding) for word in words)


def as_cell(name: str) -> str:
    """A name as a cell of a table for spreadsheets, which would compute `=1+1`: an apostrophe makes it a text.

    One that begins with an apostrophe gets another, so that a cell without its first one is the name, as `printable`
    shows it.
    """
    shown = printable(name)
    return f"'{shown}" if name.lstrip().startswith(_FORMULA) or shown.startswith("'") else shown


def as_file_name(name: str) -> str:
    """A name as one of a file or folder, or a part of it: it leaves no folder and is not too long."""
    plain = printable(name.translate(_SEPARATORS)).translate(_SEPARATORS)
    if plain.strip(".") and len(os.fsencode(plain)) <= _LONGEST_FILE:
        return plain
    return f"{plain.strip('.')[:_SHORTENED]}-{zlib.crc32(name.encode('utf-8', 'surrogatepass')):08x}"


def _escape_invisible(letter: str) -> str:
    return _escape(letter) if unicodedata.category(letter) in _ESCAPED and letter not in _JOINERS else letter


def _escape(letter: str) -> str:
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte that is no UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _ansi_c(letter: str, encoding: str) -> str:
    if letter in "\\'":
        return f"\\{letter}"
    if printable(letter, encoding) == letter:
        return letter
    errors = "surrogateescape" if "\udc80" <= letter <= "\udcff" else "surrogatepass"
    return "".join(f"\\x{byte:02x}" for byte in letter.encode("utf-8", errors))


def _spell_out(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(_PLAIN.get(letter) or _escape(letter) for letter in letters), error.end


codecs.register_error(SPELL_OUT, _spell_out)
