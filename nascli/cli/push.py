"""`nascli push`: a trained network on the Hugging Face hub, with a card that says what it is."""

import tempfile
from pathlib import Path

from nascli.cli.options import JSON, Call, Setting, command, runs_folder
from nascli.errors import InputError
from nascli.files import fill_folder, writing
from nascli.hub import PREFIX, import_hub, upload
from nascli.runs.find import find_run
from nascli.runs.record import DETECTOR_FILE

RUN = Setting[str](
    "run",
    "Train or detect run, or a folder of build --import-weights; latest is the newest train run.",
    ...,
    metavar="RUN",
)
ADDRESS = Setting[str | None]("address", "Name of the model on the hub.", metavar="[ORG/NAME]")
FOLDER = Setting[Path | None]("--to", "Write the files into this folder, and upload nothing.", metavar="DIR")
OVERWRITE = Setting[bool]("--overwrite", "Replace files in the folder of --to.", False)
PRIVATE = Setting[bool]("--private", "Make a new model that only you, or your organization, can see.", False)
LICENSE = Setting[str](
    "--license", "License in the card, as the hub calls it: apache-2.0, cc-by-4.0, ...", "", metavar="ID"
)
MESSAGE = Setting[str]("--message", "Message of the commit.", "Upload by nascli push", metavar="TEXT")


@command(
    "push",
    [RUN, ADDRESS, FOLDER, OVERWRITE, PRIVATE, LICENSE, MESSAGE, JSON],
    examples=[
        "nascli push latest me/nasnet-flowers --license apache-2.0",
        "nascli push runs/detect/latest me/nasnet-coco --private",
        "nascli push latest --to card",
    ],
)
def run(call: Call) -> None:
    """Publish a trained network on the Hugging Face hub.

    The weights, network.json, the genotype and its drawing, and a model card made from the record of the run, without
    paths or names of this machine. Whoever has it uses it as hf:ORG/NAME in place of a run.
    """
    from nascli.report.publish import CARD, collect_model, write_model

    address, folder = call[ADDRESS], call[FOLDER]
    if address is None and folder is None:
        raise InputError("push needs ORG/NAME or --to DIR", "For example nascli push latest me/my-network")
    terminal = call.terminal()
    command_of = "detect" if (Path(call[RUN]) / DETECTOR_FILE).is_file() else "train"
    source = find_run(call[RUN], command_of, runs_folder(), terminal.note)
    name = address or f"ORG/{source.resolve().name}"
    if folder is None:
        import_hub()  # before anything is written
    model = collect_model(source, name, call[LICENSE])
    if folder is not None:
        if (folder / CARD).exists() and not call[OVERWRITE]:
            raise InputError(f"{folder / CARD} exists", "Replace it with --overwrite, or choose another --to")
        with fill_folder(folder) as place:
            write_model(model, source, place)
    url = None
    if folder is None:
        with (
            writing(Path(tempfile.gettempdir())),
            tempfile.TemporaryDirectory(prefix="nascli-push-") as temporary,
        ):
            write_model(model, source, Path(temporary))
            with terminal.status(f"uploading to {name}"):
                url = upload(Path(temporary), name, private=call[PRIVATE], message=call[MESSAGE])
    files = [CARD, *model.files]
    terminal.show(f"written: {folder}: {', '.join(files)}" if folder else f"uploaded: {', '.join(files)}\n{url}")
    terminal.result({"model": name, "folder": folder and str(folder), "url": url, "files": files})
    terminal.next(
        ["nascli", "push", source, name] if folder else ["nascli", "evaluate", f"{PREFIX}{name}", "--out", "."]
    )
