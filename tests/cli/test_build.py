"""`nascli build` with real files."""

import json
from pathlib import Path

import pytest

from nascli.cli.app import main
from nascli.genotype.sources import zoo_genotype
from nascli.models.spec import read_network


def test_json_is_one_object_with_the_exact_counts(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["build", "--cell", "nasnet-a", "--preset", "imagenet-mobile", "--json"])
    values = json.loads(capsys.readouterr().out)
    assert values["params"] == 5_289_978
    assert values["params_auxiliary"] == 2_411_240
    assert values["mult_adds"] == 563_638_816
    assert values["image_size"] == 224


def test_table_by_cell_and_network_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cell = tmp_path / "best.json"
    cell.write_text(zoo_genotype("darts-v2").to_json())
    numbers = ["--filters", "8", "--cells-per-stage", "1", "--classes", "5", "--image-size", "16"]
    with pytest.raises(SystemExit) as caught:
        main(["build", "--cell", str(cell), *numbers, "--out", str(tmp_path / "net")])
    assert caught.value.code in (0, None)
    printed = capsys.readouterr()
    assert "stage 2 reduction" in printed.out
    assert "16×16 px" in printed.out
    assert f"nascli train --cell {tmp_path}/net/network.json" in printed.err
    spec = read_network(tmp_path / "net" / "network.json")
    assert (spec.filters, spec.cells_per_stage, spec.classes, spec.image_size) == (8, 1, 5, 16)
    with pytest.raises(SystemExit) as caught:
        main(["build", "--cell", str(cell), "--out", str(tmp_path / "net")])
    assert caught.value.code == 2
    assert "--overwrite" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "phrase"),
    [
        (["--cell", "nasnet-z"], 2, "neither a file nor a published cell. Did you mean nasnet-a?"),
        (["--cell", "gone.json"], 2, "gone.json: No such file"),
        (["--cell", "cut.json"], 1, "cut.json is not JSON"),
        (["--cell", "newer.json"], 2, "newer.json: schema 2 is newer than this nascli reads (1). Upgrade nascli"),
        (["--cell", "op.json"], 2, "op.json: normal.blocks[0].ops: unknown op 'sep_conv_4x4'"),
        (["--cell", "nasnet-a", "--filters", "0"], 2, "filters = 0"),
        (
            ["--cell", "nasnet-a", "--preset", "imagenet-large", "--image-size", "16"],
            2,
            "too small for the ImageNet stem",
        ),
        (["--cell", "nasnet-a", "--preset", "huge"], 2, "huge"),
        (["--cell", "nasnet-a", "--out", "cut.json"], 1, "cut.json/network.json cannot be written"),
    ],
)
def test_wrong_usage(arguments: list[str], code: int, phrase: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = zoo_genotype("nasnet-a").to_json()
    Path("cut.json").write_text(text[:200])
    Path("newer.json").write_text(text.replace('"schema": 1', '"schema": 2'))
    Path("op.json").write_text(text.replace("sep_conv_5x5", "sep_conv_4x4", 1))
    with pytest.raises(SystemExit) as caught:
        main(["build", *arguments])
    printed = capsys.readouterr()
    assert caught.value.code == code
    assert phrase in " ".join(printed.err.split())
    assert "Traceback" not in printed.err
    assert printed.out == ""


def test_best_json_that_is_not_here_is_the_newest_searchs(capsys: pytest.CaptureFixture[str]) -> None:
    newest = Path("runs/search/latest")
    newest.mkdir(parents=True)
    (newest / "best.json").write_text(zoo_genotype("enas").to_json())
    with pytest.raises(SystemExit):
        main(["build", "--cell", "best.json", "--json"])
    printed = capsys.readouterr()
    assert json.loads(printed.out)["cell"] == "enas"
    assert "taken from" in printed.err
