from __future__ import annotations

import numpy as np

from deepspeaker.trials import Enrolment


def test_models_of_several_utterances() -> None:
    models = Enrolment.of([[2, 0], [1], [3, 1, 0]])
    assert not models.is_single
    assert models.counts.tolist() == [2, 1, 3]
    vectors = np.array([[1, 0], [0, 2], [3, 4], [5, 6]], dtype=np.float32)
    np.testing.assert_array_equal(models.means(vectors), np.float32([[2, 2], [0, 2], [2, 8 / 3]]))
    assert models.means(vectors).dtype == np.float32
    assert models.totals(np.array([10, 20, 30, 40])).tolist() == [40, 20, 70]
    assert models.complete(np.array([True, False, True, True])).tolist() == [True, False, False]
    each = Enrolment.single(4)
    assert each.is_single
    assert each.means(vectors).tolist() == vectors.tolist()
