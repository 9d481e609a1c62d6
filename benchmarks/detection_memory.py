"""Peak memory and seconds of a detector's training step against proposals: head `nasnet`, and head `fpn` beside it.

    python benchmarks/detection_memory.py --rounds 2 --json detection_memory.json

Head `nasnet` runs stage 3 of the network on each proposal, so that its memory grows with them; it is measured with and
without its cells recomputed in the backward pass. A step is forward, backward and SGD with momentum on the CPU in
float32, on one image of noise with four boxes; the network is NASNet-A with the ImageNet stem. The box loss is computed
on as many proposals as are made (`detector.box_batch_size_per_image` is `detector.rpn_post_nms_top_n`), and how many
that were is measured too.

Each measurement is a fresh process. Peak memory is that of the process during the steps less what it held before the
first.
"""

import time
from typing import Any

from common import Column, Figures, Task, arguments, compare, peak_mib, serve

FPN, NASNET, RECOMPUTED = "fpn", "nasnet", "nasnet, recomputed"
VARIANTS = (FPN, NASNET, RECOMPUTED)
STEP = "step"


def step(task: Task) -> Figures:
    """Steps of one detector."""
    import torch

    from nascli.config import DetectorConfig
    from nascli.detect.model import build_detector
    from nascli.models.families import build_network

    torch.set_num_threads(task["threads"])
    torch.manual_seed(0)
    network = build_network(
        task["cell"], "imagenet-mobile", filters=task["filters"], cells_per_stage=task["cells_per_stage"]
    )
    config = DetectorConfig(
        head="fpn" if task["variant"] == FPN else "nasnet",
        roi_size=7 if task["variant"] == FPN else task["roi_size"],
        pyramid_channels=64,
        min_size=task["side"],
        max_size=task["side"],
        anchor_size=32,
        rpn_post_nms_top_n=task["proposals"],
        box_batch_size_per_image=task["proposals"],
        grad_checkpointing=task["variant"] == RECOMPUTED,
    )
    detector: Any = build_detector(network, config, 80).train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(detector.parameters(), lr=1e-3, momentum=0.9)
    learnt: list[int] = []
    detector.roi_heads.box_head.register_forward_pre_hook(lambda module, inputs: learnt.append(len(inputs[0])))
    images = [torch.rand(3, task["side"], task["side"])]
    corners = torch.tensor([[0.1, 0.1, 0.4, 0.5], [0.5, 0.1, 0.9, 0.4], [0.2, 0.6, 0.5, 0.9], [0.6, 0.5, 0.8, 0.9]])
    targets = [{"boxes": corners * task["side"], "labels": torch.arange(1, 5)}]
    before = peak_mib()
    seconds: list[float] = []
    for _ in range(task["steps"]):
        since = time.perf_counter()
        total = sum(detector(images, targets).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - since)
    timed = sorted(seconds[1:] or seconds)  # the first warms up
    return {
        "peak_mib": peak_mib() - before,
        "seconds": timed[len(timed) // 2],
        "learnt_from": max(learnt),
    }


MEASURES = {STEP: step}


def main() -> None:
    parser = arguments(__doc__)
    parser.set_defaults(rounds=2)
    parser.add_argument("--proposals", type=int, action="append", help="default: 16, 32, 64 and 128")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3, help="per measurement; the first warms up")
    parser.add_argument("--cell", default="nasnet-a")
    parser.add_argument("--filters", type=int, default=16, help="F")
    parser.add_argument("--cells-per-stage", type=int, default=2, help="N")
    parser.add_argument("--side", type=int, default=320, help="of the image, in pixels")
    parser.add_argument("--roi-size", type=int, default=17, help="side of a proposal's crop with nasnet")
    asked = parser.parse_args()
    columns = [
        Column("peak_mib", "peak, MiB", ".0f"),
        Column("learnt_from", "proposals learnt from", ".0f"),
        Column("seconds", "seconds per step"),
        Column("memory_over_fpn", "memory over fpn's, times", figure="peak_mib", under=FPN),
    ]
    cases = {f"{count} proposals": {"proposals": count} for count in asked.proposals or (16, 32, 64, 128)}
    variants = {name: {"measure": STEP} for name in VARIANTS}
    compare(__file__, asked, "A detector's training step", variants, columns, cases=cases)


if __name__ == "__main__" and not serve(MEASURES):
    main()
