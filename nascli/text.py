"""Names that other people gave: compared, and shown, as a reader sees them."""

import unicodedata

_ESCAPED = {"Cc", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode categories without a look of their own: controls, lone surrogates (bytes that are no UTF-8), unassigned."""


def nfc(name: str) -> str:
    """The name in Unicode's composed form: é is one letter, though macOS writes an e with an accent behind it."""
    return unicodedata.normalize("NFC", name)


def as_read(name: str) -> str:
    """The name as a reader tells it from others: composed letters, single spaces."""
    return " ".join(nfc(name).split())


def printable(text: str) -> str:
    """The text on one line, fit for any UTF-8 output: what has no look of its own is written as a `\\\\x..` escape."""
    return "".join(_escape(letter) if unicodedata.category(letter) in _ESCAPED else letter for letter in text)


def _escape(letter: str) -> str:
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte that is no UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
