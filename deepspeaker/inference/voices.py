"""Enrolled voices in an SQLite file. It belongs to one model: embeddings of another cannot be compared."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from deepspeaker.errors import InputError
from deepspeaker.inference.answers import Voice

#: The version of the tables.
_SCHEMA = 1
#: Seconds to wait for another writer.
_PATIENCE = 10.0


class Voices:
    """A file of enrolled voices. Several processes may read and write it at once.

    Parameters
    ----------
    path
        The file. The first ``add`` creates it.
    fingerprint
        That of the model whose embeddings it holds.
    patience
        Seconds to wait for another writer.

    Raises
    ------
    InputError
        The file is no such database, was written with another model, or is locked for too long.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> voices = Voices(Path(folder.name, "voices.db"), fingerprint="0123")
    >>> voices.add("anna", Voice(np.float32([0.6, 0.8]), speech_frames=300))
    >>> voices.all()["anna"].embedding
    array([0.6, 0.8], dtype=float32)
    """

    def __init__(self, path: str | Path, fingerprint: str, patience: float = _PATIENCE) -> None:
        self.path = Path(path)
        self.fingerprint = fingerprint
        self.patience = patience

    def all(self) -> dict[str, Voice]:
        """Return all voices by name, sorted."""
        with self._open() as connection:
            rows = connection.execute("SELECT name, embedding, speech_frames, files FROM voices ORDER BY name")
            return {
                name: Voice(np.frombuffer(embedding, dtype="<f4").copy(), frames, files)
                for name, embedding, frames, files in rows
            }

    def add(self, name: str, voice: Voice, replace: bool = False) -> None:
        """Enrol a voice.

        Raises
        ------
        InputError
            The name is empty, or taken and ``replace`` is false.
        """
        if not name.strip() or not name.isprintable():
            raise InputError(f"{name!r} is no name for a voice")
        row = (name, voice.embedding.astype("<f4").tobytes(), voice.speech_frames, voice.files)
        with self._open(create=True) as connection:
            taken = connection.execute("SELECT 1 FROM voices WHERE name = ?", (name,)).fetchone()
            if taken and not replace:
                raise InputError(f"{self.path}: {name} is enrolled already; give --replace or another name")
            connection.execute("INSERT OR REPLACE INTO voices VALUES (?, ?, ?, ?)", row)

    def rename(self, name: str, new_name: str) -> None:
        """Give a voice another name."""
        if not new_name.strip() or not new_name.isprintable():
            raise InputError(f"{new_name!r} is no name for a voice")
        with self._open() as connection:
            self._check(connection, name)
            if connection.execute("SELECT 1 FROM voices WHERE name = ?", (new_name,)).fetchone():
                raise InputError(f"{self.path}: {new_name} is enrolled already; remove it first")
            connection.execute("UPDATE voices SET name = ? WHERE name = ?", (new_name, name))

    def remove(self, name: str) -> None:
        """Remove a voice."""
        with self._open() as connection:
            self._check(connection, name)
            connection.execute("DELETE FROM voices WHERE name = ?", (name,))

    def _check(self, connection: sqlite3.Connection, name: str) -> None:
        if not connection.execute("SELECT 1 FROM voices WHERE name = ?", (name,)).fetchone():
            raise InputError(f"{self.path}: {name} is not enrolled")

    @contextmanager
    def _open(self, create: bool = False) -> Iterator[sqlite3.Connection]:
        """Yield a connection in a transaction that no other writer can enter; it is undone if the block raises."""
        if not create and not self.path.is_file():
            raise InputError(f"{self.path}: no such file; deepspeaker enrol creates it")
        if not self.path.parent.is_dir():
            raise InputError(f"{self.path.parent}: no such folder")
        connection = None
        try:
            connection = sqlite3.connect(self.path, timeout=self.patience, isolation_level=None)
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("CREATE TABLE IF NOT EXISTS model (schema INTEGER, fingerprint TEXT)")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS voices (name TEXT PRIMARY KEY, embedding BLOB, speech_frames INTEGER, "
                "files INTEGER)"
            )
            found = connection.execute("SELECT schema, fingerprint FROM model").fetchone()
            if found is None:
                connection.execute("INSERT INTO model VALUES (?, ?)", (_SCHEMA, self.fingerprint))
            elif found[0] > _SCHEMA:
                raise InputError(f"{self.path}: was written by a newer version; install it")
            elif found[1] != self.fingerprint:
                raise InputError(
                    f"{self.path}: holds voices of another model, whose embeddings cannot be compared; enrol them "
                    "again in a new file"
                )
            yield connection
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            problem = "another program is writing it; try again" if "locked" in str(error) else str(error)
            raise InputError(f"{self.path}: cannot be used as a file of voices ({problem})") from None
        finally:
            if connection is not None:
                connection.close()  # without COMMIT, nothing has changed
