"""The steps of one epoch of a detector's training.

Every draw follows from (seed, purpose, epoch or step): the order of the pictures, their mirroring, scale and place, and
the sampling of sizes, anchors and proposals inside torchvision's detector, which uses torch's global generator and so
is seeded anew before each part of a step. A resumed training therefore makes the same steps as one that was never
stopped; on one CPU type with one number of threads, bit for bit.
"""

import time
from collections.abc import Callable

from torch import Tensor

from nascli.data.detection.dataset import DetectionSplit
from nascli.data.detection.transforms import BoxTransform, Target, read_transformed
from nascli.detect.inference import read_ahead
from nascli.detect.plan import DetectPlan
from nascli.detect.state import DetectState
from nascli.detect.step import computing_as_asked, train_step
from nascli.seeding import derive_seed


def train_epoch(state: DetectState, plan: DetectPlan, split: DetectionSplit, after_step: Callable[[], None]) -> None:
    """The steps of the epoch that `state.step` is in, from there to its end.

    Args:
        state: Changed in place; it may stand inside the epoch.
        plan: The unchanging numbers.
        split: The training pictures.
        after_step: Called after each step, where the state is whole; may raise to stop.

    Raises:
        DivergedError: A loss or a gradient is not finite; the message names the step and the pictures.
        CorruptFileError: A picture cannot be decoded; the state is whole.
        InputError: A picture was removed or replaced meanwhile; the state is whole.
    """
    epoch = len(state.records)
    learning_rate = plan.learning_rate

    def read(entry: tuple[int, BoxTransform]) -> tuple[Tensor, Target]:
        position, transform = entry
        return read_transformed(split.images[position], transform)

    state.detector.train()
    since = time.monotonic()
    with computing_as_asked(state.detector, plan):
        batches = read_ahead(plan.batches(epoch, state.step - epoch * plan.steps_per_epoch), read)
        for batch, read_batch in filter(None, plan.dist.lockstep(batches)):  # each has as many: there is no None
            for group in state.optimizer.param_groups:
                group["lr"] = learning_rate(state.step)
            entries = [split.images[position] for position, _ in batch]
            pictures, targets = zip(*read_batch, strict=True)
            seed = derive_seed(plan.seed, "step", state.step)
            state.loss_sum += train_step(state, plan, entries, pictures, targets, seed)
            state.step += 1
            state.seconds += time.monotonic() - since
            since = time.monotonic()
            after_step()
