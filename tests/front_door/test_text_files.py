"""Text files as editors of all kinds save them: marks, line ends and encodings."""

from pathlib import Path

import pytest

from tests.cli.program import Nascli
from tests.front_door.made import TRAIN, write_classes

RECIPE = "seed = 7\n\n[train]\nlr = 0.0625\n"
MARKED = {
    "utf-8": RECIPE.encode("utf-8-sig"),
    "utf-16": RECIPE.encode("utf-16"),
    "big-endian": b"\xfe\xff" + RECIPE.encode("utf-16-be"),
    "windows line ends": RECIPE.replace("\n", "\r\n").encode("utf-8-sig"),
}


@pytest.mark.parametrize("content", MARKED.values(), ids=MARKED)
def test_a_recipe_with_a_byte_order_mark_is_read(nascli: Nascli, content: bytes) -> None:
    write_classes(Path("data"))
    Path("mine.toml").write_bytes(content)
    ran = nascli(f"{TRAIN} --dataset folder:data --recipe mine.toml --set train.lrate=1 --dry-run")
    assert ran.code == 2
    assert "lrate" in ran.err, "the file was read, so what is wrong are the options"
    assert "mine.toml" not in ran.err


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_networks_and_genotypes_with_a_mark_are_read(nascli: Nascli, classifier: str, encoding: str) -> None:
    for name in ("network.json", "run.json"):
        path = Path(classifier) / name
        path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))
    assert nascli(f"build --network {classifier} --json").json["cell"] == "nasnet-a"
    assert nascli(f"evaluate {classifier} --device cpu --json").code == 0
    nascli("decode nasnet-a --out cell.json")
    genotype = Path("cell.json").read_text(encoding="utf-8")
    Path("cell.json").write_bytes(genotype.encode(encoding))
    assert nascli("build --cell cell.json --json").code == 0


def test_another_encoding_is_named_with_its_place(nascli: Nascli) -> None:
    write_classes(Path("data"))
    Path("mine.toml").write_bytes("seed = 7\n# für Zürich\n".encode("cp1252"))
    ran = nascli(f"{TRAIN} --dataset folder:data --recipe mine.toml --dry-run")
    assert ran.code == 1
    assert "mine.toml is not text in UTF-8" in ran.err
    assert "line 2, column 4" in ran.err
    assert "iconv" in ran.err


def test_a_recipe_is_a_file_whatever_its_ending_and_a_folder_is_not_one(nascli: Nascli, classifier: str) -> None:
    write_classes(Path("data"))
    line = f"{TRAIN} --dataset folder:data --dry-run --json"
    Path("recipe.txt").write_text("[train]\nwarmup_epochs = 0\n", encoding="utf-8")
    assert nascli(f"{line} --recipe recipe.txt").code == 0
    ran = nascli(f"{line} --recipe {classifier}")
    assert ran.code == 2
    assert f"{classifier}/recipe.toml" in ran.err


NO_TEXTS = {
    "page.json": (b"<!doctype html><title>404</title>", "an HTML page"),
    "pointer.json": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "a Git LFS pointer"),
    "empty.json": (b"", "an empty file"),
    "picture.json": (b"\x89PNG\r\n\x1a\n" + bytes(64), "a PNG image"),
    "weights.json": (b'\x40\0\0\0\0\0\0\0{"a":1}' + bytes(range(256)), "a safetensors file"),
}


@pytest.mark.parametrize("name", NO_TEXTS)
def test_what_is_no_text_of_ours_is_named(nascli: Nascli, name: str) -> None:
    content, kind = NO_TEXTS[name]
    Path(name).write_bytes(content)
    Path(name).with_suffix(".toml").write_bytes(content)
    for line in (f"build --cell {name}", f"train --cell nasnet-a --recipe {Path(name).stem}.toml --dry-run"):
        if "recipe empty" in line:  # an empty recipe is one: everything has its default
            continue
        ran = nascli(line)
        assert ran.code == 1
        assert f"it is {kind}" in ran.err


def test_a_mistake_in_a_long_text_is_not_called_another_format(nascli: Nascli) -> None:
    Path("mine.toml").write_bytes(b"[train]\n" + b"# more\n" * 500 + "# für\n".encode("cp1252"))
    assert (
        "is not text in UTF-8: byte 0xfc in line 502"
        in nascli("train --recipe mine.toml --cell nasnet-a --dry-run").err
    )
    Path("mine.toml").write_text("[train]\nlr = \n", encoding="utf-8")
    ran = nascli("train --recipe mine.toml --cell nasnet-a --dry-run")
    assert "is not TOML: Invalid value (at line 2" in ran.err
