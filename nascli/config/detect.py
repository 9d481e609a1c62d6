"""The recipe of `nascli detect`: data, detector, training."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nascli.config.data import DetectDataConfig
from nascli.config.section import Section, list_meanings, one_of
from nascli.config.train import (
    BatchSize,
    ClassMatchingConfig,
    ClipGradNorm,
    Epochs,
    KeepConfig,
    LearningRate,
    OptimConfig,
    WarmupSteps,
    WeightDecay,
)

DETECTION_HEADS = {
    "fpn": "a feature pyramid over the stages",
    "nasnet": "the paper's, stage 3 of the network run on each proposal",
}
"""Name and meaning of each head; `nascli.detect.heads` builds them."""


class DetectorConfig(Section):
    """The Faster R-CNN: its head, and the sizes and numbers of images, anchors, proposals and boxes."""

    head: Annotated[str, one_of(DETECTION_HEADS)] = Field(
        "fpn", description=f"head of the detector. {list_meanings(DETECTION_HEADS)}"
    )
    pyramid_channels: int = Field(
        64,
        ge=8,
        le=16_384,
        description="channels of every pyramid level (fpn), and of the convolution before the proposals (both heads)",
    )
    head_channels: int = Field(
        256, ge=8, le=65_536, description="width of the box head of fpn; nasnet's is as wide as stage 3"
    )
    roi_size: int | None = Field(
        None,
        ge=3,
        le=1_024,
        description="side of a proposal's crop in pixels of the feature map; default: 7 with fpn, 17 with nasnet",
    )
    resize: Literal["shorter_side", "both_sides"] = Field(
        "shorter_side",
        description="sides of the image that get the length min_size; both_sides makes every image a square",
    )
    min_size: int = Field(96, ge=32, le=16_384, description="shorter side of the image in pixels after resizing")
    max_size: int = Field(96, ge=32, le=16_384, description="longer side at most, in pixels after resizing")
    anchor_size: float = Field(
        16.0,
        gt=0,
        description="side in pixels of the smallest anchors: doubles per level with fpn; nasnet has anchors of 1, 2, 4 "
        "and 8 times this side at each place of its one map",
    )
    anchor_scales: int = Field(
        1, ge=1, le=4, description="anchor sizes per doubling, in equal ratios from one to the next"
    )
    rpn_post_nms_top_n: int = Field(200, ge=1, le=100_000, description="proposals per image that reach the box head")
    box_batch_size_per_image: int = Field(
        128, ge=1, le=100_000, description="proposals per image that the box loss is computed on"
    )
    box_detections_per_img: int = Field(100, ge=1, le=100_000, description="boxes per image that are kept at most")
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


class DetectTrainConfig(OptimConfig, KeepConfig):
    """Training of a detector."""

    epochs: Epochs = 8
    batch_size: BatchSize = 8
    lr: LearningRate = 0.02
    warmup_steps: WarmupSteps = 50
    weight_decay: WeightDecay = 1e-4
    clip_grad_norm: ClipGradNorm = 10.0
    flip: bool = Field(False, description="mirror left and right with probability one half")
    multi_scale: tuple[Annotated[int, Field(ge=32)], ...] = Field(
        (), description="shorter sides in pixels, one drawn per image, instead of detector.min_size; empty is off"
    )
    scale_jitter: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (),
        description="lower and upper bound of the scale at which an image is put into a square; 1 just fits; empty is "
        "off",
    )
    jitter_size: int = Field(
        0, ge=0, le=16_384, description="side in pixels of the square of scale_jitter; 0 is detector.max_size"
    )
    aspect_grouping: bool = Field(False, description="put wide and high images into separate batches: less padding")
    eval_interval: int = Field(
        0, ge=0, le=1_000_000, description="epochs between two evaluations while training; 0 evaluates at the end alone"
    )

    @model_validator(mode="after")
    def _chooses_between_measured(self) -> Self:
        if self.chooses and not self.eval_interval:
            raise ValueError(
                f"{self.chooses.removeprefix('train.')} needs eval_interval: else the end alone is measured"
            )
        return self

    @model_validator(mode="after")
    def _scale_jitter_alone(self) -> Self:
        if not self.scale_jitter:
            return self
        if len(self.scale_jitter) != 2 or self.scale_jitter[0] > self.scale_jitter[1]:
            raise ValueError(f"scale_jitter {list(self.scale_jitter)} must be the lower and the upper bound")
        for key in ("multi_scale", "aspect_grouping"):
            if getattr(self, key):
                raise ValueError(f"{key} and scale_jitter exclude each other: scale_jitter makes every image a square")
        return self


class DetectStartConfig(ClassMatchingConfig):
    """The weights that a detector's training begins with."""

    weights: str | None = Field(
        None,
        description="detector to begin with, a run of nascli detect: its network, its numbers, and what it learned; by "
        "default a backbone",
    )


class DetectRecipe(Section):
    """Everything `nascli detect` needs to repeat a run."""

    seed: int = Field(0, description="seed of everything random")
    start: DetectStartConfig = Field(default_factory=DetectStartConfig)
    data: DetectDataConfig = Field(default_factory=DetectDataConfig)
    detector: DetectorConfig = Field(default_factory=DetectorConfig)
    train: DetectTrainConfig = Field(default_factory=DetectTrainConfig)

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        for key in ("multi_scale", "scale_jitter"):
            if self.detector.resize == "both_sides" and getattr(self.train, key):
                raise ValueError(f"train.{key} and detector.resize = 'both_sides' exclude each other")
        return self
