"""The worth of a backbone to a detector: digit scenes learned on several backbones, by equal steps.

    python benchmarks/transfer.py --seeds 3 --json transfer.json --figure docs/transfer.png

The backbones: NASNet-A (N = 1, F = 16) trained on the digits by the recipe `digits`; the same network with the weights
that this training starts from; the cell that a search found on CIFAR-10 (docs/found-cell.json, N = 1) and a ResNet of
20 layers (`resnets.py`), both as wide as NASNet-A's mult-adds allow and trained on the digits in the same way. Then
each is the backbone of the same detector, by the recipe `digit-scenes`, and average precision is measured after every
epoch. A seed is that of both trainings: it draws the weights, the order of images and scenes, and the samples.

Each backbone and seed is a fresh process with one thread, two and a half to four minutes at the default sizes. Killed,
the same call goes on with those that `--json` does not hold yet.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from common import Figures, Task, console, grid, mean_and_deviation, serve
from trainings import (
    BESIDE,
    count_cost,
    experiment_arguments,
    find_genotype,
    format_percent,
    gather,
    list_percents,
    prepare,
    train,
)

from nascli.config import DetectRecipe, TrainRecipe, find_recipe, load_recipe
from nascli.files import write_bytes

FOUND = Path(__file__).parents[1] / "docs" / "found-cell.json"


@dataclass(frozen=True)
class Arm:
    """A backbone: its network, whether that learns the digits first, and whether its F follows from NASNet-A's cost."""

    network: str
    trained: bool = True
    scaled: bool = False


ARMS = {
    "NASNet-A": Arm("nasnet-a"),
    "NASNet-A, random weights": Arm("nasnet-a", trained=False),
    "found cell": Arm(str(FOUND), scaled=True),
    "ResNet-20": Arm("resnet-20"),
}


def follow(task: Task) -> Figures:
    """One backbone, one seed: the digits first where the arm says so, then the scenes."""
    seed = {"seed": task["seed"], "train.threads": 1}
    recipe = load_recipe(
        TrainRecipe,
        find_recipe("train", "digits"),
        {**seed, "network.filters": task["filters"], "train.epochs": task["digit_epochs"]},
    )
    if task["scaled"]:
        recipe = scale_to_baseline(recipe, task["network"])
    job, network = prepare(recipe, task["network"])
    cost = count_cost(job, network)
    learnt = train(job, network) if task["trained"] else None
    detect = load_recipe(
        DetectRecipe,
        find_recipe("detect", "digit-scenes"),
        {
            **seed,
            "data.data_dir": task["scratch"],
            "data.max_train_images": task["scenes"],
            "train.epochs": task["epochs"],
            "train.eval_interval": 1,
        },
    )
    found = detection(detect, network, Path(task["scratch"]), trained=task["trained"])
    return {**found, "network": cost, "digits_top1": learnt["top1"] if learnt else None}


def scale_to_baseline(recipe: TrainRecipe, name: str) -> TrainRecipe:
    """The recipe with the F at which a cell's network costs what NASNet-A's does."""
    from nascli.data.registry import load_dataset
    from nascli.models.scaling import SizeCost, Target, find_size, measure_size
    from nascli.models.spec import resolve_network

    data = load_dataset(recipe.data)

    def measure(cell: str, filters: int) -> SizeCost:
        config = recipe.network.model_copy(update={"filters": filters})
        spec = resolve_network(find_genotype(cell), config, classes=data.classes, image_size=data.image_size)
        return measure_size(spec)

    beside = measure(BESIDE, recipe.network.model_dump()["filters"] or 0)
    target = Target("mult_adds", beside.mult_adds)
    found = find_size(lambda filters, _: measure(name, filters), target, beside)
    return recipe.model_copy(update={"network": recipe.network.model_copy(update={"filters": found.chosen.width})})


def detection(recipe: DetectRecipe, network: Any, scratch: Path, *, trained: bool) -> Figures:  # noqa: ANN401
    """Train a detector on a network, and score it after every epoch."""
    import torch

    from nascli.data.detection.registry import load_detection_data
    from nascli.detect.job import prepare_detect_job, run_detect_job
    from nascli.engine.task import Run

    records: list[Any] = []
    folder = scratch / "detector"
    folder.mkdir()
    data = load_detection_data(recipe.data)
    backbone = "trained on the digits" if trained else "random weights"
    job = prepare_detect_job(recipe, data, network, trained=trained, backbone=backbone, device=torch.device("cpu"))
    run_detect_job(job, folder, Run(job.device, on_epoch=records.append))
    return {
        "ap50_by_epoch": [record.metrics["ap50"] for record in records],
        "ap_by_epoch": [record.metrics["ap"] for record in records],
        "train_loss_by_epoch": [record.train_loss for record in records],
        "steps": records[-1].step,
        "seconds": sum(record.seconds for record in records),
        "detector_params": sum(p.numel() for p in job.detector.parameters()),
    }


MEASURES = {"follow": follow}


def options() -> argparse.ArgumentParser:
    parser = experiment_arguments(__doc__)
    parser.add_argument("--only", action="append", choices=list(ARMS), help="this backbone; repeat for more")
    parser.add_argument("--filters", type=int, default=16, help="F of the cells' networks")
    parser.add_argument("--digit-epochs", type=int, default=12, help="of the training on the digits")
    parser.add_argument("--epochs", type=int, default=6, help="of the training on the scenes")
    parser.add_argument("--scenes", type=int, default=400, help="that are trained on, of 400")
    parser.add_argument("--figure", type=Path, help="draw the curves here, as PNG")
    return parser


def main() -> None:
    asked = options().parse_args()
    shared = {"measure": "follow", **{key: vars(asked)[key] for key in ("filters", "digit_epochs", "epochs", "scenes")}}
    arms = asked.only or list(ARMS)
    tasks = [{**shared, "arm": arm, **asdict(ARMS[arm]), "seed": seed} for seed in range(asked.seeds) for arm in arms]
    results = gather(__file__, tasks, asked, summarize)
    show(results)
    if asked.figure:
        draw(results, asked.figure)


def summarize(measurements: Sequence[Figures]) -> dict[str, Figures]:
    """For each backbone: average precision over the seeds, at the end and after every epoch."""
    taken: dict[str, list[Figures]] = {}
    for each in measurements:
        taken.setdefault(each["task"]["arm"], []).append(each)
    return {arm: _summary(own) for arm, own in taken.items()}


def _summary(own: Sequence[Figures]) -> Figures:
    curves = list(zip(*(each["ap50_by_epoch"] for each in own), strict=True))
    learnt = [each["digits_top1"] for each in own if each["digits_top1"] is not None]
    return {
        "ap50": mean_and_deviation([each["ap50_by_epoch"][-1] for each in own]),
        "ap": mean_and_deviation([each["ap_by_epoch"][-1] for each in own]),
        "digits_top1": mean_and_deviation(learnt) if learnt else None,
        "network": own[0]["network"],
        "ap50_by_epoch": {
            "mean": [sum(values) / len(values) for values in curves],
            "least": [min(values) for values in curves],
            "most": [max(values) for values in curves],
        },
        "seconds": mean_and_deviation([each["seconds"] for each in own]),
    }


def show(results: Mapping[str, Any]) -> None:
    table = grid(
        "After the last epoch: mean and standard deviation over the seeds",
        "backbone",
        "mult-adds at 16 px",
        "digits, top-1",
        "AP50",
        "AP50, each seed",
        "AP",
    )
    for arm, each in results.items():
        cost = f"{each['network']['mult_adds'] / 1e6:.2f}M"
        digits = format_percent(each["digits_top1"]) if each["digits_top1"] else ""
        table.add_row(
            arm, cost, digits, format_percent(each["ap50"]), list_percents(each["ap50"]), format_percent(each["ap"])
        )
    console().print(table)


def draw(results: Mapping[str, Any], path: Path) -> None:
    """AP50 after each epoch: a line for the mean over the seeds, a band from the least to the greatest."""
    from nascli.report import figures

    looks = (figures.BLUE, "o"), (figures.ORANGE, "s"), (figures.GREEN, "^"), (figures.VERMILLION, "D")
    with figures.report_style():
        figure, axes = figures.new_axes("epoch on the scenes", "AP at IoU 0.5, validation scenes", height=4.2)
        for arm, (color, marker) in zip(ARMS, looks, strict=True):
            if arm not in results:
                continue
            curve, seeds = results[arm]["ap50_by_epoch"], len(results[arm]["ap50"]["each"])
            epochs = range(1, len(curve["mean"]) + 1)
            axes.fill_between(epochs, curve["least"], curve["most"], color=color, alpha=0.15, linewidth=0)
            axes.plot(epochs, curve["mean"], color=color, marker=marker, markersize=5, label=arm)
        figures.use_percent_ticks(axes)
        figures.use_integer_ticks(axes)
        axes.set_ylim(bottom=0)
        axes.legend(loc="lower right", title=f"mean of {seeds} seeds; least to greatest shaded")
        drawn = figures.render(figure, "transfer", "Transfer", "", "Average precision by epoch of each backbone")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, drawn.png)


if __name__ == "__main__" and not serve(MEASURES):
    main()
