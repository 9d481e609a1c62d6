"""The program and the networks of the front door's tests; the table of tries at the end of a test run."""

from collections.abc import Iterator

import pytest

from tests.front_door.conftest import _classifier, _detector, classifier, detector, nascli
from tests.reliability.zygote import Zygote

__all__ = ["_classifier", "_detector", "classifier", "detector", "nascli"]


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """Calls of the program in processes of their own; one for all tests of this process."""
    with Zygote() as made:
        yield made


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what `record_property("tries", ...)` recorded, also in other processes."""
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    figures = [values for report in reports for key, values in report.user_properties if key == "tries"]
    if not figures:
        return
    terminalreporter.section("tries and held")
    for values in sorted(figures, key=lambda each: str(each["name"])):
        terminalreporter.write_line(f"{values['name']:<60} {values['tries']:>6} {values['held']:>6}")
    total = [sum(int(values[key]) for values in figures) for key in ("tries", "held")]
    terminalreporter.write_line(f"{'all':<60} {total[0]:>6} {total[1]:>6}")
