"""`nascli doctor`: what is here, how fast it is, and what is short."""

from collections.abc import Iterator, Mapping
from typing import Any

from nascli.cli.options import JSON, Call, command, runs_folder
from nascli.units import count_of, format_bytes


@command("doctor", [JSON], examples=["nascli doctor", "nascli doctor --json"])
def run(call: Call) -> None:
    """Show versions, processor, GPUs, memory and disks, train for two seconds, and say what is short.

    The first thing to send with a report of a bug. It has no names of users or machines, and nothing is written.
    """
    from nascli.doctor.findings import examine

    terminal = call.terminal()
    with terminal.status("looking around, and training for two seconds"):
        found = examine(runs_folder())
    versions = found["versions"]
    terminal.show_table("versions", [(name, version or "not installed") for name, version in versions.items()])
    terminal.show("")
    terminal.show_table("machine", [*_list_machine(found), *_list_torch(found), *_list_storage(found)])
    for sentence in found["advice"]:
        terminal.show(f"\nadvice: {sentence}")
    if not found["advice"]:
        terminal.show("\nnothing is short")
    terminal.result(found)


def _list_machine(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "platform", found["platform"]
    yield from ((name, value) for name, value in found["environment"].items())
    cpu, memory = found["cpu"], found["memory"]
    if "error" in cpu:
        yield "CPU", cpu["error"]
    else:
        quota = "" if cpu["quota"] is None else f", limited to {cpu['quota']:g}"
        yield "CPU", cpu["model"]
        yield "cores", f"{cpu['usable']} of {cpu['cores']}{quota}"
        yield "instructions", ", ".join(cpu["instructions"]) or "none of those that matter"
    if "error" in memory:
        yield "memory", memory["error"]
    else:
        limit = "" if memory["limit"] is None else f", limited to {format_bytes(memory['limit'])}"
        yield "memory", f"{format_bytes(memory['free'])} of {format_bytes(memory['total'])} free{limit}"


def _list_torch(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    torch, gpus, engines, training = (found[name] for name in ("torch", "gpus", "engines", "training"))
    if "error" in torch:
        yield "torch", torch["error"]
    else:
        yield "device", f"{torch['device']}, precision auto is {torch['precision']}"
        yield "threads", str(torch["threads"])
        for name, label in (("driver", "driver"), ("cuda", "CUDA of torch"), ("cudnn", "cuDNN"), ("nccl", "NCCL")):
            yield label, torch[name] or "none"
        if gpus:
            yield "MPS", "running" if torch["mps"] else "not running"
    if isinstance(gpus, list):
        for number, gpu in enumerate(gpus):
            bfloat16 = "" if gpu["bfloat16"] else "no "
            facts = f"{format_bytes(gpu['memory'])}, compute capability {gpu['capability']}, {bfloat16}bfloat16"
            yield f"GPU {number}", f"{gpu['name']}, {facts}"
        if not gpus:
            yield "GPUs", "none"
    if "error" in engines:
        yield "engines", engines["error"]
    else:
        yield "engines", ", ".join(engines["names"])
        yield "OpenVINO computes in", ", ".join(engines["openvino"]) or "nothing here"
        yield "C++ compiler", engines["compiler"] or "none"
    if "error" in training:
        yield "training", training["error"]
    else:
        speed, batch = training["images_per_second"], count_of(training["batch_size"], "image")
        yield "training", f"{speed:,.0f} images/s ({training['network']}, {batch} of {training['image_size']} px)"


def _list_storage(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, place in found["storage"].items():
        label = name.replace("_", " ")
        if "error" in place:
            yield label, place["error"]
            continue
        room = (
            "absent"
            if place["free"] is None
            else f"{format_bytes(place['free'])} of {format_bytes(place['size'])} free"
        )
        yield label, f"{place['path']}, {room}{'' if place['writable'] else ', cannot be written to'}"
