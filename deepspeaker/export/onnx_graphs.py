"""Write a network, alone or with its front end, as one ONNX graph that needs no torch at run time.

The graphs come from torch's exporter of traced modules (``dynamo=False``). It needs only the package ``onnx``, writes
a GRU as one operator, and keeps every length dynamic. The newer exporter needs ``onnxscript``, too.
"""

from __future__ import annotations

import importlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deepspeaker.config import Features
from deepspeaker.errors import InputError
from deepspeaker.features import FrontEnd
from deepspeaker.files import atomic_path, atomic_write
from deepspeaker.models import Network, folded

#: The lowest version of ONNX's operators with all that the graphs need: 11 has no Clip of float64.
OPSET = 12

#: Values of a weight that ``halve`` stores in 16 bits.
_LARGE = 256


class _Embedder(nn.Module):
    """A network with a front end: from samples to an embedding."""

    def __init__(self, front_end: FrontEnd, network: Network) -> None:
        super().__init__()
        self.front_end = front_end
        self.network = network

    def forward(self, samples: Tensor) -> tuple[Tensor, ...]:
        """Return the embedding (embedding_dim,), and the front end's decisions, log-energies and log-mel energies."""
        features, speech, log_energy, log_mel = self.front_end(samples)
        embedding = self.network.embed(features[None])[0]
        return embedding * speech.sum().clamp(max=1.0), speech, log_energy, log_mel


class _Network(nn.Module):
    """A network whose ``forward`` returns embeddings."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor) -> Tensor:
        return self.network.embed(features)


def write_onnx(network: Network, features: Features, path: Path) -> None:
    """Write one graph from samples to an embedding.

    Parameters
    ----------
    network
        A trained network; it does not change.
    features
        The section of the configuration that the network was trained with.
    path
        The file to write.

    Raises
    ------
    InputError
        The package onnx is not installed, or the disk is full.

    Notes
    -----
    The input is ``samples`` (samples,), float32 in [-1, 1], mono, at the sampling rate that the file's metadata give as
    ``sampling_rate``. Any length is allowed. The outputs, all float32:

    - ``embedding`` (embedding_dim,), of unit length; zeros if there is no speech,
    - ``speech`` (frames,), 1 for each frame of speech and 0 for each other frame,
    - ``log_energy`` (frames,), on Kaldi's 16-bit scale,
    - ``log_mel`` (frames, bins), natural logarithms, of all frames and not normalised.

    The same network gives the same bytes.
    """
    module = _Embedder(FrontEnd(features), folded(network))
    samples = torch.sin(torch.arange(features.sampling_rate) * 0.1)
    axes = {"samples": {0: "samples"}, **{name: {0: "frames"} for name in ("speech", "log_energy", "log_mel")}}
    names = ["embedding", "speech", "log_energy", "log_mel"]
    _write(module, samples, ["samples"], names, axes, path, {"sampling_rate": str(features.sampling_rate)})


def write_network_onnx(network: Network, path: Path) -> None:
    """Write a network alone.

    Parameters
    ----------
    network
        A trained network; it does not change.
    path
        The file to write.

    Raises
    ------
    InputError
        The package onnx is not installed, or the disk is full.

    Notes
    -----
    The input is ``features`` (batch, frames, bins), float32: normalised speech frames, all utterances of one length.
    The output is ``embeddings`` (batch, embedding_dim), of unit length.
    """
    axes = {"features": {0: "batch", 1: "frames"}, "embeddings": {0: "batch"}}
    features = torch.zeros(1, 100, network.feature_dim)
    _write(_Network(folded(network)), features, ["features"], ["embeddings"], axes, path, {})


def halve(path: Path) -> None:
    """Store the large weights of a graph's network in 16 bits, which halves the file.

    Parameters
    ----------
    path
        A graph by ``write_onnx`` or ``write_network_onnx``; it is replaced.

    Raises
    ------
    InputError
        The package onnx is not installed, or the disk is full.

    Notes
    -----
    The graph casts them when it is loaded and computes in float32, as fast as before. The weights have 11 significant
    bits, so embeddings change in the fourth digit. The front end stays as it is.
    """
    onnx = _imported("onnx")
    model = onnx.load(path)
    front_end = {name for node in model.graph.node if node.name.startswith("/front_end/") for name in node.input}
    casts = []
    for weight in model.graph.initializer:
        values = onnx.numpy_helper.to_array(weight)
        if values.dtype == np.float32 and values.size >= _LARGE and weight.name not in front_end:
            name = weight.name
            weight.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
            to = onnx.TensorProto.FLOAT
            casts.append(onnx.helper.make_node("Cast", [weight.name], [name], f"/cast/{name}", to=to))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    atomic_write(path, model.SerializeToString(deterministic=True))


def quantise(path: Path, output: Path) -> None:
    """Write a graph with its network's weights in eight bits, quantised by onnxruntime.

    Parameters
    ----------
    path
        A graph by ``write_onnx`` or ``write_network_onnx``.
    output
        The file to write.

    Raises
    ------
    InputError
        The package onnx or onnxruntime is not installed, or the disk is full.

    Notes
    -----
    Convolutions and matrix products get eight-bit weights. Their inputs are quantised at run time, each by its own
    range. GRUs and the front end stay in float32.
    """
    onnx = _imported("onnx")
    quantization = _imported("onnxruntime.quantization")
    graph = onnx.load(path).graph
    front_end = [node.name for node in graph.node if node.name.startswith("/front_end/")]
    with atomic_path(output) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        level = logging.root.manager.disable
        logging.disable(logging.WARNING)  # advice on preprocessing, which changes nothing here
        try:
            quantization.quantize_dynamic(
                path, temporary, weight_type=quantization.QuantType.QUInt8, nodes_to_exclude=front_end
            )
        finally:
            logging.disable(level)


def _write(
    module: nn.Module,
    example: Tensor,
    inputs: list[str],
    outputs: list[str],
    axes: dict[str, dict[int, str]],
    path: Path,
    metadata: dict[str, str],
) -> None:
    """Trace a module on an example and write its graph with dynamic axes."""
    onnx = _imported("onnx")
    stream = io.BytesIO()
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they speak to the authors of modules, not to those who export one
        torch.onnx.export(
            module.eval(),
            (example,),
            stream,  # type: ignore[arg-type]
            input_names=inputs,
            output_names=outputs,
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load_from_string(stream.getvalue())
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    atomic_write(path, model.SerializeToString(deterministic=True))


def _imported(name: str) -> Any:
    """Import an optional package."""
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise InputError(f"the package {package} is missing; install it: pip install {package}") from None
