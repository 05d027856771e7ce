"""``deepspeaker stage``: run the commands of a stage unless it has finished."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import pairwise
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import click

from deepspeaker.cli.options import commands, load
from deepspeaker.errors import InputError
from deepspeaker.stages import Lock, Mark, Stage, digest_of, flattened, visible

#: Words that are not special to any shell.
_PLAIN = re.compile(r"[\w@%+=:,./-]+", re.ASCII)
_ARRAY = re.compile(r"([A-Za-z_]\w*)=\d+(?::\d+)?", re.ASCII)
#: Exit statuses of a command that was ended by Ctrl-C, SIGTERM or SIGHUP.
_STOPPED = {128 + number: number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}


@dataclass(frozen=True)
class StageCommand:
    """A command of a stage: ``[LAUNCHER... [NAME=1:N] LOG] deepspeaker SUBCOMMAND...``.

    Attributes
    ----------
    launcher
        The words before ``deepspeaker``: the launcher, its options and the log.
    arguments
        The words after ``deepspeaker``.
    stage
        The declaration of the sub-command's stage.
    options
        The values of the sub-command's options and arguments, by parameter name.
    array
        NAME, which stands for the job number, or an empty text.
    """

    launcher: list[str]
    arguments: list[str]
    stage: Stage
    options: dict[str, Any]
    array: str

    @classmethod
    def parse(cls, words: list[str]) -> StageCommand:
        """Parse a command.

        Raises
        ------
        click.UsageError
            An option is wrong, or the sub-command does not belong to a stage.
        """
        names = commands.commands.keys()
        at = next((n for n, pair in enumerate(pairwise(words)) if pair[0] == "deepspeaker" and pair[1] in names), None)
        if at is None:
            raise click.UsageError(f"'{' '.join(words)}' is not a deepspeaker command")
        launcher, arguments = words[:at], words[at + 1 :]
        array = next((match[1] for word in launcher if (match := _ARRAY.fullmatch(word))), "")
        command: click.Command = commands
        rest = ["1" if array and before == "--job" else word for before, word in _with_previous(arguments)]
        context = click.Context(commands)
        while isinstance(command, click.Group):
            name, found, rest = command.resolve_command(context, rest)
            assert found is not None
            command, context = found, click.Context(found, context, info_name=name)
        options = command.make_context(command.name, rest).params
        stage = getattr(command.callback, "stage", None)
        if stage is None:
            raise click.UsageError(f"'{command.name}' does not belong to a stage")
        return cls(launcher, arguments, stage, options, array)

    @property
    def root(self) -> Path:
        """The folder that the stage writes to."""
        return Path(self.stage.root.format(**self.options))

    def split(self) -> list[StageCommand]:
        """Return a command for each folder of ``stage.each``. The folders are the last arguments."""
        each = self.stage.each
        if not each:
            return [self]
        folders = self.options[each]
        return [
            replace(self, arguments=[*self.arguments[: -len(folders)], word], options=self.options | {each: folder})
            for word, folder in zip(self.arguments[-len(folders) :], folders, strict=True)
        ]

    def words(self) -> list[str]:
        """Return the command to run, each word quoted if a launcher hands it to a shell."""
        if not self.launcher:
            return ["deepspeaker", *self.arguments]
        *launcher, log = self.launcher
        array, name = self.array, self.array
        others = [*launcher, str(Path(log).parent)]
        others += [word for before, word in _with_previous(self.arguments) if before != "--job"]
        # The launcher replaces every occurrence of the name, so choose one that occurs in no path.
        while array and any(name in word for word in others if not _ARRAY.fullmatch(word)):
            name += "X"
        launcher = [name + word[len(array) :] if array and _ARRAY.fullmatch(word) else word for word in launcher]
        if array:
            log = str(Path(log).with_name(Path(log).name.replace(array, name)))
        arguments = [
            name if array and before == "--job" else quote_for_launcher(word)
            for before, word in _with_previous(self.arguments)
        ]
        return [*launcher, log, "deepspeaker", *arguments]

    def check_launcher(self) -> None:
        """Refuse a launcher that does not exist, and a log whose name Kaldi's launchers would cut off."""
        if not self.launcher:
            return
        if shutil.which(self.launcher[0]) is None:
            raise click.UsageError(f"--cmd {self.launcher[0]}: no such program")
        if self.launcher[0].endswith(".pl") and not _PLAIN.fullmatch(self.launcher[-1]):
            raise InputError(
                f"{self.launcher[-1]}: {Path(self.launcher[0]).name} cannot write a log of this name; use letters, "
                "digits and ._- in names of corpora and experiments"
            )


def quote_for_launcher(word: str) -> str:
    r"""Quote a word so that it reaches a command unchanged through bash and any launcher.

    The result has no white space, because run.pl puts words with white space between double quotes.

    Examples
    --------
    >>> print(quote_for_launcher("a/b.c"), quote_for_launcher("R&D"), quote_for_launcher("it's $(x)"))
    a/b.c 'R&D' $'it\x27s\x20\x24(x)'
    """
    if _PLAIN.fullmatch(word):
        return word
    if re.fullmatch(r"[^\s']+", word, re.ASCII):
        return f"'{word}'"
    kept = re.compile(r"[\w@%+=:,./()-]", re.ASCII)
    quoted = (c if kept.fullmatch(c) else "".join(f"\\x{byte:02x}" for byte in c.encode()) for c in word)
    return f"$'{''.join(quoted)}'"


@dataclass(frozen=True)
class _Part:
    """What a stage does for one folder."""

    commands: Sequence[StageCommand]
    folder: Path
    mark: Mark
    settings: dict[str, object]
    why: str
    """Why it must run."""

    @property
    def title(self) -> str:
        return f"stage {self.commands[0].stage.number} ({self.folder})"


@commands.command("stage")
@click.option("--if-needed", type=bool, default=False, help="skip the stage if it has finished")
@click.option("--overwrite", type=bool, default=False, help="replace a network that was trained with other settings")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, required=True, metavar="COMMAND... [-- COMMAND...]")
def run_stage(if_needed: bool, overwrite: bool, words: tuple[str, ...]) -> None:
    """Run the commands of a stage unless it has finished.

    Each COMMAND is a deepspeaker sub-command, either alone or after a launcher with its options and log. The stage's
    folder is locked meanwhile, and a mark in it records what decided the result. If a stage has several folders, an
    array of jobs works on all those that need it, and any other command on one at a time.
    """
    begin = time.monotonic()
    parsed = [StageCommand.parse(command) for command in _split(words)]
    for command in parsed:
        command.check_launcher()
    stage = parsed[0].stage
    with ExitStack() as stack:
        in_parts = list(zip(*(command.split() for command in parsed), strict=True))
        written = {(stage.lock_dir or stage.root).format(**first.options): first.options for first, *_ in in_parts}
        locks = [lock for options in written.values() for lock in _locks(stage, options, stack)]
        parts = [part for part in (_part_to_do(commands, if_needed, overwrite) for commands in in_parts) if part]
        if not parts:
            return
        if not stage.input_dir:  # this stage changes the data, so no other run may be using it
            message = f"but {parts[0].title} must run{parts[0].why}; wait for it, or use another copy of the project"
            for folder, lock in zip(written, locks, strict=True):
                lock.take(True, f"uses {folder}, {message}", patience=0)
        work = repr([_joined(parts, number).arguments for number, _ in enumerate(parsed)]) if stage.in_shards else ""
        logs = [log for command in parsed if command.array for log in _logs(command)]
        for part in parts:
            root = part.commands[0].root
            stale = [path for pattern in stage.stale for path in root.glob(pattern)] + logs
            continues = part.mark.begin(part.settings, _all_options(part.commands), stale, work)
            print(f"{part.title}: {'continues' if continues else 'starts'}{part.why}", flush=True)
        for number, command in enumerate(parsed):
            for group in [parts] if command.array else [[part] for part in parts]:
                status = _run(_joined(group, number).words(), [lock.descriptor for lock in locks])
                for part in group:
                    if status in _STOPPED:
                        name = signal.Signals(_STOPPED[status]).name
                        print(f"{part.title}: stopped by {name}; the same command continues", file=sys.stderr)
                    elif status and stage.in_shards and not command.array and command is parsed[-1]:
                        part.mark.begun.unlink()  # the shards could not be joined: start from the beginning next time
                    elif not status and command is parsed[-1]:
                        part.mark.end(part.settings, _all_options(part.commands))
                        print(f"{part.title}: finished in {time.monotonic() - begin:.0f} s", flush=True)
                if status:
                    sys.exit(status)


def _part_to_do(commands: Sequence[StageCommand], if_needed: bool, overwrite: bool) -> _Part | None:
    """Return what to do for one folder, or None if there is nothing to do."""
    stage, options, root = commands[0].stage, commands[0].options, commands[0].root
    folder = root / stage.mark_dir
    settings = settings_of(commands)
    mark = Mark(folder, stage.number)
    reason = mark.reason_to_run(settings)
    required = stage.required(options) if callable(stage.required) else stage.required
    missing = [path for name in required if not (path := root / name.format(**options)).exists()]
    if reason is None and missing:
        reason = f"{missing[0]} is missing"
    part = _Part(commands, folder, mark, settings, f": {reason}" if reason else "")
    if reason is None and if_needed:
        print(f"{part.title}: finished already, skipped", flush=True)
        return None
    if stage.trains and if_needed and not overwrite:
        changed = mark.changed(settings) if mark.exists() else "" if missing else "its mark is lost"
        if changed:
            raise InputError(
                f"{folder}: contains a network of another training ({changed}); name another "
                "--exp, or replace the network with --overwrite true"
            )
    return part


def _joined(parts: Sequence[_Part], number: int) -> StageCommand:
    """Return the command of that number for all folders of the parts."""
    first, *others = [part.commands[number] for part in parts]
    return replace(first, arguments=first.arguments + [command.arguments[-1] for command in others])


def _logs(command: StageCommand) -> list[Path]:
    """Return the logs of an earlier array of jobs."""
    log = Path(command.launcher[-1])
    return list(log.parent.glob(log.name.replace(command.array, "*")))


def _locks(stage: Stage, options: Mapping[str, Any], stack: ExitStack) -> list[Lock]:
    """Take the locks that a stage needs before it reads its mark; the last is that of the folder it writes to."""
    folder = Path((stage.lock_dir or stage.root).format(**options))
    data = Path((stage.input_dir or stage.lock_dir or stage.root).format(**options))
    if stage.input_dir and not data.is_dir():
        raise InputError(f"{data}: no such folder; run the earlier stages first")
    locks = [stack.enter_context(closing(Lock(data)))]
    locks[0].take(False, f"is making {data}; wait for it")
    if not stage.input_dir:
        return locks
    locks.append(stack.enter_context(closing(Lock(folder))))
    # Several machines that train together share the experiment.
    exclusive = not options.get("rdzv_endpoint")
    locks[1].take(exclusive, f"is working in {folder}; wait for it, or name another --exp")
    return locks


def _with_previous(words: list[str]) -> Iterable[tuple[str, str]]:
    """Return each word together with the one before it."""
    return pairwise(["", *words])


def _split(words: Iterable[str]) -> list[list[str]]:
    """Split words into commands at the words ``--``."""
    parts: list[list[str]] = [[]]
    for word in words:
        if word == "--":
            parts.append([])
        else:
            parts[-1].append(word)
    return [part for part in parts if part]


def settings_of(parsed: Sequence[StageCommand]) -> dict[str, object]:
    """Return everything that decides the result of a stage: configuration keys, options and earlier marks."""
    from deepspeaker.files import sha256_of

    settings: dict[str, object] = {}
    for command in parsed:
        stage, options = command.stage, command.options
        config = visible(load(options["config"], options["overrides"]), stage.keys) if stage.keys else None
        if config is not None:
            settings |= flattened(config.model_dump())
        for name in stage.options:
            option, repeated = f"--{name.replace('_', '-')}", isinstance(options[name], tuple)
            for value in options[name] if repeated else (options[name],):
                if isinstance(value, Path) and not value.is_file():
                    raise InputError(f"{option} {value}: no such file")
                if value is not None:
                    label = f"{option} {value.name if isinstance(value, Path) else value}" if repeated else option
                    settings[label] = sha256_of(value) if isinstance(value, Path) else value
        for template in stage.after:
            part, name = template.split("/")[-2:]
            label = f"stage {name.rpartition('.')[2]}" + ("" if part.startswith("{") else f" ({part})")
            settings[label] = digest_of(Path(template.format(**options)))
        if stage.extra:
            settings |= stage.extra(config, options)
    return settings


def _all_options(parsed: Sequence[StageCommand]) -> dict[str, object]:
    """Return all options of a stage's commands."""
    return {name: value for command in reversed(parsed) for name, value in command.options.items()}


def _run(words: list[str], locks: list[int]) -> int:
    """Run a command, which inherits the locks, and return its exit status, or 128 + K if signal K ended it.

    The locks are free only when the last of its jobs has ended, even if this process is killed.
    """
    process: ForkProcess | subprocess.Popen[bytes]
    if words[0] == "deepspeaker":  # a copy of this process has imported half of what the command needs
        process = ForkProcess(target=_command, args=(words,))
        process.start()
    else:
        process = subprocess.Popen(words, pass_fds=locks)
    # Ctrl-C also reaches the command, which ends its jobs and then itself.
    old = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN),
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: process.terminate()),
    }
    try:
        process.join() if isinstance(process, ForkProcess) else process.wait()
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
    status = process.exitcode if isinstance(process, ForkProcess) else process.returncode
    assert status is not None
    return status if status >= 0 else 128 - status


def _command(words: list[str]) -> None:
    from deepspeaker.cli import main

    sys.argv = words
    main()
