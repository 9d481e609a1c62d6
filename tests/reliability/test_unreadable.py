"""Files that open and cannot be read, as on a disk with a fault: one line with their name, whatever wanted them."""

import errno
import os
from pathlib import Path

import pytest

from nascli.reading import open_file
from tests.cli.program import Nascli
from tests.front_door.made import write_classes, write_coco

FAULTY = ("/proc/self/mem", "/proc/self/clear_refs")
"""Files of the kernel's that root opens as any other; the first cannot be read at its start, the second nowhere."""

LINES = (
    *("data check {}", "data show {} --out new", "data split {} new", "data convert {} new"),
    *("detect check --dataset {}", "detect show --dataset coco:{} --out new", "detect score {} --dataset coco:scenes"),
    *("decode {}", "decode {} --from darts", "build --cell {}", "build --network {}"),
    "build --cell nasnet-a --filters 4 --cells-per-stage 1 --import-weights {} --out new",
    *("data check pack:{}", "data check csv:{}", "data check yolo:{}", "data check voc:{}", "pack {} new.h5"),
    *("train --cell nasnet-a --recipe {} --dry-run", "train --resume {}", "evaluate {}", "report {}", "status {}"),
)


@pytest.mark.parametrize("file", FAULTY)
def test_a_file_with_a_fault_is_named_whatever_reads_it(file: str, nascli: Nascli) -> None:
    write_coco(Path("scenes"))
    for line in LINES:
        ran = nascli(f"{line.format(file)} --json")
        assert ran.code in (1, 2), line
        assert ran.json["error"]["code"] != "unexpected", line
        assert file in ran.err, line


@pytest.mark.parametrize("file", FAULTY)
@pytest.mark.parametrize("size", [-1, 10])
def test_an_error_of_reading_has_the_name(file: str, size: int) -> None:
    with pytest.raises(OSError, match=file), open_file(file) as opened:
        opened.read(size)


def test_a_file_that_would_have_to_be_waited_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    Path("log").touch()
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", lambda path, flags: reader)
        opened = open_file("log")
    with opened, pytest.raises(OSError, match="at once: 'log'"):
        opened.read()
    os.close(writer)


def test_a_pack_on_a_disk_with_a_fault_is_named(nascli: Nascli, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*place: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    write_classes(Path("images"))
    monkeypatch.setattr(os, "pread", fail)
    ran = nascli("pack images pack.h5 --size 16 --json")
    assert (ran.code, ran.json["error"]["code"]) == (2, "bad_input")
    assert "pack.h5" in ran.json["error"]["file"]
    assert not Path("pack.h5").exists()


def test_a_fault_of_the_disk_without_a_name_is_no_fault_of_the_program(
    nascli: Nascli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("nascli.data.pack.build.write_pack", fail)
    write_classes(Path("images"))
    ran = nascli("pack images pack.h5 --size 16 --json")
    assert (ran.code, ran.json["error"]["code"]) == (1, "failed")
