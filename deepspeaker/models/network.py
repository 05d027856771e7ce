"""The base class of all networks."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn

from deepspeaker.models.layers import full_precision, length_normalised


class Network(nn.Module):
    """A network that maps log-mel frames to an utterance embedding.

    Padding never affects the result. In training mode, all crops of a batch have the same length.

    Attributes
    ----------
    feature_dim
        The number of bins of a feature frame.
    embedding_dim
        The size of an embedding.
    """

    def __init__(self, feature_dim: int, embedding_dim: int) -> None:
        super().__init__()
        self.feature_dim = feature_dim
        self.embedding_dim = embedding_dim

    @abstractmethod
    def outputs(self, features: Tensor, lengths: Tensor | None) -> Tensor:
        """Compute what ``forward`` returns, in the precision of the computation."""

    def forward(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the output of the affine layer, before length normalisation.

        Softmax pre-training classifies this output; ``embed`` normalises it.

        Parameters
        ----------
        features
            (batch, frames, feature_dim).
        lengths
            (batch,), in frames, for utterances padded to one length.

        Returns
        -------
        Tensor
            (batch, embedding_dim), float32 or float64.
        """
        if lengths is not None and self.training:
            raise ValueError("lengths are for evaluation; all crops of a training batch have the same length")
        return full_precision(self.outputs(features, lengths))

    def embed(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return unit-length embeddings (batch, embedding_dim); their inner product is the cosine score."""
        return length_normalised(self(features, lengths))
