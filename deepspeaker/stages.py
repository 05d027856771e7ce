"""Stages: what decides a stage's result, its completion mark, and the lock that it holds while it runs.

The decorator ``stage`` declares a stage on the function that does its work. This receives only the declared keys of the
configuration. ``deepspeaker stage`` compares what decides the result with the mark of the last run.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepspeaker.errors import InputError
from deepspeaker.files import atomic_write, remove_folder

if TYPE_CHECKING:
    from deepspeaker.config import Config  # pydantic takes a while to import


@dataclass(frozen=True)
class Stage:
    """What decides the result of a stage, and where the result is.

    Paths are templates over the options of the stage's function, such as ``{exp_dir}/softmax``.

    Attributes
    ----------
    number
        The stage's number.
    root
        The folder that the stage writes to. ``mark_dir``, ``required`` and ``stale`` are relative to it.
    keys
        The configuration keys that decide the result, such as ``features`` or ``scoring.backends``. The stage's
        function can read no others.
    options
        The options that decide the result, by parameter name. A file counts by its content.
    after
        The marks of the earlier stages that this one builds on.
    extra
        Returns further settings that decide the result, given the configuration and the options.
    mark_dir
        The folder of the mark.
    required
        Files that must exist for the stage to count as finished, or a function that returns them, given the options.
    stale
        Patterns of an earlier run's files, which are removed before the stage starts from the beginning.
    in_shards
        Whether the stage runs as an array of jobs. An interrupted array continues only with the same command.
    each
        The option that names several folders. Each has a result of its own, and templates see one of them.
    lock_dir
        The folder that no other run may write to meanwhile; ``root`` by default.
    input_dir
        A folder that no other run may change meanwhile.
    trains
        Whether the stage trains a network. Its result is then replaced only if the user asks for it.
    """

    number: int
    root: str
    keys: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    extra: Callable[[Config | None, Mapping[str, Any]], Mapping[str, object]] | None = None
    mark_dir: str = "."
    required: tuple[str, ...] | Callable[[Mapping[str, Any]], Sequence[str]] = ()
    stale: tuple[str, ...] = ()
    in_shards: bool = False
    each: str = ""
    lock_dir: str = ""
    input_dir: str = ""
    trains: bool = False


def visible(config: Config, keys: Sequence[str]) -> Config:
    """Copy a configuration with only some of its keys.

    Parameters
    ----------
    config
        A complete configuration.
    keys
        Sections such as ``features``, or keys of them such as ``features.num_bins``.

    Returns
    -------
    Config
        The copy. Reading any other key raises ``AttributeError``.

    Examples
    --------
    >>> from deepspeaker.config import Config
    >>> config = visible(Config(), ["features.num_bins", "embedding"])
    >>> config.features.num_bins
    64
    >>> config.model
    Traceback (most recent call last):
    AttributeError: 'Config' object has no attribute 'model'
    """
    copy: Config = _with_only(config, [key.split(".") for key in keys])
    return copy


def _with_only(section: Any, keys: list[list[str]]) -> Any:
    copy = section.model_copy()
    for name in type(section).model_fields:
        below = [key[1:] for key in keys if key[0] == name]
        if not below:
            del copy.__dict__[name]
        elif [] not in below:
            copy.__dict__[name] = _with_only(copy.__dict__[name], below)
    return copy


def flattened(settings: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Return nested settings as ``section.key`` -> value.

    Examples
    --------
    >>> flattened({"seed": 1, "softmax": {"epochs": 2}})
    {'seed': 1, 'softmax.epochs': 2}
    """
    flat: dict[str, object] = {}
    for key, value in settings.items():
        flat |= flattened(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


def with_defaults(before: Mapping[str, object], now: Mapping[str, object]) -> dict[str, object]:
    """Add the configuration keys that did not exist yet when settings were written.

    Each gets its default, so adding a key does not make earlier results outdated unless you change its value.

    Parameters
    ----------
    before
        Settings that an older version may have written, as ``section.key`` -> value.
    now
        The current settings.

    Returns
    -------
    dict
        ``before``, with the default of each configuration key that only ``now`` has.
    """
    if now.keys() <= before.keys():
        return dict(before)
    from deepspeaker.config import Config

    complete = Config.model_validate({"model": {"name": now.get("model.name", "rescnn")}})
    defaults = flattened(complete.model_dump())
    return {key: value for key, value in defaults.items() if key in now} | dict(before)


class Mark:
    """The completion mark of a stage.

    ``.done.N`` holds the settings of a finished stage, ``.begun.N`` those of an interrupted one. Both also record all
    options of the run, whether or not they decide the result.

    Parameters
    ----------
    folder
        The folder of the mark.
    number
        The stage's number.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self.folder = folder
        self.done = folder / f".done.{number}"
        self.begun = folder / f".begun.{number}"

    def reason_to_run(self, settings: Mapping[str, object]) -> str | None:
        """Return why the stage must run: an empty text the first time, None if it finished with these settings."""
        if _read(self.done) is None:
            return "it did not finish" if self.begun.is_file() else ""
        return self.changed(settings)

    def exists(self) -> bool:
        """Return whether the stage has begun or finished here."""
        return (_read(self.done) or _read(self.begun)) is not None

    def changed(self, settings: Mapping[str, object]) -> str | None:
        """Name the first settings that differ from the last run, finished or not; return None if all are equal."""
        last = _read(self.done) or _read(self.begun)
        if last is None:
            return None
        now = _as_json(settings)
        before = with_defaults(last["settings"], now)
        found = []
        for key in dict.fromkeys([*now, *before]):
            if key not in before:
                found.append(f"{key} is new" + _shown(" (", now[key], ")"))
            elif key not in now:
                found.append(f"{key} is gone" + _shown(" (was ", before[key], ")"))
            elif now[key] != before[key]:
                found.append(f"{key} changed" + _shown(" from ", before[key], "") + _shown(" to ", now[key], ""))
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        return ", ".join(found[:3]) + more if found else None

    def begin(
        self, settings: Mapping[str, object], given: Mapping[str, object], stale: Sequence[Path], work: str = ""
    ) -> bool:
        """Record that the stage begins.

        Parameters
        ----------
        settings
            What decides the result.
        given
            All options of the run, for the record.
        stale
            Files and folders of an earlier run, removed unless the interrupted run continues.
        work
            What else must be the same for an interrupted run to continue.

        Returns
        -------
        bool
            Whether an interrupted run with the same settings continues.
        """
        last = _read(self.begun)
        continues = (
            last is not None
            and not self.done.is_file()
            and self.changed(settings) is None
            and last.get("work", "") == work
        )
        self.done.unlink(missing_ok=True)
        if not continues:
            self.begun.unlink(missing_ok=True)
            for path in stale:
                if path.is_dir():
                    remove_folder(path)
                else:
                    path.unlink(missing_ok=True)
        _write(self.begun, settings, given, work)
        return continues

    def end(self, settings: Mapping[str, object], given: Mapping[str, object]) -> None:
        """Record that the stage has finished. Call it last, when all outputs are complete."""
        _write(self.done, settings, given)
        self.begun.unlink(missing_ok=True)


def options_of(mark: Path) -> Mapping[str, Any]:
    """Return all options of the run that wrote a mark; an empty mapping if there is no mark."""
    content = _read(mark)
    return {} if content is None else dict(content.get("given", {}))


def digest_of(mark: Path) -> str:
    """Return the digest of an earlier stage's mark.

    Raises
    ------
    InputError
        The stage has not finished.
    """
    content = _read(mark)
    if content is None:
        raise InputError(f"{mark.parent}: stage {mark.name.rpartition('.')[2]} has not finished; run it first")
    return str(content["sha256"])


class Lock:
    """The lock of a folder. The folder is created if it does not exist.

    A process that inherits ``descriptor`` holds the lock until it ends.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
        self._exclusive = False

    def take(self, exclusive: bool, message: str, patience: float = 15.0) -> None:
        """Take the lock, or change how it is held.

        Parameters
        ----------
        exclusive
            Whether no other process may hold the lock at the same time.
        message
            The end of the error message, such as ``"is working in exp/E; wait for it"``.
        patience
            Seconds to wait for the jobs of a run that was killed. They hold its lock until they end.

        Raises
        ------
        InputError
            Another run holds the lock.
        """
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(self.descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                owner = os.pread(self.descriptor, 20, 0).decode(errors="replace")
                lives = owner.isdigit() and Path(f"/proc/{owner}").exists()
                if lives or time.monotonic() >= deadline:
                    raise InputError(f"another run{f' (process {owner})' if lives else ''} {message}") from None
                time.sleep(0.2)
        self._exclusive = exclusive
        if exclusive:
            os.ftruncate(self.descriptor, 0)
            os.pwrite(self.descriptor, str(os.getpid()).encode(), 0)

    def close(self) -> None:
        """Release the lock, unless another process inherited it."""
        if self._exclusive:
            os.ftruncate(self.descriptor, 0)  # another process may get this process's number later
        os.close(self.descriptor)


def _shown(before: str, value: object, after: str) -> str:
    """Return a value for a message, or nothing for a digest, which says nothing to a reader."""
    shown = "''" if value == "" else value
    return "" if re.fullmatch("[0-9a-f]{64}", str(value)) else f"{before}{shown}{after}"


def _as_json(settings: Mapping[str, object]) -> dict[str, object]:
    plain: dict[str, object] = json.loads(json.dumps(flattened(settings), default=str))
    return plain


def _digest(settings: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(_as_json(settings), sort_keys=True).encode()).hexdigest()


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # a missing or damaged mark: the stage runs
    return content if isinstance(content, dict) and {"sha256", "settings"} <= content.keys() else None


def _write(path: Path, settings: Mapping[str, object], given: Mapping[str, object], work: str = "") -> None:
    content = {"sha256": _digest(settings), "settings": _as_json(settings), "given": dict(given), "work": work}
    atomic_write(path, json.dumps(content, indent=1, default=str) + "\n")
