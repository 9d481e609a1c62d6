"""Checkpoints: whole or not at all, checked when read, the previous one as a reserve."""

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nascli.engine.checkpoint import CheckpointStore
from nascli.errors import CorruptFileError, InputError, NascliError


def record(epoch: int) -> dict[str, Any]:
    return {"epoch": epoch, "step": 4 * epoch, "train_loss": 1.5, "top1": 0.5}


def saved(folder: Path, steps: int = 2) -> CheckpointStore:
    store = CheckpointStore(folder, "x")
    for step in range(1, steps + 1):
        store.save({"step": step, "values": torch.full((300,), float(step))})
    return store


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def turn_one_bit(path: Path) -> None:
    """In the middle of the tensor's values."""
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        entry = next(info for info in archive.infolist() if info.filename.endswith("data/0"))
    content[entry.header_offset + entry.file_size // 2 + 100] ^= 4
    path.write_bytes(bytes(content))


def pickle_bomb(path: Path) -> None:
    """A pickle that would run a command when loaded."""

    class Bomb:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return os.system, (f"touch {path.parent}/ran",)

    torch.save({"format": 2, "identity": "x", "state": {"step": 3, "bomb": Bomb()}}, path)


def other_content(path: Path) -> None:
    torch.save([1, 2, 3], path)


def no_archive(path: Path) -> None:
    path.write_bytes(pickle.dumps({"step": 1}))


DAMAGES = [truncate, empty, turn_one_bit, pickle_bomb, other_content, no_archive]


def test_the_newest_is_loaded_and_the_one_before_is_kept(tmp_path: Path) -> None:
    saved(tmp_path, steps=3)
    notes: list[str] = []
    state = CheckpointStore(tmp_path, "x", notes.append).load()
    assert state is not None
    assert state["step"] == 3
    assert torch.equal(state["values"], torch.full((300,), 3.0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.previous.pt", "checkpoint.pt"]
    assert notes == ["resuming from checkpoint.pt, step 3"]


def test_nothing_saved_is_nothing_loaded(tmp_path: Path) -> None:
    assert CheckpointStore(tmp_path, "x").load() is None


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_noticed_and_the_previous_taken(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    saved(tmp_path)
    damage(tmp_path / "checkpoint.pt")
    notes: list[str] = []
    state = CheckpointStore(tmp_path, "x", notes.append).load()
    assert state is not None
    assert state["step"] == 1
    assert len(notes) == 1
    assert str(tmp_path / "checkpoint.pt") in notes[0]
    assert "damaged" in notes[0]
    assert notes[0].endswith("resuming from checkpoint.previous.pt, step 1")
    assert not (tmp_path / "ran").exists()


def test_a_damaged_checkpoint_never_replaces_the_previous(tmp_path: Path) -> None:
    saved(tmp_path)
    truncate(tmp_path / "checkpoint.pt")
    store = CheckpointStore(tmp_path, "x")
    assert store.load() is not None
    store.save({"step": 7})
    (tmp_path / "checkpoint.pt").unlink()
    state = CheckpointStore(tmp_path, "x").load()
    assert state is not None
    assert state["step"] == 1


def test_the_newest_is_there_at_every_moment_of_a_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path)
    rename, steps = Path.replace, []

    def look_and_rename(self: Path, target: Path) -> Path:
        moved = rename(self, target)
        state = CheckpointStore(tmp_path, "x").load()
        steps.append(state and state["step"])
        return moved

    store = CheckpointStore(tmp_path, "x")
    store.load()
    monkeypatch.setattr(Path, "replace", look_and_rename)
    store.save({"step": 3})
    assert steps == [2, 3]


@pytest.mark.parametrize("links", [True, False])
def test_both_are_kept_with_and_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def no_links(self: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    if not links:
        monkeypatch.setattr(Path, "hardlink_to", no_links)
    saved(tmp_path, steps=3)
    for expected in (3, 2):
        state = CheckpointStore(tmp_path, "x").load()
        assert state is not None
        assert state["step"] == expected
        (tmp_path / "checkpoint.pt").unlink(missing_ok=True)


def test_two_damaged_checkpoints_are_an_error_with_a_remedy(tmp_path: Path) -> None:
    saved(tmp_path)
    truncate(tmp_path / "checkpoint.pt")
    empty(tmp_path / "checkpoint.previous.pt")
    with pytest.raises(CorruptFileError) as caught:
        CheckpointStore(tmp_path, "x").load()
    assert str(tmp_path / "checkpoint.pt") in caught.value.message
    assert "--overwrite" in caught.value.hint
    assert caught.value.exit_code == 1


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    with pytest.raises(InputError, match="another recipe, network or data"):
        CheckpointStore(tmp_path, "y").load()


@pytest.mark.parametrize("format_number", [1, 3])
def test_a_checkpoint_of_another_format_is_refused(tmp_path: Path, format_number: int) -> None:
    torch.save({"format": format_number, "identity": "x", "state": {}}, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match=f"checkpoint format {format_number} .* the nascli that began it"):
        CheckpointStore(tmp_path, "x").load()


def test_a_folder_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    with pytest.raises(NascliError, match=r"gone/checkpoint\.pt cannot be written: No such file"):
        CheckpointStore(tmp_path / "gone", "x").save({"step": 1})
    with pytest.raises(NascliError, match=r"gone/metrics\.jsonl cannot be written"):
        CheckpointStore(tmp_path / "gone", "x").append_metrics(record(1))


def test_a_save_that_fails_half_way_leaves_the_earlier_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = saved(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NascliError, match="No space left on device"):
        store.save({"step": 3})
    monkeypatch.undo()
    state = CheckpointStore(tmp_path, "x").load()
    assert state is not None
    assert state["step"] == 2


def test_metrics_are_appended_and_restored_without_what_came_later(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, "x")
    for epoch in (1, 2, 3):
        store.append_metrics(record(epoch))
    whole = (tmp_path / "metrics.jsonl").read_text()
    assert whole.count("\n") == 3
    store.restore_metrics([record(1), record(2)])
    assert (tmp_path / "metrics.jsonl").read_text() == whole[: whole.index('{"epoch": 3')]
    store.append_metrics(record(3))
    assert (tmp_path / "metrics.jsonl").read_text() == whole


def test_the_age_counts_from_the_last_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("nascli.engine.checkpoint.time.monotonic", lambda: now[0])
    store = CheckpointStore(tmp_path, "x")
    now[0] = 160.0
    assert store.age == 60.0
    store.save({"step": 1})
    assert store.age == 0.0


def test_the_file_is_plain_torch_without_code(tmp_path: Path) -> None:
    saved(tmp_path)
    payload = torch.load(io.BytesIO((tmp_path / "checkpoint.pt").read_bytes()), weights_only=True)
    assert payload["identity"] == "x"
