"""``trials_hard``: every enrolment utterance against those of other speakers that a system takes for it most."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepspeaker.files import atomic_path

#: The system whose cosines choose. Its checkpoint and settings come from development speakers, like every other's.
CHOOSER, CHOSEN_BY = "softmax", "softmax, cosine"
_BLOCK = 1024


def write_trials_hard(
    path: Path,
    vectors: Mapping[str, NDArray[np.float32]],
    utt2spk: Mapping[str, str],
    gender: Mapping[str, str],
    nontargets: int,
) -> bool:
    """Writes the list: all target pairs once, and for each utterance its ``nontargets`` nearest of other speakers.

    Near is a high cosine of the embeddings ``vectors`` (equal ones: the lower id first). ``gender`` (speaker -> gender)
    keeps to speakers of the same one where both are known. Utterances without an embedding are in no trial. Returns
    whether there are both target and non-target trials; else nothing is written.
    """
    utterances = sorted(vectors.keys() & utt2spk.keys())
    speaker_names = sorted({utt2spk[utterance] for utterance in utterances})
    number = {name: n for n, name in enumerate(speaker_names)}
    speaker = np.array([number[utt2spk[utterance]] for utterance in utterances], dtype=np.int64)
    genders = sorted({gender.get(name, "") for name in speaker_names} - {""})
    of_speaker = [genders.index(gender[name]) if gender.get(name) else -1 for name in speaker_names]
    sex = np.array(of_speaker, dtype=np.int64)[speaker]
    if len(speaker_names) < 2 or len(speaker_names) == len(utterances):
        return False
    matrix = np.stack([vectors[utterance] for utterance in utterances])
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    unit = matrix / np.where(lengths == 0, np.float32(1), lengths)
    written = 0
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for first in range(0, len(utterances), _BLOCK):
            cosines = unit[first : first + _BLOCK] @ unit.T
            for offset, row in enumerate(cosines):
                own = first + offset
                same = speaker == speaker[own]
                apart = same | ((sex != sex[own]) & (sex != -1) & (sex[own] != -1))
                row[apart] = -np.inf
                most = min(nontargets, len(row) - int(apart.sum()))
                later = np.flatnonzero(same[own + 1 :]) + own + 1
                stream.writelines(f"{utterances[own]} {utterances[other]} target\n" for other in later)
                near = _nearest(row, most)
                stream.writelines(f"{utterances[own]} {utterances[other]} nontarget\n" for other in near)
                written += most
    if not written:
        path.unlink()
    return written > 0


def _nearest(row: NDArray[np.float32], most: int) -> NDArray[np.int64]:
    """The places of the ``most`` highest entries, descending, equal ones in order."""
    if most == 0:
        return np.empty(0, dtype=np.int64)
    least = np.partition(row, len(row) - most)[len(row) - most]
    candidates = np.flatnonzero(row >= least)
    return np.asarray(candidates[np.argsort(-row[candidates], kind="stable")][:most])
