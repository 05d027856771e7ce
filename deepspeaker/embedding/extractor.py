"""Embeddings of whole utterances and of speakers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from deepspeaker.features import FeatureIndex
from deepspeaker.models import Network


def embed_utterances(
    network: Network,
    index: FeatureIndex,
    utterances: Sequence[int],
    *,
    batch_frames: int = 8192,
    autocast: bool = False,
) -> NDArray[np.float32]:
    """Unit-length embeddings (len(utterances), embedding_dim) of whole utterances, in the order given.

    Utterances of similar length share a padded batch of at most ``batch_frames`` frames; padding does not enter the
    result beyond rounding. ``autocast`` computes in bfloat16. The network is left in evaluation mode.
    """
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


def evenly(utterances: NDArray[np.int32], most: int | None) -> NDArray[np.int32]:
    """``most`` of the utterances at most, spread evenly over their order."""
    if most is None or len(utterances) <= most:
        return utterances
    return np.asarray(utterances[np.linspace(0, len(utterances) - 1, most).round().astype(int)])


def speaker_means(
    embeddings: NDArray[np.float32], speaker: NDArray[np.int32], speakers: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Mean embedding (speakers, dim) and number of utterances (speakers,) of each speaker, as ivector-mean has them.

    ``speaker`` (utterances,) numbers each utterance's speaker; each must have one utterance at least.
    """
    counts = np.bincount(speaker, minlength=speakers)
    sums = np.zeros((speakers, embeddings.shape[1]), dtype=np.float64)
    np.add.at(sums, speaker, embeddings)
    return (sums / counts[:, None]).astype(np.float32), counts
