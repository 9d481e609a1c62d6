"""Tables: what is written is read, damage is found, and answers are single trainings."""

import pickle
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from nascli.config import CellSpaceConfig, SearchRecipe, to_toml
from nascli.errors import CorruptFileError, DivergedError, InputError, NascliError
from nascli.genotype.cells.space import resolve_cell_space
from nascli.search.evaluators.tabular import TabularBenchmark, TabularEvaluator, write_table
from nascli.search.trial import Failure, FailureKind, Score, Trial
from tests.fakes import make_latency
from tests.published import as_cells
from tests.search.trained_trials import RECIPE, SPACE, trained


def written(path: Path, trials: list[Trial]) -> TabularBenchmark:
    return write_table(path, trials, recipe_toml=to_toml(RECIPE), about={"device": "a laptop", "hours": 1.5})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "table.h5"


def test_a_table_is_read_as_it_was_written(path: Path) -> None:
    trials = trained(failing=[4])
    written(path, trials)
    table = TabularBenchmark.read(path)
    assert len(table) == len(trials) == 9
    assert table.space == SPACE
    assert table.recipe_toml == to_toml(RECIPE)
    assert table.about == {"device": "a laptop", "hours": 1.5}
    for row, trial in enumerate(trials):
        assert trial.hash in table
        assert table.row(trial.hash) == row
        assert as_cells(table.genotype(trial.hash)).normal == as_cells(trial.genotype).normal
        if trial.score is None:
            assert np.isnan(table.accuracies[row]).all()
        else:
            assert tuple(table.accuracies[row]) == trial.score.accuracies
            assert table.mean_accuracy(trial.hash) == pytest.approx(trial.score.reward)
            assert (table.params[row], table.mult_adds[row], table.seconds[row]) == (100 + row, 2**33, 1.5)
    best = max((trial for trial in trials if trial.score), key=lambda trial: trial.reward or 0)
    assert table.best == best.hash
    assert list(path.parent.iterdir()) == [path]


def test_latencies_are_a_column_where_some_were_measured(path: Path) -> None:
    trials = trained(failing=[4])
    assert np.isnan(written(path, trials).latencies).all()
    with h5py.File(path) as file:
        assert "latencies" not in file
    assert trials[2].score is not None
    trials[2] = replace(trials[2], score=replace(trials[2].score, latency=make_latency(0.0031)))
    written(path, trials)
    latencies = TabularBenchmark.read(path).latencies
    assert latencies[2] == 0.0031
    assert np.isnan(np.delete(latencies, 2)).all()
    with h5py.File(path, "r+") as file:
        file["latencies"][2] = 0.001
    with pytest.raises(CorruptFileError, match="checksum"):
        TabularBenchmark.read(path)


def test_one_training_a_cell_is_enough(path: Path) -> None:
    trials = [
        Trial(id=t.id, tokens=t.tokens, genotype=t.genotype, hash=t.hash, seed=0).complete(
            Score(reward=0.5, accuracy=0.5 + t.id / 100, params=1, mult_adds=1, seconds=0.0)
        )
        for t in trained()
    ]
    table = written(path, trials)
    assert table.trainings == 1
    assert table.best == trials[-1].hash


def test_repeats_and_rejected_cells_are_no_rows(path: Path) -> None:
    trials = trained()
    first, score = trials[0], trials[0].score
    assert score is not None
    again = Trial(id=9, tokens=first.tokens, genotype=first.genotype, hash=first.hash, seed=9, duplicate_of=0)
    rejected = Trial(id=8, tokens=trials[8].tokens, genotype=trials[8].genotype, hash=trials[8].hash, seed=8)
    failure = Failure(FailureKind.REJECTED, "too many params")
    table = written(path, [*trials[:8], rejected.fail(failure, 0.0), again.complete(score)])
    assert table.hashes == tuple(trial.hash for trial in trials[:8])


def test_1600_cells_take_little_space(path: Path) -> None:
    ops = ("sep_conv_3x3", "max_pool_3x3", "identity")
    config = CellSpaceConfig(name="wide", ops=ops, blocks=5, cells="one")
    space = resolve_cell_space(config)
    draw = random.Random(0)
    genotype = space.decode([0] * 25)
    trials = []
    for number in range(1600):
        tokens = tuple(draw.randrange(size) for size in space.decision_sizes)
        trial = Trial(id=number, tokens=tokens, genotype=genotype, hash=draw.randbytes(8).hex(), seed=0)
        pair = (draw.randrange(5000) / 5000, draw.randrange(5000) / 5000)
        trials.append(
            trial.complete(
                Score(
                    reward=sum(pair) / 2,
                    accuracy=sum(pair) / 2,
                    params=draw.randrange(10**6),
                    mult_adds=draw.randrange(10**8),
                    seconds=100 * draw.random(),
                    accuracies=pair,
                )
            )
        )
    table = write_table(path, trials, recipe_toml=to_toml(RECIPE.model_copy(update={"space": config})))
    assert len(table) == 1600
    assert path.stat().st_size < 100_000


def test_every_flipped_byte_is_found_or_harmless(path: Path) -> None:
    table = written(path, trained())
    whole = path.read_bytes()
    found = 0
    for position in [*range(0, len(whole), 101), *range(0, 64, 4)]:
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            again = TabularBenchmark.read(path)
        except (CorruptFileError, InputError):
            found += 1
        else:
            assert again.hashes == table.hashes
            assert np.array_equal(again.accuracies, table.accuracies)
    assert found > 20


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_found(path: Path, part: float) -> None:
    written(path, trained())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(CorruptFileError, match=r"table\.h5 is (damaged or )?no table"):
        TabularBenchmark.read(path)


def test_a_changed_accuracy_is_found(path: Path) -> None:
    written(path, trained())
    with h5py.File(path, "r+") as file:
        file["accuracies"][0, 0] = 1.0
    with pytest.raises(CorruptFileError, match="checksum"):
        TabularBenchmark.read(path)


def test_foreign_and_newer_files_are_refused(path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        TabularBenchmark.read(path)
    with h5py.File(path, "w") as file:
        file["images"] = np.zeros(3)
    with pytest.raises(InputError, match="is not a table of nascli"):
        TabularBenchmark.read(path)
    written(path, trained())
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = 2
    with pytest.raises(InputError, match=r"table format 2; this nascli reads up to 1\. Install a newer"):
        TabularBenchmark.read(path)


def test_trials_that_make_no_table_are_refused(path: Path) -> None:
    trials = trained()
    running = Trial(id=0, tokens=trials[0].tokens, genotype=trials[0].genotype, hash=trials[0].hash, seed=0)
    unscored = running.complete(Score(reward=1.0, accuracy=None, params=1, mult_adds=1, seconds=0.0))
    other_recipe = SearchRecipe(space=CellSpaceConfig(name="enas"))
    with pytest.raises(InputError, match="trial 0 is not finished"):
        written(path, [running, *trials[1:]])
    with pytest.raises(InputError, match="trial 0 was scored without training"):
        written(path, [unscored, *trials[1:]])
    with pytest.raises(InputError, match="trained 2 and 3 times"):
        written(path, [*trials[:4], *trained(seeds=3)[4:]])
    with pytest.raises(InputError, match="no cell was scored"):
        written(path, trained(failing=range(9)))
    with pytest.raises(InputError, match="not of the recipe's space 'enas'"):
        write_table(path, trials, recipe_toml=to_toml(other_recipe))
    assert not path.exists()


def test_a_folder_that_is_not_there_is_named(path: Path) -> None:
    with pytest.raises(NascliError, match=r"nowhere/table\.h5 cannot be written"):
        written(path.parent / "nowhere" / "table.h5", trained())


def test_the_evaluator_answers_with_each_training_about_equally_often(path: Path) -> None:
    trials = trained(seeds=3)
    written(path, trials)
    evaluator: TabularEvaluator = pickle.loads(pickle.dumps(TabularEvaluator(TabularBenchmark.read(path))))
    assert trials[5].score is not None
    answers = Counter(evaluator.evaluate(trials[5].genotype, seed).reward for seed in range(900))
    assert set(answers) == set(trials[5].score.accuracies)
    assert all(240 < times < 360 for times in answers.values())  # 300 expected, four standard deviations


def test_the_evaluator_gives_equal_answers_to_equal_questions(path: Path) -> None:
    evaluator = TabularEvaluator(written(path, trained()))
    cell = trained()[3].genotype
    score, again = evaluator.evaluate(cell, 7), evaluator.evaluate(cell, 7, epochs=1)
    assert (score.reward, score.accuracy) == (again.reward, again.reward)
    assert (score.params, score.mult_adds) == (103, 2**33)
    assert 0 <= score.seconds < 1.5  # what the answer took, not what the training had


def test_the_evaluator_finds_a_cell_in_any_spelling(path: Path) -> None:
    """All 18 sequences stand for the 9 cells of the table."""
    evaluator = TabularEvaluator(written(path, trained(noise=0.0)))
    one = evaluator.evaluate(SPACE.decode((0, 0, 0, 2, 0)), 0)
    other = evaluator.evaluate(SPACE.decode((1, 0, 2, 0, 0)), 0)
    assert (one.reward, one.params) == (other.reward, other.params)


def test_a_cell_that_failed_fails_again_and_an_unknown_one_is_named(path: Path) -> None:
    trials = trained(failing=[4])
    evaluator = TabularEvaluator(written(path, trials))
    with pytest.raises(DivergedError, match=f"cell {trials[4].hash} failed when the table was made"):
        evaluator.evaluate(trials[4].genotype, 0)
    other = SPACE.model_copy(update={"ops": ("conv_1x1",)}).decode((0, 0, 0, 0, 0))
    with pytest.raises(
        InputError, match=f"cell {other.canonical_hash()} is not in the table: it holds 9 cells .*'toy'"
    ):
        evaluator.evaluate(other, 0)
