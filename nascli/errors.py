"""The errors a user can meet, each with its exit code.

Every message says what was wrong and where; `hint` says what to do next. The command line prints both
in one line and leaves with `exit_code`; with `--json` they are an object on stdout, too (`docs/json.md`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

_ENDS = tuple(".?!…:")
_CLOSING = "\"'”’»)]}"


class NascliError(Exception):
    """Something failed that nascli can explain.

    Args:
        message: What was wrong and where (file, field, value).
        hint: The remedy, as an imperative.
        file: The file or folder that is to be mended.
        field: The place in it: a key of a recipe or of JSON, with dots and indices; or an option.
    """

    exit_code = 1
    code = "failed"
    """The kind of error, for programs."""

    def __init__(self, message: str, hint: str = "", *, file: object = None, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.file = None if file is None else str(file)
        self.field = field

    def __str__(self) -> str:
        return join_sentences(self.message, self.hint)

    def reword(self, message: str, hint: str) -> Self:
        """The same error in other words."""
        return type(self)(message, hint, file=self.file, field=self.field)

    def to_dict(self) -> dict[str, Any]:
        """The error as JSON values."""
        return {
            "code": self.code,
            "exit_code": self.exit_code,
            "type": type(self).__name__,
            "message": self.message,
            "file": self.file,
            "field": self.field,
            "remedy": self.hint or None,
        }


class InputError(NascliError):
    """An input of the user that cannot be used: a value, a file that is absent, a field that is wrong."""

    exit_code = 2
    code = "bad_input"


class UnknownStepError(InputError):
    """A network has a step that an engine does not know; another engine may compute it."""


class CorruptFileError(NascliError):
    """A file exists but its content is damaged: truncated, not the format it claims, wrong checksum."""

    code = "corrupt_file"


class TooLargeError(CorruptFileError):
    """An image that is not decoded since it has more pixels than are allowed; it counts as one that cannot be read."""


class CannotWriteError(NascliError):
    """A file or folder cannot be written: the disk is full, the folder is gone or may not be written to."""

    code = "cannot_write"


class DivergedError(NascliError):
    """Training produced a loss that is not finite."""

    code = "diverged"


class LostProcessError(NascliError):
    """A process that works for this one was ended from outside."""


class DeviceMemoryError(NascliError):
    """The device's memory does not suffice, however small the micro-batches are."""

    code = "out_of_memory"


class RejectedError(NascliError):
    """A genotype violates a constraint of the search; it is not trained."""

    code = "rejected"


class Interrupted(NascliError):  # noqa: N818 - an interruption is not a failure
    """A signal asked to stop; the state is saved and `hint` names the command that continues."""

    exit_code = 130
    code = "interrupted"


@contextmanager
def about(file: object) -> Iterator[None]:
    """Say of an error in the block that does not name its file that it is about this one."""
    try:
        yield
    except NascliError as error:
        error.file = str(file) if error.file is None else error.file
        raise


def join_sentences(first: str, second: str) -> str:
    """Two sentences, or what stands for one, with one stop between them."""
    text = first.rstrip()
    if text.endswith("..") and not text.endswith("..."):  # a text in a text, each with a stop of its own
        text = text[:-1]
    if not second:
        return text
    return f"{text}{'' if text.rstrip(_CLOSING).endswith(_ENDS) else '.'} {second}"
