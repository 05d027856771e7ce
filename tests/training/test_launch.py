"""Trainings of several processes, started and disturbed as a user's are."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

import pytest
import torch

import deepspeaker
from deepspeaker.config import Config, dump_config
from deepspeaker.models import load_checkpoint

SMALL: dict[str, dict[str, Any]] = {
    "model": {"channels": [4, 8], "blocks": 1, "embedding_dim": 8},
    "softmax": {"epochs": 2, "steps_per_epoch": 4, "crop_frames": 16, "batch_size": 8, "precision": "float32"},
    "triplet": {
        "precision": "float32",
        "epochs": 2,
        "steps_per_epoch": 4,
        "crop_frames": 16,
        "speakers_per_batch": 4,
        "utterances_per_speaker": 2,
    },
}


def command(data_dir: Path, exp_dir: Path, *options: object, stage: str = "softmax", **sections: Any) -> list[str]:
    """A training by ``deepspeaker train``, with the sections of ``SMALL`` changed as told."""
    exp_dir.mkdir(parents=True, exist_ok=True)
    config = Config.model_validate({name: SMALL[name] | sections.get(name, {}) for name in SMALL})
    (exp_dir / "small.yaml").write_text(dump_config(config), encoding="utf-8")
    words = ["-m", "deepspeaker", "train", stage, "--config", exp_dir / "small.yaml", "--device", "cpu"]
    words += ["--progress", "false", "--data-dir", data_dir, "--exp-dir", exp_dir, *options]
    return [sys.executable, *map(str, words)]


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(deepspeaker.__file__).parents[1]), "OMP_NUM_THREADS": "1"} | more


def finished(words: list[str], **more: str) -> str:
    """What a command that ends well says."""
    done = subprocess.run(words, env=environment(**more), capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def last(exp_dir: Path, stage: str = "softmax") -> dict[str, Any]:
    return load_checkpoint(exp_dir / stage / "checkpoint_last.pt")


def test_several_processes_started_by_the_command_equal_one(data_dir: Path, tmp_path: Path) -> None:
    for count in (1, 2):
        for stage in ("softmax", "triplet"):
            said = finished(command(data_dir, tmp_path / str(count), "--nproc", count, stage=stage))
            assert f"{count} x cpu" in said
            assert len(re.findall(r"epoch 1/2", said)) == 1
    for stage in ("softmax", "triplet"):
        one, two = (last(tmp_path / count, stage) for count in ("1", "2"))
        assert one["history"] == [pytest.approx(row, rel=1e-3, abs=1e-4) for row in two["history"]]
        for name, tensor in one["network"].items():
            torch.testing.assert_close(two["network"][name], tensor, rtol=1e-2, atol=1e-3)


def worker(agent: int, rank: int) -> int:
    """The process of a rank that an agent has started."""
    for pid in Path(f"/proc/{agent}/task/{agent}/children").read_text().split():
        if f"\0RANK={rank}\0".encode() in b"\0" + Path(f"/proc/{pid}/environ").read_bytes():
            return int(pid)
    raise AssertionError(f"process {agent} has no child of rank {rank}")


def until(stream: IO[str] | None, beginning: str) -> None:
    """Waits for the line of an output."""
    assert stream is not None
    assert any(line.startswith(beginning) for line in stream)


def test_a_killed_process_is_named_and_training_goes_on_from_its_checkpoint(data_dir: Path, tmp_path: Path) -> None:
    words = command(data_dir, tmp_path, "--nproc", 2, softmax={"epochs": 15})
    with subprocess.Popen(
        words, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as agent:
        until(agent.stdout, "epoch 2/")
        begin = time.monotonic()
        os.kill(worker(agent.pid, 1), signal.SIGKILL)
        _, said = agent.communicate(timeout=60)
    assert agent.returncode == 1
    assert time.monotonic() - begin < 60
    assert "training stopped: process 1 of 2 was killed by SIGKILL; the same command goes on" in said
    assert "Traceback" not in said
    step = last(tmp_path)["step"]
    assert 8 <= step < 60
    assert f"going on from step {step} of 60" in finished(words)
    straight = tmp_path / "straight"
    finished(command(data_dir, straight, "--nproc", 2, softmax={"epochs": 15}))
    for name, tensor in last(straight)["network"].items():
        assert torch.equal(last(tmp_path)["network"][name], tensor)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["channel", "sequence"])
def test_compiled_processes_compute_what_plain_ones_do(data_dir: Path, tmp_path: Path, norm: str) -> None:
    """Two processes plain and compiled, one compiled; and stopped half of the way, to go on in the other manner."""
    waits = {"DEEPSPEAKER_TIMEOUT": "300", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "compiled")}
    training = {"epochs": 40, "steps_per_epoch": 1, "optimiser": {"name": "sgd", "learning_rate": 0.01}}

    def words(exp: str, count: int, compiled: bool) -> list[str]:
        options = training | {"compile": compiled}
        return command(data_dir, tmp_path / exp, "--nproc", count, model={"batch_norm": norm}, softmax=options)

    finished(words("plain", 2, False), **waits)
    finished(words("compiled", 2, True), **waits)
    finished(words("compiled-alone", 1, True), **waits)
    for exp, first in (("begun-plain", False), ("begun-compiled", True)):
        with subprocess.Popen(words(exp, 2, first), env=environment(**waits), stdout=subprocess.PIPE, text=True) as run:
            assert run.stdout is not None
            for line in run.stdout:
                if line.startswith("epoch 3/"):
                    run.send_signal(signal.SIGTERM)
            assert run.wait(60) == 1
        assert 3 <= last(tmp_path / exp)["step"] < 40
        assert "going on from step" in finished(words(exp, 2, not first), **waits)
    plain = last(tmp_path / "plain")
    for exp in ("compiled", "compiled-alone", "begun-plain", "begun-compiled"):
        other = last(tmp_path / exp)
        assert other["history"] == [pytest.approx(row, rel=1e-4, abs=1e-5) for row in plain["history"]]
        for name, tensor in plain["network"].items():
            torch.testing.assert_close(other["network"][name], tensor, rtol=1e-4, atol=1e-5)
