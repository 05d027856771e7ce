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

    Takes the fastest of three steps forward and backward on ``rows`` crops in each precision, by turns; the network
    is not changed, no random state is touched.
    """
    trial = copy.deepcopy(network).to(device).train()
    features = torch.linspace(-1, 1, rows * crop_frames * network.feature_dim, device=device)
    features = features.sin().view(rows, crop_frames, network.feature_dim)
    times: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    for _ in range(4):
        for precision, its in times.items():
            _synchronise(device)
            begin = time.perf_counter()
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                outputs = trial(features)
            outputs.square().mean().backward()
            _synchronise(device)
            its.append(time.perf_counter() - begin)
    ratio = min(times["float32"][1:]) / min(times["bfloat16"][1:])
    return ("bfloat16" if ratio >= WORTHWHILE else "float32"), ratio


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
