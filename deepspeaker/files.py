"""Writing that leaves nothing half-written: a temporary name in the same folder, flushed, then renamed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path``; when the block ends well, the file is synced and takes the name.

    When the block raises, the temporary file is removed and ``path`` stays as it was. The temporary name is always the
    same, so that what a killed process left is overwritten by the next; writers of one file must not run at once (the
    recipe's locks see to it).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write(path: str | Path, content: str | bytes) -> None:
    """Writes ``content`` (text as UTF-8) to ``path`` by way of a temporary name."""
    with atomic_path(path) as temporary:
        if isinstance(content, str):
            temporary.write_text(content, encoding="utf-8")
        else:
            temporary.write_bytes(content)


@contextlib.contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yields a new temporary folder beside ``path``; when the block ends well, it takes the place of ``path``.

    What a killed process left is removed first. If it was killed between the two renames, the old folder gets its name
    back, so that at every moment a whole copy, old or new, is at ``path`` or will be there at the next start. Writers
    of one folder must not run at once.
    """
    path = Path(path)
    temporary, old = path.with_name(f".{path.name}.tmp"), path.with_name(f".{path.name}.old")
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_tree(temporary)
    if old.exists():
        old.rename(temporary if path.exists() else path)
        _remove_tree(temporary)
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            path.rename(old)
            temporary.rename(path)
            old.rename(temporary)
        else:
            temporary.rename(path)
    finally:
        _remove_tree(temporary)


def remove_folder(path: str | Path) -> None:
    """Removes a folder, if it is there; killed on the way, it leaves either all of it or nothing of that name."""
    path = Path(path)
    if path.exists():
        gone = path.with_name(f".{path.name}.tmp")
        _remove_tree(gone)
        path.rename(gone)
        _remove_tree(gone)


def _remove_tree(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)


def sha256_of(path: str | Path) -> str:
    """The hexadecimal SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
