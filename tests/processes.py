"""Starting several processes of nascli, and waiting for what they write."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

import nascli
from nascli.engine.dist import DistContext
from nascli.errors import NascliError

ROOT = Path(nascli.__file__).parents[1]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m"]
LAUNCH = "import sys; from nascli.engine.launch import launch; sys.exit(launch(2, sys.argv[1:]))"
FIRST, SECOND = DistContext(0, 2, 0, 2), DistContext(1, 2, 1, 2)


def wait_for_epoch(folder: str, epoch: int) -> None:
    path, deadline = Path(folder, "metrics.jsonl"), time.monotonic() + 200
    while not (path.is_file() and len(path.read_text().splitlines()) >= epoch):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def failure(action: Callable[[], object]) -> tuple[str, str]:
    """The kind and the words of the error that an action ends with."""
    try:
        action()
    except (NascliError, torch.OutOfMemoryError) as error:
        return type(error).__name__, str(error)
    return "", ""
