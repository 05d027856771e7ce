"""Embeddings of whole utterances and of speakers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deepspeaker.features import FeatureIndex

if TYPE_CHECKING:
    from deepspeaker.models import Network  # torch takes a while to import


def embed_utterances(
    network: Network,
    index: FeatureIndex,
    utterances: Sequence[int],
    *,
    batch_frames: int = 8192,
    autocast: bool = False,
) -> NDArray[np.float32]:
    """Return unit-length embeddings of whole utterances.

    Parameters
    ----------
    network
        The network, which stays in evaluation mode.
    index
        The features of the utterances.
    utterances
        Their numbers in the index.
    batch_frames
        The size of a batch in frames, with padding. Utterances of similar length share a batch; padding affects the
        result by rounding errors only.
    autocast
        Whether to compute in bfloat16.

    Returns
    -------
    NDArray
        (len(utterances), embedding_dim), in the order of ``utterances``.
    """
    import torch

    network.eval()
    device = next(network.parameters()).device
    embeddings = np.empty((len(utterances), network.embedding_dim), dtype=np.float32)
    by_length = sorted(range(len(utterances)), key=lambda row: int(index.frames[utterances[row]]))
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=autocast):
        while by_length:
            longest = int(index.frames[utterances[by_length[-1]]])
            rows = by_length[-max(1, batch_frames // longest) :]
            del by_length[-len(rows) :]
            padded = np.zeros((len(rows), longest, index.feature_dim), dtype=np.float32)
            for position, row in enumerate(rows):
                utterance = index.read(utterances[row])
                padded[position, : len(utterance)] = utterance
            lengths = torch.from_numpy(index.frames[[utterances[row] for row in rows]]).to(device)
            equal = bool((lengths == longest).all())
            batch = torch.from_numpy(padded).to(device)
            embeddings[rows] = network.embed(batch, None if equal else lengths).cpu().numpy()
    return embeddings


def embed_features(network: Network, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the unit-length embedding of one utterance. Stage 5 and exported models call this.

    Parameters
    ----------
    network
        The network in evaluation mode.
    features
        Normalised speech frames, (frames, feature_dim), at least one.

    Returns
    -------
    NDArray
        (embedding_dim,).
    """
    import torch

    with torch.inference_mode():
        batch = torch.from_numpy(features)[None].to(next(network.parameters()).device)
        return np.asarray(network.embed(batch)[0].cpu().numpy())


def evenly_spaced(utterances: NDArray[np.int32], limit: int | None) -> NDArray[np.int32]:
    """Return at most ``limit`` of the utterances, evenly spaced in their order.

    Examples
    --------
    >>> evenly_spaced(np.arange(10, dtype=np.int32), 4)
    array([0, 3, 6, 9], dtype=int32)
    """
    if limit is None or len(utterances) <= limit:
        return utterances
    return np.asarray(utterances[np.linspace(0, len(utterances) - 1, limit).round().astype(int)])


def speaker_means(
    embeddings: NDArray[np.float32], speaker: NDArray[np.int32], speakers: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the mean embedding and the number of utterances of each speaker, like Kaldi's ``ivector-mean``.

    Parameters
    ----------
    embeddings
        (utterances, dim).
    speaker
        The speaker number of each utterance, (utterances,). Every speaker needs an utterance.
    speakers
        The number of speakers.

    Returns
    -------
    tuple of NDArray
        (speakers, dim) and (speakers,).

    Examples
    --------
    >>> means, counts = speaker_means(np.float32([[1, 0], [0, 1], [4, 4]]), np.int32([0, 0, 1]), speakers=2)
    >>> means.tolist(), counts.tolist()
    ([[0.5, 0.5], [4.0, 4.0]], [2, 1])
    """
    counts = np.bincount(speaker, minlength=speakers)
    sums = np.zeros((speakers, embeddings.shape[1]), dtype=np.float64)
    np.add.at(sums, speaker, embeddings)
    return (sums / counts[:, None]).astype(np.float32), counts
