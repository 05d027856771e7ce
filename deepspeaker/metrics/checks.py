"""Checks of the arrays and costs given to the metrics."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepspeaker.errors import InputError

Scores = NDArray[np.floating[Any]]


def check_costs(p_target: float, c_miss: float, c_fa: float) -> None:
    """Raise `InputError` if the prior or a cost is out of range."""
    if not 0 < p_target < 1:
        raise InputError(f"p_target is {p_target}; give a prior probability between 0 and 1, both excluded")
    for name, cost in (("c_miss", c_miss), ("c_fa", c_fa)):
        if not 0 < cost < np.inf:
            raise InputError(f"{name} is {cost}; give a finite cost above 0")


def sorted_scores(
    target_scores: ArrayLike, nontarget_scores: ArrayLike, *, overwrite_input: bool = False
) -> tuple[Scores, Scores]:
    """Return the scores of both classes as flat ascending copies in their common precision, at least float32.

    Raises `InputError` if a class has no trial or a score is NaN.
    """
    classes = {"target": np.asarray(target_scores), "non-target": np.asarray(nontarget_scores)}
    for name, scores in classes.items():
        if scores.size == 0:
            raise InputError(f"no {name} trials; error rates need target and non-target trials")
    precision = np.result_type(*classes.values(), np.float32)
    convert = np.asarray if overwrite_input else np.array
    targets, nontargets = (convert(scores, dtype=precision).ravel() for scores in classes.values())
    targets.sort()
    nontargets.sort()
    # NaN sorts behind all numbers, so it is enough to check the last score.
    if np.isnan(targets[-1]) or np.isnan(nontargets[-1]):
        in_targets, in_nontargets = (int(np.isnan(scores).sum()) for scores in (targets, nontargets))
        raise InputError(
            f"{in_targets + in_nontargets} scores are NaN ({in_targets} of {len(targets)} target,"
            f" {in_nontargets} of {len(nontargets)} non-target); check for embeddings that are NaN or all zero"
        )
    return targets, nontargets
