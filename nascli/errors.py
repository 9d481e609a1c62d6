"""The errors a person can meet, each with its exit code.

Every message says what was wrong and where; `hint` says what to do next. The command line prints both
in one line and leaves with `exit_code`; `--debug` shows the traceback instead.
"""


class NascliError(Exception):
    """Something failed that nascli can explain.

    Args:
        message: What was wrong and where (file, field, value), without a trailing full stop.
        hint: What to do next; may be empty.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}. {self.hint}" if self.hint else self.message


class InputError(NascliError):
    """What the person gave cannot be used: a value, a file that is absent, a field that is wrong."""

    exit_code = 2


class CorruptFileError(NascliError):
    """A file exists but its content is damaged: truncated, not the format it claims, wrong checksum."""


class DivergedError(NascliError):
    """Training produced a loss that is not finite."""


class DeviceMemoryError(NascliError):
    """The device has not enough memory, however small the parts are."""


class RejectedError(NascliError):
    """A genotype breaks a limit that the person set; it is not trained."""


class Interrupted(NascliError):  # noqa: N818 - an interruption is not a failure
    """A signal asked to stop; the state is saved and `hint` names the command that continues."""

    exit_code = 130
