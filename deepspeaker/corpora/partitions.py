"""Training, development and test parts with disjoint speakers."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations

import numpy as np

from deepspeaker.errors import InputError
from deepspeaker.kaldi import DataDir

PARTS = ("train", "dev", "test")

#: Without a development part, this share of the training speakers with two or more utterances becomes one.
DEV_SHARE, MAX_DEV_SPEAKERS, MIN_DEV_SPEAKERS = 0.1, 40, 2

#: How many training speakers with two or more utterances this needs.
MIN_SPEAKERS_TO_SPLIT = math.ceil(MIN_DEV_SPEAKERS / DEV_SHARE)

#: What to do if there are no development speakers.
DEV_REMEDY = (
    "name development parts (--dev-parts), add DIR/dev or DIR/dev_cuts.jsonl.gz, or train on "
    f"{MIN_SPEAKERS_TO_SPLIT} speakers or more that have two utterances"
)


def check_disjoint(data: dict[str, DataDir], allowed: bool, say: Callable[[str], None] | None = None) -> None:
    """Check that no speaker is in two parts; if ``allowed``, tell the user instead of raising ``InputError``."""
    for first, second in combinations(data, 2):
        shared = sorted(data[first].spk2utt.keys() & data[second].spk2utt.keys())
        if not shared:
            continue
        finding = f"{len(shared)} speakers are in both {first} and {second} (first: {shared[0]})"
        if not allowed:
            raise InputError(
                f"{finding}; name parts with different speakers, remove the speakers from one of the parts, or give "
                "--allow-speaker-overlap true"
            )
        if say is not None:
            say(f"note: {finding}, which --allow-speaker-overlap allows")


def split_off_dev(data: dict[str, DataDir], seed: int, say: Callable[[str], None]) -> dict[str, DataDir]:
    """Return the parts with a development part, whose speakers the seed draws from the training part.

    With too few training speakers, it prints a line and returns the parts unchanged.
    """
    train = data["train"]
    speakers = [speaker for speaker, utterances in train.spk2utt.items() if len(utterances) > 1]
    count = min(int(len(speakers) * DEV_SHARE), MAX_DEV_SPEAKERS)
    if count < MIN_DEV_SPEAKERS:
        say(
            f"no development speakers: only {len(speakers)} training speakers have two utterances or more, fewer than "
            f"the {MIN_SPEAKERS_TO_SPLIT} from which a tenth would be split off; there will be no development EER, and "
            f"the back ends calibrated, fused and plda-adapted cannot be trained. To change that, {DEV_REMEDY}"
        )
        return data
    generator = np.random.default_rng(np.random.SeedSequence([seed, *b"dev"]))
    chosen = set(generator.choice(speakers, count, replace=False).tolist())
    say(f"no development part was given: {count} of {len(train.spk2utt)} training speakers become it")
    return {
        "train": train.subset([u for u, speaker in train.utt2spk.items() if speaker not in chosen]),
        "dev": train.subset([u for u, speaker in train.utt2spk.items() if speaker in chosen]),
        "test": data["test"],
    }
