"""The variants of `inference.py` on a GPU."""

from pathlib import Path
from typing import TYPE_CHECKING

from common import Figures, Task
from inference_peers import difference, make_peer, read_expected, refuse_distant
from on_device import time_calls_on

if TYPE_CHECKING:
    from torch import Tensor

OURS, PLAIN, LAST = "nascli", "peer", "peer, channels last"
GPU_VARIANTS: dict[str, Task] = {
    OURS: {"engine": "auto"},
    "nascli, bfloat16": {"engine": "auto"},
    "nascli, folded, bfloat16": {"engine": "folded"},
    "nascli, compiled, bfloat16": {"engine": "compiled"},
    PLAIN: {"engine": "", "last": False},
    LAST: {"engine": "", "last": True},
    "peer, channels last, bfloat16": {"engine": "", "last": True},
    "peer, compiled, bfloat16": {"engine": "", "last": True},
}
"""Those of nascli have an engine."""
GPU_BATCHES = (1, 64)


def gpu_speed(task: Task) -> Figures:
    """nascli's engine, or the peer in one of its forms, on a GPU; a rehearsal on the CPU has the engines of that."""
    import torch

    from nascli.models.deploy.engines import build_engine
    from nascli.models.families import build_network
    from nascli.models.pretrained import import_network

    (images, logits), weights = read_expected(task), Path(task["folder"], "weights.pth")
    precision = "bfloat16" if "bfloat16" in task["variant"] else "float32"
    dtype, device = getattr(torch, precision), torch.device(task["device"])
    if task["engine"]:
        network, _ = import_network(weights, build_network(task["cell"], task["preset"]).spec)
        engine = build_engine(network, device, task["engine"], "bfloat16" if precision == "bfloat16" else "float32")
        layout = torch.channels_last

        def form(images: "Tensor") -> "Tensor":
            return engine(images.float())
    else:
        peer = make_peer(task)
        peer.load_state_dict(torch.load(weights, weights_only=True))
        layout = torch.channels_last if task["last"] else torch.contiguous_format
        peer = peer.to(device, dtype).to(memory_format=layout)
        form = torch.compile(peer) if "compiled" in task["variant"] else peer
    apart = difference(form(images.to(device, dtype).to(memory_format=layout)).float().cpu(), logits)
    refuse_distant(task["variant"], apart)
    kept = torch.randn(task["batch"], 3, task["size"], task["size"]).to(device, dtype).to(memory_format=layout)
    timed = time_calls_on(task["device"], lambda: form(kept), task["seconds"], 5)
    return {"images_per_second": task["batch"] / timed[len(timed) // 2], "difference": apart, "forwards": len(timed)}
