"""The options of `nascli build`."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nascli.cli.options import DEVICE, Setting, field_settings
from nascli.config import CellNetworkConfig, MobileNetworkConfig

if TYPE_CHECKING:
    from nascli.models.scaling import Quantity

NETWORK = Setting[str | None](
    "--network", "Instead of --cell: a train run, or a folder of --import-weights.", metavar="DIR|latest"
)
CELLS_PER_STAGE = Setting[str | None](
    "--cells-per-stage", "N, normal cells in each of the three stages; auto: as a target needs.", metavar="N|auto"
)
CLASSES = Setting[int | None]("--classes", "Outputs of the classifier.", min=1, metavar="N")
TARGETS: "dict[Quantity, Setting[str | None]]" = {
    "params": Setting[str | None](
        "--target-params", "Choose F, or the width, for a number of params, like 3.3M.", metavar="AMOUNT"
    ),
    "mult_adds": Setting[str | None](
        "--target-mult-adds", "Choose F, or the width, for mult-adds, like 600M.", metavar="AMOUNT"
    ),
    "latency": Setting[str | None](
        "--target-latency",
        "Choose F, or the width, for the latency of one image in the engine, like 20ms.",
        metavar="TIME",
    ),
}
IMPORT_WEIGHTS = Setting[str | None](
    "--import-weights",
    "Published weights of timm, torchvision, pretrained-models or Keras, for --out or --export.",
    metavar="FILE|hf:ORG/NAME",
)
FOLDER = Setting[Path | None]("--out", "Write network.json into this folder.", metavar="DIR")
EXPORT = Setting[list[Path]](
    "--export",
    "Write the trained network as .onnx, .xml of OpenVINO or .pt2 of torch; repeat for more.",
    [],
    metavar="FILE",
)
REPLACE = Setting[bool]("--overwrite", "Replace a network.json in --out, and files of --export and --optimize.", False)
BENCHMARK = Setting[bool]("--benchmark", "Time the network here, in each of its engines.", False)
BATCH = Setting[list[int]](
    "--batch",
    "Images per batch for --benchmark (1 and 8 by default) or --optimize (1; the last decides); repeat for more.",
    [],
    min=1,
    metavar="N",
)
THREADS = Setting[int | None](
    "--threads", "CPU threads of all that is timed; torch's own number by default.", min=1, metavar="N"
)
PRECISION = Setting[Literal["float32", "bfloat16", "int8", "auto"] | None](
    "--precision",
    "Number format: bfloat16, int8 or auto (all that work) for --optimize, else float32 or bfloat16.",
    metavar="NAME",
)
ENGINE = Setting[Literal["auto", "trained", "folded", "graphed", "openvino"]](
    "--engine", "What --target-latency times; auto is the fastest here.", "auto"
)
COMPILE = Setting[bool]("--compile", "Let --benchmark time the compiled network too; compiling takes minutes.", False)
_SIZE = "Size of the network of --cell; without --preset the sizes are those of cifar10, or mnasnet"
SIZES = [
    *field_settings(
        CellNetworkConfig, {"--preset": "preset", "--filters": "filters", "--image-size": "image_size"}, _SIZE
    ),
    *field_settings(MobileNetworkConfig, {"--width": "width"}, _SIZE),
]
SIZING = [*SIZES, CELLS_PER_STAGE, CLASSES, *TARGETS.values()]
OPTIMIZE = Setting[bool](
    "--optimize", "Choose the fastest precision of a trained network that classifies as well.", False
)
MAX_DROP = Setting[float](
    "--max-drop", "Points of top-1 that --optimize may lose, less than these.", 0.5, metavar="POINTS"
)
DATASET = Setting[str | None](
    "--dataset", "Data set for --optimize with the same classes; by default the run's own.", metavar="NAME"
)
DATA_DIR = Setting[str | None](
    "--data-dir", "Folder of the data sets for --optimize; by default the run's own.", metavar="DIR"
)
TIMING = [BATCH, THREADS, PRECISION, COMPILE, DEVICE, ENGINE]
CHOOSING = [MAX_DROP, DATASET, DATA_DIR]
