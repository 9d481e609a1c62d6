"""Arithmetic of a training: float32, or less where autocast knows that it suffices."""

import torch

from nascli.config import OptimConfig, TrainingPrecision
from nascli.errors import InputError

_TYPES: dict[TrainingPrecision, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16}
"""Precisions of autocast; float32 needs none."""


def check_precision(config: OptimConfig, device: torch.device) -> None:
    """InputError where a device does not train in this precision."""
    if config.precision == "float16" and device.type != "cuda":
        raise InputError(f"{config.section}.precision float16 needs a CUDA device", "Use bfloat16 or float32 here")


def autocast(precision: TrainingPrecision, device: torch.device) -> torch.autocast:
    """A context in which a forward pass computes in a precision."""
    kind = _TYPES.get(precision)
    return torch.autocast(device.type, dtype=kind, enabled=kind is not None)
