"""Recipes: every number of a run, in frozen models that refuse what they do not know.

A recipe is a TOML file in `recipes/<command>/`. The order is defaults < recipe < flags < `--set`. The models
below are the whole list of knobs; each field says its unit. A key that does not exist is refused with the
nearest one that does.
"""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nascli.errors import CorruptFileError, InputError


class Section(BaseModel):
    """Base of all configuration: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


class DataConfig(Section):
    """Which images, and how a training image is varied."""

    dataset: str = Field("digits", description="digits, cifar10, cifar100, imagenet, folder:PATH or pack:FILE.h5")
    data_dir: str = Field("data", description="folder under which downloaded data sets lie")
    train_images: int = Field(
        0, ge=0, description="use only so many training images, of each class alike, always the same; 0 is all"
    )
    crop_padding: int = Field(0, ge=0, description="zero pixels added on each side before a random crop")
    flip: bool = Field(False, description="mirror left and right with probability one half")
    cutout: int = Field(0, ge=0, description="side in pixels of the square set to the mean; 0 is off")
    mixup: float = Field(0.0, ge=0, description="alpha of the Beta distribution that mixes two images; 0 is off")
    cutmix: float = Field(
        0.0, ge=0, description="alpha of the Beta distribution of the part that is pasted from another image; 0 is off"
    )
    workers: int | None = Field(
        None, ge=0, description="processes that decode streamed images, 0 for none; one a core when left out"
    )
    max_bad_images: int = Field(
        0, ge=0, description="images that cannot be decoded and are left out, after which the run stops"
    )


Preset = Literal["cifar10", "imagenet-mobile", "imagenet-large", "pnasnet-large", "pnasnet-mobile"]
"""The published sizes that a network can start from; their numbers are in `nascli.models.spec.PRESETS`."""


class NetworkConfig(Section):
    """The macro numbers of a network; what is left out comes from the preset."""

    preset: Preset | None = Field(None, description="published sizes to start from; chosen by image size when left out")
    filters: int | None = Field(None, ge=1, description="F, filters of an op in the first stage")
    cells_per_stage: int | None = Field(None, ge=1, description="N, normal cells in each of the three stages")
    image_size: int | None = Field(None, ge=8, description="height and width of the input in pixels")
    stem: Literal["cifar", "imagenet"] | None = Field(None, description="layers before the first cell")
    stem_filters: int | None = Field(None, ge=1, description="channels of the stem convolution")
    dropout: float | None = Field(None, ge=0, lt=1, description="before the classifier, probability")
    skip_reduction_input: bool | None = Field(
        None, description="the cell after a reduction reads two cells before it instead of one"
    )
    reduction_placement: Literal["added", "in_place"] | None = Field(
        None,
        description="the reduction cell of a stage is added to its normal cells, or stands in for the first (PNASNet)",
    )
    batch_norm_momentum: float | None = Field(None, gt=0, le=1, description="PyTorch's sense: 1 - decay")
    batch_norm_epsilon: float | None = Field(None, gt=0)


class Preprocessing(Section):
    """How an image file becomes the input of a network that is measured; its size, mean and std stand beside it.

    The image is resized, and the central square of the network's size is cut out. The defaults are what our own
    networks are measured with.
    """

    resize: Literal["shorter_side", "both_sides"] = Field(
        "shorter_side", description="which sides get the length size / crop: both make a square of any image"
    )
    crop: float = Field(0.875, gt=0, le=1, description="side of the central square over that length; 1 is all of it")
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"


class TrainConfig(Section):
    """One training: SGD with momentum, or RMSProp as TensorFlow computes it; a cosine, or an exponential decay."""

    epochs: int = Field(10, ge=1)
    batch_size: int = Field(64, ge=2, description="images an optimizer step; batch normalisation needs two")
    accumulate: int = Field(
        1, ge=1, description="parts a batch is computed in: less memory, batch-norm statistics of each part alone"
    )
    lr: float = Field(0.05, gt=0, description="peak learning rate")
    base_batch: int = Field(
        0, ge=0, description="images a step that `lr` is for: it is scaled in proportion to batch_size; 0 leaves it"
    )
    warmup_epochs: float = Field(0.0, ge=0, description="epochs of linear warm-up")
    schedule: Literal["cosine", "exponential"] = Field(
        "cosine", description="the learning rate after the warm-up: to 0 as a cosine, or by steps"
    )
    decay_rate: float = Field(0.97, gt=0, le=1, description="factor of the learning rate at each step of exponential")
    decay_epochs: float = Field(2.4, gt=0, description="epochs between two steps of exponential")
    optimizer: Literal["sgd", "rmsprop"] = "sgd"
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = Field(False, description="of sgd")
    rmsprop_decay: float = Field(0.9, ge=0, lt=1, description="of the moving average of squared gradients")
    rmsprop_epsilon: float = Field(1.0, gt=0, description="added to that average, inside the root")
    weight_decay: float = Field(5e-4, ge=0, description="L2 on convolution and classifier weights, not on batch norms")
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    aux_weight: float = Field(0.0, ge=0, description="weight of the auxiliary loss; 0 leaves the head out")
    drop_path_prob: float = Field(
        0.0, ge=0, lt=1, description="probability of dropping a path in the last cell at the last step"
    )
    clip_norm: float = Field(5.0, ge=0, description="global gradient norm; 0 is off")
    ema_decay: float = Field(
        0.0, ge=0, lt=1, description="moving average of the weights, used for evaluation; 0 is off"
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="of the network's arithmetic; float16 scales its loss, and needs CUDA"
    )
    recompute_cells: bool = Field(
        False,
        description="compute a cell's activations again in the backward pass instead of keeping them: less memory, "
        "more time, the same weights",
    )
    compile: bool = Field(
        False, description="compile the cells, each different one once (minutes); needs a C++ compiler"
    )
    threads: int = Field(0, ge=0, description="CPU threads; 0 is one for each core. Weights depend on it, bit for bit")
    checkpoint_minutes: float = Field(
        10.0, gt=0, description="between checkpoints inside an epoch; each epoch ends with one"
    )


class SpaceConfig(Section):
    """The search space: a name, or a user's own with its ops and blocks."""

    name: str = Field("nasnet", description="nasnet, enas, darts, or a name for the space given here")
    ops: tuple[str, ...] | None = Field(None, description="op names; given only for a space of your own")
    blocks: int | None = Field(None, ge=1, le=12, description="B, blocks a cell")
    combines: tuple[Literal["add", "concat"], ...] | None = None
    concat: Literal["unused", "all"] | None = Field(
        None, description="which block outputs a cell joins: those no block used, or all"
    )
    inputs: Literal["any", "distinct"] | None = Field(
        None, description="whether a block may read one state twice, or reads two distinct ones"
    )
    cells: Literal["two", "one"] | None = Field(
        None, description="a normal and a reduction cell of their own, or one cell that serves as both"
    )


class PpoConfig(Section):
    """The controller and its update; the paper's values where it gives them."""

    hidden: int = Field(100, ge=1, description="LSTM units")
    init_range: float = Field(0.1, gt=0, description="weights start uniform in plus or minus this")
    batch_size: int = Field(20, ge=1, description="architectures an update")
    lr: float = Field(3.5e-4, gt=0)
    epochs: int = Field(4, ge=1, description="passes over a batch in one update; not in the paper")
    clip: float = Field(0.2, gt=0, lt=1, description="range of the probability ratio; not in the paper")
    entropy_weight: float = Field(1e-5, ge=0)
    baseline_decay: float = Field(0.95, ge=0, lt=1, description="moving average of rewards")
    max_grad_norm: float = Field(0.5, gt=0, description="not in the paper")


class ReinforceConfig(Section):
    """The controller of `ppo` with the plain policy gradient; numbers of Zoph and Le 2017 where it gives them."""

    hidden: int = Field(100, ge=1, description="LSTM units")
    init_range: float = Field(0.1, gt=0, description="weights start uniform in plus or minus this")
    batch_size: int = Field(8, ge=1, description="architectures an update")
    lr: float = Field(6e-4, gt=0)
    entropy_weight: float = Field(1e-5, ge=0)
    baseline_decay: float = Field(0.95, ge=0, lt=1, description="moving average of rewards")
    max_grad_norm: float = Field(0.5, gt=0, description="not in the paper")


class EvolutionConfig(Section):
    """Regularized evolution: the oldest of a population dies, a mutant of the best of a sample is born."""

    population: int = Field(20, ge=2, description="cells alive; the first so many are random")
    sample: int = Field(5, ge=1, description="cells drawn from the population, whose best is the parent")
    batch_size: int = Field(4, ge=1, description="mutants proposed before the rewards of earlier ones are told")


class SurrogateConfig(Section):
    """Bayesian optimization: a Gaussian process, fitted to all results, chooses the next cells."""

    initial: int = Field(12, ge=1, description="random cells before the model chooses")
    batch_size: int = Field(4, ge=1, description="cells proposed before the rewards of earlier ones are told")
    candidates: int = Field(100, ge=2, description="cells that the model looks at for each batch")
    results: int = Field(400, ge=10, description="that it is fitted to at most; the time grows with their third power")


class HalvingConfig(Section):
    """Successive halving: a child is trained for few epochs first, and for more only if it is among the best."""

    rungs: tuple[int, ...] = Field((), description="epochs of the rungs below train.epochs, rising; none is off")
    keep: float = Field(1 / 3, gt=0, lt=1, description="part of the children of a rung that goes on to the next")


class RerankConfig(Section):
    """The best cells of a search, trained again for longer and with several seeds, to choose among them."""

    top: int = Field(0, ge=0, description="cells that are trained again; 0 is off")
    epochs: int = Field(0, ge=0, description="of that training; 0 is train.epochs")
    seeds: int = Field(1, ge=1, description="trainings a cell, each from other weights")


class SharedConfig(Section):
    """The network that holds the weights of every child at once, for `search.evaluator = "shared"`."""

    epochs: int = Field(10, ge=1, description="each step trains a cell drawn at random")
    batch_size: int = Field(64, ge=2)
    lr: float = Field(0.05, gt=0, description="peak learning rate; cosine to 0")
    weight_decay: float = Field(1e-4, ge=0)
    refresh_images: int = Field(
        1024, ge=2, description="training images on which a child's batch-norm statistics are taken before it is scored"
    )


class SearchConfig(Section):
    """How many cells are tried, by whom, and on what they are scored."""

    strategy: Literal["ppo", "reinforce", "random", "evolution", "surrogate", "exhaustive"] = "ppo"
    trials: int = Field(20, ge=1, description="cells proposed in all, repeats and rejected ones included")
    warmup: int = Field(0, ge=0, description="proposals of another strategy that ppo or reinforce first learns from")
    warmup_strategy: Literal["random", "evolution"] = "random"
    evaluator: str = Field(
        "proxy",
        description="proxy (a training), shared (inherited weights), table:FILE, or a score without training: params, "
        "mult_adds, naswot, gradient_norm",
    )
    repeats: int = Field(1, ge=1, description="trainings a cell, each from other weights; the reward is their mean")
    limits: tuple[str, ...] = Field(
        (), description='what a cell must keep before it is trained: "params<6M", "latency<20ms", "naswot>50%"'
    )
    executor: Literal["local", "ray"] = Field("local", description="worker processes here, or a Ray cluster's")
    workers: int = Field(0, ge=0, description="worker processes, one thread each; 0 is one for each core or GPU slot")
    workers_per_gpu: int = Field(1, ge=1, description="worker processes that share a GPU")
    asynchronous: bool = Field(
        False, description="never wait for a batch: faster, but the result depends on who finishes first"
    )
    holdout: float = Field(0.1, gt=0, lt=1, description="part of the training split kept for the reward")
    failure_reward: float = Field(
        0.0, allow_inf_nan=False, description="told to the strategy for a child that failed or broke a limit"
    )
    retries: int = Field(2, ge=0, description="times a child is run again after its worker was lost")
    patience: int = Field(
        200, ge=0, description="proposals in a row that bring nothing new to train, after which a search ends; 0 is off"
    )
    top: int = Field(5, ge=1, description="genotypes written to top/")


class DetectorConfig(Section):
    """The Faster R-CNN on a feature pyramid."""

    pyramid_channels: int = Field(64, ge=8, description="channels of every pyramid level")
    head_channels: int = Field(256, ge=8, description="width of the box head")
    min_size: int = Field(96, ge=32, description="shorter side of the image in pixels after resizing")
    max_size: int = Field(96, ge=32, description="longer side at most, in pixels after resizing")
    anchor_size: float = Field(
        16.0, gt=0, description="side in pixels of the anchors on the finest level; doubles a level"
    )
    anchor_scales: int = Field(
        1, ge=1, le=4, description="anchor sizes a level, in equal ratios up to the next level's"
    )
    proposals: int = Field(200, ge=1, description="proposals an image that reach the box head")
    box_samples: int = Field(128, ge=1, description="proposals an image that the box loss is computed on")
    detections: int = Field(100, ge=1, description="boxes an image that are kept")
    freeze_batch_norm: bool = Field(False, description="keep the backbone's batch-norm statistics and scale")


class DetectTrainConfig(Section):
    """Training of a detector by SGD with momentum, linear warm-up, and a cosine that ends at zero."""

    epochs: int = Field(8, ge=1)
    batch_size: int = Field(8, ge=1)
    lr: float = Field(0.02, gt=0)
    warmup_steps: int = Field(50, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0)
    clip_norm: float = Field(10.0, ge=0, description="global gradient norm; 0 is off")
    flip: bool = Field(False, description="mirror left and right with probability one half")
    score_every: int = Field(0, ge=0, description="epochs between two scorings while training; 0 scores the end alone")
    threads: int = Field(0, ge=0, description="CPU threads; 0 is one for each core. Weights depend on it, bit for bit")
    checkpoint_minutes: float = Field(
        10.0, gt=0, description="between checkpoints inside an epoch; each epoch ends with one"
    )


class DetectDataConfig(Section):
    """Which scenes."""

    dataset: str = Field("digit-scenes", description="digit-scenes, coco, or coco:PATH for a COCO-format folder")
    data_dir: str = Field("data", description="folder that holds the data set")
    train_images: int = Field(0, ge=0, description="use only the first so many training images; 0 is all")
    val_images: int = Field(0, ge=0, description="use only the first so many validation images; 0 is all")
    evaluate_on: Literal["val", "train"] = Field("val", description="the split whose average precision is reported")
    most_boxes: int = Field(
        1000, ge=0, description="training images with more boxes are left out, and counted; 0 leaves none out"
    )


class SearchRecipe(Section):
    """Everything `nascli search` needs to repeat a run."""

    seed: int = 0
    data: DataConfig = Field(default_factory=DataConfig)
    space: SpaceConfig = Field(default_factory=SpaceConfig)
    network: NetworkConfig = Field(default_factory=NetworkConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    search: SearchConfig = Field(default_factory=SearchConfig)
    ppo: PpoConfig = Field(default_factory=PpoConfig)
    reinforce: ReinforceConfig = Field(default_factory=ReinforceConfig)
    evolution: EvolutionConfig = Field(default_factory=EvolutionConfig)
    surrogate: SurrogateConfig = Field(default_factory=SurrogateConfig)
    shared: SharedConfig = Field(default_factory=SharedConfig)
    halving: HalvingConfig = Field(default_factory=HalvingConfig)
    rerank: RerankConfig = Field(default_factory=RerankConfig)


class TrainRecipe(Section):
    """Everything `nascli train` needs to repeat a run."""

    seed: int = 0
    data: DataConfig = Field(default_factory=DataConfig)
    network: NetworkConfig = Field(default_factory=NetworkConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)


class DetectRecipe(Section):
    """Everything `nascli detect` needs to repeat a run."""

    seed: int = 0
    data: DetectDataConfig = Field(default_factory=DetectDataConfig)
    detector: DetectorConfig = Field(default_factory=DetectorConfig)
    train: DetectTrainConfig = Field(default_factory=DetectTrainConfig)


Recipe = TypeVar("Recipe", bound=Section)


def recipes_folder() -> Path:
    """Where the shipped recipes lie: inside the installed package, or at the top of a checkout."""
    package = Path(__file__).parent
    shipped = package / "recipes"
    return shipped if shipped.is_dir() else package.parent / "recipes"


def find_recipe(command: str, name: str) -> Path:
    """The file of a recipe given by path or by name.

    Args:
        command: `search`, `train` or `detect`.
        name: A path to a TOML file, or the name of a shipped recipe of that command.

    Raises:
        InputError: There is no such recipe; the message lists those there are.
    """
    if name.endswith(".toml"):
        if Path(name).is_file():
            return Path(name)
        raise InputError(f"recipe {name}: no such file", "Give a path to a TOML file or the name of a shipped recipe")
    folder = recipes_folder() / command
    path = folder / f"{name}.toml"
    if path.is_file():
        return path
    known = sorted(p.stem for p in folder.glob("*.toml"))
    raise InputError(f"recipe {name!r}: not one of the {command} recipes", suggestion(name, known))


def load_recipe(
    model: type[Recipe],
    path: Path | None,
    flags: Mapping[str, object] | None = None,
    assignments: Iterable[str] = (),
) -> Recipe:
    """A validated recipe: defaults < file < flags < assignments.

    Args:
        model: The recipe class of the command.
        path: A TOML file, or None for the defaults alone.
        flags: Values by dotted key (`"train.lr"`); those that are None are left out.
        assignments: The texts of `--set`, `key=value`; the value is read as TOML, else taken as text.

    Raises:
        CorruptFileError: The file is not TOML.
        InputError: A key is unknown or a value is out of range; the message names file, key and remedy.
    """
    values = read_toml(path) if path else {}
    if path:
        parse(model, values, str(path))  # a fault of the file is said of the file, one of an option of the options
    for key, value in (flags or {}).items():
        if value is not None:
            _assign(values, key, value)
    for text in assignments:
        key, sign, raw = text.partition("=")
        if not sign:
            raise InputError(f"--set {text}: not of the form key=value", "For example --set train.lr=0.05")
        _assign(values, key.strip(), _toml_value(raw.strip()))
    return parse(model, values, "options")


def parse(model: type[Recipe], values: object, source: str) -> Recipe:
    """Validate `values` as `model`; the first fault becomes one line that names `source` and the field."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise explain(error, source, model) from error


def explain(error: ValidationError, source: str, model: type[BaseModel]) -> InputError:
    """One line for a person out of a pydantic error: source, field, what was wrong, what to do."""
    fault = error.errors()[0]
    place = _dotted(fault["loc"])
    if fault["type"] == "extra_forbidden":
        return InputError(
            f"{source}: unknown key {place}", suggestion(str(fault["loc"][-1]), _keys_at(model, fault["loc"]))
        )
    if fault["type"] == "missing":
        return InputError(f"{source}: {place} is missing")
    reason = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "value_error" and not place:
        return InputError(f"{source}: {reason}")
    given = "" if fault["type"] == "value_error" else f" = {_short(fault['input'])}"
    return InputError(f"{source}: {place}{given}: {reason[:1].lower()}{reason[1:]}")


def suggestion(name: str, known: Iterable[str]) -> str:
    """'Did you mean ...?' with the nearest known name, else the list of all."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"Did you mean {near[0]}?"
    return f"Known: {', '.join(names)}" if names else ""


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        InputError: The file does not exist.
        CorruptFileError: It is not TOML; the message has line and column.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"recipe {path}: no such file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CorruptFileError(f"recipe {path} is not TOML: {error}") from error


def to_toml(recipe: Section) -> str:
    """A recipe as TOML text; reading it back gives an equal recipe."""
    return tomli_w.dumps(recipe.model_dump(mode="json", exclude_none=True))


def _assign(values: dict[str, Any], key: str, value: object) -> None:
    *sections, last = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise InputError(f"{key}: {section} is a value, not a section")
    values[last] = value


def _toml_value(raw: str) -> object:
    try:
        return tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        return raw


def _dotted(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _keys_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(str(part))
        inner = _model_inside(field.annotation) if field else None
        if inner is None:
            return []
        model = inner
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_inside(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_inside(part))), None)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
