"""`nascli build --optimize`: what a trained network computes in, chosen by measurement."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nascli.cli.build_settings import (
    BATCH,
    BENCHMARK,
    CHOOSING,
    COMPILE,
    ENGINE,
    NETWORK,
    OPTIMIZE,
    PRECISION,
    TARGETS,
    THREADS,
    TIMING,
)
from nascli.cli.console import Terminal
from nascli.cli.latency_view import describe_latencies, describe_spread
from nascli.cli.options import DEVICE, Call
from nascli.errors import InputError
from nascli.files import check_writable
from nascli.units import count_of

if TYPE_CHECKING:
    from nascli.classify.optimize import Candidate, OptimizeReport


def check_timing(call: Call) -> None:
    """Refuse options of --benchmark, --optimize and --target-latency without them, and a precision that one has not."""
    wanted = call[PRECISION]
    if not call[OPTIMIZE]:
        call.refuse("without --optimize there is no use for", CHOOSING, "Give --optimize too, or leave them out")
    elif not call[NETWORK]:
        raise InputError("--optimize needs --network", "For example --network latest: it measures what is trained")
    elif wanted == "float32":
        raise InputError("--optimize looks for fewer bits than float32", "Give --precision bfloat16, int8 or auto")
    if wanted in ("int8", "auto") and (call[BENCHMARK] or not call[OPTIMIZE]):
        raise InputError(
            f"--precision {wanted} is for --optimize alone, all else is timed in float32 or bfloat16",
            "Give --optimize in place of --benchmark: it times what it tries",
        )
    used = {
        BENCHMARK: (BATCH, THREADS, PRECISION, COMPILE, DEVICE),
        OPTIMIZE: (BATCH, THREADS, PRECISION),
        TARGETS["latency"]: (THREADS, PRECISION, DEVICE, ENGINE),
    }
    for setting in TIMING:
        wishes = [wish for wish, options in used.items() if setting in options]
        if not any(call[wish] for wish in wishes):
            names = " or ".join(wish.flag for wish in wishes)
            call.refuse(f"without {names} there is no use for", [setting], f"Give {names} too, or leave it out")


def check_optimize(folder: Path, max_drop: float, *, replace: bool) -> None:
    """Refuse what cannot be written or met, before anything is measured."""
    from nascli.models.deploy.optimized import OPTIMIZED_FILE

    if not (math.isfinite(max_drop) and 0 <= max_drop <= 100):
        raise InputError(f"--max-drop {max_drop:g}: it is in percentage points, 0 to 100", "For example --max-drop 0.5")
    record = folder / OPTIMIZED_FILE
    if record.exists() and not replace:
        raise InputError(f"{record} exists", "Replace it with --overwrite")
    check_writable(record)


def optimize_network(
    terminal: Terminal,
    folder: Path,
    precision: Literal["bfloat16", "int8", "auto"],
    *,
    max_drop: float,
    batches: Sequence[int],
    asked: Mapping[str, object],
) -> dict[str, Any]:
    """Measure, write and show; the record as JSON values.

    Args:
        asked: Keys of the data set's section.
    """
    from nascli.classify.evaluate import open_trained_run
    from nascli.classify.optimize import OptimizeOptions, optimize

    options = OptimizeOptions(precision, max_drop, tuple(batches), terminal.note)
    with terminal.status("measuring precisions"):
        report = optimize(open_trained_run(folder, **asked), options)
    _show(terminal, report)
    terminal.note(f"wrote {folder / 'optimized.json'}: --precision auto computes in {report.admitted.precision}")
    return dict(report.values)


def _show(terminal: Terminal, report: "OptimizeReport") -> None:
    first = report.candidates[0]
    values, threads = report.values, count_of(first.latencies[0].threads, "thread")
    columns = ("precision", "top-1", "points lost", *_columns(first), "")
    terminal.show("")
    terminal.show_table(
        f"precisions in OpenVINO: {values['images']:,} {values['split']} images of {values['dataset']}, {threads}",
        [_row(each, report) for each in report.candidates],
        columns,
    )
    terminal.show("")
    terminal.note(describe_latencies([latency for each in report.candidates for latency in each.latencies]))
    for each in report.candidates[1:]:
        if each is not report.admitted:
            terminal.note(_explain(each, report))
    if 100 / values["images"] > values["max_drop"]:
        terminal.note(f"one image is {100 / values['images']:.2g} points of top-1 here: more images measure finer")


def _columns(candidate: "Candidate") -> list[str]:
    return [text for each in candidate.latencies for text in (f"latency, batch {each.batch}", "median, upper quartile")]


def _row(candidate: "Candidate", report: "OptimizeReport") -> tuple[str, ...]:
    times = [text for each in candidate.latencies for text in describe_spread(each)]
    admitted = "<- admitted" if candidate is report.admitted else ""
    return candidate.precision, f"{candidate.top1:.2%}", f"{candidate.drop:.2f}", *times, admitted


def _explain(candidate: "Candidate", report: "OptimizeReport") -> str:
    """The reason for which a precision was not admitted."""
    name, first, best = candidate.precision, report.candidates[0], report.admitted
    if candidate.drop > 0 and candidate.drop >= report.values["max_drop"]:
        return f"{name} loses {candidate.drop:.2f} points of top-1"
    ratio, batch = first.seconds / candidate.seconds, candidate.latencies[-1].batch
    if best is first:
        return f"{name} does not pay here: {ratio:.2f} times the speed of float32 at batch {batch}"
    return f"{name} has {ratio:.2f} times the speed of float32 at batch {batch}, {best.precision} is faster"
