"""Images per second of `nascli detect predict` on photos, by engine: the whole command, starting and drawing included.

    python benchmarks/detect_predict.py --photos photos --rounds 5 --json detect_predict.json

NASNet-A with the Mobile preset (random weights, 80 classes) as the backbone of two detectors: at 224 to 320 pixels and
at 800 to 1,333, with the numbers of the recipes `coco-cpu` and `coco`. Each measurement is the command in a fresh
process. The boxes of an engine are compared with those of the trained form first.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import Column, Figures, Task, arguments, compare, fresh, serve

TRAINED = "trained"
VARIANTS = {
    TRAINED: ("trained", "float32"),
    "folded": ("folded", "float32"),
    "openvino": ("openvino", "float32"),
    "openvino, bfloat16": ("openvino", "bfloat16"),
}
"""Engine and precision."""
RECIPES = ("coco-cpu", "coco")
CLASSES = 80


def prepare(task: Task) -> Figures:
    """A detector as a run folder has it."""
    import torch

    from nascli.config import DetectRecipe, find_recipe, load_recipe
    from nascli.data.detection.dataset import Category
    from nascli.detect.model import DetectorSpec, build_detector, write_detector
    from nascli.models.families import build_network
    from nascli.models.serialization import WEIGHTS_FILE, save_weights

    torch.manual_seed(0)
    config = load_recipe(DetectRecipe, find_recipe("detect", task["recipe"]), {}).detector
    network = build_network("nasnet-a", "imagenet-mobile", batch_norm_momentum=0.1)
    detector = build_detector(network, config, CLASSES).train()
    with torch.no_grad():
        for _ in range(20):  # the statistics of the batch norms, without which activations vanish
            detector.backbone(torch.randn(2, 3, 224, 224))
    categories = tuple(Category(k, str(k)) for k in range(1, CLASSES + 1))
    folder = Path(task["folder"])
    write_detector(folder, DetectorSpec(network.spec, config, categories))
    save_weights(folder / WEIGHTS_FILE, detector)
    return {}


def predict(task: Task) -> Figures:
    """The command."""
    engine, precision = VARIANTS[task["variant"]]
    out, photos = Path(task["scratch"], "found"), Path(task["photos"])
    options = ["--threshold", "0.02", "--engine", engine, "--precision", precision, "--device", "cpu", "--json"]
    command = [sys.executable, "-m", "nascli", "detect", "predict", str(photos), "--run", task["folder"]]
    environment = os.environ | {"OMP_NUM_THREADS": str(task["threads"])}
    since = time.perf_counter()
    done = subprocess.run(
        [*command, "--out", str(out), *options], capture_output=True, text=True, env=environment, check=False
    )
    seconds = time.perf_counter() - since
    if done.returncode:
        raise SystemExit(done.stderr)
    images: list[dict[str, Any]] = json.loads(done.stdout)["images"]
    held = Path(task["folder"], "scores.json")
    scores = [max((each["score"] for each in image["detections"]), default=0.0) for image in images]
    if not held.exists():
        held.write_text(json.dumps(scores))
    apart = max(abs(one - other) for one, other in zip(scores, json.loads(held.read_text()), strict=True))
    if precision == "float32" and apart > 1e-4:
        raise SystemExit(f"{task['variant']}: the best score of an image differs by {apart:.1e}")
    boxes = sum(len(image["detections"]) for image in images)
    return {"images_per_second": len(images) / seconds, "images": len(images), "boxes": boxes, "difference": apart}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="folder of photos")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--recipe", action="append", choices=RECIPES, help="default: both")
    asked = parser.parse_args()
    columns = [
        Column("images_per_second", "images per second"),
        Column("times_as_fast", "times as fast as trained", figure="images_per_second", under=TRAINED),
        Column("difference", "scores differ by", ".1e"),
    ]
    with tempfile.TemporaryDirectory(prefix="nascli-detect-predict-") as folder:
        cases: dict[str, Task] = {}
        for recipe in asked.recipe or RECIPES:
            settings = {"folder": str(Path(folder, recipe)), "recipe": recipe}
            Path(folder, recipe).mkdir()
            fresh(__file__, {"measure": "prepare", **settings})
            cases[recipe] = settings
        variants: dict[str, Task] = {name: {"measure": "predict"} for name in VARIANTS}
        compare(__file__, asked, "nascli detect predict", variants, columns, cases=cases)


if __name__ == "__main__" and not serve({"prepare": prepare, "predict": predict}):
    main()
