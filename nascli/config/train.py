"""Settings of every training: length, learning rate, precision, checkpoints; the recipe of `nascli train`."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from nascli.config.data import DataConfig
from nascli.config.network import NETWORK_SECTIONS, CellNetworkConfig, NetworkConfig
from nascli.config.section import ByFamily, Section, TrainingPrecision

Epochs = Annotated[int, Field(ge=1, le=1_000_000, description="passes over the training images")]
BatchSize = Annotated[int, Field(ge=1, le=1_000_000, description="images per optimizer step")]
LearningRate = Annotated[float, Field(gt=0, description="peak learning rate")]
WarmupSteps = Annotated[
    int, Field(ge=0, le=1_000_000_000, description="optimizer steps of linear warm-up, added to warmup_epochs")
]
WeightDecay = Annotated[
    float,
    Field(
        ge=0,
        description="weight decay of convolutions and classifier, not of batch norms: added to the gradient (L2), or "
        "with adamw and muon apart from it",
    ),
]
Beta = Annotated[float, Field(ge=0, lt=1)]
ClipGradNorm = Annotated[float, Field(ge=0, description="largest global norm of the gradient; 0 is off")]


class OptimConfig(Section):
    """One training: optimizer; a linear warm-up of the learning rate, then a schedule."""

    section: ClassVar[str] = "train"
    """The section of a key in messages."""

    epochs: Epochs = 10
    batch_size: BatchSize = 64
    grad_accum_steps: int = Field(
        1,
        ge=1,
        le=1_000_000,
        description="micro-batches per batch: less memory, batch-norm statistics of each micro-batch alone",
    )
    lr: LearningRate = 0.05
    lr_base_size: int = Field(
        0,
        ge=0,
        le=1_000_000_000,
        description="images per step that lr is meant for: lr is scaled to batch_size in proportion; 0 is off",
    )
    warmup_epochs: float = Field(0.0, ge=0, description="epochs of linear warm-up of the learning rate")
    warmup_steps: WarmupSteps = 0
    schedule: Literal["cosine", "exponential", "steps"] = Field(
        "cosine",
        description="learning rate after the warm-up: a cosine to 0, exponential decay every decay_epochs, or steps at "
        "lr_milestones",
    )
    decay_rate: float = Field(0.97, gt=0, le=1, description="factor of the learning rate at each decay of exponential")
    decay_epochs: float = Field(2.4, gt=0, description="epochs between two decays of exponential")
    lr_milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (0.67, 0.92), description="fractions of the training after which steps lowers the learning rate, rising"
    )
    lr_gamma: float = Field(0.1, gt=0, le=1, description="factor of the learning rate at each milestone of steps")
    optimizer: Literal["sgd", "rmsprop", "adamw", "muon"] = Field(
        "sgd",
        description="SGD with momentum; RMSProp as TensorFlow has it; AdamW; or Muon for dense convolutions and AdamW "
        "for the rest. The last two want a lower lr (about 0.001) and more weight_decay (about 0.05)",
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of sgd, rmsprop and muon")
    nesterov: bool = Field(False, description="use Nesterov's momentum, with sgd")
    rmsprop_decay: float = Field(0.9, ge=0, lt=1, description="decay of the moving average of squared gradients")
    rmsprop_epsilon: float = Field(1.0, gt=0, description="added to that average, inside the square root")
    adamw_betas: tuple[Beta, Beta] = Field(
        (0.9, 0.999), description="decays of adamw's moving averages of gradients and of squared gradients"
    )
    adamw_epsilon: float = Field(1e-8, gt=0, description="added to the square root of the second average")
    weight_decay: WeightDecay = 5e-4
    clip_grad_norm: ClipGradNorm = 5.0
    ema_decay: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="decay of a moving average of the weights, which is evaluated and saved instead of them; 0 is off",
    )
    precision: TrainingPrecision = Field(
        "float32",
        description="number format of the arithmetic; float16 scales the loss and needs CUDA; auto is the fastest of "
        "the device: bfloat16 or float16 on GPUs that compute in it, else float32",
    )
    deterministic: bool = Field(
        False,
        description="compute on a GPU with kernels that give the same bits each time, slower; torch warns of what has "
        "none. CPUs do so anyway",
    )
    threads: int = Field(
        0, ge=0, le=4_096, description="CPU threads; 0 uses all cores. The weights depend on it, bit for bit"
    )
    checkpoint_minutes: float = Field(
        10.0, gt=0, description="minutes between checkpoints inside an epoch; every epoch ends with one"
    )
    checkpoint_steps: int = Field(
        0, ge=0, le=1_000_000_000, description="also save a checkpoint every so many optimizer steps; 0 is off"
    )

    @model_validator(mode="after")
    def _milestones_rise(self) -> Self:
        if list(self.lr_milestones) != sorted(set(self.lr_milestones)):
            raise ValueError(f"lr_milestones {list(self.lr_milestones)} must rise")
        return self


class KeepConfig(Section):
    """The epochs whose weights are kept, chosen by what is measured after each."""

    keep_best: bool = Field(
        False,
        description="keep the weights of the epoch that was measured best (equal ones: the earlier), not of the last",
    )
    patience: int = Field(
        0, ge=0, le=1_000_000, description="epochs without a better one after which the training ends; 0 is off"
    )
    keep_checkpoints: int = Field(
        0,
        ge=0,
        le=1_000,
        description="best epochs whose weights stay in the run's folder best; 0 is none, or with keep_best the one",
    )

    @property
    def chooses(self) -> str:
        """The first key that chooses between epochs by what is measured; empty where none does."""
        return next((f"train.{key}" for key in KeepConfig.model_fields if getattr(self, key)), "")


class TrainConfig(OptimConfig):
    """Training of a classifier."""

    batch_size: int = Field(
        64, ge=2, le=1_000_000, description="images per optimizer step; batch normalization needs two"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="probability spread over the wrong classes")
    aux_weight: float = Field(0.0, ge=0, description="weight of the auxiliary head's loss; 0 builds no such head")
    drop_path_prob: float = Field(
        0.0, ge=0, lt=1, description="probability of dropping a path in the last cell at the last step"
    )
    grad_checkpointing: bool = Field(
        False,
        description="recompute activations in the backward pass instead of keeping them: less memory, more time, the "
        "same weights",
    )
    graphs: bool = Field(
        True, description="on a GPU, launch each step as one CUDA graph where its shapes are fixed; else without effect"
    )
    compile: bool = Field(
        False, description="compile the cells with torch.compile, which takes minutes and needs a C++ compiler"
    )


BACKBONE = "backbone"
"""The name, in `train.freeze`, of all stages but the classifier."""


class ClassMatchingConfig(Section):
    """The outputs of weights that a training begins with."""

    classes: Literal["match", "new", "keep"] = Field(
        "match",
        description="outputs per class: match takes those of classes with the same name, new takes none, keep takes "
        "all and refuses other classes",
    )


class StartConfig(ClassMatchingConfig):
    """The weights that a training begins with."""

    weights: str | None = Field(
        None,
        description="weights to begin with: a train run, a folder of nascli build --import-weights, a file of another "
        "tool (with --cell), or a search with evaluator one_shot; by default fresh ones",
    )
    preprocessing: Literal["keep", "data"] = Field(
        "keep",
        description="mean and deviation of the colors, resizing and cropping: those of the weights (keep), or the data "
        "set's own",
    )


def _one_or_more(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class FineTuneConfig(TrainConfig, KeepConfig):
    """Training of a classifier by `nascli train`: all of its weights or some."""

    freeze: Annotated[tuple[str, ...], BeforeValidator(_one_or_more)] = Field(
        (),
        description=f"stages whose weights stay: stem, stage1, ...; {BACKBONE} is all but the classifier",
    )
    freeze_batch_norm: Literal["off", "statistics", "scale", "both"] = Field(
        "off",
        description="what batch norms keep: their running statistics, which they then use, their scale and shift, or "
        "both; those of frozen stages keep both",
    )
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="factor of the learning rate from each stage to the one before it; 1 is off"
    )
    classifier_lr_factor: float = Field(
        1.0, gt=0, description="factor of the classifier's learning rate, which new classes may want higher"
    )
    image_sizes: tuple[Annotated[int, Field(ge=8, le=16_384)], ...] = Field(
        (),
        description="sizes in pixels of training images one after the other, each for an equal part of the epochs; "
        "empty is network.image_size throughout",
    )
    class_weights: Literal["balanced"] | dict[str, Annotated[float, Field(gt=0)]] = Field(
        {},
        description="weights of classes in the loss: balanced, the rarer the higher; or a table by name, others 1",
    )
    teacher: str | None = Field(
        None,
        description="trained network to imitate: a train run, a folder of nascli build, or timm:NAME",
    )
    teacher_weight: float = Field(
        0.9, ge=0, le=1, description="part of the loss that is for the teacher's answers; the rest is for the labels"
    )
    teacher_temperature: float = Field(
        4.0, gt=0, description="number that logits are divided by before they are compared with the teacher's"
    )


class TrainRecipe(Section):
    """Everything `nascli train` needs to repeat a run."""

    seed: int = Field(0, description="seed of everything random")
    start: StartConfig = Field(default_factory=StartConfig)
    data: DataConfig = Field(default_factory=DataConfig)
    network: Annotated[NetworkConfig, ByFamily(NETWORK_SECTIONS)] = Field(default_factory=CellNetworkConfig)
    train: FineTuneConfig = Field(default_factory=FineTuneConfig)

    @model_validator(mode="after")
    def _check_balance(self) -> Self:
        if self.data.sampling == "balanced" and self.train.class_weights == "balanced":
            raise ValueError("data.sampling and train.class_weights cannot both be balanced: rare classes count twice")
        return self
