"""Training, development and test parts with disjoint speakers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np

from deepspeaker.errors import InputError
from deepspeaker.kaldi import DataDir

PARTS = ("train", "dev", "test")

#: Without a development part, this share of the training speakers with two or more utterances becomes one.
DEV_SHARE, MAX_DEV_SPEAKERS, MIN_DEV_SPEAKERS = 0.1, 40, 2

#: How many training speakers with two or more utterances this needs.
MIN_SPEAKERS_TO_SPLIT = math.ceil(MIN_DEV_SPEAKERS / DEV_SHARE)

#: Without a test part, this share of the speakers with two or more utterances becomes one.
TEST_SHARE, MAX_TEST_SPEAKERS, MIN_TEST_SPEAKERS = 0.25, 40, 2
#: Two more are needed for training.
MIN_SPEAKERS_TO_TEST = MIN_TEST_SPEAKERS + 2

#: With fewer test speakers, stage 6 prints no confidence intervals.
_FEW_TEST_SPEAKERS = 5

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
    train, dev = _divided(train, speakers, count, seed, "dev")
    say(f"no development part was given: {count} of {len(data['train'].spk2utt)} training speakers become it")
    return {"train": train, "dev": dev, "test": data["test"]}


def split_off_test(data: DataDir, seed: int, say: Callable[[str], None]) -> dict[str, DataDir]:
    """Return a training and a test part, whose speakers the seed draws from those with two or more utterances.

    With too few speakers for two parts, it prints a line, and both parts have all of them.

    Raises
    ------
    InputError
        Fewer than two speakers have two utterances.
    """
    total = len(data.spk2utt)
    speakers = [speaker for speaker, utterances in data.spk2utt.items() if len(utterances) > 1]
    if len(speakers) < MIN_TEST_SPEAKERS:
        raise InputError(
            f"{len(speakers)} of {total} speakers have two files or more, but a test needs {MIN_TEST_SPEAKERS} such "
            "speakers; add recordings"
        )
    if total < MIN_SPEAKERS_TO_TEST:
        say(
            f"note: {total} speakers are too few to test on other speakers than those of training, which takes "
            f"{MIN_SPEAKERS_TO_TEST}: all are in both parts. This shows that the recipe runs, and no more: the error "
            "rates will be far too low, and tell nothing about the voices of other speakers"
        )
        return {"train": data, "test": data}
    count = min(max(round(len(speakers) * TEST_SHARE), MIN_TEST_SPEAKERS), MAX_TEST_SPEAKERS)
    train, test = _divided(data, speakers, count, seed, "test")
    say(
        f"no folders train and test were given: seed {seed} chose {count} of {total} speakers for the test"
        + (
            f". So few cannot tell how often the system errs: other {count} speakers may give very different error "
            f"rates, and there are no confidence intervals below {_FEW_TEST_SPEAKERS} test speakers"
            if count < _FEW_TEST_SPEAKERS
            else ""
        )
    )
    return {"train": train, "test": test}


def _divided(data: DataDir, speakers: Sequence[str], count: int, seed: int, name: str) -> tuple[DataDir, DataDir]:
    """Draw ``count`` of the ``speakers``; return the tables of all others and those of the drawn ones."""
    generator = np.random.default_rng(np.random.SeedSequence([seed, *name.encode()]))
    chosen = set(generator.choice(speakers, count, replace=False).tolist())
    drawn = [utterance for utterance, speaker in data.utt2spk.items() if speaker in chosen]
    return data.subset(data.utt2spk.keys() - set(drawn)), data.subset(drawn)
