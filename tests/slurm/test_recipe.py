"""Stages of the recipe by Slurm give the same bytes as on one machine, also after failures."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest
import torch

from tests.recipe.tiny import Recipe, copy_audio_tables, train_ivectors

TINY_IVECTORS = {"components": 4, "dim": 5, "ubm_iterations": 1, "iterations": 1}
BY_SLURM = ("--cmd", "utils/slurm.py --mem 900M")


@pytest.fixture
def by_slurm(copied: Recipe, cluster: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.setenv("SLURM_CONF", cluster["SLURM_CONF"])
    return copied


def kill_a_task(name: str, task: int, log: Path) -> None:
    """Kill a task of the array of that name once it runs."""
    query = ["squeue", "--noheader", "--array", "--states=RUNNING", f"--name={name}", "--format=%i"]
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        running = subprocess.run(query, capture_output=True, text=True).stdout.split()
        tasks = [job for job in running if job.endswith(f"_{task}")]
        if tasks and "# Started" in (log.read_text() if log.exists() else ""):
            subprocess.run(["scancel", *tasks], check=True)
            return
        time.sleep(0.05)
    raise AssertionError(f"{name} {task} was never seen running")


def killed_once(recipe: Recipe, script: str, arguments: list[str], name: str, log: Path) -> str:
    """Run a stage, kill its task 2 of 3, and return stderr."""
    command = recipe.command("--nj", "3", *BY_SLURM, *arguments, script=script)
    outputs = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=recipe.folder, env=recipe.environment(), text=True, **outputs) as running:
        kill_a_task(name, 2, log)
        errors = running.communicate(timeout=240)[1]
    assert running.returncode == 1
    return errors


def bytes_of(folder: Path, *patterns: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for pattern in patterns for path in folder.glob(pattern)}


def joined(arks: dict[str, bytes]) -> bytes:
    """Join arks in the order of their jobs."""
    return b"".join(arks[name] for name in sorted(arks))


def features_of(data: Path) -> tuple[bytes, bytes]:
    return joined(bytes_of(data, "fbank.*.ark")), joined(bytes_of(Path(f"{data}_nosil"), "fbank.*.ark"))


def test_features_only_a_killed_task_is_run_again(finished: Recipe, by_slurm: Recipe) -> None:
    data = copy_audio_tables(finished, by_slurm)
    arguments = ["--config", "conf/demo.yaml", "data/mine"]
    logs = [data / f"log/fbank.{job}.log" for job in (1, 2, 3)]
    errors = killed_once(by_slurm, "local/2_fbank.sh", arguments, "fbank", logs[1])
    assert "slurm.py: 1 / 3 failed, log is in data/mine/log/fbank.*.log\n" in errors
    assert re.search(r"\n# Ended \(code 1\d\d; signal \d+\) at .*\n$", logs[1].read_text())
    times = [log.stat().st_mtime_ns for log in logs]
    again = by_slurm.run("--nj", "3", *BY_SLURM, *arguments, script="local/2_fbank.sh")
    assert again.returncode == 0, again.stderr
    assert "continues: it did not finish" in again.stdout
    assert [log.stat().st_mtime_ns == old for log, old in zip(logs, times, strict=True)] == [True, False, True]
    assert features_of(data) == features_of(finished.folder / "data/demo/dev")


def test_embeddings_only_a_killed_task_is_run_again(by_slurm: Recipe) -> None:
    exp = by_slurm.folder / "exp/demo_demo"
    systems = ("untrained", "softmax", "triplet")
    before = {system: joined(bytes_of(exp / system / "embeddings_test", "xvector.*.ark")) for system in systems}
    arguments = ["--config", "conf/demo.yaml", "data/demo", "exp/demo_demo"]
    logs = [exp / f"log/embed.{job}.log" for job in (1, 2, 3)]
    killed_once(by_slurm, "local/5_embed.sh", arguments, "embed", logs[1])
    times = [log.stat().st_mtime_ns for log in logs]
    again = by_slurm.run("--nj", "3", *BY_SLURM, *arguments, script="local/5_embed.sh")
    assert again.returncode == 0, again.stderr
    assert "continues: it did not finish" in again.stdout
    assert [log.stat().st_mtime_ns == old for log, old in zip(logs, times, strict=True)] == [True, False, True]
    assert before == {system: joined(bytes_of(exp / system / "embeddings_test", "xvector.*.ark")) for system in systems}


def test_training_on_two_nodes(by_slurm: Recipe) -> None:
    arguments = ["--config", "conf/demo.yaml", "--nnodes", "2", "data/demo", "exp/two_nodes"]
    done = by_slurm.run(*BY_SLURM, *arguments, script="local/3_softmax.sh")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "; 2 x cpu, float32" in done.stdout
    log = (by_slurm.folder / "exp/two_nodes/softmax/log/train.log").read_text()
    assert log.startswith("# srun ") and "\n# Ended (code 0) at " in log
    rows = (by_slurm.folder / "exp/two_nodes/softmax/train.csv").read_text().splitlines()
    alone = (by_slurm.folder / "exp/demo_demo/softmax/train.csv").read_text().splitlines()
    assert rows[0] == alone[0] and len(rows) == len(alone)
    # The same batches; only the order of sums differs.
    for row, other in zip(rows[1:], alone[1:], strict=True):
        values, others = ([float(value) for value in line.split(",")[:4]] for line in (row, other))
        assert values == pytest.approx(others, rel=1e-3)


@pytest.mark.slow
def test_a_requeued_training_equals_an_uninterrupted_one(by_slurm: Recipe) -> None:
    long = ["--config", "conf/demo.yaml", "--set", "softmax.steps_per_epoch=200", "data/demo"]
    alone = by_slurm.run(*long, "exp/alone", script="local/3_softmax.sh")
    assert alone.returncode == 0, alone.stderr
    log = by_slurm.folder / "exp/again/softmax/log/train.log"
    command = by_slurm.command(*BY_SLURM, *long, "exp/again", script="local/3_softmax.sh")
    with subprocess.Popen(command, cwd=by_slurm.folder, env=by_slurm.environment(), text=True) as running:
        deadline = time.monotonic() + 120
        while not (log.exists() and "epoch 1/2" in log.read_text()):
            assert running.poll() is None and time.monotonic() < deadline, "the first epoch never ended"
            time.sleep(0.1)
        job = subprocess.run(["squeue", "--noheader", "--name=train", "--format=%i"], capture_output=True, text=True)
        subprocess.run(["scancel", "--batch", "--signal=USR1", *job.stdout.split()], check=True)
        assert running.wait(300) == 0
    assert re.search(r"stopped by SIGTERM at step \d+ of 400; saved", log.read_text())
    assert re.search(r"continuing from step \d+ of 400", log.read_text())
    for name in ("checkpoint_last.pt", "checkpoint_average.pt"):
        weights, others = (
            torch.load(by_slurm.folder / exp / "softmax" / name, weights_only=True)["network"]
            for exp in ("exp/alone", "exp/again")
        )
        assert weights.keys() == others.keys() and all(torch.equal(weights[key], others[key]) for key in weights)
    csv = [(by_slurm.folder / exp / "softmax/train.csv").read_bytes() for exp in ("exp/alone", "exp/again")]
    assert csv[0] == csv[1]


def test_ivectors_by_slurm_are_those_of_one_process(
    linked: Recipe, cluster: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    linked.settings |= {f"ivector.{key}": size for key, size in TINY_IVECTORS.items()}
    monkeypatch.setenv("SLURM_CONF", cluster["SLURM_CONF"])
    arguments = ["--config", "conf/demo.yaml", "--nj", "2", "data/demo", "exp/slurm"]
    done = linked.run(*BY_SLURM, *arguments, script="local/5_ivector.sh")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "total variability, iteration 1 of 1: log-likelihood per frame " in done.stdout
    train_ivectors(linked.folder / "data/demo", tmp_path / "here/ivector", 2, TINY_IVECTORS)
    here, there = (
        joined(bytes_of(folder / "ivector/embeddings_test", "xvector.*.ark"))
        for folder in (tmp_path / "here", linked.folder / "exp/slurm")
    )
    assert here == there
    log = (linked.folder / "exp/slurm/ivector/log/accumulate_extractor.1.2.log").read_text()
    assert log.startswith("# deepspeaker ivector accumulate extractor") and "\n# Ended (code 0) at " in log
