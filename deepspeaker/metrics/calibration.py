"""How good scores are as log-likelihood ratios: actual detection cost and Cllr; and the area under the ROC curve."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression

from deepspeaker.metrics.verification import Scores, check_costs, sorted_scores


def act_dcf(
    target_scores: ArrayLike, nontarget_scores: ArrayLike, p_target: float, c_miss: float = 1.0, c_fa: float = 1.0
) -> float:
    """The detection cost at the threshold that is right for log-likelihood ratios, normalised as that of `min_dcf`.

    The threshold is log(c_fa (1 - p_target) / (c_miss p_target)) (Bayes); scores at it are accepted. The difference
    from `min_dcf` is what bad calibration costs; unlike that, it may be above 1.

    Raises:
        InputError: a class has no trial, scores are NaN, the prior or a cost is out of range.
    """
    check_costs(p_target, c_miss, c_fa)
    targets, nontargets = sorted_scores(target_scores, nontarget_scores)
    miss_weight, fa_weight = c_miss * p_target, c_fa * (1 - p_target)
    threshold = np.log(fa_weight / miss_weight)
    p_miss = np.searchsorted(targets, threshold) / len(targets)
    p_fa = 1 - np.searchsorted(nontargets, threshold) / len(nontargets)
    return float((miss_weight * p_miss + fa_weight * p_fa) / min(miss_weight, fa_weight))


def cllr(target_llrs: ArrayLike, nontarget_llrs: ArrayLike) -> float:
    """The cost of log-likelihood ratios (natural logarithm) over all operating points, in bits.

    Half the mean of log2(1 + exp(-llr)) over target trials plus half the mean of log2(1 + exp(llr)) over non-target
    trials (Bruemmer and du Preez, Application-independent evaluation of speaker detection, 2006). 0 is perfect, 1 is
    what llr = 0 for all costs; badly calibrated scores may cost any amount.

    Raises:
        InputError: a class has no trial, or scores are NaN.
    """
    targets, nontargets = sorted_scores(target_llrs, nontarget_llrs)
    miss = np.logaddexp(0.0, -targets.astype(np.float64)).mean()
    false_alarm = np.logaddexp(0.0, nontargets.astype(np.float64)).mean()
    return float((miss + false_alarm) / (2 * np.log(2)))


def min_cllr(target_scores: ArrayLike, nontarget_scores: ArrayLike) -> float:
    """The Cllr that the best increasing map of the scores to log-likelihood ratios reaches.

    That map is found by isotonic regression of the labels on the scores (pool adjacent violators; Bruemmer and du
    Preez 2006); it depends on the scores' order only. Tied scores have one value. Cllr - minCllr is what bad
    calibration costs.

    Raises:
        InputError: a class has no trial, or scores are NaN.
    """
    targets, nontargets = sorted_scores(target_scores, nontarget_scores)
    distinct = np.unique(np.concatenate([targets, nontargets]))
    n_target = _counts(targets, distinct)
    n_nontarget = _counts(nontargets, distinct)
    total = n_target + n_nontarget
    share = isotonic_regression(n_target / total, weights=total.astype(np.float64)).x
    prior = len(targets) / len(nontargets)
    with np.errstate(divide="ignore", over="ignore"):
        odds = share / (1 - share) / prior  # the likelihood ratio
        miss = np.log2(1 + 1 / odds)
        false_alarm = np.log2(1 + odds)
    # 0 * inf: where a share is 0 there is no target trial, where it is 1 no non-target trial.
    cost = np.where(n_target, miss, 0.0) @ n_target / len(targets)
    cost += np.where(n_nontarget, false_alarm, 0.0) @ n_nontarget / len(nontargets)
    return float(cost / 2)


def roc_auc(target_scores: ArrayLike, nontarget_scores: ArrayLike) -> float:
    """The area under the ROC curve: how often a target trial scores above a non-target trial, ties counting half.

    Raises:
        InputError: a class has no trial, or scores are NaN.
    """
    targets, nontargets = sorted_scores(target_scores, nontarget_scores)
    below = np.searchsorted(nontargets, targets).sum(dtype=np.int64)
    not_above = np.searchsorted(nontargets, targets, side="right").sum(dtype=np.int64)
    return float((int(below) + int(not_above)) / 2 / (len(targets) * len(nontargets)))


def _counts(ascending: Scores, distinct: Scores) -> NDArray[np.int64]:
    return np.diff(np.append(np.searchsorted(ascending, distinct), len(ascending)))
