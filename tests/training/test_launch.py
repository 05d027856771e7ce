"""Trainings of several processes, started by the command and interrupted."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import torch
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from deepspeaker.cli import commands
from deepspeaker.config import Config, dump_config
from deepspeaker.features import FeatureIndex
from deepspeaker.kaldi import ArkWriter
from deepspeaker.models import load_checkpoint
from deepspeaker.training import UtteranceSampler, failure_cause
from tests.training.tiny import SMALL, environment


def command(data_dir: Path, exp_dir: Path, *options: object, stage: str = "softmax", **sections: Any) -> list[str]:
    """Return the words of ``deepspeaker train`` for a training by ``SMALL`` with changes to its sections."""
    exp_dir.mkdir(parents=True, exist_ok=True)
    config = Config.model_validate({name: SMALL[name] | sections.get(name, {}) for name in SMALL})
    (exp_dir / "small.yaml").write_text(dump_config(config), encoding="utf-8")
    words = ["-m", "deepspeaker", "train", stage, "--config", exp_dir / "small.yaml", "--device", "cpu"]
    words += ["--progress", "false", "--data-dir", data_dir, "--exp-dir", exp_dir, *options]
    return [sys.executable, *map(str, words)]


def output_of(words: list[str], **more: str) -> str:
    """Run a command that succeeds, and return its output."""
    done = subprocess.run(words, env=environment(**more), capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def train_here(words: list[str]) -> None:
    """Run ``deepspeaker train`` in this process, which has imported torch."""
    commands.main(words[3:], standalone_mode=False)


def last_checkpoint(exp_dir: Path, stage: str = "softmax") -> dict[str, Any]:
    return load_checkpoint(exp_dir / stage / "checkpoint_last.pt")


def test_several_processes_started_by_the_command_equal_one(data_dir: Path, tmp_path: Path) -> None:
    """The processes of test_distributed.py do the same without the command, with both losses."""
    train_here(command(data_dir, tmp_path / "1", stage="softmax"))
    shutil.copytree(tmp_path / "1", tmp_path / "2")
    train_here(command(data_dir, tmp_path / "1", stage="triplet"))
    output = output_of(command(data_dir, tmp_path / "2", "--nproc", 2, stage="triplet"))
    assert "2 x cpu" in output
    assert len(re.findall(r"epoch 1/2", output)) == 1
    one, two = (last_checkpoint(tmp_path / count, "triplet") for count in ("1", "2"))
    assert one["history"] == [pytest.approx(row, rel=1e-3, abs=1e-4) for row in two["history"]]
    for name, tensor in one["network"].items():
        torch.testing.assert_close(two["network"][name], tensor, rtol=1e-2, atol=1e-3)


def worker(agent: int, rank: int) -> int:
    """Return the process of a rank that an agent has started."""
    for pid in Path(f"/proc/{agent}/task/{agent}/children").read_text().split():
        if f"\0RANK={rank}\0".encode() in b"\0" + Path(f"/proc/{pid}/environ").read_bytes():
            return int(pid)
    raise AssertionError(f"process {agent} has no child of rank {rank}")


def wait_for_line(stream: IO[str] | None, beginning: str) -> None:
    assert stream is not None
    assert any(line.startswith(beginning) for line in stream)


def test_a_killed_process_is_named_and_its_training_is_resumed(data_dir: Path, tmp_path: Path) -> None:
    """Its bits are compared in test_distributed.py."""
    words = command(data_dir, tmp_path, "--nproc", 2, softmax={"epochs": 15})
    with subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as agent:
        wait_for_line(agent.stdout, "epoch 2/")
        begin = time.monotonic()
        os.kill(worker(agent.pid, 1), signal.SIGKILL)
        _, errors = agent.communicate(timeout=300)
    assert agent.returncode == 1
    assert time.monotonic() - begin < 60
    assert "training stopped: rank 1 of 2: was killed by SIGKILL; the same command continues" in errors
    assert "Traceback" not in errors
    step = last_checkpoint(tmp_path)["step"]
    assert 8 <= step < 60
    assert f"continuing from step {step} of 60" in output_of(words)
    assert last_checkpoint(tmp_path)["step"] == 60


class Agents:
    """One training on several "machines", each with an experiment folder, which may be the same."""

    def __init__(self, data_dir: Path, exp_dirs: list[Path], nproc: int, **sections: Any) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            endpoint = f"127.0.0.1:{free.getsockname()[1]}"
        options: list[object] = ["--nproc", nproc]
        if len(exp_dirs) > 1:
            options += ["--nnodes", len(exp_dirs), "--rdzv-endpoint", endpoint]
        self.exp_dirs = exp_dirs
        self.agents = []
        for number, exp_dir in enumerate(exp_dirs):
            words, env = command(data_dir, exp_dir, *options, **sections), environment(DEEPSPEAKER_TIMEOUT="10")
            out, err = (exp_dir.parent / f"{name}.{number}" for name in ("out", "err"))
            with out.open("w") as out_stream, err.open("w") as err_stream:
                self.agents.append(subprocess.Popen(words, env=env, stdout=out_stream, stderr=err_stream))

    def signal_after_two_epochs(self, rank: int, number: signal.Signals) -> int:
        """Send a signal to the process of a rank, and return the number of its machine."""
        outputs = [exp_dir.parent / f"out.{number}" for number, exp_dir in enumerate(self.exp_dirs)]
        limit = time.monotonic() + 300
        while not any("epoch 2/" in path.read_text() for path in outputs):
            assert time.monotonic() < limit
            time.sleep(0.1)
        for machine, agent in enumerate(self.agents):
            with contextlib.suppress(AssertionError):
                os.kill(worker(agent.pid, rank), number)
                return machine
        raise AssertionError(f"no process {rank}")

    def errors(self) -> list[str]:
        """Wait until all agents end with status 1, and return what each one prints on stderr."""
        try:
            assert [agent.wait(300) for agent in self.agents] == [1] * len(self.agents)
        finally:
            for agent in self.agents:
                agent.kill()
        return [(exp_dir.parent / f"err.{number}").read_text() for number, exp_dir in enumerate(self.exp_dirs)]


CONTINUE = "the same command continues from the last checkpoint\n"


def test_a_process_that_hangs_ends_the_training_after_the_timeout(data_dir: Path, tmp_path: Path) -> None:
    agents = Agents(data_dir, [tmp_path / "exp"], 2, softmax={"epochs": 3000})
    agents.signal_after_two_epochs(1, signal.SIGSTOP)
    (agent,) = agents.agents
    hanging, limit = worker(agent.pid, 1), time.monotonic() + 300
    with contextlib.suppress(AssertionError, OSError):  # until rank 0 has ended
        while worker(agent.pid, 0) and time.monotonic() < limit:
            time.sleep(0.1)
    os.kill(hanging, signal.SIGCONT)  # to end by SIGTERM; otherwise torch kills it after 30 seconds
    (line,) = agents.errors()
    lost = r"rank 0 of 2: lost another process \(.*[Tt]imed out.*\)"
    assert re.fullmatch(f"deepspeaker: training stopped: {lost}; {CONTINUE}", line), line


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_killed_on_one_machine_ends_the_other(data_dir: Path, tmp_path: Path, rank: int) -> None:
    agents = Agents(data_dir, [tmp_path / "exp"] * 2, 1, softmax={"epochs": 3000})
    machine = agents.signal_after_two_epochs(rank, signal.SIGKILL)
    errors = agents.errors()
    assert errors[machine] == f"deepspeaker: training stopped: rank {rank} of 2: was killed by SIGKILL; {CONTINUE}"
    lost = rf"(rank {1 - rank} of 2: lost another process|no connection to the other machines at \S+) \(.*\)"
    assert re.fullmatch(f"deepspeaker: training stopped: {lost}; {CONTINUE}", errors[1 - machine]), errors
    assert last_checkpoint(tmp_path / "exp")["step"] >= 8


def test_an_error_of_one_process_is_one_line(tmp_path: Path, write_features: Callable[..., Path]) -> None:
    """Only rank 1 reads a damaged utterance: the line names it, whichever process ends first."""
    write_features(tmp_path / "data" / "train_nosil", 8, 4, prefix="t")
    index = FeatureIndex(tmp_path / "data" / "train_nosil")
    # A batch has all utterances; its second half belongs to rank 1.
    utterance = int(UtteranceSampler(len(index), 32, 0).batch(0).utterances[20])
    rows = {name: index.read(number).copy() for number, name in enumerate(index.utterances)}
    name = index.utterance_id(utterance)
    rows[name][:] = np.nan
    with ArkWriter(tmp_path / "data/train_nosil/feats.ark", tmp_path / "data/train_nosil/feats.scp") as writer:
        for key, values in rows.items():
            writer.write(key, values)
    words = command(tmp_path / "data", tmp_path / "exp", "--nproc", 2, softmax={"batch_size": 32})
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=300)
    where = f"{tmp_path}/data/train_nosil/feats.scp: {name}"
    assert done.returncode == 1
    assert done.stderr == (
        f"deepspeaker: training stopped: rank 1 of 2: {where} has values that are not finite numbers; make its "
        "features again (stage 2) or remove it\n"
    )


def test_a_signal_to_the_command_saves_the_step(data_dir: Path, tmp_path: Path) -> None:
    words = command(data_dir, tmp_path, "--nproc", 2, softmax={"epochs": 3000})
    with subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as agent:
        wait_for_line(agent.stdout, "epoch 2/")
        agent.send_signal(signal.SIGTERM)
        output, errors = agent.communicate(timeout=300)
    assert agent.returncode == 1
    found = re.search(r"stopped by SIGTERM at step (\d+) of 12000; saved\n", output)
    assert found, (output, errors)
    assert last_checkpoint(tmp_path)["step"] == int(found[1])
    assert errors == f"deepspeaker: training stopped by SIGTERM; {CONTINUE}"


def test_machines_without_a_shared_folder_are_refused_before_anything_is_written(
    data_dir: Path, tmp_path: Path
) -> None:
    train_here(command(data_dir, tmp_path / "begun"))
    begun = {path: path.read_bytes() for path in tmp_path.rglob("*.pt")}
    errors = Agents(data_dir, [tmp_path / "begun", tmp_path / "empty"], 1).errors()
    for line in errors:
        assert re.fullmatch(
            r"deepspeaker: training stopped: rank [01] of 2: the step to continue from is [08] for rank 0 "
            r"\(on .*\) and [08] for rank 1 \(on .*\); all machines need the same .* shared file system\n",
            line,
        ), line
    assert begun == {path: path.read_bytes() for path in tmp_path.rglob("*.pt")}
    assert [path.name for path in (tmp_path / "empty").iterdir()] == ["small.yaml"]


def test_a_batch_smaller_than_the_processes_is_refused_before_anything_is_written(
    data_dir: Path, tmp_path: Path
) -> None:
    words = command(data_dir, tmp_path, "--nproc", 3, softmax={"batch_size": 2})
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    refused = r"rank [012] of 3: softmax\.batch_size: a batch of 2 is too small for 3 processes, .*"
    assert re.fullmatch(rf"deepspeaker: training stopped: {refused}\n", done.stderr)
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


def test_failure_causes(tmp_path: Path) -> None:
    def cause(status: int, recorded: object = None) -> str:
        if recorded is not None:
            message = {"message": recorded, "extraInfo": {"timestamp": "1"}}
            (tmp_path / "error").write_text(json.dumps({"message": message}))
        return failure_cause(ProcessFailure(0, 11, status, str(tmp_path / ("none" if recorded is None else "error"))))

    assert cause(-9) == "was killed by SIGKILL; the same command continues from the last checkpoint"
    assert cause(7) == "ended with status 7; the same command continues from the last checkpoint"
    assert cause(1, "InputError: f.ark: the ark ends") == "f.ark: the ark ends"
    assert cause(1, "ValueError: a\nb") == f"ValueError: a b (its traceback is above); {CONTINUE.strip()}"
    assert cause(1, "Interrupted: stopped by SIGTERM") == f"stopped by SIGTERM; {CONTINUE.strip()}"


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["channel", "sequence"])
def test_compiled_processes_compute_what_uncompiled_ones_do(data_dir: Path, tmp_path: Path, norm: str) -> None:
    """Two processes and one, compiled or not, also switched halfway: all agree."""
    waits = {"DEEPSPEAKER_TIMEOUT": "300", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "compiled")}
    training = {"epochs": 40, "steps_per_epoch": 1, "optimizer": {"name": "sgd", "learning_rate": 0.01}}

    def words(exp: str, count: int, compiled: bool) -> list[str]:
        options = training | {"compile": compiled}
        return command(data_dir, tmp_path / exp, "--nproc", count, model={"batch_norm": norm}, softmax=options)

    output_of(words("plain", 2, False), **waits)
    output_of(words("compiled", 2, True), **waits)
    output_of(words("compiled-alone", 1, True), **waits)
    for exp, first in (("begun-plain", False), ("begun-compiled", True)):
        with subprocess.Popen(words(exp, 2, first), env=environment(**waits), stdout=subprocess.PIPE, text=True) as run:
            assert run.stdout is not None
            for line in run.stdout:
                if line.startswith("epoch 3/"):
                    run.send_signal(signal.SIGTERM)
            assert run.wait(300) == 1
        assert 3 <= last_checkpoint(tmp_path / exp)["step"] < 40
        assert "continuing from step" in output_of(words(exp, 2, not first), **waits)
    plain = last_checkpoint(tmp_path / "plain")
    for exp in ("compiled", "compiled-alone", "begun-plain", "begun-compiled"):
        other = last_checkpoint(tmp_path / exp)
        assert other["history"] == [pytest.approx(row, rel=1e-4, abs=1e-5) for row in plain["history"]]
        for name, tensor in plain["network"].items():
            torch.testing.assert_close(other["network"][name], tensor, rtol=1e-4, atol=1e-5)
