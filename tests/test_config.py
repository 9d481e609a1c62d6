"""Recipes: defaults < file < flags < --set, and refusals that name the key and the remedy."""

import itertools
import re
from pathlib import Path

import pytest

from nascli.config import (
    DetectRecipe,
    SearchRecipe,
    Section,
    TrainRecipe,
    find_recipe,
    load_recipe,
    parse,
    recipes_folder,
    to_toml,
)
from nascli.errors import CorruptFileError, InputError

MODELS: dict[str, type[Section]] = {"search": SearchRecipe, "train": TrainRecipe, "detect": DetectRecipe}
SHIPPED = sorted(recipes_folder().glob("*/*.toml"))


def test_order_of_sources(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[train]\nlr = 0.1\nepochs = 3\nbatch_size = 8\n")
    recipe = load_recipe(TrainRecipe, path, {"train.lr": 0.2, "train.epochs": 5, "seed": None}, ["train.lr=0.3"])
    assert (recipe.train.lr, recipe.train.epochs, recipe.train.batch_size, recipe.seed) == (0.3, 5, 8, 0)


def test_set_reads_toml_values_and_plain_text() -> None:
    recipe = load_recipe(
        TrainRecipe, None, {}, ["data.flip=true", "data.dataset=cifar10", 'train.precision="bfloat16"']
    )
    assert (recipe.data.flip, recipe.data.dataset, recipe.train.precision) == (True, "cifar10", "bfloat16")


def test_a_whole_number_serves_where_any_number_does() -> None:
    assert load_recipe(TrainRecipe, None, {}, ["train.lr=1"]).train.lr == 1.0


@pytest.mark.parametrize(
    ("assignment", "phrase"),
    [
        ("space.blokcs=3", "options: unknown key space.blokcs. Did you mean blocks?"),
        ("space.blocks=true", "options: space.blocks = True"),
        ("space.family=chains", "options: space: family 'chains' is not one of cells"),
        ("space=3", "options: space = 3"),
    ],
)
def test_a_section_of_a_family_is_as_strict_as_the_others(assignment: str, phrase: str) -> None:
    with pytest.raises(InputError) as caught:
        load_recipe(SearchRecipe, None, {}, [assignment])
    assert phrase in str(caught.value)


@pytest.mark.parametrize("model", MODELS.values())
def test_toml_round_trip(model: type[Section], tmp_path: Path) -> None:
    recipe = load_recipe(model, None, {"seed": 11})
    (tmp_path / "recipe.toml").write_text(to_toml(recipe))
    assert load_recipe(model, tmp_path / "recipe.toml") == recipe


@pytest.mark.parametrize(
    ("assignment", "phrase"),
    [
        ("train.lrr=1", "options: unknown key train.lrr. Did you mean lr?"),
        ("trian.lr=1", "options: unknown key trian. Did you mean train?"),
        ("train.lr=-1", "options: train.lr = -1: input should be greater than 0"),
        ("train.lr=fast", "options: train.lr = 'fast'"),
        ("train.lr='0.1'", "options: train.lr = '0.1'"),
        ("train.epochs=true", "options: train.epochs = True"),
        ("train.epochs=3.0", "options: train.epochs = 3.0"),
        ("data.flip=1", "options: data.flip = 1"),
        ("train.precision=half", "train.precision = 'half'"),
        ("train.lr", "--set train.lr: not of the form key=value"),
        ("seed.x=1", "seed is a value, not a section"),
    ],
)
def test_wrong_keys_and_values(assignment: str, phrase: str) -> None:
    with pytest.raises(InputError) as caught:
        load_recipe(TrainRecipe, None, {"seed": 1}, [assignment])
    assert phrase in str(caught.value)


def test_a_broken_file_is_corrupt_and_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[train\nlr = 0.1")
    with pytest.raises(CorruptFileError, match=r"mine\.toml is not TOML: .*line 1"):
        load_recipe(TrainRecipe, path)
    path.write_text("[train]\nlr = 0.1\nepoch = 3")
    with pytest.raises(InputError, match=r"mine\.toml: unknown key train\.epoch\. Did you mean epochs\?"):
        load_recipe(TrainRecipe, path)


def test_find_recipe_by_name_and_path(tmp_path: Path) -> None:
    assert find_recipe("train", "digits").is_file()
    (tmp_path / "mine.toml").write_text("")
    assert find_recipe("train", str(tmp_path / "mine.toml")) == tmp_path / "mine.toml"
    with pytest.raises(InputError, match="Did you mean digits"):
        find_recipe("train", "digit")
    with pytest.raises(InputError, match="no such file"):
        find_recipe("train", "gone.toml")


def test_recipes_ship_for_each_command() -> None:
    assert {path.parent.name for path in SHIPPED} == set(MODELS)
    assert len(SHIPPED) >= 8


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_every_recipe_is_valid_and_opens_with_its_promise(path: Path) -> None:
    load_recipe(MODELS[path.parent.name], path)
    opening = path.read_text().split("\n\n")[0]
    assert all(line.startswith("#") for line in opening.splitlines())
    for promise in ("source:", "expect:", "hardware and time:", "command:", "not verified:"):
        assert promise in opening.lower(), f"{path.name} does not say its {promise}"


@pytest.mark.parametrize("recipe", [SearchRecipe, TrainRecipe, DetectRecipe])
def test_wrong_kinds_of_values_are_told_without_the_words_of_python(recipe: type[Section]) -> None:
    whole = recipe().model_dump(mode="json")
    places = [(section, key) for section, keys in whole.items() if isinstance(keys, dict) for key in (None, *keys)]
    told = set[str]()
    for (section, key), value in itertools.product(places, ([1], "x", {"a": 1}, None, True, 1.5)):
        changed = value if key is None else whole[section] | {key: value}
        try:
            parse(recipe, whole | {section: changed}, "recipe")
        except InputError as refused:
            told.add(refused.message.rpartition(": ")[2])
    assert told
    assert not [each for each in told if re.search(r"instance|dictionary|tuple|boolean|integer|Config|\b_", each)]
