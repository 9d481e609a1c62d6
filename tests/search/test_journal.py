"""The journal: what is written is read back, a torn end is cut off, any other damage is named."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nascli.errors import CorruptFileError, InputError, NascliError
from nascli.search.journal import Advanced, Failed, Finished, Journal, Proposed, Reranked, read_trials
from nascli.search.trial import Failure, FailureKind, Rerank, Rung, Score, Trial, TrialState
from tests.fakes import TINY, make_latency
from tests.records import sign_line, sign_lines

CRASHED = FailureKind.CRASHED

SCORE = {"reward": 0.1 + 0.2, "accuracy": 1 / 3, "params": 12, "mult_adds": 34, "seconds": 1e-9}


def trial(number: int, duplicate_of: int | None = None) -> Trial:
    kind = number if duplicate_of is None else duplicate_of
    tokens = tuple(kind % size for size in TINY.decision_sizes)
    genotype = TINY.decode(tokens)
    return Trial(
        id=number,
        tokens=tokens,
        genotype=genotype,
        hash=genotype.canonical_hash(),
        seed=2**63 - 1 - number,
        duplicate_of=duplicate_of,
    )


def write_some(path: Path) -> list[Trial]:
    with Journal(path) as journal:
        journal.append(Proposed.of(trial(0)))
        journal.append(Proposed.of(trial(1)))
        journal.append(Finished(trial=1, **SCORE))
        journal.append(Failed(trial=0, kind=CRASHED, error='it said "no"\nand é', reward=-1.5))
        journal.append(Proposed.of(trial(2, duplicate_of=1)))
        return list(journal.trials)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    written = write_some(path)
    assert read_trials(path) == written
    assert [t.state for t in written] == [TrialState.FAILED, TrialState.COMPLETE, TrialState.RUNNING]
    assert written[1].score == Score(**SCORE)  # type: ignore[arg-type]
    assert (written[0].failure, written[0].reward) == (Failure(CRASHED, 'it said "no"\nand é'), -1.5)
    with Journal(path) as journal:
        assert journal.trials == written


def test_rungs_ranking_and_rejection_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    with Journal(path) as journal:
        for number in range(3):
            journal.append(Proposed.of(trial(number)))
        journal.append(Advanced(trial=0, epochs=1, **SCORE))
        journal.append(Finished(trial=0, stopped=True, **SCORE))
        journal.append(Finished(trial=1, accuracies=(0.25, 0.75), **SCORE))
        journal.append(Reranked(trial=1, index=0, epochs=9, accuracy=0.5, seconds=2.0))
        journal.append(Failed(trial=2, kind=FailureKind.REJECTED, error="params 7M violates params<6M", reward=0.0))
        written, finishes = list(journal.trials), list(journal.finishes)
    score = Score(**SCORE)  # type: ignore[arg-type]
    assert (written[0].rungs, written[0].stopped) == ((Rung(epochs=1, score=score),), True)
    assert written[1].score is not None
    assert written[1].score.accuracies == (0.25, 0.75)
    assert written[1].reranks == (Rerank(index=0, epochs=9, accuracy=0.5, seconds=2.0),)
    assert written[2].state is TrialState.REJECTED
    assert finishes == [(0, 3), (1, 3), (2, 3)]
    with Journal(path) as journal:
        assert (journal.trials, journal.finishes) == (written, finishes)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_latency_is_read_back_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, seconds: float) -> None:
    path, latency = tmp_path_factory.mktemp("latency") / "trials.jsonl", make_latency(1.0, median=seconds)
    with Journal(path) as journal:
        for number in range(2):
            journal.append(Proposed.of(trial(number)))
        journal.append(Finished(trial=0, latency=latency, **SCORE))
        journal.append(Failed(trial=1, kind=FailureKind.REJECTED, error="too slow", reward=0.0, latency=latency))
    scored, rejected = read_trials(path)
    assert scored.score is not None
    assert rejected.failure is not None
    assert scored.score.latency == rejected.failure.latency == latency
    said = json.loads(path.read_text().splitlines()[2])["latency"]
    assert (said["engine"], said["threads"], said["image_size"], said["reference"]) == ("openvino", 1, 8, 0.001)


@pytest.mark.parametrize(
    "values", [{"threads": True}, {"threads": 1.0}, {"seconds": "1"}, {"engine": 3}, {"batch": None}, {"more": 1}]
)
def test_a_latency_of_other_fields_or_types_is_damage(tmp_path: Path, values: dict[str, object]) -> None:
    path = tmp_path / "trials.jsonl"
    with Journal(path) as journal:
        journal.append(Proposed.of(trial(0)))
        journal.append(Finished(trial=0, latency=make_latency(), **SCORE))
    first, last = path.read_text().splitlines()
    line = json.loads(last)
    path.write_text("\n".join([first, json.dumps(line | {"latency": line["latency"] | values}), ""]))
    sign_lines(path)
    with pytest.raises(CorruptFileError, match=r"line 2: .*finished.latency"):
        read_trials(path)


@pytest.mark.parametrize(
    "event",
    [
        Advanced(trial=0, epochs=1, **SCORE),  # the rung is not above the last
        Advanced(trial=1, epochs=9, **SCORE),  # finished
        Reranked(trial=0, index=0, epochs=9, accuracy=0.5, seconds=2.0),  # not finished
        Reranked(trial=1, index=1, epochs=9, accuracy=0.5, seconds=2.0),  # index 0 is due
    ],
)
def test_events_that_cannot_be_are_refused(tmp_path: Path, event: Advanced | Reranked) -> None:
    with Journal(tmp_path / "trials.jsonl") as journal:
        journal.append(Proposed.of(trial(0)))
        journal.append(Proposed.of(trial(1)))
        journal.append(Advanced(trial=0, epochs=3, **SCORE))
        journal.append(Finished(trial=1, **SCORE))
        before = journal.path.read_bytes()
        with pytest.raises(ValueError, match=r"trial [01]"):
            journal.append(event)
        assert journal.path.read_bytes() == before


def test_lines_are_the_documented_json(tmp_path: Path) -> None:
    write_some(tmp_path / "trials.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "trials.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["proposed", "proposed", "finished", "failed", "proposed"]
    assert set(lines[0]) == {"event", "trial", "tokens", "genotype", "hash", "seed", "duplicate_of", "crc"}
    assert lines[0]["genotype"]["schema"] == 1
    assert lines[2] == {"event": "finished", "trial": 1, **SCORE, "crc": lines[2]["crc"]}
    assert lines[4]["duplicate_of"] == 1


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_number_comes_back_bit_for_bit(reward: float) -> None:
    event = Finished(trial=0, **(SCORE | {"reward": reward}))
    assert json.loads(event.model_dump_json())["reward"] == reward
    assert repr(json.loads(json.dumps(event.model_dump(mode="json")))["reward"]) == repr(reward)


@pytest.mark.parametrize("reward", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_not_finite_are_refused(reward: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        Finished(trial=0, **(SCORE | {"reward": reward}))
    with pytest.raises(ValueError, match="the evaluator's reward is"):
        Score(**(SCORE | {"reward": reward}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value"), [("trial", True), ("seed", 1.0), ("tokens", ["0", 1]), ("duplicate_of", False)]
)
def test_no_value_of_a_line_is_converted(tmp_path: Path, field: str, value: object) -> None:
    path = tmp_path / "trials.jsonl"
    write_some(path)
    first, *others = path.read_text().splitlines(keepends=True)
    path.write_text("".join([json.dumps(json.loads(first) | {field: value}) + "\n", *others]))
    sign_lines(path)
    with pytest.raises(CorruptFileError, match=f"line 1: proposed.{field}"):
        read_trials(path)


def test_a_cut_at_any_byte_drops_only_the_unfinished_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # slow, and of no matter for a cut file
    whole = tmp_path / "whole.jsonl"
    write_some(whole)
    content = whole.read_bytes()
    cut = tmp_path / "cut.jsonl"
    lines = content.splitlines(keepends=True)
    ends = [sum(map(len, lines[:kept])) for kept in range(len(lines) + 1)]
    for length in [*ends[:-3], *range(ends[-3], ends[-1] + 1)]:
        cut.write_bytes(content[:length])
        events = content[:length].count(b"\n")
        trials = read_trials(cut)
        with Journal(cut) as journal:
            assert journal.trials == trials
            assert cut.read_bytes() == b"".join(lines[:events])
            journal.append(Proposed.of(trial(len(trials))))  # later appends stay readable
        assert len(read_trials(cut)) == len(trials) + 1


def replace_line(number: int, line: bytes) -> Callable[[list[bytes]], list[bytes]]:
    """The line has a checksum that fits, unless it is no object."""
    signed = sign_line(line) if line.endswith(b"}") else line
    return lambda lines: [*lines[:number], signed, *lines[number + 1 :]]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (replace_line(2, b'{"event": "fini'), "line 3: not JSON"),
        (replace_line(1, b"\x00" * 40), "line 2: not JSON"),
        (replace_line(1, b"\xff\xfe"), "line 2: not JSON"),
        (replace_line(4, b""), "line 5: not JSON"),
        (replace_line(2, b"[1]"), "line 3: "),
        (replace_line(2, b'{"event": "done", "trial": 1}'), "line 3: .*tag 'done'"),
        (replace_line(2, b'{"event": "finished", "trial": 1}'), "line 3: finished.reward is missing"),
        (
            replace_line(3, b'{"event": "failed", "trial": 0, "kind": "crashed", "error": "", "reward": NaN}'),
            "line 4: .*finite",
        ),
        (
            replace_line(3, b'{"event": "failed", "trial": 0, "kind": "crashed", "error": "", "reward": 1, "x": 1}'),
            "line 4: unknown key failed.x",
        ),
        (
            replace_line(3, b'{"event": "failed", "trial": 1, "kind": "crashed", "error": "", "reward": 1}'),
            "line 4: trial 1 is complete already",
        ),
        (
            replace_line(3, b'{"event": "failed", "trial": 9, "kind": "crashed", "error": "", "reward": 1}'),
            "line 4: .*trial 9, which was not",
        ),
        (lambda lines: lines[1:], "line 1: trial 1 is proposed where 0 is due"),
    ],
)
def test_damage_elsewhere_is_named_with_file_and_line(
    tmp_path: Path, damage: Callable[[list[bytes]], list[bytes]], message: str
) -> None:
    path = tmp_path / "trials.jsonl"
    write_some(path)
    content = b"\n".join(damage(path.read_bytes().split(b"\n")))
    path.write_bytes(content)
    for read in (read_trials, Journal):
        with pytest.raises(CorruptFileError, match=rf"trials\.jsonl, {message}"):
            read(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("number", "old", "new"),
    [
        (0, '"inputs": [0', '"inputs": [1'),  # another cell
        (1, '"hash": "', '"hash": "0'),
        (1, '"tokens": [1, 1', '"tokens": [1, 0'),
        (1, '"tokens": [1, 1', '"tokens": [1, 9'),  # no token of the space
        (1, '"space": "tiny"', '"space": "tinier"'),
        (4, '"duplicate_of": 1', '"duplicate_of": 0'),
    ],
)
@pytest.mark.parametrize("signed", [True, False])
def test_what_a_line_says_is_held_against_itself(tmp_path: Path, number: int, old: str, new: str, signed: bool) -> None:
    """With a checksum that fits, too: the fields of a line contradict each other then."""
    path = tmp_path / "trials.jsonl"
    write_some(path)
    lines = path.read_text().splitlines(keepends=True)
    assert old in lines[number]
    lines[number] = lines[number].replace(old, new, 1)
    path.write_text("".join(lines))
    if signed:
        sign_lines(path)
    with pytest.raises(CorruptFileError, match=rf"trials\.jsonl, line {number + 1}: ") as refused:
        Journal(path, TINY)
    assert ("--resume" in refused.value.hint) == (number > 0)


def test_a_duplicate_has_the_result_of_its_trial(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    write_some(path)
    with Journal(path, TINY) as journal:
        for wrong in (
            Finished(trial=2, **(SCORE | {"reward": 0.5})),
            Failed(trial=2, kind=CRASHED, error="no", reward=0.0),
        ):
            with pytest.raises(ValueError, match="another result"):
                journal.append(wrong)
        journal.append(Finished(trial=2, **(SCORE | {"seconds": 0.0})))


def test_a_missing_journal_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_trials(tmp_path / "trials.jsonl")


def test_a_full_disk_stops_loudly_and_loses_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: the write fails after a part of the line."""
    path = tmp_path / "trials.jsonl"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Journal(path) as journal:
        journal.append(Proposed.of(trial(0)))
        safe = path.read_bytes()
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(safe) + 40, hard))
        try:
            with pytest.raises(NascliError, match=r"trials\.jsonl cannot be written"):
                journal.append(Proposed.of(trial(1)))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert path.read_bytes() == safe
        assert len(journal.trials) == 1
        journal.append(Proposed.of(trial(1)))  # there is room again
    assert len(read_trials(path)) == 2


def test_every_event_is_on_disk_before_append_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        flushed.append(handle)
        real(handle)

    with Journal(tmp_path / "trials.jsonl") as journal:
        monkeypatch.setattr(os, "fsync", fsync)
        journal.append(Proposed.of(trial(0)))
        journal.append(Finished(trial=0, **SCORE))
    assert len(flushed) == 2


def test_reading_a_journal_loads_no_torch(tmp_path: Path) -> None:
    write_some(tmp_path / "trials.jsonl")
    script = (
        "import sys; from pathlib import Path; from nascli.search.journal import read_trials;"
        f"read_trials(Path({str(tmp_path)!r}) / 'trials.jsonl'); sys.exit('torch' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", script], cwd=root, check=False).returncode == 0
