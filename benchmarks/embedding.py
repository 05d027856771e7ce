"""Compare embedding with the matrix products that the network needs, and with batch norms that are not folded.

    python -m benchmarks.embedding [SECONDS]      (default 4: the length of an utterance)

One thread embeds one utterance at a time, as stage 5 does. For some networks, this prints the seconds per second of
speech, the share of the speed of a float32 matrix product, and how much faster the network is with folded batch norms
than without. All figures are medians of the process's CPU time in alternating rounds, features not included.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch

from benchmarks.training import time_product
from deepspeaker.models import Network, build_model, describe, folded

NETWORKS = {
    "ResCNN 16-32-64-128": {"channels": [16, 32, 64, 128]},
    "ResCNN 32-64-128-256": {"channels": [32, 64, 128, 256]},
    "GRU 16 x 256, 3 layers": {"name": "gru", "channels": 16, "hidden": 256},
}
ROUNDS = 15


def seconds(network: Network, features: torch.Tensor) -> float:
    """Return the CPU seconds of one utterance."""
    begin = time.process_time()
    with torch.inference_mode():
        network.embed(features)
    return time.process_time() - begin


def main() -> None:
    torch.set_num_threads(1)
    speech = float(sys.argv[1]) if len(sys.argv) > 1 else 4.0
    features = torch.randn(1, round(100 * speech), 64)
    print(f"one core, utterances of {speech:g} s; median [lowest, highest] of {ROUNDS} rounds")
    for name, options in NETWORKS.items():
        for norm in ("channel", "sequence"):
            network = build_model(64, **options, batch_norm=norm).eval()
            fast = folded(network)
            operations = 2 * sum(layer.multiply_adds for layer in describe(network, features.shape[1]))
            seconds(network, features), seconds(fast, features)
            times: list[tuple[float, ...]] = []
            for _ in range(ROUNDS):
                product = time_product(time.process_time)
                times.append((seconds(network, features), seconds(fast, features), product))
            plain, quick, products = np.array(times).T
            gain, share = plain / quick, operations * products / quick
            print(
                f"{name}, batch norm by {norm}: {np.median(quick) / speech:.4f} s per second of speech, "
                f"{np.median(share):.2f} [{share.min():.2f}, {share.max():.2f}] of a matrix product's speed, "
                f"{np.median(gain):.2f} [{gain.min():.2f}, {gain.max():.2f}] times as fast as without folding"
            )


if __name__ == "__main__":
    main()
