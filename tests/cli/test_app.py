"""The program as a whole: help, exit codes, the option set, what it imports."""

import shlex
import subprocess
import sys
from importlib import import_module
from typing import Any

import pytest

from nascli.cli.app import SUMMARIES
from tests.cli.program import exit_code

COMMANDS = (
    "search",
    "decode",
    "build",
    "train",
    "evaluate",
    "detect",
    "data",
    "pack",
    "push",
    "latency",
    "table",
    "report",
    "runs",
    "status",
    "doctor",
)


PROBE = """
import sys
from nascli.cli.app import main
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
        assert import_module(f"nascli.cli.{name}").run.help.split("\n\n")[0].replace("\n", " ") == summary


def test_help_names_the_commands_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--help") == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)
    assert "130" in text


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_shows_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(name, "--help") == 0
    assert f"nascli {name}" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["serach"], ["build"], ["build", "--cell", "nasnet-a", "--color", "red"]])
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    assert exit_code(*arguments) == 2


def test_debug_shows_the_traceback_and_keeps_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("build", "--cell", "nasnet-z", "--debug") == 2
    assert "Traceback" in capsys.readouterr().err


OPTIONS = {
    "search": (
        "--asynchronous --cells-per-stage --constraint --data-dir --dataset --device --dry-run --epochs --evaluator "
        "--executor --filters --json --latency-table --out --overwrite --recipe --resume --seed --set --space "
        "--strategy --strict --target-latency --target-mult-adds --target-params --trade-off --trials --val-fraction "
        "--val-split --width --workers --workers-per-gpu"
    ),
    "decode": (
        "--canonical --draw --from --front --json --list --name --out --overwrite --select --space --to --tokens "
        "--trial SOURCE"
    ),
    "build": (
        "--batch --benchmark --cell --cells-per-stage --classes --compile --data-dir --dataset --device --engine "
        "--export --filters --image-size --import-weights --json --max-drop --network --optimize --out --overwrite "
        "--precision --preset --target-latency --target-mult-adds --target-params --threads --width"
    ),
    "train": (
        "--batch-size --cell --cells-per-stage --data-dir --dataset --device --dry-run --epochs --filters --freeze "
        "--from --gpus --image-size --json --keep-best --lr --out --overwrite --patience --preset --recipe --resume "
        "--seed --set --strict "
        "--teacher --tensorboard --track --val-fraction --val-split --width"
    ),
    "evaluate": (
        "--batch-size --cell --crops --data-dir --dataset --device --engine --flip --json --max-megapixels "
        "--max-unreadable --out --precision --predict --val-split --weights RUNS"
    ),
    "detect": "",
    "detect train": (
        "--backbone --batch-size --cell --cells-per-stage --coco --data-dir --dataset --device --dry-run --epochs "
        "--filters --from --gpus --head --json --keep-best --lr --out --overwrite --patience --preset --proposals "
        "--recipe --resume --seed "
        "--set --max-train-images --strict --val-fraction --val-split --width"
    ),
    "detect predict": (
        "--device --engine --json --max-megapixels --out --overwrite --precision --run --threshold IMAGES"
    ),
    "detect export": "--json --overwrite --run FILES",
    "detect check": (
        "--coco --data-dir --dataset --json --recipe --set --max-train-images --strict --val-fraction --val-split"
    ),
    "detect show": (
        "--augmented --coco --data-dir --dataset --json --out --overwrite --recipe --set --max-train-images "
        "--strict --val-fraction --val-split"
    ),
    "detect score": (
        "--coco --data-dir --dataset --device --engine --json --out --overwrite --precision --recipe --set "
        "--max-train-images RESULTS "
        "--strict --val-fraction --val-split"
    ),
    "data": "",
    "data check": "--data-dir --json --max-megapixels --out --overwrite --quick --strict DATASET",
    "data show": "--data-dir --images --json --max-megapixels --out --overwrite DATASET",
    "data convert": "--copy --data-dir --json --max-megapixels --strict DATASET OUT",
    "data split": "--copy --data-dir --json --max-megapixels --seed --strict --test --val DATASET OUT",
    "pack": (
        "--json --max-megapixels --max-unreadable --overwrite --quality --size --val-fraction --val-split --workers "
        "FILE SOURCE"
    ),
    "push": "--json --license --message --overwrite --private --to ADDRESS RUN",
    "latency": (
        "--data-dir --dataset --device --dry-run --json --recipe --set --space --target-latency --target-mult-adds "
        "--target-params --trade-off --width FILE"
    ),
    "table": "--epochs --json --overwrite FILE SOURCE",
    "report": "--baseline --json --out --table RUNS",
    "runs": "--json FOLDER",
    "status": "--interval --json --watch RUN",
    "doctor": "--json",
}
"""Every option and argument: a change here is a change of what people have in their scripts."""


def find_command(line: str) -> Any:  # noqa: ANN401 - types of typer's own copy of click
    """The command, or subcommand, of this name."""
    name, *inner = line.split()
    found = import_module(f"nascli.cli.{name}").run
    return found.commands[inner[0]] if inner else found


@pytest.mark.parametrize("line", OPTIONS)
def test_the_option_set_changes_only_on_purpose(line: str) -> None:
    spelled = {
        text if text.startswith("-") else text.upper() for each in find_command(line).params for text in each.opts
    }
    assert spelled == set(OPTIONS[line].split())


@pytest.mark.parametrize("line", [line for line in OPTIONS if OPTIONS[line]])
def test_every_option_says_what_it_does_and_every_example_can_be_read(line: str) -> None:
    command = find_command(line)
    for each in command.params:
        assert each.help.strip(".")
    assert command.examples
    for example in command.examples:
        words = shlex.split(example.partition(" -m ")[2] or example)[1:]
        inner = [word for word in words[1:] if word != line.split()[-1]] if " " in line else words[1:]
        command.make_context(line, inner)


def test_detect_without_a_command_trains(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("detect", "--coco", "--backbone", "nowhere") == 2
    short = capsys.readouterr().err
    assert exit_code("detect", "train", "--coco", "--backbone", "nowhere") == 2
    assert capsys.readouterr().err == short
    assert "nowhere: no such folder" in short
