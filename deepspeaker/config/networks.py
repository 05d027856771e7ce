"""The section ``model``: the keys of each kind of network."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, PositiveInt, Tag

from deepspeaker.config.section import Section

BatchNorm = Literal["channel", "sequence"]
Pooling = Literal["mean", "statistics", "attentive"]


class ResCNNModel(Section):
    """The convolutional network."""

    name: Literal["rescnn"] = "rescnn"
    """The kind of network; it decides which other keys the section has."""
    channels: list[PositiveInt] = Field([64, 128, 256, 512], min_length=1)
    """Channels of each stage; there are as many stages as values."""
    blocks: int = Field(3, ge=0)
    """Residual blocks of each stage."""
    embedding_dim: int = Field(512, gt=0)
    """Dimension of the embeddings."""
    batch_norm: BatchNorm = "sequence"
    """One scale and shift for each channel (``channel``), or for each channel and frequency bin (``sequence``)."""
    pooling: Pooling = "mean"
    """Mean over time (``mean``: the paper), also deviation (``statistics``), or both by attention (``attentive``)."""


class GRUModel(Section):
    """The recurrent network."""

    name: Literal["gru"] = "gru"
    """The kind of network; it decides which other keys the section has."""
    channels: int = Field(64, gt=0)
    """Channels of the convolution."""
    hidden: int = Field(1024, gt=0)
    """Units of each GRU layer."""
    layers: int = Field(3, gt=0)
    """Number of GRU layers."""
    embedding_dim: int = Field(512, gt=0)
    """Dimension of the embeddings."""
    batch_norm: BatchNorm = "sequence"
    """One scale and shift for each channel (``channel``), or for each channel and frequency bin (``sequence``)."""
    pooling: Pooling = "mean"
    """Mean over time (``mean``: the paper), also deviation (``statistics``), or both by attention (``attentive``)."""
    recurrence: Literal["torch", "deep_speech_2"] = "torch"
    """The GRU layers: torch's, or with batch norm of each layer's input products and clipped ReLU (Deep Speech 2)."""


MODELS: dict[str, type[Section]] = {"rescnn": ResCNNModel, "gru": GRUModel}


def model_name(model: Any) -> str:
    """Return the kind of network that a section, or what a file has in its place, names."""
    return str(model.get("name", "rescnn") if isinstance(model, dict) else getattr(model, "name", "rescnn"))


Model = Annotated[Annotated[ResCNNModel, Tag("rescnn")] | Annotated[GRUModel, Tag("gru")], Discriminator(model_name)]
