"""utils/run.py against the contract of Kaldi's run.pl, with real processes."""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parents[2] / "utils" / "run.py"
DATE = r"\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \S+ \d{4}"


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("DEEPSPEAKER_RUN_PID", "CUDA_VISIBLE_DEVICES")}
    return kept | more


def run(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, RUN, *arguments],
        cwd=folder,
        env=environment(**more),
        text=True,
        capture_output=True,
        timeout=60,
    )


def begin(folder: Path, *arguments: str, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, RUN, *arguments],
        cwd=folder,
        env=environment(**more),
        text=True,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def wait_until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat")
        return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (ProcessLookupError, FileNotFoundError):
        return False


def pids(*files: Path) -> list[int]:
    """Wait until the jobs have written their pids to these files, and return them."""
    wait_until(lambda: all(file.exists() and file.read_text().endswith("\n") for file in files))
    return [int(word) for file in files for word in file.read_text().split()]


def output(log: Path) -> str:
    return "".join(line for line in log.read_text().splitlines(True) if not line.startswith("#"))


# ---- the command ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "command", "shown"),
    [
        (["echo", "a b", "c"], 'echo "a b" c', "a b c\n"),
        (["printf", r"'%s\n'", "two  blanks"], r"""printf '%s\n' "two  blanks" """.rstrip(), "two  blanks\n"),
        (["echo", "it's here"], 'echo "it\'s here"', "it's here\n"),
        (["echo", 'say "so"'], "echo 'say \"so\"'", 'say "so"\n'),
        (["echo", """it's "both" ways"""], """echo 'it'\\''s "both" ways'""", """it's "both" ways\n"""),
        (["echo", "", "x"], 'echo "" x', " x\n"),
        (["echo", "$WHO", "is $WHO"], 'echo $WHO "is $WHO"', "me is me\n"),
        (["echo", "'$WHO'"], "echo '$WHO'", "$WHO\n"),
        (["echo", "b a", "|", "tr", "a", "c"], 'echo "b a" | tr a c', "b c\n"),
        (["echo", "1", ";", "false", "||", "echo", "2"], "echo 1 ; false || echo 2", "1\n2\n"),
        (["true", "&&", "echo", "yes"], "true && echo yes", "yes\n"),
        (["echo", "err", ">&2"], "echo err >&2", "err\n"),
        (["echo", "a\nb"], 'echo "a\n# b"', "a\nb\n"),
        (["printf", "unended"], "printf unended", "unended\n"),
        (["cat"], "cat", ""),
    ],
)
def test_words_reach_bash_as_from_run_pl(tmp_path: Path, words: list[str], command: str, shown: str) -> None:
    assert run(tmp_path, "x.log", *words, WHO="me").returncode == 0
    assert (tmp_path / "x.log").read_text().startswith(f"# {command}\n# Started at ")
    assert output(tmp_path / "x.log") == shown


def test_redirections(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("b\na\n")
    command = ["sort", "<", "in", ">", "out.JOB", ";", "cat", "none", "2>/dev/null"]
    done = run(tmp_path, "JOB=1:2", "x.JOB.log", *command)
    assert done.returncode == 1
    assert (tmp_path / "out.2").read_text() == "a\nb\n"
    assert output(tmp_path / "x.1.log") == ""


def test_long_command(tmp_path: Path) -> None:
    words = [str(number) for number in range(40_000)]
    assert run(tmp_path, "x.log", "echo", *words, ";", "cat", ";", "exit", "3").returncode == 1
    assert output(tmp_path / "x.log").split() == words
    assert "\n# Ended (code 3) at " in (tmp_path / "x.log").read_text()


def test_log_form(tmp_path: Path) -> None:
    done = run(tmp_path, "--num-threads", "3", "a/b/x.log", "one word; is one command")
    assert done.returncode == 1 and done.stdout == ""
    assert re.fullmatch(
        rf'# "one word; is one command"\n# Started at {DATE}\n#\n'
        rf"bash: .*one word; is one command: command not found\n"
        rf"# Accounting: time=\d+ threads=3\n# Ended \(code 127\) at {DATE}, elapsed time \d+ seconds\n",
        (tmp_path / "a/b/x.log").read_text(),
    )
    run(tmp_path, "x.log", "echo", "out", ";", "echo", "err", ">&2", ";", "exit", "7")
    assert re.fullmatch(
        rf"# echo out ; echo err >&2 ; exit 7\n# Started at {DATE}\n#\nout\nerr\n"
        rf"# Accounting: time=\d+ threads=1\n# Ended \(code 7\) at {DATE}, elapsed time \d+ seconds\n",
        (tmp_path / "x.log").read_text(),
    )


def test_the_job_number_replaces_name(tmp_path: Path) -> None:
    assert run(tmp_path, "N=2:4", "log.N/x.log", "echo", "N", "of N").returncode == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log.2", "log.3", "log.4"]
    assert output(tmp_path / "log.3/x.log") == "3 of 3\n"
    assert run(tmp_path, "JOB=7", "--mem", "1G", "one.log", "echo", "JOB").returncode == 0
    assert output(tmp_path / "one.log") == "7\n"


# ---- options -------------------------------------------------------------------------------------------


def test_options_of_every_launcher_are_accepted(tmp_path: Path) -> None:
    options = "-V --verbose --mem 4G --config c.conf --gpu 0 --num-threads 2 -l mem=1 -pe smp 2 -sync y"
    more = "--max-jobs-run=2 --time=1:00 --verbose 2 --unknown value -tc 3"
    done = run(tmp_path, *options.split(), "JOB=1:2", *more.split(), "x.JOB.log", "echo", "JOB")
    assert done.returncode == 0
    assert output(tmp_path / "x.2.log") == "2\n"


@pytest.mark.parametrize("option", [["--max-jobs-run", "2"], ["-tc", "2"]])
def test_jobs_at_a_time(tmp_path: Path, option: list[str]) -> None:
    command = ["touch", "on.JOB", ";", "echo", "on.*", ";", "sleep", "0.3", ";", "rm", "on.JOB"]
    assert run(tmp_path, *option, "JOB=1:5", "x.JOB.log", *command).returncode == 0
    assert max(len(output(tmp_path / f"x.{job}.log").split()) for job in range(1, 6)) == 2


def test_pick_selects_unfinished_jobs(tmp_path: Path) -> None:
    job = ["JOB=1:5", "x.JOB.log"]
    assert run(tmp_path, *job, "[", "JOB", "!=", "2", "]").returncode == 1
    (tmp_path / "x.3.log").write_text("# cmd\n# Started at some time\n#\nkilled without an end\n")
    (tmp_path / "x.4.log").unlink()
    (tmp_path / "x.5.log").write_text("# cmd\n# Accounting: time=1 threads=1\n# Finished at now with status 0\n")
    done = run(tmp_path, "--pick", "incomplete", *job, "touch", "incomplete.JOB")
    assert (done.returncode, done.stderr) == (1, "run.py: 1 / 5 failed, log is in x.*.log\n")
    assert sorted(p.name for p in tmp_path.glob("incomplete.*")) == ["incomplete.3", "incomplete.4"]
    (tmp_path / "x.3.log").write_text("# cmd\n# Started at some time\n#\nkilled without an end\n")
    (tmp_path / "x.4.log").unlink()
    (tmp_path / "x.1.log").write_text("# cmd\n# Ended (code 137; signal 9) at now, elapsed time 1 seconds\n")
    assert run(tmp_path, "--pick=failed", *job, "touch", "failed.JOB").returncode == 0
    assert sorted(p.name for p in tmp_path.glob("failed.*")) == ["failed.1", "failed.2", "failed.3", "failed.4"]
    for pick in ("failed", "incomplete"):
        assert run(tmp_path, "--pick", pick, *job, "touch", "no.JOB").returncode == 0
    assert run(tmp_path, "--pick", "all", *job, "touch", "all.JOB").returncode == 0
    assert len(list(tmp_path.glob("all.*"))) == 5 and not list(tmp_path.glob("no.*"))


def test_each_job_has_its_gpu(tmp_path: Path) -> None:
    command = ["echo", "$CUDA_VISIBLE_DEVICES", ";", "sleep", "0.1"]

    def devices(*arguments: str, visible: str) -> list[str]:
        done = run(tmp_path, *arguments, "JOB=1:4", "x.JOB.log", *command, CUDA_VISIBLE_DEVICES=visible)
        assert done.returncode == 0
        return [output(tmp_path / f"x.{job}.log").strip() for job in range(1, 5)]

    assert sorted(devices("--gpu", "1", visible="0,GPU-5,7")[:3]) == ["0", "7", "GPU-5"]
    assert set(devices("--gpu", "2", visible="0,1,2,3")) == {"0,1", "2,3"}
    assert devices("--gpu", "1", "--max-jobs-run", "4", visible="3,4") == ["3", "4", "3", "4"]
    assert devices("--gpu", "0", visible="0,1") == ["0,1"] * 4
    assert devices("--gpu", "1", "-tc", "4", visible="") == [""] * 4


def test_follow_copies_bytes_and_keeps_the_log_short(tmp_path: Path) -> None:
    text = r"start\n 1%%\r 50%%\r100%%\nwiped\r     \r\nline\r\nend"
    arguments = [sys.executable, RUN, "--follow", "true", "x.log"]
    arguments += ["printf", text, ";", "echo", "no", ">&2", ";", "exit", "3"]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, env=environment(), timeout=60)
    assert done.stdout == b"start\n 1%\r 50%\r100%\nwiped\r     \r\nline\r\nend"
    assert done.stderr == b"no\n"  # run.py adds nothing to the job's error
    assert done.returncode == 1
    lines = output(tmp_path / "x.log").splitlines()
    assert sorted(lines) == sorted(["start", "100%", "line", "end", "no"])
    assert "# Ended (code 3) at " in (tmp_path / "x.log").read_text()


def test_follow_shows_output_as_it_comes_and_does_not_wait_for_daemons(tmp_path: Path) -> None:
    command = shlex.split("echo early ; sleep 30 & echo $! > pid ; until [ -e go ] ; do sleep 0.05 ; done")
    arguments = [sys.executable, RUN, "--follow=true", "x.log", *command]
    process = subprocess.Popen(arguments, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"early\n"
        assert process.poll() is None
        (tmp_path / "go").touch()
        assert process.wait(20) == 0
    finally:
        os.kill(pids(tmp_path / "pid")[0], signal.SIGKILL)
        process.stdout.close()


# ---- failures ------------------------------------------------------------------------------------------


def test_a_failed_job_is_reported_with_its_last_output(tmp_path: Path) -> None:
    command = ["echo", "ValueError: no such thing", ";", "echo", "", ";", "exit", "3"]
    done = run(tmp_path, "exp/x.log", *command)
    assert done.returncode == 1
    assert done.stderr == "run.py: job failed, log is in exp/x.log\n    ValueError: no such thing\n"
    done = run(tmp_path, "JOB=4:4", "exp/x.JOB.log", "false")
    assert done.stderr == "run.py: job failed, log is in exp/x.4.log\n"


def test_failed_jobs_are_counted(tmp_path: Path) -> None:
    done = run(tmp_path, "JOB=1:8", "exp/x.JOB.log", "echo", "job JOB", ";", "((", "JOB", "%", "4", "))")
    assert done.returncode == 1
    assert done.stderr == "run.py: 2 / 8 failed, log is in exp/x.*.log\n    job 4\n"


def test_job_killed_by_a_signal(tmp_path: Path) -> None:
    done = run(tmp_path, "x.log", "kill", "-9", "$$")
    assert done.returncode == 1
    assert re.search(r"\n# Ended \(code 137; signal 9\) at ", (tmp_path / "x.log").read_text())
    assert done.stderr == "run.py: job failed, log is in x.log\n    killed by signal 9\n"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "LOG"),
        (["JOB=1:2"], "LOG"),
        (["x.log"], "x.log"),
        (["--mem"], "--mem"),
        (["JOB=0:3", "x.JOB.log", "true"], "JOB=0:3"),
        (["JOB=5:1", "x.JOB.log", "true"], "JOB=5:1"),
        (["JOB=0:x", "x.JOB.log", "true"], "JOB=0:x"),
        (["JOB=1:", "x.JOB.log", "true"], "JOB=1:"),
        (["JOB=1:2", "JOB=1:2", "x.JOB.log", "true"], "JOB=1:2"),
        (["JOB=1:2", "x.log", "true"], "x.log"),
        (["--max-jobs-run", "0", "x.log", "true"], "--max-jobs-run"),
        (["--max-jobs-run", "many", "x.log", "true"], "many"),
        (["--num-threads=-1", "x.log", "true"], "--num-threads"),
        (["--gpu", "yes", "x.log", "true"], "--gpu"),
        (["--pick", "some", "x.log", "true"], "--pick"),
        (["--follow", "maybe", "x.log", "true"], "--follow"),
        (["--follow", "true", "JOB=1:2", "x.JOB.log", "true"], "--follow"),
    ],
)
def test_wrong_usage_is_one_line(tmp_path: Path, arguments: list[str], named: str) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode == 2
    assert re.fullmatch(r"run\.py: [^\n]+\n", done.stderr) and named in done.stderr
    assert not list(tmp_path.iterdir())


def test_log_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for log in ("file/x.log", "."):
        done = run(tmp_path, log, "touch", "ran")
        assert done.returncode == 1 and not (tmp_path / "ran").exists()
        assert re.fullmatch(r"run\.py: cannot write the log [^\n]+\n", done.stderr)


# ---- the end of jobs -----------------------------------------------------------------------------------

FAMILY = ["sleep", "60", "&", "echo", "$$", "$!", ">", "pids.JOB", ";", "wait", ";", "true"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_interrupted_jobs_end_with_their_logs(tmp_path: Path, number: signal.Signals) -> None:
    process = begin(tmp_path, "-tc", "2", "JOB=1:3", "log/x.JOB.log", *FAMILY)
    family = pids(tmp_path / "pids.1", tmp_path / "pids.2")
    assert len(family) == 4 and all(map(is_alive, family))
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert not any(map(is_alive, family))
    assert errors == f"run.py: interrupted by {number.name}, ending 2 of 3 jobs, log is in log/x.*.log\n"
    sent = signal.SIGINT if number == signal.SIGINT else signal.SIGTERM
    for job in (1, 2):
        assert f"\n# Ended (code {128 + sent}; signal {sent:d}) at " in (tmp_path / f"log/x.{job}.log").read_text()
    assert not (tmp_path / "log/x.3.log").exists()


def test_stubborn_jobs_and_their_sessions_end_at_the_second_signal(tmp_path: Path) -> None:
    (tmp_path / "job.sh").write_text("trap : TERM\nsetsid bash inner.sh &\necho $$ > outer\n" + "wait\n" * 9)
    (tmp_path / "inner.sh").write_text("trap : TERM\necho $$ > inner\nwhile true; do sleep 0.1; done\n")
    process = begin(tmp_path, "x.log", "bash", "job.sh")
    family = pids(tmp_path / "outer", tmp_path / "inner")
    process.terminate()
    time.sleep(0.4)
    assert all(map(is_alive, family))
    process.terminate()
    assert process.wait(30) == 143
    process.communicate()
    assert not any(map(is_alive, family))
    assert "\n# Ended (code 137; signal 9) at " in (tmp_path / "x.log").read_text()


def test_a_job_with_code_0_after_a_stop_counts_as_failed(tmp_path: Path) -> None:
    (tmp_path / "job.sh").write_text("trap 'echo saved; exit 0' TERM\necho $$ > pid\nsleep 60 & wait\n")
    process = begin(tmp_path, "x.log", "bash", "job.sh")
    pids(tmp_path / "pid")
    process.terminate()
    process.communicate(timeout=30)
    assert output(tmp_path / "x.log").startswith("saved\n")
    assert "\n# Ended (code 143; signal 15) at " in (tmp_path / "x.log").read_text()


@pytest.mark.parametrize("reaped", [True, False])
def test_jobs_end_when_the_caller_is_gone(tmp_path: Path, reaped: bool) -> None:
    with subprocess.Popen(["sleep", "60"]) as caller:
        process = begin(tmp_path, "JOB=1", "x.JOB.log", *FAMILY, DEEPSPEAKER_RUN_PID=str(caller.pid))
        family = pids(tmp_path / "pids.1")
        time.sleep(0.5)
        assert all(map(is_alive, family))
        caller.kill()
        if reaped:  # otherwise it stays as a zombie
            caller.wait()
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 143
    assert f"process {caller.pid} (DEEPSPEAKER_RUN_PID) is gone" in errors
    assert not any(map(is_alive, family))
    assert "\n# Ended (code 143; signal 15) at " in (tmp_path / "x.1.log").read_text()


def test_jobs_end_when_run_py_is_killed(tmp_path: Path) -> None:
    process = begin(tmp_path, "JOB=1:2", "-tc", "2", "x.JOB.log", *FAMILY)
    family = pids(tmp_path / "pids.1", tmp_path / "pids.2")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    wait_until(lambda: not any(map(is_alive, family)))
    done = run(tmp_path, "--pick", "failed", "JOB=1:2", "x.JOB.log", "true")
    assert done.returncode == 0 and "# true\n" in (tmp_path / "x.2.log").read_text()


def test_a_lock_lives_as_long_as_the_jobs(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.set_inheritable(lock.fileno(), True)
        process = subprocess.Popen(
            [sys.executable, RUN, "x.log", *shlex.split("touch on ; until [ -e go ] ; do sleep 0.05 ; done")],
            cwd=tmp_path,
            env=environment(),
            close_fds=False,
        )
    wait_until((tmp_path / "on").exists)
    with (tmp_path / "lock").open("w") as again:
        with pytest.raises(BlockingIOError):
            fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (tmp_path / "go").touch()
        assert process.wait(30) == 0
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)  # at once: run.py has left no process behind
