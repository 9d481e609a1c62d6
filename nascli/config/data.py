"""The sections that say which images are used, and how a training image is varied."""

from typing import Literal

from pydantic import Field

from nascli.config.section import Section

DATASETS = {
    "digits": "1,797 handwritten digits, shipped with scikit-learn",
    "cifar10": "60,000 images of 32 pixels in 10 classes; downloaded",
    "cifar100": "the same size in 100 classes; downloaded",
    "imagenet": "ILSVRC 2012, from data_dir/imagenet",
    "folder:PATH": "an image folder: train/<class>/* beside val/<class>/* or test/<class>/*",
    "pack:FILE.h5": "an image folder packed by nascli pack",
}
"""Every classification data set, with its meaning; `nascli.data.registry` has the same names with their loaders."""

DETECTION_DATASETS = {
    "digit-scenes": "scenes composed of the handwritten digits, written on first use",
    "coco": "COCO 2017, from data_dir or data_dir/coco",
    "coco:PATH": "a folder of COCO-format data, or one JSON file beside its images",
}
"""Every detection data set; `nascli.data.detection.registry` has the same names."""


class DataConfig(Section):
    """Which images, and how a training image is varied."""

    dataset: str = Field("digits", description=f"one of {', '.join(DATASETS)}")
    data_dir: str = Field("data", description="folder under which downloaded data sets lie")
    max_train_images: int = Field(
        0, ge=0, description="training images to use: as many per class, the same in every run; 0 is all"
    )
    crop_padding: int = Field(0, ge=0, description="zero pixels added on each side before a random crop")
    flip: bool = Field(False, description="mirror left and right with probability one half")
    cutout: int = Field(0, ge=0, description="side in pixels of the square set to the mean; 0 is off")
    rand_augment: int = Field(0, ge=0, description="RandAugment operations per image; 0 is off")
    rand_augment_magnitude: int = Field(9, ge=0, le=30, description="magnitude of RandAugment's operations, 0 to 30")
    color_jitter: float = Field(
        0.0,
        ge=0,
        le=1,
        description="strength of random brightness, contrast, saturation and hue; 1 is Inception's, 0 off",
    )
    mixup: float = Field(0.0, ge=0, description="alpha of the Beta distribution that mixes two images; 0 is off")
    cutmix: float = Field(
        0.0, ge=0, description="alpha of the Beta distribution of the area pasted from another image; 0 is off"
    )
    workers: int | None = Field(
        None, ge=0, description="processes that decode streamed images, 0 for none; default: one per core"
    )
    max_unreadable_images: int = Field(
        0, ge=0, description="images that cannot be decoded and are skipped; one more ends the run"
    )


class DetectDataConfig(Section):
    """Which annotated images."""

    dataset: str = Field("digit-scenes", description=f"one of {', '.join(DETECTION_DATASETS)}")
    data_dir: str = Field("data", description="folder that holds the data set")
    max_train_images: int = Field(0, ge=0, description="training images to use, the first of the file; 0 is all")
    max_val_images: int = Field(0, ge=0, description="validation images to use, the first of the file; 0 is all")
    evaluate_on: Literal["val", "train"] = Field("val", description="the split whose average precision is reported")
    max_boxes: int = Field(1000, ge=0, description="training images with more boxes are skipped, and counted; 0 is off")
