"""Jobs on this machine: how one is started, logged, followed and ended with all its processes."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

PROGRAM = Path(sys.argv[0]).name  # as in the messages of Kaldi's launchers
GRACE = 5.0  # seconds between SIGTERM and SIGKILL
LAST = 2.0  # seconds that processes may take to vanish after SIGKILL
LONGEST = 100_000  # bytes of a command that can be an argument; Linux refuses 128 KiB


class LauncherError(Exception):
    """What a user can mend, with the exit status that it gives (2: wrong usage)."""

    def __init__(self, message: str, status: int = 2) -> None:
        super().__init__(message)
        self.status = status


def say(message: str) -> None:
    """Print a line on stderr, which may be gone (a closed terminal)."""
    with contextlib.suppress(OSError):
        write_all(2, os.fsencode(message + "\n"))


def complain(message: str) -> None:
    say(f"{PROGRAM}: {message}")


def write_all(descriptor: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:  # noqa: PERF203 (somebody else made our terminal non-blocking)
            select.select([], [descriptor], [])


# ---- one job and its log -------------------------------------------------------------------------------


def date() -> str:
    return time.strftime("%a %b %e %H:%M:%S %Z %Y")


def last_state(line: bytes) -> bytes:
    """What stays of a line (without its newline) whose beginning was overwritten after a carriage return."""
    return line.rstrip(b"\r").rpartition(b"\r")[2]


@dataclass
class Job:
    number: int
    log: Path
    command: str
    devices: str | None = None  # its CUDA_VISIBLE_DEVICES; None: as they are
    descriptor: int = -1
    body: int = 0  # where the output begins in the log
    started: float = 0.0
    ended: float = 0.0  # 0 while it runs
    process: subprocess.Popen[bytes] | None = None
    failed: bool = False
    signal: int = 0
    explained: bool = False  # whether its stderr was copied to ours

    def begin_log(self, state: str, append: bool = False) -> None:
        """Write the log's beginning. Raises LauncherError where that cannot be done."""
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            mode = os.O_RDWR | os.O_CREAT | os.O_APPEND | (0 if append else os.O_TRUNC)
            self.descriptor = os.open(self.log, mode, 0o666)
            header = "\n# ".join(self.command.split("\n"))
            write_all(self.descriptor, os.fsencode(f"# {header}\n# {state} at {date()}\n#\n"))
        except OSError as error:
            message = f"cannot write the log '{self.log}': {error.strerror}; name another or mend its folder"
            raise LauncherError(message, 1) from error

    def start(self, follow: bool, append: bool = False) -> None:
        """Begin the log and run the command. Raises LauncherError where one of them cannot be done."""
        self.begin_log("Started", append)
        self.body, self.started = os.fstat(self.descriptor).st_size, time.time()
        output = subprocess.PIPE if follow else self.descriptor
        text = os.fsencode(self.command)
        try:
            with tempfile.TemporaryFile() if len(text) > LONGEST else Path(os.devnull).open("rb") as script:
                if (
                    len(text) > LONGEST
                ):  # run.pl's way; -c is better, as bash then passes a signal's number on
                    script.write(b"( " + text + b"\n)\n")
                    script.seek(0)
                self.process = subprocess.Popen(
                    ["bash"] if len(text) > LONGEST else ["bash", "-c", self.command],
                    stdin=script,
                    stdout=output,
                    stderr=output,
                    env=os.environ | ({} if self.devices is None else {"CUDA_VISIBLE_DEVICES": self.devices}),
                    close_fds=False,
                    start_new_session=True,
                )
        except OSError as error:
            message = f"cannot start bash for the log '{self.log}': {error.strerror}"
            raise LauncherError(message, 1) from error

    def poll(self) -> bool:
        """Whether the job ended."""
        if not self.ended and self.process and self.process.poll() is not None:
            self.ended = time.time()
        return self.ended > 0

    def close(self, threads: int, sent: int = 0) -> None:
        """Write the log's end. sent: the signal by which we ended the job, if we did."""
        code = self.process.returncode if self.process else None
        if code is None:  # not even SIGKILL has ended it yet
            code, sent = 0, signal.SIGKILL
        self.signal = -code if code < 0 else int(sent)
        # The code 0 of a job that was told to stop does not mean that its work is done.
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
            complain(f"cannot write the end of the log '{self.log}': {error.strerror}")
        os.close(self.descriptor)

    def reason(self) -> str:
        """The last line of output, which in a failed job is most often the error."""
        with contextlib.suppress(OSError), self.log.open("rb") as log:
            log.seek(max(self.body, self.log.stat().st_size - (1 << 16)))
            for line in reversed([last_state(line.strip()).strip() for line in log]):
                if line and not line.startswith(b"#"):
                    text = line[:500].decode(errors="replace")
                    return "".join(letter if letter.isprintable() else " " for letter in text)
        return ""


@dataclass
class Stream:
    """One output of a followed job: where its copy goes, its log, and its line that has not ended yet."""

    copy: int
    log: int
    tail: bytes = b""

    def take(self, data: bytes) -> None:
        """Pass on what came; nothing means the end. Overwritten parts of a line stay out of the log."""
        with contextlib.suppress(OSError):  # the log goes on when nobody reads the copy
            write_all(self.copy, data)
        end = b"\n" if self.tail and not data else b""
        *lines, self.tail = (self.tail + data + end).split(b"\n")
        for line in lines:
            last = last_state(line)
            if last.strip() or b"\r" not in line.rstrip(b"\r"):  # a wiped progress bar leaves nothing
                write_all(self.log, last + b"\n")
        self.tail = last_state(self.tail) + b"\r" * self.tail.endswith(b"\r")


# ---- ending processes ----------------------------------------------------------------------------------


def process_fields(pid: int | str) -> list[str]:
    """State, parent, process group, ... from /proc; empty if there is no such process, or no /proc."""
    with contextlib.suppress(OSError):  # the name before ")" may hold blanks and brackets
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    return []


def exists(pid: int) -> bool:
    """Whether a process (or, for a negative number, a process group) is there and not only a zombie."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return process_fields(pid)[:1] not in (["Z"], ["X"])


def process_table() -> dict[int, tuple[int, int]]:
    """Parent and process group of every process that is not a zombie; empty where there is no /proc."""
    pids = [folder.name for folder in Path("/proc").glob("[0-9]*")]
    table = {int(pid): fields for pid in pids if (fields := process_fields(pid)) and fields[0] not in "ZX"}
    return {pid: (int(fields[1]), int(fields[2])) for pid, fields in table.items()}


def with_descendants(groups: Iterable[int]) -> set[int]:
    """The process groups, and those that their members' descendants made (torchrun's workers do)."""
    table, found = process_table(), set(groups)
    while True:
        inside = {pid for pid, (_, group) in table.items() if group in found}
        more = {group for parent, group in table.values() if parent in inside} - found
        if not more:
            return found
        found |= more


def some_live(groups: set[int]) -> bool:
    table = process_table()
    if table:  # kill(2) finds zombies too, which some containers keep for ever
        return any(group in groups for _, group in table.values())
    return any(exists(-group) for group in groups)


def send(groups: Iterable[int], number: int) -> None:
    for group in groups:
        with contextlib.suppress(OSError):
            os.killpg(group, number)


def end_groups(
    groups: Iterable[int], wait: Callable[[], bool], grace: float = GRACE, number: int = signal.SIGTERM
) -> None:
    """End process groups by the signal ``number``, and by SIGKILL after ``grace`` seconds.

    wait() lets some time pass and tells whether somebody is impatient.
    """
    groups = set(groups)
    everyone = with_descendants(groups)
    # Ctrl-C reaches the jobs alone, as in a terminal: torchrun passes it on to its workers, and two end a training.
    send(groups if number == signal.SIGINT else everyone, number)
    deadline = time.monotonic() + grace
    while some_live(everyone) and time.monotonic() < deadline and not wait():
        pass
    if some_live(everyone):
        send(everyone | with_descendants(everyone), signal.SIGKILL)
    deadline = time.monotonic() + LAST
    while some_live(everyone) and time.monotonic() < deadline:
        wait()


def end_unguarded(groups: set[int]) -> None:
    """End process groups whose launcher is gone."""

    def wait() -> bool:
        time.sleep(0.1)
        return False

    end_groups(groups, wait)


class Guardian:
    """A process that ends the jobs when this one is killed by SIGKILL; it sees that at the end of a pipe.

    It does so by ``end``, with the numbers of the jobs that run (process groups, if it is not given).
    """

    def __init__(self, end: Callable[[set[int]], None] = end_unguarded) -> None:
        self.end = end
        reader, self.pipe = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self.pipe)
                self.watch(reader)
            finally:
                os._exit(0)
        os.close(reader)

    def watch(self, reader: int) -> None:
        os.setsid()  # a signal for the launcher's group is not for us
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        jobs: set[int] = set()
        with os.fdopen(reader) as lines:
            for line in lines:
                jobs ^= {int(line)}
        if jobs:
            self.end(jobs)

    def toggle(self, job: int) -> None:
        """Begin, or cease, to answer for a job."""
        with contextlib.suppress(OSError):
            os.write(self.pipe, b"%d\n" % job)

    def close(self) -> None:
        """Dismiss it and wait: it too holds the descriptors (locks) that the caller gave us."""
        os.close(self.pipe)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
