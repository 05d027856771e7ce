"""Metrics of scores as log-likelihood ratios (actual detection cost, Cllr), and the area under the ROC curve."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepspeaker.metrics.checks import Scores, check_costs, sorted_scores


def act_dcf(
    target_llrs: ArrayLike, nontarget_llrs: ArrayLike, p_target: float, c_miss: float = 1.0, c_fa: float = 1.0
) -> float:
    """Return the normalised detection cost at the Bayes threshold for log-likelihood ratios (actDCF).

    Parameters
    ----------
    target_llrs, nontarget_llrs : array_like
        Log-likelihood ratios (natural logarithm) of the target and the non-target trials, of any shape, with at least
        one entry each.
    p_target : float
        Prior probability of a target trial, between 0 and 1, both excluded.
    c_miss, c_fa : float, default=1.0
        Costs of a miss and of a false alarm, above 0.

    Returns
    -------
    float
        The cost, at least 0. Badly calibrated scores can cost more than 1.

    Raises
    ------
    InputError
        If a class has no trial, a score is NaN, or the prior or a cost is out of range.

    See Also
    --------
    min_dcf : The same cost at the best threshold. The excess of actDCF over minDCF is the calibration loss.
    cllr : A calibration metric over all operating points.

    Notes
    -----
    The Bayes decision accepts a trial if its log-likelihood ratio is at least::

        log(c_fa * (1 - p_target) / (c_miss * p_target))

    The cost at this threshold is normalised as in `min_dcf` [1]_.

    References
    ----------
    .. [1] NIST 2016 Speaker Recognition Evaluation Plan.

    Examples
    --------
    >>> act_dcf([5.0, 3.0, 6.0, 7.0], [-4.0, -2.0, 1.0], p_target=0.01)
    0.25
    """
    check_costs(p_target, c_miss, c_fa)
    targets, nontargets = sorted_scores(target_llrs, nontarget_llrs)
    miss_weight, fa_weight = c_miss * p_target, c_fa * (1 - p_target)
    threshold = np.log(fa_weight / miss_weight)
    p_miss = np.searchsorted(targets, threshold) / len(targets)
    p_fa = 1 - np.searchsorted(nontargets, threshold) / len(nontargets)
    return float((miss_weight * p_miss + fa_weight * p_fa) / min(miss_weight, fa_weight))


def cllr(target_llrs: ArrayLike, nontarget_llrs: ArrayLike) -> float:
    """Return the cost of log-likelihood ratios over all operating points (Cllr).

    Parameters
    ----------
    target_llrs, nontarget_llrs : array_like
        Log-likelihood ratios (natural logarithm) of the target and the non-target trials, of any shape, with at least
        one entry each.

    Returns
    -------
    float
        The cost in bits: 0 for perfect scores, 1 if every log-likelihood ratio is 0. Badly calibrated scores can cost
        any amount.

    Raises
    ------
    InputError
        If a class has no trial or a score is NaN.

    See Also
    --------
    min_cllr : The Cllr after the best calibration. The excess of Cllr over minCllr is the calibration loss.

    Notes
    -----
    With the log-likelihood ratios s of the target trials and r of the non-target trials [1]_::

        Cllr = (mean(log2(1 + exp(-s))) + mean(log2(1 + exp(r)))) / 2

    References
    ----------
    .. [1] N. Brümmer and J. du Preez, "Application-independent evaluation of speaker detection", Computer Speech and
       Language 20(2-3), 230-275, 2006.

    Examples
    --------
    >>> cllr([0.0, 0.0], [0.0])
    1.0
    >>> round(cllr([4.0, 2.0], [-3.0, -5.0]), 4)
    0.0723
    """
    targets, nontargets = sorted_scores(target_llrs, nontarget_llrs)
    miss = np.logaddexp(0.0, -targets.astype(np.float64)).mean()
    false_alarm = np.logaddexp(0.0, nontargets.astype(np.float64)).mean()
    return float((miss + false_alarm) / (2 * np.log(2)))


def min_cllr(target_scores: ArrayLike, nontarget_scores: ArrayLike) -> float:
    """Return the lowest Cllr that an increasing map of the scores to log-likelihood ratios can reach (minCllr).

    Parameters
    ----------
    target_scores, nontarget_scores : array_like
        Scores of the target and the non-target trials, of any shape, with at least one entry each. They need not be
        log-likelihood ratios.

    Returns
    -------
    float
        The cost in bits, between 0 and 1.

    Raises
    ------
    InputError
        If a class has no trial or a score is NaN.

    See Also
    --------
    cllr : The cost of the scores as they are.

    Notes
    -----
    Isotonic regression of the labels on the scores (pool adjacent violators) gives the best map [1]_. It depends only
    on the order of the scores. Tied scores are mapped to the same value.

    References
    ----------
    .. [1] N. Brümmer and J. du Preez, "Application-independent evaluation of speaker detection", Computer Speech and
       Language 20(2-3), 230-275, 2006.

    Examples
    --------
    >>> min_cllr([0.9, 0.8], [0.2, 0.1])
    0.0
    >>> round(min_cllr([0.9, 0.4], [0.5, 0.1]), 4)
    0.5
    """
    from scipy.optimize import isotonic_regression

    targets, nontargets = sorted_scores(target_scores, nontarget_scores)
    distinct = np.unique(np.concatenate([targets, nontargets]))
    n_target = _counts(targets, distinct)
    n_nontarget = _counts(nontargets, distinct)
    total = n_target + n_nontarget
    posterior = isotonic_regression(n_target / total, weights=total.astype(np.float64)).x
    prior_odds = len(targets) / len(nontargets)
    with np.errstate(divide="ignore", over="ignore"):
        likelihood_ratio = posterior / (1 - posterior) / prior_odds
        miss = np.log2(1 + 1 / likelihood_ratio)
        false_alarm = np.log2(1 + likelihood_ratio)
    # Avoid 0 * inf: there is no target trial where the posterior is 0, and no non-target trial where it is 1.
    cost = np.where(n_target, miss, 0.0) @ n_target / len(targets)
    cost += np.where(n_nontarget, false_alarm, 0.0) @ n_nontarget / len(nontargets)
    return float(cost / 2)


def roc_auc(target_scores: ArrayLike, nontarget_scores: ArrayLike) -> float:
    """Return the area under the ROC curve (AUC).

    Parameters
    ----------
    target_scores, nontarget_scores : array_like
        Scores of the target and the non-target trials, of any shape, with at least one entry each.

    Returns
    -------
    float
        The probability, between 0 and 1, that a target trial scores higher than a non-target trial. Ties count half.

    Raises
    ------
    InputError
        If a class has no trial or a score is NaN.

    See Also
    --------
    sklearn.metrics.roc_auc_score : The same metric from scores and labels.

    References
    ----------
    .. [1] T. Fawcett, "An introduction to ROC analysis", Pattern Recognition Letters 27(8), 861-874, 2006.

    Examples
    --------
    >>> roc_auc([0.9, 0.4], [0.5, 0.1])
    0.75
    """
    targets, nontargets = sorted_scores(target_scores, nontarget_scores)
    below = np.searchsorted(nontargets, targets).sum(dtype=np.int64)
    not_above = np.searchsorted(nontargets, targets, side="right").sum(dtype=np.int64)
    return float((int(below) + int(not_above)) / 2 / (len(targets) * len(nontargets)))


def _counts(ascending: Scores, distinct: Scores) -> NDArray[np.int64]:
    return np.diff(np.append(np.searchsorted(ascending, distinct), len(ascending)))
