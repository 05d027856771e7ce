"""Adaptive s-norm with the cohort of an exported model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepspeaker.errors import InputError
from deepspeaker.inference.description import COHORT, Description, checked_file

_TENSOR = "embeddings"


@dataclass(frozen=True, eq=False)
class Cohort:
    """Training speakers with whom both sides of a comparison are compared, so that scores of any voice are alike.

    Examples
    --------
    >>> cohort = Cohort(np.eye(3, dtype=np.float32), top=2)
    >>> vectors = np.array([[0.6, 0.8, 0.0], [0.8, 0.6, 0.0]], dtype=np.float32)
    >>> cohort.normalised(vectors, np.array([0]), np.array([1])).round(3)
    array([1.838], dtype=float32)
    """

    embeddings: NDArray[np.float32]
    """The mean embedding of each speaker, of unit length, (speakers, dim)."""
    top: int
    """Number of the nearest speakers that are used for a side."""

    def normalised(
        self, vectors: NDArray[np.float32], first: NDArray[np.int64], second: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return the normalised cosines (pairs,) of the rows ``first`` and ``second`` of vectors (n, dim)."""
        from deepspeaker.backends import cohort_statistics, cosine_scores, length_normalised, normalised_scores

        statistics = cohort_statistics(length_normalised(vectors), self.embeddings, self.top)
        return normalised_scores(cosine_scores(vectors, first, second), first, second, statistics)

    def to_bytes(self) -> bytes:
        """Return the embeddings in the format safetensors."""
        from safetensors.numpy import save

        content: bytes = save({_TENSOR: self.embeddings})
        return content


def read_cohort(folder: Path, description: Description) -> Cohort | None:
    """Read the cohort of a model, None if it has none.

    Raises
    ------
    InputError
        The file is missing, damaged, or does not fit the model.
    """
    if description.cohort is None:
        return None
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = checked_file(folder, description, COHORT)
    try:
        embeddings = load(path.read_bytes())[_TENSOR]
    except (SafetensorError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: not the cohort of this model ({reason}); export it again") from None
    if embeddings.shape != (description.cohort.speakers, description.embedding_dim):
        raise InputError(f"{path}: has shape {embeddings.shape}, not that in model.json; export the model again")
    return Cohort(embeddings, description.cohort.top)
