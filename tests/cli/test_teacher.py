"""`nascli train --teacher`: whose answers are learned, how they are asked for, what is refused."""

import json
import math
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from nascli.classify.teacher import TeacherEngine, distillation_loss, open_teacher
from nascli.config import FineTuneConfig
from nascli.data.transforms import Normalizer
from nascli.engine.dist import SINGLE_PROCESS
from nascli.errors import InputError
from nascli.models.deploy.engines import list_engines
from nascli.models.serialization import load_network, save_weights
from nascli.models.spec import write_network
from tests.classify.small_training import CPU, make_data
from tests.cli.program import Nascli, write_images
from tests.cli.test_train import metrics, same_weights, terminated_after_epoch
from tests.processes import ENVIRONMENT, TORCHRUN

SMALL = "train --cell cell.json --dataset folder:images --batch-size 16 --filters 4 --cells-per-stage 1 --seed 3"


@pytest.fixture
def teacher(nascli: Nascli) -> str:
    assert nascli(f"{SMALL} --filters 6 --epochs 2 --image-size 12 --out large").code == 0
    return "large"


@pytest.mark.parametrize(
    ("more", "when"),
    [("", "once per image"), ("--set data.flip=true --set data.mixup=0.3 --set train.aux_weight=0.4", "in each step")],
)
def test_terminated_and_resumed_it_ends_where_it_would_have(nascli: Nascli, teacher: str, more: str, when: str) -> None:
    line = f"{SMALL} --epochs 6 --teacher {teacher} {more}"
    ran = nascli(f"{line} --out whole")
    assert ran.code == 0, ran.err
    assert f"teacher large answers by the engine {list_engines(CPU)[-1]}, {when}" in ran.err
    with terminated_after_epoch("parts", 2):
        assert nascli(f"{line} --out parts").code == 130
    Path(teacher).rename("moved")
    assert nascli("train --resume parts").code == 2
    assert nascli("train --resume parts --teacher moved").code == 0
    assert same_weights("whole", "parts")
    assert metrics("whole") == metrics("parts")
    begun, now = (json.loads(Path(name, "run.json").read_text()) for name in ("whole", "parts"))
    assert begun["teacher"]["sha256"] == now["teacher"]["sha256"]
    assert (begun["recipe"]["train"]["teacher"], now["recipe"]["train"]["teacher"]) == ("large", "moved")
    assert "large/weights.safetensors" in begun["inputs"]
    assert nascli(f"{SMALL} --epochs 6 {more} --out alone").code == 0
    assert not same_weights("whole", "alone")


@pytest.mark.parametrize("change", ["teacher_weight=0.5", "teacher_temperature=1.0"])
def test_weight_and_temperature_have_an_effect(nascli: Nascli, teacher: str, change: str) -> None:
    line = f"{SMALL} --epochs 1 --teacher {teacher}"
    nascli(f"{line} --out first")
    nascli(f"{line} --set train.{change} --out second")
    assert not same_weights("first", "second")


def test_keys_for_a_teacher_without_one_are_remarked_on(nascli: Nascli) -> None:
    ran = nascli(f"{SMALL} --epochs 1 --set train.teacher_weight=0.5 --json --out run")
    assert ran.json["unused_keys"] == ["train.teacher_weight"]
    assert "train.teacher_weight" in ran.err


def test_another_teacher_is_refused_on_resume(nascli: Nascli, teacher: str) -> None:
    nascli(f"{SMALL} --epochs 1 --teacher {teacher} --out run")
    nascli(f"{SMALL} --filters 6 --epochs 1 --image-size 12 --out other")
    ran = nascli("train --resume run --teacher other")
    assert (ran.code, "--teacher" in ran.err) == (2, True)
    Path("large/weights.safetensors").write_bytes(Path("other/weights.safetensors").read_bytes())
    assert nascli("train --resume run").code == 2


@pytest.mark.slow
@pytest.mark.parametrize("mixup", [0.0, 0.3])
def test_two_processes_train_as_one(nascli: Nascli, teacher: str, mixup: float) -> None:
    line = f"{SMALL} --epochs 2 --teacher {teacher} --device cpu --set data.mixup={mixup}"
    assert nascli(f"{line} --set train.grad_accum_steps=2 --out one").code == 0
    subprocess.run([*TORCHRUN, "nascli", *f"{line} --out two".split()], env=ENVIRONMENT, check=True, timeout=200)
    one, two = (load_file(f"{name}/weights.safetensors") for name in ("one", "two"))
    torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5)


def test_other_classes_are_refused_by_name(nascli: Nascli, teacher: str) -> None:
    write_images(Path("fewer"), ("cat", "dog"))
    write_images(Path("others"), ("cat", "dog", "owl"))
    for data, named in (("fewer", "'cow'"), ("others", "'owl'")):
        ran = nascli(f"train --cell cell.json --dataset folder:{data} --teacher {teacher} --out run")
        assert (ran.code, named in ran.err, Path("run").exists()) == (2, True, False)


@pytest.mark.parametrize("name", ["nowhere", "images", "timm:no-such-network", "timm:local-dir:nowhere"])
def test_a_teacher_that_is_none_is_named(nascli: Nascli, name: str) -> None:
    ran = nascli(f"{SMALL} --teacher {name} --out run")
    assert (ran.code, name in ran.err, ran.err.count("\n") < 4) == (2, True, True), ran.err


def test_without_a_connection_a_teacher_of_timm_is_one_line(nascli: Nascli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(Path("empty").absolute()))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    ran = nascli(f"{SMALL} --teacher timm:resnet18 --out run")
    assert (ran.code, "hf:timm/resnet18" in ran.err, ran.err.count("error")) == (2, True, 1)


def test_a_network_of_timm_teaches_its_classes_by_name(nascli: Nascli) -> None:
    torch.manual_seed(0)
    network: Any = timm.create_model("test_resnet", num_classes=3)
    network.pretrained_cfg["input_size"] = (3, 24, 24)
    timm.models.save_for_hf(network, "folder", {"label_names": ["dog", "cat", "cow"]}, safe_serialization=True)
    ran = nascli(f"{SMALL} --epochs 1 --teacher timm:local-dir:folder --out run")
    assert ran.code == 0, ran.err
    assert nascli("train --resume run").code == 0
    found = open_teacher("timm:local-dir:folder")
    assert (found.image_size, found.find_outputs(("cat", "cow", "dog"))) == (24, [1, 2, 0])


def test_the_teacher_sees_images_as_it_was_trained_and_answers_in_the_students_order(
    nascli: Nascli, teacher: str
) -> None:
    opened = open_teacher(teacher)
    data = make_data()  # of 8 pixels, with other colors than the teacher's
    names = ("dog", "cat", "cow")
    engine = TeacherEngine(opened, replace(data, class_names=names), FineTuneConfig(), CPU)
    images = next(data.train.evaluation_batches(8))[0]
    resized = F.interpolate(images.float(), (12, 12), mode="bilinear", antialias=True)
    with torch.no_grad():
        expected = load_network(teacher)(Normalizer(opened.mean, opened.std)(resized))[:, [2, 0, 1]]
    answers = engine(Normalizer(data.mean, data.std)(images))
    torch.testing.assert_close(answers, expected, rtol=1e-4, atol=1e-4)
    everything = engine.answer_all(data.train, Normalizer(data.mean, data.std), SINGLE_PROCESS)
    torch.testing.assert_close(everything[:8], answers, rtol=1e-5, atol=1e-5)


def test_a_teacher_without_names_has_to_have_as_many_classes(teacher: str) -> None:
    network = load_network(teacher)
    nameless = network.spec.model_copy(update={"class_names": None})
    Path("nameless").mkdir()
    write_network(Path("nameless/network.json"), nameless)
    save_weights(Path("nameless/weights.safetensors"), network)
    found = open_teacher("nameless")
    assert found.find_outputs(("x", "y", "z")) == [0, 1, 2]
    with pytest.raises(InputError, match="3 classes, the data have 2"):
        found.find_outputs(("x", "y"))


def test_the_loss_follows_the_formula() -> None:
    student, answers, temperature = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 0.5]]), 2.0
    q = [math.exp(x / temperature) for x in (1.0, 2.0)]
    p = [math.exp(x / temperature) for x in (3.0, 0.5)]
    divergence = sum(b / sum(p) * math.log((b / sum(p)) / (a / sum(q))) for a, b in zip(q, p, strict=True))
    assert distillation_loss(student, answers, temperature).item() == pytest.approx(temperature**2 * divergence)


def test_a_dry_run_counts_the_teacher(nascli: Nascli, teacher: str) -> None:
    for more in ("", "--set data.flip=true"):
        assert nascli(f"{SMALL} --epochs 1 --teacher {teacher} --dry-run --json {more}").json["seconds"] > 0
