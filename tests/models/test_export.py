"""Exported files give the network's logits elsewhere, and say how to feed it; the engines of a network agree."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import fx, nn

import nascli
from nascli.errors import CannotWriteError, InputError, NascliError
from nascli.genotype.resolve import zoo_genotype
from nascli.models.cells.network import CellNetwork
from nascli.models.deploy import engines, export
from nascli.models.deploy.export import EXPORTS, describe, export_ir, export_onnx, export_program
from nascli.models.deploy.fuse import fold
from nascli.models.deploy.openvino import OpenvinoEngine
from nascli.models.deploy.timing import time_engines
from nascli.models.families import build_network
from nascli.models.serialization import save_weights
from nascli.models.spec import write_network
from tests.classify.small_training import GENOTYPE
from tests.fakes import hide_package
from tests.models.test_fuse import SIZES, difference, trained
from tests.published import CELL_NAMES

NAMES = ("cat", "cow", "dog")
NAMES_OF_MARKUP = ("<cat>", "\"cow\" & 'calf'", "Hündchen\n")


def network(**numbers: object) -> CellNetwork:
    made = trained(GENOTYPE, image_size=8, **numbers)
    made.spec = made.spec.model_copy(update={"class_names": NAMES, "mean": (0.1, 0.2, 0.3)})
    return made


def onnx_logits(path: Path, images: torch.Tensor) -> torch.Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"images": images.numpy()})
    return torch.from_numpy(logits)


def test_onnx_takes_any_batch_and_says_how_to_feed_it(tmp_path: Path) -> None:
    ours, path = network(), tmp_path / "new" / "model.onnx"
    made = export_onnx(ours, path)
    assert made.size == path.stat().st_size
    assert made.difference < 1e-5
    assert list(path.parent.iterdir()) == [path]
    for batch in (1, 5):
        images = torch.randn(batch, 3, 8, 8)
        assert difference(lambda images: onnx_logits(path, images), ours, images) < 1e-5
    with pytest.raises(Exception, match="Expected: 8"):  # the runtime's own, which is no class of its package
        onnx_logits(path, torch.randn(1, 3, 9, 9))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", 3, 8, 8]
    assert session.get_outputs()[0].shape == ["batch", 3]
    said = session.get_modelmeta().custom_metadata_map
    assert json.loads(said["class_names"]) == list(NAMES)
    assert json.loads(said["mean"]) == [0.1, 0.2, 0.3]
    assert json.loads(said["preprocessing"])["crop"] == 0.875
    assert said["cell"] == "tiny"
    assert str(Path(nascli.__file__).parent).encode() not in path.read_bytes()


def run_alone(script: str, ours: CellNetwork) -> str:
    """Have a script without nascli write `logits.npy` from `images.npy`, and compare them; what it prints."""
    images = torch.randn(5, 3, 8, 8)
    np.save("images.npy", images.numpy())
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    assert difference(lambda images: torch.from_numpy(np.load("logits.npy")), ours, images) < 1e-5
    return done.stdout


OPENVINO_ALONE = """
import json, sys
sys.modules["nascli"] = sys.modules["torch"] = sys.modules["openvino_telemetry"] = None
import numpy, openvino
core = openvino.Core()
model = core.read_model("out/model.xml")
print(json.dumps([str(model.inputs[0].partial_shape), model.get_rt_info(["nascli", "class_names"]).astype(str)]))
answers = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
numpy.save("logits.npy", answers(numpy.load("images.npy"))["logits"])
try:
    answers(numpy.zeros((1, 3, 9, 9), numpy.float32))
except RuntimeError as error:
    assert "shape" in str(error), error
else:
    sys.exit("images of another size were taken")
"""


def test_openvino_alone_runs_its_files_with_any_batch() -> None:
    ours = network()
    ours.spec = ours.spec.model_copy(update={"class_names": NAMES_OF_MARKUP})
    made = export_ir(ours, Path("out/model.xml"))
    assert made.difference < 1e-5
    assert sorted(path.name for path in Path("out").iterdir()) == ["model.bin", "model.xml"]
    assert made.size == sum(path.stat().st_size for path in Path("out").iterdir())
    assert str(Path(nascli.__file__).parent) not in Path("out/model.xml").read_text()
    shape, names = json.loads(run_alone(OPENVINO_ALONE, ours))
    assert (shape, json.loads(names)) == ("[?,3,8,8]", list(NAMES_OF_MARKUP))


@pytest.mark.parametrize("blocked", ["model.bin", "model.xml"])
def test_of_two_files_none_is_written_where_one_cannot_be(blocked: str) -> None:
    Path(blocked).mkdir()
    (other,) = {"model.bin", "model.xml"} - {blocked}
    Path(other).write_text("of before")
    with pytest.raises(CannotWriteError, match=blocked):
        export_ir(network(), Path("model.xml"))
    assert sorted(path.name for path in Path().iterdir()) == ["model.bin", "model.xml"]
    assert Path(other).read_text() == "of before"


SINGLE_PROCESS = """
import json, sys
sys.modules["nascli"] = None
import numpy, torch
said = {"metadata.json": ""}
module = torch.export.load("model.pt2", extra_files=said).module()
numpy.save("logits.npy", module(torch.from_numpy(numpy.load("images.npy"))).detach().numpy())
print(json.loads(said["metadata.json"])["class_names"])
try:
    module(torch.zeros(1, 3, 9, 9))
except AssertionError as error:
    assert "8" in str(error), error
else:
    sys.exit("images of another size were taken")
"""


def test_a_program_runs_where_there_is_no_nascli() -> None:
    ours = network()
    export_program(ours, Path("model.pt2"))
    assert run_alone(SINGLE_PROCESS, ours).strip() == str(list(NAMES))


def other_logits(ours: CellNetwork) -> fx.GraphModule:
    """A folded network with another classifier."""
    folded = fold(ours)
    nn.init.ones_(folded.get_submodule("classifier").get_parameter("weight"))
    return folded


def test_a_file_with_other_logits_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("model.pt2").write_text("of before")
    ours, other = network(), other_logits(network())
    monkeypatch.setattr(export, "fold", lambda network: other)
    with pytest.raises(NascliError, match="other logits than the network"):
        export_program(ours, Path("model.pt2"))
    assert [path.name for path in Path().iterdir()] == ["model.pt2"]
    assert Path("model.pt2").read_text() == "of before"


def test_without_the_extra_onnx_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    hide_package(monkeypatch, "onnxscript")
    with pytest.raises(InputError, match=r'onnxscript, which is not installed. pip install "nascli\[onnx\]"'):
        export_onnx(network(), Path("model.onnx"))


def test_networks_without_class_names_describe_the_rest() -> None:
    assert "class_names" not in describe(trained(GENOTYPE, image_size=8).spec)


@pytest.mark.slow
@pytest.mark.parametrize("numbers", SIZES, ids=str)
@pytest.mark.parametrize("name", CELL_NAMES)
def test_every_published_cell_can_be_exported(name: str, numbers: dict[str, object], tmp_path: Path) -> None:
    for suffix, write in EXPORTS.items():
        assert write(trained(zoo_genotype(name), **numbers), tmp_path / f"model{suffix}").difference < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("ending", EXPORTS)
def test_a_residual_network_can_be_exported(ending: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    assert EXPORTS[ending](build_network("resnet-20"), tmp_path / f"network{ending}").difference < 1e-5


def test_the_engines_of_a_folder() -> None:
    ours = network()
    write_network(Path("network.json"), ours.spec)
    save_weights(Path("weights.safetensors"), ours)
    images = torch.randn(2, 3, 8, 8)
    assert isinstance(nascli.load_network(".", inference=True), OpenvinoEngine)
    for name in ("auto", "trained", "folded", "openvino"):
        engine = nascli.load_network(".", inference=True, engine=name)
        assert difference(engine, nascli.load_network("."), images) < 1e-5
    with pytest.raises(InputError, match="opnvino"):
        nascli.load_network(".", inference=True, engine="opnvino")


def test_engines_are_compared_before_they_are_timed() -> None:
    ours = network()
    rows = list(time_engines(ours, (1, 2)))
    names = ("trained", "folded", "openvino")
    assert [(row.latency.engine, row.latency.batch) for row in rows] == [
        (name, batch) for name in names for batch in (1, 2)
    ]
    assert all(row.difference < 1e-4 for row in rows)
    assert rows[1].images_per_second == pytest.approx(2 / rows[1].latency.seconds)
    halved = list(time_engines(ours, (2,), precision="bfloat16"))
    assert all(0 < row.difference < 5e-2 for row in halved)


def test_an_engine_with_other_logits_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, other = network(), other_logits(network())
    monkeypatch.setattr(engines, "fold", lambda network: other)
    with pytest.raises(NascliError, match="the engine folded in float32 gives other logits"):
        list(time_engines(ours, (1,)))


@pytest.mark.slow
def test_the_compiled_engine_agrees_too() -> None:
    rows = list(time_engines(network(), (1, 2), engines=("trained", "folded", "compiled")))
    assert [row.latency.engine for row in rows[-2:]] == ["compiled", "compiled"]
    assert all(row.difference < 1e-4 for row in rows)
