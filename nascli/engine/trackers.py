"""Experiment trackers: the figures of a training through the clients of MLflow, Trackio and Weights & Biases.

A client that fails is let go with a note: the training goes on, and its own files have every figure.
"""

import os
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, Self

from nascli.engine.meters import EpochRecord
from nascli.errors import InputError
from nascli.files import write_json
from nascli.text_files import read_json

TRACKING_FILE = "tracking.json"
"""In a run folder: the tracker, and its own name of the run, under which a resumed training goes on."""

PROJECT = "nascli"
"""Project, or experiment, of all runs; `MLFLOW_EXPERIMENT_NAME`, `TRACKIO_PROJECT` or `WANDB_PROJECT` name another."""


class Client(Protocol):
    """One run in the program of a tracker."""

    def begin(self, name: str, settings: Mapping[str, Any], known: str | None) -> str:
        """Begin a run, or go on with the one that is known by this id; returns its id."""

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Send the figures of a step."""

    def end(self, *, failed: bool) -> None:
        """End the run."""


class MlflowClient:
    """MLflow, at `MLFLOW_TRACKING_URI` or where MLflow puts its runs by itself."""

    def __init__(self) -> None:
        self._client: Any = import_client("mlflow").MlflowClient()
        self._run = ""

    def begin(self, name: str, settings: Mapping[str, Any], known: str | None) -> str:
        """As of `Client`; settings become params."""
        if known is not None:
            self._client.update_run(known, status="RUNNING")
            self._run = known
            return known
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
        found = self._client.get_experiment_by_name(experiment)
        place = found.experiment_id if found else self._client.create_experiment(experiment)
        self._run = str(self._client.create_run(place, run_name=name).info.run_id)
        for key, value in settings.items():
            self._client.log_param(self._run, key, value)
        return self._run

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """As of `Client`."""
        for key, value in figures.items():
            self._client.log_metric(self._run, key, value, step=step)

    def end(self, *, failed: bool) -> None:
        """As of `Client`."""
        self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")


class WandbClient:
    """Weights & Biases, or Trackio, which has the same functions."""

    def __init__(self, module: str) -> None:
        self._name, self._module = module, import_client(module)

    def begin(self, name: str, settings: Mapping[str, Any], known: str | None) -> str:
        """As of `Client`. Trackio knows a run by its name, W&B by an id."""
        project = os.environ.get(f"{self._name.upper()}_PROJECT") or PROJECT
        named = {"name": known or name} if self._name == "trackio" else {"name": name, "id": known}
        run = self._module.init(project=project, config=dict(settings), resume="allow", **named)
        return str(run.name if self._name == "trackio" else run.id)

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """As of `Client`."""
        self._module.log(dict(figures), step=step)

    def end(self, *, failed: bool) -> None:
        """As of `Client`."""
        self._module.finish(**({"exit_code": int(failed)} if self._name == "wandb" else {}))


CLIENTS: dict[str, Callable[[], Client]] = {
    "mlflow": MlflowClient,
    "trackio": lambda: WandbClient("trackio"),
    "wandb": lambda: WandbClient("wandb"),
}
"""The trackers by name."""


def import_client(name: str) -> Any:  # noqa: ANN401 - a module
    """The client of a tracker; InputError where it is not installed."""
    try:
        return import_module(name)
    except ImportError as error:
        raise InputError(f"--track {name} needs {error.name}, which is not installed", f"pip install {name}") from error


class Tracker:
    """Sends the figures of one training to a tracker; a context manager.

    Args:
        tool: Of `CLIENTS`.
        folder: The run folder.
        settings: The recipe.
        note: Called once, where the tracker fails.
    """

    def __init__(self, tool: str, folder: Path, settings: Mapping[str, Any], note: Callable[[str], None]) -> None:
        self._tool, self._folder, self._note = tool, folder, note
        self._settings = dict(flatten(settings))
        self._client: Client | None = CLIENTS[tool]()

    def __enter__(self) -> Self:
        file = self._folder / TRACKING_FILE
        known = read_json(file) if file.is_file() else {}
        same = known.get("id") if known.get("tool") == self._tool else None

        def begin(client: Client) -> None:
            run = client.begin(self._folder.resolve().name, self._settings, same)
            write_json(file, {"tool": self._tool, "id": run})

        self._try(begin)
        return self

    def __exit__(self, kind: type[BaseException] | None, *raised: object) -> None:
        self._try(lambda client: client.end(failed=kind is not None))

    def on_step(self, step: int, loss: float) -> None:
        """Steps are not sent."""

    def on_epoch(self, record: EpochRecord) -> None:
        """Send the figures of an epoch that ends, by its last step."""
        figures = {**record.figures(), "train/lr": record.lr, "epoch": float(record.epoch)}
        figures |= {} if record.train_top1 is None else {"train/top1": record.train_top1}
        self._try(lambda client: client.log(figures, record.step))

    def _try(self, act: Callable[[Client], None]) -> None:
        if self._client is None:
            return
        try:
            act(self._client)
        except Exception as error:  # whatever a client raises, of a network or of its own
            self._client = None
            reason = (str(error) or type(error).__name__).splitlines()[0]
            self._note(f"warning: {self._tool} gets no more figures of this run ({reason}); metrics.jsonl has them all")


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of a recipe by dotted keys, as trackers list them."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
