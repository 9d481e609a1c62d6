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

import argparse
import resource
import time
from collections.abc import Callable
from typing import Any

from common import (
    Figures,
    Task,
    arguments,
    console,
    fresh,
    grid,
    in_turn,
    progress,
    ratios,
    serve,
    spread,
    three,
    write,
)

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
        roi_size=7 if task["variant"] == FPN else task["crop"],
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
    pictures = [torch.rand(3, task["side"], task["side"])]
    corners = torch.tensor([[0.1, 0.1, 0.4, 0.5], [0.5, 0.1, 0.9, 0.4], [0.2, 0.6, 0.5, 0.9], [0.6, 0.5, 0.8, 0.9]])
    targets = [{"boxes": corners * task["side"], "labels": torch.arange(1, 5)}]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds: list[float] = []
    for _ in range(task["steps"]):
        since = time.perf_counter()
        total = sum(detector(pictures, targets).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - since)
    timed = sorted(seconds[1:] or seconds)  # the first warms up
    return {
        "peak_mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
        "seconds": timed[len(timed) // 2],
        "learnt_from": max(learnt),
    }


MEASURES: dict[str, Callable[[Task], Figures]] = {STEP: step}


def options() -> argparse.ArgumentParser:
    parser = arguments(__doc__)
    parser.set_defaults(rounds=2)
    parser.add_argument("--proposals", type=int, action="append", help="16, 32, 64 and 128 when left out")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3, help="of each measurement; the first warms up")
    parser.add_argument("--cell", default="nasnet-a")
    parser.add_argument("--filters", type=int, default=16, help="F")
    parser.add_argument("--cells-per-stage", type=int, default=2, help="N")
    parser.add_argument("--side", type=int, default=320, help="of the picture, in pixels")
    parser.add_argument("--crop", type=int, default=17, help="side of a proposal's crop with nasnet")
    return parser


def main() -> None:
    asked = options().parse_args()
    measurements: list[Figures] = []
    shared = {name: value for name, value in vars(asked).items() if name not in ("rounds", "json", "proposals")}
    for proposals in asked.proposals or (16, 32, 64, 128):
        for round_, variant in in_turn(VARIANTS, asked.rounds):
            figures = fresh(__file__, {"measure": STEP, "variant": variant, "proposals": proposals, **shared})
            measurements.append({"variant": variant, "proposals": proposals, **figures})
            progress(f"{proposals} proposals, round {round_}, {variant}: {figures['peak_mib']:.0f} MiB")
    results = summarise(measurements)
    show(results)
    write(asked, {"results": results, "measurements": measurements})


def summarise(measurements: list[Figures]) -> list[Figures]:
    """For each number of proposals and variant: memory, time, and the memory's ratio to that of the pyramid."""
    results: list[Figures] = []
    for proposals in dict.fromkeys(each["proposals"] for each in measurements):
        taken = {
            name: [each for each in measurements if (each["proposals"], each["variant"]) == (proposals, name)]
            for name in VARIANTS
        }
        peaks = {name: [each["peak_mib"] for each in found] for name, found in taken.items()}
        results.extend(
            {
                "proposals": proposals,
                "variant": name,
                "learnt_from": max(each["learnt_from"] for each in taken[name]),
                "peak_mib": spread(peaks[name]),
                "seconds": spread([each["seconds"] for each in taken[name]]),
                "memory_over_fpn": ratios(peaks[name], peaks[FPN]),
            }
            for name in VARIANTS
        )
    return results


def show(results: list[Figures]) -> None:
    headings = ("proposals, head", "learnt from", "peak, MiB", "seconds a step", "memory over fpn's, times")
    table = grid("A detector's training step: median, least to greatest", *headings)
    for each in results:
        table.add_row(
            f"{each['proposals']}, {each['variant']}",
            str(each["learnt_from"]),
            three(each["peak_mib"], ".0f"),
            three(each["seconds"]),
            three(each["memory_over_fpn"]),
        )
    console().print(table)


if __name__ == "__main__" and not serve(MEASURES):
    main()
