"""Jobs as a Slurm job array."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from launchers.jobs import END, SUCCESS, Job, last_line, make_job, report, select_jobs
from launchers.messages import PROGRAM, LauncherError, print_message, write_all
from launchers.options import Options
from launchers.processes import Guardian, StopRequests
from launchers.sbatch import CANCEL_TIMEOUT, cancel, in_queue, number_of_nodes, run_command, sbatch_command, task_fields

LOG_INTERVAL = 0.2  # seconds between two checks of the logs
QUEUE_INTERVAL = 3.0  # seconds between two calls of squeue
#: Seconds until the end of a log that was written on a node is visible here, by the state of the job.
LOG_DELAY = {"COMPLETED": 30.0, "FAILED": 5.0}
ON_NODE = "--on-node"  # first argument of the slurm.py that runs on a node
SLURM_PY = Path(__file__).resolve().parents[1] / "slurm.py"


class Tail:
    """Copies new content of a file to a descriptor."""

    def __init__(self, path: Path, copy: int) -> None:
        self.path, self.copy, self.position = path, copy, 0

    def copy_new(self) -> None:
        """Copy what was added to the file since the last call."""
        with contextlib.suppress(OSError), self.path.open("rb") as file:
            file.seek(self.position)
            while data := file.read(1 << 16):
                self.position += len(data)
                write_all(self.copy, data)


class JobArray:
    """Jobs that run as one Slurm job array (a single job without NAME=1:N is a plain Slurm job)."""

    def __init__(self, options: Options) -> None:
        self.options = options
        command = sbatch_command(options)
        self.jobs, self.skipped = select_jobs(options)
        self.pending = list(self.jobs)  # jobs whose log does not end in success so far
        plain = Path(options.log.replace(options.name, "") if options.name else options.log).name
        stem = re.sub(r"\.+", ".", plain.removesuffix(".log")).strip(".") or "job"
        folder = make_job(options, options.first).log.parent / "q"
        self.outputs = (folder / f"{stem}.out", folder / f"{stem}.err")  # messages of Slurm itself
        self.tails = [Tail(path, copy) for copy, path in enumerate(self.outputs, 1)] if options.follow else []
        command += ["--parsable", "--wait", f"--job-name={stem}", "--open-mode=append"]
        for option, path in zip(("--output", "--error"), self.outputs, strict=True):
            command.append(f"{option}={str(path).replace('%', '%%')}")
        if options.name:
            tasks = ",".join(str(job.number) for job in self.jobs)
            command.append(f"--array={tasks}" + (f"%{options.max_jobs_run}" if options.max_jobs_run else ""))
        self.command = command
        self.script = _node_script(options)
        self.job_id = 0
        self.last_query = 0.0
        self.stop = StopRequests()
        self.guardian = Guardian(cancel)

    def run(self) -> int:
        """Run the jobs and return the exit status."""
        if self.jobs:
            try:
                self._submit()
                while not self._finished():
                    if reason := self.stop.reason():
                        return self._interrupt(reason)
                    time.sleep(LOG_INTERVAL)
                self._collect_results()
                self.guardian.toggle(self.job_id)
            finally:
                for tail in self.tails:
                    tail.copy_new()
                self.guardian.close()
        if self.tails and self.tails[1].position:
            self.jobs[0].explained = True
        status = report(self.options, [*self.jobs, *self.skipped])
        if status == 0:
            self._remove_outputs()
        return status

    def _submit(self) -> None:
        """Hand the jobs to sbatch, which then waits for them."""
        if shutil.which(self.command[0]) is None:
            raise LauncherError(f"{self.command[0]}: command not found; add Slurm to PATH, or use utils/run.py", 1)
        for job in self.jobs:
            job.started = time.time()
            job.begin_log("Queued")
            os.close(job.descriptor)
        self.outputs[0].parent.mkdir(parents=True, exist_ok=True)
        self._remove_outputs()
        self.outputs[0].parent.mkdir(exist_ok=True)
        inside = "SLURM_JOB_ID" in os.environ  # then SLURM_* describes the job around us, not the new jobs
        self.sbatch = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={k: v for k, v in os.environ.items() if k == "SLURM_CONF" or not (inside and k.startswith("SLURM_"))},
            start_new_session=True,
        )
        assert self.sbatch.stdin and self.sbatch.stdout and self.sbatch.stderr
        with contextlib.suppress(BrokenPipeError):
            self.sbatch.stdin.write(os.fsencode(self.script))
            self.sbatch.stdin.close()
        while not select.select([self.sbatch.stdout], [], [], LOG_INTERVAL)[0]:
            if reason := self.stop.reason():
                self.sbatch.kill()
                self._fail(f"{reason} while sbatch did not answer", self.stop.status)
        answer = self.sbatch.stdout.readline().decode(errors="replace")
        if match := re.match("[0-9]+", answer):
            self.job_id = int(match[0])
            self.guardian.toggle(self.job_id)
            return
        error = self.sbatch.stderr.read().decode(errors="replace").strip() or answer.strip() or "no reason given"
        fix = "correct the options, or the configuration that sets them (--config)"
        self._fail(f"{shlex.join(self.command)}: {error.splitlines()[-1]}; {fix}", 1)

    def _fail(self, message: str, status: int) -> None:
        """Note in all logs that nothing was submitted, and raise the error."""
        for job in self.jobs:
            self._end_log(job, status, 0, message)
        raise LauncherError(message, status)

    def _finished(self) -> bool:
        """Return whether all logs end in success, or no task is left in the queue."""
        for tail in self.tails:
            tail.copy_new()
        while self.pending and SUCCESS.match(last_line(self.pending[0].log)):
            self.pending.pop(0)
        if not self.pending:
            self.sbatch.terminate()  # it would notice only after some seconds
            self.sbatch.wait()
            return True
        if self.sbatch.poll() is None or time.monotonic() < self.last_query + QUEUE_INTERVAL:
            return False
        self.last_query = time.monotonic()
        return not in_queue(self.job_id)  # tasks that were requeued or are still ending are in the queue

    def _collect_results(self) -> None:
        """Read from the logs how the jobs ended. Where a log has no end, write what Slurm knows."""
        tasks = task_fields(self.job_id) if self.pending else {}
        begin = time.monotonic()
        for job in self.pending:
            task = tasks.get(job.number if self.options.name else 0, {})
            state, code = task.get("JobState", "gone"), task.get("ExitCode", "1:0")
            delay = LOG_DELAY.get(state, 0.0) if code.endswith(":0") else 0.0  # after a signal, no end will come
            while not END.match(last_line(job.log)) and time.monotonic() < begin + delay:
                time.sleep(LOG_INTERVAL)
            last = last_line(job.log)
            if END.match(last):
                job.failed = not SUCCESS.match(last)
                killed = re.search(rb"; signal (\d+)\)", last)
                job.signal = int(killed[1]) if killed else 0
            else:
                status, number = (int(part) for part in code.split(":"))
                why = f"the job could not end its log: {state}, exit code {code}; see also {self.outputs[1]}"
                self._end_log(job, status or 128 + (number or signal.SIGKILL), number, why)

    def _interrupt(self, reason: str) -> int:
        """Cancel the jobs, note it in their logs and return the exit status."""
        print_message(f"{reason}, ending {len(self.pending)} of {len(self.jobs)} jobs, log is in {self.options.logs}")
        before = len(self.stop.signals)
        run_command("scancel", str(self.job_id))
        deadline = time.monotonic() + CANCEL_TIMEOUT
        while in_queue(self.job_id) and time.monotonic() < deadline:
            if len(self.stop.signals) > before:
                before = len(self.stop.signals)
                run_command("scancel", "--full", "--signal=KILL", str(self.job_id))
            time.sleep(LOG_INTERVAL)
        for job in self.pending:
            if not END.match(last_line(job.log)):
                self._end_log(job, 128 + signal.SIGTERM, signal.SIGTERM, "cancelled")
        self.guardian.toggle(self.job_id)
        return self.stop.status

    def _end_log(self, job: Job, code: int, number: int, why: str) -> None:
        job.signal = number
        try:
            job.descriptor = os.open(job.log, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            write_all(job.descriptor, os.fsencode(f"{PROGRAM}: {why}\n"))
        except OSError as error:
            job.failed = True
            print_message(f"cannot write the end of the log '{job.log}': {error.strerror}")
        else:
            job.end_log(code, self.options.threads)

    def _remove_outputs(self) -> None:
        for path in self.outputs:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # outputs of other launchers may be in the folder
            self.outputs[0].parent.rmdir()


def _node_script(options: Options) -> str:
    """Return the script for sbatch: it starts slurm.py --on-node with one job of the array."""
    passed = {"num-threads": options.threads, "follow": str(options.follow).lower(), "nodes": number_of_nodes(options)}
    program = [sys.executable, str(SLURM_PY), ON_NODE, *(f"--{name}={value}" for name, value in passed.items())]
    task = f"{options.name}=$SLURM_ARRAY_TASK_ID " if options.name else ""
    job = shlex.join([options.log, *options.words])
    return f"#!/bin/bash\nunset DEEPSPEAKER_RUN_PID\nexec {shlex.join(program)} {task}{job}\n"


def run_slurm(options: Options) -> int:
    """Run the jobs of a command line by Slurm and return the exit status."""
    return JobArray(options).run()
