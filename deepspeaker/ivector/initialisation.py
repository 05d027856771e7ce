"""The first UBM: k-means on a random sample of frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deepspeaker.errors import InputError
from deepspeaker.ivector.mixture import BLOCK, Ubm

#: Fewer frames of a component than this do not determine its means and variances.
MIN_FRAMES_PER_COMPONENT = 10
#: More iterations of k-means, if a cluster is empty after the last one.
_EXTRA_ITERATIONS = 20


def sample_rows(lengths: Sequence[int] | NDArray[np.integer], count: int, seed: int) -> list[NDArray[np.int64]]:
    """Choose frames at random among all frames of some utterances.

    Parameters
    ----------
    lengths
        The number of frames of each utterance.
    count
        How many frames to choose; all if there are fewer.
    seed
        Decides the choice.

    Returns
    -------
    list of NDArray
        For each utterance its chosen rows, ascending.

    Examples
    --------
    >>> [rows.tolist() for rows in sample_rows([3, 2], 10, seed=0)]
    [[0, 1, 2], [0, 1]]
    """
    bounds = np.concatenate([[0], np.cumsum(np.asarray(lengths, dtype=np.int64))])
    total = int(bounds[-1])
    chosen = np.sort(np.random.default_rng(seed).choice(total, min(count, total), replace=False, shuffle=False))
    ends = np.searchsorted(chosen, bounds)
    return [chosen[ends[number] : ends[number + 1]] - bounds[number] for number in range(len(bounds) - 1)]


def initial_ubm(
    frames: NDArray[np.floating], components: int, seed: int, iterations: int = 10, variance_floor: float = 1e-3
) -> Ubm:
    """Return the mixture of the clusters that k-means finds, with variances (diagonal covariances).

    Parameters
    ----------
    frames
        A sample of frames, (frames, D). Some hundreds for each component are enough.
    components
        The number of components C.
    seed
        Decides which frames k-means begins with.
    iterations
        Of k-means. Distances are measured in units of each dimension's standard deviation.
    variance_floor
        See `deepspeaker.ivector.update_ubm`.

    Raises
    ------
    InputError
        There are fewer than 10 frames, or not one distinct frame, for each component, a frame is not finite, or a
        dimension is constant.

    Examples
    --------
    >>> frames = np.concatenate([np.full((30, 1), -1.0), np.full((10, 1), 1.0)])
    >>> ubm = initial_ubm(frames, 2, seed=0)
    >>> ubm.weights, ubm.means.round(6)
    (array([0.75, 0.25]), array([[-1.],
           [ 1.]]))
    """
    if components < 1:
        raise InputError(f"a UBM of {components} components: give 1 or more")
    if len(frames) < components * MIN_FRAMES_PER_COMPONENT:
        raise InputError(
            f"{components} components need {components * MIN_FRAMES_PER_COMPONENT} frames of speech, there are "
            f"{len(frames)}; use fewer components, or more speech"
        )
    values = np.asarray(frames, dtype=np.float64)
    if not np.isfinite(values).all():
        raise InputError("the features are not finite numbers; check them")
    mean, deviation = values.mean(axis=0), values.std(axis=0)
    if not (constant := deviation > 1e-6 * np.abs(values).max(axis=0)).all():
        raise InputError(f"dimension {int(np.argmin(constant))} of the features is the same in all frames; remove it")
    scaled = ((values - mean) / deviation).astype(np.float32)
    cluster = _k_means(scaled, components, seed, iterations)
    counts = np.bincount(cluster, minlength=components)
    means = _sums(scaled, cluster, components) / counts[:, None]
    squares = _sums((scaled - means[cluster]) ** 2, cluster, components) / counts[:, None]
    variances = np.maximum(squares, max(variance_floor, 1e-6))
    return Ubm(counts / len(frames), means * deviation + mean, variances * deviation**2)


def _k_means(frames: NDArray[np.float32], clusters: int, seed: int, iterations: int) -> NDArray[np.int64]:
    """Return the cluster of each frame, (frames,). Every cluster has a frame."""
    generator = np.random.default_rng(seed)
    centres = frames[np.sort(generator.choice(len(frames), clusters, replace=False))].astype(np.float64)
    few = max(1.0, min(MIN_FRAMES_PER_COMPONENT, len(frames) / clusters / 10))
    for step in range(iterations + _EXTRA_ITERATIONS):
        cluster = _nearest(frames, centres)
        counts = np.bincount(cluster, minlength=clusters)
        if step >= iterations and counts.all():
            return cluster
        centres = _sums(frames, cluster, clusters) / np.maximum(counts, 1)[:, None]
        weak = np.flatnonzero(counts < few)  # such a cluster would be of outliers; it takes a part of a large one
        for number, large in zip(weak, np.argsort(-counts, kind="stable"), strict=False):
            centres[number] = frames[generator.choice(np.flatnonzero(cluster == large))]
    found = np.count_nonzero(counts)
    raise InputError(f"only {found} of {clusters} components find distinct frames; use fewer components")


def _nearest(frames: NDArray[np.float32], centres: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the nearest centre of each frame."""
    factors, offset = (-2.0 * centres.T).astype(np.float32), (centres**2).sum(axis=1).astype(np.float32)
    starts = range(0, len(frames), BLOCK)
    return np.concatenate([(frames[start : start + BLOCK] @ factors + offset).argmin(axis=1) for start in starts])


def _sums(values: NDArray[np.floating], cluster: NDArray[np.int64], clusters: int) -> NDArray[np.float64]:
    """Return the sum of the values (frames, D) of each cluster, (clusters, D), in float64."""
    columns = [np.bincount(cluster, weights=column, minlength=clusters) for column in values.T]
    return np.stack(columns, axis=1)
