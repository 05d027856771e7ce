"""Two and three real gloo processes against one process on the whole batch, in float64."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import deepspeaker
from deepspeaker.models import Network, build_model
from deepspeaker.training.distributed import process_rank, processes, share, sum_gradients, with_global_batch_norm
from deepspeaker.training.objectives import SoftmaxObjective, TripletObjective

BATCH = 13  # no multiple of 2 or 3: shares of different sizes


def objective_of(name: str) -> nn.Module:
    if name == "affine":
        return SoftmaxObjective(6, 5)
    if name.startswith("additive"):
        return SoftmaxObjective(6, 5, name, 10.0, 0.2)
    if name == "history":
        return TripletObjective(0.3, "hardest", history=9, embedding_dim=6)
    return TripletObjective(0.3, name)


def network_of(kind: str) -> Network:
    name, norm = kind.split("-")
    sizes: dict[str, Any] = {"channels": [3, 4], "blocks": 1} if name == "rescnn" else {"channels": 3, "hidden": 5}
    return build_model(7, name, **sizes, embedding_dim=6, batch_norm=norm).double()


def train_five_steps(kind: str, objective_name: str) -> dict[str, Any]:
    """The loss of each step, the gradients of the first, the weights and running statistics after five."""
    torch.manual_seed(0)
    network, objective = network_of(kind), objective_of(objective_name).double()
    with_global_batch_norm(network)
    parameters = [*network.parameters(), *objective.parameters()]
    optimiser = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
    generator = torch.Generator().manual_seed(1)
    losses, gradients = [], []
    for step in range(5):
        others = torch.randint(0, 5, (BATCH - 10,), generator=generator)
        speakers = torch.cat([torch.arange(5), torch.arange(5), others])
        features = torch.randn(BATCH, 12, 7, generator=generator, dtype=torch.float64) + speakers[:, None, None] / 3
        network.train()
        outputs = network(features[share(BATCH)])
        loss, figures = objective(outputs, speakers, step)
        optimiser.zero_grad()
        loss.backward()
        sum_gradients(parameters)
        losses.append(figures["loss"])
        if step == 0:
            gradients = [p.grad.clone() for p in parameters if p.grad is not None]
        optimiser.step()
    return {
        "losses": torch.tensor(losses, dtype=torch.float64),
        "gradients": gradients,
        "weights": [*network.state_dict().values(), *objective.state_dict().values()],
    }


KINDS = ["rescnn-channel", "rescnn-sequence", "gru-sequence"]
OBJECTIVES = ["affine", "additive_margin", "additive_angular_margin", "hardest", "semi-hard", "random", "history"]


def main() -> None:
    torch.set_num_threads(1)
    with processes(torch.device("cpu")):
        results = {(kind, name): train_five_steps(kind, name) for kind in KINDS for name in OBJECTIVES}
        torch.save(results, f"{sys.argv[1]}.{process_rank()}")


def start(count: int, arguments: list[str]) -> list[subprocess.Popen[str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(deepspeaker.__file__).parents[1]), str(Path(__file__).parent)]),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(count),
    }
    return [
        subprocess.Popen(
            [sys.executable, *arguments],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]


def same(one: Any, other: Any) -> None:
    for name in ("losses", "gradients", "weights"):
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=1e-9)


@pytest.mark.parametrize("count", [2, 3])
def test_processes_equal_one_process_on_the_whole_batch(count: int, tmp_path: Path) -> None:
    running = start(count, [__file__, str(tmp_path / "results")])
    for process in running:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    for rank in range(count):
        results = torch.load(tmp_path / f"results.{rank}", weights_only=True)
        for (kind, name), result in results.items():
            same(result, train_five_steps(kind, name))
        assert len(results) == len(KINDS) * len(OBJECTIVES)


def test_a_lost_process_ends_the_others_with_its_rank_in_a_line(tmp_path: Path) -> None:
    program = tmp_path / "lost.py"
    program.write_text(
        "import os, torch\n"
        "from deepspeaker.errors import InputError\n"
        "from deepspeaker.training.distributed import processes, summed, process_rank\n"
        "try:\n"
        "    with processes(torch.device('cpu')):\n"
        "        summed(torch.ones(1))\n"
        "        if process_rank() == 1: os._exit(9)\n"
        "        summed(torch.ones(1))\n"
        "        summed(torch.ones(1))\n"
        "except InputError as error:\n"
        "    raise SystemExit(str(error))\n"
    )
    ends = [(process.communicate(timeout=60)[1], process.returncode) for process in start(3, [str(program)])]
    assert ends[1][1] == 9
    for rank in (0, 2):
        said, status = ends[rank]
        assert status == 1
        assert f"process {rank} of 3: another process was lost" in said
        assert "Traceback" not in said


if __name__ == "__main__":
    main()
