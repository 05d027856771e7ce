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
                           the jobs to run, by the last line of their old logs (default all). failed: those
                           with a log that does not end in "# Ended (code 0)"; incomplete: these, and those
                           without a log
  --follow true|false      copy the output of the job (a single one) to stdout and stderr as it comes
                           (default false); of a line that carriage returns overwrote, the log then holds
                           only the last state
  --help                   print this text
Options may be written --name=value. -V and --verbose, and any other pair (--mem 4G, --config FILE, -l ARG,
-sync y, -pe smp N), are accepted and ignored, so that one line serves every launcher.

Exit status: 0 when all jobs ended with code 0; 1 when some did not, or a log cannot be written; 2 for wrong
usage; 128+K when signal K (Ctrl-C, TERM, HUP) ended run.py. Then its jobs are ended too, with all their
processes: by SIGTERM, and by SIGKILL after 5 seconds or at a second signal. The same happens (status 143)
when DEEPSPEAKER_RUN_PID is in the environment and the process of that number is gone; and the jobs end when
run.py is killed. Jobs inherit open file descriptors: a lock of the caller's lives as long as they do.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from run_jobs import Guardian, Job, LauncherError, Stream, end_groups, exists, say

LEFTOVER = 1.0  # seconds that a followed job's output is still read after the job itself ended
SUCCESS = re.compile(rb"# Ended \(code 0\)|# Finished at .* with status 0$")  # run.pl; queue.pl, slurm.pl


# ---- command line --------------------------------------------------------------------------------------


@dataclass
class Options:
    name: str = ""
    first: int = 1
    last: int = 1
    log: str = ""
    command: str = ""
    max_jobs_run: int = 0  # 0: as the machine allows
    threads: int = 1
    gpu: int = 0
    pick: str = "all"
    follow: bool = False


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
            say(f"run.py: warning: '{value}' is taken as the value of {option}; was its value forgotten?")
        if option == "-pe" and words:
            words.pop(0)
    else:
        raise LauncherError(f"{option} needs a value, and LOG and a command after it (see run.py --help)")
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


def parse(arguments: list[str]) -> Options:
    options, words = Options(), list(arguments)
    while words:
        if words[0] in ("-h", "--help"):
            print((__doc__ or "").strip())
            raise SystemExit(0)
        if words[0].startswith("-"):
            take_option(options, words)
        elif re.match(r"[A-Za-z_]\w*=[^/]*$", words[0], re.ASCII) and not words[0].endswith(".log"):
            take_range(options, words.pop(0))
        else:
            break
    if not words or not words[0]:
        raise LauncherError("no LOG given: usage is run.py [options] [NAME=1:N] LOG command arguments...")
    options.log = words.pop(0)
    if not words:
        raise LauncherError(f"no command given after the log '{options.log}' (see run.py --help)")
    options.command = " ".join(quoted(word) for word in words)
    if options.last > options.first and options.name not in options.log:
        raise LauncherError(f"several jobs cannot share the log '{options.log}': put {options.name} into it")
    if options.last > options.first and options.follow:
        raise LauncherError("--follow true is for a single job: leave it out, or run one job")
    return options


# ---- what to run, and where ----------------------------------------------------------------------------


def picked(options: Options) -> list[Job]:
    """The jobs that --pick asks for."""
    jobs = []
    for number in range(options.first, options.last + 1):
        texts = (options.log, options.command)
        log, command = (text.replace(options.name, str(number)) if options.name else text for text in texts)
        job, last = Job(number, Path(log), command), b""
        with contextlib.suppress(OSError), job.log.open("rb") as old:
            old.seek(max(0, job.log.stat().st_size - 4096))
            last = (old.read().rstrip().splitlines() or [b""])[-1]
        wanted = options.pick == "incomplete" or job.log.exists()
        if options.pick == "all" or (wanted and not SUCCESS.match(last)):
            jobs.append(job)
    return jobs


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
        say(f"run.py: warning: --gpu {need}, but GPUs found here: {len(gpus)}; jobs use what there is")
    shares: list[str | None] = [",".join(gpus[i : i + need]) for i in range(0, len(gpus) - need + 1, need)]
    shares = shares or [",".join(gpus) or None]
    return [shares[i % len(shares)] for i in range(options.max_jobs_run or len(shares))]


# ---- running -------------------------------------------------------------------------------------------


class Launcher:
    def __init__(self, options: Options) -> None:
        self.options, self.jobs, self.places = options, picked(options), places(options)
        self.running: list[Job] = []
        self.signals: list[int] = []
        caller = os.environ.get("DEEPSPEAKER_RUN_PID", "")
        self.caller = int(caller) if re.fullmatch("[0-9]{1,9}", caller) else 0
        self.guardian = Guardian()
        self.selector = selectors.DefaultSelector()
        awake, wake = os.pipe()  # a signal, also that of a child's end, is written there
        os.set_blocking(awake, False)
        os.set_blocking(wake, False)
        self.selector.register(awake, selectors.EVENT_READ)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup stays nohup
                signal.signal(number, lambda number, _: self.signals.append(number))

    def run(self) -> int:
        """Run the jobs; the exit status."""
        waiting = list(reversed(self.jobs))
        while waiting or self.running:
            gone = self.caller > 0 and not exists(self.caller)
            if gone or self.signals:
                return self.interrupt()
            if waiting and self.places:
                self.start(waiting.pop())
                continue
            self.wait(0.3)
            for job in [job for job in self.running if job.poll()]:
                if not self.streams() or not 0 <= time.time() - job.ended < LEFTOVER:
                    self.finish(job)
        status = self.report()
        return 128 + self.signals[0] if self.signals else status

    def wait(self, seconds: float) -> None:
        """Wait for a signal, a job's end or a followed job's output, which is passed on."""
        for key, _ in self.selector.select(seconds):
            data = os.read(key.fd, 1 << 16)
            if isinstance(key.data, Stream):
                key.data.take(data)
                if not data:
                    self.selector.unregister(key.fd)

    def streams(self) -> dict[int, Stream]:
        """The outputs of a followed job that are open, by descriptor."""
        return {key.fd: key.data for key in self.selector.get_map().values() if key.data is not None}

    def start(self, job: Job) -> None:
        job.devices = self.places.pop(0)
        job.start(self.options.follow)
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

    def interrupt(self) -> int:
        number = self.signals[0] if self.signals else signal.SIGTERM
        gone = f"process {self.caller} (DEEPSPEAKER_RUN_PID) is gone"
        why = f"interrupted by {signal.Signals(number).name}" if self.signals else gone
        say(f"run.py: {why}, ending {len(self.running)} of {len(self.jobs)} jobs, log is in {self.logs()}")
        self.end_jobs()
        return 128 + number

    def end_jobs(self) -> None:
        """End the running jobs and say so in their logs."""
        before = len(self.signals)

        def wait() -> bool:
            self.wait(0.1)
            for job in self.running:
                job.poll()
            return len(self.signals) > before

        end_groups([job.process.pid for job in self.running if job.process], wait)
        for job in list(self.running):
            job.poll()
            self.finish(job, signal.SIGTERM)

    def logs(self) -> str:
        one = len(self.jobs) == 1 or not self.options.name
        return str(self.jobs[0].log) if one else self.options.log.replace(self.options.name, "*")

    def report(self) -> int:
        """Say what failed and why; the exit status."""
        failed = [job for job in self.jobs if job.failed]
        if not failed:
            return 0
        count = "job" if len(self.jobs) == 1 else f"{len(failed)} / {len(self.jobs)}"
        say(f"run.py: {count} failed, log is in {self.logs()}")
        if not self.options.follow and (reason := failed[0].reason()):
            say(f"    {reason}")
        if failed[0].signal:
            say(f"    killed by signal {failed[0].signal}")
        return 1


def main() -> int:
    try:
        launcher = Launcher(parse(sys.argv[1:]))
        try:
            return launcher.run()
        finally:
            if launcher.running:
                launcher.end_jobs()
            launcher.guardian.close()
    except LauncherError as error:
        say(f"run.py: {error}")
        return error.status


if __name__ == "__main__":
    sys.exit(main())
