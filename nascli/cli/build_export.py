"""`nascli build --export`: a trained network as files for other programs."""

from pathlib import Path
from typing import TYPE_CHECKING

from nascli.cli.build_settings import EXPORT, IMPORT_WEIGHTS, NETWORK, REPLACE
from nascli.cli.console import Terminal
from nascli.cli.options import Call
from nascli.errors import InputError

if TYPE_CHECKING:
    from nascli.models.deploy.export import Exported
    from nascli.models.interface import ImageClassifier


def check_exports(call: Call) -> None:
    """Refuse files of unknown kinds, files that are there, and random weights, before anything is built."""
    from nascli.models.deploy.export import EXPORTS, list_files

    for path in call[EXPORT]:
        if path.suffix not in EXPORTS:
            raise InputError(f"--export {path}: unknown kind {path.suffix!r}", f"Known: {', '.join(EXPORTS)}")
        if (there := [each for each in list_files(path) if each.exists()]) and not call[REPLACE]:
            raise InputError(f"{there[0]} exists", "Replace it with --overwrite, or choose another --export")
        if not (call[NETWORK] or call[IMPORT_WEIGHTS]):
            raise InputError(
                f"--export {path}: the network of --cell has random weights",
                "Give a trained one with --network latest (or its folder), or published ones with --import-weights",
            )


def export_network(network: "ImageClassifier", path: Path, terminal: Terminal) -> "Exported":
    """Write a network into a file of another format, and say how it compares."""
    from nascli.models.deploy.export import EXPORTS

    with terminal.status(f"exporting {path}"):
        made = EXPORTS[path.suffix](network, path)
    side = network.spec.image_size
    terminal.note(
        f"wrote {path}: images (N, 3, {side}, {side}) to logits (N, {network.spec.classes}), within "
        f"{made.difference:.1e} of the network's"
    )
    return made
