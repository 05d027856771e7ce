"""The examples in docs/launchers.md and in the help texts of the launchers run as shown."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
PAGE = (PROJECT / "docs" / "launchers.md").read_text()


def shell(folder: Path, command: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder with a link to utils, such as recipes/librispeech."""
    if not (folder / "utils").exists():
        (folder / "utils").symlink_to(PROJECT / "utils")
    environment = {k: v for k, v in os.environ.items() if k != "DEEPSPEAKER_RUN_PID"} | more
    return subprocess.run(command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


def code(start: str) -> str:
    """Return the code block of the page that begins with ``start``."""
    lines = re.search(rf"^    {re.escape(start)}.*\n(?:    .*\n)+", PAGE, re.MULTILINE)
    assert lines, f"no code block begins with {start}"
    return re.sub("^    ", "", lines[0], flags=re.MULTILINE)


def without_times(text: str) -> str:
    return re.sub(r" at \w{3} .*|time=\d+", "", text)


@pytest.mark.parametrize("name", ["run.py", "slurm.py"])
def test_help_and_its_examples(tmp_path: Path, name: str) -> None:
    done = shell(tmp_path, f"utils/{name} --help")
    assert done.returncode == 0 and f"usage: {name} [options] [NAME=1:N] LOG" in done.stdout
    (tmp_path / "data").mkdir()
    for file in ("wav.scp", *(f"{job}.txt" for job in range(1, 9))):
        (tmp_path / "data" / file).write_text("b\na\nb\n")
    examples = re.findall(rf"^    {name} (.*)", done.stdout, re.MULTILINE)
    for example in examples:
        assert shell(tmp_path, f"utils/run.py {example}").returncode == 0
    assert len(examples) == 2 and (tmp_path / "data/8.count").read_text().split() == ["1", "a", "2", "b"]


def test_session(tmp_path: Path) -> None:
    for step in re.split(r"^\$ ", code("$ utils/run.py"), flags=re.MULTILINE)[1:]:
        command, _, shown = step.partition("\n")
        done = shell(tmp_path, command)
        assert without_times(done.stdout + done.stderr) == without_times(shown), command


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--mem 4G --pick failed", "--mem 4G -p cpu"),
        (
            "--gpu 2 --follow true --requeue true",
            "-p gpu --gres=gpu:2 --cpus-per-task 8 --requeue --signal=B:USR1@120 --time 24:00:00",
        ),
    ],
)
def test_configuration(tmp_path: Path, options: str, expected: str) -> None:
    (tmp_path / "slurm.conf").write_text(code("command sbatch"))
    (tmp_path / "sbatch").write_text("#!/bin/sh\necho refused >&2\nexit 1\n")
    (tmp_path / "sbatch").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = shell(tmp_path, f"utils/slurm.py --config slurm.conf {options} x.log true", PATH=path)
    words = done.stderr.partition(" --parsable")[0].split()
    assert words[:4] == ["slurm.py:", "sbatch", "--export=ALL", "--account=speech"]
    assert sorted(words[4:]) == sorted(expected.split())
