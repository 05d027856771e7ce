"""Figures of scored trials against what follows from counting."""

from __future__ import annotations

import numpy as np
import pytest

from deepspeaker.errors import InputError
from deepspeaker.evaluation import Rates, Scored, at_false_acceptance, condition_figures, system_figures
from deepspeaker.metrics import det_points, equal_error_rate
from deepspeaker.results import CONDITION_DRAWS


def scored(seed: int = 0, speakers: int = 12, utterances: int = 4, step: float = 0.0) -> Scored:
    """All pairs; with a step, scores are rounded to it, so that there are ties."""
    generator = np.random.default_rng(seed)
    owner = np.repeat(np.arange(speakers), utterances)
    one, other = np.triu_indices(len(owner), 1)
    same = owner[one] == owner[other]
    scores = generator.normal(size=len(one)) + 1.5 * same
    if step:
        scores = np.round(scores / step) * step
    return Scored(scores.astype(np.float32), same, owner[one], owner[other])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rate", [0.1, 0.01, 0.001])
@pytest.mark.parametrize("step", [0.0, 0.5])
def test_the_threshold_for_a_false_acceptance_rate(seed: int, rate: float, step: float) -> None:
    trials = scored(seed, step=step)
    targets, nontargets = trials.targets, trials.nontargets
    found = at_false_acceptance(det_points(targets, nontargets), rate)
    threshold = np.inf if found.threshold is None else np.float32(found.threshold)
    assert (nontargets >= threshold).mean() <= rate
    assert found.p_miss == (targets < threshold).mean()
    allowed = [t for t in np.append(np.unique(trials.scores), np.inf) if (nontargets >= t).mean() <= rate]
    assert found.p_miss == min((targets < t).mean() for t in allowed)


def test_only_accepting_nobody_keeps_to_a_rate() -> None:
    points = det_points([0.0, 1.0], [2.0])
    found = at_false_acceptance(points, 0.5)
    assert (found.threshold, found.p_miss) == (None, 1.0)
    trials = Scored(
        np.float32([0, 1, 2]), np.array([True, True, False]), np.array([0, 0, 0]), np.array([0, 0, 1])
    )
    figures = system_figures(trials, Rates.of(trials, 0, 0), [0.5], llr=True)
    assert figures["min_dcf_threshold"] == {"0.05": None, "0.01": None, "0.001": None}


def test_conditions_are_the_figures_of_their_trials_alone() -> None:
    trials = scored()
    codes = np.random.default_rng(1).choice([0, 2, 3], len(trials.scores)).astype(np.uint8)
    codes[trials.is_target & (codes == 3)] = 0
    found = condition_figures(trials, "gender", ["f", "none", "m", "f, m"], codes, 100, 0)
    assert [condition.value for condition in found] == ["f", "m", "f, m"]
    assert all(condition.by == "gender" for condition in found)
    for condition, code in zip(found, (0, 2, 3), strict=True):
        own = codes == code
        assert condition.target == (own & trials.is_target).sum()
        assert condition.nontarget == (own & ~trials.is_target).sum()
        assert condition.speakers == len({*trials.enrolment_speaker[own], *trials.test_speaker[own]})
    for condition, code in zip(found[:2], (0, 2), strict=True):
        own = codes == code
        points = det_points(trials.scores[own & trials.is_target], trials.scores[own & ~trials.is_target])
        assert condition.eer == equal_error_rate(points)[0]
        assert condition.eer_ci95 is not None
        assert condition.eer_ci95[0] <= condition.eer <= condition.eer_ci95[1]
    assert (found[2].eer, found[2].eer_ci95, found[2].min_dcf) == (None, None, None)


def test_conditions_draw_fewer_times_than_whole_lists() -> None:
    trials = scored()
    codes = np.zeros(len(trials.scores), dtype=np.uint8)
    many, most, fewer = (
        condition_figures(trials, "gender", ["f"], codes, draws, 0) for draws in (1000, CONDITION_DRAWS, 100)
    )
    assert many == most != fewer


def test_few_speakers_give_no_interval() -> None:
    assert Rates.of(scored(speakers=4), 50, 0).eer_ci95 is None
    assert Rates.of(scored(speakers=5), 50, 0).eer_ci95 is not None
    assert Rates.of(scored(speakers=5), 0, 0).eer_ci95 is None


def test_so_few_nontargets_that_a_draw_has_none_give_no_interval() -> None:
    trials = scored(speakers=6)
    one = np.flatnonzero(~trials.is_target)[:1]
    rates = Rates.of(trials.where(np.union1d(np.flatnonzero(trials.is_target), one)), 200, 0)
    assert rates.eer_ci95 is None
    assert rates.replicates is None


def test_ties_identical_scores_missing_classes_and_nan() -> None:
    trials = scored()
    level = Scored(np.ones_like(trials.scores), trials.is_target, trials.enrolment_speaker, trials.test_speaker)
    rates = Rates.of(level, 50, 0)
    assert rates.eer == 0.5
    assert rates.min_dcf == {"0.05": 1.0, "0.01": 1.0, "0.001": 1.0}
    single = trials.where(np.flatnonzero(trials.is_target)[:1])
    with pytest.raises(InputError, match="no non-target trials"):
        Rates.of(single, 50, 0)
    pair = trials.where(np.array([np.flatnonzero(trials.is_target)[0], np.flatnonzero(~trials.is_target)[0]]))
    assert Rates.of(pair, 50, 0).eer in (0.0, 1.0)
    trials.scores[3] = np.nan
    with pytest.raises(InputError, match="1 scores are NaN"):
        Rates.of(trials, 50, 0)
