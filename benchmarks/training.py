"""Compare the training loop with the bare network: how much of the machine's speed reaches training.

    python -m benchmarks.training [CONFIG]      (default conf/default.yaml)

Alternating rounds measure the whole loop on a corpus of random features, and a bare loop of the same network and
classifier on tensors in memory, written here with torch alone. The bare loop reads nothing on the host and does not use
torch's deterministic algorithms. So the ratio shows every wait for the device and every other cost of the loop. On a
GPU the loop is also measured with one more wait: a read of the loss before the backward pass.

The benchmark also measures the loader alone, bfloat16 where the hardware computes in it, and the network compiled by
torch.compile (which needs a C++ compiler on a CPU). Each speed of the network is printed in floating-point operations
too: on a CPU as a share of the speed of a matrix product in float32, measured in the same rounds, and on the GPUs of
``PEAKS`` as a share of the peak. On a CPU, the operations of a step that take most time are listed at the end,
with the page faults of a step.
"""

from __future__ import annotations

import contextlib
import io
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.corpus import make_features
from deepspeaker.config import Config, load_config
from deepspeaker.features import FeatureIndex
from deepspeaker.models import Network, build_model, choose_device, describe, parameter_count
from deepspeaker.training import (
    Batch,
    BatchLoader,
    Checkpoints,
    SoftmaxObjective,
    UtteranceSampler,
    fast_precision,
    train,
)

#: Steps of a measurement, the untimed steps at its beginning, and the number of rounds.
STEPS, WARM_UP, ROUNDS = 14, 4, 4

#: TFLOP/s of dense products by NVIDIA's data sheets of A100, H100 SXM, H100 PCIe and H200. For bfloat16 and TF32, the
#: sheets of the last three give twice as much, "with sparsity".
PEAKS = {
    "NVIDIA A100": {"bfloat16": 312.0, "tf32": 156.0, "float32": 19.5},
    "NVIDIA H100 80GB HBM3": {"bfloat16": 989.4, "tf32": 494.7, "float32": 66.9},
    "NVIDIA H100 PCIe": {"bfloat16": 756.0, "tf32": 378.0, "float32": 51.2},
    "NVIDIA H200": {"bfloat16": 989.4, "tf32": 494.7, "float32": 66.9},
}


class TimedSampler:
    """A sampler that records when each batch is requested."""

    def __init__(self, sampler: UtteranceSampler) -> None:
        self.sampler = sampler
        self.times: list[float] = []

    def batch(self, step: int) -> Batch:
        self.times.append(time.perf_counter())
        return self.sampler.batch(step)


class WaitingObjective(SoftmaxObjective):
    """An objective that reads its loss before the backward pass."""

    def forward(self, features: Tensor, speakers: Tensor, step: int) -> tuple[Tensor, Tensor]:
        loss, metrics = super().forward(features, speakers, step)
        float(loss.detach())
        return loss, metrics


def fresh(config: Config, index: FeatureIndex) -> Network:
    torch.manual_seed(0)
    return build_model(index.feature_dim, **config.model.model_dump())


def time_loop(
    config: Config, index: FeatureIndex, device: torch.device, kind: type[SoftmaxObjective] = SoftmaxObjective
) -> float:
    """Return the seconds per step of the whole loop."""
    options = config.softmax
    network = fresh(config, index)
    objective = kind(network, network.embedding_dim, len(index.speakers))
    sampler = TimedSampler(UtteranceSampler(len(index), options.batch_size, 0))
    about = {
        "config": config.model_dump(),
        "stage": "softmax",
        "seed": 0,
        "feature_dim": index.feature_dim,
        "speakers": index.speakers,
        "origin": "",
    }
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        checkpoints = Checkpoints(Path(folder), about)
        train(objective, sampler, index, None, options, (20.0, 7600.0), checkpoints, device=device, progress=False)
    # The loader is one batch ahead: it requests batch n + 1 when step n begins.
    return (sampler.times[-1] - sampler.times[WARM_UP]) / (len(sampler.times) - 1 - WARM_UP)


def time_network(
    config: Config, index: FeatureIndex, device: torch.device, precision: str, compiled: bool = False
) -> float:
    """Return the seconds per step of forward, backward and update, without reading any result."""
    options = config.softmax
    network = fresh(config, index).to(device).train()
    classifier = nn.Linear(network.embedding_dim, len(index.speakers), device=device)
    forward: Callable[[Tensor], Tensor] = torch.compile(network) if compiled else network
    parameters = [*network.parameters(), *classifier.parameters()]
    optimizer: torch.optim.Optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    if options.optimizer.name == "sgd":
        optimizer = torch.optim.SGD(parameters, lr=1e-3, momentum=options.optimizer.momentum)
    features = torch.randn(options.batch_size, options.crop_frames, index.feature_dim, device=device)
    speakers = torch.arange(options.batch_size, device=device) % len(index.speakers)
    begin = 0.0
    for step in range(STEPS):
        if step == WARM_UP:
            synchronise(device)
            begin = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            outputs = forward(features)
        loss = F.cross_entropy(classifier(outputs), speakers)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
    synchronise(device)
    return (time.perf_counter() - begin) / (STEPS - WARM_UP)


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def time_product(clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the seconds per floating-point operation of a product of two float32 matrices on the CPU."""
    matrix = torch.randn(1024, 1024)
    matrix @ matrix
    begin = clock()
    for _ in range(20):
        matrix @ matrix
    return (clock() - begin) / (20 * 2 * 1024**3)


def operations(
    device: torch.device, network: Network, config: Config, precision: str, seconds: float, product: float
) -> str:
    """Return the speed of a step in words. The backward pass costs twice the forward; a product is two operations."""
    products = sum(layer.multiply_adds for layer in describe(network, config.softmax.crop_frames))
    speed = 3 * 2 * products * config.softmax.batch_size / seconds
    if device.type != "cuda":
        return f"{speed / 1e9:.1f} GFLOP/s, {speed * product:.2f} of a matrix product's speed"
    if precision == "float32" and torch.backends.cudnn.allow_tf32:
        precision = "tf32"  # cuDNN then computes the convolutions in TF32
    name = torch.cuda.get_device_name(device)
    peak = next((peaks[precision] for known, peaks in PEAKS.items() if name.startswith(known)), None)
    share = f", {speed / 1e12 / peak:.1%} of the peak in {precision}" if peak else ""
    return f"{speed / 1e12:.2f} TFLOP/s{share}"


def time_loader(config: Config, index: FeatureIndex) -> float:
    """Return the seconds per batch to read it and make it a tensor."""
    options = config.softmax
    sampler = UtteranceSampler(len(index), options.batch_size, 1)
    loader = BatchLoader(sampler, index, options.crop_frames, [], (20.0, 7600.0), torch.device("cpu"))
    begin = time.perf_counter()
    for _ in loader.load(0, 100):
        pass
    return (time.perf_counter() - begin) / 100


def main() -> None:
    config = load_config(sys.argv[1] if len(sys.argv) > 1 else "conf/default.yaml")
    device = choose_device("auto")
    precision = fast_precision(device)
    shape = {"epochs": 1, "steps_per_epoch": STEPS, "precision": precision, "vtlp": [], "accumulate": 1}
    one = config.softmax.model_copy(update=shape)
    config = config.model_copy(update={"softmax": one})
    measured: dict[str, Callable[[], float]] = {
        "loop": lambda: time_loop(config, index, device),
        "float32": lambda: time_network(config, index, device, "float32"),
        "bfloat16": lambda: time_network(config, index, device, "bfloat16"),
        "compiled": lambda: time_network(config, index, device, precision, compiled=True),
        "waiting": lambda: time_loop(config, index, device, WaitingObjective),
    }
    if precision == "float32":
        del measured["bfloat16"]
    if device.type == "cpu":
        del measured["waiting"]
        measured["product"] = time_product
    with tempfile.TemporaryDirectory() as folder:
        index = FeatureIndex(make_features(Path(folder), 100, 20, 400, config.features.num_bins, "one-byte"))
        network = fresh(config, index)
        name = torch.cuda.get_device_name() if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
        size = f"batches of {one.batch_size} x {one.crop_frames} frames"
        print(f"{name}, {precision}: {parameter_count(network):,} parameters, {size}")
        rounds = [{what: measure() for what, measure in measured.items()} for _ in range(ROUNDS)]
        seconds = {what: np.array([times[what] for times in rounds]) for what in measured}
        loader = time_loader(config, index)
    product = float(np.median(seconds.pop("product", np.nan)))
    for what, times in seconds.items():
        middle = float(np.median(times))
        used = what if what in ("float32", "bfloat16") else precision
        speed = operations(device, network, config, used, middle, product)
        print(f"{what}: {one.batch_size / middle:.0f} utterances/s, {speed}")
    print(f"loop: {ratio(seconds[precision], seconds['loop'])} of the bare network's speed")
    print(f"loader alone: {np.median(seconds['loop']) / loader:.0f} times what training consumes")
    if "bfloat16" in seconds:
        print(f"bfloat16: {ratio(seconds['float32'], seconds['bfloat16'])} times as fast as float32")
    if "waiting" in seconds:
        print(f"with a wait before the backward pass: {ratio(seconds['loop'], seconds['waiting'])} of the loop's speed")
    print(f"torch.compile: {ratio(seconds[precision], seconds['compiled'])} times as fast as without")
    if device.type == "cpu":
        with torch.profiler.profile() as profile:
            time_network(config, index, device, precision)
        print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=12, max_name_column_width=40))
        before = resource.getrusage(resource.RUSAGE_SELF)
        time_network(config, index, device, precision)
        after = resource.getrusage(resource.RUSAGE_SELF)
        kernel, user = after.ru_stime - before.ru_stime, after.ru_utime - before.ru_utime
        faults = (after.ru_minflt - before.ru_minflt) / STEPS
        print(f"a step: {faults:.0f} page faults, {kernel / (kernel + user):.1%} of the processor time in the kernel")


def ratio(above: Any, below: Any) -> str:
    """Return the median of the rounds' ratios, and all of them."""
    ratios = above / below
    return f"{np.median(ratios):.2f} (rounds: {', '.join(f'{one:.2f}' for one in ratios)})"


if __name__ == "__main__":
    main()
