"""Everything that is known of a machine in one object, as a report of a bug needs it.

Nothing in it is secret: of the environment it has the variables that nascli and torch read, and the home folder, which
has the user's name, is written `~`.
"""

import os
import platform
from collections.abc import Callable
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from nascli.doctor.advice import advise
from nascli.doctor.machine import describe_cpu, describe_memory, describe_packages, describe_place

SHARED_MEMORY = Path("/dev/shm")

_VARIABLES = (
    "NASCLI_RUNS",
    "OMP_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_MPS_PIPE_DIRECTORY",
    "CUDA_LAUNCH_BLOCKING",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_ALLOC_CONF",
    "NVIDIA_TF32_OVERRIDE",
    "CXX",
    "TMPDIR",
)
"""Environment variables that change what nascli and torch do."""

Findings = dict[str, Any]


def examine(runs: Path) -> Findings:
    """Look at the machine and train for about two seconds; nothing is left behind.

    A part that cannot be looked at has the key `error` alone; so a broken torch does not hide the rest.

    Args:
        runs: The folder of all runs, there already or not.

    Returns:
        `versions`, `platform`, `environment`, `cpu`, `memory`, `torch`, `gpus`, `engines`, `storage`, `training`, and
        `advice`, sentences (`docs/json.md`).
    """
    found: Findings = {"versions": _look(describe_packages), "platform": platform.platform()}
    found["environment"] = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    found |= {"cpu": _look(describe_cpu), "memory": _look(describe_memory)}
    found |= {"torch": _look(_describe_torch), "gpus": _look(_describe_gpus), "engines": _look(_describe_engines)}
    found["storage"] = {
        "shared_memory": _look(lambda: describe_place(SHARED_MEMORY)),
        "runs": _look(lambda: describe_place(runs)),
        "temporary": _look(lambda: describe_place(Path(gettempdir()))),
    }
    found["training"] = _look(_measure_training)
    found["advice"] = advise(found)
    hidden: Findings = _hide_home(found, os.path.expanduser("~"))
    return hidden


def _look(describe: Callable[[], Any]) -> Any:  # noqa: ANN401 - any JSON
    try:
        return describe()
    except Exception as error:  # whatever is broken here is what the report is for
        return {"error": " ".join(f"{type(error).__name__}: {error}".split())}


def _describe_torch() -> Any:  # noqa: ANN401 - torch is imported here, so that a broken one is a finding, too
    from nascli.doctor.devices import describe_torch

    return describe_torch()


def _describe_gpus() -> Any:  # noqa: ANN401
    from nascli.doctor.devices import describe_gpus

    return describe_gpus()


def _describe_engines() -> Any:  # noqa: ANN401
    from nascli.doctor.devices import describe_engines

    return describe_engines()


def _measure_training() -> Any:  # noqa: ANN401
    from nascli.doctor.probe import measure_training

    return measure_training()


def _hide_home(value: Any, home: str) -> Any:  # noqa: ANN401 - any JSON
    """The value with `~` for the home folder in every text."""
    if isinstance(value, str):
        return value.replace(home, "~") if len(home) > 1 else value
    if isinstance(value, dict):
        return {key: _hide_home(each, home) for key, each in value.items()}
    return [_hide_home(each, home) for each in value] if isinstance(value, list) else value
