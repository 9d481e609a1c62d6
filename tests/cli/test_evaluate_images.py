"""Preparation of images by `nascli evaluate`, and the test-time augmentation that it averages over."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from nascli.classify.prepare import resume_train_job
from nascli.records import read_record
from tests.cli.program import Nascli
from tests.cli.reference_evaluation import answers, edit_network, known_images, loss_by_hand, write_large_images

OURS = {"resize": "shorter_side", "crop": 0.875, "interpolation": "bilinear"}


@pytest.mark.usefixtures("trained")
def test_images_are_prepared_as_the_network_says(nascli: Nascli) -> None:
    files = write_large_images(Path("photos"))
    losses = {}
    for name, said, length, method in (
        ("before", None, 9, Image.Resampling.BILINEAR),  # a file of an earlier version; 8 / 0.875 = 9
        ("ours", OURS, 9, Image.Resampling.BILINEAR),
        ("other", {"resize": "shorter_side", "crop": 0.4, "interpolation": "bicubic"}, 20, Image.Resampling.BICUBIC),
    ):
        edit_network("run", preprocessing=said)
        ran = nascli("evaluate run --dataset folder:photos --json")
        assert ran.code == 0, ran.err
        losses[name] = ran.json["loss"]
        assert losses[name] == pytest.approx(loss_by_hand("run", files, length, method), rel=1e-5)
        used = ran.json["preprocessing"]
        assert {key: used.pop(key) for key in ("resize", "crop", "interpolation")} == (said or OURS)
        assert used["image_size"] == 8
        assert used["mean"] == json.loads(Path("run/network.json").read_text())["mean"]
        assert read_record(Path("run/evaluation.json")) == ran.json
    assert losses["before"] == losses["ours"] != losses["other"]
    assert "8 px, central crop 0.4, bicubic" in nascli("evaluate run --dataset folder:photos").out


@pytest.mark.usefixtures("trained")
def test_images_in_memory_are_taken_whole_whatever_the_network_says(nascli: Nascli) -> None:
    plain = nascli("evaluate run --json").json
    edit_network("run", preprocessing={"crop": 0.5, "interpolation": "bicubic"})
    ran = nascli("evaluate run --json").json
    assert ran["loss"] == plain["loss"]
    assert ran["preprocessing"] == plain["preprocessing"]
    assert (ran["preprocessing"]["crop"], ran["preprocessing"]["resize"]) == (1, "both_sides")
    assert "8 px, whole, bilinear" in nascli("evaluate run").out


@pytest.mark.usefixtures("trained")
def test_preprocessing_is_no_part_of_what_a_checkpoint_belongs_to() -> None:
    before = resume_train_job(Path("run"), {}, torch.device("cpu")).identity
    edit_network("run", preprocessing={"crop": 0.5})
    assert resume_train_job(Path("run"), {}, torch.device("cpu")).identity == before


@pytest.mark.usefixtures("trained")
def test_views_are_averaged_only_when_asked_for_and_said(nascli: Nascli) -> None:
    images, labels = known_images()
    plain, mirrored = answers("run", images), answers("run", images.flip(3))
    padded = F.pad(images, [1] * 4)
    corners = [padded[:, :, y : y + 8, x : x + 8] for y, x in ((0, 0), (0, 2), (2, 0), (2, 2), (1, 1))]
    for options, mean, phrase in (
        ("", plain, "the image alone"),
        ("--flip", (plain + mirrored) / 2, "the image and its mirror image"),
        (
            "--crops 5",
            torch.stack([answers("run", view) for view in corners]).mean(dim=0),
            "5 views: four corners and center of 10 px, 1 of them zeros on each side",
        ),
        (
            "--crops 10",
            torch.stack([answers("run", each) for view in corners for each in (view, view.flip(3))]).mean(dim=0),
            "10 views: four corners and center of 10 px, 1 of them zeros on each side, mirrored too",
        ),
    ):
        ran = nascli(f"evaluate run {options} --batch-size 7 --json").json
        assert ran["loss"] == pytest.approx(float(F.nll_loss(mean.log(), labels)), rel=1e-4)
        assert ran["top1"] == pytest.approx(float((mean.argmax(dim=1) == labels).double().mean()))
        assert phrase in " ".join(nascli(f"evaluate run {options}").out.split())
    assert ran["tta"] == {"count": 10, "image_size": 8, "crops": 5, "flip": True, "padding": 1, "cut_from": 10}


@pytest.mark.usefixtures("trained")
def test_corners_of_larger_images_are_cut_from_what_the_crop_leaves_out(nascli: Nascli) -> None:
    files = write_large_images(Path("photos"))
    edit_network("run", preprocessing={"crop": 0.8})
    squares = []
    for path, _ in files:
        image = Image.open(path)
        factor = 10 / min(image.size)
        width, height = (int(side * factor) for side in image.size)
        left, top = round((width - 10) / 2), round((height - 10) / 2)
        cut = image.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + 10, top + 10))
        squares.append(torch.from_numpy(np.array(cut)).permute(2, 0, 1))
    square, labels = torch.stack(squares), torch.tensor([label for _, label in files])
    corners = [square[:, :, y : y + 8, x : x + 8] for y, x in ((0, 0), (0, 2), (2, 0), (2, 2), (1, 1))]
    mean = torch.stack([answers("run", view) for view in corners]).mean(dim=0)
    ran = nascli("evaluate run --dataset folder:photos --crops 5 --json").json
    assert ran["loss"] == pytest.approx(float(F.nll_loss(mean.log(), labels)), rel=1e-4)
    assert ran["tta"]["cut_from"] == 10
    assert ran["preprocessing"]["crop"] == 0.8
