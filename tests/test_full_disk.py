"""Errors and files on a full file system."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from deepspeaker.errors import InputError
from deepspeaker.files import atomic_folder, atomic_path, atomic_write, named_disk_errors
from deepspeaker.kaldi import ArkWriter, write_vector
from deepspeaker.models import save_checkpoint
from deepspeaker.trials import TrialList, write_scores

MANY = 50_000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def stream_text(path: Path) -> None:
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for _ in range(MANY):
            stream.write("a line\n")


def write_folder(path: Path) -> None:
    with atomic_folder(path) as temporary:
        (temporary / "file").write_bytes(bytes(MANY * 8))


def write_ark(path: Path, rows: int = 1000) -> None:
    with ArkWriter(path, path.with_suffix(".scp")) as writer:
        for key in "abcdefgh":
            writer.write(key, np.ones((rows, 9), dtype=np.float32))


def write_buffered_ark(path: Path) -> None:
    """Write less than the buffer of the stream, so that only closing the file raises the error."""
    (path.parent / "filling").write_bytes(bytes(64 << 10))
    write_ark(path, 1)


def write_many_scores(path: Path) -> None:
    rows, true = np.zeros(MANY, dtype=np.int64), np.ones(MANY, dtype=bool)
    write_scores(path, TrialList(["utterance"], rows, rows, true), rows.astype(np.float32), true)


WRITERS: dict[str, Callable[[Path], None]] = {
    "bytes": lambda path: atomic_write(path, bytes(MANY * 8)),
    "text": stream_text,
    "folder": write_folder,
    "ark": write_ark,
    "buffered ark": write_buffered_ark,
    "vector": lambda path: write_vector(path, np.zeros(MANY, dtype=np.float32)),
    "scores by polars": write_many_scores,
    "checkpoint by torch": lambda path: save_checkpoint(path, {"weights": torch.zeros(MANY)}),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_names_the_file_and_leaves_nothing(disk: Path, writer: str) -> None:
    """It was ``[Errno 28] No space left on device``."""
    with pytest.raises(InputError) as raised:
        WRITERS[writer](disk / "result")
    assert str(raised.value) == (
        f"{disk}/result: no space left on device; free some and run the same command again"
    )
    assert [path.name for path in disk.iterdir() if path.name != "filling"] == []


def test_the_old_file_is_kept_if_the_new_one_does_not_fit(disk: Path) -> None:
    atomic_write(disk / "result", "old")
    with pytest.raises(InputError, match="no space left on device"):
        WRITERS["bytes"](disk / "result")
    assert (disk / "result").read_text() == "old"
    assert [path.name for path in disk.iterdir()] == ["result"]


def test_the_error_names_the_right_one_of_several_open_arks(disk: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=f"^{disk}/small.ark: no space left"),
        ArkWriter(disk / "small.ark", disk / "small.scp") as small,
        ArkWriter(tmp_path / "other.ark", tmp_path / "other.scp"),
    ):
        small.write("a", np.ones((MANY, 2), dtype=np.float32))
    assert list(disk.iterdir()) == list(tmp_path.glob("*other*")) == []


def test_a_read_only_file_system_is_named(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for writer in ("bytes", "folder", "ark"):
        with pytest.raises(InputError, match=f"^{disk}/result: read-only file system; make it writable"):
            WRITERS[writer](disk / "result")


def test_an_exceeded_quota_is_named_and_other_errors_are_unchanged() -> None:
    with pytest.raises(InputError, match="/home/x: disk quota exceeded; free some"), named_disk_errors("/home/x"):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
    with pytest.raises(PermissionError), named_disk_errors("/home/x"):
        raise PermissionError(errno.EACCES, "Permission denied", "/etc/shadow")
    with pytest.raises(ZeroDivisionError), named_disk_errors("/home/x"):
        1 / 0  # noqa: B018
