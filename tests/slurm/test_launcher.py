"""utils/slurm.py against the contract of utils/run.py and Kaldi's slurm.pl, with a real Slurm."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

UTILS = Path(__file__).resolve().parents[2] / "utils"
DATE = r"\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \S+ \d{4}"


class Cluster:
    """Runs commands in a folder of the cluster."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment = folder, environment
        self.started: list[subprocess.Popen[str]] = []

    def run(self, *arguments: str, program: str = "slurm.py", **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, UTILS / program, *arguments],
            cwd=self.folder,
            env=self.environment | more,
            text=True,
            capture_output=True,
            timeout=240,
        )

    def begin(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, UTILS / "slurm.py", *arguments],
            cwd=self.folder,
            env=self.environment | more,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def slurm(self, *command: str) -> str:
        return subprocess.run(command, env=self.environment, text=True, capture_output=True, timeout=60).stdout

    def queue(self, name: str) -> list[str]:
        """Return the tasks of that name that wait, run or are ending."""
        return self.slurm("squeue", "--noheader", "--array", "--name", name, "--format", "%i").split()

    def log(self, name: str) -> str:
        path = self.folder / name
        return path.read_text() if path.exists() else ""

    def pids(self, *jobs: int) -> list[int]:
        """Wait until these jobs run and have written their pids (see FAMILY), and return them."""
        names = [f"pids.{job}" for job in jobs]
        wait_until(lambda: all(self.log(name).endswith("\n") for name in names))
        return [int(pid) for name in names for pid in self.log(name).split()]


@pytest.fixture
def slurm(tmp_path: Path, cluster: dict[str, str]) -> Iterator[Cluster]:
    commands = Cluster(tmp_path, cluster)
    yield commands
    for process in commands.started:
        process.kill()
        process.communicate()


def wait_until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] not in "ZX"


def without_dates(log: str) -> str:
    return re.sub(r"\d+ seconds|time=\d+", "T", re.sub(DATE, "DATE", log))


def test_logs_are_those_of_run_py(slurm: Cluster) -> None:
    words = ["echo", "it's JOB", "$WHO", 'say "$WHO"', *shlex.split("; seq 3 | tac >&2 ; exit $((JOB == 2))")]
    results = {}
    for program in ("run.py", "slurm.py"):
        options = ["--mem", "100M", "--num-threads", "2", "JOB=1:3"]
        done = slurm.run(*options, "a log/x.JOB.log", *words, program=program, WHO="me")
        assert done.stdout == ""
        logs = [without_dates(slurm.log(f"a log/x.{job}.log")) for job in (1, 2, 3)]
        results[program] = (done.returncode, done.stderr.replace(program, "NAME"), logs)
    assert results["slurm.py"] == results["run.py"]
    assert results["run.py"][0] == 1
    assert results["run.py"][1] == "NAME: 1 / 3 failed, log is in a log/x.*.log\n    1\n"
    assert 'it\'s 2 me say "$WHO"\n3\n2\n1\n' in results["run.py"][2][1]


def test_configuration_reaches_slurm_and_nothing_is_left_after_success(slurm: Cluster) -> None:
    (slurm.folder / "c.conf").write_text(
        "command sbatch --export=ALL # a comment\ndefault mem=300M\noption mem=* --mem $0\noption num_threads=* -c $0\n"
        "option special=yes --nodelist=deep2\noption special=* --nodelist=deep1 --comment=$0\n"
    )
    show = ["echo", "$SLURM_MEM_PER_NODE", "$SLURM_CPUS_PER_TASK", "$SLURMD_NODENAME", "$SLURM_ARRAY_TASK_ID."]
    options = shlex.split("--config c.conf --num-threads=2 --special yes --unknown x -V -l a -pe smp 2")
    assert slurm.run(*options, "JJ=4:5", "-p", "all", "JJ/log/x.log", *show).returncode == 0
    assert "\n300 2 deep2 5.\n" in slurm.log("5/log/x.log")
    options = ["--config=c.conf", "--mem", "200M", "--special", "no"]
    done = slurm.run(*options, "y.log", *show, "$DEEPSPEAKER_RUN_PID", DEEPSPEAKER_RUN_PID=str(os.getpid()))
    assert done.returncode == 0
    assert "\n200 deep1 .\n" in slurm.log("y.log")
    left = sorted(path.name for path in slurm.folder.rglob("*"))
    assert left == ["4", "5", "c.conf", "log", "log", "x.log", "x.log", "y.log"]


def test_jobs_at_a_time(slurm: Cluster) -> None:
    command = ["touch", "on.JOB", ";", "echo", "on.*", ";", "sleep", "0.3", ";", "rm", "on.JOB"]
    assert slurm.run("--mem", "50M", "-tc", "1", "JOB=1:3", "x.JOB.log", *command).returncode == 0
    for job in (1, 2, 3):
        assert f"\non.{job}\n" in slurm.log(f"x.{job}.log")


def test_only_failed_tasks_are_run_again(slurm: Cluster) -> None:
    command = ["touch", "ran.JOB", ";", "test", "-e", "fixed", "-o", "JOB", "-ne", "2"]
    job = ["JOB=1:3", "x.JOB.log", *command]
    assert slurm.run(*job).returncode == 1
    assert (slurm.folder / "q").is_dir() and len(list(slurm.folder.glob("ran.*"))) == 3
    for ran in slurm.folder.glob("ran.*"):
        ran.unlink()
    (slurm.folder / "fixed").touch()
    assert slurm.run("--pick", "failed", *job).returncode == 0
    assert [ran.name for ran in slurm.folder.glob("ran.*")] == ["ran.2"]
    done = slurm.run("--pick", "failed", *job)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_log_of_a_killed_task_says_what_slurm_knows(slurm: Cluster) -> None:
    # The job kills its parent, which writes the log, and itself. Only Slurm knows what happened.
    done = slurm.run("JOB=1:2", "x.JOB.log", *shlex.split("if [ JOB = 1 ]; then kill -9 $PPID $$; fi"))
    assert done.returncode == 1
    line = r"slurm\.py: the job could not end its log: FAILED, exit code 0:9; see also q/x\.err"
    end = rf"# Accounting: time=\d+ threads=1\n# Ended \(code 137; signal 9\) at {DATE}"
    assert re.search(f"{line}\n{end}", slurm.log("x.1.log"))
    summary = r"slurm\.py: 1 / 2 failed, log is in x\.\*\.log"
    assert re.fullmatch(rf"{summary}\n    {line}\n    killed by signal 9\n", done.stderr)
    assert "\n# Ended (code 0) at " in slurm.log("x.2.log")


def test_follow_copies_output_as_it_comes(slurm: Cluster) -> None:
    command = ["printf", r"early\n 1%%\r 9%%\n", ";", "bash", "-c", "until [ -e go ]; do sleep 0.1; done", ";"]
    process = slurm.begin("--follow=true", "x.log", *command, "echo", "late", ">&2")
    assert process.stdout is not None
    assert process.stdout.readline() == "early\n"
    (slurm.folder / "go").touch()
    assert process.stderr is not None
    assert (process.stdout.read(), process.stderr.read()) == (" 1%\n 9%\n", "late\n")  # as Python reads \r
    assert process.wait(20) == 0
    assert "#\nearly\n 9%\nlate\n# Accounting" in slurm.log("x.log")


# A job with a child. It writes the pids of both.
FAMILY = ["sleep", "60", "&", "echo", "$$", "$!", ">", "pids.JOB", ";", "wait", ";", "true"]


def test_interrupted_jobs_are_cancelled_and_their_logs_end(slurm: Cluster) -> None:
    process = slurm.begin("-tc", "2", "JOB=1:3", "interrupted.JOB.log", *FAMILY)
    pids = slurm.pids(1, 2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 130
    assert errors == "slurm.py: interrupted by SIGINT, ending 3 of 3 jobs, log is in interrupted.*.log\n"
    assert slurm.queue("interrupted") == []
    assert not any(map(is_alive, pids))
    for job in (1, 2, 3):
        assert "\n# Ended (code 143; signal 15) at " in slurm.log(f"interrupted.{job}.log")
    assert "slurm.py: cancelled\n" in slurm.log("interrupted.3.log")


@pytest.mark.parametrize("how", ["killed", "caller gone"])
def test_jobs_are_cancelled_when_their_launcher_or_its_caller_is_gone(slurm: Cluster, how: str) -> None:
    with subprocess.Popen(["sleep", "60"]) as top:
        process = slurm.begin("JOB=1:2", "alone.JOB.log", *FAMILY, DEEPSPEAKER_RUN_PID=str(top.pid))
        slurm.pids(1, 2)
        if how == "killed":
            os.killpg(process.pid, signal.SIGKILL)
        top.kill()
        _, errors = process.communicate(timeout=240)
    assert process.returncode == (-9 if how == "killed" else 143)
    assert ("is gone" in errors) == (how == "caller gone")
    wait_until(lambda: not slurm.queue("alone"))
    assert "\n# Ended (code 143; signal 15) at " in slurm.log("alone.1.log")


def test_a_job_near_its_time_limit_is_requeued_and_continues(slurm: Cluster) -> None:
    (slurm.folder / "count.sh").write_text(
        'trap "echo saved; exit 143" TERM\n'
        "echo $SLURM_PROCID of $SLURM_NTASKS on $SLURMD_NODENAME, meeting at $PET_RDZV_ENDPOINT\n"
        "if [ -e saved.$SLURM_PROCID ]; then echo continues; exit; fi\n"
        "touch saved.$SLURM_PROCID\n" + "sleep 0.2\n" * 200
    )
    process = slurm.begin("--requeue", "true", "--nodes", "2", "again.log", "bash", "count.sh")
    # Both have set their trap, and srun has passed on what they printed.
    wait_until(lambda: len(list(slurm.folder.glob("saved.*"))) == slurm.log("again.log").count(", meeting at ") == 2)
    slurm.slurm("scancel", "--batch", "--signal=USR1", *slurm.queue("again"))  # as --signal=B:USR1@120 does
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    log = slurm.log("again.log")
    before, after = log.split("# Stopping before the time limit; Slurm will requeue the job\n")
    assert log.count("# Started at") == 2
    assert "\n# Ended (code 143; signal 15)" in after and "\n# Ended (code 0)" in after
    assert (after.count("saved\n"), after.count("continues\n"), before.count("continues\n")) == (2, 2, 0)
    meetings = set(re.findall(r"(\d) of 2 on (deep\d), meeting at (\S+):\d+\n", before))
    assert {(rank, node) for rank, node, _ in meetings} == {("0", "deep1"), ("1", "deep2")}
    assert len({host for _, _, host in meetings}) == 1


@pytest.mark.parametrize(
    ("arguments", "status", "named"),
    [
        (["JOB=1:2", "x.log", "true"], 2, "x.log"),
        (["--nodes", "none", "x.log", "true"], 2, "--nodes"),
        (["--config", "none.conf", "x.log", "true"], 1, "none.conf"),
        (["--config", "bad.conf", "x.log", "true"], 1, "bad.conf:2: 'optoin mem=* --mem $0'"),
        (["--config", "empty.conf", "x.log", "true"], 1, "empty.conf"),
        (["--config", "other.conf", "x.log", "true"], 1, "no_such_sbatch"),
        (["-p", "nowhere", "x.log", "true"], 1, "nvalid partition"),
        (["--mem", "many", "x.log", "true"], 1, "--mem many"),
        (["x.conf/x.log", "true"], 1, "cannot write the log 'x.conf/x.log'"),
    ],
)
def test_errors_are_one_line(slurm: Cluster, arguments: list[str], status: int, named: str) -> None:
    (slurm.folder / "bad.conf").write_text("command sbatch\noptoin mem=* --mem $0\n")
    (slurm.folder / "empty.conf").write_text("# nothing\n")
    (slurm.folder / "other.conf").write_text("command no_such_sbatch\n")
    (slurm.folder / "x.conf").write_text("")
    done = slurm.run(*arguments)
    assert done.returncode == status
    assert re.fullmatch(r"slurm\.py: [^\n]+\n", done.stderr) and named in done.stderr
    assert not slurm.log("x.log") or "\n# Ended (code 1) at " in slurm.log("x.log")


def test_the_shipped_configuration(slurm: Cluster) -> None:
    shipped = UTILS.parent / "conf" / "slurm.conf"
    show = ["scontrol", "show", "job", "$SLURM_JOB_ID"]
    options = ["--config", str(shipped), *shlex.split("--mem 120M --num-threads 2 --time 7 --gpu 0 --requeue true")]
    done = slurm.run(*options, "--follow", "true", "x.log", *show)
    assert done.returncode == 0, done.stderr
    for shown in ("TimeLimit=00:07:00", "NumCPUs=2", "MinMemoryNode=120M", "Requeue=1", "CPUs/Task=2"):
        assert shown in done.stdout, done.stdout
