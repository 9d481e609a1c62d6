"""The best epochs of a training by what is measured after each: their weights, on disk and in memory."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from nascli.config import KeepConfig
from nascli.engine.dist import DistContext
from nascli.errors import InputError
from nascli.files import make_folder, make_whole_folder, writing
from nascli.models.serialization import WEIGHTS_FILE, save_weights
from nascli.models.tensor_files import read_tensors

BEST_FOLDER = "best"
"""In a run folder: one folder for each epoch that is kept."""

_DESCRIPTIONS = ("network.json", "detector.json")
"""Files of the run that say what its weights are of."""

Score = tuple[float, ...]
"""Numbers that say how good an epoch is: the greater the better, the first before the others."""


@dataclass
class BestEpochs:
    """The epochs to keep so far, the best one first; of equal ones the earlier.

    Every process has the weights of the best in memory, the main one all on disk, each as a folder of a network that
    other commands take: `best/epoch-0003`. A folder is removed only after a checkpoint that does without it.

    Args:
        config: What is kept.
        run: The run folder; None for a process that writes none.
        scores: By epoch, counted from 1.
    """

    config: KeepConfig
    run: Path | None
    scores: dict[int, Score] = field(default_factory=dict)
    _weights: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def best(self) -> int | None:
        """The best epoch so far."""
        return next(iter(self.scores), None)

    def add(self, epoch: int, score: Score | None, model: nn.Module) -> None:
        """Count an epoch, and keep its weights where it is among the best; None was not measured."""
        if score is None or not self.config.chooses:
            return
        ranked = sorted({**self.scores, epoch: score}.items(), key=lambda each: (*(-x for x in each[1]), each[0]))
        self.scores = dict(ranked[: max(1, self.config.keep_checkpoints)])
        if self.best == epoch and self.config.keep_best:
            self._weights = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
        if self.run is not None and epoch in self.scores and self._is_on_disk:
            self._write(self.run, self._folder(self.run, epoch), model)

    def is_over(self, epochs: int) -> bool:
        """Whether the training ends after so many epochs, since none was better for long enough."""
        return bool(self.config.patience and self.best and epochs - self.best >= self.config.patience)

    def forget_others(self) -> None:
        """Remove the folders of epochs that are no longer kept."""
        if self.run is not None and self._is_on_disk:
            kept = {self._folder(self.run, epoch) for epoch in self.scores}
            for folder in (self.run / BEST_FOLDER).glob("epoch-*"):
                if folder not in kept:
                    with writing(folder):
                        shutil.rmtree(folder)

    def restore(self, scores: Mapping[int, Score], dist: DistContext) -> None:
        """Become what a checkpoint says; the weights of the best are read by the main process for all.

        They may be gone where an earlier checkpoint is resumed from, whose best epoch a later one has taken the place
        of: that one is made again.

        Raises:
            CorruptFileError: They are damaged.
        """
        self.scores = dict(scores)
        if self.best is not None and self.config.keep_best:
            self._weights = dist.broadcast_from_main(self._read_best)

    def take_best(self, modules: nn.Module) -> None:
        """Give modules the weights of the best epoch.

        Raises:
            InputError: They are gone.
        """
        if not self._weights:
            raise InputError(
                f"the weights of epoch {self.best}, the best, are gone from {self.run or 'the run'}/{BEST_FOLDER}",
                "Restore them, or start the run again, with --out and --overwrite",
            )
        modules.load_state_dict(dict(self._weights))

    @property
    def _is_on_disk(self) -> bool:
        return bool(self.config.keep_best or self.config.keep_checkpoints)

    def _read_best(self) -> dict[str, Tensor]:
        assert self.run is not None
        assert self.best is not None
        path = self._folder(self.run, self.best) / WEIGHTS_FILE
        return {name: tensor.clone() for name, tensor in read_tensors(path).items()} if path.is_file() else {}

    @staticmethod
    def _folder(run: Path, epoch: int) -> Path:
        return run / BEST_FOLDER / f"epoch-{epoch:04}"

    @staticmethod
    def _write(run: Path, folder: Path, model: nn.Module) -> None:
        """Write the folder of an epoch, whole; what an earlier try left of it is replaced."""
        make_folder(folder.parent)
        with writing(folder):
            shutil.rmtree(folder, ignore_errors=True)
        with make_whole_folder(folder) as place, torch.no_grad():
            save_weights(place / WEIGHTS_FILE, model)
            for name in _DESCRIPTIONS:
                if (run / name).is_file():
                    shutil.copyfile(run / name, place / name)
