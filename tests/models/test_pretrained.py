"""Weights of other tools: their outputs, from files that they wrote; misfits named by entry.

Each peer builds its network with random weights and random batch-norm statistics. Two tools pad strided pools in
ways of their own (see the module's docstring), which an import takes over.
"""

import json
import shlex
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

import nascli
from nascli.cli.app import main
from nascli.config import CellNetworkConfig
from nascli.data.streaming import ImageFiles
from nascli.data.transforms import Normalizer
from nascli.errors import CorruptFileError, InputError
from nascli.genotype.resolve import zoo_genotype
from nascli.models.cells.network import CellNetwork
from nascli.models.cells.pretrained import PREPROCESSING, Tool
from nascli.models.cells.spec import CellNetworkSpec
from nascli.models.pretrained import import_network
from tests.cells import resolve_cells
from tests.detect.coco_folder import write_coco

PEERS = Path(__file__).with_name("reference_networks.py")

# Sizes whose maps are odd and even where those of the native size are: there pretrained-models pads as TensorFlow does.
CASES = [
    # tool, its network, image size, cell, preset, kinds of strided pools that it pads with zeros
    ("timm", "nasnetalarge", 75, "nasnet-a", "imagenet-large", ("avg",)),
    pytest.param("timm", "pnasnet5large", 75, "pnasnet-5", "pnasnet-large", (), marks=pytest.mark.slow),
    pytest.param("pretrainedmodels", "nasnetalarge:1001", 75, "nasnet-a", "imagenet-large", (), marks=pytest.mark.slow),
    ("pretrainedmodels", "nasnetamobile", 96, "nasnet-a", "imagenet-mobile", ()),
    ("pretrainedmodels", "pnasnet5large", 75, "pnasnet-5", "pnasnet-large", ()),
    pytest.param("keras", "NASNetMobile", 96, "nasnet-a", "imagenet-mobile", ("avg", "max"), marks=pytest.mark.slow),
    pytest.param("keras", "NASNetLarge", 75, "nasnet-a", "imagenet-large", ("avg", "max"), marks=pytest.mark.slow),
]


def spec_for(cell: str, preset: str, size: int) -> CellNetworkSpec:
    config = CellNetworkConfig.model_validate({"preset": preset, "image_size": size})
    return resolve_cells(zoo_genotype(cell), config)


@pytest.mark.parametrize(("tool", "name", "size", "cell", "preset", "zeros"), CASES)
def test_the_peers_outputs(
    tool: str,
    name: str,
    size: int,
    cell: str,
    preset: str,
    zeros: tuple[str, ...],
    tmp_path: Path,
) -> None:
    out = tmp_path / "peer"
    subprocess.run([sys.executable, "-W", "ignore", str(PEERS), tool, name, str(size), str(out)], check=True)
    weights = next(path for path in tmp_path.iterdir() if path.suffix != ".npz")
    network, imported = import_network(weights, spec_for(cell, preset, size))
    assert isinstance(network, CellNetwork)
    assert ("Keras" in imported.name) == (tool == "keras")
    alike = tool == "timm" or name == "pnasnet5large"  # with 1000 classes the two tools' files of large networks are
    assert imported.tool == ("timm" if alike else {"keras": "Keras Applications"}.get(tool, "pretrained-models"))
    assert network.spec.zero_padded_pools == zeros
    held = np.load(out.with_suffix(".npz"))
    expected = torch.from_numpy(held["logits"])[:, -1000:]  # a background class is dropped
    with torch.no_grad():
        ours = network(torch.from_numpy(held["images"]))
    assert float((ours - expected).abs().max() / expected.abs().max()) < 1e-5


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small file in the common naming, made from one of our networks by the module's own names."""
    path = tmp_path_factory.mktemp("weights") / "peer.pth"
    subprocess.run(
        [sys.executable, "-W", "ignore", str(PEERS), "pretrainedmodels", "nasnetamobile", "96", str(path)[:-4]],
        check=True,
    )
    return path


def test_safetensors_and_wrapped_files_are_read_alike(file: Path, tmp_path: Path) -> None:
    state = torch.load(file, weights_only=True)
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "a.safetensors")
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "b.pth")
    networks = []
    for path in (file, tmp_path / "a.safetensors", tmp_path / "b.pth"):
        network, _ = import_network(path, spec_for("nasnet-a", "imagenet-mobile", 96))
        networks.append({k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")})
    for other in networks[1:]:
        assert all(torch.equal(other[key], value) for key, value in networks[0].items())


def test_build_writes_a_folder_that_loads(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mobile"
    common = ["build", "--cell", "nasnet-a", "--preset", "imagenet-mobile", "--image-size", "96"]
    with pytest.raises(SystemExit) as end:
        main([*common, "--import-weights", str(file), "--out", str(out)])
    assert end.value.code in (0, None)
    assert "a file of timm or pretrained-models, NASNet" in capsys.readouterr().err
    held = np.load(file.with_suffix(".npz"))
    with torch.no_grad():
        ours = nascli.load_network(out)(torch.from_numpy(held["images"]))
    torch.testing.assert_close(ours, torch.from_numpy(held["logits"]), rtol=1e-4, atol=1e-4)
    with pytest.raises(SystemExit) as end:
        main([*common, "--import-weights", str(file)])
    assert end.value.code == 2
    assert "--import-weights needs --out" in capsys.readouterr().err


def peer_transform(tool: Tool, name: str) -> Callable[[Image.Image], Tensor]:
    """An image as the tool itself prepares it for a network."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old code
        timm, cadene = import_module("timm"), import_module("pretrainedmodels.utils")
        settings = import_module("pretrainedmodels").pretrained_settings
    transform: Callable[[Image.Image], Tensor]
    if tool == "timm":
        config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
        transform = timm.data.create_transform(**config)
    else:
        transform = cadene.TransformImage(settings[name]["imagenet"])
    return transform


@pytest.mark.parametrize("shape", [(450, 600), (500, 333)])
@pytest.mark.parametrize(
    ("tool", "name", "size"),
    [
        ("timm", "nasnetalarge", 331),
        ("timm", "pnasnet5large", 331),
        ("pretrained-models", "nasnetalarge", 331),
        ("pretrained-models", "pnasnet5large", 331),
        ("pretrained-models", "nasnetamobile", 224),
    ],
)
def test_images_are_prepared_as_the_tool_itself_does(
    tool: Tool, name: str, size: int, shape: tuple[int, int], tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    paths, labels = (tmp_path / "a.png",), torch.zeros(1, dtype=torch.int64)
    files = ImageFiles(paths, labels, size, workers=0, preprocessing=PREPROCESSING[tool])
    (images, _), *_ = files.evaluation_batches(1)
    ours = Normalizer((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))(images)[0]
    torch.testing.assert_close(ours, peer_transform(tool, name)(Image.fromarray(pixels)), rtol=0, atol=1e-6)


def call(line: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    with pytest.raises(SystemExit) as end:
        main(shlex.split(line))
    captured = capsys.readouterr()
    return int(end.value.code or 0), captured.out, " ".join(captured.err.split())


def write_large_images(folder: Path, names: Iterable[str]) -> None:
    """One image per class to train on, one to test on, too large to be held in memory."""
    noise = np.random.default_rng(0)
    for name in names:
        for part in ("train", "val"):
            (folder / part / name).mkdir(parents=True)
            pixels = noise.integers(0, 256, (150, 200, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / part / name / "a.png")


def loss_by_hand(folder: Path, places: dict[str, int]) -> float:
    """The shorter side to round(96 / 0.875) = 110 pixels, 96 out of the middle, to [-1, 1]."""
    images = []
    for name in places:
        image = Image.open(folder / "val" / name / "a.png").resize((146, 110), Image.Resampling.BILINEAR)
        images.append(torch.from_numpy(np.array(image.crop((25, 7, 121, 103)))).permute(2, 0, 1) / 127.5 - 1)
    with torch.no_grad():
        logits = nascli.load_network("mobile")(torch.stack(images))
    return float(F.cross_entropy(logits, torch.tensor(list(places.values()))))


def test_what_build_wrote_is_evaluated_on_a_part_of_imagenet(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    line = f"build --cell nasnet-a --preset imagenet-mobile --image-size 96 --import-weights {file} --out mobile"
    code, _, err = call(line, capsys)
    assert code == 0, err
    assert "images will be prepared as pretrained-models does it" in err
    assert "next: nascli evaluate mobile --dataset imagenet" in err
    written = json.loads(Path("mobile/network.json").read_text())["preprocessing"]
    assert written == {"resize": "shorter_side", "crop": 0.875, "interpolation": "bilinear"}
    places = {"n01440764": 0, "n02123045": 281, "n15075141": 999}  # tench, tabby cat, toilet tissue
    write_large_images(Path("part"), places)
    code, out, err = call("evaluate mobile --dataset folder:part --json", capsys)
    assert code == 0, err
    found = json.loads(out)
    assert found["loss"] == pytest.approx(loss_by_hand(Path("part"), places), rel=1e-4)
    assert (found["images"], found["classes"], found["classes_in_images"]) == (3, 1000, 3)
    assert found["preprocessing"] == {"image_size": 96, **written, "mean": [0.5] * 3, "std": [0.5] * 3}
    write_large_images(Path("pets"), ("cat", "n02123045"))
    code, _, err = call("evaluate mobile --dataset folder:pets", capsys)
    assert code == 2
    assert "mobile was trained for 1000 classes, data set folder:pets has 2. Give --dataset one with as many" in err
    monkeypatch.setitem(sys.modules, "timm.data.imagenet_info", None)  # as where it is not installed
    code, _, err = call("evaluate mobile --dataset folder:part", capsys)
    assert code == 2
    assert "some are enough where timm is installed" in err


@pytest.mark.parametrize("head", ["fpn", "nasnet"])
def test_what_build_wrote_detects(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], head: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_coco(Path("data/coco"), train=2, val=1)
    line = f"build --cell nasnet-a --preset imagenet-mobile --image-size 96 --import-weights {file} --out mobile"
    assert call(line, capsys)[0] == 0
    sizes = "--set detector.roi_size=5 --set detector.box_batch_size_per_image=6 --set detector.freeze_batch_norm=true"
    steps = "--recipe digit-scenes --proposals 10 --batch-size 1 --epochs 1 --lr 1e-3 --out run"
    code, out, err = call(f"detect --coco --backbone mobile --head {head} {sizes} {steps} --json", capsys)
    assert code == 0, err
    assert "backbone nasnet-a: weights of mobile" in err
    report = json.loads(out)
    assert (report["steps"], report["images"], report["cell"]) == (2, 1, "nasnet-a")
    code, out, err = call("detect predict data/coco/val2017/0001.png --run run --threshold 0 --json", capsys)
    assert code == 0, err
    assert len(json.loads(out)["images"]) == 1


def test_a_file_that_does_not_fit_names_missing_surplus_and_misshaped(file: Path, tmp_path: Path) -> None:
    state = torch.load(file, weights_only=True)
    del state["conv0.bn.weight"]
    state["extra.weight"] = torch.zeros(1)
    state["last_linear.bias"] = torch.zeros(7)
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(InputError) as caught:
        import_network(tmp_path / "odd.pth", spec_for("nasnet-a", "imagenet-mobile", 96))
    message = str(caught.value)
    assert "1 missing, first conv0.bn.weight" in message
    assert "1 surplus, first extra.weight" in message
    assert "1 misshaped, first last_linear.bias (the file has [7], the network [1000])" in message


def test_the_wrong_size_is_refused(file: Path) -> None:
    with pytest.raises(InputError, match="Choose the --cell and --preset"):
        import_network(file, spec_for("nasnet-a", "imagenet-large", 75))


class Evil:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return exec, ("from pathlib import Path; Path('canary').touch()",)


def test_a_file_never_runs_code(tmp_path: Path) -> None:
    torch.save({"conv0.conv.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(CorruptFileError, match="hold more than tensors"):
        import_network(tmp_path / "evil.pth", spec_for("nasnet-a", "imagenet-mobile", 96))
    assert not Path("canary").exists()


@pytest.mark.parametrize(
    ("name", "content", "error", "phrase"),
    [
        ("gone.pth", None, InputError, "no such file"),
        ("cut.pth", b"PK\x03\x04abc", CorruptFileError, "cut.pth"),
        ("cut.h5", b"not hdf", InputError, "a text that begins with 'not hdf'"),
        ("cut.safetensors", b'\2\0\0\0\0\0\0\0{"', CorruptFileError, "are damaged"),
        ("weights.npz", b"", CorruptFileError, "an empty file"),
    ],
)
def test_unreadable_files(
    name: str, content: bytes | None, error: type[Exception], phrase: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=phrase):
        import_network(tmp_path / name, spec_for("nasnet-a", "imagenet-mobile", 96))


def test_foreign_entries_are_said(tmp_path: Path) -> None:
    torch.save({"layer1.weight": torch.zeros(1)}, tmp_path / "resnet.pth")
    with pytest.raises(InputError, match=r"not a file of timm.*it holds layer1\.weight"):
        import_network(tmp_path / "resnet.pth", spec_for("nasnet-a", "imagenet-mobile", 96))
