"""What `nascli detect` needs: the scenes, the detector, its training."""

from typing import Literal

from pydantic import Field

from nascli.config.section import Section


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


class DetectRecipe(Section):
    """Everything `nascli detect` needs to repeat a run."""

    seed: int = 0
    data: DetectDataConfig = Field(default_factory=DetectDataConfig)
    detector: DetectorConfig = Field(default_factory=DetectorConfig)
    train: DetectTrainConfig = Field(default_factory=DetectTrainConfig)
