"""The order of the training images and the augmentation of each, which follow from (seed, epoch) and (seed, step)."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from nascli.config import DetectRecipe, DetectTrainConfig
from nascli.data.detection.dataset import DetectionSplit
from nascli.data.detection.transforms import BoxTransform, ScaleJitter, sample_transforms
from nascli.engine.device import generator_for
from nascli.engine.dist import SINGLE_PROCESS, DistContext
from nascli.engine.task import TrainPlan
from nascli.errors import InputError


@dataclass(frozen=True)
class BatchSampler:
    """Draws the batches of a training: positions of images, and how each is augmented.

    Args:
        is_tall: Per image, whether it is higher than wide; needed for `aspect_grouping` only.
        jitter: The square that scale jitter puts images into; None is off.
    """

    plan: TrainPlan
    config: DetectTrainConfig
    seed: int
    is_tall: tuple[bool, ...] = ()
    jitter: ScaleJitter | None = None

    @classmethod
    def of(
        cls,
        recipe: DetectRecipe,
        split: DetectionSplit,
        mean: tuple[float, float, float],
        dist: DistContext = SINGLE_PROCESS,
    ) -> "BatchSampler":
        """The sampler of a recipe's training on a split; `mean` is the backbone's, 0 to 1.

        Raises:
            InputError: Sizes contradict each other.
        """
        config, largest = recipe.train, recipe.detector.max_size
        if max(config.multi_scale, default=0) > largest:
            raise InputError(
                f"train.multi_scale {max(config.multi_scale)} is more than detector.max_size {largest}",
                "The longer side is limited to max_size, so the shorter one would never be that long",
            )
        is_tall = tuple(image.height > image.width for image in split.images) if config.aspect_grouping else ()
        return cls(TrainPlan(config, len(split.images), dist), config, recipe.seed, is_tall, make_jitter(recipe, mean))

    def order(self, epoch: int) -> list[int]:
        """The positions of the images in the order of an epoch (counted from 0), whole batches only.

        With `aspect_grouping` all batches but one have images of one shape; the images that an epoch skips and the
        number of its batches do not change with that.
        """
        order: list[int] = self.plan.order(self.seed, epoch).tolist()
        return self._group_by_shape(order, epoch) if self.config.aspect_grouping else order

    def transforms(self, step: int) -> list[BoxTransform]:
        """The augmentation of each image of a step."""
        generator = generator_for(self.seed, "augment", step)
        return sample_transforms(self.plan.batch_size, generator, flip=self.config.flip, jitter=self.jitter)

    def batches(self, epoch: int, done: int = 0) -> Iterator[list[tuple[int, BoxTransform]]]:
        """This process's share of each batch of an epoch, from the step after `done` on; drawn for the whole batch."""
        order, size, share = self.order(epoch), self.plan.batch_size, self.plan.share
        for place in range(done, self.plan.steps_per_epoch):
            positions = order[place * size : (place + 1) * size]
            transforms = self.transforms(epoch * self.plan.steps_per_epoch + place)
            yield list(zip(positions[share], transforms[share], strict=True))

    def _group_by_shape(self, order: list[int], epoch: int) -> list[int]:
        size = self.plan.batch_size
        groups = [[position for position in order if self.is_tall[position] == tall] for tall in (True, False)]
        rest = [position for group in groups for position in group[len(group) - len(group) % size :]]
        batches = [group[start : start + size] for group in groups for start in range(0, len(group) - size + 1, size)]
        batches += [rest] if rest else []
        shuffled = torch.randperm(len(batches), generator=generator_for(self.seed, "batches", epoch))
        return [position for place in shuffled.tolist() for position in batches[place]]


def make_jitter(recipe: DetectRecipe, mean: tuple[float, float, float]) -> ScaleJitter | None:
    """The square of a recipe's scale jitter; `mean` is its color, 0 to 1, where no image covers it."""
    if not recipe.train.scale_jitter:
        return None
    low, high = recipe.train.scale_jitter
    red, green, blue = (round(255 * value) for value in mean)
    return ScaleJitter(recipe.train.jitter_size or recipe.detector.max_size, (low, high), (red, green, blue))


def preview_transforms(recipe: DetectRecipe, count: int) -> list[BoxTransform]:
    """Examples of a recipe's augmentation, on gray where no image covers the square.

    Raises:
        InputError: The recipe has no augmentation that could be seen.
    """
    flip, jitter = recipe.train.flip, make_jitter(recipe, (0.5, 0.5, 0.5))
    if not flip and jitter is None:
        raise InputError(
            "--augmented: the recipe has neither train.flip nor train.scale_jitter, which are what could be seen",
            "Name one that has, for instance --recipe coco-modern",
        )
    return sample_transforms(count, generator_for(recipe.seed, "sample"), flip=flip, jitter=jitter)
