"""utils/slurm.py against the contract of utils/run.py and Kaldi's slurm.pl, with a real Slurm."""

from __future__ import annotations

import os
import re
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
    """Commands in a folder, with a Slurm."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment = folder, environment
        self.begun: list[subprocess.Popen[str]] = []

    def run(self, *arguments: str, program: str = "slurm.py", **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, UTILS / program, *arguments],
            cwd=self.folder,
            env=self.environment | more,
            text=True,
            capture_output=True,
            timeout=120,
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
        self.begun.append(process)
        return process

    def slurm(self, *command: str) -> str:
        return subprocess.run(command, env=self.environment, text=True, capture_output=True, timeout=60).stdout

    def queue(self, name: str) -> list[str]:
        """The tasks of that name that wait, run or still end."""
        return self.slurm("squeue", "--noheader", "--array", "--name", name, "--format", "%i").split()

    def log(self, name: str) -> str:
        path = self.folder / name
        return path.read_text() if path.exists() else ""


@pytest.fixture
def slurm(tmp_path: Path, cluster: dict[str, str]) -> Iterator[Cluster]:
    there = Cluster(tmp_path, cluster)
    yield there
    for process in there.begun:
        process.kill()
        process.communicate()


def until(true: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def lives(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] not in "ZX"


def undated(log: str) -> str:
    return re.sub(r"\d+ seconds|time=\d+", "T", re.sub(DATE, "DATE", log))


def test_logs_are_those_of_run_py(slurm: Cluster) -> None:
    words = [
        "echo",
        "it's JOB",
        "$WHO",
        'say "$WHO"',
        ";",
        "seq",
        "3",
        "|",
        "tac",
        ">&2",
        ";",
        "exit",
        "$((JOB",
        "==",
        "2))",
    ]
    results = {}
    for program in ("run.py", "slurm.py"):
        done = slurm.run(
            "--mem", "100M", "--num-threads", "2", "JOB=1:3", "a log/x.JOB.log", *words, program=program, WHO="me"
        )
        assert done.stdout == ""
        logs = [undated(slurm.log(f"a log/x.{job}.log")) for job in (1, 2, 3)]
        results[program] = (done.returncode, done.stderr.replace(program, "NAME"), logs)
    assert results["slurm.py"] == results["run.py"]
    assert results["run.py"][0] == 1
    assert results["run.py"][1] == "NAME: 1 / 3 failed, log is in a log/x.*.log\n    1\n"
    assert 'it\'s 2 me say "$WHO"\n3\n2\n1\n' in results["run.py"][2][1]


def test_what_the_job_gets_of_slurm_and_nothing_is_left_beside_good_logs(slurm: Cluster) -> None:
    (slurm.folder / "c.conf").write_text(
        "command sbatch --export=ALL # as it is\ndefault mem=300M\noption mem=* --mem $0\noption num_threads=* -c $0\n"
        "option special=yes --nodelist=deep2\noption special=* --nodelist=deep1 --comment=$0\n"
    )
    show = ["echo", "$SLURM_MEM_PER_NODE", "$SLURM_CPUS_PER_TASK", "$SLURMD_NODENAME", "$SLURM_ARRAY_TASK_ID."]
    options = [
        "--config",
        "c.conf",
        "--num-threads=2",
        "--special",
        "yes",
        "--unknown",
        "x",
        "-V",
        "-l",
        "a",
        "-pe",
        "smp",
        "2",
    ]
    assert slurm.run(*options, "JJ=4:5", "-p", "all", "JJ/log/x.log", *show).returncode == 0
    assert "\n300 2 deep2 5.\n" in slurm.log("5/log/x.log")
    options = ["--config=c.conf", "--mem", "200M", "--special", "no"]
    assert (
        slurm.run(*options, "y.log", *show, "$DEEPSPEAKER_RUN_PID", DEEPSPEAKER_RUN_PID=str(os.getpid())).returncode
        == 0
    )
    assert "\n200 deep1 .\n" in slurm.log("y.log")
    assert sorted(path.name for path in slurm.folder.rglob("*")) == [
        "4",
        "5",
        "c.conf",
        "log",
        "log",
        "x.log",
        "x.log",
        "y.log",
    ]


def test_jobs_at_a_time(slurm: Cluster) -> None:
    command = ["touch", "on.JOB", ";", "echo", "on.*", ";", "sleep", "0.3", ";", "rm", "on.JOB"]
    assert slurm.run("--mem", "50M", "-tc", "1", "JOB=1:3", "x.JOB.log", *command).returncode == 0
    for job in (1, 2, 3):
        assert f"\non.{job}\n" in slurm.log(f"x.{job}.log")


def test_failed_tasks_alone_are_run_again(slurm: Cluster) -> None:
    command = ["touch", "ran.JOB", ";", "test", "-e", "mended", "-o", "JOB", "-ne", "2"]
    job = ["JOB=1:3", "x.JOB.log", *command]
    assert slurm.run(*job).returncode == 1
    assert (slurm.folder / "q").is_dir() and len(list(slurm.folder.glob("ran.*"))) == 3
    for ran in slurm.folder.glob("ran.*"):
        ran.unlink()
    (slurm.folder / "mended").touch()
    assert slurm.run("--pick", "failed", *job).returncode == 0
    assert [ran.name for ran in slurm.folder.glob("ran.*")] == ["ran.2"]
    done = slurm.run("--pick", "failed", *job)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_task_that_ends_without_a_word_gets_one_from_slurm(slurm: Cluster) -> None:
    # The job's parent writes its log. Both killed, only Slurm knows.
    done = slurm.run(
        "JOB=1:2", "x.JOB.log", "if", "[", "JOB", "=", "1", "];", "then", "kill", "-9", "$PPID", "$$;", "fi"
    )
    assert done.returncode == 1
    line = r"slurm\.py: the job ended without a word: FAILED, exit code 0:9; see also q/x\.err"
    assert re.search(
        line + rf"\n# Accounting: time=\d+ threads=1\n# Ended \(code 137; signal 9\) at {DATE}", slurm.log("x.1.log")
    )
    assert re.fullmatch(
        rf"slurm\.py: 1 / 2 failed, log is in x\.\*\.log\n    {line}\n    killed by signal 9\n", done.stderr
    )
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


FAMILY = ["sleep", "60", "&", "echo", "$$", "$!", ">", "pids.JOB", ";", "wait", ";", "true"]


def test_interrupted_jobs_are_cancelled_and_say_so(slurm: Cluster) -> None:
    process = slurm.begin("-tc", "2", "JOB=1:3", "interrupted.JOB.log", *FAMILY)
    files = [slurm.folder / f"pids.{job}" for job in (1, 2)]
    until(lambda: all(file.exists() and file.read_text().endswith("\n") for file in files))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "slurm.py: interrupted by SIGINT, ending 3 of 3 jobs, log is in interrupted.*.log\n"
    assert slurm.queue("interrupted") == []
    assert not any(lives(int(pid)) for file in files for pid in file.read_text().split())
    for job in (1, 2, 3):
        assert "\n# Ended (code 143; signal 15) at " in slurm.log(f"interrupted.{job}.log")
    assert "slurm.py: cancelled\n" in slurm.log("interrupted.3.log")


@pytest.mark.parametrize("how", ["killed", "caller gone"])
def test_jobs_are_cancelled_when_nobody_waits_for_them(slurm: Cluster, how: str) -> None:
    with subprocess.Popen(["sleep", "60"]) as top:
        process = slurm.begin("JOB=1:2", "alone.JOB.log", *FAMILY, DEEPSPEAKER_RUN_PID=str(top.pid))
        until(lambda: all("Started" in slurm.log(f"alone.{job}.log") for job in (1, 2)))
        if how == "killed":
            os.killpg(process.pid, signal.SIGKILL)
        top.kill()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == (-9 if how == "killed" else 143)
    assert ("is gone" in errors) == (how == "caller gone")
    until(lambda: not slurm.queue("alone"))
    assert "\n# Ended (code 143; signal 15) at " in slurm.log("alone.1.log")


def test_a_job_near_its_time_limit_is_queued_again_and_goes_on(slurm: Cluster) -> None:
    (slurm.folder / "count.sh").write_text(
        'trap "echo saved; exit 143" TERM\n'
        "echo $SLURM_PROCID of $SLURM_NTASKS on $SLURMD_NODENAME, meeting at $PET_RDZV_ENDPOINT\n"
        "if [ -e saved.$SLURM_PROCID ]; then echo goes on; exit; fi\n"
        "touch saved.$SLURM_PROCID\n" + "sleep 0.2\n" * 200
    )
    process = slurm.begin("--requeue", "true", "--nodes", "2", "again.log", "bash", "count.sh")
    until(lambda: len(list(slurm.folder.glob("saved.*"))) == 2)
    slurm.slurm("scancel", "--batch", "--signal=USR1", *slurm.queue("again"))  # as --signal=B:USR1@120 does
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    log = slurm.log("again.log")
    before, after = log.split("# Told to stop before the time limit; Slurm is asked to start it again\n")
    assert (
        log.count("# Started at") == 2 and "\n# Ended (code 143; signal 15)" in after and "\n# Ended (code 0)" in after
    )
    assert (after.count("saved\n"), after.count("goes on\n"), before.count("goes on\n")) == (2, 2, 0)
    meetings = set(re.findall(r"(\d) of 2 on (deep\d), meeting at (\S+):\d+\n", before))
    assert {(rank, node) for rank, node, _ in meetings} == {("0", "deep1"), ("1", "deep2")}
    assert len({host for _, _, host in meetings}) == 1


@pytest.mark.parametrize(
    ("arguments", "status", "thing"),
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
def test_what_cannot_be_is_one_line(slurm: Cluster, arguments: list[str], status: int, thing: str) -> None:
    (slurm.folder / "bad.conf").write_text("command sbatch\noptoin mem=* --mem $0\n")
    (slurm.folder / "empty.conf").write_text("# nothing\n")
    (slurm.folder / "other.conf").write_text("command no_such_sbatch\n")
    (slurm.folder / "x.conf").write_text("")
    done = slurm.run(*arguments)
    assert done.returncode == status
    assert re.fullmatch(r"slurm\.py: [^\n]+\n", done.stderr) and thing in done.stderr
    assert not slurm.log("x.log") or "\n# Ended (code 1) at " in slurm.log("x.log")


def test_the_shipped_configuration(slurm: Cluster) -> None:
    shipped = UTILS.parent / "conf" / "slurm.conf"
    show = ["scontrol", "show", "job", "$SLURM_JOB_ID"]
    options = [
        "--config",
        str(shipped),
        "--mem",
        "120M",
        "--num-threads",
        "2",
        "--time",
        "7",
        "--gpu",
        "0",
        "--requeue",
        "true",
    ]
    done = slurm.run(*options, "--follow", "true", "x.log", *show)
    assert done.returncode == 0, done.stderr
    for said in ("TimeLimit=00:07:00", "NumCPUs=2", "MinMemoryNode=120M", "Requeue=1", "CPUs/Task=2"):
        assert said in done.stdout, done.stdout
