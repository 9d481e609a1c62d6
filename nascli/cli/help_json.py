"""The help of all commands as JSON, for programs: made from the tables that the commands are made of."""

import json
import types
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from nascli import __version__
from nascli.cli.failures import ERROR_CODES, EXIT_CODES
from nascli.cli.options import DefaultGroup, ExampleCommand, FieldSetting, Setting

_TYPES = {bool: "flag", int: "integer", float: "number", str: "text", Path: "path"}


def describe_program(summaries: Mapping[str, str], everywhere: Mapping[str, str]) -> dict[str, Any]:
    """Every command with its options, and the exit codes.

    Args:
        summaries: The commands, each with a sentence.
        everywhere: Options of the program itself, each with a sentence.
    """
    commands = [_describe(name, import_module(f"nascli.cli.{name}").run) for name in summaries]
    return {
        "program": "nascli",
        "version": __version__,
        "options": [{"flags": [flag], "help": text} for flag, text in everywhere.items()],
        "commands": commands,
        "exit_codes": {str(code): meaning for code, meaning in EXIT_CODES.items()},
        "error_codes": ERROR_CODES,
    }


def _describe(name: str, command: ExampleCommand | DefaultGroup) -> dict[str, Any]:
    """A command; one with subcommands has those in place of options."""
    about: dict[str, Any] = {
        "name": name,
        "help": command.help,
        "examples": [],
        "options": [],
        "subcommands": [],
        "default": None,
    }
    if isinstance(command, DefaultGroup):
        inner = [_describe(f"{name} {each}", member) for each, member in command.commands.items()]  # type: ignore[arg-type]
        return about | {"subcommands": inner, "default": command.default or None}
    return about | {"examples": list(command.examples), "options": list(_describe_settings(command))}


def _describe_settings(command: ExampleCommand) -> Iterable[dict[str, Any]]:
    parameters: dict[str, Any] = {str(each.name): each for each in command.params}
    for setting in command.settings:
        parameter = parameters[setting.name]
        kind, repeatable, choices = _read_type(setting.annotation)
        limits = {name: getattr(parameter, name, None) for name in ("min", "max")}
        required = setting.default is ...
        yield {
            "name": setting.name,
            "flags": [*parameter.opts, *parameter.secondary_opts] if setting.is_option else [],
            "kind": "option" if setting.is_option else "argument",
            "type": kind,
            "choices": choices,
            **limits,
            "default": None if required else _as_json(setting.default),
            "required": required,
            "repeatable": repeatable,
            "metavar": parameter.metavar,
            "help": parameter.help,
            **_describe_key(setting),
        }


def _describe_key(setting: Setting[Any]) -> dict[str, Any]:
    """The key of the recipe that an option sets, and the key's value where no recipe has it."""
    if not isinstance(setting, FieldSetting):
        return {"recipe_key": None, "recipe_default": None}
    return {"recipe_key": setting.key, "recipe_default": _as_json(setting.key_default)}


def _read_type(annotation: Any) -> tuple[str, bool, list[str] | None]:  # noqa: ANN401 - any annotation
    """Kind, whether it may be given again, and its choices."""
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(each for each in get_args(annotation) if each is not types.NoneType)
    if get_origin(annotation) is list:
        kind, _, choices = _read_type(get_args(annotation)[0])
        return kind, True, choices
    if get_origin(annotation) is Literal:
        return "choice", False, list(get_args(annotation))
    return _TYPES[annotation], False, None


def _as_json(value: object) -> Any:  # noqa: ANN401 - any JSON
    return json.loads(json.dumps(value, default=str))
