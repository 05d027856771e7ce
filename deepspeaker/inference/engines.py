"""The two ways to compute an embedding from samples: torch, and onnxruntime without torch."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from deepspeaker.errors import InputError
from deepspeaker.inference.description import INT8_ONNX, ONNX, WEIGHTS, Description, checked_file


class Analysis(NamedTuple):
    """What a network and its front end make of a recording."""

    embedding: NDArray[np.float32]
    """(dim,), of unit length; zeros if there is no speech."""
    speech: NDArray[np.float32]
    """(frames,), 1 for speech."""
    log_mel: NDArray[np.float32]
    """(frames, bins), natural logarithms, before normalisation."""


class Engine(Protocol):
    """Computes embeddings. It can be called from several threads at once."""

    name: str

    def analyse(self, samples: NDArray[np.float32]) -> Analysis:
        """Analyse samples (n,) in [-1, 1] at the sampling rate of the model's features."""


class OnnxEngine:
    """A graph from samples to the embedding in onnxruntime, on one thread."""

    def __init__(self, folder: Path, description: Description, graph: str = ONNX) -> None:
        import onnxruntime

        self.name = "onnx" if graph == ONNX else "int8"
        path = checked_file(folder, description, graph)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own exceptions have no common base
            raise InputError(f"{path}: onnxruntime cannot load it ({' '.join(str(error).split())[:200]})") from None

    def analyse(self, samples: NDArray[np.float32]) -> Analysis:
        """Run the graph."""
        found: list[Any] = self._session.run(["embedding", "speech", "log_mel"], {"samples": samples})
        return Analysis(*found)


class TorchEngine:
    """The weights ``network.safetensors`` in torch."""

    name = "torch"

    def __init__(self, folder: Path, description: Description) -> None:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from deepspeaker.features import FrontEnd
        from deepspeaker.models import build_model, folded, join

        path = checked_file(folder, description, WEIGHTS)
        try:
            tensors = load_file(path)
            front_end = {key.partition(".")[2]: value for key, value in tensors.items() if key.startswith("front_end.")}
            weights = {key.partition(".")[2]: value for key, value in tensors.items() if key.startswith("network.")}
            bins = description.features.num_bins
            network = join([build_model(bins, **network.config) for network in description.networks])
            network.load_state_dict(weights)
            self._network = folded(network)
            self._front_end = FrontEnd(description.features, front_end)
        except (SafetensorError, RuntimeError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{path}: not the weights of this model ({reason}); export it again") from None

    def analyse(self, samples: NDArray[np.float32]) -> Analysis:
        """Run front end and network."""
        import torch

        from deepspeaker.embedding import embed_features

        with torch.inference_mode():
            found = self._front_end(torch.from_numpy(samples))
        embedding = embed_features(self._network, found.features.numpy())
        if not found.speech.any():
            embedding = np.zeros_like(embedding)
        return Analysis(embedding, found.speech.numpy(), found.log_mel.numpy())


def load_engine(folder: Path, description: Description, name: str = "auto") -> Engine:
    """Return an engine: "torch", "onnx", "int8" (a graph with eight-bit weights), or "auto".

    "auto" is onnx if it is installed and the model has a graph, because it starts faster.

    Raises
    ------
    InputError
        The engine is unknown or not installed, or the model lacks its file.
    """
    files = {"onnx": ONNX, "int8": INT8_ONNX, "torch": WEIGHTS}
    if name == "auto":
        name = "onnx" if ONNX in description.files and find_spec("onnxruntime") else "torch"
    if name not in files:
        raise InputError(f"engine {name}: unknown; use auto, onnx, int8 or torch")
    if not (folder / files[name]).is_file():
        needs = f"has no {files[name]}, which the engine {name} needs"
        raise InputError(f"{folder}: {needs}; use another engine, or copy or export the model again")
    if name == "torch":
        if not find_spec("torch"):
            raise InputError("torch is not installed; run: pip install torch, or use the engine onnx")
        return TorchEngine(folder, description)
    if not find_spec("onnxruntime"):
        raise InputError("onnxruntime is not installed; run: pip install onnxruntime")
    return OnnxEngine(folder, description, files[name])
