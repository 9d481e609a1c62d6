"""What each rewriting of a network's graph is worth in OpenVINO: milliseconds with all of them, and without one.

    python benchmarks/rewriting.py --rounds 5 --json rewriting.json

NASNet-A Mobile (224 pixels) with random weights. Of each form OpenVINO's own converter makes a model, once;
"translated" is the model that nascli makes of the graph with all rewritings. Every measurement is a fresh process,
which compares the logits with the network's first.
"""

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from common import Column, Figures, Task, arguments, compare, serve, time_calls

if TYPE_CHECKING:
    from nascli.models.deploy.openvino import Model
    from nascli.models.interface import ImageClassifier

TRANSLATED, ALL = "translated", "all rewritings"
WITHOUT = {
    ALL: (),
    "batch norms apart": ("_fold_norms",),
    "nothing shared": ("_share",),
    "padding apart": ("_pad_inside",),
    "none": ("_fold_norms", "_share", "_pad_inside"),
}
"""Steps of `nascli.models.deploy.fuse.fold` that are left out."""

TOLERANCES = {"float32": 1e-4, "bfloat16": 5e-2}


def measure(task: Task) -> Figures:
    import torch

    from nascli.models.deploy.engines import compare_logits
    from nascli.models.deploy.ir import serialize
    from nascli.models.deploy.openvino import OpenvinoEngine, open_core
    from nascli.models.deploy.program import make_images
    from nascli.models.deploy.translation import convert
    from nascli.models.families import build_network

    torch.set_num_threads(task["threads"])
    torch.manual_seed(0)
    network = build_network("nasnet-a", task["preset"]).eval()
    file = Path(task["folder"], f"{task['variant']}.xml")
    if not file.exists():
        model = (
            convert(network)
            if task["variant"] == TRANSLATED
            else convert_without(network, task["variant"], task["batch"])
        )
        serialize(model, {}).write(file)
    engine = OpenvinoEngine(open_core().read_model(file), task["precision"])
    images = make_images(network.spec, task["batch"])
    with torch.inference_mode():
        tolerance = TOLERANCES[task["precision"]]
        apart = compare_logits(engine(images), network(images), tolerance, subject=task["variant"], hint="")
    timed = time_calls(lambda: engine(images), task["seconds"], 5)
    return {"milliseconds": 1000 * timed[len(timed) // 2], "difference": apart}


def convert_without(network: "ImageClassifier", variant: str, batch: int) -> "Model":
    """The model that OpenVINO's converter makes of the folded network, without some steps of the folding."""
    import torch

    from nascli.models.deploy import fuse
    from nascli.models.deploy.openvino import import_openvino
    from nascli.models.deploy.program import make_images, quiet

    with ExitStack() as stack:
        for step in WITHOUT[variant]:
            stack.enter_context(mock.patch.object(fuse, step, return_value=None))
        folded = fuse.fold(network)
    with quiet():
        program = torch.export.export(folded, (make_images(network.spec, batch),), strict=False)
        return import_openvino().convert_model(program)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5, help="of forwards in each measurement; a third warms up")
    parser.add_argument("--preset", default="imagenet-mobile")
    parser.add_argument("--batch", type=int, default=1)
    asked = parser.parse_args()
    columns = [
        Column("milliseconds", "milliseconds"),
        Column("all_times_as_fast", "all rewritings, times as fast", figure="milliseconds", under=ALL),
        Column("difference", "logits differ by", ".1e"),
    ]
    with tempfile.TemporaryDirectory(prefix="nascli-rewriting-") as folder:
        cases: dict[str, Task] = {name: {"precision": name, "folder": folder} for name in TOLERANCES}
        variants: dict[str, Task] = {name: {"measure": "forward"} for name in (TRANSLATED, *WITHOUT)}
        compare(__file__, asked, f"NASNet-A, {asked.preset}, in OpenVINO", variants, columns, cases=cases)


if __name__ == "__main__" and not serve({"forward": measure}):
    main()
