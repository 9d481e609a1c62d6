"""What stays the same over the training of a detector, and the order of its pictures."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from nascli.config import DetectRecipe, DetectTrainConfig
from nascli.data.detection.dataset import DetectionSplit
from nascli.data.detection.transforms import BoxTransform, ScaleJitter, sample_transforms
from nascli.engine.device import generator_for
from nascli.engine.dist import SINGLE_PROCESS, DistContext
from nascli.engine.precision import check_precision
from nascli.engine.schedules import Schedule, learning_rate
from nascli.errors import InputError
from nascli.models.spec import NetworkSpec


@dataclass(frozen=True)
class DetectPlan:
    """What stays the same from the first step to the last.

    Args:
        config: The recipe's `[train]`.
        seed: The run's seed.
        device: Where to compute.
        images: Training pictures.
        high: Which of them are higher than wide; asked where pictures of one shape are to share a batch.
        jitter: The square that pictures are put into, if they are.
        dist: The processes that share each batch.
    """

    config: DetectTrainConfig
    seed: int
    device: torch.device
    images: int
    high: tuple[bool, ...] = ()
    jitter: ScaleJitter | None = None
    dist: DistContext = SINGLE_PROCESS

    @classmethod
    def of(
        cls,
        recipe: DetectRecipe,
        split: DetectionSplit,
        network: NetworkSpec,
        device: torch.device,
        dist: DistContext = SINGLE_PROCESS,
    ) -> "DetectPlan":
        """The plan of a training on a split.

        Args:
            recipe: Every number of the run.
            split: The training pictures.
            network: The backbone; what no picture covers gets the mean colour that it takes away.
            device: Where to compute.
            dist: The processes that do.

        Raises:
            InputError: The numbers contradict each other, or the precision needs another device.
        """
        config, largest = recipe.train, recipe.detector.max_size
        check_precision(config, device)
        if max(config.multi_scale, default=0) > largest:
            raise InputError(
                f"train.multi_scale {max(config.multi_scale)} is more than detector.max_size {largest}",
                "The longer side is limited to max_size, so the shorter one would never be that long",
            )
        jitter = make_jitter(recipe, network.mean)
        shapes = tuple(image.height > image.width for image in split.images) if config.aspect_grouping else ()
        return cls(config, recipe.seed, device, len(split.images), shapes, jitter, dist)

    def check_parts(self) -> None:
        """InputError where a new run cannot compute a batch in the parts that it asks for."""
        size = self.dist.size
        who = f"train.grad_accum_steps = {self.config.grad_accum_steps}" + (f" on {size} processes" if size > 1 else "")
        if self.parts > self.batch_size:
            raise InputError(
                f"{who} is more than the {self.batch_size} images of a batch", "Each part needs an image at least"
            )
        if size > 1 and self.batch_size % self.parts:
            raise InputError(
                f"{who} cannot make equal parts of a batch of {self.batch_size} images",
                f"Choose a --batch-size that is a multiple of {self.parts}",
            )

    def in_parts(self, parts: int) -> "DetectPlan":
        """The same with each batch in so many parts, by all processes together: as many as a run began with.

        Raises:
            InputError: The processes cannot share them alike.
        """
        if parts == self.parts:
            return self
        self.dist.check_shares(parts, parts if self.batch_size % parts == 0 else 1)
        return replace(self, config=self.config.model_copy(update={"grad_accum_steps": parts // self.dist.size}))

    @property
    def batch_size(self) -> int:
        """Pictures a step: all there are, where they are fewer than a batch."""
        return min(self.config.batch_size, self.images)

    @property
    def parts(self) -> int:
        """In how many a batch is computed, by all processes together."""
        return self.config.grad_accum_steps * self.dist.size

    @property
    def part_size(self) -> int:
        """Pictures that are computed at once at most, in training and while scoring."""
        return -(-self.batch_size // self.parts)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches; the rest of an epoch's order is left out, another rest each epoch."""
        return self.images // self.batch_size

    @property
    def steps(self) -> int:
        """Optimizer steps in all."""
        return self.config.epochs * self.steps_per_epoch

    @property
    def learning_rate(self) -> Schedule:
        """The learning rate of each step."""
        return learning_rate(self.config, self.batch_size, self.steps_per_epoch)

    @property
    def shorter_sides(self) -> tuple[int, ...]:
        """Pixels of the shorter side in training, one drawn for each picture; empty where it is as in use."""
        return (self.jitter.side,) if self.jitter is not None else self.config.multi_scale

    def order(self, epoch: int) -> list[int]:
        """The positions of the pictures in the order of epoch `epoch` (counted from 0), whole batches only.

        Where pictures of one shape are to share a batch, all batches but one do; which pictures an epoch leaves out
        and how many batches it has do not change with that.
        """
        shuffled = torch.randperm(self.images, generator=generator_for(self.seed, "order", epoch))
        order = [int(position) for position in shuffled[: self.steps_per_epoch * self.batch_size]]
        return self._grouped(order, epoch) if self.config.aspect_grouping else order

    def transforms(self, step: int) -> list[BoxTransform]:
        """What is done to the pictures of one step."""
        generator = generator_for(self.seed, "augment", step)
        return sample_transforms(self.batch_size, generator, flip=self.config.flip, jitter=self.jitter)

    def batches(self, epoch: int, done: int = 0) -> Iterator[list[tuple[int, BoxTransform]]]:
        """The batches of an epoch: positions of pictures, and what is done to each.

        Of several processes each gets its share of every batch; what is done is drawn for the whole of it.

        Args:
            epoch: Counted from 0.
            done: Steps of it that were made already.
        """
        order, share = self.order(epoch), self.dist.share(self.batch_size)
        for place in range(done, self.steps_per_epoch):
            positions = order[place * self.batch_size : (place + 1) * self.batch_size]
            transforms = self.transforms(epoch * self.steps_per_epoch + place)
            yield list(zip(positions[share], transforms[share], strict=True))

    def _grouped(self, order: list[int], epoch: int) -> list[int]:
        """The same positions, high pictures and wide ones apart; the batches in an order drawn anew."""
        size = self.batch_size
        groups = [[position for position in order if self.high[position] == high] for high in (True, False)]
        rest = [position for group in groups for position in group[len(group) - len(group) % size :]]
        batches = [group[start : start + size] for group in groups for start in range(0, len(group) - size + 1, size)]
        batches += [rest] if rest else []
        shuffled = torch.randperm(len(batches), generator=generator_for(self.seed, "batches", epoch))
        return [position for place in shuffled.tolist() for position in batches[place]]


def make_jitter(recipe: DetectRecipe, mean: tuple[float, float, float]) -> ScaleJitter | None:
    """The square that a recipe puts pictures into, if it does; `mean` is the colour, in 0 to 1, of what they leave."""
    if not recipe.train.scale_jitter:
        return None
    low, high = recipe.train.scale_jitter
    red, green, blue = (round(255 * value) for value in mean)
    return ScaleJitter(recipe.train.jitter_size or recipe.detector.max_size, (low, high), (red, green, blue))


def preview_transforms(recipe: DetectRecipe, count: int) -> list[BoxTransform]:
    """What a training by this recipe might do to so many pictures; what they leave of a square is grey.

    Raises:
        InputError: The recipe varies nothing that shows.
    """
    flip, jitter = recipe.train.flip, make_jitter(recipe, (0.5, 0.5, 0.5))
    if not flip and jitter is None:
        raise InputError(
            "--augmented: the recipe has neither train.flip nor train.scale_jitter, which are what could be seen",
            "Name one that has, for instance --recipe coco-modern",
        )
    return sample_transforms(count, generator_for(recipe.seed, "sample"), flip=flip, jitter=jitter)
