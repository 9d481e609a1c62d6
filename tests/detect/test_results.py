"""Other tools' results files: entries that are detections, and those that are none."""

from pathlib import Path

import pytest

from nascli.detect.results import read_results
from nascli.errors import CorruptFileError, InputError
from tests.detect.test_coco_eval import ONE, found


def test_a_results_file_is_read_whatever_else_stands_in_it(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text('[{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3.5, 0], "score": 1, "segmentation": []}]')
    read = read_results(path, ONE)
    assert read.detections == [found(1, 2, [1.0, 2.0, 3.5, 0.0], 1.0)]
    assert read.issues == ()


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("{}", "JSON, but not a list"),
        ("[3]", "entry 0 is 3, not an object"),
        ('[{"image_id": true, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 1}]', "entry 0: image_id is True"),
        ('[{"image_id": 1, "bbox": [1, 2, 3, 4], "score": 1}]', "entry 0: category_id is None"),
        ('[{"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 1}]', "entry 0: category_id is 3"),
        ('[{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3], "score": 1}]', "bbox is \\[1, 2, 3\\]"),
        ('[{"image_id": 1, "category_id": 2, "bbox": [1, 2, NaN, 4], "score": 1}]', "not four finite numbers"),
        ('[{"image_id": 1, "category_id": 2, "bbox": [9, 9, -3, 4], "score": 1}]', "negative width or height"),
        ('[{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4]}]', "score is None"),
        ('[{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "score": Infinity}]', "score is inf"),
    ],
)
def test_faults_of_a_results_file(tmp_path: Path, text: str, phrase: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"results\.json.*{phrase}"):
        read_results(path, ONE)


def test_a_results_file_that_is_cut_off_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    with pytest.raises(InputError, match="No such file"):
        read_results(path, ONE)
    path.write_text('[{"image_id": 1')
    with pytest.raises(CorruptFileError, match="are not JSON"):
        read_results(path, ONE)
