"""Process groups: which are alive, how they end, and who ends them when the launcher is killed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

GRACE = 5.0  # seconds between SIGTERM and SIGKILL
KILL_TIMEOUT = 2.0  # seconds that processes may take to vanish after SIGKILL


def process_fields(pid: int | str) -> list[str]:
    """Return state, parent, process group, ... from /proc; empty without such a process, or without /proc."""
    with contextlib.suppress(OSError):  # the name, in brackets, may itself contain spaces and brackets
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    return []


def exists(pid: int) -> bool:
    """Return whether a process (or, for a negative number, a process group) exists and is not just a zombie."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return process_fields(pid)[:1] not in (["Z"], ["X"])


def process_table() -> dict[int, tuple[int, int]]:
    """Return parent and process group of every process that is not a zombie; empty without /proc."""
    pids = [folder.name for folder in Path("/proc").glob("[0-9]*")]
    table = {int(pid): fields for pid in pids if (fields := process_fields(pid)) and fields[0] not in "ZX"}
    return {pid: (int(fields[1]), int(fields[2])) for pid, fields in table.items()}


def with_descendants(groups: Iterable[int]) -> set[int]:
    """Return the process groups, and those that descendants of their members created (torchrun's workers do)."""
    table, found = process_table(), set(groups)
    while True:
        members = {pid for pid, (_, group) in table.items() if group in found}
        new = {group for parent, group in table.values() if parent in members} - found
        if not new:
            return found
        found |= new


def any_alive(groups: set[int]) -> bool:
    """Return whether a process of these groups is alive."""
    table = process_table()
    if table:  # kill(2) finds zombies too, and some containers never reap them
        return any(group in groups for _, group in table.values())
    return any(exists(-group) for group in groups)


def send_signal(groups: Iterable[int], number: int) -> None:
    """Send a signal to process groups; those that are gone are skipped."""
    for group in groups:
        with contextlib.suppress(OSError):
            os.killpg(group, number)


def end_groups(
    groups: Iterable[int], wait: Callable[[], bool], grace: float = GRACE, number: int = signal.SIGTERM
) -> None:
    """End process groups with a signal, and with SIGKILL those that are still alive later.

    Parameters
    ----------
    groups
        Process groups. The groups of their descendants end too.
    wait
        Waits a moment. If it returns True, SIGKILL follows at once.
    grace
        Seconds until SIGKILL.
    number
        The first signal.
    """
    groups = set(groups)
    family = with_descendants(groups)
    # As in a terminal, Ctrl-C reaches only the jobs: torchrun passes it on to its workers, and a second one would end a
    # training before it has saved its state.
    send_signal(groups if number == signal.SIGINT else family, number)
    deadline = time.monotonic() + grace
    while any_alive(family) and time.monotonic() < deadline and not wait():
        pass
    if any_alive(family):
        send_signal(family | with_descendants(family), signal.SIGKILL)
    deadline = time.monotonic() + KILL_TIMEOUT
    while any_alive(family) and time.monotonic() < deadline:
        wait()


def end_orphans(groups: set[int]) -> None:
    """End process groups whose launcher is gone."""

    def wait() -> bool:
        time.sleep(0.1)
        return False

    end_groups(groups, wait)


class Guardian:
    """A child process that ends the jobs if the launcher is killed by SIGKILL.

    The child reads job numbers from a pipe. The pipe ends when the launcher does.

    Parameters
    ----------
    end
        Called in the child with the numbers of the jobs that still run (by default, process groups).
    """

    def __init__(self, end: Callable[[set[int]], None] = end_orphans) -> None:
        self.end = end
        reader, self.pipe = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self.pipe)
                self._watch(reader)
            finally:
                os._exit(0)
        os.close(reader)

    def _watch(self, reader: int) -> None:
        os.setsid()  # signals for the launcher's process group must not end this process
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        jobs: set[int] = set()
        with os.fdopen(reader) as lines:
            for line in lines:
                jobs ^= {int(line)}
        if jobs:
            self.end(jobs)

    def toggle(self, job: int) -> None:
        """Start guarding a job, or stop if it is guarded already."""
        with contextlib.suppress(OSError):
            os.write(self.pipe, b"%d\n" % job)

    def close(self) -> None:
        """End the child and wait for it, since it holds the launcher's open descriptors (locks) too."""
        os.close(self.pipe)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


class StopRequests:
    """Requests to stop: signals, or the end of the process that DEEPSPEAKER_RUN_PID names."""

    def __init__(self) -> None:
        self.signals: list[int] = []
        caller = os.environ.get("DEEPSPEAKER_RUN_PID", "")
        self.caller = int(caller) if re.fullmatch("[0-9]{1,9}", caller) else 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # respect nohup
                self.listen(number)

    def listen(self, number: int) -> None:
        """Count this signal as a request to stop."""
        signal.signal(number, lambda number, _: self.signals.append(number))

    def reason(self) -> str:
        """Return why to stop; empty without a request."""
        if self.signals:
            return f"interrupted by {signal.Signals(self.signals[0]).name}"
        if self.caller > 0 and not exists(self.caller):
            return f"process {self.caller} (DEEPSPEAKER_RUN_PID) is gone"
        return ""

    @property
    def status(self) -> int:
        """Exit status of an interrupted launcher."""
        return 128 + (self.signals[0] if self.signals else signal.SIGTERM)
