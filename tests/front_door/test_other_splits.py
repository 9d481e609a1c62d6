"""Class folders with further splits and with what lies beside them: all that was read otherwise is listed."""

import os
import shutil
from pathlib import Path

import pytest

from tests.cli.program import Nascli
from tests.front_door.made import TRAIN, draw_noise, write_classes

DRY = f"{TRAIN} --dry-run --json"


@pytest.mark.parametrize(
    ("train", "val"),
    [("seg_train", "seg_test"), ("1_train", "2_val"), ("my-train", "my-dev"), ("set.train", "holdout")],
)
def test_splits_are_known_by_the_last_word_of_their_names(nascli: Nascli, train: str, val: str) -> None:
    folder = write_classes(Path("data"), val=val)
    (folder / "train").rename(folder / train)
    ran = nascli(f"{DRY} --dataset folder:data" + (" --val-split holdout" if val == "holdout" else ""))
    assert (ran.json["train_images"], ran.json["val_images"], ran.json["val_split"]) == (12, 6, val)


def test_classes_may_end_in_the_word_of_a_split(nascli: Nascli) -> None:
    write_classes(Path("data"), classes=("bullet-train", "crash_test", "car"))
    ran = nascli(f"{DRY} --dataset folder:data/train --val-fraction 0.5")
    assert (ran.json["train_images"], ran.json["val_images"]) == (9, 9)
    assert nascli(f"{DRY} --dataset folder:data").json["train_images"] == 18


def test_what_lies_beside_the_splits_is_said(nascli: Nascli) -> None:
    folder = write_classes(Path("data"))
    shutil.copytree(folder / "val", folder / "predictions")
    draw_noise(7).save(folder / "cover.png")
    ran = nascli(f"{DRY} --dataset folder:data --strict")
    assert (ran.json["train_images"], ran.json["val_images"]) == (12, 6)
    assert "2 × folder or image beside the splits" in ran.err
    assert "2  folder or image beside the splits" in nascli("data check data").out


def test_leniency_of_a_further_split_is_counted_there(nascli: Nascli) -> None:
    folder = write_classes(Path("data"))
    shutil.copytree(folder / "val", folder / "test/animals")
    for split in ("train", "val", "test/animals"):
        (folder / split / "cat/000.png").rename(folder / split / "cat/IMG_0")
    ran = nascli("data check data --quick --json")
    counts = [{each["kind"]: each["count"] for each in split["issues"]} for split in ran.json["splits"]]
    assert counts[0]["image without the ending of one"] == 2
    assert counts[2]["image without the ending of one"] == counts[2]["class folders one level deeper"] == 1
    assert nascli("data check data --quick --strict").code == 2
    assert "listed by nascli data check" in nascli("data convert data out --strict").err
    for split in ("train", "val"):
        (folder / split / "cat/IMG_0").rename(folder / split / "cat/000.png")
    assert nascli("data check data --quick --strict").code == 2
    assert nascli("data convert data out --strict").code == 2


def test_a_test_split_without_classes_is_left_out(nascli: Nascli) -> None:
    folder = write_classes(Path("data"))
    (folder / "test").mkdir()
    draw_noise(7).save(folder / "test/1.png")
    ran = nascli("data check data --json")
    assert (ran.code, [split["split"] for split in ran.json["splits"]]) == (3, ["train", "val"])
    assert "image in no class folder" in {each["kind"] for each in ran.json["splits"][0]["issues"]}
    assert nascli("data check data --strict").code == 2
    assert nascli("data convert data plain").code == 0
    (folder / "val").rename(folder / "train/later")
    shutil.rmtree(folder / "train/later")
    (folder / "train").rename(folder / "Training")
    assert [split["split"] for split in nascli("data check data --json").json["splits"]] == ["Training"]


def test_a_link_to_itself_is_an_image_that_cannot_be_read(nascli: Nascli) -> None:
    folder = write_classes(Path("data"))
    for name in ("loop.png", "loop"):
        (folder / "train/cat" / name).symlink_to(name)
    ran = nascli(f"{DRY} --dataset data")
    assert (ran.code, os.path.basename(str(ran.json["error"]["file"]))) == (1, "loop.png")
    kinds = {each["kind"] for each in nascli("data check data --json").json["splits"][0]["issues"]}
    assert {"image cannot be read", "link that leads nowhere"} <= kinds
    assert nascli(f"{DRY} --dataset data --set data.max_unreadable_images=1").code == 0


@pytest.mark.parametrize("name", ["  indented", " ", "a\\b", "=1", "trailing "])
def test_any_class_folder_is_written_again(nascli: Nascli, name: str) -> None:
    write_classes(Path("data"), classes=("cat", name))
    assert nascli("data convert data plain").code == 0
    assert nascli("data split data divided").code == 0


def test_a_class_that_would_be_a_hidden_folder_is_named(nascli: Nascli) -> None:
    write_classes(Path("data"))
    Path("labels.csv").write_text("file,label\ndata/train/cat/000.png,.net\ndata/train/dog/000.png,java\n")
    ran = nascli("data convert labels.csv plain")
    assert (ran.code, "'.net'" in ran.err, Path("plain").exists()) == (2, True, False)


def test_a_folder_with_damaged_images_is_classified(nascli: Nascli, classifier: str) -> None:
    write_classes(Path("data"))
    Path("data/val/cat/lost.png").write_text("<html>not found")
    ran = nascli(f"evaluate {classifier} --device cpu --predict data/val")
    assert (ran.code, "--max-unreadable" in ran.err) == (1, True)
    ran = nascli(f"evaluate {classifier} --device cpu --predict data/val --max-unreadable 1 --json")
    assert (len(ran.json["images"]), ran.json["skipped"]) == (6, ["data/val/cat/lost.png"])
    assert nascli(f"evaluate {classifier} --device cpu --predict data/val/cat/lost.png --max-unreadable 1").code == 1


def test_a_table_beside_unsorted_images_is_named(nascli: Nascli) -> None:
    folder = write_classes(Path("data"))
    for image in [*folder.glob("train/*/*")]:
        image.rename(folder / "train" / f"{image.parent.name}{image.name}")
    for emptied in ("val", "train/cat", "train/dog"):
        shutil.rmtree(folder / emptied)
    names = [image.name for image in folder.glob("train/*.png")]
    (folder / "train.csv").write_text("id,label\n" + "".join(f"{name},{name[:3]}\n" for name in names))
    (folder / "sample.csv").write_text("id,label\n")
    assert "--dataset csv:data/train.csv" in nascli(f"{DRY} --dataset data --val-fraction 0.3").err
    assert nascli(f"{DRY} --dataset csv:data/train.csv --val-fraction 0.3").code == 0
    (folder / "train.csv").write_text("id;label\n" + "".join(f"{name},{name[:3]}\n" for name in names))
    ran = nascli(f"{DRY} --dataset csv:data/train.csv --val-fraction 0.3")
    assert (ran.code, "delimiter" in ran.err) == (2, True)


def test_what_is_said_of_paths_and_files_that_are_something_else(nascli: Nascli) -> None:
    write_classes(Path("data"))
    Path("page.h5").write_text("<html>not found")
    Path("loop.h5").symlink_to("loop.h5")
    assert "an HTML page" in nascli(f"{DRY} --dataset page.h5").err
    assert "leads nowhere" in nascli(f"{DRY} --dataset loop.h5").err
    assert "no such" in nascli("data check data/nothing").err
    ran = nascli("data convert data data --json")
    assert (ran.code, "--overwrite" in ran.err) == (2, False)
    os.mkfifo("data/train/cat/pipe.png")
    assert "1 no file" in nascli(f"{DRY} --dataset data").err
