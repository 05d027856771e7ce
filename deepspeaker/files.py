"""Atomic writing: files and folders get a temporary name in the same folder, are flushed, then renamed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from deepspeaker.errors import InputError

#: Errors that only writing raises -> the fix.
_REMEDIES = {
    errno.ENOSPC: "free some",
    errno.EDQUOT: "free some, or ask for more",
    errno.EROFS: "make it writable",
}


@contextlib.contextmanager
def named_disk_errors(path: str | Path) -> Iterator[None]:
    """Turn errors of a full disk, an exceeded quota or a read-only disk into an ``InputError`` that names ``path``."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        number = _error_number(error)
        if number not in _REMEDIES:
            raise
        problem = os.strerror(number).lower()
        raise InputError(f"{path}: {problem}; {_REMEDIES[number]} and run the same command again") from error


def _error_number(error: BaseException | None) -> int | None:
    """Return the errno of a failed write; torch raises RuntimeError in its context, polars has it in the text."""
    if isinstance(error, OSError):
        in_text = re.search(r"\(os error (\d+)\)$", str(error))
        return int(in_text[1]) if in_text else error.errno
    return _error_number(error.__context__) if error is not None else None


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path, which is synced and renamed to ``path`` when the block ends.

    If the block raises, the temporary file is removed and ``path`` does not change. The temporary name is always the
    same, so that a process overwrites what a killed process left. Two processes must not write a file at the same time
    (the recipe's locks prevent that).

    Raises
    ------
    InputError
        The disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    with named_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
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
    """Write ``content`` (text as UTF-8) to ``path`` atomically."""
    with atomic_path(path) as temporary:
        if isinstance(content, str):
            temporary.write_text(content, encoding="utf-8")
        else:
            temporary.write_bytes(content)


@contextlib.contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a new temporary folder, which replaces ``path`` when the block ends.

    What a killed process left is removed first. If it was killed between the two renames, the old folder is restored.
    A complete folder, old or new, is thus always at ``path`` or restored at the next start. Two processes must not
    write a folder at the same time.

    Raises
    ------
    InputError
        The disk is full.
    """
    path = Path(path)
    temporary, old = path.with_name(f".{path.name}.tmp"), path.with_name(f".{path.name}.old")
    with named_disk_errors(path):
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
    """Remove a folder if it exists. If the process is killed, either all of it is left or nothing of that name."""
    path = Path(path)
    if path.exists():
        temporary = path.with_name(f".{path.name}.tmp")
        _remove_tree(temporary)
        path.rename(temporary)
        _remove_tree(temporary)


def _remove_tree(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)


def sha256_of(path: str | Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
