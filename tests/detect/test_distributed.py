"""Two real processes over gloo train a detector: the steps of one, errors and stops that all share, a resumed run."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from nascli.cli.app import main
from nascli.config import DetectorConfig, DetectTrainConfig
from nascli.data.detection.dataset import DetectionSplit
from nascli.data.detection.transforms import ScaleJitter
from nascli.detect.model import build_detector
from nascli.detect.sampler import BatchSampler
from nascli.detect.task import DetectTask
from nascli.engine.batch_norm_sync import BatchNormSync
from nascli.engine.dist import SINGLE_PROCESS, DistContext
from nascli.engine.task import Run, TrainPlan
from nascli.errors import InputError
from nascli.records import read_record
from tests.classify.small_training import CPU
from tests.detect.coco_folder import damage_pixels, write_coco
from tests.detect.small_detector import GENOTYPE, small_network
from tests.detect.worker_program import Found, new_job, one_step, train
from tests.processes import ENVIRONMENT, FIRST, LAUNCH, SECOND, TORCHRUN, wait_for_epoch


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """All that can be seen in one start of two processes, which takes seconds."""
    for name in ("data", "damaged"):
        write_coco(tmp_path / name, val=5, narrow=2)
    damaged = tmp_path / "damaged" / "val2017" / "0003.png"  # the second process's, of pairs in turn
    whole = damaged.read_bytes()
    damage_pixels(damaged)
    command = [*TORCHRUN, "tests.detect.worker_program", str(tmp_path)]
    subprocess.run(command, env=ENVIRONMENT, check=True, timeout=200)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in (0, 1))
    check_what_they_agree_on(first, second)
    expected = train(new_job(SINGLE_PROCESS, 2, tmp_path / "data"), tmp_path / "one")
    for each in (first, second):
        assert_close(each["trained"], expected)
    weights = [each["trained"]["weights"] for each in (first, second)]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    for each in (first, second):
        assert each["short_of_memory"]["sizes"][:5] == [2, 1, 1, 1, 1]
        halved = each["short_of_memory"]["weights"]
        assert all(torch.equal(tensor, halved[name]) for name, tensor in first["in_four"]["weights"].items())
    assert_same_files(tmp_path / "two", tmp_path / "one")
    damaged.write_bytes(whole)
    for begun in ("torn", "stopped"):
        assert_close(train(new_job(SINGLE_PROCESS, 1, tmp_path / "damaged"), tmp_path / begun), expected)


def check_what_they_agree_on(first: Found, second: Found) -> None:
    assert first["all_gather"] == second["all_gather"] == [{"rank": 0}, {"rank": 1}]
    assert first["loss"] == second["loss"] == pytest.approx(one_step(SINGLE_PROCESS, 1.0))
    assert first["diverged"] == second["diverged"]
    kind, message = first["diverged"]
    assert kind == "DivergedError"
    assert "the loss is nan (nan) at step 1, on the images with ids 12, 13." in message.replace("loss nan", "nan")
    kind, message = second["steep"]
    assert first["steep"] == second["steep"]
    assert "the gradient is inf at step 1, on the images with ids 10, 11, 12, 13." in message
    kind, message = first["damaged"]
    assert (kind, second["damaged"][0]) == ("CorruptFileError", "CorruptFileError")
    assert "0003.png cannot be decoded" in message
    assert "the state is saved" in message
    assert "torchrun --nproc-per-node 2 -m nascli detect --resume" in message
    assert "0003.png cannot be decoded" in second["damaged"][1]
    assert (first["stopped"][0], second["stopped"][0]) == ("Interrupted", "Interrupted")
    assert "stopped after step 1 of 6; the state is saved" in first["stopped"][1]


def assert_close(found: Found, expected: Found) -> None:
    """Weights, running statistics, losses and scores."""
    torch.testing.assert_close(found["weights"], expected["weights"], rtol=1e-5, atol=1e-6)
    ours, theirs = found["report"], expected["report"]
    assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-5)
    for key in ("ap", "ap50", "ar_100", "images", "steps", "epochs"):
        assert ours[key] == pytest.approx(theirs[key], abs=1e-6), key


def assert_same_files(folder: Path, expected: Path) -> None:
    """The first of two processes writes all that one process writes, the second nothing."""
    assert {path.name for path in folder.iterdir()} == {path.name for path in expected.iterdir()}
    ours, theirs = (json.loads((each / "results.json").read_text()) for each in (folder, expected))
    assert [each["image_id"] for each in ours] == [each["image_id"] for each in theirs]
    assert [each["score"] for each in ours] == pytest.approx([each["score"] for each in theirs], abs=1e-4)
    ours, theirs = (read_record(each / "detection.json") for each in (folder, expected))
    assert ours["device"] == f"2 x {theirs['device']}"
    assert [each["image_id"] for each in ours["worst_images"]] == [each["image_id"] for each in theirs["worst_images"]]


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NASCLI_RUNS", "runs")
    write_coco(tmp_path / "data" / "coco")
    (tmp_path / "cell.json").write_text(GENOTYPE.to_json())
    return tmp_path


SMALL = (
    "--coco --cell cell.json --preset cifar10 --filters 4 --cells-per-stage 1 --recipe digit-scenes --batch-size 4 "
    "--lr 0.02 --set detector.pyramid_channels=16 --set detector.head_channels=32 "
    "--set detector.box_batch_size_per_image=16 --set detector.rpn_post_nms_top_n=50 --set train.warmup_steps=2 "
    "--set train.flip=true"
)
LONG = f"{SMALL} --epochs 12 --set train.ema_decay=0.9 --set train.eval_interval=0"


def detect(line: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["detect", *line.split()])
    return int(caught.value.code or 0)


@pytest.mark.slow
def test_a_signal_stops_all_and_one_process_resumes_to_the_same_end(place: Path) -> None:
    assert detect(f"{LONG} --set train.grad_accum_steps=2 --out whole") == 0
    command = [sys.executable, "-c", LAUNCH, "detect", *f"{LONG} --out shared".split()]
    environment = {**ENVIRONMENT, "NASCLI_RUNS": "runs"}
    with subprocess.Popen(command, stdout=-1, stderr=-1, text=True, env=environment) as process:
        wait_for_epoch("shared", 1)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=100)
    assert process.returncode == 130, err
    assert out == ""
    assert "2 processes, each with 2 of 4 images per step" in err
    assert err.count("interrupted: stopped after step") == 1
    assert "Resume with: torchrun --nproc-per-node 2 -m nascli detect --resume shared" in err
    assert "Traceback" not in err
    assert json.loads(Path("shared/run.json").read_text())["status"] == "interrupted"
    assert detect("--resume shared") == 0
    one, two = (load_file(f"{folder}/weights.safetensors") for folder in ("whole", "shared"))
    torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)
    ours, theirs = (read_record(Path(folder, "detection.json")) for folder in ("shared", "whole"))
    assert ours["ap"] == pytest.approx(theirs["ap"], abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "code", "phrase"),
    [
        ("--coco --cell nasnet-z", 2, "Did you mean nasnet-a?"),
        ("--coco --cell cell.json --data-dir empty", 2, "instances_train2017.json"),
        (f"{SMALL} --batch-size 5", 2, "Choose a --batch-size that is a multiple of 2"),
        (f"{SMALL} --dry-run", 2, "--dry-run is for one process, there are 2"),
        ("check --coco", 2, "detect check is for one process, there are 2"),
        ("predict data/coco/val2017/0001.png", 2, "detect predict is for one process, there are 2"),
        (f"{SMALL} --lr 1e30 --set train.clip_grad_norm=0 --set train.warmup_steps=0", 1, "training diverged"),
        ("--resume nowhere", 2, "nowhere: no such folder"),
    ],
)
def test_what_all_processes_fail_with_is_said_once(place: Path, options: str, code: int, phrase: str) -> None:
    command = [sys.executable, "-c", LAUNCH, "detect", *options.split()]
    done = subprocess.run(command, capture_output=True, text=True, env={**ENVIRONMENT, "NASCLI_RUNS": "runs"})
    assert done.returncode == code, done.stderr
    assert done.stderr.count(phrase) == 1
    assert done.stderr.count("error:") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_torchrun_prints_once_and_leaves_what_one_process_leaves(place: Path) -> None:
    assert detect(f"{SMALL} --epochs 3 --set train.grad_accum_steps=2 --out whole") == 0
    command = [*TORCHRUN, "nascli", *f"detect {SMALL} --epochs 3 --out shared --json".split()]
    environment = {**ENVIRONMENT, "NASCLI_RUNS": "runs"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True, timeout=200)
    report = json.loads(done.stdout)
    assert report["device"].startswith("2 x cpu")
    assert done.stderr.count("epoch 3/3") == 1
    assert_same_files(Path("shared"), Path("whole"))


def sampler(dist: DistContext, **settings: object) -> BatchSampler:
    config = DetectTrainConfig.model_validate({"batch_size": 6, "flip": True, "aspect_grouping": True, **settings})
    tall = tuple(k % 3 == 0 for k in range(21))
    return BatchSampler(TrainPlan(config, 21, dist), config, 0, tall, ScaleJitter(64, (0.5, 2), (0, 0, 0)))


def micro_batch_size(dist: DistContext, **settings: object) -> int:
    split = DetectionSplit("none", Path(), (), ())
    return DetectTask(nn.Identity(), split, split, sampler(dist, **settings), Run(CPU, dist)).micro_batch_size


def test_shares_of_a_batch_are_together_the_whole() -> None:
    """Images and their transforms; the micro-batches are as large as those of one process."""
    shares = [list(sampler(dist).batches(1)) for dist in (FIRST, SECOND)]
    joined = [one + other for one, other in zip(*shares, strict=True)]
    assert joined == list(sampler(SINGLE_PROCESS).batches(1))
    assert micro_batch_size(FIRST) == micro_batch_size(SINGLE_PROCESS, grad_accum_steps=2) == 3


def test_a_run_resumes_only_where_its_micro_batches_can_be_shared() -> None:
    with pytest.raises(InputError, match=r"2 micro-batches, which 2 processes cannot share alike.*has to be 1$"):
        FIRST.check_shares(2, 1)
    with pytest.raises(InputError, match=r"3 micro-batches, which 2 processes cannot share alike.*has to be 1 or 3"):
        SECOND.check_shares(3, 3)


def test_batches_that_cannot_be_shared_are_refused() -> None:
    sampler(FIRST, batch_size=8, grad_accum_steps=4).plan.check_micro_batches()
    for size, grad_accum_steps, phrase in (
        (8, 3, "multiple of 6"),
        (7, 1, "multiple of 2"),
        (8, 5, "needs at least 1"),
    ):
        with pytest.raises(InputError, match=phrase):
            sampler(FIRST, batch_size=size, grad_accum_steps=grad_accum_steps).plan.check_micro_batches()


def test_statistics_of_frozen_batch_norms_are_not_put_together() -> None:
    """Their sums would move them by rounding."""

    def terms(*, frozen: bool) -> int:
        config = DetectorConfig(pyramid_channels=16, head_channels=32, freeze_batch_norm=frozen)
        norms = BatchNormSync(build_detector(small_network(), config, 2), FIRST)
        norms.snapshot()
        return len(norms.terms(1))

    norms = [each for each in small_network().modules() if isinstance(each, nn.BatchNorm2d)]
    assert (terms(frozen=True), terms(frozen=False)) == (0, 2 * len(norms))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there are CUDA devices")
@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        ("--coco --gpus 2", "--gpus 2: this machine has 0 CUDA devices"),
        ("--coco --gpus 2 --device cpu", "--gpus 2 and --device cpu exclude each other"),
        ("--coco --gpus 2 --dry-run", "--dry-run measures one process. Leave --gpus out"),
        ("check --coco --gpus 2", "No such option: --gpus"),
        ("predict a.png --gpus 2", "No such option: --gpus"),
        ("--resume latest --gpus 2", "--gpus 2: this machine has 0 CUDA devices"),
    ],
)
def test_gpus_that_are_not_there_are_refused(
    place: Path, options: str, phrase: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert detect(options) == 2
    assert phrase in " ".join(capsys.readouterr().err.split())
    assert not Path("runs").exists()
