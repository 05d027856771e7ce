"""Several processes train as one, each on its shard of every batch.

Losses and statistics are those of the whole batch. So the world size changes the speed and not the result. In a single
process the functions here do nothing.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from deepspeaker.errors import InputError


def world_size() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, counted from 0; rank 0 writes the files."""
    return dist.get_rank() if dist.is_initialized() else 0


def shard(batch: int) -> slice:
    """Return the rows of a batch that belong to this rank; shards differ by one row at most.

    Examples
    --------
    >>> shard(8)  # in a single process
    slice(0, 8, None)
    """
    return slice(batch * rank() // world_size(), batch * (rank() + 1) // world_size())


def check_batch(batch: int, setting: str) -> None:
    """Raise ``InputError`` that names ``setting`` if a batch of ``batch`` rows leaves a rank without a row."""
    if batch < world_size():
        raise InputError(
            f"{setting}: a batch of {batch} is too small for {world_size()} processes, each needs a row; take larger "
            "batches or fewer processes"
        )


def check_agreement(facts: dict[str, object], folder: Path) -> None:
    """Raise ``InputError`` if a rank has other ``facts`` than rank 0, such as another checkpoint in ``folder``."""
    if world_size() == 1:
        return
    found: list[Any] = [None] * world_size()
    dist.all_gather_object(found, (socket.gethostname(), facts))
    first_host, first = found[0]
    for number, (host, other) in enumerate(found):
        for name, value in other.items():
            if value != first[name]:
                raise InputError(
                    f"{name} is {first[name]} for rank 0 (on {first_host}) and {value} for rank {number} (on {host}); "
                    f"all machines need the same {folder} and data, on a shared file system"
                )


def all_gather(local: Tensor, batch: int) -> Tensor:
    """Gather the rows of all ranks; the gradient flows to the rows of this rank only.

    If each rank computes the loss of the whole batch, the sum of the ranks' gradients is the gradient of that loss.

    Parameters
    ----------
    local : Tensor, shape (rows, ...)
        This rank's shard.
    batch
        Rows of all ranks together.

    Returns
    -------
    Tensor, shape (batch, ...)
    """
    if world_size() == 1:
        return local
    rows = shard(batch)
    # A sum with zeros, because shards may differ in size, which gloo's all_gather does not accept.
    gathered = local.new_zeros((batch, *local.shape[1:]))
    gathered[rows] = local.detach()
    dist.all_reduce(gathered)
    return torch.cat([gathered[: rows.start], local, gathered[rows.stop :]])


def all_reduce(values: Tensor) -> Tensor:
    """Return ``values`` summed over the ranks, without gradient."""
    if world_size() > 1:
        values = values.detach().clone()
        dist.all_reduce(values)
    return values


def synchronise_batch_norm(network: nn.Module, device: torch.device, compiled: bool = False) -> None:
    """Make each batch norm of ``network`` use the statistics of all ranks; weights keep their names and values.

    On GPUs this is torch's SyncBatchNorm, which does not run on CPUs. ``compiled`` prepares the network for
    ``torch.compile``.
    """
    if device.type == "cuda":
        # In place, because the network itself is no batch norm.
        nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.__class__ = GlobalBatchNorm  # type: ignore[assignment]
            if compiled:
                # Dynamo traces the all-reduces into a graph that silently computes something else (torch 2.13). A
                # decorator on the class would import Dynamo, which takes two seconds.
                module.forward = torch.compiler.disable(module.forward)  # type: ignore[method-assign, no-untyped-call]


class GlobalBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm over the whole batch of all ranks, on any device."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        """Normalise the rows of this rank, shape (rows, channels, ...)."""
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


class _Normalised(torch.autograd.Function):
    """Batch norm over all ranks for x of shape (rows, channels, ...); the statistics have the weights' precision."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        dims = [d for d in range(x.ndim) if d != 1]
        shape = [1, -1] + [1] * (x.ndim - 2)
        values = x.to(weight.dtype)
        count = values.new_tensor([x.numel() / x.shape[1]])
        # Join each rank's mean and squares about it (Chan, Golub and LeVeque 1979), which avoids cancellation.
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
        local = torch.stack([gradient.sum(dims), (gradient * normal).sum(dims)])
        whole = local.clone()
        dist.all_reduce(whole)
        inner = gradient - (whole[0] / total).view(shape) - normal * (whole[1] / total).view(shape)
        # Weight and bias get the part of this rank; DistributedDataParallel adds the others.
        return ((weight * scale).view(shape) * inner).to(x.dtype), local[1], local[0], None
