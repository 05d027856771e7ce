"""One job and its log, the choice of jobs by --pick, and the final report."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import stat
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from launchers.messages import LauncherError, print_line, print_message, write_all
from launchers.options import Options

SUCCESS = re.compile(rb"# Ended \(code 0\)|# Finished at .* with status 0$")  # run.pl; queue.pl and slurm.pl
END = re.compile(rb"# Ended \(code \d+|# Finished at .* with status \d+$")
MAX_ARGUMENT = 100_000  # bytes of a command that is passed as an argument; Linux refuses 128 KiB


def date() -> str:
    """Return the date and time in the form of Kaldi's logs."""
    return time.strftime("%a %b %e %H:%M:%S %Z %Y")


def visible_part(line: bytes) -> bytes:
    """Return what a terminal shows of a line without its newline: the text after the last carriage return."""
    return line.rstrip(b"\r").rpartition(b"\r")[2]


@dataclass
class Job:
    """A command with a log."""

    number: int
    log: Path
    command: str
    devices: str | None = None  # its CUDA_VISIBLE_DEVICES; None leaves the variable alone
    descriptor: int = -1
    body: int = 0  # position in the log where the output begins
    started: float = 0.0
    ended: float = 0.0  # 0 while it runs
    process: subprocess.Popen[bytes] | None = None
    failed: bool = False
    signal: int = 0
    explained: bool = False  # whether its stderr was copied to ours

    def begin_log(self, state: str, append: bool = False) -> None:
        """Write the header of the log: the command, and ``state`` with the date."""
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            mode = os.O_RDWR | os.O_CREAT | os.O_APPEND | (0 if append else os.O_TRUNC)
            self.descriptor = os.open(self.log, mode, 0o666)
            header = "\n# ".join(self.command.split("\n"))
            write_all(self.descriptor, os.fsencode(f"# {header}\n# {state} at {date()}\n#\n"))
        except OSError as error:
            message = f"cannot write the log '{self.log}': {error.strerror}; choose another log, or fix its folder"
            raise LauncherError(message, 1) from error

    def start(self, follow: bool, append: bool = False) -> None:
        """Begin the log and run the command in a process group of its own.

        Parameters
        ----------
        follow
            Whether stdout and stderr go to pipes (see ``Stream``) instead of the log.
        append
            Whether to keep the old log.

        Raises
        ------
        LauncherError
            The log cannot be written, or bash cannot be started.
        """
        self.begin_log("Started", append)
        self.body, self.started = os.fstat(self.descriptor).st_size, time.time()
        output = subprocess.PIPE if follow else self.descriptor
        text = os.fsencode(self.command)
        long = len(text) > MAX_ARGUMENT
        try:
            with tempfile.TemporaryFile() if long else Path(os.devnull).open("rb") as script:
                if long:  # as run.pl does; -c is better, since bash then passes on the number of a signal
                    script.write(b"( " + text + b"\n)\n")
                    script.seek(0)
                self.process = subprocess.Popen(
                    ["bash"] if long else ["bash", "-c", self.command],
                    stdin=script,
                    stdout=output,
                    stderr=output,
                    env=os.environ | ({} if self.devices is None else {"CUDA_VISIBLE_DEVICES": self.devices}),
                    close_fds=False,
                    start_new_session=True,
                )
        except OSError as error:
            raise LauncherError(f"cannot start bash for the log '{self.log}': {error.strerror}", 1) from error

    def poll(self) -> bool:
        """Return whether the job has ended."""
        if not self.ended and self.process and self.process.poll() is not None:
            self.ended = time.time()
        return self.ended > 0

    def close(self, threads: int, sent: int = 0) -> None:
        """Write the end of the log. ``sent`` is the signal by which the launcher ended the job, or 0."""
        code = self.process.returncode if self.process else None
        if code is None:  # not even SIGKILL has ended it yet
            code, sent = 0, signal.SIGKILL
        self.signal = -code if code < 0 else int(sent)
        # Code 0 from a job that was asked to stop does not mean that its work is done.
        code = code if code > 0 else 128 + self.signal if self.signal else 0
        self.end_log(code, threads)

    def end_log(self, code: int, threads: int) -> None:
        """Write that the job ended with ``code`` and ``self.signal``, and close the log."""
        self.failed = code != 0
        seconds = max(0, int((self.ended or time.time()) - self.started))
        how = f"code {code}; signal {self.signal}" if self.signal else f"code {code}"
        footer = (
            f"# Accounting: time={seconds} threads={threads}\n"
            f"# Ended ({how}) at {date()}, elapsed time {seconds} seconds\n"
        )
        try:
            state = os.fstat(self.descriptor)
            if stat.S_ISREG(state.st_mode) and os.pread(self.descriptor, 1, state.st_size - 1) != b"\n":
                footer = "\n" + footer
            write_all(self.descriptor, footer.encode())
        except OSError as error:
            self.failed = True
            print_message(f"cannot write the end of the log '{self.log}': {error.strerror}")
        os.close(self.descriptor)

    def last_output(self) -> str:
        """Return the last line of output, which usually is the error of a failed job."""
        with contextlib.suppress(OSError), self.log.open("rb") as log:
            log.seek(max(self.body, self.log.stat().st_size - (1 << 16)))
            for line in reversed([visible_part(line.strip()).strip() for line in log]):
                if line and not line.startswith(b"#"):
                    text = line[:500].decode(errors="replace")
                    return "".join(letter if letter.isprintable() else " " for letter in text)
        return ""


@dataclass
class Stream:
    """An output of a followed job, on its way to a copy and to the log."""

    copy: int  # descriptor of the copy
    log: int  # descriptor of the log
    tail: bytes = b""  # the line that has not ended yet

    def write(self, data: bytes) -> None:
        """Pass on new output; empty ``data`` is the end. The log gets no overwritten parts of lines."""
        with contextlib.suppress(OSError):  # the log continues when nobody reads the copy
            write_all(self.copy, data)
        end = b"\n" if self.tail and not data else b""
        *lines, self.tail = (self.tail + data + end).split(b"\n")
        for line in lines:
            shown = visible_part(line)
            if shown.strip() or b"\r" not in line.rstrip(b"\r"):  # skip a progress bar that was wiped
                write_all(self.log, shown + b"\n")
        self.tail = visible_part(self.tail) + b"\r" * self.tail.endswith(b"\r")


def last_line(log: Path) -> bytes:
    """Return the last line of a log that is not empty; b"" without a log."""
    with contextlib.suppress(OSError), log.open("rb") as old:
        old.seek(max(0, log.stat().st_size - 4096))
        return (old.read().rstrip().splitlines() or [b""])[-1]
    return b""


def make_job(options: Options, number: int) -> Job:
    """Return the job of that number, which replaces NAME in the log and in the command."""
    texts = (options.log, options.command)
    log, command = (text.replace(options.name, str(number)) if options.name else text for text in texts)
    return Job(number, Path(log), command)


def select_jobs(options: Options) -> tuple[list[Job], list[Job]]:
    """Return the jobs that --pick selects, and the failed jobs that it skips."""
    selected, skipped = [], []
    for number in range(options.first, options.last + 1):
        job = make_job(options, number)
        last = b"" if options.pick == "all" else last_line(job.log)
        if SUCCESS.match(last):
            continue
        if options.pick == "incomplete" and END.match(last):
            job.failed = True
            skipped.append(job)
        else:
            selected.append(job)
    return selected, skipped


def report(options: Options, jobs: list[Job]) -> int:
    """Print which of the jobs failed and why, and return the exit status."""
    failed = [job for job in jobs if job.failed]
    if not failed:
        return 0
    if failed[0].explained and not failed[0].signal:
        return 1  # its error message was copied here already
    total = options.number_of_jobs
    count = "job" if total == 1 else f"{len(failed)} / {total}"
    print_message(f"{count} failed, log is in {options.logs}")
    if not options.follow and (reason := failed[0].last_output()):
        print_line(f"    {reason}")
    if failed[0].signal:
        print_line(f"    killed by signal {failed[0].signal}")
    return 1
