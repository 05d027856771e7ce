"""GRU, the recurrent network of Deep Speaker (arXiv 1705.02304, table 2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deepspeaker.errors import InputError
from deepspeaker.models.deep_speech_2 import DeepSpeech2GRU
from deepspeaker.models.layers import Downsampling
from deepspeaker.models.network import Network
from deepspeaker.models.pooling import build_pooling


class GRU(Network):
    """A convolution, forward GRU layers, the average over time, and an affine layer.

    The defaults are the paper's network: 22.6 million parameters with 64 bins.

    Parameters
    ----------
    feature_dim
        The number of bins of a feature frame.
    channels
        The maps of the 5x5 convolution, which has stride 2 in time and frequency. Batch norm and a ReLU clipped at
        20 follow it.
    hidden, layers
        The units of each GRU layer, and the number of layers.
    embedding_dim
        The size of an embedding.
    batch_norm
        "sequence" or "channel", see ``deepspeaker.models.batch_norm``.
    recurrence
        "torch": the layers of ``torch.nn.GRU``. "deep_speech_2": batch norm of each layer's input products, and a
        clipped ReLU instead of the hyperbolic tangent.
    pooling
        "mean", "statistics" or "attentive", see ``deepspeaker.models.pooling``.

    Notes
    -----
    A GRU that runs forward in time never sees the padding behind an utterance.
    """

    def __init__(
        self,
        feature_dim: int,
        channels: int = 64,
        hidden: int = 1024,
        layers: int = 3,
        embedding_dim: int = 512,
        batch_norm: str = "sequence",
        recurrence: str = "torch",
        pooling: str = "mean",
    ) -> None:
        super().__init__(feature_dim, embedding_dim)
        bins = (feature_dim + 1) // 2
        self.conv = Downsampling(1, channels, bins, batch_norm)
        self.gru: nn.Module
        if recurrence == "torch":
            self.gru = nn.GRU(channels * bins, hidden, layers, batch_first=True)
        elif recurrence == "deep_speech_2":
            self.gru = DeepSpeech2GRU(channels * bins, hidden, layers)
        else:
            raise InputError(f"model.recurrence: {recurrence} is unknown; use torch or deep_speech_2")
        self.pooling, values = build_pooling(pooling, hidden)
        self.affine = nn.Linear(values, embedding_dim, bias=False)
        nn.init.kaiming_normal_(self.conv.conv.weight, mode="fan_out", nonlinearity="relu")
        for name, parameter in self.gru.named_parameters():
            # Initialise the matrix of each gate separately. An orthogonal one keeps the norm of the state.
            if "weight_hh" in name:
                for gate in parameter.data.chunk(3):
                    nn.init.orthogonal_(gate)
            elif "weight_ih" in name:
                for gate in parameter.data.chunk(3):
                    nn.init.xavier_uniform_(gate)
            elif "bias" in name:
                nn.init.zeros_(parameter)

    def outputs(self, features: Tensor, lengths: Tensor | None) -> Tensor:
        """Return the output of the affine layer, see ``Network.outputs``."""
        maps = self.conv(features[:, None].contiguous(memory_format=torch.channels_last), lengths)
        states, _ = self.gru(maps.transpose(1, 2).flatten(2))
        if lengths is not None:
            lengths = (lengths + 1) // 2
        affine: Tensor = self.affine(self.pooling(states.transpose(1, 2)[..., None], lengths))
        return affine
