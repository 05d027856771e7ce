"""Jobs on this machine."""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import time
from pathlib import Path

from launchers.jobs import Job, Stream, report, select_jobs
from launchers.messages import print_message
from launchers.options import Options
from launchers.processes import GRACE, KILL_TIMEOUT, Guardian, StopRequests, end_groups

DRAIN_SECONDS = 1.0  # how long a followed job's output is read after the job has ended


def visible_gpus() -> list[str]:
    """Return the names that CUDA_VISIBLE_DEVICES may contain on this machine."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [name.strip() for name in visible.split(",")]
        hidden = [i for i, name in enumerate(names) if name in ("", "-1", "NoDevFiles")]
        return names[: hidden[0]] if hidden else names  # CUDA too stops at the first invalid name
    if shutil.which("nvidia-smi"):  # preferred: in a container, /proc may list GPUs that we cannot use
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, timeout=30, check=True).stdout
            return [str(i) for i in range(sum(line.startswith(b"GPU ") for line in listed.splitlines()))]
    return [str(i) for i, _ in enumerate(Path("/proc/driver/nvidia/gpus").glob("*"))]


def device_slots(options: Options) -> list[str | None]:
    """Return CUDA_VISIBLE_DEVICES for each job that may run at a time; None leaves the variable alone."""
    if options.gpu == 0:
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return [None] * (options.max_jobs_run or usable)
    gpus, need = visible_gpus(), options.gpu
    if len(gpus) < need:
        print_message(f"warning: --gpu {need}, but this machine has {len(gpus)}; jobs use those")
    groups: list[str | None] = [",".join(gpus[i : i + need]) for i in range(0, len(gpus) - need + 1, need)]
    groups = groups or [",".join(gpus) or None]
    return [groups[i % len(groups)] for i in range(options.max_jobs_run or len(groups))]


class Launcher:
    """Runs jobs on this machine.

    Parameters
    ----------
    options
        The command line.
    jobs
        Jobs to run.
    skipped
        Jobs that failed earlier and are not run again. They count as failed.
    slots
        One entry for each job that may run at a time, from ``device_slots``.
    """

    grace = GRACE  # seconds from SIGTERM to SIGKILL
    kill_at_second_signal = True
    append = False  # to existing logs

    def __init__(self, options: Options, jobs: list[Job], skipped: list[Job], slots: list[str | None]) -> None:
        self.options, self.jobs, self.skipped, self.slots = options, jobs, skipped, slots
        self.running: list[Job] = []
        self.guardian = Guardian()
        self.selector = selectors.DefaultSelector()
        awake, wake = os.pipe()  # Python writes there at every signal, also when a child ends
        os.set_blocking(awake, False)
        os.set_blocking(wake, False)
        self.selector.register(awake, selectors.EVENT_READ)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.stop = StopRequests()

    def launch(self) -> int:
        """Run all jobs and return the exit status. No job outlives this call, whatever happens."""
        try:
            return self._run()
        finally:
            if self.running:
                self._end_jobs()
            self.guardian.close()

    def _run(self) -> int:
        waiting = list(reversed(self.jobs))
        while waiting or self.running:
            if reason := self.stop.reason():
                return self.interrupt(reason)
            if waiting and self.slots:
                self._start(waiting.pop())
                continue
            self._wait(0.3)
            for job in [job for job in self.running if job.poll()]:
                if not self._streams() or not 0 <= time.time() - job.ended < DRAIN_SECONDS:
                    self.finish(job)
        status = report(self.options, [*self.jobs, *self.skipped])
        return self.stop.status if self.stop.signals else status

    def _wait(self, seconds: float) -> None:
        """Wait for a signal, the end of a job, or output of a followed job, and pass on the output."""
        for key, _ in self.selector.select(seconds):
            data = os.read(key.fd, 1 << 16)
            if isinstance(key.data, Stream):
                key.data.write(data)
                if data and key.data.copy == 2:
                    self.running[0].explained = True  # a followed job is the only one
                if not data:
                    self.selector.unregister(key.fd)

    def _streams(self) -> dict[int, Stream]:
        """Return the open outputs of a followed job, by descriptor."""
        return {key.fd: key.data for key in self.selector.get_map().values() if key.data is not None}

    def _start(self, job: Job) -> None:
        job.devices = self.slots.pop(0)
        job.start(self.options.follow, self.append)
        assert job.process is not None
        self.running.append(job)
        self.guardian.toggle(job.process.pid)
        for pipe, copy in ((job.process.stdout, 1), (job.process.stderr, 2)):
            if pipe is not None:
                self.selector.register(pipe.fileno(), selectors.EVENT_READ, Stream(copy, job.descriptor))

    def finish(self, job: Job, sent: int = 0) -> None:
        """Write the end of the job's log. ``sent`` is the signal by which we ended the job, or 0."""
        for descriptor, stream in self._streams().items():  # a process that the job left behind holds them open
            stream.write(b"")
            self.selector.unregister(descriptor)
        job.close(self.options.threads, sent)
        self.running.remove(job)
        self.slots.insert(0, job.devices)
        if job.process:
            self.guardian.toggle(job.process.pid)

    def interrupt(self, reason: str) -> int:
        """End the jobs after a request to stop, and return the exit status."""
        print_message(f"{reason}, ending {len(self.running)} of {len(self.jobs)} jobs, log is in {self.options.logs}")
        self._end_jobs()
        return self.stop.status

    def _end_jobs(self) -> None:
        """End the running jobs and note it in their logs."""
        before = len(self.stop.signals)

        def wait() -> bool:
            self._wait(0.1)
            for job in self.running:
                job.poll()
            return self.kill_at_second_signal and len(self.stop.signals) > before

        number = signal.SIGINT if self.stop.signals[:1] == [signal.SIGINT] else signal.SIGTERM
        end_groups([job.process.pid for job in self.running if job.process], wait, self.grace, number)
        deadline = time.monotonic() + KILL_TIMEOUT
        while any(not job.poll() for job in self.running) and time.monotonic() < deadline:
            self._wait(0.05)  # a process looks dead when its first thread ends before the others
        while any(key.data for key, _ in self.selector.select(0)) and time.monotonic() < deadline:
            self._wait(0)  # last output
        for job in list(self.running):
            job.poll()
            self.finish(job, number)


def run_local(options: Options) -> int:
    """Run the jobs of a command line on this machine and return the exit status."""
    slots = device_slots(options)
    return Launcher(options, *select_jobs(options), slots).launch()
