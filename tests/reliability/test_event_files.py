"""Event files for TensorBoard: a run that was killed before its first goes on to write them."""

import shlex
from pathlib import Path

from tests.front_door.made import TRAIN, write_classes
from tests.reliability.zygote import Zygote


def test_a_run_that_ends_before_its_first_event_still_writes_them_when_it_resumes(
    zygote: Zygote, tmp_path: Path
) -> None:
    write_classes(tmp_path / "images")
    line = f"{TRAIN} --dataset folder:images --set train.checkpoint_steps=1 --tensorboard --out run"
    assert zygote.call(*shlex.split(line), folder=tmp_path, file_size=20_000).code == 1  # at its first checkpoint
    assert not list(tmp_path.glob("run/tensorboard/*"))

    assert zygote.call("train", "--resume", "run", folder=tmp_path).code == 0
    assert list(tmp_path.glob("run/tensorboard/*"))
