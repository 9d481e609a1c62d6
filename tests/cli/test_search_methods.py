"""`nascli search` with its other strategies, evaluators and stages, each as a user asks for it."""

import json
from pathlib import Path

import pytest
import torch

from nascli.genotype.genotype import read_genotype
from nascli.runs.find import read_run
from nascli.search.evaluators.tabular import TabularBenchmark
from nascli.search.journal import read_trials
from nascli.search.rerank import sort_reranked
from nascli.search.trial import TrialState
from tests.cli.program import exit_code
from tests.fakes import hide_package

RECIPE = """
[data]
dataset = "digits"
max_train_images = 300
[space]
name = "mine"
ops = ["conv_1x1", "max_pool_3x3", "identity"]
blocks = 1
inputs = "distinct"
cells = "one"
[network]
filters = 2
cells_per_stage = 1
image_size = 8
[train]
epochs = 2
batch_size = 32
[search]
trials = 12
workers = 1
top = 2
"""


@pytest.fixture(autouse=True)
def _recipe() -> None:
    Path("tiny.toml").write_text(RECIPE)


def search(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    """The object that `search --json` prints."""
    assert exit_code("search", "--recipe", "tiny.toml", "--out", "run", "--json", *arguments) == 0
    printed: dict[str, object] = json.loads(capsys.readouterr().out)
    return printed


def test_a_whole_space_becomes_a_table_that_other_searches_are_answered_from(
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = search(capsys, "--strategy", "exhaustive", "--set", "search.num_seeds=2")
    assert (result["trials"], result["trained"]) == (9, 9)  # 3 ops on each of two states
    trials = read_trials(Path("run/trials.jsonl"))
    assert exit_code("report", "run", "--table", "cells.h5", "--json") == 0
    assert json.loads(capsys.readouterr().out)["table"] == "cells.h5"
    table = TabularBenchmark.read(Path("cells.h5"))
    assert (len(table), table.trainings) == (9, 2)
    for trial in trials:
        assert trial.score is not None
        assert table.mean_accuracy(trial.hash) == pytest.approx(trial.reward)
    more = ["--evaluator", "table:cells.h5", "--strategy", "evolution", "--trials", "90", "--asynchronous"]
    assert exit_code("search", "--recipe", "tiny.toml", *more, "--set", "search.patience=15", "--out", "again") == 0
    assert "the search is exhausted" in capsys.readouterr().err
    known = {trial.hash: trial.score.accuracies for trial in trials if trial.score}
    for trial in read_trials(Path("again/trials.jsonl")):
        assert trial.reward in known[trial.hash]
    assert exit_code("search", "--recipe", "digits", "--evaluator", "table:cells.h5", "--out", "other") == 2
    assert "its space is not that of the recipe (nasnet)" in capsys.readouterr().err


def test_limits_rungs_and_a_ranking_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--strategy", "evolution", "--constraint", "params<900", "--constraint", "mult_adds<1G", "--trials", "9"]
    settings = ["halving.rungs=[1]", "rerank.top=2", "rerank.epochs=3", "rerank.num_seeds=2", "evolution.population=4"]
    result = search(capsys, *options, *(part for each in settings for part in ("--set", each)))
    trials = read_trials(Path("run/trials.jsonl"))
    rejected = [trial for trial in trials if trial.state is TrialState.REJECTED]
    assert rejected
    for trial in rejected:
        assert trial.failure is not None
        assert "violates params<900" in trial.failure.error
    assert result["rejected"] == sum(trial.duplicate_of is None for trial in rejected)
    scored = [trial for trial in trials if trial.scored]
    assert all(trial.score is not None and trial.score.params < 900 for trial in scored)
    assert {len(trial.rungs) for trial in scored} == {1}
    assert True in {trial.stopped for trial in scored}
    best, second = sort_reranked(trials)
    assert [rerank.epochs for rerank in best.reranks + second.reranks] == [3] * 4
    assert read_genotype(Path("run/best.json")).provenance["trial"] == best.id
    assert result["best"]["trial"] == best.id  # type: ignore[index]
    assert exit_code("search", "--resume", "run") == 0
    assert read_trials(Path("run/trials.jsonl")) == trials
    assert "trained again" in capsys.readouterr().out


def test_rungs_of_one_training(capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["search.trials=8", "train.epochs=3", "halving.rungs=[1,2]"]
    options = ["--strategy", "random", *(part for each in settings for part in ("--set", each))]
    search(capsys, *options, "--set", "halving.restart=false")
    continued = read_trials(Path("run/trials.jsonl"))
    assert exit_code("search", "--recipe", "tiny.toml", "--out", "whole", *options, "--set", "halving.rungs=[]") == 0
    whole = read_trials(Path("whole/trials.jsonl"))
    ended = [(one, other) for one, other in zip(continued, whole, strict=True) if not one.stopped]
    assert 0 < len(ended) < len(continued)
    for one, other in ended:
        assert one.score is not None
        assert other.score is not None
        assert one.score.accuracy == other.score.accuracy
    assert not list(Path("run").rglob("checkpoint*"))


LATENCY = ("--evaluator", "params", "--strategy", "random", "--constraint", "latency<100s", "--trials", "2")


def test_a_latency_is_that_of_the_engine_and_is_kept(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert exit_code("search", "--recipe", "tiny.toml", "--out", "run", *LATENCY) == 0
    printed = capsys.readouterr()
    conditions = "latency: 1 image of 8×8 px, openvino in float32, 1 thread"
    assert printed.err.count(conditions) == 2, "before the first trial, and below the best"
    assert "The reference network took" in printed.err
    assert "latency" in printed.out.splitlines()[1].split()
    trials = read_trials(Path("run/trials.jsonl"))
    latencies = [trial.score.latency for trial in trials if trial.score]
    for latency in latencies:
        assert latency is not None
        assert 0 < latency.seconds <= latency.median <= latency.upper
        assert latency.reference > 0
        assert latency.conditions in conditions
    record = read_run(Path("run"))
    assert record["recipe"]["latency"] == {"engine": "openvino", "precision": "float32", "threads": 1, "device": "cpu"}
    assert record["results"]["best"]["latency"] in [latency.model_dump() for latency in latencies if latency]

    recipe = Path("run/recipe.toml").read_text()
    for old, new in (('engine = "openvino"', 'engine = "folded"'), ("threads = 1", "threads = 2")):
        before, after = recipe.split("[latency]")
        Path("run/recipe.toml").write_text(f"{before}[latency]{after.replace(old, new, 1)}")
        assert exit_code("search", "--resume", "run", "--trials", "3") != 0
        assert "latency" in capsys.readouterr().err
    Path("run/recipe.toml").write_text(recipe)
    with monkeypatch.context() as patch:
        hide_package(patch, "openvino")
        assert exit_code("search", "--resume", "run", "--trials", "3") == 2
        assert "OpenVINO, which is not installed" in capsys.readouterr().err
    assert read_trials(Path("run/trials.jsonl")) == trials

    assert exit_code("search", "--resume", "run", "--trials", "3", "--json") == 0
    again = read_trials(Path("run/trials.jsonl"))
    assert (again[:2], len(again)) == (trials, 3), "what the journal has is not measured again"
    best = json.loads(capsys.readouterr().out)["best"]["latency"]
    assert (best["engine"], best["threads"], best["image_size"]) == ("openvino", 1, 8)


def test_a_latency_that_cannot_be_measured_here_is_refused_before_the_search(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nascli.models.deploy.openvino.supports", lambda precision: precision == "float32")
    for setting, word in (
        ("latency.precision=bfloat16", "no instructions for bfloat16"),
        ("latency.engine=opnvino", "latency.engine"),
        ("latency.threads=0", "latency.threads"),
        *([] if torch.cuda.is_available() else [("latency.device=cuda", "CUDA devices")]),
    ):
        assert exit_code("search", "--recipe", "tiny.toml", "--out", "run", *LATENCY, "--set", setting) == 2
        assert word in " ".join(capsys.readouterr().err.split())
        assert not Path("run").exists()


def test_shared_weights_are_trained_once_and_answer_for_every_cell(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--evaluator", "one_shot", "--strategy", "reinforce", "--trials", "8", "--set", "reinforce.batch_size=4"]
    result = search(capsys, *options, "--set", "supernet.epochs=1")
    assert "inherited weights" in str(result["reward_is"])
    weights = Path("run/supernet.safetensors").read_bytes()
    assert exit_code("search", "--resume", "run", "--trials", "9") == 0
    assert Path("run/supernet.safetensors").read_bytes() == weights
    assert len(read_trials(Path("run/trials.jsonl"))) == 9


def test_a_score_without_training_and_a_warm_up(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--evaluator", "naswot", "--constraint", "params>25%", "--trials", "10", "--set", "ppo.batch_size=2"]
    result = search(
        capsys, *options, "--set", "search.warm_start_trials=4", "--set", "search.warm_start_strategy=evolution"
    )
    assert "naswot, a score without training" in str(result["reward_is"])
    constraints = read_run(Path("run"))["recipe"]["search"]["constraints"]
    assert constraints[0].startswith("params>")
    assert "%" not in constraints[0]  # the number that the percentage meant, for the resumed search
    for trial in read_trials(Path("run/trials.jsonl")):
        assert trial.score is None or trial.score.accuracy is None
    assert exit_code("search", "--resume", "run") == 0
    shown = capsys.readouterr().out
    assert "Nothing was trained for it" in shown
    assert "%" not in shown.split("scored")[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--evaluator", "naswott"], "Did you mean naswot?"),
        (["--evaluator", "table:none.h5"], "none.h5"),
        (["--constraint", "parms<6M"], "Did you mean params?"),
        (["--constraint", "params<6ms"], "params"),
        (["--evaluator", "params", "--set", "halving.rungs=[1]"], "halving.rungs need a training"),
        (["--set", "halving.restart=false"], "halving.rungs is empty"),
        (["--set", "halving.rungs=[3,1]"], "they must rise and lie below train.epochs = 2"),
        (["--strategy", "random", "--set", "search.warm_start_trials=5"], "random cannot be warm-started"),
        (["--evaluator", "table:x.h5", "--constraint", "params<1M"], "a table only holds numbers"),
        (["--evaluator", "one_shot", "--set", "search.num_seeds=2"], "search.num_seeds"),
    ],
)
def test_what_does_not_go_together_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code("search", "--recipe", "tiny.toml", "--out", "run", *arguments) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not Path("run").exists()
