"""What detect trains: a recipe, a backbone and data, brought together."""

from pathlib import Path
from typing import TYPE_CHECKING

from nascli.cli.console import Terminal
from nascli.cli.detect_views import describe_data
from nascli.cli.options import option_name, runs_folder
from nascli.config import NETWORK_SECTIONS, DetectRecipe, find_recipe, load_recipe, parse
from nascli.errors import InputError
from nascli.genotype.resolve import find_cell
from nascli.runs import find_run

if TYPE_CHECKING:
    from nascli.detect.job import DetectJob
    from nascli.engine.dist import DistContext
    from nascli.models.interface import ImageClassifier

Flags = dict[str, object]

LARGEST_CIFAR_SIDE = 160
"""Pixels of the longer side above which a backbone with the CIFAR stem is warned about."""


def resolve_recipe(
    terminal: Terminal, recipe: str | None, flags: Flags, assignments: list[str]
) -> tuple[DetectRecipe, Path]:
    """The recipe with all that stands above it, and its file."""
    name = recipe or ("digit-scenes" if flags["data.dataset"] in (None, "digit-scenes") else "coco")
    if not recipe:
        terminal.note(f"recipe {name} (another with --recipe)")
    file = find_recipe("detect", name)
    return load_recipe(DetectRecipe, file, flags, assignments), file


def refuse(mode: str, options: Flags, hint: str = "Leave them out") -> None:
    """InputError where options are given that would be ignored."""
    surplus = [name for name, value in options.items() if value is not None and value is not False and value != []]
    if surplus:
        raise InputError(f"{mode} excludes {', '.join(surplus)}", hint)


def prepare(
    terminal: Terminal,
    recipe: DetectRecipe,
    asked: tuple[str | None, str | None, Flags],
    device: str,
    dist: "DistContext",
) -> tuple["DetectJob", list[Path]]:
    """The job that the options ask for, and the files it was made from.

    Args:
        terminal: Where notes go.
        recipe: From `resolve_recipe`.
        asked: What `--backbone`, `--cell` and the sizes of a cell say.
        device: What `--device` says.
        dist: The processes that compute; the first reads the annotations and tells the others.
    """
    from nascli.data.detection.registry import load_detection_data
    from nascli.detect.job import prepare_detect_job
    from nascli.engine.launch import local_device

    where = dist.raise_together(lambda: local_device(device, dist))
    network, origin, files = dist.raise_together(lambda: _network(terminal, recipe.seed, *asked))
    with terminal.notes.status("reading annotations, looking at every picture's header"):
        data = dist.broadcast_from_main(lambda: load_detection_data(recipe.data))
    describe_data(terminal, data)
    terminal.note(f"backbone {network.spec.name}: {origin}")
    if network.feature_info[0].stride == 1 and recipe.detector.max_size > LARGEST_CIFAR_SIDE:
        terminal.note(
            f"its first stage keeps the full resolution: pictures of up to {recipe.detector.max_size} pixels take much "
            "time and memory; lower --batch-size or detector.max_size, or use a backbone with the ImageNet stem"
        )
    trained = asked[1] is None
    job = prepare_detect_job(recipe, data, network, trained=trained, backbone=origin, device=where, dist=dist)
    return job, [*files, *dict.fromkeys((data.train.source, data.val.source))]


def _network(
    terminal: Terminal, seed: int, backbone: str | None, cell: str | None, sizes: Flags
) -> tuple["ImageClassifier", str, list[Path]]:
    """The backbone, where its weights come from in words, and its files."""
    from nascli.detect.job import load_backbone, random_backbone
    from nascli.models.families import open_architecture

    given = {key: value for key, value in sizes.items() if value is not None}
    if cell is not None:
        refuse("--cell", {"--backbone": backbone}, "--cell starts from random weights, --backbone from trained ones")
        opened = open_architecture(find_cell(cell, runs_folder(), terminal.note))
        numbers = {key.removeprefix("network."): value for key, value in opened.numbers.items()}
        numbers.pop("family")
        network = random_backbone(
            opened.architecture, parse(NETWORK_SECTIONS[opened.architecture.family], numbers | given, "options"), seed
        )
        return network, "random weights, since --cell was given", [opened.file] if opened.file else []
    if given:
        raise InputError(f"{option_name(next(iter(given)))} needs --cell", "A trained backbone has its sizes already")
    if backbone is None and not (runs_folder() / "train" / "latest").is_dir():
        raise InputError(
            f"there is no trained backbone: {runs_folder() / 'train' / 'latest'} is absent",
            "Train one by nascli train --cell nasnet-a, or give --cell nasnet-a to start from random weights",
        )
    folder = find_run(backbone or "latest", "train", runs_folder())
    files = [folder / name for name in ("network.json", "weights.safetensors")]
    return load_backbone(folder), f"weights of {folder}", files
