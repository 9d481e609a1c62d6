"""The recipe of `nascli detect`: data, detector, training."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nascli.config.section import Section, TrainingPrecision, list_meanings, one_of

DETECTION_HEADS = {
    "fpn": "a feature pyramid over the stages",
    "nasnet": "the paper's, stage 3 of the network run on each proposal",
}
"""Name and meaning of each head; `nascli.detect.heads` builds them."""


class DetectorConfig(Section):
    """The Faster R-CNN: its head, and the sizes and numbers of images, anchors, proposals and boxes."""

    head: Annotated[str, one_of(DETECTION_HEADS)] = Field("fpn", description=list_meanings(DETECTION_HEADS))
    pyramid_channels: int = Field(
        64,
        ge=8,
        description="channels of every pyramid level (fpn), and of the convolution before the proposals (both heads)",
    )
    head_channels: int = Field(256, ge=8, description="width of the box head of fpn; nasnet's is as wide as stage 3")
    roi_size: int | None = Field(
        None,
        ge=3,
        description="side of a proposal's crop in pixels of the feature map; default: 7 with fpn, 17 with nasnet",
    )
    resize: Literal["shorter_side", "both_sides"] = Field(
        "shorter_side",
        description="sides of the image that get the length min_size; both_sides makes every image a square",
    )
    min_size: int = Field(96, ge=32, description="shorter side of the image in pixels after resizing")
    max_size: int = Field(96, ge=32, description="longer side at most, in pixels after resizing")
    anchor_size: float = Field(
        16.0,
        gt=0,
        description="side in pixels of the smallest anchors: doubles per level with fpn; nasnet has anchors of 1, 2, 4 "
        "and 8 times this side at each place of its one map",
    )
    anchor_scales: int = Field(
        1, ge=1, le=4, description="anchor sizes per doubling, in equal ratios from one to the next"
    )
    rpn_post_nms_top_n: int = Field(200, ge=1, description="proposals per image that reach the box head")
    box_batch_size_per_image: int = Field(128, ge=1, description="proposals per image that the box loss is computed on")
    box_detections_per_img: int = Field(100, ge=1, description="boxes per image that are kept at most")
    box_score_thresh: float = Field(0.05, ge=0, lt=1, description="lowest score of a box that is kept")
    box_nms_thresh: float = Field(
        0.5, gt=0, le=1, description="intersection over union above which a box is dropped for one with a higher score"
    )
    freeze_batch_norm: bool = Field(False, description="keep the backbone's batch-norm statistics and scale")
    grad_checkpointing: bool = Field(
        False,
        description="compute activations again in the backward pass instead of keeping them: less memory, more time, "
        "the same weights",
    )


class DetectTrainConfig(Section):
    """Training of a detector by SGD with momentum; linear warm-up, then a cosine that ends at zero, or steps."""

    epochs: int = Field(8, ge=1)
    batch_size: int = Field(8, ge=1, description="images an optimizer step")
    grad_accum_steps: int = Field(
        1, ge=1, description="parts a batch is computed in: less memory, batch-norm statistics of each part alone"
    )
    lr: float = Field(0.02, gt=0, description="peak learning rate")
    warmup_steps: int = Field(50, ge=0)
    schedule: Literal["cosine", "steps"] = Field(
        "cosine", description="the learning rate after the warm-up: to 0 as a cosine, or by steps"
    )
    lr_milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (0.67, 0.92), description="parts of the training after which steps lowers the rate, rising; 1 would be the end"
    )
    lr_gamma: float = Field(0.1, gt=0, le=1, description="of the learning rate at each step of steps")
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0)
    clip_grad_norm: float = Field(10.0, ge=0, description="global gradient norm; 0 is off")
    ema_decay: float = Field(
        0.0, ge=0, lt=1, description="moving average of the weights, which is scored and kept; 0 is off"
    )
    precision: TrainingPrecision = Field(
        "float32", description="of the arithmetic, boxes and losses apart; float16 scales its loss, and needs CUDA"
    )
    flip: bool = Field(False, description="mirror left and right with probability one half")
    multi_scale: tuple[Annotated[int, Field(ge=32)], ...] = Field(
        (), description="shorter sides in pixels, one drawn for each image, in place of detector.min_size; () is off"
    )
    scale_jitter: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (), description="bounds of the scale at which each image is put into a square; 1 just fits; () is off"
    )
    jitter_size: int = Field(
        0, ge=0, description="side in pixels of the square of scale_jitter; 0 is detector.max_size"
    )
    aspect_grouping: bool = Field(False, description="batches of wide images or of high ones: less padding")
    eval_interval: int = Field(
        0, ge=0, description="epochs between two scorings while training; 0 scores the end alone"
    )
    threads: int = Field(0, ge=0, description="CPU threads; 0 is one for each core. Weights depend on it, bit for bit")
    checkpoint_minutes: float = Field(
        10.0, gt=0, description="between checkpoints inside an epoch; each epoch ends with one"
    )
    checkpoint_steps: int = Field(0, ge=0, description="optimizer steps between checkpoints, besides; 0 is none")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if list(self.lr_milestones) != sorted(set(self.lr_milestones)):
            raise ValueError(f"lr_milestones {list(self.lr_milestones)} must rise")
        if not self.scale_jitter:
            return self
        if len(self.scale_jitter) != 2 or self.scale_jitter[0] > self.scale_jitter[1]:
            raise ValueError(f"scale_jitter {list(self.scale_jitter)} must be the lower and the upper bound")
        for key in ("multi_scale", "aspect_grouping"):
            if getattr(self, key):
                raise ValueError(f"{key} and scale_jitter exclude each other: scale_jitter makes every image a square")
        return self


class DetectDataConfig(Section):
    """Which scenes."""

    dataset: str = Field("digit-scenes", description="digit-scenes, coco, or coco:PATH for a COCO-format folder")
    data_dir: str = Field("data", description="folder that holds the data set")
    train_images: int = Field(0, ge=0, description="use only the first so many training images; 0 is all")
    val_images: int = Field(0, ge=0, description="use only the first so many validation images; 0 is all")
    evaluate_on: Literal["val", "train"] = Field("val", description="the split whose average precision is reported")
    max_boxes: int = Field(
        1000, ge=0, description="training images with more boxes are left out, and counted; 0 leaves none out"
    )


class DetectRecipe(Section):
    """Everything `nascli detect` needs to repeat a run."""

    seed: int = 0
    data: DetectDataConfig = Field(default_factory=DetectDataConfig)
    detector: DetectorConfig = Field(default_factory=DetectorConfig)
    train: DetectTrainConfig = Field(default_factory=DetectTrainConfig)

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        for key in ("multi_scale", "scale_jitter"):
            if self.detector.resize == "both_sides" and getattr(self.train, key):
                raise ValueError(f"train.{key} and detector.resize = 'both_sides' exclude each other")
        return self
