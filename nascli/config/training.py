"""What `nascli train` needs: the images, and the training."""

from typing import Literal

from pydantic import Field

from nascli.config.network import NetworkConfig
from nascli.config.section import Section, TrainingPrecision


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
    rand_augment: int = Field(0, ge=0, description="RandAugment: operations that each image goes through; 0 is off")
    rand_augment_magnitude: int = Field(9, ge=0, le=30, description="of all operations of RandAugment, 0 to 30")
    color_jitter: float = Field(
        0.0,
        ge=0,
        le=1,
        description="strength of random brightness, contrast, saturation and hue; 1 is Inception's, 0 off",
    )
    mixup: float = Field(0.0, ge=0, description="alpha of the Beta distribution that mixes two images; 0 is off")
    cutmix: float = Field(
        0.0, ge=0, description="alpha of the Beta distribution of the part that is pasted from another image; 0 is off"
    )
    workers: int | None = Field(
        None, ge=0, description="processes that decode streamed images, 0 for none; one a core when left out"
    )
    max_unreadable_images: int = Field(
        0, ge=0, description="images that cannot be decoded and are left out, after which the run stops"
    )


class TrainConfig(Section):
    """One training: SGD with momentum, or RMSProp as TensorFlow computes it; a cosine, or an exponential decay."""

    epochs: int = Field(10, ge=1)
    batch_size: int = Field(64, ge=2, description="images an optimizer step; batch normalisation needs two")
    grad_accum_steps: int = Field(
        1, ge=1, description="parts a batch is computed in: less memory, batch-norm statistics of each part alone"
    )
    lr: float = Field(0.05, gt=0, description="peak learning rate")
    lr_base_size: int = Field(
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
    clip_grad_norm: float = Field(5.0, ge=0, description="global gradient norm; 0 is off")
    ema_decay: float = Field(
        0.0, ge=0, lt=1, description="moving average of the weights, used for evaluation; 0 is off"
    )
    precision: TrainingPrecision = Field(
        "float32", description="of the network's arithmetic; float16 scales its loss, and needs CUDA"
    )
    grad_checkpointing: bool = Field(
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
    checkpoint_steps: int = Field(0, ge=0, description="optimizer steps between checkpoints, besides; 0 is none")


class TrainRecipe(Section):
    """Everything `nascli train` needs to repeat a run."""

    seed: int = 0
    data: DataConfig = Field(default_factory=DataConfig)
    network: NetworkConfig = Field(default_factory=NetworkConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
