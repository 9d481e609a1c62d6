"""Settings that all tests share."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded; workers do not fight for the cores

import pytest
import torch
from hypothesis import HealthCheck, settings

settings.register_profile("nascli", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.load_profile("nascli")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_runs_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes into the checkout: relative paths and runs go to a temporary folder."""
    folder = tmp_path_factory.mktemp("work")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("NASCLI_RUNS", str(folder / "runs"))


@pytest.fixture(autouse=True)
def _no_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """No width of a terminal counts, whatever started the tests: some libraries set this variable."""
    monkeypatch.delenv("COLUMNS", raising=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print a table of the tries that tests of reliability recorded, and how many of them held."""
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    figures = [values for report in reports for key, values in report.user_properties if key == "tries"]
    if not figures:
        return
    terminalreporter.section("tries and held")
    for values in sorted(figures, key=lambda each: str(each["name"])):
        terminalreporter.write_line(f"{values['name']:<60} {values['tries']:>6} {values['held']:>6}")
    total = [sum(int(values[key]) for values in figures) for key in ("tries", "held")]
    terminalreporter.write_line(f"{'all':<60} {total[0]:>6} {total[1]:>6}")
