"""Two real processes over gloo: the steps of one, errors and stops that all share, a run that others resume."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from nascli.classify.task import AugmentedBatches, plan_batches
from nascli.cli.progress import TrainProgress
from nascli.config import DataConfig
from nascli.data.in_memory import ImageArray
from nascli.engine.batch_norm_sync import BatchNormSync
from nascli.engine.checkpoint import CheckpointStore
from nascli.engine.dist import SINGLE_PROCESS, DistContext
from nascli.engine.launch import resume_command
from nascli.engine.meters import EpochRecord
from nascli.errors import InputError, Interrupted
from nascli.models.layers import BatchNorm
from tests.classify.small_training import CPU, EVERYTHING, make_data
from tests.cli.program import SETTINGS, Nascli, prepare
from tests.engine.worker_program import (
    Found,
    measure,
    one_step,
    train,
    train_short_of_memory,
    train_three_micro_batches,
)
from tests.processes import ENVIRONMENT, FIRST, LAUNCH, SECOND, TORCHRUN, wait_for_epoch


def assert_close(found: Found, expected: Found, tolerance: float) -> None:
    """Weights, statistics, and measurements; four micro-batches are added in another order than one after the other."""
    torch.testing.assert_close(found["network"], expected["network"], rtol=tolerance, atol=tolerance)
    for key in ("top1", "top5", "loss", "images"):
        assert found["evaluation"][key] == pytest.approx(expected["evaluation"][key], rel=tolerance)
    assert found["train_loss"] == pytest.approx(expected["train_loss"], rel=tolerance)


def write_images(folder: Path) -> None:
    """The training images of `make_data` as files."""
    folder.mkdir()
    split = make_data().train
    assert isinstance(split, ImageArray)
    for k, image in enumerate(split.images):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{k:02}.png")


def write_three(folder: Path) -> None:
    """Plain images of three colors."""
    folder.mkdir(parents=True)
    for k, color in enumerate(("red", "green", "blue")):
        Image.new("RGB", (8, 8), color).save(folder / f"{k}.png")


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """All that can be seen in one start of two processes, which takes seconds."""
    write_images(tmp_path / "images")
    write_three(tmp_path / "measured")
    write_three(tmp_path / "whole/measured")
    (tmp_path / "measured/1.png").write_bytes(b"poison")
    (tmp_path / "begun").mkdir()
    train_three_micro_batches(SINGLE_PROCESS, CheckpointStore(tmp_path / "begun", "x"))
    command = [*TORCHRUN, "tests.engine.worker_program", str(tmp_path)]
    subprocess.run(command, env=ENVIRONMENT, check=True, timeout=200)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in (0, 1))
    check_what_they_tell_each_other(first, second)
    check_parts_that_cannot_be_shared_are_refused(first, second)
    check_steps_and_trainings(first, second, tmp_path / "images")
    assert first["measured"] == second["measured"]
    assert first["measured"] == pytest.approx(measure(SINGLE_PROCESS, tmp_path))
    assert first["measured"]["images"] == 2
    kind, message = first["no_room"]
    assert first["no_room"] == second["no_room"]
    assert kind == "DeviceMemoryError"
    assert "not enough memory to evaluate one image" in message


def check_what_they_tell_each_other(first: Found, second: Found) -> None:
    assert [DistContext(**each["dist"]) for each in (first, second)] == [FIRST, SECOND]
    for block, number in (first["sums"], second["sums"]):
        assert torch.equal(block, 3 * torch.arange(24.0).view(2, 3, 2, 2))
        assert number == 3
    assert first["any"] == second["any"] == [False, True, True]
    assert (first["items"], second["items"]) == ([0, 1, 2], [0, None, None])
    assert (first["raise_together"], second["raise_together"]) == (0, 1)
    assert first["broadcast_from_main"] == second["broadcast_from_main"] == {"rank": 0}
    assert first["refused"] == second["refused"] == ("InputError", "not here. Look elsewhere")
    assert first["torn"] == second["torn"] == ("CorruptFileError", "image 1 cannot be decoded. Replace it")
    assert first["out_of_memory"] == ("OutOfMemoryError", "on another process")
    assert second["out_of_memory"] == ("OutOfMemoryError", "no room")


def check_parts_that_cannot_be_shared_are_refused(first: Found, second: Found) -> None:
    kind, message = first["resumed"]
    assert first["resumed"] == second["resumed"]
    assert kind == "InputError"
    assert "3 micro-batches, which 2 processes cannot share alike. The number of processes has to be 1 or 3" in message


def check_steps_and_trainings(first: Found, second: Found, images: Path) -> None:
    """Without batch norms a step is that of the whole batch; with them a training is that of the same micro-batches."""
    whole = one_step(SINGLE_PROCESS)
    alone = {
        "trained": train(SINGLE_PROCESS, 2),
        "streamed": train(SINGLE_PROCESS, 2, streamed=images),
        "in_four": train(SINGLE_PROCESS, 4, epochs=1),
        "short_of_memory": train_short_of_memory(SINGLE_PROCESS),
    }
    for each in (first, second):
        torch.testing.assert_close(each["step"], whole)
        for kind, expected in alone.items():
            assert_close(each[kind], expected, tolerance=1e-5 if kind in ("trained", "streamed") else 1e-4)
        assert each["short_of_memory"]["sizes"][:6] == [8, 8, 8, 4, 4, 4]
        torch.testing.assert_close(each["replayed"], each["launched"], rtol=0, atol=0)
    for kind in (*alone, "replayed"):
        states = [each[kind]["network"] for each in (first, second)]
        assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


@pytest.fixture
def nascli_here(capsys: pytest.CaptureFixture[str]) -> Nascli:
    prepare()
    return Nascli(capsys)


LONG = f"train --cell cell.json --dataset folder:images {SETTINGS} --set train.epochs=16 --set data.mixup=0.2"


def assert_close_weights(first: str, second: str) -> None:
    one, two = (load_file(f"{folder}/weights.safetensors") for folder in (first, second))
    torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


def test_a_signal_stops_all_and_one_process_goes_on_to_the_same_end(nascli_here: Nascli) -> None:
    assert nascli_here(f"{LONG} --set train.grad_accum_steps=2 --out whole").code == 0
    command = [sys.executable, "-c", LAUNCH, *f"{LONG} --out shared".split()]
    with subprocess.Popen(command, stdout=-1, stderr=-1, text=True, env=ENVIRONMENT) as process:
        wait_for_epoch("shared", 2)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=100)
    assert process.returncode == 130, err
    assert out == ""
    assert "2 processes, each with 8 of 16 images per step" in err
    assert err.count("interrupted: stopped after step") == 1
    assert "Resume with: torchrun --nproc-per-node 2 -m nascli train --resume shared" in err
    assert "Traceback" not in err
    assert json.loads(Path("shared/run.json").read_text())["status"] == "interrupted"
    ran = nascli_here("train --resume shared")
    assert ran.code == 0
    assert "resuming from checkpoint.pt, step" in ran.err
    assert_close_weights("whole", "shared")


@pytest.mark.slow
def test_two_processes_resume_the_micro_batches_of_one(nascli_here: Nascli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four micro-batches of 3 images stay four, 2 per process; a new run of 2 processes would have eight."""
    line = LONG.replace("epochs=16", "epochs=2") + " --batch-size 12 --set train.grad_accum_steps=4"
    assert nascli_here(f"{line} --out whole").code == 0

    def interrupt(progress: TrainProgress, record: EpochRecord) -> None:
        raise Interrupted("stopped")

    monkeypatch.setattr(TrainProgress, "on_epoch", interrupt)
    assert nascli_here(f"{line} --out parts").code == 130
    resume = [sys.executable, "-c", LAUNCH, "train", "--resume", "parts"]
    done = subprocess.run(resume, capture_output=True, text=True, env=ENVIRONMENT, timeout=200)
    assert done.returncode == 0, done.stderr
    assert_close_weights("whole", "parts")


@pytest.mark.slow
def test_torchrun_prints_once_and_leaves_what_one_process_leaves(nascli_here: Nascli) -> None:
    nascli_here(f"{LONG} --set train.grad_accum_steps=2 --out whole")
    done = subprocess.run(
        [*TORCHRUN, "nascli", *f"{LONG} --out shared --json".split()],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=True,
        timeout=200,
    )
    results = json.loads(done.stdout)
    assert results["epochs"] == 16
    assert results["device"].startswith("2 x cpu")
    assert done.stderr.count("epoch 16/16") == 1
    assert_close_weights("whole", "shared")
    names = [{path.name for path in Path(folder).iterdir()} for folder in ("whole", "shared")]
    assert names[0] == names[1]
    whole, shared = (
        [json.loads(line) for line in Path(f, "metrics.jsonl").read_text().splitlines()] for f in ("whole", "shared")
    )
    assert [line["top1"] for line in shared] == pytest.approx([line["top1"] for line in whole])
    assert [line["train_loss"] for line in shared] == pytest.approx([line["train_loss"] for line in whole], rel=1e-5)


@pytest.mark.slow
def test_a_process_that_is_killed_ends_all_and_two_go_on_from_the_last_checkpoint(nascli_here: Nascli) -> None:
    nascli_here(f"{LONG} --set train.grad_accum_steps=2 --out whole")
    command = [sys.executable, "-c", LAUNCH, *f"{LONG} --out shared".split()]
    with subprocess.Popen(command, stdout=-1, stderr=-1, text=True, env=ENVIRONMENT) as process:
        wait_for_epoch("shared", 2)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[-1]), signal.SIGKILL)
        _, err = process.communicate(timeout=100)
    assert process.returncode == 1
    assert "another process of this run has ended" in err
    resume = [sys.executable, "-c", LAUNCH, "train", "--resume", "shared"]
    subprocess.run(resume, env=ENVIRONMENT, check=True, timeout=200)
    assert_close_weights("whole", "shared")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "code", "phrase"),
    [
        ("--cell nasnet-z", 2, "Did you mean nasnet-a?"),
        ("--cell cell.json --dataset folder:images --batch-size 15", 2, "multiple of 2"),
        ("--cell cell.json --dataset folder:images --dry-run", 2, "--dry-run is for one process, there are 2"),
        (
            "--cell cell.json --dataset folder:images --lr 1e30 --set train.clip_grad_norm=0 --batch-size 16",
            1,
            "diverged:",
        ),
    ],
)
def test_what_all_processes_fail_with_is_said_once(nascli_here: Nascli, options: str, code: int, phrase: str) -> None:
    command = [sys.executable, "-c", LAUNCH, "train", *options.split(), "--filters", "4", "--out", "run"]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=100)
    assert done.returncode == code, done.stderr
    assert done.stderr.count(phrase) == 1
    assert done.stderr.count("error:") == 1
    assert "Traceback" not in done.stderr


def test_shares_are_equal_and_together_the_whole() -> None:
    assert [dist.share(12) for dist in (SINGLE_PROCESS, FIRST, SECOND)] == [slice(0, 12), slice(0, 6), slice(6, 12)]
    split = make_data().val
    assert isinstance(split, ImageArray)
    shares = [dist.shard(split).labels for dist in (FIRST, SECOND)]
    assert torch.equal(torch.stack(shares, dim=1).flatten(), split.labels)
    assert SINGLE_PROCESS.shard(split) is split


def test_a_process_reads_its_share_and_what_that_is_mixed_with() -> None:
    def places(dist: DistContext, **augmentation: float) -> list[int]:
        plan = plan_batches(make_data(), EVERYTHING, dist)
        return AugmentedBatches(make_data(), DataConfig(**augmentation), plan, 1, CPU).read_positions.tolist()

    assert places(SINGLE_PROCESS, mixup=1.0) == list(range(16))
    assert places(FIRST) == list(range(8))
    assert places(FIRST, mixup=1.0) == [15, *range(8)]
    assert places(SECOND, cutmix=1.0) == list(range(7, 16))


@pytest.mark.parametrize(
    ("change", "phrase"),
    [
        ({"batch_size": 15}, "Choose a --batch-size that is a multiple of 2"),
        (
            {"batch_size": 18, "grad_accum_steps": 2},
            "train.grad_accum_steps = 2 on 2 processes cannot make equal micro-batches of a batch",
        ),
        (
            {"batch_size": 6, "grad_accum_steps": 2},
            "grad_accum_steps = 2 on 2 processes is too many for a batch of 6 images",
        ),
    ],
)
def test_batches_that_cannot_be_shared_are_refused(change: dict[str, int], phrase: str) -> None:
    with pytest.raises(InputError, match=phrase):
        plan_batches(make_data(), EVERYTHING.model_copy(update=change), FIRST).check_micro_batches()


@pytest.mark.parametrize("count", [1, 3])
def test_statistics_put_together_are_those_of_micro_batches_in_turn(count: int) -> None:
    """Three processes, played in turn; a layer that was not used stays what it was."""
    size, batches = 3, torch.randn(3 * count, 5, 2, 4, 4)

    def layers() -> nn.Sequential:
        torch.manual_seed(0)
        made = nn.Sequential(BatchNorm(2), BatchNorm(2))
        for layer in made:
            assert isinstance(layer, BatchNorm)
            layer.momentum = 0.3
            layer.running_mean, layer.running_var = torch.randn(2), torch.rand(2)
        return made

    expected, played = layers(), [layers() for _ in range(size)]
    for each in batches:
        expected[0](each)
    statistics = [BatchNormSync(network, DistContext(rank, size)) for rank, network in enumerate(played)]
    terms = []
    for rank, network in enumerate(played):
        statistics[rank].snapshot()
        for each in batches[rank * count : (rank + 1) * count]:
            network[0](each)
        terms.append(statistics[rank].terms(count))
    sums = [torch.stack(each).sum(dim=0) for each in zip(*terms, strict=True)]
    for own, total in zip(terms[1], sums, strict=True):
        own.copy_(total)
    statistics[1].complete(count)
    torch.testing.assert_close(dict(played[1][0].named_buffers()), dict(expected[0].named_buffers()))
    torch.testing.assert_close(played[1][1].running_mean, expected[1].running_mean)


def test_the_command_that_resumes_starts_as_many_processes() -> None:
    cuda = torch.device("cuda")
    assert resume_command(SINGLE_PROCESS, CPU, "train --resume x") == "nascli train --resume x"
    assert resume_command(FIRST, CPU, "train --resume x") == "torchrun --nproc-per-node 2 -m nascli train --resume x"
    assert resume_command(FIRST, cuda, "train --resume x") == "nascli train --resume x --gpus 2"
    far = DistContext(0, 8, 0, 4)
    assert resume_command(far, cuda, "train").startswith("torchrun --nnodes 2 ... --nproc-per-node 4 -m nascli train")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there are CUDA devices")
@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        (
            "--gpus 2",
            "--gpus 2: this machine has 0 CUDA devices. Leave it out; for several processes on CPUs: torchrun",
        ),
        ("--gpus 1", "--gpus 1: this machine has 0 CUDA devices"),
        ("--gpus 2 --device cpu", "--gpus 2 and --device cpu exclude each other"),
        ("--gpus 2 --dry-run", "--dry-run measures one process. Leave --gpus out"),
        ("--gpus 0", "Invalid value for '--gpus'"),
    ],
)
def test_gpus_that_are_not_there_are_refused(nascli_here: Nascli, options: str, phrase: str) -> None:
    ran = nascli_here(f"train --cell cell.json --dataset folder:images {options}")
    assert ran.code == 2
    assert phrase in " ".join(ran.err.split())
    assert not Path("runs").exists()
