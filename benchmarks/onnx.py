"""Compare onnxruntime with torch: seconds per second of speech, and the time from a process's start to an embedding.

    python -m benchmarks.onnx [SECONDS]      (default 4: the length of an utterance)

One thread embeds one utterance at a time, from samples. For the networks of conf/default.yaml and conf/small_gru.yaml,
with fresh weights, this prints the CPU time of torch, of onnxruntime, and of onnxruntime with eight-bit weights. Ratios
are medians [lowest, highest] of alternating rounds. Then it starts processes that read a file and embed it with numpy,
soundfile and onnxruntime only, and compares them with processes that only import torch.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import soundfile
import torch

from benchmarks.startup import seconds as process_seconds
from deepspeaker.config import load_config
from deepspeaker.export import quantise, write_onnx
from deepspeaker.features import FrontEnd
from deepspeaker.models import build_model, folded

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ("default", "small_gru")
ROUNDS, STARTS = 15, 5
#: Embed a file in a new process; the arguments are the graph and the file.
SCRIPT = """
import sys
import soundfile, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
samples, rate = soundfile.read(sys.argv[2], dtype="float32")
embedding = session.run(["embedding"], {"samples": samples})[0]
assert embedding.any()
"""


def speech(seconds: float, rate: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Return bursts of noise, about the share of speech of read sentences."""
    time_of = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).normal(size=len(time_of))
    return (0.1 * noise * np.clip(0.4 + np.sin(2 * np.pi * 2 * time_of), 0.001, 1)).astype(np.float32)


def session(path: Path) -> onnxruntime.InferenceSession:
    """Load a graph for one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def cpu_seconds(function: Callable[[], object]) -> float:
    """Return the CPU time of a call."""
    begin = time.process_time()
    function()
    return time.process_time() - begin


def summary(values: list[float]) -> str:
    """Return the median and the range as text."""
    return f"{statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


def measure(config: str, folder: Path, length: float) -> None:
    """Print the figures of one configuration."""
    settings = load_config(ROOT / f"conf/{config}.yaml")
    torch.manual_seed(0)
    network = build_model(settings.features.num_bins, **settings.model.model_dump()).eval()
    graph, small = folder / f"{config}.onnx", folder / f"{config}.int8.onnx"
    write_onnx(network, settings.features, graph)
    quantise(graph, small)
    wave = speech(length, settings.features.sampling_rate)
    samples, inputs = torch.from_numpy(wave), {"samples": wave}
    front_end, fast, plain, quantised = (
        FrontEnd(settings.features),
        folded(network),
        session(graph),
        session(small),
    )

    with torch.inference_mode():
        calls: dict[str, Callable[[], object]] = {
            "torch": lambda: fast.embed(front_end(samples).features[None]),
            "onnx": lambda: plain.run(["embedding"], inputs),
            "int8": lambda: quantised.run(["embedding"], inputs),
            "front end in torch": lambda: front_end(samples),
        }
        for call in calls.values():
            call(), call()
        rounds = [{name: cpu_seconds(call) for name, call in calls.items()} for _ in range(ROUNDS)]
    print(f"{config}: {graph.stat().st_size / 1e6:.1f} MB, int8 {small.stat().st_size / 1e6:.1f} MB")
    for name in calls:
        share = statistics.median(measured[name] for measured in rounds) / length
        ratio = summary([measured[name] / measured["torch"] for measured in rounds])
        print(f"  {name:19s} {share:.5f} s per second of speech, {ratio} times the CPU time of torch")


def measure_start(folder: Path, length: float) -> None:
    """Print the times from the start of a process to its end, with an embedding."""
    wav = folder / "speech.wav"
    soundfile.write(wav, speech(length, 16000), 16000)
    commands = {"import torch": [sys.executable, "-c", "import torch"]}
    for config in CONFIGS:
        commands[f"{config}.onnx"] = [sys.executable, "-c", SCRIPT, str(folder / f"{config}.onnx"), str(wav)]
    for command in commands.values():
        process_seconds(command, folder)  # so that the files are in memory
    rounds = [{name: process_seconds(command, folder) for name, command in commands.items()} for _ in range(STARTS)]
    print(f"from the start of a process to the embedding of {length:g} s:")
    for name in commands:
        wall = summary([measured[name][0] for measured in rounds])
        ratio = summary([measured[name][1] / measured["import torch"][1] for measured in rounds])
        print(f"  {name:15s} {wall} s wall, {ratio} times the processor time of importing torch")


def main() -> None:
    torch.set_num_threads(1)
    length = float(sys.argv[1]) if len(sys.argv) > 1 else 4.0
    print(f"one core, utterances of {length:g} s; median [lowest, highest] of {ROUNDS} rounds")
    with tempfile.TemporaryDirectory() as folder:
        for config in CONFIGS:
            measure(config, Path(folder), length)
        measure_start(Path(folder), length)


if __name__ == "__main__":
    main()
