"""Networks of timm and pretrained-models beside nascli's: their weights, made once, and the logits of some images."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import Figures, Task

if TYPE_CHECKING:
    from torch import Tensor, nn

NETWORKS: dict[str, dict[str, Any]] = {
    "large": {"tool": "timm", "peer": "nasnetalarge", "cell": "nasnet-a", "preset": "imagenet-large", "size": 331},
    "mobile": {
        "tool": "pretrainedmodels",
        "peer": "nasnetamobile",
        "cell": "nasnet-a",
        "preset": "imagenet-mobile",
        "size": 224,
    },
    "mnasnet": {"tool": "timm", "peer": "semnasnet_100", "cell": "mnasnet-a1", "preset": "mnasnet", "size": 224},
}
TOLERANCES = {"float32": 1e-4, "bfloat16": 5e-2, "int8": math.inf}
"""Largest difference of a logit relative to the largest logit."""


def prepare(task: Task) -> Figures:
    """The peer's weights, some images and its logits, as files."""
    import torch

    torch.manual_seed(0)
    peer = make_peer(task)
    for module in peer.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.1)
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    images = torch.randn(2, 3, task["size"], task["size"])
    with torch.no_grad():
        logits = peer.eval()(images)
    folder = Path(task["folder"])
    torch.save(peer.state_dict(), folder / "weights.pth")
    torch.save({"images": images, "logits": logits}, folder / "expected.pt")
    if task["device"] == "cpu":
        shapes = ({0: torch.export.Dim("batch")},)
        torch.onnx.export(
            peer, (images,), folder / "peer.onnx", input_names=["images"], dynamic_shapes=shapes, verbose=False
        )
    return {"params": sum(p.numel() for p in peer.parameters())}


def make_peer(task: Task) -> "nn.Module":
    network: nn.Module
    if task["tool"] == "timm":
        import timm

        network = timm.create_model(task["peer"])
    else:
        import pretrainedmodels

        network = getattr(pretrainedmodels, task["peer"])(num_classes=1000, pretrained=None)
    return network.eval()


def read_expected(task: Task) -> "tuple[Tensor, Tensor]":
    import torch

    held = torch.load(Path(task["folder"], "expected.pt"), weights_only=True)
    return held["images"], held["logits"]


def difference(ours: "Tensor", logits: "Tensor") -> float:
    return float((ours - logits).abs().max() / logits.abs().max())


def refuse_distant(variant: str, apart: float) -> None:
    """Stop where logits are further from the peer's than the precision explains."""
    precision = next((name for name in ("bfloat16", "int8") if name in variant), "float32")
    if apart > TOLERANCES[precision]:
        raise SystemExit(f"{variant}: logits differ by {apart:.1e} of the largest")
