"""What `nascli train` needs: the images, and the training."""

from pydantic import Field

from nascli.config.network import NetworkConfig
from nascli.config.optim import OptimConfig
from nascli.config.section import Section


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


class TrainConfig(OptimConfig):
    """Training of a classifier."""

    batch_size: int = Field(64, ge=2, description="images per optimizer step; batch normalisation needs two")
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    aux_weight: float = Field(0.0, ge=0, description="weight of the auxiliary loss; 0 leaves the head out")
    drop_path_prob: float = Field(
        0.0, ge=0, lt=1, description="probability of dropping a path in the last cell at the last step"
    )
    grad_checkpointing: bool = Field(
        False,
        description="compute a cell's activations again in the backward pass instead of keeping them: less memory, "
        "more time, the same weights",
    )
    compile: bool = Field(
        False, description="compile the cells, each different one once (minutes); needs a C++ compiler"
    )


class TrainRecipe(Section):
    """Everything `nascli train` needs to repeat a run."""

    seed: int = 0
    data: DataConfig = Field(default_factory=DataConfig)
    network: NetworkConfig = Field(default_factory=NetworkConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
