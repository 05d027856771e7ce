"""Writing that leaves nothing half-written: a temporary name in the same folder, flushed, then renamed."""

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

#: Errors that only writing raises -> what to do about them.
_REMEDIES = {
    errno.ENOSPC: "free some",
    errno.EDQUOT: "free some, or ask for more",
    errno.EROFS: "make it writable",
}


@contextlib.contextmanager
def disk_errors_named(path: str | Path) -> Iterator[None]:
    """Makes an ``InputError`` that names ``path`` of a full or read-only file system, or a quota that is used up."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        number = _error_number(error)
        if number not in _REMEDIES:
            raise
        what = os.strerror(number).lower()
        raise InputError(f"{path}: {what}; {_REMEDIES[number]} and start the same command again") from error


def _error_number(error: BaseException | None) -> int | None:
    """The errno of an error of writing: torch raises a RuntimeError in its context, polars puts it into the text."""
    if isinstance(error, OSError):
        in_text = re.search(r"\(os error (\d+)\)$", str(error))
        return int(in_text[1]) if in_text else error.errno
    return _error_number(error.__context__) if error is not None else None


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path``; when the block ends well, the file is synced and takes the name.

    When the block raises, the temporary file is removed and ``path`` stays as it was. The temporary name is always the
    same, so that what a killed process left is overwritten by the next; writers of one file must not run at once (the
    recipe's locks see to it).

    Raises ``InputError`` when the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    with disk_errors_named(path):
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

    Raises ``InputError`` when the disk is full.
    """
    path = Path(path)
    temporary, old = path.with_name(f".{path.name}.tmp"), path.with_name(f".{path.name}.old")
    with disk_errors_named(path):
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
