from __future__ import annotations

import math
import subprocess
import sys
from itertools import pairwise

import pytest
from torch import nn

from deepspeaker.models import build_model
from deepspeaker.training import SoftmaxObjective, build_optimizer, learning_rate


def rates(schedule: str, steps: int, warmup_steps: int, final: float = 0.001) -> list[float]:
    options = {"learning_rate": 0.1, "final_learning_rate": final, "schedule": schedule, "warmup_steps": warmup_steps}
    return [learning_rate(step, steps, **options) for step in range(steps + 1)]


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_warm_up_is_linear_and_the_schedule_ends_at_the_final_rate(schedule: str) -> None:
    values = rates(schedule, 100, 9)
    assert values[:10] == pytest.approx([0.01 * step for step in range(1, 11)], rel=1e-12)
    assert values[9] == max(values) == pytest.approx(0.1, rel=1e-12)
    assert values[100] == pytest.approx(0.001, rel=1e-9)
    assert all(a > b for a, b in pairwise(values[9:]))


def test_the_schedule_of_the_paper_is_linear_from_the_first_step() -> None:
    values = [
        learning_rate(step, 200, learning_rate=0.05, final_learning_rate=0.005, schedule="linear", warmup_steps=0)
        for step in range(201)
    ]
    assert values[0] == 0.05
    assert values[100] == pytest.approx(0.0275, rel=1e-12)
    assert values[200] == pytest.approx(0.005, rel=1e-12)
    assert [a - b for a, b in pairwise(values)] == pytest.approx([0.045 / 200] * 200, rel=1e-9)


def test_cosine_schedule_is_half_a_cosine() -> None:
    values = rates("cosine", 60, 20, final=0.02)
    expected = [0.02 + 0.08 * (1 + math.cos(math.pi * step / 40)) / 2 for step in range(41)]
    assert values[20:] == pytest.approx(expected, rel=1e-12)


def test_a_warm_up_longer_than_the_training_never_reaches_the_learning_rate() -> None:
    values = rates("cosine", 5, 20)
    assert values == pytest.approx([0.1 * step / 21 for step in range(1, 7)], rel=1e-12)
    assert learning_rate(7, 5, learning_rate=1, final_learning_rate=0.5, schedule="linear", warmup_steps=0) == 0.5


@pytest.mark.parametrize("name", ["adamw", "sgd"])
@pytest.mark.parametrize("kind", ["channel", "sequence"])
def test_weight_decay_applies_to_matrices_and_kernels_only(name: str, kind: str) -> None:
    network = build_model(8, channels=[2, 3], blocks=1, embedding_dim=4, batch_norm=kind)
    objective = SoftmaxObjective(network, 4, 5)
    optimizer = build_optimizer(objective, name, 0.9, 0.3)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    count = 0
    for module in objective.modules():
        for parameter_name, parameter in module.named_parameters(recurse=False):
            weight = isinstance(module, nn.Conv2d | nn.Linear) and parameter_name == "weight"
            assert decay[id(parameter)] == (0.3 if weight else 0.0)
            count += 1
    assert count == len(decay) == sum(len(group["params"]) for group in optimizer.param_groups)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_optimizer_steps_against_the_formulas(name: str) -> None:
    """SGD with Polyak's momentum; AdamW of arXiv 1711.05101, algorithm 2."""
    rate, momentum, decay = 0.1, 0.9, 0.2
    layer = nn.Linear(1, 1).double()
    optimizer = build_optimizer(layer, name, momentum, decay)
    weight, bias = float(layer.weight.detach()), float(layer.bias.detach())
    moments = [[0.0, 0.0], [0.0, 0.0]]
    for step in range(1, 5):
        (layer.weight * 3 + layer.bias**2).sum().backward()
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad()
        values = []
        for (value, gradient, decayed), moment in zip(
            [(weight, 3.0, decay), (bias, 2 * bias, 0.0)], moments, strict=True
        ):
            if name == "sgd":
                moment[0] = momentum * moment[0] + gradient + decayed * value
                values.append(value - rate * moment[0])
            else:
                moment[0] = 0.9 * moment[0] + 0.1 * gradient
                moment[1] = 0.999 * moment[1] + 0.001 * gradient**2
                scaled = moment[0] / (1 - 0.9**step) / (math.sqrt(moment[1] / (1 - 0.999**step)) + 1e-8)
                values.append(value - rate * decayed * value - rate * scaled)
        weight, bias = values
        assert [layer.weight.item(), layer.bias.item()] == pytest.approx([weight, bias])


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_an_optimizer_does_not_import_the_compiler(name: str) -> None:
    code = f"""
import sys
from torch import nn, ones
from deepspeaker.training import build_optimizer
layer = nn.Linear(2, 1)
optimizer = build_optimizer(layer, {name!r}, 0.9, 0.1)
layer(ones(1, 2)).sum().backward()
optimizer.step()
optimizer.zero_grad()
optimizer.load_state_dict(optimizer.state_dict())
assert "torch._dynamo" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
