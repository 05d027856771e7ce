"""What all networks have in common."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn

from deepspeaker.models.layers import full_precision, length_normalised


class Network(nn.Module):
    """Log-mel frames -> utterance embedding.

    ``forward(features, lengths)`` takes features (batch, frames, feature_dim) and, for a batch of padded utterances,
    lengths (batch,) in frames; it returns the affine layer's output (batch, embedding_dim) in float32 at least, before
    the length normalisation, because softmax pre-training classifies that. ``embed`` gives the unit-length embedding.
    Padding never enters the result. In training mode all crops of a batch have one length.
    """

    def __init__(self, feature_dim: int, embedding_dim: int) -> None:
        super().__init__()
        self.feature_dim = feature_dim
        self.embedding_dim = embedding_dim

    @abstractmethod
    def outputs(self, features: Tensor, lengths: Tensor | None) -> Tensor:
        """What ``forward`` returns, in the precision that it was computed in."""

    def forward(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        if lengths is not None and self.training:
            raise ValueError("lengths are for evaluation; crops of a training batch have one length")
        return full_precision(self.outputs(features, lengths))

    def embed(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Unit-length embeddings (batch, embedding_dim), whose inner product is the cosine score."""
        return length_normalised(self(features, lengths))
