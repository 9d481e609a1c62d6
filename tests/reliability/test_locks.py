"""Folders that are refused, or hold what nascli did not make: nothing in them is touched."""

import errno
import fcntl
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nascli.config import TrainRecipe
from nascli.engine.checkpoint import CheckpointStore
from nascli.errors import CannotWriteError, InputError, NascliError
from nascli.locks import LOCK_FILE, is_locked, lock_folder
from nascli.progress import ProgressFile
from nascli.records import write_record
from nascli.runs.find import find_run, read_run
from nascli.runs.start import create_run, resume_run
from nascli.search.journal import Journal
from tests.cli.program import Nascli
from tests.front_door.made import TRAIN, write_classes

PRECIOUS = b"years of work\n"


def picture(folder: Path) -> dict[str, tuple[int, str]]:
    """Every name below a folder with its mode and content; of a link where it leads to."""
    seen = {}
    for path in sorted(folder.rglob("*")):
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        text = content if isinstance(content, str) else hashlib.sha256(content).hexdigest()
        seen[str(path.relative_to(folder))] = (path.lstat().st_mode, text)
    return seen


def plant_file(place: Path) -> None:
    place.write_bytes(PRECIOUS)


def plant_link(place: Path) -> None:
    place.symlink_to(Path("precious").resolve())


def plant_dangling_link(place: Path) -> None:
    place.symlink_to("nowhere")


def plant_folder(place: Path) -> None:
    place.mkdir()
    (place / "inside").write_bytes(PRECIOUS)


def plant_pipe(place: Path) -> None:
    os.mkfifo(place)


def plant_read_only(place: Path) -> None:
    place.write_bytes(PRECIOUS)
    place.chmod(0o444)


PLANTS = [plant_file, plant_link, plant_dangling_link, plant_folder, plant_pipe, plant_read_only]


def create(out: Path, *, overwrite: bool = False, **more: object) -> None:
    with create_run("train", "a", TrainRecipe(), runs=Path("runs"), out=out, overwrite=overwrite, **more):  # type: ignore[arg-type]
        pass


@pytest.fixture(autouse=True)
def precious() -> Path:
    path = Path("precious")
    path.write_bytes(PRECIOUS)
    return path


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("name", [LOCK_FILE, "run.json", "recipe.toml", "metrics.jsonl", "thesis.tex"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_is_refused_stays_as_it_was(plant: Callable[[Path], None], name: str, overwrite: bool) -> None:
    folder = Path("mine")
    folder.mkdir()
    (folder / "notes.txt").write_bytes(PRECIOUS)
    plant(folder / name)
    before = picture(Path())
    with pytest.raises(InputError, match="mine"):
        create(folder, overwrite=overwrite)
    assert picture(Path()) == before


@pytest.mark.parametrize("plant", PLANTS)
def test_a_foreign_lock_is_never_emptied_or_followed(plant: Callable[[Path], None]) -> None:
    """Alone in a folder a file of this name is none of nascli's business; what is no file is refused."""
    folder = Path("mine")
    folder.mkdir()
    plant(folder / LOCK_FILE)
    before = picture(folder)
    if plant in (plant_file, plant_read_only):
        create(folder)
        assert picture(folder)[LOCK_FILE] == before[LOCK_FILE]
    else:
        with pytest.raises(NascliError, match=LOCK_FILE):
            create(folder)
        assert picture(folder) == before
    assert Path("precious").read_bytes() == PRECIOUS
    assert not Path("nowhere").exists()


@pytest.mark.parametrize("line", ["train", "search --trials 2"])
def test_a_refused_out_is_refused_in_one_line(nascli: Nascli, line: str) -> None:
    Path("file").write_bytes(PRECIOUS)
    write_classes(Path("data"))
    options = "--dataset folder:data --device cpu"
    before = picture(Path())
    for out in ("data", "file", "precious/below"):
        ran = nascli(f"{TRAIN if line == 'train' else line} {options} --out {out}")
        assert ran.code in (1, 2)
        assert out.split("/")[0] in ran.err.splitlines()[-1]
    assert picture(Path()) == before


@pytest.mark.parametrize("name", ["run.json", "recipe.toml", "metrics.jsonl", "top", "progress.json", "checkpoint.pt"])
def test_overwriting_removes_links_and_not_what_they_lead_to(name: str) -> None:
    folder, target = Path("run"), Path("store").resolve()
    create(folder)
    target.mkdir()
    (target / "kept").write_bytes(PRECIOUS)
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(target if name == "top" else Path("precious").resolve())
    try:
        create(folder, overwrite=True)
    except InputError:
        assert name == "run.json", "a link is no record of a run"
    else:
        assert not (folder / name).is_symlink()
    assert Path("precious").read_bytes() == PRECIOUS
    assert (target / "kept").read_bytes() == PRECIOUS


def test_files_that_are_added_to_follow_no_link(precious: Path) -> None:
    folder = Path("run")
    create(folder)
    for name in ("metrics.jsonl", "trials.jsonl"):
        (folder / name).symlink_to(precious.resolve())
    with pytest.raises(CannotWriteError, match=r"metrics\.jsonl"):
        CheckpointStore(folder, "x").append_metrics({"epoch": 1})
    with pytest.raises(CannotWriteError, match=r"trials\.jsonl"):
        Journal(folder / "trials.jsonl")
    assert precious.read_bytes() == PRECIOUS


def test_progress_follows_no_link(precious: Path) -> None:
    folder = Path("run")
    create(folder)
    (folder / "progress.json").symlink_to(precious.resolve())
    ProgressFile(folder, "steps").begin(0, 1, "training")
    assert json.loads((folder / "progress.json").read_text(encoding="utf-8"))["total"] == 1
    assert precious.read_bytes() == PRECIOUS


def test_a_pipe_in_place_of_a_journal_does_not_hang() -> None:
    create(Path("run"))
    os.mkfifo("run/trials.jsonl")
    with pytest.raises(CannotWriteError, match="no plain file"):
        Journal(Path("run/trials.jsonl"))


@pytest.mark.parametrize("record", [{"name": "app", "scripts": {}}, {"command": "npm"}, {"command": ["train"]}])
def test_the_run_json_of_another_program_makes_no_run_of_a_folder(record: dict[str, object]) -> None:
    folder = Path("project")
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    (folder / "main.py").write_bytes(PRECIOUS)
    before = picture(folder)
    with pytest.raises(InputError, match="not a run folder"):
        create(folder, overwrite=True)
    assert picture(folder) == before


@pytest.mark.parametrize("content", ["", "{", '{"command": "train", "checksum": "0"}'])
def test_a_run_whose_record_is_damaged_can_be_replaced(content: str) -> None:
    create(Path("run"))
    Path("run/run.json").write_text(content, encoding="utf-8")
    create(Path("run"), overwrite=True)
    assert read_run(Path("run"))["status"] == "complete"


def test_a_run_that_lost_its_record_as_it_began_can_be_replaced() -> None:
    create(Path("run"))
    Path("run/run.json").unlink()
    with pytest.raises(InputError, match="--overwrite"):
        create(Path("run"))
    create(Path("run"), overwrite=True)


def test_an_input_in_the_folder_is_not_overwritten() -> None:
    create(Path("run"))
    Path("run/best.json").write_text("{}", encoding="utf-8")
    before = picture(Path("run"))
    with pytest.raises(InputError, match=r"best\.json"):
        create(Path("run"), overwrite=True, inputs=[Path("run/best.json")])
    assert picture(Path("run")) == before


def test_a_start_that_fails_leaves_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise CannotWriteError("the disk is full")

    Path("empty").mkdir()
    before = picture(Path())
    for name in ("folder.write_text", "folder.write_record", "start.remove_partial"):
        with monkeypatch.context() as patch:
            patch.setattr(f"nascli.runs.{name}", refuse)
            for out in (Path("new"), Path("empty")):
                with pytest.raises(CannotWriteError):
                    create(out)
    assert picture(Path()) == before
    create(Path("run"))
    before = picture(Path())
    with monkeypatch.context() as patch:
        patch.setattr("nascli.runs.folder.write_record", refuse)
        with pytest.raises(CannotWriteError):
            create(Path("run"), overwrite=True)
    assert picture(Path()) == before, "the earlier run is whole"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_disk_without_locks_is_named_and_left_as_it_was(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("nascli.locks.fcntl.flock", refuse)
    with pytest.raises(InputError, match="no file locks"):
        create(Path("run"))
    assert not Path("run").exists()


def test_another_process_may_begin_between_the_look_and_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    def lock_late(path: Path, **more: object) -> object:
        with monkeypatch.context() as patch:
            patch.setattr("nascli.runs.start.lock_folder", lock_folder)
            create(path)
        return lock_folder(path, **more)  # type: ignore[arg-type]

    monkeypatch.setattr("nascli.runs.start.lock_folder", lock_late)
    with pytest.raises(InputError, match="is not empty"):
        create(Path("run"))
    assert read_run(Path("run"))["status"] == "complete"


def test_a_look_does_not_take_the_lock_away() -> None:
    """`status --watch` and a run that starts: the look has the lock for a moment."""
    create(Path("run"))
    with Path("run", LOCK_FILE).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        threading.Timer(0.03, lambda: fcntl.flock(file, fcntl.LOCK_UN)).start()
        lock_folder(Path("run")).close()
        time.sleep(0.05)


def test_a_lock_that_was_removed_is_not_waited_for() -> None:
    Path("data").mkdir()
    first = lock_folder(Path("data"))
    got: list[bool | None] = []

    def wait() -> None:
        with lock_folder(Path("data"), patience=10):
            got.append(is_locked(Path("data")))

    thread = threading.Thread(target=wait)
    thread.start()
    Path("data", LOCK_FILE).unlink()
    first.close()
    thread.join()
    assert got == [True], "the lock that counts is the one that others see"


def test_two_that_resume_one_run(nascli: Nascli, classifier: str) -> None:
    write_classes(Path("data"))
    with resume_run(Path("classifier"), "train"):
        before = picture(Path("classifier"))
        for line in ("train --resume classifier", f"{TRAIN} --dataset folder:data --out classifier --overwrite"):
            ran = nascli(line)
            assert ran.code == 2
            assert "in use by another process" in ran.err.splitlines()[-1]
        assert picture(Path("classifier")) == before


def test_a_refused_resume_leaves_the_run_as_it_was(nascli: Nascli, classifier: str) -> None:
    before = picture(Path("classifier"))
    write_classes(Path("others"), classes=("bird", "fish"))
    assert nascli("train --resume classifier --dataset folder:others").code == 2
    assert picture(Path("classifier")) == before
    with resume_run(Path("classifier"), "train"):
        pass


def test_a_disk_for_reading_only(nascli: Nascli, classifier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refuse(path: str | os.PathLike[str], flags: int, *more: int, **named: int) -> int:
        if "classifier" in os.fspath(path) and flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(path, flags, *more, **named)

    monkeypatch.setattr("os.open", refuse)
    ran = nascli("train --resume classifier")
    assert ran.code == 1
    assert "mounted for reading only" in ran.err.splitlines()[-1]
    assert nascli("status classifier").code == 0
    assert nascli("evaluate classifier --help").code == 0


@pytest.mark.parametrize("plant", [plant_file, plant_folder, plant_link, plant_pipe])
def test_what_the_user_calls_latest_stays(plant: Callable[[Path], None]) -> None:
    notes: list[str] = []
    Path("runs/train").mkdir(parents=True)
    plant(Path("runs/train/latest"))
    before = picture(Path("runs"))
    with create_run("train", "a", TrainRecipe(), runs=Path("runs"), note=notes.append) as run:
        pass
    assert [run.path.name in note and "latest" in note for note in notes] == [True]
    after = picture(Path("runs"))
    assert all(after[name] == seen for name, seen in before.items())


def test_without_links_the_run_goes_on_and_latest_is_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("pathlib.Path.symlink_to", refuse)
    notes: list[str] = []
    paths = []
    for _ in range(2):
        with create_run("train", "a", TrainRecipe(), runs=Path("runs"), note=notes.append) as run:
            paths.append(run.path)
    assert len(notes) == 2
    assert [path.name for path in Path("runs/train").iterdir() if "latest" in path.name] == []
    said: list[str] = []
    assert find_run("latest", "train", Path("runs"), said.append) == paths[-1]
    assert str(paths[-1]) in said[0]


@pytest.mark.parametrize("plant", [plant_file, plant_folder, plant_link, plant_pipe])
@pytest.mark.parametrize("inside", ["", "thesis.tex"])
def test_what_lies_where_a_pack_keeps_its_images_stays(
    nascli: Nascli, plant: Callable[[Path], None], inside: str
) -> None:
    write_classes(Path("data"), counts=(2, 1))
    place = Path("p.h5.partial")
    if inside:
        place.mkdir()
        plant(place / inside)
    else:
        plant(place)
    before = picture(Path())
    ran = nascli("pack data p.h5 --overwrite")
    assert ran.code == 2
    assert "p.h5.partial" in ran.err.splitlines()[-1]
    assert picture(Path()) == before


@pytest.mark.parametrize("lock", ["absent", "link", "another machine"])
def test_a_run_whose_lock_is_not_seen_is_judged_by_its_signs(nascli: Nascli, lock: str) -> None:
    create(Path("run"))
    record = json.loads(Path("run/run.json").read_text(encoding="utf-8"))
    changed = {"status": "running", "host": "elsewhere" if lock == "another machine" else record["host"]}
    write_record(Path("run/run.json"), {key: value for key, value in record.items() if key != "checksum"} | changed)
    if lock != "another machine":
        Path("run", LOCK_FILE).unlink()
    if lock == "link":
        Path("run", LOCK_FILE).symlink_to("nowhere")
    assert nascli("status run --json").json["runs"][0]["state"] == "running"
    for path in Path("run").iterdir():
        os.utime(path, (time.time() - 750, time.time() - 750), follow_symlinks=False)
    expected = "silent" if lock == "another machine" else "killed"
    assert nascli("status run --json").json["runs"][0]["state"] == expected
    assert nascli("runs . --json").json["runs"][0]["status"] == expected


def test_a_host_that_is_no_text_stops_no_status(nascli: Nascli) -> None:
    Path("run").mkdir()
    write_record(Path("run/run.json"), {"command": "train", "status": "running", "host": [1], "start": [2]})
    assert nascli("status run --json").json["runs"][0]["state"] in ("running", "damaged")
    assert nascli("train --resume run").code in (1, 2)
