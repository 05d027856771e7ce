"""Done-marks: what decided the result of a finished stage, kept in its output."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deepspeaker.errors import InputError
from deepspeaker.files import atomic_write

Settings = Mapping[str, object]


def flattened(settings: Settings, prefix: str = "") -> dict[str, object]:
    """Nested settings as ``section.key`` -> value."""
    flat: dict[str, object] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat.update(flattened(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


class Mark:
    """The mark of stage ``stage`` in ``folder``.

    ``.done.N`` says that the stage is finished and with which settings; ``.begun.N`` that it was begun, so that a
    training which was killed can go on, and of work in shards only those are done again that failed.
    """

    def __init__(self, folder: Path, stage: int) -> None:
        self.folder = folder
        self.done = folder / f".done.{stage}"
        self.begun = folder / f".begun.{stage}"

    def difference(self, settings: Settings) -> str | None:
        """Why the stage must run: None when it is finished with just these settings."""
        old = _read(self.done)
        if old is None:
            return "was begun and not finished" if self.begun.is_file() else "not done yet"
        flat, before = _plain(flattened(settings)), old["settings"]
        for key in [*flat, *before]:
            if key not in before:
                return f"{key} is new" + ("" if key.startswith("stage ") else f" ({flat[key]})")
            if key not in flat:
                return f"{key} is gone" + ("" if key.startswith("stage ") else f" (was {before[key]})")
            if flat[key] != before[key]:
                opaque = key.startswith("stage ") or key in ("files of the corpus", "init-from")
                return f"{key} changed" + ("" if opaque else f" from {before[key]} to {flat[key]}")
        return None

    def begin(
        self, settings: Settings, clear: Sequence[Path], shards: Sequence[str] = (), work: str = ""
    ) -> bool:
        """Notes that the stage begins; returns whether an interrupted one with the same settings goes on.

        Otherwise what an older run left is removed: the folders ``clear``, and what the patterns ``shards`` match in
        the stage's folder. ``work`` says what else must be as it was for an interrupted one to go on: for shards, their
        number.
        """
        old = _read(self.begun)
        goes_on = (
            old is not None
            and not self.done.is_file()
            and (old["sha256"], old.get("work", "")) == (_digest(settings), work)
        )
        self.done.unlink(missing_ok=True)
        if not goes_on:
            self.begun.unlink(missing_ok=True)
            for path in [*clear, *(path for pattern in shards for path in list(self.folder.glob(pattern)))]:
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        _write(self.begun, settings, work)
        return goes_on

    def end(self, settings: Settings) -> None:
        """Notes that the stage is finished; comes last, when all outputs are whole."""
        _write(self.done, settings)
        self.begun.unlink(missing_ok=True)


def digest_of(mark: Path) -> str:
    """The digest of a mark that a later stage depends on; raises ``InputError`` when that stage is not done."""
    content = _read(mark)
    if content is None:
        raise InputError(f"{mark}: no such mark; run stage {mark.name.rpartition('.')[2]} first")
    return str(content["sha256"])


def _plain(settings: Settings) -> dict[str, object]:
    """As JSON gives it back."""
    plain: dict[str, object] = json.loads(json.dumps(settings, default=str))
    return plain


def _digest(settings: Settings) -> str:
    return hashlib.sha256(json.dumps(flattened(settings), sort_keys=True, default=str).encode()).hexdigest()


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # no mark, or one that nobody of us wrote: the stage runs
    return content if isinstance(content, dict) and {"sha256", "settings"} <= content.keys() else None


def _write(path: Path, settings: Settings, work: str = "") -> None:
    content: dict[str, object] = {"sha256": _digest(settings), "settings": flattened(settings)}
    if work:
        content["work"] = work
    atomic_write(path, json.dumps(content, indent=1, default=str) + "\n")
