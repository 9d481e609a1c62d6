"""What the fuzz tests found, each as a test of its own."""

import json
from pathlib import Path

from tests.cli.program import Nascli
from tests.front_door.made import write_coco, write_json


def test_a_class_of_the_validation_split_alone_is_listed(nascli: Nascli) -> None:
    folder = write_coco(Path("scenes"), names=("cat", "dog", "cow"), boxes=3)
    path = folder / "annotations" / "instances_train2017.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    values["categories"].pop()
    values["annotations"] = [each for each in values["annotations"] if each["category_id"] < 3]
    write_json(path, values)
    ran = nascli("data check coco:scenes")
    assert ran.code == 2
    assert "'cow' is here alone" in ran.out
