"""The universal background model (UBM): a Gaussian mixture of all speakers' frames, trained by EM.

References
----------
Dempster, Laird and Rubin, Maximum likelihood from incomplete data via the EM algorithm, JRSS B 39, 1977.
Reynolds, Quatieri and Dunn, Speaker verification using adapted Gaussian mixture models, Digital Signal Processing
10, 2000.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepspeaker.errors import InputError
from deepspeaker.ivector.mixture import (
    Matrix,
    Ubm,
    blocks,
    check_posteriors,
    expand,
    product_type,
    products,
    singular,
    unscaled_posteriors,
)

#: A variance below this share of the features' variance is rounding error.
_SINGULAR = 1e-12
#: A variance of all frames below this share of their mean square is what products in float32 leave of 0.
_CONSTANT = 1e-6


@dataclass(frozen=True, eq=False)
class UbmStatistics:
    """Sums over frames: all that a step of EM needs to know of them. Those of shards are added by `add`."""

    counts: Matrix
    """The sum of each component's posteriors, shape ``(C,)``."""
    first: Matrix
    """The sum of posteriors times frames, shape ``(C, D)``."""
    second: Matrix
    """The sum of posteriors times products x_i x_j: the squares, shape ``(C, D)``, or those with i <= j, row by row,
    shape ``(C, D (D + 1) / 2)``."""
    log_likelihood: Matrix
    """Of all frames under the model that gave the posteriors, natural logarithm, shape ``()``."""
    frames: Matrix
    """Their number, shape ``()``."""


def accumulate_ubm(
    ubm: Ubm, utterances: Iterable[NDArray[np.floating]], dtype: type[np.floating] | None = None
) -> UbmStatistics:
    """Collect the statistics of some utterances under a model (the E step).

    Parameters
    ----------
    ubm
        The current model.
    utterances
        Frames of each utterance, (frames, D).
    dtype
        Of the matrix products over at most `BLOCK` frames. By default float32 for diagonal covariances and float64 for
        full ones, whose products cancel more. Sums over blocks are float64.

    Raises
    ------
    InputError
        A frame has another dimension, or is not finite.
    """
    kind = product_type(ubm, dtype)
    parameters = np.asarray(ubm.parameters.T, dtype=kind)
    sums, log_likelihood, frames = np.zeros(ubm.parameters.shape), 0.0, 0
    for block in blocks(utterances, ubm.means.shape[1]):
        expanded = expand(block, ubm, kind)
        posteriors, totals, likelihood = unscaled_posteriors(expanded, parameters)
        expanded /= totals[:, None]  # cheaper than to divide the posteriors
        sums += posteriors.T @ expanded
        log_likelihood += likelihood
        frames += len(block)
    return _statistics(sums, ubm.origin, ubm.is_full, log_likelihood, frames)


def accumulate_given(
    posteriors: NDArray[np.floating], frames: NDArray[np.floating], *, full: bool = False
) -> UbmStatistics:
    """Collect the statistics of an utterance whose posteriors come from elsewhere, for example from a senone DNN.

    `update_ubm` makes of them the mixture whose component c has the mean and covariance of class c (Lei, Scheffer,
    Ferrer and McLaren, A novel scheme for speaker recognition using a phonetically-aware deep neural network, ICASSP
    2014). They have no log-likelihood, it is 0.

    Parameters
    ----------
    posteriors
        (frames, C), see `check_posteriors`.
    frames
        (frames, D).
    full
        Whether the model will have full covariances.
    """
    check_posteriors(posteriors, frames)
    values = np.asarray(frames, dtype=np.float64)
    first, second = products(values.shape[1], full)
    expanded = np.concatenate([np.ones((len(values), 1)), values, values[:, first] * values[:, second]], axis=1)
    sums = np.asarray(posteriors, dtype=np.float64).T @ expanded
    return _statistics(sums, np.zeros(values.shape[1]), full, 0.0, len(values))


def update_ubm(statistics: UbmStatistics, variance_floor: float = 1e-3, min_count: float = 0.01) -> tuple[Ubm, float]:
    """Return the model that fits the statistics best (the M step), and the log-likelihood before it, per frame.

    Parameters
    ----------
    statistics
        Of all utterances.
    variance_floor
        The smallest variance in any direction, as a share of the variance of all frames. With a fixed floor, the model
        is the most likely one among those that respect it, so that the log-likelihood still never falls.
    min_count
        A component of fewer frames, the sum of its posteriors, counts as empty.

    Raises
    ------
    InputError
        A component has no frames, a covariance is singular, or a dimension of the features is constant.

    Notes
    -----
    With N_c, F_c and S_c the sums of posteriors, posteriors times x and posteriors times x x': w_c = N_c / N,
    mu_c = F_c / N_c, Sigma_c = S_c / N_c - mu_c mu_c'.
    """
    counts, dim = statistics.counts, statistics.first.shape[1]
    worst = int(np.argmin(counts))
    if not counts[worst] >= min_count:
        raise InputError(
            f"component {worst} of {len(counts)} has {counts[worst]:.2g} of {float(statistics.frames):.0f} frames, "
            "it is empty; use fewer components, or more speech"
        )
    full = statistics.second.shape != statistics.first.shape
    total = counts.sum()
    first, second = products(dim, full)
    mean = statistics.first.sum(axis=0) / total
    squares = statistics.second.sum(axis=0)[first == second] / total
    spread = squares - mean**2
    if not (spread > _CONSTANT * squares).all():
        constant = int(np.argmin(spread > _CONSTANT * squares))
        raise InputError(f"dimension {constant} of the features is the same in all frames; remove it")
    means = statistics.first / counts[:, None]
    scaled = statistics.second / counts[:, None] - means[:, first] * means[:, second]
    scaled /= np.sqrt(spread[first] * spread[second])  # so that the floor is a share
    if full:
        square = np.empty((len(counts), dim, dim))
        square[:, first, second] = square[:, second, first] = scaled
        values, vectors = np.linalg.eigh(square)
        values = _floored(values, variance_floor)
        square = (vectors * values[:, None, :]) @ np.swapaxes(vectors, 1, 2)
        covariances = square * np.sqrt(np.outer(spread, spread))
    else:
        covariances = _floored(scaled, variance_floor) * spread
    return Ubm(counts / total, means, covariances), float(statistics.log_likelihood / statistics.frames)


def _statistics(sums: Matrix, origin: Matrix, full: bool, log_likelihood: float, frames: int) -> UbmStatistics:
    """Move the origin of sums (C, P) back to 0: (x+o)_i (x+o)_j = x_i x_j + o_i x_j + x_i o_j + o_i o_j."""
    dim = len(origin)
    first, second = products(dim, full)
    counts, linear = sums[:, 0], sums[:, 1 : 1 + dim]
    shift = origin[first] * linear[:, second] + origin[second] * linear[:, first]
    shift += counts[:, None] * origin[first] * origin[second]
    linear = linear + counts[:, None] * origin
    return UbmStatistics(
        counts, linear, sums[:, 1 + dim :] + shift, np.asarray(log_likelihood), np.asarray(float(frames))
    )


def _floored(shares: Matrix, floor: float) -> Matrix:
    """Apply the floor to variances (C, D), as shares of the variance of all frames."""
    floored = np.maximum(shares, floor)
    if not floored.min() > _SINGULAR:
        raise singular(int(np.argmin(floored.min(axis=1))))
    return np.asarray(floored)
