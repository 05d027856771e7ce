"""Small mixtures and utterances drawn from them."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from deepspeaker.ivector import Extractor, Ubm

Floats = NDArray[np.float64]


def random_covariance(generator: np.random.Generator, dim: int) -> Floats:
    root = generator.normal(size=(dim, dim))
    return root @ root.T / dim + 0.3 * np.eye(dim)


def random_ubm(seed: int, components: int = 4, dim: int = 3, *, full: bool = False, spread: float = 2.0) -> Ubm:
    generator = np.random.default_rng(seed)
    means = generator.normal(size=(components, dim)) * spread
    if full:
        covariances = np.array([random_covariance(generator, dim) for _ in range(components)])
    else:
        covariances = generator.uniform(0.5, 2.0, size=(components, dim))
    return Ubm(generator.dirichlet(np.full(components, 5.0)), means, covariances)


def draw(ubm: Ubm, frames: int, seed: int) -> Floats:
    """Draw frames from a mixture, (frames, D)."""
    generator = np.random.default_rng(seed)
    component = generator.choice(len(ubm.weights), frames, p=ubm.weights)
    noise = generator.normal(size=(frames, ubm.means.shape[1]))
    roots = ubm.roots[component]
    return ubm.means[component] + (np.einsum("nij,nj->ni", roots, noise) if ubm.is_full else roots * noise)


def cut(frames: Floats, pieces: int) -> list[Floats]:
    """Cut frames into utterances of different lengths."""
    bounds = np.linspace(0, 1, pieces + 1) ** 1.3 * len(frames)
    return [frames[int(a) : int(b)] for a, b in itertools.pairwise(bounds)]


def random_extractor(seed: int, ubm: Ubm, dim: int) -> Extractor:
    generator = np.random.default_rng(seed)
    components, features = ubm.means.shape
    return Extractor(
        0.2 * generator.normal(size=(components, features)), 0.5 * generator.normal(size=(components, features, dim))
    )
