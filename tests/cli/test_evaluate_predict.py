"""`nascli evaluate --predict`: what a network sees in a person's own images."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.evaluated import edit_network, loss_by_hand, write_photos
from tests.cli.pictures import Nascli


@pytest.mark.usefixtures("trained")
def test_a_persons_own_images_are_named_without_the_data_set(nascli: Nascli) -> None:
    files = write_photos(Path("photos"))
    paths = [path for path, _ in files]
    shutil.rmtree("pictures")
    ran = nascli(f"evaluate run --predict {paths[0]} --predict {paths[2].parent} --batch-size 2 --json")
    assert ran.code == 0, ran.err
    named = ran.json["images"]
    assert [each["file"] for each in named] == [str(paths[0]), str(paths[2]), str(paths[3])]
    for each in named:
        values = [guess["probability"] for guess in each["classes"]]
        assert sorted(values, reverse=True) == values
        assert sum(values) == pytest.approx(1, abs=1e-5)
        assert {(guess["label"], guess["name"]) for guess in each["classes"]} == {(0, "cat"), (1, "cow"), (2, "dog")}
    label = files[0][1]
    (true,) = (guess["probability"] for guess in named[0]["classes"] if guess["label"] == label)
    assert -np.log(true) == pytest.approx(loss_by_hand("run", files[:1], 9, Image.Resampling.BILINEAR), rel=1e-4)
    assert not Path("run/evaluation.json").exists()
    assert ran.next == ["nascli evaluate run"]
    shown = nascli(f"evaluate run --predict {paths[0]} --flip").out
    first = named[0]["classes"][0]["name"]
    assert shown.splitlines()[1].split() == ["picture", "likeliest", "second", "third"]
    assert first in shown
    assert "8 px, central crop 0.875, bilinear; averaged over the image and its mirror image" in shown


@pytest.mark.usefixtures("trained")
def test_a_network_without_class_names_gives_numbers(nascli: Nascli) -> None:
    (path, *_), *_ = write_photos(Path("photos"))
    edit_network("run", class_names=None)
    ran = nascli(f"evaluate run --predict {path} --json")
    assert {(guess["label"], guess["name"]) for guess in ran.json["images"][0]["classes"]} == {
        (label, None) for label in range(3)
    }
    row = nascli(f"evaluate run --predict {path}").out.splitlines()[2].split()
    assert set(row[1::2]) == {"0", "1", "2"}
