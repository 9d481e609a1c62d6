"""Networks on disk: `network.json` (what to build) beside `weights.safetensors` (its weights)."""

from pathlib import Path
from typing import Literal, overload

import torch
from torch import Tensor, nn

from nascli.errors import CorruptFileError, InputError
from nascli.models.deploy.engines import Engine
from nascli.models.deploy.optimized import AnyPrecision, open_engine
from nascli.models.families import NETWORK_FILE, build
from nascli.models.interface import ImageClassifier
from nascli.models.spec import read_network
from nascli.models.tensor_files import read_tensors, write_tensors
from nascli.references import locate
from nascli.runs.find import advise_folder, refuse_detector
from nascli.runs.record import RUN_FILE
from nascli.text import quote

WEIGHTS_FILE = "weights.safetensors"

SUPERNET_FILE = "supernet.safetensors"
"""The weights that the children of a search share, in its folder."""


def save_weights(path: Path, network: nn.Module) -> None:
    """Write all weights and batch-norm statistics of a network (or a module around one), whole or not at all."""
    write_tensors(path, network.state_dict())


def load_weights(path: Path, network: nn.Module) -> None:
    """Load weights into a network (or a module around one), in place.

    Raises:
        InputError: There is no such file, or it belongs to another network; the message names the first entry that is
            missing, surplus or of another shape.
        CorruptFileError: The file is damaged, was changed, or holds values that are not finite.
    """
    state = read_tensors(path)
    wanted = network.state_dict()
    for name in [*wanted, *state]:
        misfit = None
        if name not in state:
            misfit = "is missing"
        elif name not in wanted:
            misfit = "is not in the network"
        elif wanted[name].shape != state[name].shape:
            misfit = f"has the shape {list(state[name].shape)}, the network has {list(wanted[name].shape)}"
        if misfit:
            hint = "Use the network.json that was written beside these weights"
            raise InputError(f"weights {path}: entry {name} {misfit}", hint)
        if not _is_finite(state[name]):
            raise CorruptFileError(f"weights {path}: entry {name} holds values that are not finite")
    network.load_state_dict(state)


def check_weights(folder: Path) -> None:
    """Raise InputError where a folder holds no weights."""
    if (folder / WEIGHTS_FILE).is_file():
        return
    if (folder / RUN_FILE).is_file():
        raise InputError(
            f"{folder}: there are no weights yet, the training has not ended",
            f"nascli train --resume {quote(folder)} ends it",
        )
    hint = "Give a folder that nascli train or nascli build --import-weights wrote"
    advice = advise_folder(folder)
    raise InputError(f"{folder}: there is no {WEIGHTS_FILE} in it", f"{advice}. {hint}" if advice else hint)


def _is_finite(tensor: Tensor) -> bool:
    """Whether all values are finite; mostly by their sum, which takes a tenth of the time."""
    return bool(torch.isfinite(tensor.sum()) or torch.isfinite(tensor).all())


@overload
def load_network(
    folder: Path | str, device: str | torch.device = "cpu", *, inference: Literal[False] = False
) -> ImageClassifier: ...


@overload
def load_network(
    folder: Path | str,
    device: str | torch.device = "cpu",
    *,
    inference: Literal[True],
    engine: str = "auto",
    precision: AnyPrecision = "auto",
) -> Engine: ...


def load_network(
    folder: Path | str,
    device: str | torch.device = "cpu",
    *,
    inference: bool = False,
    engine: str = "auto",
    precision: AnyPrecision = "auto",
) -> ImageClassifier | Engine:
    """The network of a train run, in evaluation mode, ready for normalized images (N, 3, H, W).

    Args:
        folder: Holds `network.json` and `weights.safetensors`; or `hf:ORG/NAME`, a network on the Hugging Face hub, or
            `zoo:NAME`, one that ships with nascli.
        inference: Give an engine instead, which answers faster: a function from normalized images, float32
            (N, 3, H, W), to the same logits (N, classes), to rounding. N, H and W may vary.
        engine: One of `nascli.models.deploy.engines.ENGINES`; `auto` is the fastest that answers at once.
        precision: `bfloat16` computes in it: faster where the processor has instructions for it, and less exact.
            `int8` is the network of `nascli build --optimize`; `auto` what that measured to be the best on this
            machine, else float32.

    Raises:
        InputError: A file is absent, or does not belong to the others; the engine does not work here.
        CorruptFileError: A file is damaged.
    """
    place = locate(str(folder))
    refuse_detector(place)
    network = build(read_network(place / NETWORK_FILE))
    weights = place / WEIGHTS_FILE
    load_weights(weights, network)
    if inference:
        return open_engine(network, weights, torch.device(device), engine, precision).run
    return network.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload,no-any-return]
