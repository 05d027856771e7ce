"""Several processes train as one: each has a share of every batch, and all see statistics and embeddings of the whole.

Every process computes the loss of the whole batch, and the gradients of a parameter are *summed* over the processes:
each adds what flows through its own share. (DistributedDataParallel would average, and torch's own differentiable
gather sums over the copies of the loss; both would have to be undone.) Without torch.distributed everything here does
nothing.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from deepspeaker.errors import InputError
from deepspeaker.training.watch import TIMEOUT, Watch, stopped


def process_count() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def process_rank() -> int:
    """The number of this process, from 0; 0 writes the files."""
    return dist.get_rank() if dist.is_initialized() else 0


def process_device(device: torch.device) -> torch.device:
    """The GPU of this process when each has one of its own."""
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if device.type == "cuda" else device


@contextlib.contextmanager
def processes(device: torch.device) -> Iterator[None]:
    """Joins the processes that torchrun started (nccl on GPUs, else gloo); alone, nothing happens.

    When a process is lost or fails, what waits for it ends by an error that names it (see ``watch``): ``InputError``,
    or the end of the process where the agent that started it says so.
    """
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(seconds=TIMEOUT))
        watch = Watch()
    except RuntimeError as error:
        rank, count = os.environ["RANK"], os.environ["WORLD_SIZE"]
        raise InputError(f"process {rank} of {count} does not meet the others ({_short(error)})") from None
    ending = "ended"
    try:
        yield
    except InputError as error:
        raise stopped(watch.claim(f"process {watch.rank} of {watch.count}: {error}")) from error
    except RuntimeError as error:
        if not any(word in str(error) for word in ("onnection", "imed out", "imeout", "peer", "gloo", "NCCL")):
            ending = f"ended by {type(error).__name__}"
            raise
        raise stopped(watch.story_after_error()) from error
    except BaseException as error:
        ending = f"ended by {type(error).__name__}"
        raise
    finally:
        watch.ending(ending)
        with contextlib.suppress(RuntimeError):
            dist.destroy_process_group()
        watch.stop()


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


def check_batch(batch: int, setting: str) -> None:
    """Raises ``InputError`` when a batch of ``batch`` rows, as ``setting`` has it, has no row for some process."""
    if batch < process_count():
        raise InputError(
            f"{setting}: a batch of {batch} is too small for {process_count()} processes, each needs a share; "
            "take larger batches or fewer processes"
        )


def check_agreement(facts: dict[str, object], folder: Path) -> None:
    """Raises ``InputError`` where this process and process 0 have found different ``facts``."""
    if process_count() == 1:
        return
    found: list[Any] = [None] * process_count()
    dist.all_gather_object(found, (socket.gethostname(), facts))
    first_host, first = found[0]
    for rank, (host, its) in enumerate(found):
        for name, value in its.items():
            if value != first[name]:
                raise InputError(
                    f"{name} is {first[name]} for process 0 (on {first_host}) and {value} for process {rank} (on "
                    f"{host}); all machines need the same {folder} and data, on a file system that they share"
                )


def share(batch: int) -> slice:
    """The rows of a batch of ``batch`` rows that are this process'; shares differ by one row at most."""
    rank, count = process_rank(), process_count()
    return slice(batch * rank // count, batch * (rank + 1) // count)


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, mine: Tensor, batch: int) -> Tensor:
        own = share(batch)
        ctx.own = own
        whole = mine.new_zeros((batch, *mine.shape[1:]))
        whole[own] = mine
        dist.all_reduce(whole)  # the shares may differ in size, which all_gather does not take everywhere
        return whole

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient[ctx.own], None


def gathered(mine: Tensor, batch: int) -> Tensor:
    """The rows of all processes, (batch, ...), from this process' share; the gradient of its own rows flows back."""
    if process_count() == 1:
        return mine
    whole: Tensor = _Gathered.apply(mine, batch)  # type: ignore[no-untyped-call]
    return whole


def summed(values: Tensor) -> Tensor:
    """``values`` summed over the processes, without gradient."""
    if process_count() > 1:
        values = values.detach().clone()
        dist.all_reduce(values)
    return values


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Sums each parameter's gradient over the processes, in one message."""
    if process_count() == 1:
        return
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    for gradient, total in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(total.view_as(gradient))


def broadcast(value: Any) -> Any:
    """``value`` of process 0, in all processes."""
    if process_count() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


class _Normalised(torch.autograd.Function):
    """Batch norm over all processes of x (rows, channels, ...), its statistics in float32 at least."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        dims = [d for d in range(x.ndim) if d != 1]
        shape = [1, -1] + [1] * (x.ndim - 2)
        values = x.to(weight.dtype)
        count = values.new_tensor([x.numel() / x.shape[1]])
        # Each process' mean and squares about it, joined (Chan, Golub and LeVeque 1979): no cancellation.
        mean = values.mean(dims)
        squares = (values - mean.view(shape)).square().sum(dims)
        first = torch.cat([count, count * mean])
        dist.all_reduce(first)
        total, whole_mean = first[:1], first[1:] / first[:1]
        squares += count * (mean - whole_mean).square()
        dist.all_reduce(squares)
        variance = squares / total
        scale = (variance + eps).rsqrt()
        normal = (values - whole_mean.view(shape)) * scale.view(shape)
        ctx.save_for_backward(x, weight, whole_mean, scale, total)
        return (normal * weight.view(shape) + bias.view(shape)).to(x.dtype), whole_mean, variance, total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, scale, total = ctx.saved_tensors
        dims = [d for d in range(x.ndim) if d != 1]
        shape = [1, -1] + [1] * (x.ndim - 2)
        normal = (x.to(weight.dtype) - mean.view(shape)) * scale.view(shape)
        gradient = gradient.to(weight.dtype)
        own = torch.stack([gradient.sum(dims), (gradient * normal).sum(dims)])
        whole = own.clone()
        dist.all_reduce(whole)
        inner = gradient - (whole[0] / total).view(shape) - normal * (whole[1] / total).view(shape)
        # Weight and bias get this process' part only: sum_gradients adds the others'.
        return ((weight * scale).view(shape) * inner).to(x.dtype), own[1], own[0], None


class GlobalBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm whose training statistics are those of the whole batch of all processes, on any device.

    torch's SyncBatchNorm refuses tensors on the CPU.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        output, mean, variance, total = _Normalised.apply(input, self.weight, self.bias, self.eps)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
            assert self.num_batches_tracked is not None
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * total / (total - 1), self.momentum)
        return output  # type: ignore[no-any-return]


def with_global_batch_norm(network: nn.Module, *, compiled: bool = False) -> None:
    """Gives each batch norm of ``network`` its statistics over all processes; names and values of weights stay.

    A network that ``torch.compile`` will take needs ``compiled``: its batch norms then run as they stand here.
    """
    if process_count() == 1:
        return
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.__class__ = GlobalBatchNorm  # type: ignore[assignment]
            if compiled:
                # Dynamo traces the all-reduces in place of _Normalised into a graph that computes something else, and
                # says nothing (seen with torch 2.13). Not a decorator of the class: that imports Dynamo, two seconds.
                module.forward = torch.compiler.disable(module.forward)  # type: ignore[method-assign, no-untyped-call]
