#!/usr/bin/env python3
r"""Run jobs by Slurm and write their logs, with the contract of utils/run.py and Kaldi's slurm.pl.

usage: slurm.py [options] [NAME=1:N] LOG command arguments...

    slurm.py --mem 2G exp/log/sum.log sha256sum data/wav.scp
    slurm.py --max-jobs-run 4 JOB=1:8 exp/log/sort.JOB.log sort data/JOB.txt \| uniq -c \> data/JOB.count

Words, NAME, LOG and the logs' form are those of run.py (run.py --help). The jobs are one job array of sbatch,
in the folder where slurm.py was started. The nodes must see this folder, this program and its Python. slurm.py
waits for them. What Slurm itself has to say goes to q/ beside LOG, and is removed when all went well.

options:
  --config FILE            how options become those of sbatch (default: conf/slurm.conf), in the form of Kaldi's
                           slurm.pl
  --mem M, --gpu N, --num-threads T, --time T, and what else FILE names
                           as FILE says; an option that it does not name is ignored
  --max-jobs-run N, -tc N  jobs at a time (default: as Slurm likes)
  --nodes N                the command runs on N nodes at a time, once on each, started by srun; in
                           PET_RDZV_ENDPOINT it finds the address where the nodes meet, as torchrun wants it
  --requeue true|false     some time before the time limit the job gets SIGTERM, to save, and is queued again; its
                           log goes on, also after a preemption or the failure of a node (how: see FILE)
  --pick all|failed|incomplete, --follow true|false, --help
                           as in run.py
  -p PARTITION and other short options are passed on; Grid Engine's -V, -l, -pe, -sync are ignored

Exit status: 0 when all jobs ended with code 0; 1 when some did not, a log cannot be written or sbatch refuses; 2
for wrong usage; 128+K when signal K (Ctrl-C, TERM, HUP) ended slurm.py, 143 when the process DEEPSPEAKER_RUN_PID
is gone. Then its jobs are cancelled, and their logs say so; they are cancelled too when slurm.py is killed.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from launcher import END, SUCCESS, Options, StopRequests, last_line, parse, picked, report, whole_number
from run import Launcher, launch
from run_jobs import PROGRAM, Guardian, Job, LauncherError, complain, write_all

POLL = 0.2  # seconds between two looks at a log
ASK = 3.0  # seconds between two questions to Slurm
SYNC = {"COMPLETED": 30.0, "FAILED": 5.0}  # seconds that the end of a log may take to be seen here, by the job's state
GONE = 60.0  # seconds that cancelled jobs may take to end
OURS = ("-tc", "--config", "--max-jobs-run", "--pick", "--follow")  # whatever a configuration says
GRID_ENGINE = ("-l", "-pe", "-sync")
ON_NODE = "--on-node"  # first argument of the slurm.py that Slurm starts


# ---- the configuration ---------------------------------------------------------------------------------


def sbatch_command(options: Options) -> list[str]:
    """sbatch with the options that the configuration and the command line give it."""
    passed = [pair for pair in options.given if pair[0] not in OURS + GRID_ENGINE]
    given = {name[2:].replace("-", "_"): value for name, value in passed if name.startswith("--")}
    short = [word for pair in passed if not pair[0].startswith("--") for word in pair]
    named = [value for option, value in options.given if option == "--config"]
    path = Path(named[-1] if named else "conf/slurm.conf")
    if not named and not path.is_file():
        path = Path(__file__).resolve().parents[1] / "conf" / "slurm.conf"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LauncherError(f"--config {path}: cannot be read ({error}); name another", 1) from error
    command: list[str] = []
    defaults: dict[str, str] = {}
    meaning: dict[tuple[str, str], str] = {}
    for number, line in enumerate(lines, 1):
        text = re.sub(r"\s*#.*", "", line).strip()
        if match := re.fullmatch(r"command\s+(\S.*)", text):
            command = split(path, number, match[1])
        elif match := re.fullmatch(r"option\s+([^=\s]+)=(\S+)\s*(.*)", text):
            meaning[match[1], match[2]] = match[3]
        elif match := re.fullmatch(r"default\s+([^=\s]+)=(\S+)", text):
            defaults[match[1]] = match[2]
        elif text:
            known = "command ..., option name=value ..., default name=value"
            raise LauncherError(f"{path}:{number}: '{text}' is none of: {known}", 1)
    if not command:
        raise LauncherError(f"{path}: has no line that begins with command, such as: command sbatch", 1)
    words: list[str] = []
    for name, value in (defaults | given).items():
        text = meaning.get((name, value), meaning.get((name, "*"), ""))
        words += [word.replace("$0", value) for word in split(path, 0, text)]
    return [*command, *words, *short]


def split(path: Path, number: int, text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise LauncherError(f"{path}:{number}: '{text}': {error}", 1) from error


def nodes(options: Options) -> int:
    values = [whole_number(name, value, 1) for name, value in options.given if name == "--nodes"]
    return values[-1] if values else 1


# ---- what asks Slurm -----------------------------------------------------------------------------------


def slurm(*command: str) -> subprocess.CompletedProcess[str]:
    """One of Slurm's commands; a status that is not 0 where it does not answer."""
    try:
        return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))


def queued(job_id: int) -> bool:
    """Whether tasks of a job wait, run or have not quite ended yet; also where Slurm does not answer."""
    asked = slurm("squeue", "--noheader", "--jobs", str(job_id), "--format", "%T")
    return bool(asked.stdout.strip()) if asked.returncode == 0 else "nvalid job id" not in asked.stderr


def how_it_ended(job_id: int) -> dict[int, dict[str, str]]:
    """What Slurm says of the tasks of a job; of a job that is no array as task 0."""
    tasks = {}
    for line in slurm("scontrol", "--oneliner", "show", "job", str(job_id)).stdout.splitlines():
        fields = dict(word.split("=", 1) for word in line.split() if "=" in word)
        if re.fullmatch("[0-9]+", task := fields.get("ArrayTaskId", "0")):
            tasks[int(task)] = fields
    return tasks


def cancel(job_ids: set[int]) -> None:
    """Cancel jobs and wait until they are gone."""
    for job_id in job_ids:
        slurm("scancel", str(job_id))
    deadline = time.monotonic() + GONE
    while any(map(queued, job_ids)) and time.monotonic() < deadline:
        time.sleep(0.5)


# ---- here ----------------------------------------------------------------------------------------------


class Tail:
    """Copies what comes into a file to a descriptor."""

    def __init__(self, path: Path, copy: int) -> None:
        self.path, self.copy, self.read = path, copy, 0

    def take(self) -> None:
        with contextlib.suppress(OSError), self.path.open("rb") as file:
            file.seek(self.read)
            while data := file.read(1 << 16):
                self.read += len(data)
                write_all(self.copy, data)


class Array:
    """Jobs that run as one job of Slurm."""

    def __init__(self, options: Options) -> None:
        self.options, self.command = options, sbatch_command(options)
        self.jobs, self.left = picked(options)
        self.waiting = list(self.jobs)  # those whose log does not say yet that all went well
        plain = Path(options.log.replace(options.name, "") if options.name else options.log).name
        stem = re.sub(r"\.+", ".", plain.removesuffix(".log")).strip(".") or "job"
        folder = options.job(options.first).log.parent / "q"
        self.outputs = (folder / f"{stem}.out", folder / f"{stem}.err")
        self.tails = [Tail(path, copy) for copy, path in enumerate(self.outputs, 1)] if options.follow else []
        tasks = ",".join(str(job.number) for job in self.jobs)
        self.command += ["--parsable", "--wait", f"--job-name={stem}", "--open-mode=append"]
        for option, path in zip(("--output", "--error"), self.outputs, strict=True):
            self.command.append(f"{option}={str(path).replace('%', '%%')}")
        if options.name:
            self.command.append(f"--array={tasks}" + (f"%{options.max_jobs_run}" if options.max_jobs_run else ""))
        first = f"{options.name}=$SLURM_ARRAY_TASK_ID " if options.name else ""
        kept = {"num-threads": options.threads, "follow": str(options.follow).lower(), "nodes": nodes(options)}
        program = [sys.executable, str(Path(__file__).resolve()), ON_NODE]
        program += [f"--{name}={value}" for name, value in kept.items()]
        rest = shlex.join([options.log, *options.words])
        self.script = f"#!/bin/bash\nunset DEEPSPEAKER_RUN_PID\nexec {shlex.join(program)} {first}{rest}\n"
        self.job_id = 0
        self.stop = StopRequests()
        self.guardian = Guardian(cancel)
        self.asked = 0.0

    def run(self) -> int:
        """Run the jobs; the exit status."""
        if self.jobs:
            try:
                self.submit()
                while not self.over():
                    if reason := self.stop.reason():
                        return self.interrupt(reason)
                    time.sleep(POLL)
                self.settle()
                self.guardian.toggle(self.job_id)
            finally:
                for tail in self.tails:
                    tail.take()
                self.guardian.close()
        if self.tails and self.tails[1].read:
            self.jobs[0].explained = True
        status = report(self.options, [*self.jobs, *self.left])
        if status == 0:
            self.remove_outputs()
        return status

    def submit(self) -> None:
        """Hand the jobs to sbatch, which stays and waits for them."""
        if shutil.which(self.command[0]) is None:
            mend = "make Slurm's commands known (PATH), or use utils/run.py"
            raise LauncherError(f"{self.command[0]}: no such program; {mend}", 1)
        for job in self.jobs:
            job.started = time.time()
            job.begin_log("Queued")
            os.close(job.descriptor)
        self.outputs[0].parent.mkdir(parents=True, exist_ok=True)
        self.remove_outputs()
        self.outputs[0].parent.mkdir(exist_ok=True)
        # What stands there when we are a job of Slurm's ourselves is not for ours.
        inside = "SLURM_JOB_ID" in os.environ
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
        while not select.select([self.sbatch.stdout], [], [], POLL)[0]:
            if reason := self.stop.reason():
                self.sbatch.kill()
                self.refuse(f"{reason} while sbatch did not answer", self.stop.status)
        answer = self.sbatch.stdout.readline().decode(errors="replace")
        if match := re.match("[0-9]+", answer):
            self.job_id = int(match[0])
            self.guardian.toggle(self.job_id)
            return
        said = self.sbatch.stderr.read().decode(errors="replace").strip() or answer.strip() or "no reason given"
        mend = "mend the options, or the configuration that makes them (--config)"
        self.refuse(f"{shlex.join(self.command)}: {said.splitlines()[-1]}; {mend}", 1)

    def refuse(self, message: str, status: int) -> None:
        """Nothing was submitted."""
        for job in self.jobs:
            self.end_log(job, status, 0, message)
        raise LauncherError(message, status)

    def over(self) -> bool:
        """Whether all logs end well, or Slurm has no task any more."""
        for tail in self.tails:
            tail.take()
        while self.waiting and SUCCESS.match(last_line(self.waiting[0].log)):
            self.waiting.pop(0)
        if not self.waiting:
            self.sbatch.terminate()  # it would find out only after some seconds
            self.sbatch.wait()
            return True
        if self.sbatch.poll() is None or time.monotonic() < self.asked + ASK:
            return False
        self.asked = time.monotonic()
        return not queued(self.job_id)  # requeued tasks and those that still end are there

    def settle(self) -> None:
        """Learn from the logs how the jobs ended; where a log does not say it, write there what Slurm says."""
        tasks = how_it_ended(self.job_id) if self.waiting else {}
        begin = time.monotonic()
        for job in self.waiting:
            task = tasks.get(job.number if self.options.name else 0, {})
            state, code = task.get("JobState", "gone"), task.get("ExitCode", "1:0")
            patience = SYNC.get(state, 0.0) if code.endswith(":0") else 0.0  # a job that was killed wrote none
            while not END.match(last_line(job.log)) and time.monotonic() < begin + patience:
                time.sleep(POLL)
            last = last_line(job.log)
            if END.match(last):
                job.failed = not SUCCESS.match(last)
                killed = re.search(rb"; signal (\d+)\)", last)
                job.signal = int(killed[1]) if killed else 0
            else:
                status, number = (int(part) for part in code.split(":"))
                why = f"the job ended without a word: {state}, exit code {code}; see also {self.outputs[1]}"
                self.end_log(job, status or 128 + (number or signal.SIGKILL), number, why)

    def interrupt(self, reason: str) -> int:
        """Cancel the jobs and say so in their logs; the exit status."""
        complain(f"{reason}, ending {len(self.waiting)} of {len(self.jobs)} jobs, log is in {self.options.logs}")
        before = len(self.stop.signals)
        slurm("scancel", str(self.job_id))
        deadline = time.monotonic() + GONE
        while queued(self.job_id) and time.monotonic() < deadline:
            if len(self.stop.signals) > before:
                before = len(self.stop.signals)
                slurm("scancel", "--full", "--signal=KILL", str(self.job_id))
            time.sleep(POLL)
        for job in self.waiting:
            if not END.match(last_line(job.log)):
                self.end_log(job, 128 + signal.SIGTERM, signal.SIGTERM, "cancelled")
        self.guardian.toggle(self.job_id)
        return self.stop.status

    def end_log(self, job: Job, code: int, number: int, why: str) -> None:
        job.signal = number
        try:
            job.descriptor = os.open(job.log, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            write_all(job.descriptor, os.fsencode(f"{PROGRAM}: {why}\n"))
        except OSError as error:
            job.failed = True
            complain(f"cannot write the end of the log '{job.log}': {error.strerror}")
        else:
            job.end_log(code, self.options.threads)

    def remove_outputs(self) -> None:
        for path in self.outputs:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # other launchers' outputs may lie there
            self.outputs[0].parent.rmdir()


# ---- on the node ---------------------------------------------------------------------------------------


class OnNode(Launcher):
    """The job of one task of the array, run as run.py would."""

    grace = 86400.0  # Slurm decides how long a job may take to end (KillWait)
    impatient = False

    def __init__(self, options: Options) -> None:
        job = options.job(options.first)
        self.nodes = nodes(options)
        if self.nodes > 1:
            os.environ["PET_RDZV_ENDPOINT"] = f"{socket.gethostname()}:{free_port()}"
            step = ["srun", "--kill-on-bad-exit=1", f"--nodes={self.nodes}", f"--ntasks={self.nodes}"]
            step += [f"--cpus-per-task={options.threads}", "bash", "-c"]
            job.command = f"{shlex.join(step)} {shlex.quote(job.command)}"
        self.append = int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0
        super().__init__(options, [job], [], [None])
        signal.signal(signal.SIGUSR1, lambda number, _: self.stop.signals.append(number))

    def finish(self, job: Job, sent: int = 0) -> None:
        if not sent and job.process and job.process.returncode == 0:
            time.sleep(0.1)  # Slurm tells all processes to end, this one perhaps a little later
        super().finish(job, sent or (signal.SIGTERM if self.stop.signals else 0))

    def interrupt(self, reason: str) -> int:
        if self.stop.signals[:1] != [signal.SIGUSR1]:
            return super().interrupt(reason)
        ours = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
        task = "_".join(filter(None, ours)) or os.environ["SLURM_JOB_ID"]
        for job in self.running:
            write_all(job.descriptor, b"# Told to stop before the time limit; Slurm is asked to start it again\n")
        if self.nodes > 1:  # srun, told to stop, would have its tasks killed: they are told themselves
            slurm("scancel", "--signal=TERM", os.environ["SLURM_JOB_ID"])
            while any(not job.poll() for job in self.running):
                self.wait(0.1)
        self.end_jobs()
        asked = slurm("scontrol", "requeue", task)
        if asked.returncode != 0:
            complain(f"job {task} could not be queued again: {asked.stderr.strip()}")
        return self.stop.status


def free_port() -> int:
    with socket.create_server(("", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def main() -> int:
    arguments = sys.argv[1:]
    try:
        if arguments[:1] == [ON_NODE]:
            return launch(OnNode(parse(arguments[1:], __doc__)))
        return Array(parse(arguments, __doc__)).run()
    except LauncherError as error:
        complain(str(error))
        return error.status


if __name__ == "__main__":
    sys.exit(main())
