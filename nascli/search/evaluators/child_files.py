"""Files of children in the run folder: trainings that wait to be continued, and weights for others to inherit."""

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from nascli.config import SearchRecipe
from nascli.engine.checkpoint import CheckpointStore
from nascli.errors import CorruptFileError
from nascli.files import writing
from nascli.models.tensor_files import read_tensors, write_tensors


@dataclass(frozen=True)
class PausedTrainings:
    """The checkpoints of children whose training is to be continued: a folder for each child, in it one per seed."""

    folder: Path

    def open(self, canonical_hash: str, seed: int) -> CheckpointStore:
        """The store of one training; a damaged checkpoint is removed."""
        folder = self.folder / canonical_hash / str(seed)
        store = CheckpointStore(folder, f"{canonical_hash} {seed}", command="search")
        try:
            store.load()
        except CorruptFileError:
            with writing(folder):
                shutil.rmtree(folder)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return store

    def remove(self, canonical_hash: str) -> None:
        """Remove those of a child, as it is finished; what cannot be removed is only in the way."""
        with suppress(OSError):
            shutil.rmtree(self.folder / canonical_hash)


@dataclass(frozen=True)
class KeptWeights:
    """The weights of trained children, for those that inherit them: a file for each."""

    folder: Path

    def save(self, network: nn.Module, canonical_hash: str) -> None:
        """Keep those of a child."""
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        write_tensors(self._file(canonical_hash), network.state_dict())

    def give(self, canonical_hash: str, heir: nn.Module) -> None:
        """Give another child all of them whose name and shape it has, running statistics of batch norms included."""
        own = heir.state_dict()
        kept = read_tensors(self._file(canonical_hash)).items()
        heir.load_state_dict(own | {name: each for name, each in kept if name in own and own[name].shape == each.shape})

    def _file(self, canonical_hash: str) -> Path:
        return self.folder / f"{canonical_hash}.safetensors"


def find_paused(recipe: SearchRecipe, folder: Path) -> PausedTrainings | None:
    """The place in a run folder where trainings wait between two rungs; None where each begins anew."""
    return None if recipe.halving.restart else PausedTrainings(folder / "paused")


def find_kept(recipe: SearchRecipe, folder: Path) -> KeptWeights | None:
    """The place in a run folder where weights of children are kept for others; None where none are inherited."""
    return KeptWeights(folder / "inherited") if recipe.search.inherit_weights else None
