"""Which precision to compute in: decided by a measurement, once."""

from __future__ import annotations

import copy
import time

import torch

from deepspeaker.models import Network

#: bfloat16 costs some exactness: it is taken when it is so many times as fast as float32.
WORTHWHILE = 1.2


def measured_precision(network: Network, crop_frames: int, device: torch.device, rows: int = 32) -> tuple[str, float]:
    """"bfloat16" or "float32", and how many times as fast as float32 training in bfloat16 is here.

    Takes the fastest of four steps forward and backward on ``rows`` crops in each precision, by turns; on a CPU the
    time is that of the processor, which other jobs disturb less. The network is not changed, no random state is
    touched.
    """
    trial = copy.deepcopy(network).to(device).train()
    features = torch.linspace(-1, 1, rows * crop_frames * network.feature_dim, device=device)
    features = features.sin().view(rows, crop_frames, network.feature_dim)
    times: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    for _ in range(5):
        for precision, its in times.items():
            _synchronise(device)
            begin = clock()
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                outputs = trial(features)
            outputs.square().mean().backward()
            _synchronise(device)
            its.append(clock() - begin)
    ratio = min(times["float32"][1:]) / min(times["bfloat16"][1:])
    return ("bfloat16" if ratio >= WORTHWHILE else "float32"), ratio


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
