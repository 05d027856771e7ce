"""Atomic writing of files and folders."""

from __future__ import annotations

import hashlib
import itertools
import os
import sys
from pathlib import Path

import pytest

from deepspeaker.files import atomic_folder, atomic_path, atomic_write, sha256_of


def test_a_file_is_renamed_when_the_block_ends(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "new" / "x") as temporary:
        temporary.write_text("whole")
        assert temporary.parent == tmp_path / "new"  # the same file system, so that the rename is atomic
        assert not (tmp_path / "new" / "x").exists()
    assert (tmp_path / "new" / "x").read_text() == "whole"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["x"]


def test_an_exception_keeps_the_old_file(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic_path(tmp_path / "x") as temporary:
            temporary.write_text("half")
            raise RuntimeError

    atomic_write(tmp_path / "x", "old")
    with pytest.raises(RuntimeError):
        fail()
    assert (tmp_path / "x").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_text_is_utf8_and_bytes_are_unchanged(tmp_path: Path) -> None:
    atomic_write(tmp_path / "x", "é\n")
    assert (tmp_path / "x").read_bytes() == b"\xc3\xa9\n"
    atomic_write(tmp_path / "x", b"\0\xff\r\n")
    assert (tmp_path / "x").read_bytes() == b"\0\xff\r\n"


def test_a_folder_replaces_the_old_one(tmp_path: Path) -> None:
    for name in ("first", "second"):
        with atomic_folder(tmp_path / "folder") as temporary:
            (temporary / name).write_text(name)
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["second"]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_failed_folder_keeps_the_old_one(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic_folder(tmp_path / "folder") as temporary:
            (temporary / "half").write_text("half")
            raise RuntimeError

    with atomic_folder(tmp_path / "folder") as temporary:
        (temporary / "old").write_text("old")
    with pytest.raises(RuntimeError):
        fail()
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_remains_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".folder.tmp").mkdir()
    (tmp_path / ".folder.tmp" / "half").write_text("half")
    with atomic_folder(tmp_path / "folder"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def write_folder(folder: Path, content: str) -> None:
    with atomic_folder(folder) as temporary:
        for name in ("one", "two"):
            (temporary / name).write_text(content)


def write_and_kill_at(step: int, folder: Path, content: str) -> bool:
    """Write ``folder`` in a process killed at its ``step``-th change of the file system; False if it was killed.

    ``os._exit`` kills the process, so that no ``finally`` runs.
    """
    child = os.fork()
    if child == 0:
        steps = itertools.count()

        def die(event: str, arguments: object) -> None:
            changes = event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir")
            if changes and next(steps) == step:
                os._exit(9)

        sys.addaudithook(die)
        try:
            write_folder(folder, content)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_complete_folder_survives_a_kill_at_any_step_and_a_failure_afterwards(tmp_path: Path) -> None:
    """It was lost if a process was killed between the two renames, and the next one removed both folders and failed."""
    seen = set()
    for step in itertools.count():
        folder = tmp_path / str(step) / "folder"
        write_folder(folder, "old")
        done = write_and_kill_at(step, folder, "new")
        with pytest.raises(RuntimeError), atomic_folder(folder):
            raise RuntimeError
        (content,) = {path.read_text() for path in folder.iterdir()}
        assert sorted(path.name for path in folder.iterdir()) == ["one", "two"]
        assert [path.name for path in folder.parent.iterdir()] == ["folder"]
        seen.add(content)
        if done:
            break
    assert content == "new"
    assert seen == {"old", "new"}
    assert step > 5


def test_sha256_of_a_file_larger_than_a_block(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "x").write_bytes(content)
    assert sha256_of(tmp_path / "x") == hashlib.sha256(content).hexdigest()
