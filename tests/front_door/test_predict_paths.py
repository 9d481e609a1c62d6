"""Files and folders given to predict, in both tasks: which images are found, and what is said of the rest."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.cli.program import Nascli, Ran
from tests.front_door.made import draw_noise, quote


class Predict:
    """Predictions of either task on paths."""

    def __init__(self, nascli: Nascli, command: str) -> None:
        self._nascli, self._command = nascli, command

    def __call__(self, *paths: object, json: bool = True) -> Ran:
        words = " ".join(self._command.format(quote(path)) for path in paths)
        return self._nascli(f"{words} --device cpu" + " --json" * json)

    def files(self, *paths: object) -> list[str]:
        ran = self(*paths)
        assert ran.code == 0, ran.err
        return [each["file"] for each in ran.json["images"]]


@pytest.fixture(params=["classifier", "detector"])
def predict(request: pytest.FixtureRequest) -> Predict:
    trained = request.getfixturevalue(request.param)
    nascli = request.getfixturevalue("nascli")  # now, or it would hold what a training printed
    if request.param == "classifier":
        return Predict(nascli, f"evaluate {trained} --predict {{}}")
    return Predict(nascli, f"detect predict {{}} --run {trained} --threshold 0.9")


def save(path: str, seed: int = 0, **options: Any) -> Path:  # noqa: ANN401 - options of Pillow
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    draw_noise(seed, size=(64, 64)).save(path, **options)
    return Path(path)


def test_sub_folders_are_looked_into(predict: Predict) -> None:
    for k, name in enumerate(("mine/one.png", "mine/more/000.png", "mine/more/deep/er/001.png")):
        save(name, k)
    assert predict.files("mine") == ["mine/more/000.png", "mine/more/deep/er/001.png", "mine/one.png"]
    save("only/below/a.png")
    assert predict.files("only") == ["only/below/a.png"]


def test_what_is_passed_over_is_said(predict: Predict) -> None:
    save("mine/a.png")
    save("mine/.ipynb_checkpoints/a-checkpoint.png")
    save("mine/@eaDir/a.png/thumb.png")
    Path("mine/sub").mkdir()
    Path("mine/sub/notes.txt").write_text("no image")
    Path("mine/sub/again").symlink_to("..")
    Path("mine/sub/lost").symlink_to("nowhere")
    Path("mine/sub/IMG_1.CR2").write_bytes(b"II*\0")
    ran = predict("mine")
    assert ran.code == 0, ran.err
    assert [each["file"] for each in ran.json["images"]] == ["mine/a.png"]
    counts = {each["kind"]: each["count"] for each in ran.json["issues"]}
    assert counts == {
        "hidden or service file or folder": 2,
        "file that is no image": 1,
        "folder that links lead to again": 1,
        "link that leads nowhere": 1,
        "image of a format that cannot be read here": 1,
    }
    for place in (".ipynb_checkpoints", "1 .txt", "sub/again", "sub/lost", "IMG_1.CR2"):
        assert place in ran.err


def test_endings(predict: Predict) -> None:
    forms = {"jp2": "JPEG2000", "tga": "TGA", "pgm": "PPM", "avif": "AVIF"}
    names = ["a.JFIF", "b.jpe", "c.JP2", "d.tga", "e.pgm", "f.avif", "g.pjp", "h.jpg_large", "photo"]
    for name in names:
        save(f"mine/{name}", format=forms.get(Path(name).suffix.lower().lstrip("."), "JPEG"))
    Path("mine/a.jpg~").write_bytes(Path("mine/photo").read_bytes())
    assert predict.files("mine") == [f"mine/{name}" for name in names]


def test_a_name_that_is_not_utf8(predict: Predict) -> None:
    path = os.fsdecode(b"mine/caf\xe9.png")
    save("mine/b.png").rename(path)
    ran = predict("mine")
    assert ran.code == 0, ran.err
    assert os.fsencode(ran.json["images"][0]["file"]) == b"mine/caf\xe9.png"


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("empty", "no image in this folder"),
        ("texts", "2 .txt"),
        ("phone", "pillow-heif"),
        ("photos.zip", "unzip photos.zip -d photos"),
        ("photos.tar.gz", "mkdir photos && tar -xf photos.tar.gz -C photos"),
        ("dangling.png", "leads nowhere"),
        ("gone/deeper/a.png", "gone is missing"),
    ],
)
def test_refused_with_the_reason(predict: Predict, path: str, word: str) -> None:
    for name in ("empty", "texts", "phone"):
        Path(name).mkdir()
    for name in ("texts/a.txt", "texts/b.txt", "phone/IMG.HEIC", "photos.zip", "photos.tar.gz"):
        Path(name).write_bytes(b"x")
    Path("dangling.png").symlink_to("away.png")
    ran = predict(path, json=False)
    assert ran.code == 2
    assert path in ran.err
    assert word in " ".join(ran.err.split())
    assert ran.out == ""
