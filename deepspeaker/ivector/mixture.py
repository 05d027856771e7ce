"""A Gaussian mixture and the posteriors of its components, the alignment of frames.

The log density of a frame x and component c is linear in 1, x and the products x_i x_j (for diagonal covariances: the
squares). With phi(x) the row of these and eta_c the natural parameters of component c,

    log w_c N(x; mu_c, Sigma_c) = eta_c . phi(x),
    eta_c = (log w_c - (D log 2 pi + log |Sigma_c| + mu_c' P_c mu_c) / 2,  P_c mu_c,  -P_c / 2),   P_c = Sigma_c^-1.

So one matrix product gives the densities of a block of frames under all components. A second one, of the posteriors
with phi, gives all sums that the next model needs. Diagonal and full covariances differ only in phi.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy
from numpy.typing import NDArray

from deepspeaker.errors import InputError

Matrix = NDArray[np.float64]

#: Frames of a matrix product: few enough that its intermediate results stay in the processor's cache.
BLOCK = 1024


@dataclass(frozen=True, eq=False)
class Ubm:
    """A Gaussian mixture of C components in D dimensions.

    Examples
    --------
    >>> ubm = Ubm(np.array([0.5, 0.5]), np.array([[-1.0], [1.0]]), np.ones((2, 1)))
    >>> frame_posteriors(ubm, np.array([[0.0], [1.0]])).round(3)
    array([[0.5  , 0.5  ],
           [0.119, 0.881]])
    """

    weights: Matrix
    """Shape ``(C,)``, with sum 1."""
    means: Matrix
    """Shape ``(C, D)``."""
    covariances: Matrix
    """Variances, shape ``(C, D)``, or full covariances, shape ``(C, D, D)``."""

    @property
    def is_full(self) -> bool:
        """Whether the covariances are full."""
        return self.covariances.ndim == 3

    @cached_property
    def roots(self) -> Matrix:
        """Standard deviations, ``(C, D)``, or lower Cholesky factors of the covariances, ``(C, D, D)``.

        Raises
        ------
        InputError
            A covariance is singular.
        """
        if not self.is_full:
            smallest = self.covariances.min(axis=1)
            if not smallest.min() > 0:
                raise singular(int(np.argmin(smallest)))
            return np.asarray(np.sqrt(self.covariances))
        try:
            return np.asarray(np.linalg.cholesky(self.covariances))
        except np.linalg.LinAlgError:
            smallest = np.linalg.eigvalsh(self.covariances)[:, 0]
            raise singular(int(np.argmin(smallest))) from None

    @cached_property
    def inverse_roots(self) -> Matrix:
        """The inverses of `roots`."""
        if not self.is_full:
            return np.asarray(1.0 / self.roots)
        identity = np.eye(self.means.shape[1])
        return np.array([scipy.linalg.solve_triangular(root, identity, lower=True) for root in self.roots])

    @cached_property
    def origin(self) -> Matrix:
        """The mean of the mixture, ``(D,)``. Frames are taken relative to it, which keeps their squares small."""
        return np.asarray(self.weights @ self.means)

    @cached_property
    def parameters(self) -> Matrix:
        """The natural parameters of frames relative to `origin`, ``(C, 1 + D + number of products)``."""
        dim = self.means.shape[1]
        means, roots = self.means - self.origin, self.roots
        if self.is_full:
            precisions = np.swapaxes(self.inverse_roots, 1, 2) @ self.inverse_roots
            linear = np.einsum("cij,cj->ci", precisions, means)
            log_det = 2 * np.log(np.diagonal(roots, axis1=1, axis2=2)).sum(axis=1)
            first, second = products(dim, True)
            quadratic = np.where(first == second, -0.5, -1.0) * precisions[:, first, second]
        else:
            linear, quadratic = means / self.covariances, -0.5 / self.covariances
            log_det = np.log(self.covariances).sum(axis=1)
        constant = -0.5 * (dim * np.log(2 * np.pi) + log_det + np.einsum("cd,cd->c", means, linear))
        with np.errstate(divide="ignore"):  # a weight of 0 is a density of 0
            constant += np.log(self.weights)
        return np.concatenate([constant[:, None], linear, quadratic], axis=1)

    def with_full_covariances(self) -> Ubm:
        """Return the same mixture with its variances on the diagonals of full covariances, to go on with EM."""
        if self.is_full:
            return self
        return Ubm(self.weights, self.means, self.covariances[:, :, None] * np.eye(self.means.shape[1]))


def frame_posteriors(ubm: Ubm, frames: NDArray[np.floating], dtype: type[np.floating] = np.float64) -> Matrix:
    """Return the posterior probability of each component for each frame, (frames, D) -> (frames, C)."""
    parts = []
    for block in blocks([frames], ubm.means.shape[1]):
        posteriors, totals, _ = unscaled_posteriors(expand(block, ubm, dtype), ubm.parameters.T.astype(dtype))
        parts.append(posteriors / totals[:, None])
    return np.concatenate([np.zeros((0, len(ubm.weights)), dtype=dtype), *parts])


def check_posteriors(posteriors: NDArray[np.floating], frames: NDArray[np.floating], tolerance: float = 1e-2) -> None:
    """Check posteriors (frames, C) that come from elsewhere against the frames (frames, D) that they belong to.

    Raises
    ------
    InputError
        The numbers of frames differ, or a frame's posteriors are not probabilities with sum 1 up to ``tolerance``.
    """
    if posteriors.ndim != 2 or len(posteriors) != len(frames):
        raise InputError(f"has {len(posteriors)} frames of posteriors and {len(frames)} frames of features")
    off = np.abs(posteriors.sum(axis=1, dtype=np.float64) - 1.0)
    wrong = ~(off <= tolerance) | ~(posteriors >= 0).all(axis=1)
    if wrong.any():
        frame = int(np.argmax(wrong))
        raise InputError(
            f"the posteriors of frame {frame} are no probabilities: their sum is {posteriors[frame].sum():.4g}, "
            f"the smallest is {posteriors[frame].min():.4g}; give probabilities, not logarithms"
        )


def expand(frames: NDArray[np.floating], ubm: Ubm, dtype: type[np.floating]) -> NDArray[np.floating]:
    """Return phi of frames relative to the model's origin, (frames, D) -> (frames, 1 + D + number of products)."""
    dim = frames.shape[1]
    first, second = products(dim, ubm.is_full)
    expanded = np.empty((len(frames), 1 + dim + len(first)), dtype=dtype)
    expanded[:, 0] = 1.0
    centred, squares = expanded[:, 1 : 1 + dim], expanded[:, 1 + dim :]
    np.subtract(frames, ubm.origin, out=centred, casting="same_kind")
    if ubm.is_full:
        np.multiply(centred[:, first], centred[:, second], out=squares)
    else:
        np.square(centred, out=squares)
    return expanded


def unscaled_posteriors(
    expanded: NDArray[np.floating], parameters: NDArray[np.floating]
) -> tuple[NDArray[np.floating], NDArray[np.floating], float]:
    """Return posteriors times a number for each frame, (frames, C), these numbers, (frames,), and the log-likelihood.

    ``expanded`` is (frames, P), ``parameters`` (P, C).
    """
    with np.errstate(invalid="ignore", over="ignore"):  # reported below
        scores = expanded @ parameters
    best = scores.max(axis=1, keepdims=True)
    scores -= best
    np.exp(scores, out=scores)
    totals = scores.sum(axis=1)
    likelihood = float(best.sum(dtype=np.float64) + np.log(totals).sum(dtype=np.float64))
    if not np.isfinite(likelihood):
        raise InputError("the features are not finite numbers, or too far from the UBM; check them")
    return scores, totals, likelihood


def blocks(utterances: Iterable[NDArray[np.floating]], dim: int) -> Iterator[NDArray[np.floating]]:
    """Join and cut utterances to blocks of `BLOCK` frames; only the last one may be shorter."""
    waiting: list[NDArray[np.floating]] = []
    count = 0
    for frames in utterances:
        if frames.ndim != 2 or frames.shape[1] != dim:
            raise InputError(f"features of shape {frames.shape} do not fit a UBM of {dim} dimensions")
        start = 0
        while count + len(frames) - start >= BLOCK:
            end = start + BLOCK - count
            yield np.concatenate([*waiting, frames[start:end]]) if waiting else frames[start:end]
            waiting, count, start = [], 0, end
        waiting.append(frames[start:])
        count += len(frames) - start
    if count:
        yield np.concatenate(waiting)


def products(dim: int, full: bool) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the i and j of the products x_i x_j."""
    return np.triu_indices(dim) if full else (np.arange(dim), np.arange(dim))


def singular(component: int) -> InputError:
    """Return the error of a singular covariance."""
    return InputError(
        f"the covariance of component {component} is singular; raise the variance floor or use fewer components"
    )


def product_type(ubm: Ubm, dtype: type[np.floating] | None) -> type[np.floating]:
    """Return the type of matrix products over frames, by default float32, for full covariances float64."""
    return dtype or (np.float64 if ubm.is_full else np.float32)
