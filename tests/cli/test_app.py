"""The program as a whole: help, exit codes, the option set, what it imports."""

import subprocess
import sys
from importlib import import_module

import pytest
import typer

from nascli.cli.app import SUMMARIES, main

COMMANDS = ("search", "decode", "build", "train", "evaluate", "detect", "pack", "report", "runs")


def exit_code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return int(caught.value.code or 0)


PROBE = """
import sys
from nascli.cli.app import SUMMARIES, main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print(sorted({name.split(".")[0] for name in sys.modules} & {"torch", "torchvision", "matplotlib", "sklearn"}))
"""


def test_help_and_version_import_no_torch() -> None:
    for arguments in (["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)):
        done = subprocess.run([sys.executable, "-c", PROBE, *arguments], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]", f"{arguments} imports {done.stdout.splitlines()[-1]}"


def test_the_list_of_commands_says_what_each_says_of_itself() -> None:
    assert tuple(SUMMARIES) == COMMANDS
    for name, summary in SUMMARIES.items():
        opening = import_module(f"nascli.cli.{name}").run.__doc__.split("\n\n")[0]
        assert " ".join(opening.split()) == summary


def test_help_names_the_commands_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--help") == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)
    assert "130" in text


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_shows_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(name, "--help") == 0
    assert f"nascli {name}" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["serach"], ["build"], ["build", "--cell", "nasnet-a", "--colour", "red"]])
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    assert exit_code(*arguments) == 2


def test_debug_shows_the_traceback_and_keeps_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("build", "--cell", "nasnet-z", "--debug") == 2
    assert "Traceback" in capsys.readouterr().err


OPTIONS = {
    "search": (
        "--asynchronous --cells-per-stage --constraint --data-dir --dataset --device --dry-run --epochs --evaluator "
        "--executor --filters --json --out --overwrite --recipe --resume --seed --set --space --strategy --trials "
        "--workers --workers-per-gpu"
    ),
    "decode": (
        "--as --canonical --draw --json --list --name --notation --out --overwrite --pick --space --tokens --trial "
        "SOURCE"
    ),
    "build": (
        "--batch --cell --cells-per-stage --classes --compile --device --export --filters --image-size "
        "--import-weights --json --measure --network --out --overwrite --precision --preset --target-latency "
        "--target-mult-adds --target-params --threads"
    ),
    "train": (
        "--batch-size --cell --cells-per-stage --data-dir --dataset --device --dry-run --epochs --filters --gpus "
        "--image-size --json --lr --out --overwrite --preset --recipe --resume --seed --set --tensorboard"
    ),
    "evaluate": ("--batch-size --crops --data-dir --dataset --device --flip --json --max-bad --out --predict RUN"),
    "detect": (
        "--augmented --backbone --batch-size --cell --cells-per-stage --check --coco --data-dir --dataset --device "
        "--dry-run --epochs --evaluate --filters --gpus --head --json --lr --out --overwrite --predict --preset "
        "--proposals --recipe --resume --run --seed --set --show-data --threshold --max-train-images"
    ),
    "pack": ("--json --max-bad --overwrite --quality --size --workers FILE SOURCE"),
    "report": ("--baseline --json --out --table SEARCH"),
    "runs": ("--json FOLDER"),
}
"""Every option and argument: a change here is a change of what people have in their scripts."""


@pytest.mark.parametrize("name", COMMANDS)
def test_the_option_set_changes_only_on_purpose(name: str) -> None:
    alone = typer.Typer(add_completion=False)
    alone.command(name)(import_module(f"nascli.cli.{name}").run)
    parameters = typer.main.get_command(alone).params
    spelled = {text if text.startswith("-") else text.upper() for each in parameters for text in each.opts}
    assert spelled == set(OPTIONS[name].split())
