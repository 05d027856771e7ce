"""Two and three real gloo processes against one process on the whole batch, in float64."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from deepspeaker.errors import InputError
from deepspeaker.models import Network, build_model, load_checkpoint
from deepspeaker.training import (
    Development,
    Interrupted,
    Objective,
    SoftmaxObjective,
    TripletObjective,
    all_reduce,
    check_agreement,
    check_batch,
    gradient_sync,
    process_group,
    processes,
    rank,
    shard,
    synchronise_batch_norm,
    world_size,
)
from tests.training.tiny import assert_same_training, do_nothing, rows_of, signal_at, train_once

RunAll = Callable[..., list[tuple[str, int]]]
BATCH = 13  # not a multiple of 2 or 3, so shards differ in size


def objective_of(name: str, network: nn.Module) -> Objective:
    if name == "affine":
        return SoftmaxObjective(network, 6, 5)
    if name.startswith("additive"):
        return SoftmaxObjective(network, 6, 5, name, 10.0, 0.2)
    if name == "memory":
        return TripletObjective(network, 0.3, "hardest", cross_batch_memory=9, embedding_dim=6)
    if name == "pairs":
        return TripletObjective(network, 0.3, sampled_pairs=True)
    return TripletObjective(network, 0.3, name)  # type: ignore[arg-type]


def network_of(kind: str) -> Network:
    name, norm, *recurrence = kind.split("-")
    sizes: dict[str, Any] = {"channels": [3, 4], "blocks": 1} if name == "rescnn" else {"channels": 3, "hidden": 5}
    if recurrence:
        sizes["recurrence"] = recurrence[0]
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
            if objective_name == "pairs":
                speakers = torch.arange(7).repeat_interleave(2) % 5  # shards divide pairs
            batch = len(speakers)
            features = torch.randn(batch, 12, 7, generator=generator, dtype=torch.float64) + speakers[:, None, None] / 3
            with gradient_sync(model, micro == 1):
                loss, metrics = model(features[shard(batch)], speakers, 2 * step + micro)
                (loss * world_size() / 2).backward()
            losses.append(metrics[0])
        if step == 0:
            gradients = [p.grad.clone() for p in objective.parameters() if p.grad is not None]
        optimizer.step()
    return {"losses": torch.stack(losses), "gradients": gradients, "weights": [*objective.state_dict().values()]}


KINDS = ["rescnn-channel", "rescnn-sequence", "gru-sequence", "gru-sequence-deep_speech_2"]
OBJECTIVES = ["affine", "additive_margin", "additive_angular_margin"]
OBJECTIVES += ["hardest", "semi-hard", "random", "memory", "pairs"]


#: Each network and each objective, and the two that differ most with each network.
COMBINATIONS = [(KINDS[0], name) for name in OBJECTIVES]
COMBINATIONS += itertools.product(KINDS[1:], ("affine", "memory"))


def train_all(folder: Path) -> None:
    results = {(kind, name): train_five_steps(kind, name) for kind, name in COMBINATIONS}
    torch.save(results, folder / f"results.{rank()}")


def stop_and_resume(folder: Path) -> None:
    """One training stops in step 7 of 20 and resumes, another one does not stop."""
    for name, stop_at in (("stopped", 7), ("stopped", -1), ("straight", -1)):
        with contextlib.suppress(Interrupted):
            dist.barrier()  # rank 0 has written the checkpoint that the next training reads
            before = signal_at(stop_at) if rank() == 1 else do_nothing
            train_once(folder, folder / name, "triplet", dev=False, cross_batch_memory=12, before=before)


def train_or_die(folder: Path, step: int) -> None:
    """Rank 1 dies before a step, or nothing happens."""
    before = (lambda at: os._exit(9) if at == step else None) if rank() == 1 else do_nothing
    train_once(folder, folder / "killed", "triplet", dev=False, cross_batch_memory=12, before=before)


def end_early(folder: Path) -> None:
    """Train with patience. Rank 1 measures ever lower development EERs, as if its hardware rounded differently."""
    measured = itertools.count(2)
    Development.rates = lambda *_: {"dev_eer": 1 / next(measured) if rank() else 0.5}  # type: ignore[method-assign]
    train_once(folder, folder / "early", patience=2)


def connected(
    work: Callable[..., None], arguments: tuple[object, ...], env: dict[str, str], timeout: float, errors: Path
) -> None:
    """Work in a process group, in a new process that writes stderr to a file."""
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT), 2)
    os.environ.update(env)
    torch.set_num_threads(1)
    processes.GRACE, processes.TIMEOUT = 0.1, timeout
    try:
        with process_group(torch.device("cpu")):
            work(*arguments)
    except InputError as error:
        raise SystemExit(str(error)) from None


@pytest.fixture(scope="module")
def forks() -> Iterator[ForkServerContext]:
    """A process that has imported the project, and forks others without the time of the import."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["deepspeaker.training", "tests.training.tiny"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_CPP_LOG_LEVEL", "ERROR")  # as the command sets it
        forkserver.ensure_running()
    yield context
    forkserver._forkserver._stop()  # type: ignore[attr-defined]


@pytest.fixture
def run_all(forks: ForkServerContext, tmp_path: Path) -> RunAll:
    """Run a function in several connected processes; return what each prints on stderr, and its status."""

    def run(
        count: int, work: Callable[..., None], *arguments: object, timeout: float = 300
    ) -> list[tuple[str, int]]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
        running = []
        for number in range(count):
            env, errors = shared | {"RANK": str(number), "LOCAL_RANK": str(number)}, tmp_path / f"errors.{number}"
            process = forks.Process(target=connected, args=(work, arguments, env, timeout, errors))
            process.start()
            running.append((process, errors))
        for process, _ in running:
            process.join(timeout=300)
        return [(errors.read_text().strip(), process.exitcode) for process, errors in running]

    return run


def assert_close(one: Any, other: Any) -> None:
    for name in ("losses", "gradients", "weights"):
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=1e-9)


def test_processes_equal_one_process_on_the_whole_batch(run_all: RunAll, tmp_path: Path) -> None:
    count = 3  # shards of different sizes
    assert [status for _, status in run_all(count, train_all, tmp_path)] == [0] * count
    results = [torch.load(tmp_path / f"results.{number}", weights_only=True) for number in range(count)]
    for kind, name in COMBINATIONS:
        alone = train_five_steps(kind, name)
        for result in results:
            assert_close(result[kind, name], alone)


def test_processes_that_were_stopped_or_killed_resume_to_the_same_bits(
    run_all: RunAll, tmp_path: Path, write_features: Callable[..., Path]
) -> None:
    """The signal, or the death, reaches one of them only; sums of three values depend on their order."""
    write_features(tmp_path / "train_nosil", 8, 4, prefix="t")
    assert [status for _, status in run_all(3, stop_and_resume, tmp_path)] == [0] * 3
    assert_same_training(tmp_path / "straight", tmp_path / "stopped")
    assert [status for _, status in run_all(3, train_or_die, tmp_path, 12)] == [1, 9, 1]
    assert load_checkpoint(tmp_path / "killed/checkpoint_last.pt")["step"] == 10
    assert [status for _, status in run_all(3, train_or_die, tmp_path, -1)] == [0] * 3
    assert_same_training(tmp_path / "straight", tmp_path / "killed")


def test_processes_end_early_together(
    run_all: RunAll, tmp_path: Path, write_features: Callable[..., Path]
) -> None:
    for part, prefix in (("train_nosil", "t"), ("dev_nosil", "d")):
        write_features(tmp_path / part, 8, 4, prefix=prefix)
    assert [status for _, status in run_all(2, end_early, tmp_path)] == [0, 0]
    assert len(rows_of(tmp_path / "early")) == 3


def sum_thrice(between: Callable[[], None]) -> None:
    all_reduce(torch.ones(1))
    between()
    all_reduce(torch.ones(1))
    all_reduce(torch.ones(1))


def lose(lost: int) -> None:
    sum_thrice(lambda: os._exit(9) if rank() == lost else None)


@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_process_ends_the_others_in_one_line(lost: int, run_all: RunAll) -> None:
    ends = run_all(3, lose, lost)
    assert ends.pop(lost) == ("", 9)
    for line, status in ends:
        assert status == 1
        assert re.fullmatch(r"lost another process \(.*\); the same command continues from the last checkpoint", line)


def hang() -> None:
    sum_thrice(lambda: time.sleep(5 * rank()))


def test_a_process_that_does_not_answer_ends_the_others_after_the_timeout(run_all: RunAll) -> None:
    ends = run_all(2, hang, timeout=3)
    assert ends[0][1] == 1
    assert re.fullmatch(r"lost another process \(.*[Tt]imed out.*\); the same command continues from .*", ends[0][0])


def share_two_rows() -> None:
    check_batch(3, "size")
    check_batch(2, "size")


def test_a_batch_that_leaves_a_rank_without_a_row_is_refused(run_all: RunAll) -> None:
    for line, status in run_all(3, share_two_rows):
        assert status == 1
        assert re.fullmatch(r"size: a batch of 2 is too small for 3 processes, .*", line), line


def disagree() -> None:
    check_agreement({"seed": 1}, Path("e"))
    check_agreement({"seed": 1, "the step": rank() // 2}, Path("e"))


def test_ranks_that_disagree_are_named(run_all: RunAll) -> None:
    for line, status in run_all(3, disagree):
        assert status == 1
        assert "the step is 0 for rank 0 (on " in line
        assert " and 1 for rank 2 (on " in line
        assert "all machines need the same e and data, on a shared file system" in line
