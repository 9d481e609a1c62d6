"""Images that cannot be decoded: how many `nascli evaluate` may leave out, and how it says so."""

from pathlib import Path

import pytest
from PIL import Image

from tests.cli.program import SETTINGS, Nascli


def spoil(*paths: str) -> None:
    """Damage images of `images/`."""
    for path in paths:
        Path("images", path).write_bytes(b"poison")


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize("streamed", [False, True])
def test_so_many_are_left_out_as_are_allowed_and_named(nascli: Nascli, streamed: bool) -> None:
    before = nascli("evaluate run --json").json
    assert before["skipped"] == []
    if streamed:  # nothing that is mixed in size lies in memory
        Image.new("RGB", (30, 20)).save("images/train/cat/00.png")
    spoil("train/dog/00.png", "val/dog/03.png")
    ran = nascli("evaluate run")
    assert ran.code == 1
    assert ran.err.rstrip().endswith("or allow for more: --max-unreadable N")
    ran = nascli("evaluate run --max-unreadable 2 --json")
    assert ran.code == 0, ran.err
    assert (ran.json["images"], ran.json["skipped"]) == (17, ["images/val/dog/03.png"])  # of 18
    assert sum(each["images"] for each in ran.json["per_class"]) == 17
    assert "17, 1 more skipped that cannot be decoded" in nascli("evaluate run --max-unreadable 2").out


def test_what_the_recipe_allows_holds_where_nothing_else_is_said(nascli: Nascli) -> None:
    spoil("val/dog/03.png")
    line = f"train --cell cell.json --dataset folder:images {SETTINGS} --out run"
    ran = nascli(line)
    assert ran.code == 1
    assert (
        "or allow for more: --set data.max_unreadable_images=N (for a run that was begun: in its recipe.toml" in ran.err
    )
    assert nascli(f"{line} --set data.max_unreadable_images=1").code == 0
    assert nascli("evaluate run --json").json["skipped"] == ["images/val/dog/03.png"]
    ran = nascli("evaluate run --max-unreadable 0")
    assert ran.code == 1
    assert "image images/val/dog/03.png cannot be decoded" in ran.err
    spoil("val/cow/00.png")
    ran = nascli("evaluate run")
    assert "2 images cannot be decoded, 1 may be skipped" in ran.err
    assert nascli("evaluate run --max-unreadable 2 --json").json["images"] == 16


def test_a_limit_that_was_raised_for_resuming_holds_in_measuring_too(nascli: Nascli) -> None:
    Image.new("RGB", (30, 20)).save("images/train/cat/00.png")
    spoil("val/dog/03.png")
    line = f"train --cell cell.json --dataset folder:images {SETTINGS} --image-size 8 --set data.workers=0 --out run"
    assert nascli(line).code == 1
    recipe = Path("run/recipe.toml")
    recipe.write_text(recipe.read_text().replace("max_unreadable_images = 0", "max_unreadable_images = 1"))
    assert nascli("train --resume run").code == 0
    assert nascli("evaluate run --json").json["skipped"] == ["images/val/dog/03.png"]
