"""Commands as tables of options, each option written once.

An option that sets a key of a recipe is a line `"--flag": "section.key"` in the table of its command: type, choices and
help come from the key's field. Every other option is a `Setting`, by which a command asks its `Call` for the value.
"""

import inspect
import keyword
import os
import re
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar, Union, get_args, get_origin

import typer
from typer.core import TyperCommand, TyperGroup

from nascli.cli.console import JsonOutput, Terminal
from nascli.errors import InputError
from nascli.reading import expand_home

if TYPE_CHECKING:
    from nascli.config import Section

T = TypeVar("T", covariant=True)


class Setting(Generic[T]):
    """An option whose value has the type T, as in `Setting[int | None]("--workers", ...)`; without dashes an argument.

    Args:
        default: `...` where the value is required.
        details: Further arguments of `typer.Option` or `typer.Argument`.
    """

    def __init__(self, flag: str, help: str, default: object = None, **details: Any) -> None:  # noqa: A002, ANN401
        self.flag, self.default = flag, default
        name = flag.strip("-").replace("-", "_")
        self.name = f"{name}_" if keyword.iskeyword(name) else name
        self._info = (
            typer.Option(flag, help=help, **details) if self.is_option else typer.Argument(help=help, **details)
        )

    @property
    def is_option(self) -> bool:
        """Whether the value follows a flag."""
        return self.flag.startswith("-")

    @property
    def annotation(self) -> Any:  # noqa: ANN401 - any type
        """T, which the instance's own subscript says."""
        return get_args(self.__orig_class__)[0]  # type: ignore[attr-defined]

    def parameter(self) -> inspect.Parameter:
        """The parameter of a typer command."""
        default = inspect.Parameter.empty if self.default is ... else self.default
        annotation = Annotated[self.annotation, self._info]  # type: ignore[name-defined]
        return inspect.Parameter(self.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


_METAVARS: dict[Any, str] = {int: "N", float: "X", list[str]: "TEXT"}
_FEW_CHOICES = 3  # more stand in the help text


class FieldSetting(Setting[Any]):
    """An option that sets a key of a model; it stands under a heading of its own on the help page."""

    def __init__(self, flag: str, model: "type[Section]", key: str, heading: str) -> None:
        from nascli.config import NETWORK_SECTIONS

        *sections, last = key.split(".")
        owner: Any = model
        for section in sections:
            field = owner.model_fields[section]
            owner = field.default_factory or field.annotation  # the class of the first family, of a section by family
        owners = (owner, *NETWORK_SECTIONS.values())  # of a section by family the other families', too
        field = next(each.model_fields[last] for each in owners if last in each.model_fields)
        text = field.description or ""
        self.model, self.key, self._type = model, key, _option_type(field.annotation)
        self.key_default = None if field.is_required() else field.get_default(call_default_factory=True)
        default = False if self._type is bool else None
        choices = get_args(self._type) if get_origin(self._type) is Literal else ()
        text += f"; one of {', '.join(choices)}" if len(choices) > _FEW_CHOICES else ""
        metavar = "|".join(choices) if 0 < len(choices) <= _FEW_CHOICES else _METAVARS.get(self._type, "NAME")
        details = {} if self._type is bool else {"metavar": "DIR" if last.endswith("_dir") else metavar}
        help_text = f"{text[:1].upper()}{text[1:]}."
        super().__init__(flag, help_text, default, rich_help_panel=heading, show_default=False, **details)

    @property
    def annotation(self) -> Any:  # noqa: ANN401 - any type
        """The type of the field, or None where the option is not given."""
        return bool if self._type is bool else self._type | None


def field_settings(model: "type[Section]", table: Mapping[str, str], heading: str = "") -> list[Setting[Any]]:
    """An option for each `flag: dotted key` of a table; type, choices and help are those of the model's field."""
    heading = heading or "Keys of the recipe (their defaults stand in it; any other key by --set)"
    return [FieldSetting(flag, model, key, heading) for flag, key in table.items()]


def _option_type(annotation: Any) -> Any:  # noqa: ANN401 - any annotation of a field
    """The type of an option for a field of this type."""
    origin, arguments = get_origin(annotation), [each for each in get_args(annotation) if each is not types.NoneType]
    if origin in (Union, types.UnionType, Annotated):
        return _option_type(arguments[0])
    if origin is tuple:
        return list[_option_type(arguments[0])]  # type: ignore[misc]
    return annotation if origin is Literal or annotation in (bool, int, float) else str


CELL = Setting[str | None]("--cell", "Genotype: a JSON file, a search run, or a zoo name.", metavar="CELL")
RECIPE = Setting[str | None]("--recipe", "Shipped recipe by name, or a TOML file.", metavar="NAME|FILE")
SET = Setting[list[str]]("--set", "Set any key of the recipe; repeat for more.", [], metavar="KEY=VALUE")
MAX_MEGAPIXELS = Setting[int | None](
    "--max-megapixels",
    "Millions of pixels of the largest image that is decoded.",
    min=1,
    max=100_000,  # as for data.max_megapixels of a recipe
    metavar="N",
)
OUT = Setting[Path | None]("--out", "Run folder; by default runs/<command>/<time>-<name>.", metavar="DIR")
OVERWRITE = Setting[bool]("--overwrite", "Replace an earlier run in --out.", False)
RESUME = Setting[str | None](
    "--resume", "Resume an earlier run with the settings saved in its folder.", metavar="RUN|latest"
)
DEVICE = Setting[str]("--device", "auto, cpu, cuda or cuda:N.", "auto", metavar="NAME")
GPUS = Setting[int | None]("--gpus", "Train on N GPUs of this machine, with a process per GPU.", min=1, metavar="N")
DRY_RUN = Setting[bool]("--dry-run", "Print the plan and its measured cost; write nothing.", False)
JSON = Setting[bool]("--json", "Print one JSON object on stdout and nothing else.", False)

NEW_RUN: list[Setting[Any]] = [RECIPE, SET, OUT, OVERWRITE, RESUME, DEVICE, DRY_RUN, JSON]
"""Options of every command that makes a run."""


class Call:
    """One call of a command: the values of its options, and which of them the user gave."""

    def __init__(self, context: typer.Context, settings: Sequence[Setting[Any]], values: Mapping[str, Any]) -> None:
        self._context, self._settings, self._values = context, settings, values

    def __getitem__(self, setting: Setting[T]) -> T:
        value: T = self._values[setting.name]
        return value

    @property
    def given(self) -> list[Setting[Any]]:
        """The options and arguments that stand on the command line, in the order of the table."""
        sources = {each: self._context.get_parameter_source(each.name) for each in self._settings}
        return [each for each, source in sources.items() if source is not None and source.name == "COMMANDLINE"]

    def keys(self, model: "type[Section]") -> dict[str, Any]:
        """The keys of a model that options set."""
        fields = [each for each in self.given if isinstance(each, FieldSetting) and each.model is model]
        return {each.key: self[each] for each in fields}

    def terminal(self, *, quiet: bool = False) -> Terminal:
        """The terminal of this call; `quiet` where another process prints."""
        return Terminal(self.output if self[JSON] else None, quiet=quiet)

    @property
    def output(self) -> JsonOutput:
        """The object that the program leaves on stdout with --json."""
        output: JsonOutput = self._context.obj
        return output

    def refuse(self, message: str, surplus: Iterable[Setting[Any]], hint: str = "Leave them out") -> None:
        """InputError where some of these options are given; their names follow the message."""
        given = self.given
        names = [each.flag for each in surplus if each in given]
        if names:
            raise InputError(f"{message} {', '.join(names)}", hint)

    def refuse_with_resume(self, allowed: Collection[str], hint: str = "Leave them out, or start a new run") -> None:
        """InputError where an option is given that --resume would ignore."""
        kept = {"--resume", "--json", *allowed}
        surplus = [each for each in self._settings if each.flag not in kept]
        self.refuse("--resume takes the settings saved in the run folder; it excludes", surplus, hint)

    def words(self, *without: Setting[Any]) -> list[str]:
        """The command line after `nascli`, spelled out, without some options."""
        words = self._context.command_path.split()[1:]
        for setting in self.given:
            value = self[setting]
            for each in value if isinstance(value, list) else [value]:
                if setting not in without:
                    words += [setting.flag] if setting.is_option else []
                    words += [] if each is True else [str(each)]
        return words


SETTINGS: dict[str, Any] = {
    "rich_markup_mode": None,  # plain pages: rich takes longer to import than the rest of a help page
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"], "max_content_width": 110},
}
"""Arguments of every `typer.Typer`."""


class ExampleCommand(TyperCommand):
    """A command whose help page ends its text with examples to paste, and has options under several headings."""

    examples: Sequence[str] = ()
    settings: Sequence[Setting[Any]] = ()

    def format_options(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - types of typer's own copy of click
        """The examples, then the options."""
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"  {example}\n")  # not wrapped, so that it can be pasted
        sections: dict[str, list[tuple[str, str]]] = {"Options": []}
        for each in self.get_params(ctx):
            record = each.get_help_record(ctx)
            if record is not None:
                sections.setdefault(getattr(each, "rich_help_panel", None) or "Options", []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def command(
    name: str, settings: Sequence[Setting[Any]], examples: Sequence[str]
) -> Callable[[Callable[[Call], None]], ExampleCommand]:
    """Make a function of a `Call` the command of this name; its docstring is the help."""

    def make(run: Callable[[Call], None]) -> ExampleCommand:
        def call(context: typer.Context, **values: object) -> None:
            run(Call(context, settings, values))  # context.params are texts still with versions of typer

        first = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
        parameters = [first, *(each.parameter() for each in settings)]
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {each.name: each.annotation for each in parameters}
        text = inspect.cleandoc(run.__doc__ or "")
        summary = " ".join(text.split("\n\n")[0].split())
        app = typer.Typer(add_completion=False, **SETTINGS)
        app.command(name, cls=ExampleCommand, help=text, short_help=summary)(call)
        made = typer.main.get_command(app)
        assert isinstance(made, ExampleCommand)
        made.examples, made.settings = examples, settings
        return made

    return make


class DefaultGroup(TyperGroup):
    """Commands of which `default`, if there is one, is run where options come without a command's name."""

    default = ""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - types of typer's own copy of click
        """Put the default's name before options."""
        only_options = not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names)
        return super().parse_args(ctx, [self.default, *args] if only_options and self.default else args)


def command_group(name: str, help_text: str, commands: Sequence[ExampleCommand], default: str = "") -> DefaultGroup:
    """A command with subcommands, of which `default` may be left unsaid."""
    members: dict[str, Any] = {str(each.name): each for each in commands}
    settings = SETTINGS["context_settings"]
    made = DefaultGroup(
        name=name,
        commands=members,
        help=help_text,
        context_settings=settings,
        rich_markup_mode=None,
        no_args_is_help=not default,
    )
    made.default = default
    return made


def runs_folder() -> Path:
    """The folder of all runs: `$NASCLI_RUNS` where it is not blank, with `~` for the home folder; else `runs` here."""
    return expand_home(os.environ.get("NASCLI_RUNS", "").strip() or "runs")


def place_run(call: Call) -> dict[str, Any]:
    """The arguments of `create_run` that say where a new run stands."""
    place = {"runs": runs_folder(), "out": call[OUT], "overwrite": call[OVERWRITE]}
    return {**place, "note": call.terminal().note}


def run_label(data: str, cell: str) -> str:
    """Data set and cell, fit for the name of a folder."""
    place = re.sub(r"^(folder|pack):", "", data)
    return re.sub(r"[^A-Za-z0-9.]+", "-", f"{Path(place).name}-{cell}").strip("-")
