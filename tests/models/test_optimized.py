"""What was measured for a network decides what its engine computes in, on this machine and with these weights."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

import nascli
from nascli.errors import CorruptFileError, InputError
from nascli.models.deploy import optimized
from nascli.models.deploy.ir import serialize
from nascli.models.deploy.openvino import OpenvinoEngine, supports
from nascli.models.deploy.optimized import describe_machine, open_engine, read_optimized, write_optimized
from nascli.models.deploy.quantize import import_nncf
from nascli.models.deploy.translation import convert
from nascli.models.interface import ImageClassifier
from nascli.models.serialization import save_weights
from nascli.models.spec import write_network
from nascli.models.tensor_files import digest_tensors
from nascli.records import read_record, write_record
from tests.classify.small_training import make_network
from tests.fakes import hide_package
from tests.models.test_fuse import difference

CPU, WEIGHTS = torch.device("cpu"), Path("weights.safetensors")
IMAGES = torch.randn(2, 3, 8, 8)


def write(precision: str, **values: object) -> ImageClassifier:
    """A network, and what was admitted for it: in place of int8 its float32 graph, which the engine cannot tell."""
    network = make_network(aux_head=False).eval()
    write_network(Path("network.json"), network.spec)
    save_weights(WEIGHTS, network)
    content = serialize(convert(network), {}) if precision == "int8" else None
    own = {"precision": precision, "weights_sha256": digest_tensors(WEIGHTS), "machine": describe_machine()}
    write_optimized(WEIGHTS, own | values, content)
    return network


def change(change: Callable[[dict[str, object]], object]) -> None:
    values = read_record(Path("optimized.json"))
    change(values)
    write_record(Path("optimized.json"), values)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_auto_is_what_was_admitted(precision: str) -> None:
    if precision == "bfloat16" and not supports("bfloat16"):
        pytest.skip("this CPU has no instructions for bfloat16")
    network = write(precision)
    opened = open_engine(network, WEIGHTS, CPU)
    assert (opened.name, opened.precision) == ("openvino", precision)
    assert difference(opened.run, network, IMAGES) < 5e-2
    assert isinstance(nascli.load_network(".", inference=True), OpenvinoEngine)
    assert sorted(path.name for path in Path().glob("optimized.*")) == (
        ["optimized.bin", "optimized.json", "optimized.xml"] if precision == "int8" else ["optimized.json"]
    )


def test_without_a_record_or_on_another_machine_it_is_float32() -> None:
    network = write("int8", machine={"cpu": "another", "capabilities": []})
    assert open_engine(network, WEIGHTS, CPU).precision == "float32"
    assert open_engine(network, WEIGHTS, CPU, precision="int8").precision == "int8"
    Path("optimized.json").unlink()
    assert open_engine(network, WEIGHTS, CPU).precision == "float32"


def test_other_engines_and_devices_do_not_ask_for_it() -> None:
    network = write("int8")
    Path("optimized.json").write_text("{")
    assert open_engine(network, WEIGHTS, CPU, "folded").precision == "float32"
    assert open_engine(network, WEIGHTS, CPU, "trained", "float32").name == "trained"


def test_a_next_choice_removes_the_network_of_the_one_before() -> None:
    write("int8")
    write("float32")
    assert [path.name for path in Path().glob("optimized.*")] == ["optimized.json"]


def test_files_of_other_weights_are_refused() -> None:
    write("int8")
    other = make_network(1, aux_head=False).eval()
    save_weights(WEIGHTS, other)
    for precision in ("auto", "int8"):
        with pytest.raises(InputError, match="other weights") as refused:
            nascli.load_network(".", inference=True, precision=precision)
        assert "--optimize --overwrite" in str(refused.value.hint)
    assert nascli.load_network(".", inference=True, precision="float32")(IMAGES).shape == (2, 3)


@pytest.mark.parametrize("name", ["optimized.xml", "optimized.bin"])
def test_a_changed_or_absent_file_is_refused(name: str) -> None:
    network = write("int8")
    Path(name).write_bytes(Path(name).read_bytes() + b" ")
    with pytest.raises(CorruptFileError, match=name):
        open_engine(network, WEIGHTS, CPU)
    Path(name).unlink()
    with pytest.raises(InputError, match=name):
        open_engine(network, WEIGHTS, CPU)


WRONG: Mapping[str, Callable[[dict[str, object]], object]] = {
    "precision": lambda values: values.update(precision="int4"),
    "weights_sha256": lambda values: values.pop("weights_sha256"),
    "machine": lambda values: values.update(machine=7),
    "files": lambda values: values.update(files={"optimized.xml": 1}),
}


@pytest.mark.parametrize("field", WRONG)
def test_a_wrong_field_is_named(field: str) -> None:
    write("float32")
    change(WRONG[field])
    with pytest.raises(CorruptFileError) as damaged:
        read_optimized(WEIGHTS)
    assert field in str(damaged.value.field)


def test_int8_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    network = write("float32")
    with pytest.raises(InputError, match="no network in int8"):
        open_engine(network, WEIGHTS, CPU, precision="int8")
    for engine, device in (("folded", CPU), ("auto", torch.device("cuda"))):
        with pytest.raises(InputError, match="int8 is computed by the engine openvino"):
            open_engine(network, WEIGHTS, device, engine, "int8")
    monkeypatch.setattr(optimized, "supports", lambda precision: False)
    assert open_engine(network, WEIGHTS, CPU, "trained").precision == "float32"


def test_without_nncf_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    hide_package(monkeypatch, "nncf")
    with pytest.raises(InputError, match="NNCF, which is not installed") as refused:
        import_nncf()
    assert 'pip install "nascli[int8]"' in str(refused.value.hint)


TELEMETRY = """
import sys
from nascli.models.deploy.quantize import import_nncf
import_nncf()
from nncf.telemetry import wrapper
print("openvino_telemetry.main" in sys.modules, hasattr(wrapper, "Telemetry"))
"""


def test_nncf_reports_to_nobody_that_it_is_used() -> None:
    done = subprocess.run([sys.executable, "-c", TELEMETRY], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
    assert done.stderr == ""
