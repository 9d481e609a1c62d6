"""The weights that a run begins with, where they are not fresh: kept in its folder until they are trained.

`start.safetensors` is written before `run.json`, so a run that is killed at any moment resumes with the same weights,
whatever became of the source.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nascli.engine.checkpoint import NEWEST, PREVIOUS
from nascli.errors import InputError
from nascli.models.tensor_files import hash_tensors, read_tensors, write_tensors
from nascli.runs.record import START_FILE, START_WEIGHTS


@dataclass(frozen=True)
class Start:
    """The weights that a run begins with.

    Args:
        tensors: All of the network's; None where a checkpoint has those that they became.
        record: What `run.json` says of them: `weights`, `sha256` over all tensors, and what was taken.
        text: The same in a sentence; empty in a resumed run.
    """

    tensors: Mapping[str, Tensor] | None
    record: Mapping[str, Any]
    text: str = ""

    @classmethod
    def of(cls, module: nn.Module, record: Mapping[str, Any], text: str = "") -> "Start":
        """The weights that a module has now."""
        tensors = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
        return cls(tensors, {**record, "sha256": hash_tensors(tensors)}, text)

    @property
    def sha256(self) -> str:
        """The digest of the tensors, which the identity of a run covers."""
        return str(self.record["sha256"])

    def fill(self, module: nn.Module) -> None:
        """Load the weights, unless a checkpoint has what they became."""
        if self.tensors is not None:
            module.load_state_dict(self.tensors)

    def write(self, folder: Path) -> None:
        """Keep them in a run folder."""
        assert self.tensors is not None
        write_tensors(folder / START_FILE, self.tensors)


def resume_start(record: Mapping[str, Any], folder: Path) -> Start | None:
    """The start of a run that is resumed; None for one of fresh weights.

    Args:
        record: The content of its `run.json`.

    Raises:
        InputError: There is no checkpoint yet, and the weights in the folder are not those that the run began with.
        CorruptFileError: The same, and they are damaged.
    """
    values = record.get(START_WEIGHTS)
    if values is None:
        return None
    if any((folder / name).is_file() for name in (NEWEST, PREVIOUS)):
        return Start(None, values)
    if not (folder / START_FILE).is_file():
        raise InputError(
            f"{folder} has no checkpoint, and {START_FILE}, the weights that it began with, is gone",
            "Start it again, with --out and --overwrite",
            file=folder / START_FILE,
        )
    tensors = {name: tensor.clone() for name, tensor in read_tensors(folder / START_FILE).items()}
    if hash_tensors(tensors) != values["sha256"]:
        raise InputError(
            f"{folder / START_FILE} does not hold the weights that the run began with",
            "Start it again, with --out and --overwrite",
        )
    return Start(tensors, values)
