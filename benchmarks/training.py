"""The training loop against the bare network: how much of the machine's speed reaches training.

    python -m benchmarks.training [CONFIG]      (default conf/default.yaml)

In one run, by turns: the whole loop on a corpus of random features, and forward, backward and update of the same
network on tensors that lie in memory, in the same precision. Then the loader alone, the two precisions, and the same
network through torch.compile (for which a CPU needs a C++ compiler). Each speed of the network is told in
floating-point operations too, and on a GPU of ``PEAKS`` as a share of what the device can do at most.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.corpus import make_features
from deepspeaker.config import load_config
from deepspeaker.features import FeatureIndex
from deepspeaker.models import Network, build_model, choose_device, describe, parameter_count
from deepspeaker.training import Batch, UtteranceSampler
from deepspeaker.training.batches import Batches
from deepspeaker.training.checkpoints import Checkpoints
from deepspeaker.training.loop import train
from deepspeaker.training.objectives import SoftmaxObjective
from deepspeaker.training.optimisation import build_optimiser

STEPS, ROUNDS = 12, 4

#: TFLOP/s by NVIDIA's data sheets of A100, H100 SXM, H100 PCIe and H200: of dense products, where the sheets of the
#: last three tell the double, "with sparsity", for bfloat16 and TF32.
PEAKS = {
    "NVIDIA A100": {"bfloat16": 312.0, "tf32": 156.0, "float32": 19.5},
    "NVIDIA H100 80GB HBM3": {"bfloat16": 989.4, "tf32": 494.7, "float32": 66.9},
    "NVIDIA H100 PCIe": {"bfloat16": 756.0, "tf32": 378.0, "float32": 51.2},
    "NVIDIA H200": {"bfloat16": 989.4, "tf32": 494.7, "float32": 66.9},
}


class Timed:
    """A sampler that notes when it is asked."""

    def __init__(self, sampler: UtteranceSampler) -> None:
        self.sampler = sampler
        self.times: list[float] = []

    def batch(self, step: int) -> Batch:
        self.times.append(time.perf_counter())
        return self.sampler.batch(step)


def fresh(config: Any, index: FeatureIndex) -> tuple[Any, SoftmaxObjective]:
    torch.manual_seed(0)
    network = build_model(index.feature_dim, **config.model.model_dump())
    return network, SoftmaxObjective(network.embedding_dim, len(index.speakers))


def of_the_loop(config: Any, index: FeatureIndex, device: torch.device) -> float:
    """Seconds a step of the whole loop, the first two steps apart."""
    network, objective = fresh(config, index)
    sampler = Timed(UtteranceSampler(len(index), config.softmax.batch_size, 0))
    with tempfile.TemporaryDirectory() as folder:
        train(
            network,
            objective,
            sampler,
            index,
            None,
            Checkpoints(
                Path(folder),
                config=config.model_dump(),
                section="softmax",
                seed=0,
                feature_dim=index.feature_dim,
                speakers=index.speakers,
            ),
            device=device,
            progress=False,
        )
    # The reader is one batch ahead: the last request lies a step before the end.
    return float(np.median(np.diff(sampler.times)[3:]))


def of_the_network(
    config: Any, index: FeatureIndex, device: torch.device, precision: str, compiled: bool = False
) -> float:
    """Seconds a step of forward, backward and update, the first two apart."""
    network, objective = fresh(config, index)
    network.to(device)
    objective.to(device)
    network.train()
    forward = torch.compile(network) if compiled else network
    options = config.softmax.optimiser
    optimiser = build_optimiser((network, objective), options.name, options.momentum, options.weight_decay)
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    rows = config.softmax.batch_size
    features = torch.randn(rows, config.softmax.crop_frames, index.feature_dim, device=device)
    speakers = torch.arange(rows, device=device) % len(index.speakers)
    times = []
    for step in range(STEPS):
        begin = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            outputs = forward(features)
        loss, _ = objective(outputs, speakers, step)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        optimiser.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return float(np.median(times[2:]))


def operations(device: torch.device, network: Network, config: Any, precision: str, seconds: float) -> str:
    """What a step of ``seconds`` computes: forward and backward, which is twice the forward; 2 operations a product."""
    products = sum(layer.multiply_adds for layer in describe(network, config.softmax.crop_frames))
    a_second = 3 * 2 * products * config.softmax.batch_size / seconds
    if device.type != "cuda":
        return f"{a_second / 1e9:.1f} GFLOP/s"
    if precision == "float32" and torch.backends.cudnn.allow_tf32:
        precision = "tf32"  # what cuDNN then computes the convolutions in
    name = torch.cuda.get_device_name(device)
    peak = next((peaks[precision] for known, peaks in PEAKS.items() if name.startswith(known)), None)
    share = f", {a_second / 1e12 / peak:.1%} of the peak in {precision}" if peak else ""
    return f"{a_second / 1e12:.2f} TFLOP/s{share}"


def of_the_loader(config: Any, index: FeatureIndex) -> float:
    """Seconds a batch takes to be read and made a tensor."""
    options = config.softmax
    sampler = UtteranceSampler(len(index), options.batch_size, 1)
    batches = Batches(
        sampler, index, options.crop_frames, [], (20.0, 7600.0), torch.device("cpu"), Path("log")
    )
    begin = time.perf_counter()
    for _ in batches.numbers(0, 100):
        pass
    return (time.perf_counter() - begin) / 100


def main() -> None:
    config = load_config(sys.argv[1] if len(sys.argv) > 1 else "conf/default.yaml")
    device = choose_device("auto")
    one = config.softmax.model_copy(update={"epochs": 1, "steps_per_epoch": STEPS, "precision": "bfloat16"})
    config = config.model_copy(update={"softmax": one})
    with tempfile.TemporaryDirectory() as folder:
        index = FeatureIndex(make_features(Path(folder), 100, 20, 400, config.features.num_bins, "one-byte"))
        network, _ = fresh(config, index)
        name = torch.cuda.get_device_name() if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
        size = f"batches of {one.batch_size} x {one.crop_frames} frames"
        print(f"{name}: {parameter_count(network):,} parameters, {size}")
        loop, bare, single, compiled = [], [], [], []
        for _ in range(ROUNDS):
            loop.append(of_the_loop(config, index, device))
            bare.append(of_the_network(config, index, device, "bfloat16"))
            single.append(of_the_network(config, index, device, "float32"))
            compiled.append(of_the_network(config, index, device, "bfloat16", compiled=True))
        loader = of_the_loader(config, index)
        ratios = np.array(bare) / np.array(loop)
        speeds = [one.batch_size / float(np.median(times)) for times in (loop, bare)]
        rounds = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"the loop {speeds[0]:.0f} utterances/s, the network alone {speeds[1]:.0f}")
        print(f"the loop reaches {np.median(ratios):.2f} of the network's speed (rounds: {rounds})")
        print(f"loader alone: {np.median(loop) / loader:.0f} times what training consumes")
        print(f"bfloat16: {np.median(np.array(single) / np.array(bare)):.2f} times as fast as float32")
        for kind, precision, times in (
            ("float32", "float32", single),
            ("bfloat16", "bfloat16", bare),
            ("bfloat16, compiled", "bfloat16", compiled),
        ):
            seconds = float(np.median(times))
            done = operations(device, network, config, precision, seconds)
            print(f"{kind}: {one.batch_size / seconds:.0f} utterances/s, {done}")
        print(f"torch.compile: {np.median(np.array(bare) / np.array(compiled)):.2f} times as fast as without")


if __name__ == "__main__":
    main()
