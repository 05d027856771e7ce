"""Two networks as one system: their embeddings side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepspeaker.errors import InputError
from deepspeaker.evaluation.systems import read_vectors
from deepspeaker.kaldi import ArkWriter

FUSION = "fusion"


class Fusion(NamedTuple):
    """What a fused system is made of."""

    folders: tuple[Path, Path]  # the two systems
    dims: tuple[int, int]  # of their embeddings


def fuse(exp_dir: Path, other_exp: Path, systems: Sequence[str], parts: Sequence[str]) -> Fusion:
    """Writes ``exp_dir/fusion/embeddings_PART``: the embeddings of the last of the systems that both experiments have.

    Each is brought to unit length first, so the cosine of two joined embeddings is the mean of the two networks'
    cosines; their sum is the fusion of Deep Speaker (Li et al., arXiv 1705.02304). Utterances that one of the two has
    no embedding of are left out. Raises ``InputError`` when the other experiment has no such embeddings.
    """
    shared = [name for name in systems if (other_exp / name / "embeddings_test" / "xvector.scp").is_file()]
    if not shared or other_exp.resolve() == exp_dir.resolve():
        raise InputError(
            f"scoring.fuse_with: {other_exp} is no other experiment with embeddings of the test part; name its folder, "
            "such as exp/NAME, after its stage 5"
        )
    folders = exp_dir / shared[-1], other_exp / shared[-1]
    for part in parts:
        one, other = (read_vectors(folder / f"embeddings_{part}") for folder in folders)
        both = sorted(one.keys() & other.keys())
        if not both:
            raise InputError(
                f"scoring.fuse_with: {folders[1]}/embeddings_{part} has none of the utterances of {folders[0]}; fuse "
                "experiments on the same data"
            )
        output = exp_dir / FUSION / f"embeddings_{part}"
        with ArkWriter(output / "xvector.1.ark", output / "xvector.scp") as writer:
            for utterance in both:
                writer.write(utterance, np.concatenate([_unit(one[utterance]), _unit(other[utterance])]))
        dims = len(one[both[0]]), len(other[both[0]])
    return Fusion(folders, dims)


def _unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.linalg.norm(vector)
    return np.asarray(vector / length if length > 0 else vector, dtype=np.float32)
