"""What run.py and slurm.py have in common: the command line, the choice of jobs by --pick, the report at the end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from dataclasses import dataclass, field
from pathlib import Path

from run_jobs import PROGRAM, Job, LauncherError, complain, exists, say

SUCCESS = re.compile(rb"# Ended \(code 0\)|# Finished at .* with status 0$")  # run.pl; queue.pl, slurm.pl
END = re.compile(rb"# Ended \(code \d+|# Finished at .* with status \d+$")


# ---- command line --------------------------------------------------------------------------------------


@dataclass
class Options:
    name: str = ""
    first: int = 1
    last: int = 1
    log: str = ""
    words: list[str] = field(default_factory=list)  # the command as it was given
    max_jobs_run: int = 0  # 0: as the machine allows
    threads: int = 1
    gpu: int = 0
    pick: str = "all"
    follow: bool = False
    given: list[tuple[str, str]] = field(default_factory=list)  # all options with a value, in their order

    @property
    def command(self) -> str:
        """For bash."""
        return " ".join(quoted(word) for word in self.words)

    @property
    def number_of_jobs(self) -> int:
        return self.last - self.first + 1

    @property
    def logs(self) -> str:
        """The logs' name, for messages."""
        if self.name:
            return self.log.replace(self.name, str(self.first) if self.number_of_jobs == 1 else "*")
        return self.log

    def job(self, number: int) -> Job:
        texts = (self.log, self.command)
        log, command = (text.replace(self.name, str(number)) if self.name else text for text in texts)
        return Job(number, Path(log), command)


def whole_number(option: str, value: str, least: int) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", value) or int(value) < least:
        raise LauncherError(f"{option} must be a whole number from {least} up, not '{value}'")
    return int(value)


def choice(option: str, value: str, values: tuple[str, ...]) -> str:
    if value not in values:
        raise LauncherError(f"{option} must be one of {', '.join(values)}, not '{value}'")
    return value


def take_option(options: Options, words: list[str]) -> None:
    """Take one option with its values from the front of words."""
    option = words.pop(0)
    if option == "-V":
        return
    if option == "--verbose":
        if words and re.fullmatch(r"true|false|[0-9]+", words[0]):
            words.pop(0)
        return
    if option.startswith("--") and "=" in option:
        option, value = option.split("=", 1)
    elif words:
        value = words.pop(0)
        if value.startswith("--"):
            complain(f"warning: '{value}' is taken as the value of {option}; was its value forgotten?")
        if option == "-pe" and words:
            words.pop(0)
    else:
        raise LauncherError(f"{option} needs a value, and LOG and a command after it (see {PROGRAM} --help)")
    if option in ("--max-jobs-run", "-tc"):
        options.max_jobs_run = whole_number(option, value, 1)
    elif option == "--num-threads":
        options.threads = whole_number(option, value, 1)
    elif option == "--gpu":
        options.gpu = whole_number(option, value, 0)
    elif option == "--pick":
        options.pick = choice(option, value, ("all", "failed", "incomplete"))
    elif option == "--follow":
        options.follow = choice(option, value, ("true", "false")) == "true"
    options.given.append((option, value))


def take_range(options: Options, text: str) -> None:
    """Read NAME=1:N or NAME=K."""
    match = re.fullmatch(r"([A-Za-z_]\w*)=([0-9]{1,9})(?::([0-9]{1,9}))?", text, re.ASCII)
    if match is None:
        raise LauncherError(f"bad job range '{text}': write NAME=1:N (or, for a log of this name, ./{text})")
    if options.name:
        raise LauncherError(f"second job range '{text}': give only one")
    options.name, options.first, options.last = match[1], int(match[2]), int(match[3] or match[2])
    if not 1 <= options.first <= options.last:
        raise LauncherError(f"bad job range '{text}': begin it at 1 or more, and do not end it before")


def quoted(word: str) -> str:
    """A word as run.pl writes it into the command for bash."""
    if re.fullmatch(r"\S+", word, re.ASCII):
        return word
    if '"' not in word:
        return f'"{word}"'
    return "'" + word.replace("'", "'\\''") + "'"  # run.pl leaves ' alone, which breaks the word


def parse(arguments: list[str], description: str | None) -> Options:
    """The command line; ``description`` is what --help prints."""
    options, words = Options(), list(arguments)
    while words:
        if words[0] in ("-h", "--help"):
            print((description or "").strip())
            raise SystemExit(0)
        if words[0].startswith("-"):
            take_option(options, words)
        elif re.match(r"[A-Za-z_]\w*=[^/]*$", words[0], re.ASCII) and not words[0].endswith(".log"):
            take_range(options, words.pop(0))
        else:
            break
    if not words or not words[0]:
        raise LauncherError(f"no LOG given: usage is {PROGRAM} [options] [NAME=1:N] LOG command arguments...")
    options.log = words.pop(0)
    if not words:
        raise LauncherError(f"no command given after the log '{options.log}' (see {PROGRAM} --help)")
    options.words = words
    if options.last > options.first and options.name not in options.log:
        raise LauncherError(f"several jobs cannot share the log '{options.log}': put {options.name} into it")
    if options.last > options.first and options.follow:
        raise LauncherError("--follow true is for a single job: leave it out, or run one job")
    return options


# ---- old logs ------------------------------------------------------------------------------------------


def last_line(log: Path) -> bytes:
    """The last line of a log that is not empty; nothing where there is none."""
    with contextlib.suppress(OSError), log.open("rb") as old:
        old.seek(max(0, log.stat().st_size - 4096))
        return (old.read().rstrip().splitlines() or [b""])[-1]
    return b""


def picked(options: Options) -> tuple[list[Job], list[Job]]:
    """The jobs that --pick asks for, and those that it leaves although they failed."""
    jobs, left = [], []
    for number in range(options.first, options.last + 1):
        job = options.job(number)
        last = b"" if options.pick == "all" else last_line(job.log)
        if SUCCESS.match(last):
            continue
        if options.pick == "incomplete" and END.match(last):
            job.failed = True
            left.append(job)
        else:
            jobs.append(job)
    return jobs, left


# ---- the end -------------------------------------------------------------------------------------------


class StopRequests:
    """Whether we are asked to end: by a signal, or because the process DEEPSPEAKER_RUN_PID is gone."""

    def __init__(self) -> None:
        self.signals: list[int] = []
        caller = os.environ.get("DEEPSPEAKER_RUN_PID", "")
        self.caller = int(caller) if re.fullmatch("[0-9]{1,9}", caller) else 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup stays nohup
                signal.signal(number, lambda number, _: self.signals.append(number))

    def reason(self) -> str:
        """Why to end; nothing as long as nobody asks."""
        if self.signals:
            return f"interrupted by {signal.Signals(self.signals[0]).name}"
        if self.caller > 0 and not exists(self.caller):
            return f"process {self.caller} (DEEPSPEAKER_RUN_PID) is gone"
        return ""

    @property
    def status(self) -> int:
        """The exit status of an interrupted launcher."""
        return 128 + (self.signals[0] if self.signals else signal.SIGTERM)


def report(options: Options, jobs: list[Job]) -> int:
    """Say which of the jobs failed and why; the exit status."""
    failed = [job for job in jobs if job.failed]
    if not failed:
        return 0
    if failed[0].explained and not failed[0].signal:
        return 1  # the error that was copied here is the last line, with what to do
    total = options.number_of_jobs
    count = "job" if total == 1 else f"{len(failed)} / {total}"
    complain(f"{count} failed, log is in {options.logs}")
    if not options.follow and (reason := failed[0].reason()):
        say(f"    {reason}")
    if failed[0].signal:
        say(f"    killed by signal {failed[0].signal}")
    return 1
