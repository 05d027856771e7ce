"""Trial lists in Kaldi's form, ``enrolment-id test-id target|nontarget``."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deepspeaker.errors import InputError
from deepspeaker.files import atomic_path, sha256_of
from deepspeaker.kaldi import spk2utt_of
from deepspeaker.trials.utterance_pairs import utterance_pairs

ROW = 100  # a row of the paper's protocol: one target, 99 non-targets


class TrialList(NamedTuple):
    """A list that was written."""

    name: str
    target: int
    nontarget: int
    sha256: str


def _generator(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence([seed, *name.encode()]))


def write_trials_all(
    path: Path, utt2spk: Mapping[str, str], seed: int, largest: int = 10**8
) -> TrialList:
    """Every pair of distinct utterances once, in the order of the C-sorted ids.

    When that makes more than ``largest`` pairs, all target pairs and a random share of the others that brings the
    list to about ``largest``, drawn from ``seed``.
    """
    utterances = sorted(utt2spk)
    speakers = np.array([utt2spk[utterance] for utterance in utterances])
    target = nontarget = 0
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for one, others, same in utterance_pairs(speakers, largest, _generator(seed, path.name)):
            stream.writelines(
                f"{utterances[one]} {utterances[other]} {'target' if is_target else 'nontarget'}\n"
                for other, is_target in zip(others, same, strict=True)
            )
            row_targets = int(same.sum())
            target, nontarget = target + row_targets, nontarget + len(others) - row_targets
    return TrialList(path.name, target, nontarget, sha256_of(path))


def write_trials_1p99(path: Path, utt2spk: Mapping[str, str], seed: int) -> TrialList:
    """The paper's protocol: for each enrolment utterance a row of one target and 99 non-targets of other speakers.

    The target is drawn from the other utterances of the speaker, the non-targets without repetition from those of
    all other speakers. Utterances whose speaker has no second one enrol nobody. Raises ``InputError`` when no row can
    be made.
    """
    utterances = sorted(utt2spk)
    speakers = np.array([utt2spk[utterance] for utterance in utterances])
    generator = _generator(seed, path.name)
    rows = 0
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for number, enrolment in enumerate(utterances):
            same = speakers == speakers[number]
            others = np.flatnonzero(~same)
            same[number] = False
            own = np.flatnonzero(same)
            if len(own) == 0 or len(others) < ROW - 1:
                continue
            chosen = generator.choice(others, ROW - 1, replace=False)
            stream.write(f"{enrolment} {utterances[generator.choice(own)]} target\n")
            stream.writelines(f"{enrolment} {utterances[other]} nontarget\n" for other in chosen)
            rows += 1
        if rows == 0:
            raise InputError(
                f"{path}: no row of 1 target and 99 non-targets can be made; an utterance needs another one of its "
                "speaker and 99 of other speakers"
            )
    return TrialList(path.name, rows, rows * (ROW - 1), sha256_of(path))


def write_trials_enrol(
    folder: Path, utt2spk: Mapping[str, str], seed: int, most: int = 5, largest: int = 10**4
) -> tuple[list[TrialList], dict[str, str]]:
    """``trials_enrol_1`` to ``trials_enrol_MOST``: rows as in ``trials_1p99`` for models of 1 to MOST utterances.

    Each utterance begins a row: it and others of its speaker, drawn in turn, make the models; one more is the target;
    the non-targets are drawn from those of all other speakers. So the lists have the same tests, and a model of n
    utterances holds that of n - 1. Above ``largest`` rows so many are drawn. Models stand beside each list,
    ``trials_enrol_N.spk2utt``.

    Returns the lists (none when there can be no row), and why speakers were left out: they have too few utterances.
    """
    of_speaker = spk2utt_of(utt2spk)
    left_out = {
        speaker: f"has {len(own)} utterances; {most + 1} are wanted"
        for speaker, own in of_speaker.items()
        if len(own) <= most
    }
    paths = [folder / f"trials_enrol_{count}" for count in range(1, most + 1)]
    utterances = sorted(utt2spk)
    begins = [utterance for utterance in utterances if utt2spk[utterance] not in left_out]
    generator = _generator(seed, "trials_enrol")
    if len(begins) > largest:
        begins = [begins[n] for n in np.sort(generator.choice(len(begins), largest, replace=False))]
    number = {speaker: n for n, speaker in enumerate(of_speaker)}
    speakers = np.array([number[utt2spk[utterance]] for utterance in utterances])
    rows = 0
    with contextlib.ExitStack() as stack:
        files = [
            tuple(
                stack.enter_context(stack.enter_context(atomic_path(path)).open("w", encoding="utf-8"))
                for path in (trials, trials.with_name(trials.name + ".spk2utt"))
            )
            for trials in paths
        ]
        for utterance in begins:
            others = np.flatnonzero(speakers != number[utt2spk[utterance]])
            if len(others) < ROW - 1:
                continue
            own = [other for other in of_speaker[utt2spk[utterance]] if other != utterance]
            drawn = [own[n] for n in generator.choice(len(own), most, replace=False)]
            tests = [utterances[other] for other in generator.choice(others, ROW - 1, replace=False)]
            for count, (trials, models) in enumerate(files, 1):
                model = f"{utterance}-enrol{count}"
                models.write(f"{model} {' '.join([utterance, *drawn[: count - 1]])}\n")
                trials.write(f"{model} {drawn[-1]} target\n")
                trials.writelines(f"{model} {test} nontarget\n" for test in tests)
            rows += 1
    if not rows:
        for path in paths:
            path.unlink()
            path.with_name(path.name + ".spk2utt").unlink()
        return [], left_out
    return [TrialList(path.name, rows, rows * (ROW - 1), sha256_of(path)) for path in paths], left_out
