"""``trials_hard``: each utterance against the utterances of other speakers that a system confuses with it most."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepspeaker.backends import length_normalised
from deepspeaker.files import atomic_path

#: The system whose cosines choose the non-target trials, and how results.json names it.
CHOOSER, CHOSEN_BY = "softmax", "softmax, cosine"
_BLOCK = 1024


def write_trials_hard(
    path: Path,
    vectors: Mapping[str, NDArray[np.float32]],
    utt2spk: Mapping[str, str],
    spk2gender: Mapping[str, str],
    nontargets: int,
) -> bool:
    """Write all target pairs once and, for each utterance, its nearest utterances of other speakers.

    Parameters
    ----------
    path
        The list to write.
    vectors
        The embedding of each utterance; utterances without one are in no trial.
    utt2spk
        The speaker of each utterance.
    spk2gender
        The gender of speakers. Where both genders are known, non-target trials have one gender.
    nontargets
        Nontarget trials for each utterance: those with the highest cosine. Among equal cosines, the lower id is taken.

    Returns
    -------
    Whether there are both target and non-target trials; otherwise nothing is written.
    """
    utterances = sorted(vectors.keys() & utt2spk.keys())
    speakers = sorted({utt2spk[utterance] for utterance in utterances})
    number = {name: n for n, name in enumerate(speakers)}
    speaker = np.array([number[utt2spk[utterance]] for utterance in utterances], dtype=np.int64)
    genders = sorted({spk2gender.get(name, "") for name in speakers} - {""})
    of_speaker = [genders.index(spk2gender[name]) if spk2gender.get(name) else -1 for name in speakers]
    gender = np.array(of_speaker, dtype=np.int64)[speaker]
    if len(speakers) < 2 or len(speakers) == len(utterances):
        return False
    unit = length_normalised(np.stack([vectors[utterance] for utterance in utterances]))
    written = 0
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for first in range(0, len(utterances), _BLOCK):
            cosines = unit[first : first + _BLOCK] @ unit.T
            for row, cosine in enumerate(cosines, first):
                same = speaker == speaker[row]
                excluded = same | ((gender != gender[row]) & (gender != -1) & (gender[row] != -1))
                cosine[excluded] = -np.inf
                count = min(nontargets, len(cosine) - int(excluded.sum()))
                later = np.flatnonzero(same[row + 1 :]) + row + 1
                stream.writelines(f"{utterances[row]} {utterances[other]} target\n" for other in later)
                nearest = _highest(cosine, count)
                stream.writelines(f"{utterances[row]} {utterances[other]} nontarget\n" for other in nearest)
                written += count
    if not written:
        path.unlink()
    return written > 0


def _highest(values: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the indices of the ``count`` highest values, descending, equal values in their order."""
    if count == 0:
        return np.empty(0, dtype=np.int64)
    lowest = np.partition(values, len(values) - count)[len(values) - count]
    candidates = np.flatnonzero(values >= lowest)
    return np.asarray(candidates[np.argsort(-values[candidates], kind="stable")][:count])
