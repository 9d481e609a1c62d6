"""Classes in a table: CSVs of many makers, and the metadata of Hugging Face's image folders."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.program import Nascli
from tests.front_door.made import TRAIN, write_classes

Row = tuple[str, str, str]
"""Path, class, split."""


@pytest.fixture
def rows() -> list[Row]:
    """Images in `data/`, as `data/labels.csv` would list them."""
    files = sorted(write_classes(Path("data"), counts=(4, 2)).glob("*/*/*.png"))
    return [(str(file.relative_to("data")), file.parent.name, file.parent.parent.name) for file in files]


def write(text: str, path: str = "data/labels.csv", encoding: str = "utf-8") -> None:
    Path(path).write_text(text, encoding=encoding)


class Pack:
    """A table packed, which lists its images quicker than a training: how many of which split, and what is said."""

    def __init__(self, nascli: Nascli) -> None:
        self._nascli = nascli
        self.notes = ""

    def __call__(self, table: str = "data/labels.csv", more: str = "") -> tuple[int, int, str]:
        ran = self._nascli(f"pack {table} p.h5 --overwrite --json {more}")
        assert ran.code == 0, ran.err
        self.notes = ran.err
        return ran.json["train_images"], ran.json["val_images"], ran.json["val_name"]

    def refused(self, *words: str, table: str = "data/labels.csv", code: int = 2, more: str = "") -> None:
        ran = self._nascli(f"pack {table} p.h5 --overwrite {more}")
        assert ran.code == code, ran.err
        for word in words:
            assert word in " ".join(ran.err.split())


@pytest.fixture
def pack(nascli: Nascli) -> Pack:
    return Pack(nascli)


def test_a_table_is_trained_on_and_measured(nascli: Nascli, classifier: str, rows: list[Row]) -> None:
    write("file_name,label,split\n" + "".join(f"{','.join(row)}\n" for row in rows))
    plan = nascli(f"{TRAIN} --dataset csv:data/labels.csv --dry-run --json").json
    assert (plan["train_images"], plan["val_images"], plan["val_split"]) == (8, 4, "val")
    measured = nascli(f"evaluate {classifier} --device cpu --dataset csv:data/labels.csv --json").json
    assert (measured["images"], measured["split"]) == (4, "val")
    Path("data/val").rename("data/later")
    write("image;class\n" + "".join(f"{path};{label}\n" for path, label, split in rows if split == "val"), "data/b.csv")
    again = nascli(f"evaluate {classifier} --device cpu --dataset data/b.csv --json").json
    assert (again["dataset"], again["images"], again["top1"]) == ("csv:data/b.csv", 4, measured["top1"])
    write("image;class\nlater/cat/000.png;cow\n", "data/c.csv")
    ran = nascli(f"evaluate {classifier} --device cpu --dataset data/c.csv")
    assert ran.code == 2
    assert "'cow'" in ran.err


FORMS: dict[str, tuple[str, Callable[[Row], str]]] = {
    "semicolons": ("Filename;Class Name;Data Set", lambda row: ";".join(row)),
    "tabs": ("image_path\tcategory\tsubset", lambda row: "\t".join(row)),
    "more columns": ("id,image,label,split,note", lambda row: f'7,{row[0]},{row[1]},{row[2]},"a, b"'),
    "splits in paths": ("path,target", lambda row: f"./{row[0]},{row[1]}"),
    "backslashes": ("file,label", lambda row: f"{row[0]},{row[1]}".replace("/", "\\")),
    "another machine": ("file,label", lambda row: f"/home/somebody/pets/{row[0]},{row[1]}"),
    "windows": ("file,label", lambda row: "D:\\pets\\" + row[0].replace("/", "\\") + f",{row[1]}"),
    "one column per class": (
        "filename,cat,dog,split",
        lambda row: f"{row[0]},{int(row[1] == 'cat')},{int(row[1] == 'dog')},{row[2]}",
    ),
    "unknown second column": ("filename,animal", lambda row: f"{row[0]},{row[1]}"),
    "spaces": (" file , label , split ", lambda row: " , ".join(row)),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_tables(pack: Pack, rows: list[Row], form: str) -> None:
    header, write_row = FORMS[form]
    write("\n".join([header, *map(write_row, rows), ""]), encoding="utf-8-sig" if form == "tabs" else "utf-8")
    assert pack() == (8, 4, "val")
    if form in ("backslashes", "another machine", "windows"):
        assert "read leniently: image" in pack.notes


def test_utf_16_and_no_header(pack: Pack, rows: list[Row]) -> None:
    text = "".join(f"{label},{path}\n" for path, label, _ in rows)
    write(text, encoding="utf-16")
    assert pack() == (8, 4, "val")
    assert "table without a header" in pack.notes


def test_ids_without_ending_and_images_elsewhere(pack: Pack, rows: list[Row]) -> None:
    Path("data/train_images").mkdir()
    for number, (path, _, _) in enumerate(rows):
        shutil.move(f"data/{path}", f"data/train_images/{number:05d}.png")
    for split in ("train", "val"):
        shutil.rmtree(f"data/{split}")
    lines = "".join(f"{number:05d},{label}\n" for number, (_, label, _) in enumerate(rows))
    write(f"id,breed\n{lines}")
    assert pack(more="--val-fraction 0.25") == (8, 4, "held-out")
    assert "12 read leniently: image found by its name alone" in pack.notes
    write(f"id,breed\n{lines}99999,cat\n99998,\n")
    pack.refused("line 14: 99999", "--max-unreadable 1", more="--val-fraction 0.25")
    assert pack(more="--val-fraction 0.25 --max-unreadable 1") == (8, 4, "held-out")
    assert "image of the table that is not on disk" in pack.notes
    assert "image without a label" in pack.notes


@pytest.mark.parametrize("place", ["", "train/"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_hugging_face_metadata(pack: Pack, nascli: Nascli, rows: list[Row], place: str, kind: str) -> None:
    for split in ("train", "val"):
        for file in [*Path("data", split).glob("*/*.png")]:
            file.rename(file.parent.parent / f"{file.parent.name}-{file.name}")
        shutil.rmtree(f"data/{split}/cat")
        shutil.rmtree(f"data/{split}/dog")
    folders = ("train", "val") if place else ("",)
    for folder in folders:
        listed = [(f"{split}/{label}-{Path(path).name}", label) for path, label, split in rows]
        listed = [(name.removeprefix(f"{folder}/"), label) for name, label in listed if name.startswith(folder)]
        lines = (
            ["file_name,label", *(f"{name},{label}" for name, label in listed)]
            if kind == "csv"
            else [json.dumps({"file_name": name, "label": ("cat", "dog").index(label)}) for name, label in listed]
        )
        write("\n".join(lines) + "\n", f"data/{folder}/metadata.{kind}")
    assert pack("data") == (8, 4, "val")
    plan = nascli(f"{TRAIN} --dataset ./data --dry-run --json").json
    assert (plan["dataset"], plan["train_images"]) == ("folder:data", 8)


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        (
            "file_name,xmin,ymin,xmax,ymax,class\na.png,1,1,2,2,cat\n",
            2,
            ["boxes", "nascli detect train --dataset csv:"],
        ),
        ("file_name,width,height\na.png,3,3\n", 2, ["file_name, width, height", "file_name and label"]),
        ("weight,label\n3,cat\n", 2, ["weight, label", "image files"]),
        ("file_name,label\n", 2, ["no rows"]),
        ("", 2, ["no rows"]),
        ("file_name,label\ntrain/cat/000.png,cat,dog\n", 1, ["line 2", "3 cells"]),
        ("file_name,label\ntrain/cat/000.png,cat\ntrain/cat/000.png,dog\n", 2, ["line 3", "'cat'", "'dog'"]),
        ("file,a,b\ntrain/cat/000.png,1,1\n", 2, ["line 2", "one class by 1"]),
        ("file,label,split\ntrain/cat/000.png,cat,train\nval/cat/000.png,cat,\n", 2, ["line 3", "no split"]),
        ("file,label\ntrain/cat/000.png,cat\n", 2, ["--val-fraction"]),
        ('file,label\n"train/cat', 2, ["labels.csv"]),
    ],
)
@pytest.mark.usefixtures("rows")
def test_tables_that_are_refused(pack: Pack, text: str, code: int, words: list[str]) -> None:
    write(text)
    pack.refused("data/labels.csv", *words, code=code, more="" if "--val-fraction" in words else "--val-fraction 0.2")


def test_splits_that_share_an_image(pack: Pack, rows: list[Row]) -> None:
    shared = rows[0][:2]
    write("file,label,split\n" + "".join(f"{','.join(row)}\n" for row in [*rows, (*shared, "val")]))
    assert pack() == (8, 5, "val")
    assert "1 × image of both splits" in pack.notes


def test_a_table_that_is_not_there(pack: Pack, nascli: Nascli, rows: list[Row]) -> None:
    pack.refused("gone.csv", table="gone.csv")
    ran = nascli(f"{TRAIN} --dataset csv:data --dry-run")
    assert ran.code == 2
    assert "folder:data" in ran.err
    assert len(rows) == 12


def test_marked_classes_keep_the_names_of_their_columns(nascli: Nascli, rows: list[Row]) -> None:
    write("image,Big-Cat,big cat\n" + "".join(f"{p},{int(c == 'cat')}.0,{int(c == 'dog')}.0\n" for p, c, _ in rows))
    split = nascli("data check csv:data/labels.csv --quick --json").json["splits"][0]
    assert split["classes"] == {"Big-Cat": 4, "big cat": 4}


def test_labels_as_programs_write_numbers_and_none(nascli: Nascli, pack: Pack, rows: list[Row]) -> None:
    labels = ["1", "0.0", "1.0", "0", "nan", "NULL"] * 2
    marked = zip(rows, labels, strict=True)
    write("image,label\n" + "".join(f"{path},{label}\n" for (path, _, _), label in marked))
    pack()
    assert "4 read leniently: class number with decimals" in pack.notes
    assert "4 skipped: image without a label" in pack.notes
    splits = nascli("data check csv:data/labels.csv --quick --json").json["splits"]
    assert {name for split in splits for name in split["classes"]} == {"0", "1"}
    assert nascli("data check csv:data/labels.csv --quick --strict").code == 2
    write("image,label\n" + "".join(f"{path},{1 + 0.5 * (name == 'cat')}\n" for path, name, _ in rows))
    assert [*nascli("data check csv:data/labels.csv --json").json["splits"][0]["classes"]] == ["1.0", "1.5"]


def test_lists_of_labels_are_refused(pack: Pack, rows: list[Row]) -> None:
    write("image,label\n" + "".join(f"{path},\"['{name}', 'tame']\"\n" for path, name, _ in rows))
    pack.refused("line 2", "one class", more="--val-fraction 0.25")
    lines = [json.dumps({"image": path, "labels": [name, "tame"]}) for path, name, _ in rows]
    write("\n".join(lines), "data/labels.jsonl")
    pack.refused("line 1", "one class", table="data/labels.jsonl", more="--val-fraction 0.25")


def test_lists_of_paths_and_labels(nascli: Nascli, rows: list[Row]) -> None:
    write("".join(f"{path} {int(name == 'cat')}\n" for path, name, _ in rows), "data/list.txt")
    ran = nascli("data check csv:data/list.txt --quick --json")
    assert [split["images"] for split in ran.json["splits"]] == [8, 4]
    assert ran.json["splits"][0]["issues"][0]["kind"] == "table without a header"
    assert nascli("data check csv:data/list.txt --quick --strict").code == 2


def test_the_line_for_excel_is_no_header(nascli: Nascli, pack: Pack, rows: list[Row]) -> None:
    write("sep=;\r\nimage;label\r\n" + "".join(f"{path};{name}\r\n" for path, name, _ in rows), encoding="utf-8-sig")
    assert pack() == (8, 4, "val")
    assert "table with a line for Excel" in pack.notes
    assert nascli("data check csv:data/labels.csv --quick --strict").code == 2
    write("sep=;\r\nimage;label\r\n" + "".join(f"{path};{name};\r\n" for path, name, _ in rows[:3]) + "lost;cat;\r\n")
    pack.refused("line 6: lost", more="--val-fraction 0.25")


def test_a_column_of_splits_without_their_names_is_said(pack: Pack, rows: list[Row]) -> None:
    for path in ("train", "val"):
        Path("data", path).rename(f"data/{path[0]}0")
    fold = [(path.replace("train", "t0").replace("val", "v0"), name, k % 3) for k, (path, name, _) in enumerate(rows)]
    write("image,label,split\n" + "".join(f"{path},{name},{number}\n" for path, name, number in fold))
    pack.refused("'0', '1', '2'", "--val-fraction 0.2")
    assert pack(more="--val-fraction 0.25")[2] == "held-out"
    assert "12 × split of an unknown name" in pack.notes


@pytest.mark.usefixtures("rows")
def test_the_command_that_a_check_suggests_can_be_run(nascli: Nascli) -> None:
    for dataset in ("data", "data/train"):
        command = nascli(f"data check {dataset} --quick").err.partition("next: nascli ")[2].strip()
        assert ("--val-fraction" in command) == (dataset == "data/train")
        assert nascli(f"{command} --dry-run --device cpu --filters 4 --cells-per-stage 1").code == 0
    shutil.rmtree("data/train/dog")  # one class alone can be measured, and not be trained on
    shutil.rmtree("data/val")
    assert "next:" not in nascli("data check data --quick").err
