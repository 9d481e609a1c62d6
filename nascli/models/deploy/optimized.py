"""The precision that was admitted for a network by measurement, in files beside its weights; engines that use it.

`optimized.json` has what was measured and the precision that came first; of int8 the network itself lies beside it, as
`optimized.xml` and `optimized.bin`.
"""

import hashlib
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from nascli.config import explain
from nascli.errors import CorruptFileError, InputError
from nascli.files import writing
from nascli.models.deploy.engines import ENGINES, Engine, find_engine
from nascli.models.deploy.ir import Ir, weights_beside
from nascli.models.deploy.openvino import OpenvinoEngine, Precision, import_openvino, open_core, supports
from nascli.models.interface import ImageClassifier
from nascli.models.tensor_files import digest_tensors
from nascli.records import check_schema, read_record, write_record
from nascli.text import quote

OPTIMIZED_FILE = "optimized.json"
MODEL_FILE = "optimized.xml"

AdmittedPrecision = Literal["float32", "bfloat16", "int8"]
AnyPrecision = Literal["float32", "bfloat16", "int8", "auto"]
"""Precisions to ask for; `auto` is the one that was admitted by measurement on this machine, else float32."""

_SCHEMA = 1


class Optimized(BaseModel):
    """The record, as far as an engine relies on it.

    Args:
        precision: The admitted one.
        weights_sha256: Digest of the weights that it was measured with.
        machine: What `describe_machine` said.
        files: SHA-256 of each file beside it, by name.
    """

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)

    precision: AdmittedPrecision
    weights_sha256: str
    machine: dict[str, Any]
    files: dict[str, str] = {}


@dataclass(frozen=True)
class OpenedEngine:
    """A network that answers, the name of its engine, and its precision."""

    run: Engine
    name: str
    precision: AdmittedPrecision


def describe_machine() -> dict[str, Any]:
    """The processor as OpenVINO knows it, which measured times hold for."""
    core = open_core()
    return {
        "cpu": core.get_property("CPU", "FULL_DEVICE_NAME"),
        "capabilities": sorted(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")),
        "cores": os.cpu_count(),
        "platform": platform.platform(),
    }


def open_engine(
    network: ImageClassifier,
    weights: Path,
    device: torch.device,
    engine: str = "auto",
    precision: AnyPrecision = "auto",
) -> OpenedEngine:
    """The engine of a trained network; files of `write_optimized` beside its weights decide where they are asked for.

    Args:
        network: It is left as it is.
        weights: The file that it was loaded from.
        engine: One of `nascli.models.deploy.engines.ENGINES`, or `auto`.

    Raises:
        InputError: The engine or precision does not work here, or the optimized network is of other weights, or absent.
        CorruptFileError: A file of the optimized network is damaged.
    """
    if precision == "int8":
        return _open_int8(weights, device, engine)
    if precision == "auto":
        found = _find_admitted(weights) if _is_openvino(device, engine) else None
        if found and found.precision == "int8":
            return _open_int8(weights, device, engine)
        plain: Precision = "bfloat16" if found and found.precision == "bfloat16" else "float32"
        engine = "openvino" if found else engine
    else:
        plain = precision
    name, run = find_engine(engine, ENGINES, device, plain, lambda build: build(network, device, plain))
    return OpenedEngine(run, name, plain)


def write_optimized(weights: Path, values: Mapping[str, object], content: Ir | None) -> None:
    """Write the record of what was measured, and beside it the network where int8 was admitted.

    A kill leaves no record, or one that fits the files beside it.

    Args:
        weights: The file of the network.
        values: Those of `Optimized` but `files`, and whatever else was measured.
        content: The network in int8.

    Raises:
        CannotWriteError: A file cannot be written.
    """
    record, model = weights.with_name(OPTIMIZED_FILE), weights.with_name(MODEL_FILE)
    with writing(record):
        record.unlink(missing_ok=True)
    files = {}
    if content:
        content.write(model)
        files = {model.name: _digest(content.graph), weights_beside(model).name: _digest(content.weights)}
    else:
        for old in (model, weights_beside(model)):
            with writing(old):
                old.unlink(missing_ok=True)
    write_record(record, {"schema": _SCHEMA, **values, "files": files})


def read_optimized(weights: Path) -> Optimized | None:
    """The record beside the weights of a network; None where there is none.

    Raises:
        InputError: It is of other weights.
        CorruptFileError: It is damaged.
    """
    file = weights.with_name(OPTIMIZED_FILE)
    if not os.path.lexists(file):
        return None
    values = read_record(file)
    check_schema(values, _SCHEMA, file)
    try:
        found = Optimized.model_validate(values)
    except ValidationError as error:
        wrong = explain(error, str(file), Optimized)
        raise CorruptFileError(wrong.message, _remedy(weights), file=file, field=wrong.field) from error
    if found.weights_sha256 != digest_tensors(weights):
        raise InputError(f"{file} was measured with other weights than {weights.name} is", _remedy(weights), file=file)
    return found


def _find_admitted(weights: Path) -> Optimized | None:
    """The record, where it was measured on this machine: what is fast on another may be slow here."""
    found = read_optimized(weights)
    if found is None:
        return None
    here = describe_machine()
    return found if all(found.machine.get(key) == here[key] for key in ("cpu", "capabilities")) else None


def _open_int8(weights: Path, device: torch.device, engine: str) -> OpenedEngine:
    if device.type != "cpu" or engine not in ("auto", "openvino"):
        raise InputError(
            f"int8 is computed by the engine openvino on a CPU, not by {engine} on {device}",
            "Give --engine openvino and --device cpu, or another --precision",
        )
    import_openvino()
    found, file = read_optimized(weights), weights.with_name(MODEL_FILE)
    if found is None or found.precision != "int8":
        raise InputError(f"{weights.parent} has no network in int8 that was admitted", _remedy(weights))
    content = Ir(*(_read(each, found.files.get(each.name), weights) for each in (file, weights_beside(file))))
    return OpenedEngine(OpenvinoEngine(content.open(file), int8_rest()), "openvino", "int8")


def int8_rest() -> Precision:
    """The precision of what a network in int8 does not compute in whole numbers."""
    return "bfloat16" if supports("bfloat16") else "float32"


def _is_openvino(device: torch.device, engine: str) -> bool:
    return device.type == "cpu" and engine in ("auto", "openvino") and supports("float32")


def _read(path: Path, digest: str | None, weights: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}", _remedy(weights), file=path) from error
    if _digest(content) != digest:
        raise CorruptFileError(
            f"{path} is not the one that {OPTIMIZED_FILE} was written with", _remedy(weights), file=path
        )
    return content


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _remedy(weights: Path) -> str:
    return f"nascli build --network {quote(weights.parent)} --optimize --overwrite measures it anew"
