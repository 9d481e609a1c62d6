"""Networks on disk: `network.json` (what to build) beside `weights.safetensors` (its weights)."""

import json
from pathlib import Path
from typing import Literal, overload

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import fx, nn

from nascli.content import describe_content
from nascli.errors import CorruptFileError, InputError
from nascli.files import write_bytes
from nascli.models.deploy.engines import build_folded
from nascli.models.families import NETWORK_FILE, build
from nascli.models.interface import ImageClassifier
from nascli.models.spec import read_network
from nascli.runs import refuse_detector

WEIGHTS_FILE = "weights.safetensors"


def save_weights(path: Path, network: nn.Module) -> None:
    """Write all weights and batch-norm statistics of a network (or a module around one), whole or not at all."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    write_bytes(path, save(state, {"format": "pt"}))  # one key only: the order of several changes from run to run


def load_weights(path: Path, network: nn.Module) -> None:
    """Load weights into a network (or a module around one), in place.

    Raises:
        InputError: There is no such file, or it belongs to another network; the message names the first entry that is
            missing, surplus or of another shape.
        CorruptFileError: The file is damaged, or holds values that are not finite.
    """
    try:
        state = load(path.read_bytes())
    except OSError as error:
        raise InputError(f"weights {path}: {error.strerror or error}") from error
    except (SafetensorError, json.JSONDecodeError, ValueError) as error:
        kind = describe_content(path)
        wrong = "are damaged" if kind == "a safetensors file" else f"are no safetensors file: it is {kind}"
        raise CorruptFileError(f"weights {path} {wrong}", "Copy it again from where it was written") from error
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
        if not bool(torch.isfinite(state[name]).all()):
            raise CorruptFileError(f"weights {path}: entry {name} holds values that are not finite")
    network.load_state_dict(state)


@overload
def load_network(
    folder: Path | str, device: str | torch.device = "cpu", *, inference: Literal[False] = False
) -> ImageClassifier: ...


@overload
def load_network(
    folder: Path | str, device: str | torch.device = "cpu", *, inference: Literal[True]
) -> fx.GraphModule: ...


def load_network(
    folder: Path | str, device: str | torch.device = "cpu", *, inference: bool = False
) -> ImageClassifier | fx.GraphModule:
    """The network of a train run, in evaluation mode, ready for normalized images (N, 3, H, W).

    Args:
        folder: Holds `network.json` and `weights.safetensors`.
        inference: Give the folded network instead, which answers faster: the same logits, to rounding, from a module
            without batch norms that gives nothing but logits.

    Raises:
        InputError: A file is absent, or the two do not belong together.
        CorruptFileError: A file is damaged.
    """
    refuse_detector(Path(folder))
    network = build(read_network(Path(folder) / NETWORK_FILE))
    load_weights(Path(folder) / WEIGHTS_FILE, network)
    if inference:
        return build_folded(network, torch.device(device))
    return network.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload,no-any-return]
