"""The report of a search: one HTML page that needs nothing else, and its pictures as PNG files beside it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nascli.errors import InputError
from nascli.files import cannot_write, write_bytes, write_text
from nascli.report import sections
from nascli.report.best_cells import cell_pictures
from nascli.report.choice_plots import choice_pictures
from nascli.report.cost_plots import cost_pictures, seconds_picture
from nascli.report.figures import Picture, styled
from nascli.report.page import page
from nascli.report.progress_plots import collapse_warning, learning_picture, progress_pictures, reward_picture
from nascli.report.random_baseline import choose_baseline
from nascli.report.search_data import SearchData, read_search

PAGE = "report.html"
PICTURES = "report"
"""The folder of the PNG files, beside the page."""


@dataclass(frozen=True)
class SearchReport:
    """What was written.

    Args:
        page: The HTML file.
        dataset: What was searched on.
        pictures: The PNG files.
        baseline: The run folder of the random search it was compared with; None where there is none.
        verdict: How the search stands against it, in words.
        warnings: What a reader should mind before trusting the search.
    """

    page: Path
    dataset: str
    pictures: tuple[Path, ...]
    baseline: Path | None
    verdict: str
    warnings: tuple[str, ...]


def write_search_report(run: Path, *, baseline: Path | None = None, out: Path | None = None) -> SearchReport:
    """Write the report of a search run, which may be one that is going on.

    The same run gives the same files, byte for byte. An earlier report in the folder is replaced.

    Args:
        run: The run folder of a search.
        baseline: That of a random search to compare with; without one, the newest comparable beside `run` is taken.
        out: The folder to write into, made if it is not there; without one, `run`.

    Raises:
        InputError: `run` is no search run or has no trial yet, or `baseline` cannot be compared with it.
        CorruptFileError: A file of a run is damaged.
        NascliError: The folder cannot be written.
    """
    data = read_search(run)
    folder = run if out is None else out
    if not data.trials:
        raise InputError(f"{run} has no trial yet, so there is nothing to report", "Wait for its first, or resume it")
    random = choose_baseline(data, baseline)
    _make(folder / PICTURES)  # what is wrong with it is said before the pictures are drawn
    warnings = tuple(warning for warning in (collapse_warning(data), *sections.cautions(data)) if warning)
    drawn = _Drawn.of(data, random)
    verdict = sections.verdict(data, random)
    text = page(
        f"Search report: {run.resolve().name}",
        sections.head(data, warnings),
        [
            ("random", "Against random search", sections.against_random(data, random, drawn.progress)),
            ("trials", "All trials", sections.all_trials(data, drawn.rewards)),
            ("learning", "The strategy", sections.learning(data, drawn.learning)),
            ("size", "Size against accuracy", sections.sizes(drawn.costs)),
            ("choices", "What was chosen", sections.choices(data, drawn.choices)),
            ("cells", "Best cells", sections.best_cells(data, drawn.cells)),
            ("cost", "What it cost", sections.cost(data, drawn.seconds)),
            ("setup", "Configuration", sections.setup(data)),
        ],
    )
    files = _write(folder, text, drawn.all())
    return SearchReport(
        folder / PAGE, data.recipe.data.dataset, files, random.path if random else None, verdict, warnings
    )


@dataclass(frozen=True)
class _Drawn:
    """The pictures of a report, by section."""

    progress: list[Picture]
    rewards: Picture | None
    learning: Picture | None
    costs: list[Picture]
    choices: list[Picture]
    cells: list[Picture]
    seconds: Picture | None

    @staticmethod
    def of(data: SearchData, random: SearchData | None) -> "_Drawn":
        with styled():
            return _Drawn(
                progress_pictures(data, random),
                reward_picture(data),
                learning_picture(data),
                cost_pictures(data),
                choice_pictures(data),
                cell_pictures(data),
                seconds_picture(data),
            )

    def all(self) -> list[Picture]:
        single = (self.rewards, self.learning, self.seconds)
        several = [*self.progress, *self.costs, *self.choices, *self.cells]
        return [*several, *(picture for picture in single if picture is not None)]


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error, "Choose another folder with --out") from error


def _write(folder: Path, text: str, pictures: Sequence[Picture]) -> tuple[Path, ...]:
    """Write the pictures, then the page; pictures of an earlier report that this one has not are removed."""
    files = tuple(folder / PICTURES / f"{picture.name}.png" for picture in pictures)
    try:
        for file, picture in zip(files, pictures, strict=True):
            write_bytes(file, picture.png)
        for stale in set(_pictures_of(folder)) - set(files):
            stale.unlink(missing_ok=True)
        write_text(folder / PAGE, text)
    except OSError as error:
        raise cannot_write(folder, error, "Choose another folder with --out") from error
    return files


def _pictures_of(folder: Path) -> list[Path]:
    """The pictures beside an earlier report, by its own word."""
    page = folder / PAGE
    names = re.findall(r'<figure id="picture-([a-z0-9-]+)"', page.read_text(encoding="utf-8")) if page.is_file() else []
    return [folder / PICTURES / f"{name}.png" for name in names]
