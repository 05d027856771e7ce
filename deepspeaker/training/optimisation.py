"""The optimiser and the learning rate of a step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def learning_rate(
    step: int,
    steps: int,
    *,
    learning_rate: float,
    final_learning_rate: float,
    schedule: str,
    warmup_steps: int,
) -> float:
    """The learning rate of a step counted from 0.

    Over ``warmup_steps`` it rises linearly to ``learning_rate``, then falls to ``final_learning_rate`` at ``steps``:
    "linear" evenly, "cosine" along half a cosine (SGDR, arXiv 1608.03983, without restarts).
    """
    if step < warmup_steps:
        return learning_rate * (step + 1) / (warmup_steps + 1)
    progress = min((step - warmup_steps) / max(steps - warmup_steps, 1), 1.0)
    remaining = 1.0 - progress if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
    return final_learning_rate + (learning_rate - final_learning_rate) * remaining


def build_optimiser(
    modules: Iterable[nn.Module], name: str, momentum: float, weight_decay: float
) -> torch.optim.Optimizer:
    """AdamW or SGD with momentum; weight decay holds for weights of two dimensions or more, not for norms and biases.

    The learning rate is set anew before every step.
    """
    parameters = [parameter for module in modules for parameter in module.parameters()]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    if name == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=momentum)
    return torch.optim.AdamW(groups, lr=0.0)


def norm_of_gradient(parameters: Sequence[nn.Parameter], clip: float) -> Tensor:
    """The length of the whole gradient, a scalar; with ``clip`` above 0 a longer gradient is then cut to it."""
    if clip:
        return nn.utils.clip_grad_norm_(parameters, clip)
    return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
