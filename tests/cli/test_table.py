"""`nascli table`: files in the layouts of NATS-Bench and NAS-Bench-201, and searches on what is imported."""

import bz2
import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from nascli.config import SearchRecipe, parse
from nascli.genotype.notations import read_notation, write_notation
from nascli.genotype.space import resolve_space
from nascli.search.evaluators.tabular import TabularBenchmark
from nascli.search.journal import read_trials
from nascli.search.trial import TrialState
from tests.cli.program import Nascli

CONV = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
NONE = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
POOL = "|avg_pool_3x3~0|+|none~0|none~1|+|none~0|none~1|none~2|"
"""Builds what `NONE` builds: no edge leads on."""


def result(epochs: int, accuracy: float, params: float) -> dict[str, Any]:
    """One training, as `ResultsCount.state_dict` has it."""
    return {
        "name": "infer.tiny",
        "net_state_dict": {"weight": torch.ones(2)},
        "params": np.float64(params),
        "flop": 12.5,
        "epochs": epochs,
        "train_times": dict.fromkeys(range(epochs), 2.0),
        "eval_acc1es": {f"x-valid@{epoch}": accuracy - epochs + 1 + epoch for epoch in range(epochs)},
        "latency": [0.01],
    }


def results(name: str, epochs: int, accuracies: dict[int, float]) -> dict[str, Any]:
    """The trainings of a cell, as `ArchResults.state_dict` has them; params of other seeds than 888 are wrong."""
    return {
        "arch_index": 0,
        "arch_str": name,
        "all_results": {
            ("cifar10-valid", seed): result(epochs, accuracy, 0.25 if seed == 888 else 1.0)
            for seed, accuracy in accuracies.items()
        },
        "dataset_seed": {"cifar10-valid": list(accuracies), "cifar100": [777]},
        "clear_net_done": True,
    }


def cells(short: str, long: str) -> dict[int, Any]:
    trained = {CONV: {777: 90.0, 888: 91.0}, NONE: {888: 10.0}, POOL: {888: 12.0}}
    return {
        number: {short: results(name, 3, {888: 50.0}), long: results(name, 5, accuracies)}
        for number, (name, accuracies) in enumerate(trained.items())
    }


def whole(short: str, long: str) -> dict[str, Any]:
    return {"meta_archs": [CONV, NONE, POOL], "arch2infos": cells(short, long), "evaluated_indexes": {0, 1, 2}}


def write_bz2(path: Path, value: object) -> None:
    path.write_bytes(bz2.compress(pickle.dumps(value, protocol=4)))


def write_source(kind: str) -> None:
    if kind == "folder":
        Path("src").mkdir()
        write_bz2(Path("src/meta.pickle.pbz2"), {"meta_archs": []})
        for number, each in cells("12", "200").items():
            write_bz2(Path(f"src/{number:06d}.pickle.pbz2"), each)
    elif kind == "file":
        write_bz2(Path("src"), whole("12", "200"))
    else:
        torch.save(whole("less", "full"), "src", _use_new_zipfile_serialization=kind == "zip")


def row_of(table: TabularBenchmark, name: str) -> int:
    return table.row(read_notation(name, "nas-bench-201", which="nas-bench-201").canonical_hash())


@pytest.mark.parametrize("kind", ["folder", "file", "legacy", "zip"])
def test_all_layouts_give_the_same_table(nascli: Nascli, kind: str) -> None:
    write_source(kind)
    assert nascli("table src table.h5").code == 0
    table = TabularBenchmark.read(Path("table.h5"))
    conv, none = row_of(table, CONV), row_of(table, NONE)
    assert len(table) == 2
    assert row_of(table, POOL) == none
    assert table.accuracies[conv].tolist() == [0.9, 0.91]
    assert table.accuracies[none].tolist() == [0.1, 0.12]
    assert (table.params[conv], table.mult_adds[conv]) == (250_000, 12_500_000)
    assert (table.seconds[conv], table.about["epochs"]) == (20, 200)


def test_shorter_trainings_are_chosen_and_a_table_is_replaced_on_request(nascli: Nascli) -> None:
    write_source("file")
    ran = nascli("table src table.h5 --epochs 12 --json")
    assert ran.code == 0
    assert (ran.json["networks"], ran.json["trainings"], ran.json["epochs"]) == (2, 3, 12)
    assert nascli("table src table.h5").code == 2
    assert nascli("table src table.h5 --overwrite").code == 0
    table = TabularBenchmark.read(Path("table.h5"))
    assert table.about["epochs"] == 200


def test_a_search_runs_on_what_was_imported(nascli: Nascli) -> None:
    space = resolve_space(parse(SearchRecipe, {"space": {"name": "nas-bench-201"}}, "recipe").space)
    first = [[op if place == edge else 0 for place in range(6)] for edge in (0, 5) for op in range(5)]
    names = [write_notation(space.decode(tokens), "nas-bench-201") for tokens in first]
    named = {name: results(name, 3, {888: 50.0 + number}) for number, name in enumerate(names)}
    write_bz2(Path("src"), {"arch2infos": {number: {"12": each} for number, each in enumerate(named.values())}})
    assert nascli("table src table.h5").code == 0
    search = "search --space nas-bench-201 --evaluator table:table.h5 --strategy exhaustive --trials 5 --out found"
    ran = nascli(search)
    assert ran.code == 0, ran.err
    assert f"best of 5 trials on table:{Path('table.h5').absolute()}" in ran.out
    assert "nascli build --cell found" in ran.err
    assert "--dataset" not in ran.err
    states = [trial.state for trial in read_trials(Path("found/trials.jsonl"))]
    assert states == [TrialState.COMPLETE] * 5


def test_a_table_by_the_documented_form_is_read(nascli: Nascli) -> None:
    """As another tool would write it, with h5py alone."""
    write_source("file")
    nascli("table src table.h5")
    table = TabularBenchmark.read(Path("table.h5"))
    columns = {
        "accuracies": table.accuracies,
        "hashes": np.array([list(bytes.fromhex(each)) for each in table.hashes], "u1"),
        "mult_adds": table.mult_adds,
        "params": table.params,
        "seconds": table.seconds,
        "tokens": table.tokens,
    }
    texts = {"space": table.space.model_dump_json(), "recipe": table.recipe_toml, "about": "{}"}
    digest = hashlib.sha256()
    for name, column in columns.items():
        digest.update(f"{name} {column.dtype.str} {column.shape}\n".encode() + column.tobytes())
    for name, text in texts.items():
        digest.update(f"{name} {len(text)}\n{text}".encode())
    with h5py.File("other.h5", "w") as file:
        for name, column in columns.items():
            file[name] = column
        for name, text in {"format": "nascli-table", **texts, "sha256": digest.hexdigest()}.items():
            file.attrs[name] = np.bytes_(text.encode())
        file.attrs["version"] = 1
    assert np.array_equal(TabularBenchmark.read(Path("other.h5")).means, table.means)


class Evil:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("evil",)


def test_code_in_a_file_is_not_run(nascli: Nascli) -> None:
    for value in ({"arch2infos": Evil()}, Evil()):
        write_bz2(Path("src"), value)
        ran = nascli("table src table.h5")
        assert ran.code == 2
        assert "mkdir" in ran.err
    torch.save({"arch2infos": Evil()}, "src")
    assert nascli("table src table.h5").code == 2
    assert not Path("evil").exists()
    assert not Path("table.h5").exists()


def test_wrong_sources_are_refused(nascli: Nascli) -> None:
    assert nascli("table none table.h5").code == 2
    Path("empty").mkdir()
    assert "000000.pickle.pbz2" in nascli("table empty table.h5").err
    foreign: tuple[object, ...] = (
        [1],
        {"arch2infos": {0: {"12": {"arch_str": CONV}}}},
        {"arch2infos": {0: 3}},
        {"arch2infos": {}},
    )
    for value in foreign:
        write_bz2(Path("src"), value)
        assert nascli("table src table.h5").code == 2
    write_bz2(Path("src"), {"arch2infos": {0: {"12": results("48:40:64", 3, {888: 50.0})}}})
    assert "48:40:64" in nascli("table src table.h5").err
    write_source("file")
    assert "of 12 and 200 epochs, not of 7" in nascli("table src table.h5 --epochs 7").err


@pytest.mark.parametrize("kind", ["file", "legacy", "zip"])
def test_a_damaged_source_is_refused(nascli: Nascli, kind: str) -> None:
    write_source(kind)
    content = Path("src").read_bytes()
    for length in (0, 1, 5, len(content) // 3, len(content) // 2):
        Path("src").write_bytes(content[:length])
        ran = nascli("table src table.h5")
        assert ran.code in (1, 2)
        assert "unexpected" not in ran.err
    assert not Path("table.h5").exists()
