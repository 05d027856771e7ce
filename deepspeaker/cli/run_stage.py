"""``deepspeaker stage``: run the commands of a stage unless it has finished already."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import click

from deepspeaker.cli.options import commands, load
from deepspeaker.errors import InputError
from deepspeaker.stages import Lock, Mark, Stage, digest_of, visible

#: Characters that no shell treats in a special way.
_PLAIN = re.compile(r"[\w@%+=:,./-]+", re.ASCII)
_ARRAY = re.compile(r"([A-Za-z_]\w*)=\d+(?::\d+)?", re.ASCII)
#: Exit status of a command that Ctrl-C, SIGTERM or SIGHUP ended.
_STOPPED = {128 + number: number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}


@dataclass(frozen=True)
class Call:
    """A command of a stage: ``[LAUNCHER... [NAME=1:N] LOG] deepspeaker SUBCOMMAND...``."""

    launcher: list[str]
    arguments: list[str]  # of deepspeaker
    stage: Stage
    options: dict[str, Any]  # what the sub-command makes of the arguments
    array: str  # the name of the job number, or nothing

    @classmethod
    def of(cls, words: list[str]) -> Call:
        """Take a command apart; click refuses wrong options before anything runs."""
        names = commands.commands.keys()
        at = next((n for n, pair in enumerate(pairwise(words)) if pair[0] == "deepspeaker" and pair[1] in names), None)
        if at is None:
            raise click.UsageError(f"'{' '.join(words)}' is not a deepspeaker command")
        launcher, arguments = words[:at], words[at + 1 :]
        array = next((match[1] for word in launcher if (match := _ARRAY.fullmatch(word))), "")
        command: click.Command = commands
        rest = [word if not array or before != "--job" else "1" for before, word in _pairs(arguments)]
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

    def words(self) -> list[str]:
        """The command to run. The launcher hands it to a shell, so every word is quoted for that."""
        if not self.launcher:
            return ["deepspeaker", *self.arguments]
        *launcher, log = self.launcher
        array, name = self.array, self.array
        others = [*launcher, str(Path(log).parent)]
        others += [word for before, word in _pairs(self.arguments) if before != "--job"]
        # The launcher replaces the name wherever it stands: choose one that stands in no path.
        while array and any(name in word for word in others if not _ARRAY.fullmatch(word)):
            name += "X"
        launcher = [name + word[len(array) :] if array and _ARRAY.fullmatch(word) else word for word in launcher]
        if array:
            log = str(Path(log).with_name(Path(log).name.replace(array, name)))
        arguments = [
            name if array and before == "--job" else for_shell(word) for before, word in _pairs(self.arguments)
        ]
        return [*launcher, log, "deepspeaker", *arguments]

    def check_launcher(self) -> None:
        """Refuse a launcher that is not there, and a log that Kaldi's launchers would cut."""
        if not self.launcher:
            return
        if shutil.which(self.launcher[0]) is None:
            raise click.UsageError(f"--cmd {self.launcher[0]}: no such program")
        if self.launcher[0].endswith(".pl") and not _PLAIN.fullmatch(self.launcher[-1]):
            raise InputError(
                f"{self.launcher[-1]}: {Path(self.launcher[0]).name} cannot write a log of this name; use letters, "
                "digits and ._- in names of corpora and experiments"
            )


def for_shell(word: str) -> str:
    """Quote a word so that it reaches a command through bash and any launcher unchanged.

    The result has no white space, because run.pl puts words with white space between double quotes.

    >>> print(for_shell("a/b.c"), for_shell("R&D"), for_shell("it's $(x)"))
    a/b.c 'R&D' $'it\\x27s\\x20\\x24(x)'
    """
    if _PLAIN.fullmatch(word):
        return word
    if re.fullmatch(r"[^\s']+", word, re.ASCII):
        return f"'{word}'"
    kept = re.compile(r"[\w@%+=:,./()-]", re.ASCII)
    quoted = (c if kept.fullmatch(c) else "".join(f"\\x{byte:02x}" for byte in c.encode()) for c in word)
    return f"$'{''.join(quoted)}'"


@commands.command("stage")
@click.option("--if-needed", type=bool, default=False, help="end at once when the stage has finished already")
@click.option("--overwrite", type=bool, default=False, help="replace a network that was trained with other settings")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, required=True, metavar="COMMAND... [-- COMMAND...]")
def run_stage(if_needed: bool, overwrite: bool, words: tuple[str, ...]) -> None:
    """Run the commands of a stage: take its lock, compare its mark, run them, write the mark.

    Each command is a deepspeaker sub-command, behind a launcher with its options and log, or alone.
    """
    begin = time.monotonic()
    calls = [Call.of(command) for command in _split(words)]
    for call in calls:
        call.check_launcher()
    stage, options = calls[0].stage, calls[0].options
    root = Path(stage.root.format(**options))
    output = root / stage.output
    shown = f"stage {stage.number} ({output})"
    with ExitStack() as stack:
        locks = _locks(stage, options, stack)
        settings = _settings(calls)
        mark = Mark(output, stage.number)
        reason = mark.why(settings)
        missing = [path for name in stage.leaves if not (path := root / name.format(**options)).exists()]
        if reason is None and missing:
            reason = f"{missing[0]} is missing"
        if reason is None and if_needed:
            print(f"{shown}: finished already, skipped", flush=True)
            return
        why = f": {reason}" if reason else ""
        if stage.network and if_needed and not overwrite:
            changed = mark.changed(settings) if mark.exists() else "" if missing else "its mark is lost"
            if changed:
                raise InputError(
                    f"{output}: there is a network of another training, {changed}; name another --exp, or replace the "
                    "network with --overwrite true"
                )
        if not stage.uses:  # this stage changes the data, so no other run may be using it
            what = f"uses {root}, but {shown} must run{why}; wait for it, or use another copy of the project"
            locks[-1].take(True, what, patience=0)
        clears = [path for pattern in stage.clears for path in root.glob(pattern)]
        work = repr([call.arguments for call in calls]) if stage.in_shards else ""
        continues = mark.begin(settings, _given(calls), clears, work)
        print(f"{shown}: {'continues' if continues else 'starts'}{why}", flush=True)
        for call in calls:
            status = _run(call.words(), [lock.descriptor for lock in locks])
            if status in _STOPPED:
                name = signal.Signals(_STOPPED[status]).name
                print(f"{shown}: stopped by {name}; the same command continues", file=sys.stderr)
            elif status and stage.in_shards and not call.array:
                mark.begun.unlink()  # joining refused the shards: start from the beginning next time
            if status:
                sys.exit(status)
        mark.end(settings, _given(calls))
    print(f"{shown}: finished in {time.monotonic() - begin:.0f} s", flush=True)


def _locks(stage: Stage, options: Mapping[str, Any], stack: ExitStack) -> list[Lock]:
    """The locks that a stage needs to look at its mark; the last is that of the folder it writes to."""
    folder = Path((stage.locks or stage.root).format(**options))
    data = Path((stage.uses or stage.locks or stage.root).format(**options))
    if stage.uses and not data.is_dir():
        raise InputError(f"{data}: no such folder; run the stages before this one")
    locks = [stack.enter_context(closing(Lock(data)))]
    locks[0].take(False, f"is making {data}; wait for it")
    if not stage.uses:
        return locks
    locks.append(stack.enter_context(closing(Lock(folder))))
    # Several machines that train together share the experiment.
    alone = not options.get("rdzv_endpoint")
    locks[1].take(alone, f"is working in {folder}; wait for it, or name another --exp")
    return locks


def _pairs(words: list[str]) -> Iterable[tuple[str, str]]:
    """Each word with the one before it."""
    return pairwise(["", *words])


def _split(words: Iterable[str]) -> list[list[str]]:
    """The commands between the words ``--``."""
    parts: list[list[str]] = [[]]
    for word in words:
        if word == "--":
            parts.append([])
        else:
            parts[-1].append(word)
    return [part for part in parts if part]


def _settings(calls: list[Call]) -> dict[str, object]:
    """All that decides the result of a stage."""
    from deepspeaker.files import sha256_of

    settings: dict[str, object] = {}
    for call in calls:
        stage, options = call.stage, call.options
        config = visible(load(options["config"], options["overrides"]), stage.keys) if stage.keys else None
        if config is not None:
            settings.update(_merged(settings, config.model_dump()))
        for name in stage.options:
            option, several = f"--{name.replace('_', '-')}", isinstance(options[name], tuple)
            for value in options[name] if several else (options[name],):
                if isinstance(value, Path) and not value.is_file():
                    raise InputError(f"{option} {value}: no such file")
                if value is not None:
                    label = f"{option} {value.name}" if several else option
                    settings[label] = sha256_of(value) if isinstance(value, Path) else value
        for template in stage.after:
            part, name = template.split("/")[-2:]
            label = f"stage {name.rpartition('.')[2]}" + ("" if part.startswith("{") else f" ({part})")
            settings[label] = digest_of(Path(template.format(**options)))
        if stage.also:
            settings.update(stage.also(config, options))
    return settings


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dictionaries joined."""
    both = dict(one)
    for key, value in other.items():
        both[key] = _merged(both[key], value) if isinstance(both.get(key), Mapping) else value
    return both


def _given(calls: list[Call]) -> dict[str, object]:
    """All options of a stage's commands."""
    return {name: value for call in reversed(calls) for name, value in call.options.items()}


def _run(words: list[str], locks: list[int]) -> int:
    """Run a command; 128 + K when signal K ended it.

    The command and its jobs inherit the locks. They are free only when the last job has ended, even if this process
    is killed.
    """
    process = subprocess.Popen(words, pass_fds=locks)
    # Ctrl-C reaches the command too, which ends its jobs and then itself.
    old = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN),
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: process.terminate()),
    }
    try:
        status = process.wait()
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
    return status if status >= 0 else 128 - status
