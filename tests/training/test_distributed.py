"""Two and three real gloo processes against one process on the whole batch, in float64."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from deepspeaker.models import Network, build_model
from deepspeaker.training import (
    Interrupted,
    Objective,
    SoftmaxObjective,
    TripletObjective,
    gradient_sync,
    process_group,
    rank,
    shard,
    synchronise_batch_norm,
    world_size,
)
from tests.training.tiny import assert_same_training, do_nothing, environment, signal_at, train_once

BATCH = 13  # not a multiple of 2 or 3, so shards differ in size


def objective_of(name: str, network: nn.Module) -> Objective:
    if name == "affine":
        return SoftmaxObjective(network, 6, 5)
    if name.startswith("additive"):
        return SoftmaxObjective(network, 6, 5, name, 10.0, 0.2)
    if name == "memory":
        return TripletObjective(network, 0.3, "hardest", cross_batch_memory=9, embedding_dim=6)
    return TripletObjective(network, 0.3, name)  # type: ignore[arg-type]


def network_of(kind: str) -> Network:
    name, norm = kind.split("-")
    sizes: dict[str, Any] = {"channels": [3, 4], "blocks": 1} if name == "rescnn" else {"channels": 3, "hidden": 5}
    return build_model(7, name, **sizes, embedding_dim=6, batch_norm=norm).double()


def train_five_steps(kind: str, objective_name: str) -> dict[str, Any]:
    """Return the loss of each batch, the gradients of the first step, and all state after five steps of two batches."""
    torch.manual_seed(0)
    network = network_of(kind)
    objective = objective_of(objective_name, network).double()
    model: nn.Module = objective
    if world_size() > 1:
        synchronise_batch_norm(network, torch.device("cpu"))
        model = DistributedDataParallel(objective, broadcast_buffers=False)
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.1, momentum=0.9)
    generator = torch.Generator().manual_seed(1)
    losses, gradients = [], []
    network.train()
    for step in range(5):
        optimizer.zero_grad()
        for micro in range(2):
            others = torch.randint(0, 5, (BATCH - 10,), generator=generator)
            speakers = torch.cat([torch.arange(5), torch.arange(5), others])
            features = torch.randn(BATCH, 12, 7, generator=generator, dtype=torch.float64) + speakers[:, None, None] / 3
            with gradient_sync(model, micro == 1):
                loss, metrics = model(features[shard(BATCH)], speakers, 2 * step + micro)
                (loss * world_size() / 2).backward()
            losses.append(metrics[0])
        if step == 0:
            gradients = [p.grad.clone() for p in objective.parameters() if p.grad is not None]
        optimizer.step()
    return {"losses": torch.stack(losses), "gradients": gradients, "weights": [*objective.state_dict().values()]}


KINDS = ["rescnn-channel", "rescnn-sequence", "gru-sequence"]
OBJECTIVES = ["affine", "additive_margin", "additive_angular_margin", "hardest", "semi-hard", "random", "memory"]


def main() -> None:
    torch.set_num_threads(1)
    if len(sys.argv) > 2:  # one training stops in step 7 of 20 and resumes, another one does not stop
        folder = Path(sys.argv[1])
        with process_group(torch.device("cpu")):
            for name, stop_at in (("stopped", 7), ("stopped", -1), ("straight", -1)):
                with contextlib.suppress(Interrupted):
                    dist.barrier()  # rank 0 has written the checkpoint that the next training reads
                    before = signal_at(stop_at) if rank() == 1 else do_nothing
                    train_once(folder, folder / name, "triplet", dev=False, cross_batch_memory=12, before=before)
        return
    with process_group(torch.device("cpu")):
        results = {(kind, name): train_five_steps(kind, name) for kind in KINDS for name in OBJECTIVES}
        torch.save(results, f"{sys.argv[1]}.{rank()}")


def start(count: int, arguments: list[str]) -> list[subprocess.Popen[str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    shared["TORCH_CPP_LOG_LEVEL"] = "ERROR"  # as the command sets it
    processes = []
    for number in range(count):
        env = environment(**shared, RANK=str(number), LOCAL_RANK=str(number))
        processes.append(subprocess.Popen([sys.executable, *arguments], env=env, stderr=subprocess.PIPE, text=True))
    return processes


def assert_close(one: Any, other: Any) -> None:
    for name in ("losses", "gradients", "weights"):
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=1e-9)


@pytest.mark.parametrize("count", [2, 3])
def test_processes_equal_one_process_on_the_whole_batch(count: int, tmp_path: Path) -> None:
    running = start(count, [__file__, str(tmp_path / "results")])
    for process in running:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    for number in range(count):
        results = torch.load(tmp_path / f"results.{number}", weights_only=True)
        for (kind, name), result in results.items():
            assert_close(result, train_five_steps(kind, name))
        assert len(results) == len(KINDS) * len(OBJECTIVES)


@pytest.mark.parametrize("count", [2, 3])
def test_processes_that_were_stopped_resume_to_the_same_bits(
    count: int, tmp_path: Path, write_features: Callable[..., Path]
) -> None:
    """The signal reaches one of them only; sums of three values depend on their order."""
    write_features(tmp_path / "train_nosil", 8, 4, prefix="t")
    for process in start(count, [__file__, str(tmp_path), "resume"]):
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    assert_same_training(tmp_path / "straight", tmp_path / "stopped")


def run_all(count: int, body: str, program: Path) -> list[tuple[str, int]]:
    """Connect ``count`` processes that run ``body``; return what each prints on stderr, and its status."""
    program.write_text(
        "import os, torch\n"
        "from pathlib import Path\n"
        "from deepspeaker.errors import InputError\n"
        "import deepspeaker.training.processes\n"
        "from deepspeaker.training import all_reduce, check_agreement, check_batch, process_group\n"
        "deepspeaker.training.processes.GRACE = 0.1\n"
        "rank = int(os.environ['RANK'])\n"
        "try:\n"
        "    with process_group(torch.device('cpu')):\n"
        f"        all_reduce(torch.ones(1)); {body}\n"
        "        all_reduce(torch.ones(1)); all_reduce(torch.ones(1))\n"
        "except InputError as error:\n"
        "    raise SystemExit(str(error))\n"
    )
    running = start(count, [str(program)])
    return [(process.communicate(timeout=300)[1].strip(), process.returncode) for process in running]


@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_process_ends_the_others_in_one_line(lost: int, tmp_path: Path) -> None:
    ends = run_all(3, f"rank == {lost} and os._exit(9)", tmp_path / "lost.py")
    assert ends.pop(lost) == ("", 9)
    for line, status in ends:
        assert status == 1
        assert re.fullmatch(r"lost another process \(.*\); the same command continues from the last checkpoint", line)


def test_a_process_that_does_not_answer_ends_the_others_after_the_timeout(tmp_path: Path) -> None:
    os.environ["DEEPSPEAKER_TIMEOUT"] = "3"
    try:
        ends = run_all(2, "rank == 1 and __import__('time').sleep(8)", tmp_path / "hung.py")
    finally:
        del os.environ["DEEPSPEAKER_TIMEOUT"]
    assert ends[0][1] == 1
    assert re.fullmatch(r"lost another process \(.*[Tt]imed out.*\); the same command continues from .*", ends[0][0])


def test_a_batch_that_leaves_a_rank_without_a_row_is_refused(tmp_path: Path) -> None:
    ends = run_all(3, "check_batch(3, 'size'); check_batch(2, 'size')", tmp_path / "small.py")
    for line, status in ends:
        assert status == 1
        assert re.fullmatch(r"size: a batch of 2 is too small for 3 processes, .*", line), line


def test_ranks_that_disagree_are_named(tmp_path: Path) -> None:
    facts = "{'seed': 1, 'the step': rank // 2}"
    body = f"check_agreement({{'seed': 1}}, Path('e')); check_agreement({facts}, Path('e'))"
    ends = run_all(3, body, tmp_path / "others.py")
    for line, status in ends:
        assert status == 1
        assert "the step is 0 for rank 0 (on " in line
        assert " and 1 for rank 2 (on " in line
        assert "all machines need the same e and data, on a shared file system" in line


if __name__ == "__main__":
    main()
