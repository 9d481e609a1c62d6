"""Files of OpenVINO: a graph as XML beside its weights, OpenVINO's intermediate representation (IR)."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nascli.errors import CannotWriteError, CorruptFileError
from nascli.files import write_pair, writing
from nascli.models.deploy.openvino import Model, import_openvino, open_core
from nascli.models.deploy.program import to_texts

_OWNER = "nascli"
"""The section of a file's `rt_info` that the metadata stand in."""


@dataclass(frozen=True)
class Ir:
    """The content of the two files of a model."""

    graph: bytes
    weights: bytes

    def write(self, path: Path) -> None:
        """Write both files whole or not at all: `path`, and beside it that of the weights.

        Raises:
            CannotWriteError: One of them cannot be written.
        """
        write_pair(path, self.graph, weights_beside(path), self.weights)

    def open(self, source: object = "the model") -> Model:
        """The model.

        Args:
            source: Names it in an error.

        Raises:
            CorruptFileError: OpenVINO cannot read it.
        """
        openvino = import_openvino()
        weights = openvino.Tensor(np.frombuffer(self.weights, np.uint8))
        try:
            return open_core().read_model(self.graph.decode(), weights)
        except (RuntimeError, UnicodeDecodeError) as error:
            reason = (str(error).strip().splitlines() or ["it gives no reason"])[-1]
            raise CorruptFileError(f"{source}: OpenVINO cannot read it: {reason}", file=source) from error


def weights_beside(graph: Path) -> Path:
    """The file of the weights that belong to a graph's file."""
    return graph.with_suffix(".bin")


def serialize(model: Model, metadata: Mapping[str, object]) -> Ir:
    """A model as the content of files, with its weights as they are.

    Args:
        metadata: Stand in its `rt_info`, under `nascli`; JSON where they are not text.

    Raises:
        CannotWriteError: There is no space for it among the temporary files.
    """
    openvino = import_openvino()
    model = model.clone()
    for key, text in to_texts(metadata).items():
        model.set_rt_info(text, [_OWNER, key])
    with writing(Path(tempfile.gettempdir())), tempfile.TemporaryDirectory() as folder:
        graph, weights = Path(folder, "model.xml"), Path(folder, "model.bin")
        try:
            openvino.serialize(model, str(graph), str(weights))  # it writes to nothing else than files
        except RuntimeError as error:
            raise CannotWriteError(
                f"{folder} cannot be written", "Free some space there, or name another folder in TMPDIR", file=folder
            ) from error
        return Ir(graph.read_bytes(), weights.read_bytes())
