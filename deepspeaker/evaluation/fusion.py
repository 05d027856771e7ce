"""Two networks as one system: their embeddings, concatenated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deepspeaker.backends import BACKENDS, Options, length_normalised, needed_parts, train_backend
from deepspeaker.config import Scoring
from deepspeaker.errors import InputError
from deepspeaker.evaluation.systems import read_vectors
from deepspeaker.kaldi import ArkWriter

FUSION = "fusion"


class Fusion(NamedTuple):
    """The two networks of a fused system."""

    folders: tuple[Path, Path]
    """The folders of both systems."""
    dims: tuple[int, int]
    """The dimensions of their embeddings."""


def fuse(exp_dir: Path, options: Scoring, systems: Sequence[str]) -> Fusion | None:
    """Write ``exp_dir/fusion/embeddings_PART`` for each part that the back ends need, or do nothing without a fusion.

    It has the concatenated embeddings of the last system that both experiments have.

    Each embedding is scaled to unit length first, so that the cosine of two concatenated embeddings is the mean of the
    two networks' cosines. Utterances without an embedding of both networks are left out.

    Raises
    ------
    InputError
        The other experiment has no such embeddings, or a back end cannot fuse them.

    References
    ----------
    Li et al., Deep Speaker: an End-to-End Neural Speaker Embedding System, 2017 (arXiv 1705.02304).
    """
    adding = [backend for backend in options.backends if BACKENDS[backend].fusion]
    if not options.fuse_with:
        if adding:
            raise InputError(
                f"scoring.backends: {adding[0]} is for two networks; name the other experiment by scoring.fuse_with"
            )
        return None
    other_exp = Path(options.fuse_with)
    common = [name for name in systems if (other_exp / name / "embeddings_test" / "xvector.scp").is_file()]
    if not common or other_exp.resolve() == exp_dir.resolve():
        raise InputError(
            f"scoring.fuse_with: {other_exp} is not another experiment with embeddings of the test part; give the "
            "folder of one, such as exp/NAME, after its stage 5"
        )
    folders = exp_dir / common[-1], other_exp / common[-1]
    dims = 0, 0
    for part in ["test", *needed_parts(options.backends)]:
        first, second = (read_vectors(folder / f"embeddings_{part}") for folder in folders)
        utterances = sorted(first.keys() & second.keys())
        if not utterances:
            raise InputError(
                f"scoring.fuse_with: {folders[1]}/embeddings_{part} has none of the utterances of {folders[0]}; fuse "
                "experiments on the same data"
            )
        sides = [length_normalised(np.stack([one[name] for name in utterances])) for one in (first, second)]
        dims = sides[0].shape[1], sides[1].shape[1]
        for backend in adding:
            train_backend(backend, {}, Options(dims=dims))  # it refuses what it cannot add
        output = exp_dir / FUSION / f"embeddings_{part}"
        with ArkWriter(output / "xvector.1.ark", output / "xvector.scp") as writer:
            for utterance, vector in zip(utterances, np.concatenate(sides, axis=1), strict=True):
                writer.write(utterance, vector)
    return Fusion(folders, dims)
