"""A network or a detector made ready to publish: a folder of its weights, its numbers, its genotype and a card."""

import shutil
from pathlib import Path

import tomli_w

from nascli.detect.model import is_detector, read_detector
from nascli.errors import InputError
from nascli.files import write_bytes, write_text, writing
from nascli.genotype.drawing import genotype_png
from nascli.genotype.genotype import Genotype, sign_genotype
from nascli.models.cost import measure_cost
from nascli.models.families import NETWORK_FILE
from nascli.models.serialization import WEIGHTS_FILE
from nascli.models.spec import NetworkSpec, read_network, write_network
from nascli.models.tensor_files import digest_tensors, read_tensors
from nascli.report.model_card import PublishedModel, public_recipe, without_place, write_card
from nascli.runs.record import DETECTOR_FILE, RECIPE_FILE, RUN_FILE, read_run_record
from nascli.text import quote

CARD = "README.md"
_GENOTYPE = "genotype.json"
_PICTURE = "architecture.png"

_MEANINGS = {
    WEIGHTS_FILE: "the weights, and the statistics of batch norms",
    NETWORK_FILE: "all numbers of the network, its classes, and how images are prepared",
    DETECTOR_FILE: "the numbers and classes of the detector",
    _GENOTYPE: "the architecture: `nascli train --cell genotype.json`",
    RECIPE_FILE: "the recipe of the training, without the places of files",
    _PICTURE: "the architecture, drawn",
}


def collect_model(run: Path, address: str, license_name: str = "") -> PublishedModel:
    """A finished run of `nascli train` or `nascli detect`, or a folder of imported weights, as it will be published.

    Args:
        address: `ORG/NAME`.

    Raises:
        InputError: There are no weights, or the run is not finished.
        CorruptFileError: A file is damaged.
    """
    record = read_run_record(run) if (run / RUN_FILE).is_file() else {}
    if not (run / WEIGHTS_FILE).is_file() or record.get("status", "complete") != "complete":
        command = str(record.get("command", "train"))
        raise InputError(
            f"{run}: there is no finished network in it",
            f"Finish the run with: nascli {command} --resume {quote(run)}"
            if record
            else "Give a run of nascli train or detect, or a folder of nascli build --import-weights",
            file=run,
        )
    read_tensors(run / WEIGHTS_FILE)  # what is damaged is not published
    if is_detector(run):
        detector = read_detector(run)
        spec, class_names = detector.network, detector.class_names
    else:
        spec = read_network(run / NETWORK_FILE)
        class_names = spec.class_names or ()
    genotype = _genotype_of(spec)
    if genotype is not None:
        spec = spec.model_copy(update={"genotype": _without_paths(genotype)})
    names = [name for name in (WEIGHTS_FILE, NETWORK_FILE, DETECTOR_FILE) if (run / name).is_file()]
    drawn = [_GENOTYPE, _PICTURE] if genotype is not None else []
    return PublishedModel(
        address,
        spec,
        measure_cost(spec),
        record,
        class_names,
        digest_tensors(run / WEIGHTS_FILE),
        license_name,
        {name: _MEANINGS[name] for name in [*names, *drawn, *([RECIPE_FILE] if record else [])]},
    )


def write_model(model: PublishedModel, run: Path, folder: Path) -> None:
    """Write card, weights, numbers, genotype and drawing of a model that was collected from `run` into a folder."""
    for name in (WEIGHTS_FILE, DETECTOR_FILE):
        if name in model.files:
            with writing(folder / name):
                shutil.copyfile(run / name, folder / name)
    write_network(folder / NETWORK_FILE, model.spec)
    if RECIPE_FILE in model.files:
        write_text(folder / RECIPE_FILE, tomli_w.dumps(public_recipe(model.run)))
    genotype = _genotype_of(model.spec)
    if genotype is not None:
        write_text(folder / _GENOTYPE, sign_genotype(genotype))
        write_bytes(folder / _PICTURE, genotype_png(genotype))
    write_text(folder / CARD, write_card(model))


def _without_paths(genotype: Genotype) -> Genotype:
    """The genotype without the folders in its provenance: of the search run and of the data the last names stay."""
    provenance = {
        key: without_place(value) if key in ("search_run", "dataset") and isinstance(value, str) else value
        for key, value in genotype.provenance.items()
    }
    return genotype.model_copy(update={"provenance": provenance})


def _genotype_of(spec: NetworkSpec) -> Genotype | None:
    """The genotype; None for a network that nobody searched for."""
    return getattr(spec, "genotype", None)
