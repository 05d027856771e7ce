"""Enrolment models: what a speaker is known by, one utterance or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", np.int64, np.float64)


@dataclass(frozen=True, eq=False)
class Enrolment:
    """Models of one utterance or more: model m has ``utterances[begin[m] : begin[m + 1]]``.

    ``utterances`` are rows of a matrix of embeddings; ``begin`` is (models + 1,), ascending strictly.
    """

    utterances: NDArray[np.int64]
    begin: NDArray[np.int64]

    @classmethod
    def of(cls, models: Sequence[Sequence[int]]) -> Enrolment:
        """Of the rows of each model, one at least."""
        sizes = [len(model) for model in models]
        rows = [row for model in models for row in model]
        return cls(np.array(rows, dtype=np.int64), np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]))

    @classmethod
    def single(cls, utterances: int) -> Enrolment:
        """Every utterance is a model by itself, model m being row m."""
        return cls(np.arange(utterances), np.arange(utterances + 1))

    @property
    def counts(self) -> NDArray[np.int64]:
        """The number of utterances of each model, (models,)."""
        return np.diff(self.begin)

    @property
    def is_single(self) -> bool:
        """Whether every model has but one utterance."""
        return len(self.utterances) == len(self.begin) - 1

    def means(self, vectors: NDArray[np.floating]) -> NDArray[np.floating]:
        """The mean of each model's rows of ``vectors`` (utterances, dim), (models, dim) in their precision."""
        if self.is_single:
            return vectors[self.utterances]
        sums = np.add.reduceat(vectors[self.utterances], self.begin[:-1], axis=0, dtype=np.float64)
        return np.asarray(sums / self.counts[:, None], dtype=vectors.dtype)

    def totals(self, lengths: NDArray[Number]) -> NDArray[Number]:
        """The sum of each model's ``lengths`` (utterances,), (models,)."""
        return np.add.reduceat(lengths[self.utterances], self.begin[:-1])

    def whole(self, there: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which models have all their utterances ``there`` (utterances,)."""
        return np.asarray(np.logical_and.reduceat(there[self.utterances], self.begin[:-1]))

    def common(self, values: NDArray[np.integer], otherwise: int) -> NDArray[np.integer]:
        """The entry of ``values`` (utterances,) that a model's utterances share, else ``otherwise``; (models,)."""
        own = values[self.utterances]
        first = own[self.begin[:-1]]
        alike = np.logical_and.reduceat(own == np.repeat(first, self.counts), self.begin[:-1])
        return np.where(alike, first, otherwise)
