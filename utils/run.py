#!/usr/bin/env python3
r"""Run jobs on this machine and write their logs, as Kaldi's run.pl does.

usage: run.py [options] [NAME=1:N] LOG command arguments...

    run.py exp/log/sum.log sha256sum data/wav.scp
    run.py --max-jobs-run 4 JOB=1:8 exp/log/sort.JOB.log sort data/JOB.txt \| uniq -c \> data/JOB.count

The command runs by bash. As in run.pl, a word without white space is given to bash as it is, so that \|,
\>, \; and \&\& work; a word with white space goes between single quotes if it holds a double quote, else
between double quotes (where bash still expands $VARIABLE). A word with white space and both kinds of quotes
arrives as it is.

NAME=1:N (NAME is any identifier; also NAME=2:5 and NAME=3) runs the command once for each number, which
replaces NAME in LOG and in the command. With more than one job, LOG must contain NAME. LOG's folder is
made. The log begins with the command and the time, holds the command's stdout and stderr, and ends with

    # Accounting: time=S threads=T
    # Ended (code C) at DATE, elapsed time S seconds

where a job that signal K ended has "code 128+K; signal K" (or, told to stop, its own code if not 0).

options:
  --max-jobs-run N, -tc N  jobs at a time (default: the processors, or with --gpu what the GPUs allow)
  --num-threads T          threads of a job: only noted in the log (default 1)
  --gpu N                  GPUs that a job needs (default 0); sets CUDA_VISIBLE_DEVICES for each job
  --pick all|failed|incomplete
                           the jobs to run, by the last line of their old logs (default all), as in run.pl.
                           failed: all but those whose log ends in "# Ended (code 0)"; incomplete: those
                           without a log, or with one that has no such end; that others failed before then
                           still gives exit status 1
  --follow true|false      copy the output of the job (a single one) to stdout and stderr as it comes
                           (default false); of a line that carriage returns overwrote, the log then holds
                           only the last state. If the job fails and explains itself on stderr, run.py adds
                           nothing
  --help                   print this text
Options may be written --name=value. -V and --verbose, and any other pair (--mem 4G, --config FILE, --nodes N,
--requeue true, -l ARG, -sync y, -pe smp N), are accepted and ignored, so that one line serves every launcher.

Exit status: 0 when all jobs ended with code 0; 1 when some did not, or a log cannot be written; 2 for wrong
usage; 128+K when signal K (Ctrl-C, TERM, HUP) ended run.py. Then its jobs are ended too, with all their
processes: by SIGTERM (SIGINT after Ctrl-C), and by SIGKILL after 5 seconds or at a second signal. The same
happens (status 143) when DEEPSPEAKER_RUN_PID is in the environment and the process of that number is gone;
and the jobs end when run.py is killed. Jobs inherit open file descriptors: a lock of the caller's lives as
long as they do.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from launcher import Options, StopRequests, parse, picked, report
from run_jobs import GRACE, LAST, Guardian, Job, LauncherError, Stream, complain, end_groups

LEFTOVER = 1.0  # seconds that a followed job's output is still read after the job itself ended


# ---- where to run --------------------------------------------------------------------------------------


def visible_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES may name here."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [name.strip() for name in visible.split(",")]
        hidden = [i for i, name in enumerate(names) if name in ("", "-1", "NoDevFiles")]
        return names[: hidden[0]] if hidden else names  # CUDA too stops at the first name that is none
    if shutil.which("nvidia-smi"):  # asked first: in a container, /proc may list GPUs that are not ours
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, timeout=30, check=True).stdout
            return [str(i) for i in range(sum(line.startswith(b"GPU ") for line in listed.splitlines()))]
    return [str(i) for i, _ in enumerate(Path("/proc/driver/nvidia/gpus").glob("*"))]


def places(options: Options) -> list[str | None]:
    """An entry for each job that may run at a time: its CUDA_VISIBLE_DEVICES, None to leave them alone."""
    if options.gpu == 0:
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return [None] * (options.max_jobs_run or usable)
    gpus, need = visible_gpus(), options.gpu
    if len(gpus) < need:
        complain(f"warning: --gpu {need}, but GPUs found here: {len(gpus)}; jobs use what there is")
    shares: list[str | None] = [",".join(gpus[i : i + need]) for i in range(0, len(gpus) - need + 1, need)]
    shares = shares or [",".join(gpus) or None]
    return [shares[i % len(shares)] for i in range(options.max_jobs_run or len(shares))]


# ---- running -------------------------------------------------------------------------------------------


class Launcher:
    """Runs jobs on this machine. ``left``: jobs that failed before and are not run again."""

    grace = GRACE  # seconds from SIGTERM to SIGKILL
    impatient = True  # a second signal ends jobs by SIGKILL
    append = False  # to logs that are there already

    def __init__(self, options: Options, jobs: list[Job], left: list[Job], places: list[str | None]) -> None:
        self.options, self.jobs, self.left, self.places = options, jobs, left, places
        self.running: list[Job] = []
        self.guardian = Guardian()
        self.selector = selectors.DefaultSelector()
        awake, wake = os.pipe()  # a signal, also that of a child's end, is written there
        os.set_blocking(awake, False)
        os.set_blocking(wake, False)
        self.selector.register(awake, selectors.EVENT_READ)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.stop = StopRequests()

    def run(self) -> int:
        """Run the jobs; the exit status."""
        waiting = list(reversed(self.jobs))
        while waiting or self.running:
            if reason := self.stop.reason():
                return self.interrupt(reason)
            if waiting and self.places:
                self.start(waiting.pop())
                continue
            self.wait(0.3)
            for job in [job for job in self.running if job.poll()]:
                if not self.streams() or not 0 <= time.time() - job.ended < LEFTOVER:
                    self.finish(job)
        status = report(self.options, [*self.jobs, *self.left])
        return self.stop.status if self.stop.signals else status

    def wait(self, seconds: float) -> None:
        """Wait for a signal, a job's end or a followed job's output, which is passed on."""
        for key, _ in self.selector.select(seconds):
            data = os.read(key.fd, 1 << 16)
            if isinstance(key.data, Stream):
                key.data.take(data)
                if data and key.data.copy == 2:
                    self.running[0].explained = True  # a followed job is the only one
                if not data:
                    self.selector.unregister(key.fd)

    def streams(self) -> dict[int, Stream]:
        """The outputs of a followed job that are open, by descriptor."""
        return {key.fd: key.data for key in self.selector.get_map().values() if key.data is not None}

    def start(self, job: Job) -> None:
        job.devices = self.places.pop(0)
        job.start(self.options.follow, self.append)
        assert job.process is not None
        self.running.append(job)
        self.guardian.toggle(job.process.pid)
        for pipe, copy in ((job.process.stdout, 1), (job.process.stderr, 2)):
            if pipe is not None:
                self.selector.register(pipe.fileno(), selectors.EVENT_READ, Stream(copy, job.descriptor))

    def finish(self, job: Job, sent: int = 0) -> None:
        for descriptor, stream in self.streams().items():  # a process that the job left behind holds it
            stream.take(b"")
            self.selector.unregister(descriptor)
        job.close(self.options.threads, sent)
        self.running.remove(job)
        self.places.insert(0, job.devices)
        if job.process:
            self.guardian.toggle(job.process.pid)

    def interrupt(self, reason: str) -> int:
        complain(f"{reason}, ending {len(self.running)} of {len(self.jobs)} jobs, log is in {self.options.logs}")
        self.end_jobs()
        return self.stop.status

    def end_jobs(self) -> None:
        """End the running jobs and say so in their logs."""
        before = len(self.stop.signals)

        def wait() -> bool:
            self.wait(0.1)
            for job in self.running:
                job.poll()
            return self.impatient and len(self.stop.signals) > before

        number = signal.SIGINT if self.stop.signals[:1] == [signal.SIGINT] else signal.SIGTERM
        end_groups([job.process.pid for job in self.running if job.process], wait, self.grace, number)
        deadline = time.monotonic() + LAST
        while any(not job.poll() for job in self.running) and time.monotonic() < deadline:
            self.wait(0.05)  # its first thread may have gone before the others, and look like the end of all
        while any(key.data for key, _ in self.selector.select(0)) and time.monotonic() < deadline:
            self.wait(0)  # what they said at last
        for job in list(self.running):
            job.poll()
            self.finish(job, number)


def launch(launcher: Launcher) -> int:
    """Run its jobs to their end, whatever happens to us; the exit status."""
    try:
        return launcher.run()
    finally:
        if launcher.running:
            launcher.end_jobs()
        launcher.guardian.close()


def main() -> int:
    try:
        options = parse(sys.argv[1:], __doc__)
        return launch(Launcher(options, *picked(options), places(options)))
    except LauncherError as error:
        complain(str(error))
        return error.status


if __name__ == "__main__":
    sys.exit(main())
