"""Weights to start from: whatever `--from` names, opened as a network's spec and its tensors, and taken into another.

A word of the user is resolved to a place by `find_start`, and the place opened by `open_start`; a new kind of source is
one more line in either.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nascli.config import SearchRecipe
from nascli.errors import CorruptFileError, InputError
from nascli.genotype.genotype import Genotype
from nascli.genotype.resolve import BEST_FILE, NETWORK_FILE, load_genotype
from nascli.genotype.space import resolve_space
from nascli.models.families import find_supernet
from nascli.models.interface import ImageClassifier
from nascli.models.pretrained import describe_misfits, import_network
from nascli.models.serialization import SUPERNET_FILE, WEIGHTS_FILE, check_weights
from nascli.models.spec import NetworkSpec, parse_network, read_network, with_architecture
from nascli.models.tensor_files import read_metadata, read_tensors
from nascli.references import is_reference, locate
from nascli.runs.find import find_run, read_run, refuse_detector
from nascli.runs.record import RUN_FILE, parse_recipe
from nascli.text import nfc
from nascli.units import count_of

_COUNTER = "num_batches_tracked"
"""Ends the names of the counters of batch norms, which few files have and nothing depends on."""


@dataclass(frozen=True)
class StartWeights:
    """The weights that a training begins with, as they are in their source.

    Args:
        origin: Their kind and place, in words.
        spec: The network that they are of.
        tensors: By their names in that network.
        files: What they were read from.
        knows_images: Whether `spec` says how images are prepared for them; else its numbers are mere defaults.
        calibration_images: Training images on which the statistics of batch norms are to be measured first, since the
            source has none; 0 where it has.
    """

    origin: str
    spec: NetworkSpec
    tensors: Mapping[str, Tensor]
    files: tuple[Path, ...]
    knows_images: bool = True
    calibration_images: int = 0


@dataclass(frozen=True)
class Taken:
    """The tensors of a network, by where they come from; batch counters are not counted.

    Args:
        tensors: Those taken, with the outputs per class as far as their classes are.
        new: Those that are new, with the outputs per class where no class is taken.
        new_modules: The modules of these, by path.
        left: Those of the source that the network has no place for.
        classes: The classes whose outputs are taken.
        new_classes: The classes whose outputs are new.
    """

    tensors: int
    new: int
    new_modules: tuple[str, ...]
    left: int
    classes: int
    new_classes: int

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "new_modules": list(self.new_modules)}

    def __str__(self) -> str:
        new = f", {self.new:,} new: {', '.join(self.new_modules)}" if self.new else ""
        left = f", {self.left:,} not needed" if self.left else ""
        classes = ""
        if self.classes and self.new_classes:
            classes = f"; {self.classes:,} of {count_of(self.classes + self.new_classes, 'class')} taken by name"
        return f"{count_of(self.tensors, 'tensor')} taken{new}{left}{classes}"


def find_start(word: str, runs: Path, note: Callable[[str], None] = lambda text: None) -> Path:
    """The file or folder that `--from` means: itself, the run that `latest` is, or what a reference names.

    Raises:
        InputError: There is none.
    """
    if is_reference(word):
        return locate(word, note)
    path = Path(word)
    if path.is_file() or (path / BEST_FILE).is_file():
        return path.resolve() if path.is_symlink() else path
    return find_run(word, "train", runs, note)


def open_start(path: Path, asked: NetworkSpec | None = None) -> StartWeights:
    """Read the weights of a train run, a folder with a network, a search with shared weights, or a file.

    Args:
        asked: The network that `--cell` and the numbers beside it say: which a file needs, of a search it is the child,
            and a folder with a network excludes it.

    Raises:
        InputError: There are no weights, or they are not of the network that was asked for.
        CorruptFileError: A file is damaged.
    """
    if path.is_file() and not (path.name == WEIGHTS_FILE and (path.parent / NETWORK_FILE).is_file() and asked is None):
        return _open_file(path, asked)
    folder = path.parent if path.is_file() else path
    if (folder / BEST_FILE).is_file() or (folder / SUPERNET_FILE).is_file():
        return _open_supernet(folder, asked)
    if asked is not None:
        raise InputError(f"{folder} says its network itself; it excludes --cell", "Leave --cell out", field="--cell")
    return _open_network(folder)


def _open_network(folder: Path) -> StartWeights:
    refuse_detector(folder)
    check_weights(folder)
    kind = "train run" if (folder / RUN_FILE).is_file() else "network"
    spec, weights = read_network(folder / NETWORK_FILE), folder / WEIGHTS_FILE
    return StartWeights(f"{kind} {folder}", spec, read_tensors(weights), (folder / NETWORK_FILE, weights))


def _open_file(path: Path, asked: NetworkSpec | None) -> StartWeights:
    if asked is None:
        raise InputError(
            f"weights {path}: the file does not say of which network it is",
            "Add --cell, and --preset or the numbers it was made with: --cell nasnet-a --preset imagenet-mobile",
            field="--cell",
        )
    network, imported = import_network(path, asked, any_classes=True)
    own = imported.tool == "nascli"
    return StartWeights(f"{imported.name}, {path}", network.spec, network.state_dict(), (path,), knows_images=not own)


def _open_supernet(folder: Path, asked: NetworkSpec | None) -> StartWeights:
    """A child with the weights that it inherits; it has no statistics of its own."""
    record = read_run(folder, "search")
    recipe, path = parse_recipe(SearchRecipe, record, folder), folder / SUPERNET_FILE
    if not path.is_file():
        shares = recipe.search.evaluator == "one_shot"
        raise InputError(
            f"{folder} holds no weights: {'its supernet is not trained yet' if shares else 'this search kept none'}",
            "Resume it first" if shares else "A search with --evaluator one_shot keeps those that its children share",
        )
    shared = read_tensors(path)
    try:
        template = parse_network(read_metadata(path)["network"], path)
    except KeyError as error:
        raise CorruptFileError(f"weights {path} do not say of which networks they are", file=path) from error
    child: Genotype = asked.architecture if asked else load_genotype(folder / BEST_FILE)  # type: ignore[assignment]
    resolve_space(recipe.space).encode(child)
    spec = with_architecture(template, child)
    network = find_supernet(spec.family).extract_child(spec, shared)
    return StartWeights(
        f"child {child.name} of the supernet in {folder}",
        spec,
        network.state_dict(),
        (path,) if asked else (folder / BEST_FILE, path),
        calibration_images=recipe.supernet.bn_calibration_images,
    )


def match_classes(names: Sequence[str] | None, outputs: int, classes: Sequence[str], choice: str) -> dict[int, int]:
    """The outputs of a source that stand for the classes of a network, by the network's own.

    Args:
        names: The classes of the source's outputs; None where they are not known. Then as many are the same ones.
        outputs: Their number.
        classes: The network's.
        choice: A value of `start.classes`.

    Raises:
        InputError: All are to be kept, and some class has no output in the source.
    """
    if choice == "new":
        return {}
    if names is None:
        found = {k: k for k in range(len(classes))} if outputs == len(classes) else {}
        missing = f"they have {count_of(outputs, 'output')} without names, for {len(classes)} classes"
    else:
        places = {nfc(name): place for place, name in enumerate(names)}
        found = {k: places[nfc(name)] for k, name in enumerate(classes) if nfc(name) in places}
        missing = f"they have none for {', '.join(name for k, name in enumerate(classes) if k not in found)}"
    if choice == "keep" and len(found) < len(classes):
        raise InputError(
            f"start.classes = keep: the weights do not have an output for every class: {missing}",
            "Leave start.classes out for new outputs",
            field="start.classes",
        )
    return found


def take_weights(network: ImageClassifier, start: StartWeights, classes: Mapping[int, int]) -> Taken:
    """Copy the weights of a source into a network, in place; what the source lacks stays as it is.

    The outputs per class are copied class by class. The auxiliary head is taken whole or not at all: of another image
    size it has another shape.

    Args:
        classes: The outputs of the source by the network's own (`match_classes`).

    Raises:
        InputError: The source is of another network; the first missing, surplus and misshaped tensors are named.
        CorruptFileError: A value is not finite.
    """
    own = network.state_dict()
    rows = {f"{path}.{name}": classes for path in network.class_layers() for name in ("weight", "bias")}
    auxiliary = [name for name in own if name.startswith("aux_head.") and name not in rows]
    shapes = {name: tensor.shape for name, tensor in start.tensors.items()}
    fits = all(shapes.get(name) == own[name].shape for name in auxiliary)
    given = {name: each for name, each in start.tensors.items() if (auxiliary and fits) or not _is_auxiliary(name)}
    wanted = {name: each for name, each in own.items() if fits or not _is_auxiliary(name)}
    new = copy_weights(wanted, given, rows, start.origin) + [name for name in own if name not in wanted]
    return count_taken(own, start.tensors, new, len(classes), network.spec.classes)


def copy_weights(
    own: Mapping[str, Tensor], given: Mapping[str, Tensor], rows: Mapping[str, Mapping[int, int]], origin: str
) -> list[str]:
    """Copy tensors by name into a network's own, in place.

    Args:
        own: Those of the network that are to be had; batch counters may be absent in `given`.
        rows: Tensors with rows per class: the rows to copy, by the network's own. The other rows stay as they are.
        origin: Names the source in errors.

    Returns:
        The names of those with rows of which none is copied.

    Raises:
        InputError: The source is of another network; the first missing, surplus and misshaped tensors are named.
        CorruptFileError: A value is not finite.
    """
    own, given = _without_counters(own), _without_counters(given)
    _refuse_misfits(own, given, rows, origin)
    for name, tensor in own.items():
        if name not in rows:
            tensor.copy_(given[name])
        elif rows[name]:
            tensor[list(rows[name])] = given[name][list(rows[name].values())].to(tensor.dtype)
    return [name for name in own if name in rows and not rows[name]]


def count_taken(
    own: Mapping[str, Tensor], given: Mapping[str, Tensor], new: Sequence[str], classes: int, all_classes: int
) -> Taken:
    """Count what `copy_weights` took: all of a network's tensors but the `new` ones, and so many of its classes."""
    own, given = _without_counters(own), _without_counters(given)
    new = [name for name in new if name in own]
    modules = ("auxiliary head" if _is_auxiliary(name) else name.rpartition(".")[0] for name in new)
    return Taken(
        tensors=len(own) - len(new),
        new=len(new),
        new_modules=tuple(dict.fromkeys(modules)),
        left=len(given.keys() - own.keys()),
        classes=classes,
        new_classes=all_classes - classes,
    )


def _without_counters(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not name.endswith(_COUNTER)}


def _is_auxiliary(name: str) -> bool:
    return name.startswith("aux_head.")


def _refuse_misfits(
    own: Mapping[str, Tensor], given: Mapping[str, Tensor], rows: Mapping[str, object], origin: str
) -> None:
    """Refuse a source of another network; of tensors with rows per class the number of rows may differ."""
    said = describe_misfits(
        [name for name in own if name not in given],
        [name for name in given if name not in own],
        [
            f"{name} (the weights have {list(given[name].shape)}, the network {list(tensor.shape)})"
            for name, tensor in own.items()
            if name in given and given[name].shape[name in rows :] != tensor.shape[name in rows :]
        ],
    )
    if said:
        hint = "The numbers of a network come with its weights: leave out those that --cell, options or --set give"
        raise InputError(f"weights of {origin} are of another network: {said}", hint)
    broken = next((name for name in own if not bool(torch.isfinite(given[name]).all())), None)
    if broken:
        raise CorruptFileError(f"weights of {origin}: entry {broken} holds values that are not finite")
