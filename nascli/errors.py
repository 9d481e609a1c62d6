"""The errors a user can meet, each with its exit code.

Every message says what was wrong and where; `hint` says what to do next. The command line prints both
in one line and leaves with `exit_code`; `--debug` shows the traceback instead.
"""


class NascliError(Exception):
    """Something failed that nascli can explain.

    Args:
        message: What was wrong and where (file, field, value).
        hint: The remedy, as an imperative.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        stop = "" if self.message.endswith((".", "?", "!")) else "."
        return f"{self.message}{stop} {self.hint}" if self.hint else self.message


class InputError(NascliError):
    """An input of the user that cannot be used: a value, a file that is absent, a field that is wrong."""

    exit_code = 2


class CorruptFileError(NascliError):
    """A file exists but its content is damaged: truncated, not the format it claims, wrong checksum."""


class TooLargeError(CorruptFileError):
    """An image that is not decoded since it has more pixels than are allowed; it counts as one that cannot be read."""


class DivergedError(NascliError):
    """Training produced a loss that is not finite."""


class DeviceMemoryError(NascliError):
    """The device's memory does not suffice, however small the micro-batches are."""


class RejectedError(NascliError):
    """A genotype violates a constraint of the search; it is not trained."""


class Interrupted(NascliError):  # noqa: N818 - an interruption is not a failure
    """A signal asked to stop; the state is saved and `hint` names the command that continues."""

    exit_code = 130
