"""Nothing is read leniently without being listed, and the strict mode refuses all of it."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nascli.data.issues import ISSUE_KINDS, IssueOutcome
from tests.cli.program import Nascli
from tests.front_door.exports import write_csv, write_voc, write_yolo
from tests.front_door.made import TRAIN, Lists, write_classes, write_coco, write_perfect_results

CHECK_COCO = "detect check --dataset coco:data"
PLAN_CLASSES = f"{TRAIN} --dataset folder:data --dry-run"
PLAN_TABLE = f"{TRAIN} --dataset csv:labels.csv --val-fraction 0.5 --dry-run"


@dataclass(frozen=True)
class Leniency:
    """An input that is read leniently.

    Args:
        make: Writes it into the current folder.
        count: How often the kind is met in it.
        line: The command that reads it.
    """

    make: Callable[[], object]
    count: int
    line: str = CHECK_COCO


def changed(change: Callable[[Lists], object], split: str = "train") -> Callable[[], object]:
    """Cats and dogs, with the lists of one split changed."""

    def apply(name: str, lists: Lists, _: Path) -> None:
        if name == split:
            change(lists)

    return lambda: write_coco(Path("data"), apply)


def each(key: str, change: Callable[[dict[str, Any]], object]) -> Callable[[], object]:
    """All entries of a list of the training split changed."""
    return changed(lambda lists: [change(entry) for entry in lists[key]])


def each_of(key: str, **fields: object) -> Callable[[], object]:
    """Fields of all entries of a list of the training split, set to these values."""
    return each(key, lambda entry: entry.update(fields))


def text_ids(lists: Lists) -> None:
    for entry in lists["images"]:
        entry["id"] = f"img_{entry['id']:04d}"
    for entry in lists["annotations"]:
        entry["image_id"] = f"img_{entry['image_id']:04d}"


def name_references(lists: Lists) -> None:
    for entry in lists["annotations"]:
        entry["image_id"] = f"{entry['image_id']:06d}.png"
        entry["category_id"] = lists["categories"][entry["category_id"] - 1]["name"]


def number_names(_: str, lists: Lists, __: Path) -> None:
    for entry in lists["categories"]:
        entry["name"] = entry["id"]


def outlines_alone(entry: dict[str, Any]) -> None:
    x, y, width, height = entry.pop("bbox")
    entry["segmentation"] = [[x, y, x + width, y, x + width, y + height, x, y + height]]


def other_numbers(lists: Lists) -> None:
    for entry in lists["categories"]:
        entry["id"] = 3 - entry["id"]
    for entry in lists["annotations"]:
        entry["category_id"] = 3 - entry["category_id"]


def renamed(place: str, name: Callable[[str], str]) -> Callable[[], object]:
    """The training images under other names on the disk than in their file."""

    def make() -> None:
        write_coco(Path("data"))
        for file in sorted(Path("data/train2017").iterdir()):
            target = Path("data", place, name(file.name))
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(file, target)

    return make


def moved(*places: str) -> Callable[[], object]:
    """Cats and dogs in class folders, of which one path is moved, from place to place."""

    def make() -> None:
        here, *others = (Path("data", place) for place in places)
        write_classes(Path("data"))
        for there in others:
            there.parent.mkdir(exist_ok=True)
            here = here.rename(there)

    return make


SCORE = "detect score data/results.json --dataset coco:data"


def found(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[], object]:
    """Perfect results of cats and dogs, each changed."""
    return lambda: write_perfect_results(write_coco(Path("data")), change)


def found_file(make: Callable[[list[dict[str, Any]]], str]) -> Callable[[], object]:
    """Perfect results of cats and dogs, as another text."""

    def write() -> None:
        file = write_perfect_results(write_coco(Path("data")))
        file.write_text(make(json.loads(file.read_text(encoding="utf-8"))), encoding="utf-8")

    return write


def inside(lists: str, key: str) -> Callable[[list[dict[str, Any]]], str]:
    """The same results in an object, whose own ids in a list are ten more."""
    name, first, values = {
        "images": ("file_name", 111, ("000101.png", "000102.png")),
        "categories": ("name", 11, ("cat", "dog")),
    }[lists]
    own = [{"id": first + k, name: value} for k, value in enumerate(values)]

    def make(entries: list[dict[str, Any]]) -> str:
        moved = [{**entry, key: entry[key] + 10} for entry in entries]
        return json.dumps({"annotations": moved, lists: own})

    return make


def write_accents(folder: Path) -> None:
    write_classes(folder, ("caf\u00e9", "dog"))
    (folder / "val/caf\u00e9").rename(folder / "val/cafe\u0301")


def write_table(header: str, times: int) -> None:
    """`labels.csv` of the training images of `data/`, each in so many rows."""
    files = sorted(write_classes(Path("data")).glob("train/*/*.png"))
    rows = "".join(f"{file},{file.parent.name}\n" for file in files)
    Path("labels.csv").write_text(header + rows * times)


RESULTS = {
    "results as JSON Lines": Leniency(found_file(lambda e: "\n".join(map(json.dumps, e))), 4, SCORE),
    "results inside an object": Leniency(found_file(lambda e: json.dumps({"results": e})), 1, SCORE),
    "results as predictions.json": Leniency(
        found_file(lambda e: json.dumps({"images": [{"file": "a/000101.png", "detections": e}]})), 1, SCORE
    ),
    "image named in place of its id": Leniency(
        found(lambda e: {**e, "image_id": f"{e['image_id']:06d}.png"}), 4, SCORE
    ),
    "image numbered differently": Leniency(found_file(inside("images", "image_id")), 4, SCORE),
    "category named in place of its id": Leniency(
        found(lambda e: {**e, "category_id": ("cat", "dog")[e["category_id"] - 1]}), 4, SCORE
    ),
    "category numbered differently": Leniency(found_file(inside("categories", "category_id")), 4, SCORE),
    "score under another key": Leniency(found(lambda e: {"conf": e.pop("score"), **e}), 4, SCORE),
}
"""Those of results files."""


def rewritten(write: Callable[[Path], object], pattern: str, change: Callable[[str], str]) -> Callable[[], object]:
    """An export of another tool in `data/`, with the files of a pattern changed."""

    def make() -> None:
        write(Path("data"))
        files = sorted(Path("data").glob(pattern))
        assert files
        for file in files:
            file.write_text(change(file.read_text()))

    return make


def listed_elsewhere(folder: Path) -> None:
    """The training images in a list of another machine."""
    write_yolo(folder, service=False)
    images = sorted((folder / "images" / "train").iterdir())
    (folder / "train.txt").write_text("".join(f"C:\\work\\data\\images\\train\\{image.name}\n" for image in images))
    description = folder / "data.yaml"
    description.write_text(description.read_text().replace("images/train", "train.txt"))


def spell_as_decimals(labels: str) -> str:
    return re.sub(r"(?m)^(\d) ", r"\1.0 ", labels)


def name_another(xml: str) -> str:
    return re.sub(r"train_\d", "copy_of_7", xml)


def write_commas(table: str) -> str:
    return table.replace(",", ";").replace(";24;30;train", ";24,5;30;train")


CHECK_YOLO = "detect check --dataset yolo:data"
CHECK_VOC = "detect check --dataset voc:data"
CHECK_CSV = "detect check --dataset csv:data/boxes.csv"

LENIENT: dict[str, Leniency] = {
    "split at another place": Leniency(lambda: write_yolo(Path("data")), 1, CHECK_YOLO),
    "image at another place": Leniency(lambda: listed_elsewhere(Path("data")), 3, CHECK_YOLO),
    "class number with decimals": Leniency(
        rewritten(write_yolo, "train/labels/train-0.txt", spell_as_decimals),
        2,
        CHECK_YOLO,
    ),
    "class without a name": Leniency(
        rewritten(write_yolo, "data.yaml", lambda text: text.replace("names: [cat, dog]", "")), 2, CHECK_YOLO
    ),
    "nc is not the number of names": Leniency(
        rewritten(write_yolo, "data.yaml", lambda text: text.replace("nc: 2", "nc: 80")), 1, CHECK_YOLO
    ),
    "label with a confidence": Leniency(
        rewritten(write_yolo, "train/labels/train-0.txt", lambda text: text.replace("\n", " 0.875\n")), 2, CHECK_YOLO
    ),
    "XML file of another image's name": Leniency(
        rewritten(write_voc, "Annotations/train_*.xml", name_another),
        3,
        CHECK_VOC,
    ),
    "box counted from 0": Leniency(
        rewritten(write_voc, "Annotations/train_0.xml", lambda text: text.replace("<xmin>9<", "<xmin>0<")), 1, CHECK_VOC
    ),
    "number with a decimal comma": Leniency(
        rewritten(write_csv, "boxes.csv", write_commas),
        3,
        CHECK_CSV,
    ),
    "table without classes": Leniency(
        rewritten(write_csv, "boxes.csv", lambda text: text.replace(",class,", ",source,")), 1, CHECK_CSV
    ),
    **RESULTS,
    "id of another type": Leniency(each("images", lambda entry: entry.update(id=f"{entry['id']}")), 4),
    "id that is no number": Leniency(changed(text_ids), 4),
    "reference by name": Leniency(changed(name_references), 16),
    "annotation without id": Leniency(each("annotations", lambda entry: entry.pop("id")), 8),
    "annotation id given twice": Leniency(each_of("annotations", id=7), 7),
    "number of another type": Leniency(each("annotations", lambda e: e.update(bbox=[*map(str, e["bbox"])])), 8),
    "area left empty": Leniency(each_of("annotations", area=None), 8),
    "area of no box": Leniency(each_of("annotations", area=-1), 8),
    "crowd flag left empty": Leniency(each_of("annotations", iscrowd=""), 8),
    "crowd flag of another type": Leniency(each_of("annotations", iscrowd=False), 8),
    "box not given": Leniency(each("annotations", outlines_alone), 8),
    "image size not given": Leniency(each_of("images", width=None, height=0), 4),
    "category name as a number": Leniency(lambda: write_coco(Path("data"), number_names), 2),
    "image named by another key": Leniency(
        each("images", lambda entry: entry.update(path=f"/data/{entry.pop('file_name')}")), 4
    ),
    "image path with backslashes": Leniency(
        each("images", lambda entry: entry.update(file_name=f"train2017\\{entry['file_name']}")), 4
    ),
    "image found under another spelling": Leniency(renamed("train2017", str.upper), 4),
    "image found by its name alone": Leniency(
        each("images", lambda entry: entry.update(file_name=f"D:\\my photos\\{entry['file_name']}")), 4
    ),
    "categories numbered differently": Leniency(changed(other_numbers, "val"), 2),
    "category spelled differently": Leniency(
        changed(lambda lists: lists["categories"][0].update(name="CAT"), "val"), 1
    ),
    "image without the ending of one": Leniency(moved("train/cat/000.png", "train/cat/000"), 1, PLAN_CLASSES),
    "data set in a folder of the one given": Leniency(lambda: write_classes(Path("data/export")), 1, PLAN_CLASSES),
    "class folders one level deeper": Leniency(moved("train", "images", "train/images"), 1, PLAN_CLASSES),
    "class name in another Unicode form": Leniency(lambda: write_accents(Path("data")), 1, PLAN_CLASSES),
    "table without a header": Leniency(lambda: write_table("", 1), 1, PLAN_TABLE),
    "table with a line for Excel": Leniency(lambda: write_table("sep=,\nfile,label\n", 1), 1, PLAN_TABLE),
    "image in several rows": Leniency(lambda: write_table("file,label\n", 2), 12, PLAN_TABLE),
}
"""An input of each kind that is read leniently."""


def test_every_leniency_has_an_input_here() -> None:
    lenient = [kind for kind, (outcome, _) in ISSUE_KINDS.items() if outcome is IssueOutcome.LENIENT]
    assert sorted(LENIENT) == sorted(lenient)


@pytest.mark.parametrize("kind", LENIENT)
def test_a_leniency_is_listed_with_its_count_and_refused_by_the_strict_mode(nascli: Nascli, kind: str) -> None:
    leniency = LENIENT[kind]
    leniency.make()
    ran = nascli(f"{leniency.line} --json")
    assert ran.code == 0, ran.err
    met = {issue["kind"]: (issue["count"], issue["outcome"]) for issue in find_issues(ran.json)}
    assert met.get(kind) == (leniency.count, "lenient")
    assert nascli(f"{leniency.line} --strict").code == 2


def find_issues(values: object) -> Iterator[dict[str, Any]]:
    """The issues anywhere in a command's JSON."""
    if isinstance(values, dict) and {"kind", "count", "outcome"} <= values.keys():
        yield values
    inside = values.values() if isinstance(values, dict) else values if isinstance(values, list) else ()
    for value in inside:
        yield from find_issues(value)
