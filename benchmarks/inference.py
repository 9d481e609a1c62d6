"""Images per second of trained networks: nascli's engines beside timm's and pretrained-models' networks in the same.

    python benchmarks/inference.py --rounds 5 --json inference.json

NASNet-A Large (timm, 331 pixels, batch 1) and Mobile (pretrained-models, 224 pixels, batches of 1 and 8) and MnasNet-A1
(timm, 224 pixels, the same batches), on the CPU.
A peer is measured as it comes, with channels last in memory, compiled with its weights frozen (`torch.compile`,
inductor's `freezing`), in ONNX Runtime (its export by torch), and that in OpenVINO, in float32, in bfloat16 and
in int8; nascli folded, compiled the same way, and in OpenVINO as `load_network(inference=True)` gives it. For int8 both
are quantized by NNCF on ten images of noise: speed does not depend on them; the distance of the logits is kept.

With --device cuda, in batches of 1 and 64 and in one process: the peer as it comes, with channels last in memory, in
bfloat16, and compiled in bfloat16; nascli's engine by default in float32 and bfloat16, its folded network launched
kernel by kernel, and compiled. A network whose peer is not installed is left out.

A peer with random weights and batch-norm statistics is made once; every measurement is a fresh process that loads
these, compares its logits with the peer's first, and computes for a while after it has warmed up.
"""

import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import (
    Column,
    Figures,
    Measures,
    Task,
    arguments,
    compare,
    fresh,
    measure_here,
    progress,
    serve,
    time_calls,
)
from inference_on_gpu import GPU_BATCHES, GPU_VARIANTS, gpu_speed
from inference_peers import NETWORKS, difference, make_peer, prepare, read_expected, refuse_distant
from on_device import add_device_options, measured_here, name_gpu

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nascli.models.deploy.openvino import Precision

PLAIN, LAST, COMPILED, RUNTIME = "peer", "peer, channels last", "peer, compiled", "peer, ONNX Runtime"
PEER_OPENVINO = {"peer, OpenVINO": "float32", "peer, OpenVINO bfloat16": "bfloat16"}
PEER_INT8, INT8 = "peer, OpenVINO int8", "nascli, OpenVINO int8"
OURS, OURS_COMPILED = "nascli", "nascli, compiled"
OPENVINO: "dict[str, Precision]" = {"nascli, OpenVINO": "float32", "nascli, OpenVINO bfloat16": "bfloat16"}
PEERS = (PLAIN, LAST, COMPILED, RUNTIME, *PEER_OPENVINO, PEER_INT8)
BATCHES = {"large": (1,), "mobile": (1, 8), "mnasnet": (1, 8)}


def peer_speed(task: Task) -> Figures:
    """The peer in one of its forms."""
    import torch

    images, logits = read_expected(task)
    if task["variant"] == RUNTIME:
        form = run_onnx(Path(task["folder"], "peer.onnx"), task["threads"])
        return measure(form, task, difference(form(images), logits), last=False)
    if task["variant"] == PEER_INT8:
        file = Path(task["folder"], "peer-int8.xml")
        if not file.exists():
            import openvino

            write_int8(openvino.Core().read_model(Path(task["folder"], "peer.onnx")), file, task["size"])
        form = run_openvino(file, "bfloat16", task["threads"])
        return measure(form, task, difference(form(images), logits), last=False)
    if task["variant"] in PEER_OPENVINO:
        form = run_openvino(Path(task["folder"], "peer.onnx"), PEER_OPENVINO[task["variant"]], task["threads"])
        return measure(form, task, difference(form(images), logits), last=False)
    network = make_peer(task)
    network.load_state_dict(torch.load(Path(task["folder"], "weights.pth"), weights_only=True))
    if task["variant"] != PLAIN:
        network = network.to(memory_format=torch.channels_last)
    form = compile_network(network) if task["variant"] == COMPILED else network
    return measure(form, task, difference(form(images), logits), last=task["variant"] != PLAIN)


def run_onnx(path: Path, threads: int) -> "Callable[[Tensor], Tensor]":
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def write_int8(model: Any, file: Path, size: int) -> None:  # noqa: ANN401
    """A model of OpenVINO in int8, as a file."""
    import nncf
    import numpy as np
    import openvino

    model.reshape([1, 3, size, size])
    noise = np.random.default_rng(0)
    images = [noise.standard_normal((1, 3, size, size), np.float32) for _ in range(10)]
    quantized = nncf.quantize(model, nncf.Dataset(images), subset_size=len(images))
    quantized.reshape([-1, 3, size, size])
    openvino.serialize(quantized, file)


def run_openvino(path: Path, precision: str, threads: int) -> "Callable[[Tensor], Tensor]":
    """A network in OpenVINO, compiled for each batch."""
    import openvino
    import torch

    model = openvino.Core().read_model(path)
    options = {
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
    }
    requests: dict[torch.Size, Any] = {}

    def run(images: "Tensor") -> "Tensor":
        if images.shape not in requests:
            model.reshape(list(images.shape))
            requests[images.shape] = openvino.compile_model(model, "CPU", options).create_infer_request()
        return torch.from_numpy(requests[images.shape].infer([images.numpy()], share_inputs=True)[0])

    return run


def nascli_speed(task: Task) -> Figures:
    """The same weights in nascli's folded network."""
    import torch

    from nascli.models.deploy.engines import build_engine
    from nascli.models.deploy.fuse import fold
    from nascli.models.deploy.translation import convert
    from nascli.models.families import build_network
    from nascli.models.pretrained import import_network

    network, _ = import_network(Path(task["folder"], "weights.pth"), build_network(task["cell"], task["preset"]).spec)
    images, logits = read_expected(task)
    apart = difference(network(images), logits)
    form: Callable[[Tensor], Tensor]
    if task["variant"] == INT8:
        file = Path(task["folder"], "nascli-int8.xml")
        if not file.exists():
            write_int8(convert(network), file, task["size"])
        form = run_openvino(file, "bfloat16", task["threads"])
        return measure(form, task, max(apart, difference(form(images), network(images))), last=False)
    engine = "compiled"
    if task["variant"] == OURS_COMPILED:
        form = compile_network(fold(network).to(memory_format=torch.channels_last))
    else:
        engine, precision = (
            "openvino" if task["variant"] in OPENVINO else "folded",
            OPENVINO.get(task["variant"], "float32"),
        )
        form = build_engine(network, torch.device("cpu"), engine, precision)
    return measure(form, task, max(apart, difference(form(images), network(images))), last=engine != "openvino")


def compile_network(network: "nn.Module") -> "Callable[[Tensor], Tensor]":
    import torch
    from torch._inductor import config

    config.freezing = True
    return torch.compile(network)


def measure(form: "Callable[[Tensor], Tensor]", task: Task, apart: float, *, last: bool) -> Figures:
    """Images a second, after the logits were found to agree."""
    import torch

    refuse_distant(task["variant"], apart)
    images = torch.randn(task["batch"], 3, task["size"], task["size"])
    if last:
        images = images.to(memory_format=torch.channels_last)
    timed = time_calls(lambda: form(images), task["seconds"], 5)  # warming up compiles for this batch, too
    return {"images_per_second": task["batch"] / timed[len(timed) // 2], "difference": apart, "forwards": len(timed)}


def alone(measured: Callable[[Task], Figures]) -> Callable[[Task], Figures]:
    """With all threads asked for, without gradients."""

    def call(task: Task) -> Figures:
        import torch

        torch.set_num_threads(task["threads"])
        with torch.inference_mode():
            return measured(task)

    return call


MEASURES: Measures = {
    "prepare": prepare,
    **dict.fromkeys(PEERS, alone(peer_speed)),
    **dict.fromkeys((OURS, OURS_COMPILED, *OPENVINO, INT8), alone(nascli_speed)),
    "gpu": alone(gpu_speed),
}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10, help="of forwards in each measurement; a third warms up")
    parser.add_argument("--network", action="append", choices=NETWORKS, help="one of them; default: all")
    parser.add_argument("--eager", action="store_true", help="skip the compiled variants, which take minutes")
    add_device_options(parser)
    asked = parser.parse_args()
    on_gpu = asked.device == "cuda" or asked.here
    variants, references = choose_variants(eager=asked.eager, on_gpu=on_gpu)
    columns = [
        Column("images_per_second", "images per second"),
        *(
            Column(f"{name}_times_as_fast", f"{name}, times as fast", figure="images_per_second", over=name)
            for name in references
        ),
    ]
    with tempfile.TemporaryDirectory(prefix="nascli-inference-") as folder:
        cases: dict[str, Task] = {}
        for network in asked.network or NETWORKS:
            if on_gpu and find_spec(NETWORKS[network]["tool"]) is None:
                progress(f"{network} is left out: {NETWORKS[network]['tool']} is not installed")
                continue
            shared = {**NETWORKS[network], "folder": str(Path(folder, network)), "threads": asked.threads}
            Path(folder, network).mkdir()
            preparing: Task = {"measure": "prepare", "device": asked.device, **shared}
            measure_here(prepare, preparing) if on_gpu else fresh(__file__, preparing)
            batches = GPU_BATCHES if asked.device == "cuda" else BATCHES[network]
            cases |= {f"{network}, batch {batch}": {**shared, "batch": batch} for batch in batches}
        here = measured_here(asked, MEASURES)
        about = name_gpu(asked)
        compare(__file__, asked, "Inference", variants, columns, cases=cases, here=here, about=lambda _: about)


def choose_variants(*, eager: bool, on_gpu: bool) -> tuple[dict[str, Task], list[str]]:
    """The variants that are measured, and those that all are compared with."""
    if on_gpu:
        chosen = {name: {"measure": "gpu", **task} for name, task in GPU_VARIANTS.items()}
        return {name: task for name, task in chosen.items() if not (eager and "compiled" in name)}, list(GPU_VARIANTS)[
            :2
        ]
    slow = (COMPILED, OURS_COMPILED) if eager else ()
    names = [each for each in (*OPENVINO, INT8, OURS, OURS_COMPILED, *PEERS) if each not in slow]
    return {name: {} for name in names}, [*OPENVINO, INT8]


if __name__ == "__main__" and not serve(MEASURES):
    main()
