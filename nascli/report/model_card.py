"""The model card of a network: what it is, what it reaches, how it is used, where it comes from; Markdown with YAML.

Made from the record of a run. Neither its paths, nor the name of the machine, nor the command line get into it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w
import yaml

from nascli.models.cost import Cost
from nascli.models.spec import NetworkSpec
from nascli.references import is_reference
from nascli.text import printable
from nascli.units import format_duration, format_quantity

_DATASETS = {"cifar10": "uoft-cs/cifar10", "cifar100": "uoft-cs/cifar100", "imagenet": "ILSVRC/imagenet-1k"}
"""The hub's names of data sets."""

_FEW_CLASSES = 20
"""The most classes that are listed."""

_PRIVATE = ("data_dir", "workers")
"""Keys of a recipe's data that say where things lie."""


@dataclass(frozen=True)
class PublishedModel:
    """A network or a detector as its card shows it.

    Args:
        address: `ORG/NAME`.
        run: The content of `run.json`; empty for a network that was imported.
        class_names: Those of the network, or of the detector; empty where they have no names.
        weights_sha256: Digest of the tensors.
        license: An identifier of the hub's list; empty says nothing.
        files: Names and meanings of what lies beside the card.
    """

    address: str
    spec: NetworkSpec
    cost: Cost
    run: Mapping[str, Any]
    class_names: Sequence[str]
    weights_sha256: str
    license: str = ""
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_detector(self) -> bool:
        """Whether it finds boxes."""
        return self.run.get("command") == "detect"

    @property
    def dataset(self) -> str:
        """The data set that it was trained on, without the place where it lies; empty where that is not known."""
        return without_place(str(self.results.get("dataset", "")))

    @property
    def results(self) -> Mapping[str, Any]:
        """The results of the finished run in `run.json`."""
        return self.run.get("results") or {}

    @property
    def split(self) -> str:
        """The split that it was measured on."""
        return str(self.results.get("split") or self.run.get("val_split") or "val")

    def scores(self) -> list[tuple[str, str, float]]:
        """Metrics: the hub's type of each, its name, its value."""
        known = {
            "top1": ("accuracy", "top-1"),
            "top5": ("accuracy", "top-5"),
            "ap": ("mean_average_precision", "AP"),
            "ap50": ("mean_average_precision", "AP50"),
        }
        return [(*known[key], self.results[key]) for key in known if self.results.get(key) is not None]


def without_place(path: str) -> str:
    """A path, or a data set as `folder:PATH`, with the last of its names alone."""
    kind, colon, place = path.rpartition(":")
    return f"{kind}{colon}{Path(place).name}"


def write_card(model: PublishedModel) -> str:
    """The text of the card."""
    parts = [
        f"---\n{yaml.safe_dump(_metadata(model), sort_keys=False, allow_unicode=True)}---",
        f"# {_title(model)}",
        *_introduce(model),
        *_show_scores(model),
        *_show_use(model),
        *_show_network(model),
        *_show_training(model),
        *_show_files(model),
    ]
    return "\n\n".join(parts) + "\n"


def _metadata(model: PublishedModel) -> dict[str, Any]:
    task = "object-detection" if model.is_detector else "image-classification"
    values: dict[str, Any] = {
        "library_name": "nascli",
        "pipeline_tag": task,
        "tags": [task, "neural-architecture-search", model.spec.family, "pytorch"],
    }
    if model.license:
        values["license"] = model.license
    if model.dataset in _DATASETS:
        values["datasets"] = [_DATASETS[model.dataset]]
    scores = [{"type": kind, "name": name, "value": round(value, 6)} for kind, name, value in model.scores()]
    if scores:
        known = _DATASETS.get(model.dataset, model.dataset)
        data = {"type": known, "name": model.dataset, "split": model.split}
        results = [{"task": {"type": task}, "dataset": data, "metrics": scores}]
        values["model-index"] = [{"name": model.address.partition("/")[2], "results": results}]
    return values


def _title(model: PublishedModel) -> str:
    detector = "Faster R-CNN with " if model.is_detector else ""
    data = f" on {_plain(model.dataset)}" if model.dataset else ""
    return f"{detector}{_plain(model.spec.name)}{data}"


def _introduce(model: PublishedModel) -> Iterable[str]:
    what = "A detector, Faster R-CNN on" if model.is_detector else "An image classifier:"
    trained = f", trained on `{model.dataset}`" if model.dataset else ", with the weights of another tool"
    yield (
        f"{what} the network `{model.spec.name}` ({model.spec.size_text}){trained}. It is read by nascli, a toolchain "
        "for architecture search on images."
    )
    if "architecture.png" in model.files:
        yield "![The architecture](architecture.png)"


def _show_scores(model: PublishedModel) -> Iterable[str]:
    scores = model.scores()
    if not scores:
        return
    images = model.results.get("images")
    counted = f", {images:,} images" if images else ""
    yield f"## Results\n\nOn the split {model.split} of `{model.dataset}`{counted}, one run (seed {_seed(model)})."
    as_text = {"accuracy": "{:.2%}", "mean_average_precision": "{:.4f}"}
    yield _table(("", ""), [(name, as_text[kind].format(value)) for kind, name, value in scores])


def _show_use(model: PublishedModel) -> Iterable[str]:
    yield "## Use"
    address = f"hf:{model.address}"
    if model.is_detector:
        yield f'```sh\npip install "nascli[hub]"\nnascli detect predict photo.jpg --run {address}\n```'
        return
    data = model.dataset if ":" not in model.dataset and model.dataset else "folder:photos"
    yield (
        f'```sh\npip install "nascli[hub]"\n'
        f"nascli evaluate {address} --predict photo.jpg\n"
        f"nascli evaluate {address} --dataset {data}\n"
        f"nascli train --from {address} --dataset folder:photos\n"
        f"nascli detect --coco --backbone {address}\n```"
    )
    yield (
        f'```python\nimport nascli\n\nnetwork = nascli.load_network("{address}")  '
        "# a torch module: normalized images (N, 3, H, W) to logits (N, classes)\n```"
    )


def _show_network(model: PublishedModel) -> Iterable[str]:
    spec = model.spec
    prepared = spec.preprocessing
    side = "both sides" if prepared.resize == "both_sides" else "the shorter side"
    length = round(spec.image_size / prepared.crop)
    rows = [
        ("params", f"{model.cost.params:,}"),
        (f"mult-adds at {model.cost.image_size} px", format_quantity(model.cost.mult_adds)),
        ("input", f"{spec.image_size} x {spec.image_size} pixels"),
        ("preparation", f"{side} resized to {length} ({prepared.interpolation}), the central square cut out"),
        ("mean of the colors", _numbers(spec.mean)),
        ("deviation of the colors", _numbers(spec.std)),
        ("classes", _list_classes(model.class_names, spec.classes)),
    ]
    yield "## The network"
    yield _table(("", ""), rows)


def _show_training(model: PublishedModel) -> Iterable[str]:
    if not model.run:
        return
    versions = model.run.get("versions") or {}
    rows = [
        *[(name, str(versions[name])) for name in ("nascli", "torch") if name in versions],
        *([("device", str(model.results["device"]))] if "device" in model.results else []),
        *([("time", format_duration(model.results["seconds"]))] if "seconds" in model.results else []),
        *([("finished", str(model.run["finished"])[:10])] if model.run.get("finished") else []),
        *((word, f"`{_plain(name)}`") for word, name in _ancestors(model) if name),
        ("SHA-256 of the tensors", f"`{model.weights_sha256}`"),
    ]
    yield "## Training"
    yield _table(("", ""), rows)
    recipe = tomli_w.dumps(public_recipe(model.run)).strip()
    yield f"<details><summary>The recipe, all keys</summary>\n\n```toml\n{recipe}\n```\n\n</details>"


def _ancestors(model: PublishedModel) -> Iterable[tuple[str, str]]:
    """The networks that it learned from, if there are any: the weights it began with, and its teacher."""
    recipe = public_recipe(model.run)
    yield "began with the weights of", recipe.get("start", {}).get("weights", "")
    yield "teacher", recipe.get("train", {}).get("teacher", "")


def public_recipe(run: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe of a run without what says where things lie: of paths the last names stay."""
    recipe: dict[str, Any] = dict(run.get("recipe") or {})
    data = {key: value for key, value in recipe.get("data", {}).items() if key not in _PRIVATE}
    public: dict[str, Any] = _without_places({**recipe, "data": data})
    return public


def _without_places(value: Any) -> Any:  # noqa: ANN401 - JSON values
    if isinstance(value, Mapping):
        return {key: _without_places(each) for key, each in value.items() if each is not None}
    if isinstance(value, str) and "/" in value and not is_reference(value):
        return without_place(value)
    return value


def _show_files(model: PublishedModel) -> Iterable[str]:
    yield "## Files"
    yield _table(("", ""), [(f"`{name}`", meaning) for name, meaning in model.files.items()])


def _seed(model: PublishedModel) -> object:
    return (model.run.get("recipe") or {}).get("seed", "?")


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


def _list_classes(names: Sequence[str], count: int) -> str:
    if not names:
        return f"{count:,}, without names"
    shown = ", ".join(f"`{_plain(name)}`" for name in names[:_FEW_CLASSES])
    more = f" and {len(names) - _FEW_CLASSES:,} more" if len(names) > _FEW_CLASSES else ""
    return f"{len(names):,}: {shown}{more}"


def _table(head: tuple[str, str], rows: Iterable[tuple[str, str]]) -> str:
    lines = [head, ("---", "---"), *rows]
    return "\n".join(f"| {left} | {right} |" for left, right in lines)


def _plain(text: str) -> str:
    """A name that stays what it is between other words of Markdown."""
    return printable(text).replace("|", "\\|").replace("`", "'").replace("<", "&lt;")
