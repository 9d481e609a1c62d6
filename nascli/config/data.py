"""The sections about images: which are used, and how training images are augmented."""

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from nascli.config.section import Section

DATASETS = {
    "digits": "1,797 handwritten digits, shipped with scikit-learn",
    "cifar10": "60,000 images of 32 pixels in 10 classes; downloaded",
    "cifar100": "the same size in 100 classes; downloaded",
    "imagenet": "ILSVRC 2012, from data_dir/imagenet",
    "folder:PATH": "an image folder: train/<class>/* beside val/<class>/* or test/<class>/*, or <class>/* alone",
    "csv:FILE": "a table with a row per image: its file, its class, and perhaps its split",
    "pack:FILE.h5": "images packed by nascli pack",
}
"""Every classification data set, with its meaning; `nascli.data.registry` has the same names with their loaders."""

DETECTION_DATASETS = {
    "digit-scenes": "scenes composed of the handwritten digits, written on first use",
    "coco": "COCO 2017, from data_dir or data_dir/coco",
    "coco:PATH": "a folder of COCO-format data, or one JSON file beside its images",
    "yolo:PATH": "YOLO: a data.yaml, or a folder with images and a text file of labels per image",
    "voc:PATH": "Pascal VOC: a folder with an XML file per image",
    "csv:PATH": "a table with a row per box, or a folder of them",
}
"""Every detection data set; `nascli.data.detection.registry` has the same names."""

MAX_MEGAPIXELS = 300
"""Default of the largest image: it takes 7 bytes per pixel while it is decoded, so 2 GB of each process that reads."""


def find_dataset(name: str, known: Iterable[str]) -> str | None:
    """The one of `DATASETS` or `DETECTION_DATASETS` that a name is of, as `folder:PATH` for `folder:photos`."""
    return next((each for each in known if each.partition(":")[:2] == name.partition(":")[:2]), None)


class FilesConfig(Section):
    """The reading of a user's own files, alike for classification and detection."""

    strict: bool = Field(
        False, description="refuse what breaks the rules of its format, instead of reading what it can only mean"
    )
    val_split: str | None = Field(
        None, description="split to validate on; by default val, valid, validation or dev, else test"
    )
    val_fraction: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="part of the training images held out to validate on; 0 is none. nascli train then measures the "
        "data's own test split, else its val split, once at the end; elsewhere only data without a split to validate "
        "on take it",
    )
    max_unreadable_images: int = Field(
        0,
        ge=0,
        le=1_000_000_000,
        description="images that are missing or cannot be decoded and are skipped; one more ends the run",
    )
    max_megapixels: int = Field(
        MAX_MEGAPIXELS,
        ge=1,
        le=100_000,
        description="millions of pixels of the largest image that is decoded; a larger one is refused",
    )


class DataConfig(FilesConfig):
    """Images of a classifier and their augmentation."""

    dataset: str = Field("digits", description=f"data set: {', '.join(DATASETS)}")
    data_dir: str = Field("data", description="folder of the data sets, into which they are downloaded")
    max_train_images: int = Field(
        0,
        ge=0,
        le=1_000_000_000,
        description="training images to use, classes in proportion, the same ones in every run; 0 is all",
    )
    sampling: Literal["shuffled", "balanced"] = Field(
        "shuffled",
        description="order of training images: shuffled, each once per epoch; or balanced, each class equally often",
    )
    crop_padding: int = Field(
        0, ge=0, le=16_384, description="zero pixels added on each side before a random crop; 0 is no crop"
    )
    flip: bool = Field(False, description="mirror left and right with probability one half")
    cutout: int = Field(
        0, ge=0, le=16_384, description="side in pixels of a random square that is set to the mean; 0 is off"
    )
    rand_augment: int = Field(0, ge=0, le=1_000, description="RandAugment operations per image; 0 is off")
    rand_augment_magnitude: int = Field(9, ge=0, le=30, description="magnitude of the RandAugment operations, 0 to 30")
    color_jitter: float = Field(
        0.0,
        ge=0,
        le=1,
        description="strength of random brightness, contrast, saturation and hue; 1 is Inception's, 0 is off",
    )
    mixup: float = Field(0.0, ge=0, description="alpha of the Beta distribution that mixes two images; 0 is off")
    cutmix: float = Field(
        0.0, ge=0, description="alpha of the Beta distribution of the area pasted from another image; 0 is off"
    )
    workers: int | None = Field(
        None,
        ge=0,
        le=4_096,
        description="processes that decode images read from disk, 0 for none; by default one per core",
    )

    @property
    def augments(self) -> bool:
        """Whether training images are changed at random."""
        keys = ("crop_padding", "flip", "cutout", "rand_augment", "color_jitter", "mixup", "cutmix")
        return any(getattr(self, key) for key in keys)


class DetectDataConfig(FilesConfig):
    """Images of a detector."""

    dataset: str = Field("digit-scenes", description=f"data set: {', '.join(DETECTION_DATASETS)}")
    data_dir: str = Field("data", description="folder of the data set")
    max_train_images: int = Field(
        0, ge=0, le=1_000_000_000, description="use only the first N training images; 0 is all"
    )
    max_val_images: int = Field(
        0, ge=0, le=1_000_000_000, description="use only the first N validation images; 0 is all"
    )
    evaluate_on: Literal["val", "train"] = Field("val", description="split whose average precision is reported")
    max_boxes: int = Field(
        1000, ge=0, le=1_000_000_000, description="training images with more boxes are skipped, and counted; 0 is off"
    )
