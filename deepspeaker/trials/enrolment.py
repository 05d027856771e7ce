"""Enrolment models: the utterances by which a speaker is known, one or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", np.int64, np.float64)


@dataclass(frozen=True, eq=False)
class Enrolment:
    """The utterances of each enrolment model, as rows of a matrix of embeddings.

    Model ``m`` consists of ``utterances[begin[m] : begin[m + 1]]``.

    Examples
    --------
    >>> models = Enrolment.of([[0, 2], [1]])
    >>> models.counts
    array([2, 1])
    >>> models.means(np.array([[1.0, 0.0], [5.0, 5.0], [3.0, 2.0]]))
    array([[2., 1.],
           [5., 5.]])
    >>> models.totals(np.array([100, 200, 300]))
    array([400, 200])
    """

    utterances: NDArray[np.int64]
    begin: NDArray[np.int64]
    """Strictly ascending, shape ``(models + 1,)``."""

    @classmethod
    def of(cls, models: Sequence[Sequence[int]]) -> Enrolment:
        """Return the models with these rows, at least one each."""
        sizes = [len(model) for model in models]
        rows = [row for model in models for row in model]
        return cls(np.array(rows, dtype=np.int64), np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]))

    @classmethod
    def single(cls, utterances: int) -> Enrolment:
        """Return one model for each utterance."""
        return cls(np.arange(utterances), np.arange(utterances + 1))

    @property
    def counts(self) -> NDArray[np.int64]:
        """The number of utterances of each model, shape ``(models,)``."""
        return np.diff(self.begin)

    @property
    def is_single(self) -> bool:
        """Whether every model has exactly one utterance."""
        return len(self.utterances) == len(self.begin) - 1

    def means(self, vectors: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return the mean of each model's rows, ``(utterances, dim)`` -> ``(models, dim)``, in their precision."""
        if self.is_single:
            return vectors[self.utterances]
        sums = np.add.reduceat(vectors[self.utterances], self.begin[:-1], axis=0, dtype=np.float64)
        return np.asarray(sums / self.counts[:, None], dtype=vectors.dtype)

    def totals(self, lengths: NDArray[Number]) -> NDArray[Number]:
        """Return the sum of each model's lengths, ``(utterances,)`` -> ``(models,)``."""
        return np.add.reduceat(lengths[self.utterances], self.begin[:-1])

    def complete(self, exists: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which models have all their utterances, ``(utterances,)`` -> ``(models,)``."""
        return np.asarray(np.logical_and.reduceat(exists[self.utterances], self.begin[:-1]))

    def common(self, values: NDArray[np.integer], otherwise: int) -> NDArray[np.integer]:
        """Return the value that all utterances of a model share, else ``otherwise``; shape ``(models,)``."""
        of_utterance = values[self.utterances]
        first = of_utterance[self.begin[:-1]]
        equal = np.logical_and.reduceat(of_utterance == np.repeat(first, self.counts), self.begin[:-1])
        return np.where(equal, first, otherwise)
