"""The optimizers of the training loop."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer


def build_optimizer(module: nn.Module, name: str, momentum: float, weight_decay: float) -> Optimizer:
    """Return AdamW or SGD with momentum; set the learning rate before every step.

    Weight decay applies to weights with two dimensions or more, not to biases and batch norms.
    """
    parameters = list(module.parameters())
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    kind, options = (SGD, {"momentum": momentum}) if name == "sgd" else (AdamW, {})
    optimizer: Optimizer = _light(kind)(groups, lr=0.0, **options)
    return optimizer


def _light(optimizer: Any) -> Any:
    """Return a subclass without torch's decorators for `torch.compile`, which does not see the optimizer.

    At their first call they import torch's compiler, which takes two seconds.
    """
    names = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    methods = {name: inspect.unwrap(getattr(optimizer, name)) for name in names}
    return type(optimizer.__name__, (optimizer,), {**methods, "step": torch.no_grad()(inspect.unwrap(optimizer.step))})
