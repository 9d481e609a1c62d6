"""Files of other tools, changed at random: each is read, or refused in one line that names it."""

import json
import random
import shlex
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tests.front_door.made import draw_noise
from tests.reliability.begun import make_data, make_runs
from tests.reliability.harness import Bench, Rule, Tally, damage, write_at
from tests.reliability.zygote import Zygote

_SNIPPETS = (
    *(
        b"[" * 50_000,
        b"{" * 50_000,
        b'{"a":' * 20_000,
        b"9" * 6_000,
        b"-",
        b"1e999",
        b"NaN",
        b"\0",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
    ),
    *(b"&x;", b'<!DOCTYPE a [<!ENTITY x "yyyyyyyyyy"><!ENTITY z "&x;&x;&x;">]>', b"<a>" * 20_000, b"<![CDATA[", b"-->"),
    *(b"!!python/object/apply:os.system [id]", b"&a [*a, *a]", b"? ", b"{}: [", b"- - - -", b"\t", b"\r", b"\x1b[31m"),
    *(
        b"'''",
        b'"""',
        b"[[x]]",
        b"x.y.z = 1\n",
        b"lr = 1979-05-27\n",
        b'"' * 3,
        b",,,,",
        b'"\n',
        b"null",
        b"true",
        b"[]",
    ),
)
_WEIGHTS = "build --cell nasnet-a --preset imagenet-mobile --image-size 32 --out new --import-weights {}"
_CELL = "build --cell {} --filters 4 --cells-per-stage 1"
_TRAIN = (
    "train --cell nasnet-a --filters 4 --cells-per-stage 1 --dataset folder:images --device cpu --recipe {} --dry-run"
)
_IMAGE = ("evaluate train --predict {}", "evaluate train --predict {} --max-unreadable 1 --json")
_FORMATS = ("jpg", "png", "gif", "tif", "webp", "bmp", "ppm", "ico", "jp2")

_FILES: dict[str, tuple[str, ...]] = {
    **{f"foreign/{mode}.{end}": _IMAGE for end in _FORMATS for mode in ("rgb",)},
    **{f"foreign/{mode}.png": _IMAGE for mode in ("palette", "deep", "alpha", "bits")},
    **{f"foreign/{mode}.jpg": _IMAGE for mode in ("cmyk", "gray", "progressive", "turned")},
    **{f"foreign/{mode}.tif": _IMAGE for mode in ("lzw", "float", "pages")},
    "images/train/cat/000.png": (
        "data check folder:images",
        "pack images new.h5 --max-unreadable 1",
        "data show images --out new",
    ),
    "scenes/annotations/instances_val2017.json": (
        "data check coco:scenes",
        "detect score scenes/results.json --dataset coco:scenes",
        "data convert scenes --out new",
    ),
    "scenes/results.json": ("detect score scenes/results.json --dataset coco:scenes",),
    "yolo/data.yaml": ("data check yolo:yolo", "data check yolo"),
    "yolo/train/labels/000.txt": ("data check yolo:yolo", "data convert yolo --out new"),
    "voc/Annotations/000.xml": ("data check voc:voc", "data convert voc --out new"),
    "boxes.csv": ("data check csv:boxes.csv", "data check boxes.csv"),
    "table.csv": ("data check csv:table.csv", "data convert csv:table.csv --out new"),
    "foreign/weights.pth": (_WEIGHTS,),
    "foreign/old.pth": (_WEIGHTS,),
    "foreign/weights.safetensors": (_WEIGHTS,),
    "foreign/weights.h5": (_WEIGHTS,),
    "foreign/recipe.toml": (_TRAIN,),
    "foreign/cell.json": (_CELL, "decode {}", "decode {} --draw new.svg"),
    "foreign/darts.py": ("decode {}", "decode --from darts {}"),
    "pack.h5": ("data check pack:pack.h5",),
}
_RULE = Rule(codes=(1, 2, 3))


def make_foreign(folder: Path) -> None:
    """`foreign/`: a file of each kind; `yolo/`, `voc/`, `boxes.csv`, `table.csv`."""
    place = folder / "foreign"
    place.mkdir()
    _make_images(place)
    state = {"conv0.conv.weight": torch.ones(32, 3, 3, 3), "conv0.bn.weight": torch.ones(32)}
    torch.save(state, place / "weights.pth")
    torch.save(state, place / "old.pth", _use_new_zipfile_serialization=False)
    save_file(state, place / "weights.safetensors")
    with h5py.File(place / "weights.h5", "w") as file:
        group = file.create_group("stem_conv1/stem_conv1")
        group.create_dataset("kernel:0", data=np.ones((3, 3, 3, 32), np.float32))
        file.attrs["layer_names"] = [b"stem_conv1"]
        file["stem_conv1"].attrs["weight_names"] = [b"stem_conv1/kernel:0"]
    (place / "recipe.toml").write_text(
        "seed = 3\n[data]\nflip = true\n[train]\nlr = 0.1\nepochs = 2\nlr_milestones = [0.5]\n"
    )
    cell = json.loads((folder / "plain" / "network.json").read_text())["genotype"]
    (place / "cell.json").write_text(json.dumps(cell, indent=1))
    pairs = "('sep_conv_3x3', 0), ('skip_connect', 1), ('sep_conv_3x3', 0), ('skip_connect', 2)"
    (place / "darts.py").write_text(
        f"Genotype(normal=[{pairs}], normal_concat=range(2, 4), reduce=[{pairs}], reduce_concat=range(2, 4))\n"
    )
    _make_boxes(folder)


def _make_images(place: Path) -> None:
    image = draw_noise(3)
    for end in _FORMATS:
        image.save(place / f"rgb.{end}")
    image.quantize(16).save(place / "palette.png")
    Image.fromarray(np.asarray(image)[..., 0].astype(np.uint16) * 257).save(place / "deep.png")
    image.convert("RGBA").save(place / "alpha.png")
    image.convert("1").save(place / "bits.png")
    image.convert("CMYK").save(place / "cmyk.jpg")
    image.convert("L").save(place / "gray.jpg")
    image.save(place / "progressive.jpg", progressive=True)
    turned = image.getexif()
    turned[0x0112] = 6
    image.save(place / "turned.jpg", exif=turned)
    image.save(place / "lzw.tif", compression="tiff_lzw")
    image.convert("F").save(place / "float.tif")
    image.save(place / "pages.tif", save_all=True, append_images=[draw_noise(4)])


def _make_boxes(folder: Path) -> None:
    rows, labels = ["filename,width,height,class,xmin,ymin,xmax,ymax"], ["path,label,split"]
    for split in ("train", "valid"):
        for kind in ("images", "labels"):
            (folder / "yolo" / split / kind).mkdir(parents=True)
        for k in range(3):
            draw_noise(k).save(folder / "yolo" / split / "images" / f"{k:03d}.png")
            (folder / "yolo" / split / "labels" / f"{k:03d}.txt").write_text("0 0.5 0.5 0.25 0.25\n1 0.4 0.4 0.2 0.2\n")
    (folder / "yolo" / "data.yaml").write_text(
        "train: train/images\nval: valid/images\nnc: 2\nnames:\n  0: cat\n  1: 'dog'\n"
    )
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / "voc" / name).mkdir(parents=True)
    for k in range(4):
        draw_noise(k).save(folder / "voc" / "JPEGImages" / f"{k:03d}.png")
        box = "<bndbox><xmin>3</xmin><ymin>4</ymin><xmax>12</xmax><ymax>20</ymax></bndbox>"
        thing = f"<object><name>cat</name><difficult>0</difficult>{box}</object>"
        size = "<size><width>32</width><height>32</height><depth>3</depth></size>"
        (folder / "voc" / "Annotations" / f"{k:03d}.xml").write_text(
            f"<?xml version='1.0'?>\n<annotation><filename>{k:03d}.png</filename>{size}{thing}</annotation>\n"
        )
        rows.append(f"voc/JPEGImages/{k:03d}.png,32,32,{'cat' if k % 2 else 'dog'},3,4,12,20")
        labels.append(f"voc/JPEGImages/{k:03d}.png,{'cat' if k % 2 else 'dog'},{'train' if k < 3 else 'val'}")
    (folder / "voc" / "ImageSets" / "Main" / "train.txt").write_text("000\n001\n002\n")
    (folder / "voc" / "ImageSets" / "Main" / "val.txt").write_text("003\n")
    (folder / "boxes.csv").write_text("\n".join(rows) + "\n")
    (folder / "table.csv").write_text("\n".join(labels) + "\n")


def _change(content: bytes, others: list[bytes], draw: random.Random) -> tuple[str, bytes]:
    chance = draw.random()
    if chance < 0.1:
        size = draw.choice((1, 20, 3000))
        return f"{size} bytes of noise", draw.randbytes(size)
    if chance < 0.2:
        return "a head and noise", content[: draw.randint(1, 64)] + draw.randbytes(draw.choice((4, 2000)))
    if chance < 0.5:
        snippet, at = draw.choice(_SNIPPETS), draw.randrange(len(content) + 1)
        return f"{snippet[:20]!r} put at {at}", content[:at] + snippet + content[at:]
    return damage(content, others, draw)


def _try_foreign(bench: Bench, names: list[str], tries: int, tally: Tally) -> None:
    for seed in range(tries):
        name = names[seed % len(names)]
        draw = random.Random(f"foreign {name} {seed}")
        other = bench.begun / draw.choice([each for each in _FILES if (bench.begun / each).is_file()])
        what, content = _change((bench.begun / name).read_bytes(), [other.read_bytes()], draw)
        command = shlex.split(draw.choice(_FILES[name]).replace("{}", name))
        bench.attempt(tally, f"seed {seed}: {name}: {what}", write_at(name, content), command, _RULE, name)


def test_some_foreign_files(zygote: Zygote, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    folder = make_data(tmp_path / "begun")
    _make_boxes(folder)
    bench, tally = Bench(zygote, folder, tmp_path / "work", ["images"]), Tally("foreign files, some")
    _try_foreign(bench, [name for name in _FILES if name.startswith(("yolo", "voc", "boxes", "table"))], 15, tally)
    tally.check(record_property)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["images", "boxes and tables", "weights and cells", "pack"])
def test_foreign_files(
    zygote: Zygote, tmp_path: Path, record_property: Callable[[str, object], None], kind: str
) -> None:
    begun = make_runs(zygote, make_data(tmp_path / "begun"), "train", "built", "pack")
    make_foreign(begun)
    bench, tally = Bench(zygote, begun, tmp_path / "work"), Tally(f"foreign files: {kind}")
    names = [name for name in _FILES if _kind_of(name) == kind]
    _try_foreign(bench, names, 200, tally)
    tally.check(record_property)


def _kind_of(name: str) -> str:
    if name == "pack.h5":
        return "pack"
    if Path(name).suffix in (".json", ".yaml", ".txt", ".xml", ".csv") and not name.startswith("foreign"):
        return "boxes and tables"
    return (
        "weights and cells"
        if Path(name).suffix in (".pth", ".safetensors", ".h5", ".toml", ".json", ".py")
        else "images"
    )
