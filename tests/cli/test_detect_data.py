"""`nascli detect` on data alone: check, show, score; and every issue before a first step."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.cli.program import Nascli
from tests.detect.coco_folder import annotation, categories, damage_pixels, write_coco
from tests.detect.small_detector import GENOTYPE

TRAIN = Path("data/coco/annotations/instances_train2017.json")
VAL = Path("data/coco/annotations/instances_val2017.json")
IMAGES = Path("data/coco/train2017")
START = (
    "--coco --cell cell.json --recipe digit-scenes --filters 4 --cells-per-stage 1 --batch-size 1 --dry-run "
    "--set detector.pyramid_channels=16 --set detector.head_channels=32"
)
"""A training on these data, as far as its first steps."""

Values = dict[str, Any]


@pytest.fixture
def nascli(capsys: pytest.CaptureFixture[str]) -> Nascli:
    write_coco(Path("data/coco"))
    Path("cell.json").write_text(GENOTYPE.to_json(), encoding="utf-8")
    return Nascli(capsys)


def edited(change: Callable[[Values], object]) -> Callable[[], None]:
    """The training annotations changed."""

    def edit() -> None:
        values = json.loads(TRAIN.read_text())
        change(values)
        TRAIN.write_text(json.dumps(values))

    return edit


def first_of(key: str, **fields: object) -> Callable[[], None]:
    """Fields of the first entry of a list of the training annotations."""
    return edited(lambda values: values[key][0].update(fields))


def cut(path: Path, length: int) -> Callable[[], object]:
    return lambda: path.write_bytes(path.read_bytes()[:length])


REFUSED: dict[str, tuple[Callable[[], object], int, str]] = {
    "corrupt JSON": (cut(TRAIN, -9), 1, "json are not JSON"),
    "JSON too deep": (lambda: TRAIN.write_text("[" * 100_000), 1, "json are not JSON"),
    "no annotations": (TRAIN.unlink, 2, "no annotations of both splits"),
    "missing image": ((IMAGES / "0003.png").unlink, 2, "image id 3 is not on disk"),
    "corrupt image": (cut(IMAGES / "0003.png", 90), 1, "image data/coco/train2017/0003.png cannot be decoded"),
    "another size": (lambda: Image.new("L", (30, 20)).save(IMAGES / "0003.png"), 2, "has 30x20 pixels"),
    "image id as a list": (first_of("images", id=[1]), 2, "image at position 0 has the id [1]. Ids are whole numbers"),
    "image twice": (edited(lambda v: v["images"].append(v["images"][0])), 2, "image id 1 is given twice"),
    "unknown image": (first_of("annotations", image_id=99), 2, "image_id 99 is not among the images"),
    "category 0": (first_of("annotations", category_id=0), 2, "category_id 0 is not among the categories. Known: 3, 7"),
    "no box": (first_of("annotations", bbox=[1, 2, 3]), 2, "bbox [1, 2, 3] is not four numbers"),
    "crowd flag": (first_of("annotations", iscrowd=2), 2, "iscrowd 2 is not 0 or 1"),
    "other classes": (first_of("categories", name="green thing"), 2, "its categories are not those of"),
    "no boxes": (edited(lambda v: v["annotations"].clear()), 2, "no box to learn from in 8 training images"),
}
SKIPPED = [
    pytest.param([float("nan"), 5, 9, 9], "box not finite", id="NaN"),
    pytest.param([5, 5, 0, 9], "box empty or inverted", id="empty"),
    pytest.param([30, 30, -9, -9], "box empty or inverted", id="inverted"),
    pytest.param([64, 5, 9, 9], "box outside its image", id="outside"),
]


@pytest.mark.parametrize(("damage", "code", "phrase"), REFUSED.values(), ids=REFUSED)
def test_what_must_be_repaired_is_said_by_the_check_and_before_the_first_step(
    nascli: Nascli, damage: Callable[[], object], code: int, phrase: str
) -> None:
    damage()
    ran = nascli(f"detect {START}")
    assert (ran.code, ran.out) == (code, "")
    assert phrase in ran.err
    checked = nascli("detect check --coco")
    assert checked.code != 0
    shown = checked.out + checked.err
    assert phrase.partition(". Ids")[0] in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize(("box", "kind"), SKIPPED)
def test_boxes_that_mean_nothing_are_skipped_and_counted(nascli: Nascli, box: list[float], kind: str) -> None:
    first_of("annotations", bbox=box)()
    ran = nascli(f"detect {START} --json")
    assert ran.code == 0
    assert ran.json["train_boxes"] == 11
    assert (
        f"instances_train2017.json: 1 skipped: {kind}: the box is skipped (first: annotation id 1 (image id 1)"
        in ran.err
    )
    checked = nascli("detect check --coco --json")
    assert checked.code == 0
    (finding,) = [each for each in checked.json["splits"][0]["issues"] if each["outcome"] == "skipped"]
    assert (finding["kind"], finding["count"]) == (kind, 1)


def test_ten_thousand_boxes_on_one_image(nascli: Nascli) -> None:
    """More than a step can hold: left out of training, counted; a limit of the recipe says how many are too many."""
    edited(lambda v: v["annotations"].extend(annotation(100 + k, 2, 3, [k % 50, 5, 9, 9]) for k in range(10_000)))()
    ran = nascli(f"detect {START} --json")
    assert ran.code == 0
    assert ran.json["train_images"] == 7
    assert re.search(r"1 skipped: image with too many boxes: [^(]*\(first: image id 2 .* 10,00\d boxes", ran.err)
    assert nascli("detect check --coco --set data.max_boxes=0 --json").json["splits"][0]["images"] == 8


def test_the_check_says_everything_by_kind_with_its_first_example(nascli: Nascli) -> None:
    def change(values: Values) -> None:
        boxes = values["annotations"]
        boxes[0]["bbox"][2] = boxes[1]["bbox"][3] = 0
        boxes[2]["iscrowd"] = 1
        boxes[3]["category_id"] = boxes[4]["category_id"] = 55

    edited(change)()
    (IMAGES / "0008.png").unlink()
    ran = nascli("detect check --coco")
    assert ran.code == 2
    assert "coco: 3 issues keep it from being used. Repair those that are marked refused" in ran.err
    lines = [" ".join(line.split()) for line in ran.out.splitlines()]
    for phrase in (
        "refused 2 annotation of an unknown category: Add the category, or correct the annotation",
        "refused 1 image not on disk: Put it there, or take the image out of the file, or skip up to N such images by "
        "--set data.max_unreadable_images=N",
        "skipped 2 box empty or inverted: the box is skipped",
        "kept 1 crowd box: scored as COCO does, not trained on",
        "nothing to remark",
    ):
        assert phrase in lines
    assert any(line.startswith("first: annotation id 4: category_id 55 is not among") for line in lines)
    values = nascli("detect check --coco --json").json
    assert (values["usable"], [split["split"] for split in values["splits"]]) == (False, ["train", "val"])
    assert values["splits"][0]["issues"][0]["remedy"]


def test_data_without_an_issue_pass_the_check(nascli: Nascli) -> None:
    ran = nascli("detect check --coco")
    assert ran.code == 0
    assert ran.out.count("nothing to remark") == 2
    assert ran.next == ["nascli detect show --dataset coco --data-dir data"]
    beside = IMAGES / "boxes.json"
    beside.write_bytes(TRAIN.read_bytes())
    one = nascli(f"detect check --dataset coco:{beside} --json")
    assert [each["file"] for each in one.json["splits"]] == [str(beside)], "one file is one split"


def test_only_decoding_tells_of_damage_in_the_middle(nascli: Nascli) -> None:
    damage_pixels(IMAGES / "0004.png")
    ran = nascli("detect check --coco")
    assert ran.code == 2
    assert "0004.png cannot be decoded" in ran.out


def test_the_data_are_drawn(nascli: Nascli) -> None:
    ran = nascli("detect show --coco --max-train-images 3 --json")
    assert ran.code == 0
    out = Path(ran.json["out"])
    assert out == Path(ran.json["images"][0]["drawn"]).parent
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [*(f"train-{n:06d}.png" for n in (1, 2, 3)), *(f"val-{n:06d}.png" for n in (1, 2, 3, 4))]
    )
    assert "drawn in" in nascli("detect show --coco --out mine").out
    assert len(list(Path("mine").iterdir())) == 12
    assert "mine is not empty" in nascli("detect show --coco --out mine").err


def test_the_data_are_drawn_as_training_augments_them(nascli: Nascli) -> None:
    jitter = "--set train.scale_jitter=[0.5,2.0] --set train.jitter_size=96"
    ran = nascli(f"detect show --coco --recipe digit-scenes {jitter} --augmented --max-train-images 5 --json")
    assert ran.code == 0, ran.err
    drawn = [Path(each["drawn"]) for each in ran.json["images"]]
    assert [path.name for path in drawn] == [f"train-{n:06d}-augmented.png" for n in range(1, 6)]
    assert sorted(drawn[0].parent.iterdir()) == drawn
    for path in drawn:
        with Image.open(path) as image:
            assert image.size == (480, 480), "five times 96, so that labels can be read"


def truth_as_results(path: Path, category: int | None = None) -> Path:
    """A results file that finds every true box, or takes all for one category."""
    entries = json.loads(VAL.read_text())["annotations"]
    keys = ("image_id", "category_id", "bbox")
    values = [{key: each[key] for key in keys} | {"score": 0.9} for each in entries]
    path.write_text(json.dumps([each | ({"category_id": category} if category else {}) for each in values]))
    return path


def test_a_results_file_is_scored_without_an_image(nascli: Nascli) -> None:
    for image in Path("data/coco").rglob("*.png"):
        image.unlink()
    results = truth_as_results(Path("found.json"))
    ran = nascli(f"detect score {results} --coco --json")
    assert ran.code == 0
    assert (ran.json["ap"], ran.json["ar_100"], ran.json["images"]) == (pytest.approx(1), pytest.approx(1), 4)
    shown = nascli(f"detect score {results} --coco").out
    for phrase in ("AP, mean over IoU 0.50 to 0.95", "AR of 1 / 10 / 100 boxes per image", "blue thing"):
        assert phrase in shown
    assert nascli(f"detect score {results} --dataset coco:{VAL} --json").json["ap"] == pytest.approx(1)


def test_its_scores_confusion_and_worst_images_are_written(nascli: Nascli) -> None:
    results = truth_as_results(Path("found.json"), category=3)
    ran = nascli(f"detect score {results} --coco --out scored")
    assert ran.code == 0
    scored = Path("scored")
    assert {path.name for path in scored.iterdir()} == {"detection.json", "confusion.json", "confusion.png", "worst"}
    report = json.loads((scored / "detection.json").read_text())
    counts = json.loads((scored / "confusion.json").read_text())["counts"]
    red, blue = (each["boxes"] for each in report["per_class"])
    assert counts == [[red, 0, 0], [blue, 0, 0], [0, 0, 0]]
    assert len(list((scored / "worst").iterdir())) == len(report["worst_images"]) == 4
    assert "scored is not empty" in nascli(f"detect score {results} --coco --out scored").err


def test_of_many_classes_the_best_and_the_worst_are_shown(nascli: Nascli) -> None:
    values = json.loads(VAL.read_text())
    values["categories"] = categories() + [{"id": 100 + k, "name": f"thing {k}"} for k in range(30)]
    boxes = [annotation(1000 + k, 1 + k % 4, 100 + k, [k, k, 20, 20]) for k in range(30)]
    values["annotations"] = boxes
    VAL.write_text(json.dumps(values))
    right = [each for each in boxes if each["category_id"] < 110]
    keys = ("image_id", "category_id", "bbox")
    Path("found.json").write_text(json.dumps([{key: each[key] for key in keys} | {"score": 1} for each in right]))
    shown = nascli(f"detect score found.json --dataset coco:{VAL}").out
    best, worst = shown.split("the worst 5")
    assert "the best 5 of 30 classes with boxes" in best
    assert "thing 0 " in best
    assert "thing 29" in worst
    assert "thing 15" not in shown
    assert len(nascli(f"detect score found.json --dataset coco:{VAL} --json").json["per_class"]) == 32


@pytest.mark.parametrize(
    ("line", "code", "phrases"),
    [
        ("check --epochs 3", 2, ["No such option: --epochs"]),
        ("check --predict a.png", 2, ["No such option: --predict"]),
        ("check show", 2, ["extra argument"]),
        ("check --device cpu", 2, ["No such option: --device"]),
        ("check --dry-run", 2, ["No such option: --dry-run"]),
        ("show --seed 0", 2, ["No such option: --seed"]),
        ("show --augmented --coco --recipe digit-scenes", 2, ["neither train.flip nor train.scale_jitter"]),
        ("--coco --augmented", 2, ["No such option: --augmented"]),
        ("score none.json --coco", 2, ["results none.json: No such file", "A COCO results file is a list"]),
        ("score cell.json --coco", 2, ["cell.json: JSON, but not a list"]),
        ("score cell.json --threshold 0.5", 2, ["No such option: --threshold"]),
        ("score", 2, ["Missing argument 'RESULTS.json|RUN|latest'"]),
        ("check --resume latest", 2, ["No such option: --resume"]),
        ("check --coco --data-dir nowhere", 2, ["nowhere/coco: no such file or folder"]),
        ("chekc --coco", 2, ["No such command 'chekc'", "Did you mean 'check'"]),
    ],
)
def test_wrong_usage(nascli: Nascli, line: str, code: int, phrases: list[str]) -> None:
    ran = nascli(f"detect {line}")
    assert (ran.code, ran.out) == (code, "")
    for phrase in phrases:
        assert phrase in ran.err


def test_foreign_results_name_their_entry(nascli: Nascli) -> None:
    Path("found.json").write_text('[{"image_id": 77, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 1}]')
    ran = nascli("detect score found.json --coco")
    assert (ran.code, ran.out) == (2, "")
    assert "entry 0: image_id is 77" in ran.err
    assert "data/coco/annotations/instances_val2017.json" in ran.err
