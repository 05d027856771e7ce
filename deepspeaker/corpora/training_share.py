"""Data with a share of the training part, beside the data with all of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from deepspeaker.errors import InputError
from deepspeaker.files import atomic_write
from deepspeaker.kaldi import DataDir, spk2utt_of

#: What the two have in common: links in the folder with the share.
_SHARED = ("dev", "dev_nosil", "test", "test_nosil", ".done.0", ".done.1", ".lock")


def share_training(
    data_dir: Path, output: Path, speakers_share: float, utterances_share: float, say: Callable[[str], None]
) -> None:
    """Write ``train`` and ``train_nosil`` with a share of the speakers and of each one's utterances.

    Only tables are written; arks, the other parts and the trial lists are those of ``data_dir``. The seed of the data
    decides what a share contains. A larger share contains a smaller one. See ``choose_share``.

    Parameters
    ----------
    data_dir
        The data after stage 2.
    output
        The folder to write, in the same folder as ``data_dir``.
    speakers_share, utterances_share
        From 0 to 1.
    say
        Prints a line for the user.

    Raises
    ------
    InputError
        The share has fewer than two speakers, or the folder has other data.
    """
    if (output / "test").is_dir() and not (output / "test").is_symlink():
        raise InputError(f"{output}: has the data of a corpus; rename it, or name other data with --data")
    description = json.loads((data_dir / "corpus.json").read_text(encoding="utf-8"))
    full = DataDir.read(data_dir / "train_nosil")
    chosen = set(choose_share(full.utt2spk, speakers_share, utterances_share, description["seed"]))
    output.mkdir(parents=True, exist_ok=True)
    for name in _SHARED:
        (output / name).unlink(missing_ok=True)
        if (data_dir / name).exists():
            (output / name).symlink_to(os.path.relpath(data_dir / name, output))
    for name in ("train", "train_nosil"):
        DataDir.read(data_dir / name).subset(chosen).write(output / name)
    atomic_write(output / "corpus.json", json.dumps(description | {"corpus": output.name}, indent=2) + "\n")
    speakers = {full.utt2spk[utterance] for utterance in chosen}
    say(
        f"{output}/train: {len(speakers)} of {len(full.spk2utt)} speakers, {len(chosen)} of {len(full.utt2spk)} "
        "utterances"
    )


def choose_share(utt2spk: Mapping[str, str], speakers_share: float, utterances_share: float, seed: int) -> list[str]:
    """Choose a share of the speakers, and of the utterances of each.

    A speaker keeps two utterances or more if there are two, since training needs pairs.

    Raises
    ------
    InputError
        Fewer than two speakers would remain.

    Examples
    --------
    >>> utt2spk = {f"{speaker}-{number}": speaker for speaker in "abcd" for number in range(4)}
    >>> choose_share(utt2spk, 0.5, 0.5, seed=0)
    ['b-1', 'b-2', 'c-2', 'c-3']
    """
    spk2utt = spk2utt_of(utt2spk)
    speakers = _ranked(list(spk2utt), [seed, *b"speakers"])[: round(speakers_share * len(spk2utt))]
    if len(speakers) < 2:
        raise InputError(
            f"--train-speakers-share {speakers_share:g}: training has {len(spk2utt)} speakers, of which fewer than two "
            "would remain; give a larger share"
        )
    chosen = []
    for speaker in speakers:
        utterances = spk2utt[speaker]
        count = max(round(utterances_share * len(utterances)), min(2, len(utterances)))
        chosen += _ranked(utterances, [seed, *speaker.encode()])[:count]
    return sorted(chosen)


def _ranked(names: list[str], seed: list[int]) -> list[str]:
    """Return names in a random order that does not depend on other names."""
    return [names[i] for i in np.random.default_rng(np.random.SeedSequence(seed)).permutation(len(names))]
