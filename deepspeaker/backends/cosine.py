"""Length normalisation and the cosine of two embeddings, the score that the triplet loss trains."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from deepspeaker.backends.products import pair_products

Float = TypeVar("Float", bound=np.floating[Any])


def length_normalised(vectors: NDArray[Float], length: float = 1.0) -> NDArray[Float]:
    """Scale each row to the same Euclidean length; rows of zeros stay zeros.

    Parameters
    ----------
    vectors
        Shape ``(utterances, dim)``.
    length
        The length of every row of the result.

    Examples
    --------
    >>> length_normalised(np.array([[3.0, 4.0], [0.0, 0.0]]))
    array([[0.6, 0.8],
           [0. , 0. ]])
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors * vectors.dtype.type(length) / np.where(lengths == 0, vectors.dtype.type(1), lengths))


def cosine_scores(
    embeddings: NDArray[np.float32], enrolment: NDArray[np.int64], test: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return the cosine of the two embeddings of each trial.

    Only pairs that a trial asks for, and blocks of them, are computed (see `pair_products`).

    Parameters
    ----------
    embeddings
        Shape ``(utterances, dim)``, of any length. A row of zeros has cosine 0 with every other.
    enrolment, test
        The two rows of each trial, shape ``(trials,)``.

    Returns
    -------
    Scores from -1 to 1 up to rounding, shape ``(trials,)``.

    Examples
    --------
    >>> embeddings = np.array([[1, 0], [2, 2], [0, -1]], dtype=np.float32)
    >>> cosine_scores(embeddings, np.array([0, 0]), np.array([1, 2]))
    array([0.70710677, 0.        ], dtype=float32)
    """
    unit = length_normalised(embeddings).astype(np.float32, copy=False)
    return pair_products(unit, unit, enrolment, test)
