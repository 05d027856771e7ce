"""Metrics of scored trials, with intervals if there are enough speakers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepspeaker.errors import InputError
from deepspeaker.evaluation.conditions import EVERY_VALUE
from deepspeaker.metrics import (
    P_TARGETS,
    DetPoints,
    Replicates,
    SpeakerBootstrap,
    act_dcf,
    cllr,
    det_points,
    equal_error_rate,
    false_acceptance_point,
    min_cllr,
    min_dcf,
    min_dcf_point,
    roc_auc,
)
from deepspeaker.results import CONDITION_DRAWS, Condition, OperatingPoint

#: With fewer speakers that have target trials, an interval would be too uncertain to print.
MIN_SPEAKERS = 5


@dataclass(frozen=True, eq=False)
class Scored:
    """Trials with their scores and the speakers of both sides as numbers; each array has shape ``(trials,)``."""

    scores: NDArray[np.float32]
    is_target: NDArray[np.bool_]
    enrolment_speaker: NDArray[np.int64]
    test_speaker: NDArray[np.int64]

    def where(self, chosen: NDArray[np.bool_]) -> Scored:
        """Return the chosen trials."""
        return Scored(
            self.scores[chosen], self.is_target[chosen], self.enrolment_speaker[chosen], self.test_speaker[chosen]
        )

    @property
    def targets(self) -> NDArray[np.float32]:
        """The scores of the target trials."""
        return self.scores[self.is_target]

    @property
    def nontargets(self) -> NDArray[np.float32]:
        """The scores of the non-target trials."""
        return self.scores[~self.is_target]


@dataclass(frozen=True, eq=False)
class Rates:
    """EER and minDCF of a set of trials."""

    points: DetPoints
    eer: float
    eer_threshold: float
    min_dcf: dict[str, float]
    eer_ci95: list[float] | None = None
    min_dcf_ci95: dict[str, list[float]] | None = None
    replicates: Replicates | None = None

    @classmethod
    def of(cls, trials: Scored, bootstrap: int, seed: int) -> Rates:
        """Compute the rates of trials, and their intervals by ``bootstrap`` draws of speakers.

        Raises
        ------
        InputError
            A class has no trial, or scores are NaN.
        """
        points = det_points(trials.targets, trials.nontargets, overwrite_input=True)  # they are copies
        eer, threshold = equal_error_rate(points)
        costs = {str(p): min_dcf(points, p) for p in P_TARGETS}
        plain = cls(points, eer, threshold, costs)
        target_speakers = np.unique(trials.enrolment_speaker[trials.is_target])
        if not bootstrap or len(target_speakers) < MIN_SPEAKERS:
            return plain
        first, second, _ = _renumbered(trials.enrolment_speaker, trials.test_speaker)
        try:
            speakers = SpeakerBootstrap(trials.scores, trials.is_target, first, second)
            drawn = speakers.replicates(bootstrap, seed, P_TARGETS)
        except InputError:  # there are so few non-target trials that a draw of speakers has none
            return plain
        return cls(
            points,
            eer,
            threshold,
            costs,
            list(speakers.interval(eer, drawn.eer)),
            {
                p: list(speakers.interval(cost, drawn.min_dcf[:, column]))
                for column, (p, cost) in enumerate(costs.items())
            },
            drawn,
        )


def system_figures(
    trials: Scored, rates: Rates, false_acceptance: Sequence[float], llr: bool
) -> dict[str, Any]:
    """Return the metrics of a `SystemResult`, with Cllr and actual costs if scores are log-likelihood ratios."""
    targets, nontargets = trials.targets, trials.nontargets
    found: dict[str, Any] = {
        "eer": rates.eer,
        "eer_threshold": rates.eer_threshold,
        "min_dcf": rates.min_dcf,
        "min_cllr": min_cllr(targets, nontargets),
        "roc_auc": roc_auc(targets, nontargets),
        "eer_ci95": rates.eer_ci95,
        "min_dcf_ci95": rates.min_dcf_ci95,
        "min_dcf_threshold": {str(p): _finite(min_dcf_point(rates.points, p).threshold) for p in P_TARGETS},
        "at_false_acceptance": {str(rate): at_false_acceptance(rates.points, rate) for rate in false_acceptance},
    }
    if llr:
        found["cllr"] = cllr(targets, nontargets)
        found["act_dcf"] = {str(p): act_dcf(targets, nontargets, p) for p in P_TARGETS}
    return found


def at_false_acceptance(points: DetPoints, rate: float) -> OperatingPoint:
    """Return the point with the fewest misses that accepts at most ``rate`` of the non-target trials."""
    threshold, p_miss, _ = false_acceptance_point(points, rate)
    return OperatingPoint(threshold=_finite(threshold), p_miss=p_miss)


def condition_figures(
    trials: Scored, by: str, values: Sequence[str], codes: NDArray[np.integer], bootstrap: int, seed: int
) -> list[Condition]:
    """Return the metrics of the trials with each value of a condition.

    Parameters
    ----------
    trials
        Scored trials.
    by
        The name of the condition.
    values
        Its values. Values without a trial are left out; if a class has no trial, only counts are given.
    codes
        The value of each trial, an index into ``values``, shape ``(trials,)``. A trial with the code ``EVERY_VALUE``
        counts with each value that another trial has.
    bootstrap, seed
        Intervals use ``bootstrap`` draws, but at most ``CONDITION_DRAWS``.
    """
    conditions = []
    draws = min(bootstrap, CONDITION_DRAWS)
    with_every = codes == EVERY_VALUE
    for code in np.flatnonzero(np.bincount(codes, minlength=len(values))[: len(values)]).tolist():
        chosen = trials.where((codes == code) | with_every)
        target = int(chosen.is_target.sum())
        metrics: dict[str, Any] = {}
        if 0 < target < len(chosen.is_target):
            rates = Rates.of(chosen, draws, seed)
            metrics = {"eer": rates.eer, "eer_ci95": rates.eer_ci95, "min_dcf": rates.min_dcf}
        conditions.append(
            Condition(
                by=by,
                value=values[code],
                target=target,
                nontarget=len(chosen.is_target) - target,
                speakers=_renumbered(chosen.enrolment_speaker, chosen.test_speaker)[2],
                **metrics,
            )
        )
    return conditions


def _renumbered(
    first: NDArray[np.int64], second: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Return both sides' speakers, numbered from 0 without gaps, and how many there are."""
    used = np.zeros(int(max(first.max(), second.max())) + 1, dtype=bool)
    used[first] = used[second] = True
    number = np.cumsum(used) - 1
    return number[first], number[second], int(used.sum())


def _finite(threshold: float) -> float | None:
    return threshold if np.isfinite(threshold) else None
