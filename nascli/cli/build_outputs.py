"""What build leaves: a folder with a network, exported files, figures of its speed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nascli.cli.console import Terminal
from nascli.errors import InputError, NascliError
from nascli.models.families import build
from nascli.models.spec import NetworkSpec, write_network

if TYPE_CHECKING:
    from nascli.models.deploy.engines import EngineTiming
    from nascli.models.deploy.export import Exported
    from nascli.models.interface import ImageClassifier

BATCHES = (1, 8)


@dataclass(frozen=True)
class Timing:
    """How --measure times a network: its own options, as they were given."""

    batches: Sequence[int] | None = None
    threads: int | None = None
    precision: Literal["float32", "bfloat16"] | None = None
    device: str | None = None
    compiled: bool = False

    def given(self) -> list[str]:
        """The options that were given."""
        values = {
            "--batch": self.batches,
            "--threads": self.threads,
            "--precision": self.precision,
            "--device": self.device,
            "--compile": self.compiled,
        }
        return [option for option, value in values.items() if value]

    def measure(self, network: "ImageClassifier") -> "list[EngineTiming]":
        """The speed of each engine."""
        from nascli.engine.device import cpu_threads, resolve_device
        from nascli.models.deploy.engines import DEFAULT_ENGINES, time_engines

        with cpu_threads(self.threads or 0):
            rows = time_engines(
                network,
                list(dict.fromkeys(self.batches or BATCHES)),
                precision=self.precision or "float32",
                device=resolve_device(self.device or "auto"),
                engines=(*DEFAULT_ENGINES, *(["compiled"] if self.compiled else [])),
            )
            return list(rows)


def check_exports(paths: Sequence[Path], overwrite: bool, *, has_weights: bool) -> None:
    """InputError where a file of --export has an unknown kind, is there already, or would hold random weights."""
    if not paths:
        return
    from nascli.models.deploy.export import EXPORTS

    for path in paths:
        if path.suffix not in EXPORTS:
            raise InputError(
                f"--export {path}: unknown kind {path.suffix!r}", f"End the name in {' or '.join(EXPORTS)}"
            )
        if path.exists() and not overwrite:
            raise InputError(f"{path} exists", "Replace it with --overwrite, or choose another --export")
    if not has_weights:
        raise InputError(
            f"--export {paths[0]}: the network of --cell has random weights",
            "Give a trained one with --network latest (or its folder), or published ones with --import-weights",
        )


def export(network: "ImageClassifier", path: Path, terminal: Terminal) -> "Exported":
    """Write a network into a file of another format, and say how it compares."""
    from nascli.models.deploy.export import EXPORTS

    with terminal.notes.status(f"exporting {path}"):
        made = EXPORTS[path.suffix](network, path)
    side = network.spec.image_size
    terminal.note(
        f"wrote {path}: images (N, 3, {side}, {side}) to logits (N, {network.spec.classes}), within "
        f"{made.difference:.1e} of the network's"
    )
    return made


def import_foreign(spec: NetworkSpec, foreign: Path, terminal: Terminal) -> "ImageClassifier":
    """A network with the weights of another tool's file; its spec says how that tool prepares images."""
    from nascli.models.cells.pretrained import import_weights

    network = build(spec).eval()
    imported = import_weights(foreign, network)
    network.spec = spec.model_copy(update={"preprocessing": imported.preprocessing})
    terminal.note(f"{foreign}: a file of {imported.name}; images will be prepared as {imported.tool} does it")
    return network


def write_folder(spec: NetworkSpec, network: "ImageClassifier | None", folder: Path, terminal: Terminal) -> Path:
    """Write network.json, and beside it the weights if there is a network that has some."""
    path = folder / "network.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_network(path, spec)
        if network is not None:
            from nascli.models.serialization import WEIGHTS_FILE, save_weights

            save_weights(folder / WEIGHTS_FILE, network)
            terminal.note(f"wrote {folder / WEIGHTS_FILE}")
    except OSError as error:
        raise NascliError(f"{path} cannot be written: {error.strerror or error}", "Choose another --out") from error
    return path
