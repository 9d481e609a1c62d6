"""Advice on what a machine is short of, from what was found there."""

from collections.abc import Iterator, Mapping
from typing import Any

from nascli.units import format_bytes

_SHARED_MEMORY = 1 << 30
"""Bytes of /dev/shm that batches of streamed images and the data of search workers need, in a usual run."""

_DISK = 2 << 30
_MEMORY = 2 << 30


def advise(found: Mapping[str, Any]) -> list[str]:
    """A sentence for each problem, with the remedy; see `nascli.doctor.findings.examine` for the argument."""
    broken = [
        f"{name.replace('_', ' ')} could not be looked at: {part['error']}"
        for name, part in {**found, **found["storage"]}.items()
        if isinstance(part, Mapping) and "error" in part
    ]
    parts = (_on_cpu, _on_memory, _on_engines, _on_gpus, _on_storage)
    sound = _Sound(found)
    return [*broken, *(sentence for part in parts for sentence in part(sound))]


class _Sound:
    """The findings, with an empty part in place of each that could not be looked at."""

    def __init__(self, found: Mapping[str, Any]) -> None:
        self._found = found

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - any JSON
        part = self._found[name]
        return {} if isinstance(part, Mapping) and "error" in part else part


def _on_cpu(found: _Sound) -> Iterator[str]:
    cpu, torch = found["cpu"], found["torch"]
    usable, quota = cpu.get("usable", 1), cpu.get("quota")
    if quota and quota < usable:
        yield (
            f"this container may use {quota:g} of {usable} cores, so more threads than that wait for each other: "
            f"OMP_NUM_THREADS={max(1, int(quota))}, and --workers {max(1, int(quota))} for searches"
        )
    elif torch.get("threads", usable) < usable and torch.get("device") == "cpu":
        yield (
            f"torch computes with {torch['threads']} of {usable} cores: unset OMP_NUM_THREADS, or "
            f"--set train.threads={usable}"
        )
    elif torch.get("threads", 0) > usable:
        yield (
            f"torch computes with {torch['threads']} threads on {usable} cores, where they wait for each other: unset "
            "OMP_NUM_THREADS"
        )
    instructions = cpu.get("instructions")
    if instructions and not {"AVX2", "AVX-512", "NEON"} & {*instructions}:
        yield "this CPU has neither AVX2 nor AVX-512: everything is several times slower on it"


def _on_memory(found: _Sound) -> Iterator[str]:
    free = found["memory"].get("free")
    if free is not None and free < _MEMORY:
        yield f"{format_bytes(free)} of memory are free: lower train.batch_size and --workers, or end other programs"


def _on_engines(found: _Sound) -> Iterator[str]:
    engines, device = found["engines"], found["torch"].get("device")
    if not engines:
        return
    if device == "cpu" and "openvino" not in engines["names"]:
        yield (
            "OpenVINO is not installed: on CPUs trained networks answer several times faster with it "
            '(pip install "nascli[openvino]")'
        )
    if not engines["compiler"]:
        yield "there is no C++ compiler for torch.compile: install g++, or leave out --compile and train.compile"


def _on_gpus(found: _Sound) -> Iterator[str]:
    torch, gpus = found["torch"], found["gpus"]
    if not torch:
        return
    if torch["driver"] and not gpus:
        built = f"for CUDA {torch['cuda']}" if torch["cuda"] else "without CUDA"
        yield (
            f"NVIDIA's driver {torch['driver']} is there, but torch, which was built {built}, sees no GPU: is it "
            "hidden by CUDA_VISIBLE_DEVICES, or the driver older than that CUDA? nvidia-smi shows what it can do"
        )
    for gpu in gpus:
        if not gpu["bfloat16"]:
            yield (
                f"{gpu['name']} (compute capability {gpu['capability']}) does not compute in bfloat16: "
                "--set train.precision=auto where a recipe asks for it"
            )
    if len(gpus) > 1 and not torch["nccl"]:
        yield "torch has no NCCL: --gpus trains on one GPU alone"
    if gpus and not torch["mps"]:
        yield (
            "several search workers on one GPU take turns: with nvidia-cuda-mps-control -d they compute at the same "
            "time (--workers-per-gpu)"
        )


def _on_storage(found: _Sound) -> Iterator[str]:
    storage = _Sound(found["storage"])
    shared, runs, temporary = storage["shared_memory"], storage["runs"], storage["temporary"]
    if shared and (shared["free"] or 0) < _SHARED_MEMORY:
        yield (
            f"{shared['path']} has {format_bytes(shared['free'] or 0)} free: streamed images and search workers may "
            "need more: --set data.workers=0, or in a container a larger --shm-size"
        )
    for place, name, remedy in (
        (runs, "runs are written to", "NASCLI_RUNS=DIR names another folder"),
        (temporary, "temporary files go to", "TMPDIR=DIR names another folder"),
    ):
        if place and not place["writable"]:
            yield f"{place['path']}, which {name}, cannot be written to: {remedy}"
        elif place and place["free"] is not None and place["free"] < _DISK:
            yield f"{place['path']}, which {name}, has {format_bytes(place['free'])} free: make room, or {remedy}"
