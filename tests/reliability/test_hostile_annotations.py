"""Annotations, labels and tables made to exhaust their reader, or that name what is no data: one line, quickly."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.program import Nascli, exit_code
from tests.front_door.made import Lists, quote, write_coco, write_perfect_results
from tests.reliability.bounded import bounded

YAML = "train: images/train\nval: images/val\n"
NAMES = "names: [cat]\n"
XML = "<annotation><filename>0.png</filename><size><width>8</width><height>8</height></size>{}</annotation>"
BOX = "<object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4</xmax><ymax>4</ymax></bndbox></object>"
DEEP = 300_000


@pytest.fixture(scope="module", autouse=True)
def _imported(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Imports are no part of what is measured."""
    data = write_coco(tmp_path_factory.mktemp("imported") / "data")
    exit_code("data", "check", f"coco:{data}")


@pytest.mark.parametrize(
    ("header", "command"),
    [("file_name,label", "data check csv:{}"), ("filename,class,xmin,ymin,xmax,ymax", "detect check --dataset csv:{}")],
)
def test_a_quote_that_never_ends_is_found_in_its_line(
    header: str, command: str, tmp_path: Path, nascli: Nascli
) -> None:
    table = tmp_path / "boxes.csv"
    row = "0.png,cat,1,1,4,4\n" if "xmin" in header else "0.png,cat\n"
    table.write_text(f'{header}\n{row}"' + "x,y\n" * 2_000_000)
    with bounded(20, mebibytes=100):
        ran = nascli(command.format(quote(table)))
    assert ran.code == 1
    assert f"{table}, line 3" in ran.err


def test_a_label_file_of_a_million_lines_is_an_issue(tmp_path: Path, nascli: Nascli) -> None:
    for part in ("images", "labels"):
        (tmp_path / part / "train").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "images/train/0.png")
    (tmp_path / "labels/train/0.txt").write_text("0 0.5 0.5 0.2 0.2\n" * 1_000_000)
    (tmp_path / "data.yaml").write_text(f"train: images/train\nval: images/train\n{NAMES}")
    with bounded(20):
        ran = nascli(f"detect check --dataset yolo:{quote(tmp_path)}")
    assert ran.code == 2
    assert "0.txt: 1,000,000 lines" in ran.out + ran.err


def _laugh(first: str, level: str, end: str) -> str:
    """Lists of nine aliases of the list before, thirty times."""
    levels = [level.format(k=k, before=", ".join([f"*a{k - 1}"] * 9)) for k in range(1, 30)]
    return "\n".join([first, *levels, end])


LISTS, MAPS = ("a0: &a0 [x, x]", "a{k}: &a{k} [{before}]"), ("a0: &a0 {x: y}", "a{k}: &a{k} {{<<: [{before}]}}")
DESCRIPTIONS: dict[str, Callable[[], str]] = {
    "names that grow": lambda: _laugh(*LISTS, f"{YAML}names: *a29\n"),
    "folders that grow": lambda: _laugh(*LISTS, f"train: *a29\nval: images/val\n{NAMES}"),
    "keypoints that grow": lambda: _laugh(*LISTS, f"{YAML}{NAMES}kpt_shape: *a29\n"),
    "mappings that grow": lambda: _laugh(*MAPS, YAML + NAMES),
    "a list in itself": lambda: f"{YAML}names: &a [*a]\n",
    "a mapping in itself": lambda: f"&a\ntrain: *a\nval: images/val\n{NAMES}",
    "brackets": lambda: "names: " + "[" * DEEP,
    "megabytes": lambda: YAML + NAMES + "x: [" + "a, " * 500_000 + "]\n",
    "classes by number": lambda: f"{YAML}nc: 1000000000\n",
    "classes of 9,000 digits": lambda: f"{YAML}nc: {'9' * 9000}\n",
    "a name far away": lambda: f"{YAML}names: {{0: cat, 1000000000: dog}}\n",
    "the whole disk": lambda: f"train: /\nval: images/val\n{NAMES}",
    "the whole disk, by its path": lambda: f"path: /\ntrain: .\nval: images/val\n{NAMES}",
    "the whole disk, above": lambda: f"train: {'../' * 40}\nval: images/val\n{NAMES}",
    "processes": lambda: f"train: /proc\nval: images/val\n{NAMES}",
    "devices": lambda: f"train: [images/train, /sys/devices]\nval: images/val\n{NAMES}",
    "the disk of a process": lambda: f"train: /proc/self/root\nval: images/val\n{NAMES}",
}


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    for split in ("train", "val"):
        for folder in ("images", "labels"):
            (tmp_path / folder / split).mkdir(parents=True)
        Image.new("RGB", (8 + len(split), 8)).save(tmp_path / "images" / split / "0.png")
        (tmp_path / "labels" / split / "0.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    return tmp_path


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_a_description_that_grows_or_leads_to_the_whole_disk_is_refused(name: str, yolo: Path, nascli: Nascli) -> None:
    (yolo / "data.yaml").write_text(DESCRIPTIONS[name]())
    with bounded(20, 700):
        ran = nascli(f"data check yolo:{quote(yolo)}")
    assert ran.code in (1, 2)
    assert "data.yaml" in ran.err or "operating system" in ran.err
    assert "did not expect" not in ran.err


def test_a_label_of_a_class_far_away_makes_no_list_of_so_many_classes(yolo: Path, nascli: Nascli) -> None:
    (yolo / "data.yaml").write_text(YAML)
    (yolo / "labels" / "train" / "0.txt").write_text("2000000000 0.5 0.5 0.2 0.2\n")
    with bounded(20, 700):
        ran = nascli(f"data check yolo:{quote(yolo)}")
    assert ran.code == 2
    assert "2,000,000,001 classes" in ran.err


def test_an_alias_of_a_word_is_read(yolo: Path, nascli: Nascli) -> None:
    (yolo / "data.yaml").write_text(f"train: &here images/train\nval: *here\n{NAMES}")
    assert nascli(f"data check yolo:{quote(yolo)} --json").json["splits"][0]["images"] == 1


@pytest.mark.parametrize(
    "where", ["voc:/", "yolo:/proc", "coco:/", "folder:/", "folder:/usr", "folder:/proc/self/root"]
)
def test_the_whole_disk_is_no_data_set(where: str, nascli: Nascli) -> None:
    with bounded(20, 700):
        ran = nascli(f"data check {where}")
    assert ran.code == 2
    assert where.partition(":")[2] in ran.err


DOCUMENTS: dict[str, Callable[[], str]] = {
    "attributes": lambda: (
        "<!DOCTYPE annotation [<!ATTLIST object {}>]>".format(" ".join(f"a{k} CDATA '{'x' * 20}'" for k in range(5000)))
        + XML.format(BOX * 5000)
    ),
    "an attribute": lambda: f"<!DOCTYPE a [<!ATTLIST object a CDATA '{'x' * 10_000_000}'>]>" + XML.format(BOX * 500),
    "an entity": lambda: f"<!DOCTYPE a [<!ENTITY x '{'x' * 100_000}'>]>" + XML.format("&x;" * 100_000),
    "a file": lambda: "<!DOCTYPE a [<!ENTITY % x SYSTEM 'file:///dev/zero'> %x;]>" + XML.format(BOX),
    "elements": lambda: XML.format("<a>" * 100_000 + "</a>" * 100_000),
    "objects": lambda: XML.format("<object>" * 100_000 + "</object>" * 100_000),
    "no end": lambda: "<annotation>" + "<a>" * 1_000_000,
}


def _write_voc(folder: Path, document: str) -> Path:
    (folder / "Annotations").mkdir()
    (folder / "JPEGImages").mkdir()
    for k, content in enumerate((document, XML.format(BOX))):
        Image.new("RGB", (8, 8)).save(folder / "JPEGImages" / f"{k}.png")
        (folder / "Annotations" / f"{k}.xml").write_text(content)
    return folder


@pytest.mark.parametrize("name", DOCUMENTS)
def test_an_xml_file_that_grows_is_one_issue(name: str, tmp_path: Path, nascli: Nascli) -> None:
    data = _write_voc(tmp_path, DOCUMENTS[name]())
    with bounded(20, 700):
        ran = nascli(f"data check voc:{quote(data)} --json")
    assert ran.code == 2
    issues = [each for split in ran.json["splits"] for each in split["issues"]]
    refused = [each for each in issues if each["kind"] == "XML file cannot be read"]
    assert [each["count"] for each in refused] == [1]
    assert "0.xml" in refused[0]["first"]


def test_as_many_names_as_objects_take_no_time(tmp_path: Path, nascli: Nascli) -> None:
    names = "".join(BOX.replace("cat", f"c{k}") for k in range(15_000))
    data = _write_voc(tmp_path, XML.format(names))
    with bounded(20, 700):
        assert nascli(f"data check voc:{quote(data)}").code in (0, 2, 3)


@pytest.mark.parametrize("line", ['{"file_name": ' + "[" * DEEP, '{"label": ' + "9" * DEEP, '{"a":' * DEEP])
@pytest.mark.parametrize("before", ["", '{"file_name": "0.png", "label": "a"}\n'])
def test_a_line_of_json_without_an_end_is_named(before: str, line: str, tmp_path: Path, nascli: Nascli) -> None:
    (tmp_path / "train").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "train" / "0.png")
    (tmp_path / "train" / "metadata.jsonl").write_text(before + line + "\n")
    with bounded(20, 700):
        ran = nascli(f"data check folder:{quote(tmp_path)}")
    assert ran.code in (1, 2)
    assert "metadata.jsonl" in ran.err
    assert "did not expect" not in ran.err


def test_a_hundred_thousand_columns_are_not_all_said(tmp_path: Path, nascli: Nascli) -> None:
    table = tmp_path / "labels.csv"
    table.write_text(",".join(f"c{k}" for k in range(100_000)) + "\n" + "1," * 99_999 + "1\n")
    with bounded(20, 700):
        ran = nascli(f"data check csv:{quote(table)}")
    assert ran.code == 2
    assert "labels.csv" in ran.err
    assert len(ran.err) < 1000


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "/dev/zero", "/dev/stdin", "/proc", "a/" * 50_000, "file://%00/"])
def test_an_impossible_name_of_an_image_is_an_issue(name: str, tmp_path: Path, nascli: Nascli) -> None:
    def rename(split: str, lists: dict[str, list[dict[str, object]]], place: Path) -> None:
        lists["images"][0]["file_name"] = name

    data = write_coco(tmp_path / "data", rename)
    table = tmp_path / "boxes.csv"
    table.write_text(f"filename,class,xmin,ymin,xmax,ymax\n{name},cat,1,1,4,4\n")
    for line in (f"coco:{quote(data)}", f"csv:{quote(table)}"):
        with bounded(20, 700):
            ran = nascli(f"data check {line} --json")
        assert ran.code in (1, 2)
        assert json.dumps(name)[1:-1][:4] in ran.out
        assert '"unexpected"' not in ran.out


@pytest.mark.parametrize("number", [2**63, -(10**400), 1e300])
@pytest.mark.parametrize(
    ("group", "key"),
    [
        *(("images", key) for key in ("id", "width", "height")),
        *(("annotations", key) for key in ("id", "image_id", "category_id", "area", "iscrowd", "bbox")),
        ("categories", "id"),
    ],
)
def test_a_number_of_more_than_64_bits_is_an_issue(
    group: str, key: str, number: float, tmp_path: Path, nascli: Nascli
) -> None:
    value = [number] * 4 if key == "bbox" else number
    write_coco(tmp_path / "data", lambda split, lists, place: lists[group][0].update({key: value}))
    ran = nascli(f"data check coco:{quote(tmp_path / 'data')} --quick --json")
    assert ran.code in (2, 3)
    assert "did not expect" not in ran.err
    assert "Warning" not in ran.err


@pytest.mark.parametrize("area", [-1, 1e11])
def test_an_area_that_no_box_has_takes_no_box_out_of_the_score(area: float, tmp_path: Path, nascli: Nascli) -> None:
    def change(split: str, lists: Lists, place: Path) -> None:
        for each in lists["annotations"]:
            each["area"] = area

    data = write_coco(tmp_path / "data", change)
    write_perfect_results(data)
    ran = nascli(f"detect score {quote(data / 'results.json')} --dataset coco:{quote(data)} --json")
    assert (ran.code, ran.json["ap"]) == (0, 1.0), ran.err
    assert "area of no box" in ran.err


def test_a_result_that_nothing_can_hold_is_not_scored(tmp_path: Path, nascli: Nascli) -> None:
    data = write_coco(tmp_path / "data")
    write_perfect_results(data)
    found = json.loads((data / "results.json").read_text())
    for number, box in enumerate(([0, 0, 1e300, 1e300], [1e308, 0, 1e308, 5], [0, 0, 10**9, 10**9])):
        found.append({**found[number], "bbox": box, "score": 0.1})
    (data / "results.json").write_text(json.dumps(found))
    ran = nascli(f"detect score {quote(data / 'results.json')} --dataset coco:{quote(data)} --json")
    assert (ran.code, ran.json["ap"]) == (0, 1.0), ran.err
    assert "3 skipped" in ran.err
    assert "Warning" not in ran.err
