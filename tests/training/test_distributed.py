"""Two and three real gloo processes against one process on the whole batch, in float64."""

from __future__ import annotations

import os
import re
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
        "TORCH_CPP_LOG_LEVEL": "ERROR",  # as the command has it
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


def run_all(count: int, body: str, program: Path) -> list[tuple[str, int]]:
    """What ``count`` processes print on stderr and end with that have met and run ``body`` then."""
    program.write_text(
        "import os, torch\n"
        "from pathlib import Path\n"
        "from deepspeaker.errors import InputError\n"
        "from deepspeaker.training.distributed import *\n"
        "from deepspeaker.training.distributed import check_agreement, check_batch\n"
        "rank = int(os.environ['RANK'])\n"
        "try:\n"
        "    with processes(torch.device('cpu')):\n"
        f"        summed(torch.ones(1)); {body}\n"
        "        summed(torch.ones(1)); summed(torch.ones(1))\n"
        "except InputError as error:\n"
        "    raise SystemExit(str(error))\n"
    )
    running = start(count, [str(program)])
    return [(process.communicate(timeout=300)[1].strip(), process.returncode) for process in running]


@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_process_ends_the_others_which_name_it(lost: int, tmp_path: Path) -> None:
    ends = run_all(3, f"rank == {lost} and os._exit(9)", tmp_path / "lost.py")
    assert ends.pop(lost) == ("", 9)
    # Process 0 has the store in which the others look; without it, it is known by that.
    who = r"1 \(on .*\) of 3 gave no more sign of life" if lost else r"0 of 3 or its machine \(127\.0\.0\.1\) was lost"
    for said, status in ends:
        assert status == 1
        assert re.fullmatch(rf"process {who}; the same command goes on from the last checkpoint", said), said


def test_the_error_of_one_process_is_what_all_end_by(tmp_path: Path) -> None:
    program = tmp_path / "error.py"
    body = "exec('if rank == 1: raise InputError(\"f.ark: the ark ends\")')"
    assert run_all(3, body, program) == [("process 1 of 3: f.ark: the ark ends", 1)] * 3
    said, status = run_all(2, "exec('if rank == 1: raise ValueError(3)')", program)[0]
    assert (said, status) == ("process 1 of 2 ended by ValueError; its own lines say why", 1)


def test_a_batch_that_leaves_a_process_without_a_share_is_refused(tmp_path: Path) -> None:
    ends = run_all(3, "check_batch(3, 'size'); check_batch(2, 'size')", tmp_path / "small.py")
    for said, status in ends:
        assert status == 1
        assert re.fullmatch(r"process [012] of 3: size: a batch of 2 is too small for 3 processes, .*", said), said


def test_processes_that_found_other_things_are_named(tmp_path: Path) -> None:
    facts = "{'seed': 1, 'the step': rank // 2}"
    body = f"check_agreement({{'seed': 1}}, Path('e')); check_agreement({facts}, Path('e'))"
    ends = run_all(3, body, tmp_path / "others.py")
    for said, status in ends:
        assert status == 1
        assert "the step is 0 for process 0 (on " in said
        assert " and 1 for process 2 (on " in said
        assert "all machines need the same e and data, on a file system that they share" in said


if __name__ == "__main__":
    main()
