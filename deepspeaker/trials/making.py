"""Make trial lists in Kaldi's form, ``enrolment-id test-id target|nontarget``, from the speakers of a test part."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from deepspeaker.errors import InputError
from deepspeaker.files import atomic_path
from deepspeaker.kaldi import spk2utt_of
from deepspeaker.trials.trial_list import MODELS_SUFFIX
from deepspeaker.trials.utterance_pairs import utterance_pairs

#: Trials in a row of the paper's protocol: one target, 99 non-targets.
ROW = 100


def _generator(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence([seed, *name.encode()]))


def write_trials_all(path: Path, utt2spk: Mapping[str, str], seed: int, max_trials: int = 10**8) -> tuple[int, int]:
    """Write every pair of distinct utterances once, in the order of their sorted ids.

    Parameters
    ----------
    path
        The list to write.
    utt2spk
        The speaker of each utterance.
    seed
        Draws the sample; not used when every pair is written.
    max_trials
        With more pairs than this, all target pairs are written and a random sample of the others, so that the list
        has about this many trials.

    Returns
    -------
    The number of target trials and the number of non-target trials.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "trials_all"
    >>> write_trials_all(path, {"anna-1": "anna", "anna-2": "anna", "ben-1": "ben"}, seed=0)
    (1, 2)
    >>> print(path.read_text(), end="")
    anna-1 anna-2 target
    anna-1 ben-1 nontarget
    anna-2 ben-1 nontarget
    """
    utterances = sorted(utt2spk)
    speakers = np.array([utt2spk[utterance] for utterance in utterances])
    target = nontarget = 0
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for first, others, same in utterance_pairs(speakers, max_trials, _generator(seed, path.name)):
            stream.writelines(
                f"{utterances[first]} {utterances[other]} {'target' if is_target else 'nontarget'}\n"
                for other, is_target in zip(others, same, strict=True)
            )
            row_targets = int(same.sum())
            target, nontarget = target + row_targets, nontarget + len(others) - row_targets
    return target, nontarget


def write_trials_1p99(path: Path, utt2spk: Mapping[str, str], seed: int) -> tuple[int, int]:
    """Write the paper's protocol: for each enrolment utterance, a row of one target and 99 non-targets.

    The target is drawn from the speaker's other utterances, the non-targets without replacement from the utterances of
    all other speakers. A speaker with a single utterance enrols nobody.

    Parameters
    ----------
    path
        The list to write.
    utt2spk
        The speaker of each utterance.
    seed
        Draws the trials.

    Returns
    -------
    The number of target trials and the number of non-target trials.

    Raises
    ------
    InputError
        No utterance has another of its speaker and 99 of other speakers.

    References
    ----------
    Li et al., Deep Speaker: an End-to-End Neural Speaker Embedding System, 2017 (arXiv 1705.02304).
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
            partners = np.flatnonzero(same)
            if len(partners) == 0 or len(others) < ROW - 1:
                continue
            nontargets = generator.choice(others, ROW - 1, replace=False)
            stream.write(f"{enrolment} {utterances[generator.choice(partners)]} target\n")
            stream.writelines(f"{enrolment} {utterances[other]} nontarget\n" for other in nontargets)
            rows += 1
        if rows == 0:
            raise InputError(
                f"{path}: a row of 1 target and 99 non-targets needs 2 utterances of a speaker and 99 of other speakers"
            )
    return rows, rows * (ROW - 1)


def write_trials_conditions(
    path: Path,
    utt2spk: Mapping[str, str],
    degraded: Mapping[str, Mapping[str, str]],
    seed: int,
    max_pairs: int = 100_000,
) -> tuple[int, int]:
    r"""Write trials that enrol an utterance as it is, and test a degraded copy of another one.

    Every condition has the same pairs, as far as it has copies of their second utterances: each pair of distinct
    utterances once, or a sample as in `write_trials_all`.

    Parameters
    ----------
    path
        The list to write.
    utt2spk
        The speaker of each utterance that is not degraded.
    degraded
        For each condition, the degraded copy of each utterance.
    seed
        Draws the sample; not used when every pair is written.
    max_pairs
        The approximate number of trials of a condition.

    Returns
    -------
    The number of target trials and the number of non-target trials.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "trials_conditions"
    >>> write_trials_conditions(path, {"anna-1": "anna", "anna-2": "anna"}, {"noise": {"anna-2": "anna-2-noise"}}, 0)
    (1, 0)
    >>> path.read_text()
    'anna-1 anna-2-noise target\n'
    """
    utterances = sorted(utt2spk)
    speakers = np.array([utt2spk[utterance] for utterance in utterances])
    counts = {True: 0, False: 0}
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for first, others, same in utterance_pairs(speakers, max_pairs, _generator(seed, path.name)):
            for copies in degraded.values():
                for other, is_target in zip(others.tolist(), same.tolist(), strict=True):
                    if (copy := copies.get(utterances[other])) is not None:
                        stream.write(f"{utterances[first]} {copy} {'target' if is_target else 'nontarget'}\n")
                        counts[is_target] += 1
    return counts[True], counts[False]


def write_trials_enrol(
    folder: Path, utt2spk: Mapping[str, str], seed: int, max_utterances: int = 5, max_rows: int = 10**4
) -> tuple[dict[str, tuple[int, int]], dict[str, str]]:
    """Write ``trials_enrol_1`` to ``trials_enrol_N``: rows as in `write_trials_1p99`, for models of 1 to N utterances.

    Each utterance starts a row. It and others of its speaker, drawn one by one, form the models; one more is the
    target; the non-targets are drawn from the utterances of all other speakers. So all lists have the same tests, and
    the model of n utterances contains the one of n - 1. Models are written beside each list, as
    ``trials_enrol_N.spk2utt``.

    Parameters
    ----------
    folder
        Where the lists are written.
    utt2spk
        The speaker of each utterance.
    seed
        Draws the trials.
    max_utterances
        N, the utterances of the largest model.
    max_rows
        With more possible rows than this, so many are drawn.

    Returns
    -------
    lists
        The numbers of target and non-target trials of each list, by name; empty when no row can be made.
    left_out
        Why speakers enrol nobody, by speaker: they have too few utterances.
    """
    of_speaker = spk2utt_of(utt2spk)
    left_out = {
        speaker: f"has {len(utterances)} utterances; {max_utterances + 1} are needed"
        for speaker, utterances in of_speaker.items()
        if len(utterances) <= max_utterances
    }
    paths = [folder / f"trials_enrol_{count}" for count in range(1, max_utterances + 1)]
    utterances = sorted(utt2spk)
    starts = [utterance for utterance in utterances if utt2spk[utterance] not in left_out]
    generator = _generator(seed, "trials_enrol")
    if len(starts) > max_rows:
        starts = [starts[n] for n in np.sort(generator.choice(len(starts), max_rows, replace=False))]
    number = {speaker: n for n, speaker in enumerate(of_speaker)}
    speakers = np.array([number[utt2spk[utterance]] for utterance in utterances])
    rows = 0
    with contextlib.ExitStack() as stack:
        files = [
            tuple(
                stack.enter_context(stack.enter_context(atomic_path(path)).open("w", encoding="utf-8"))
                for path in (trials, trials.with_name(trials.name + MODELS_SUFFIX))
            )
            for trials in paths
        ]
        for utterance in starts:
            others = np.flatnonzero(speakers != number[utt2spk[utterance]])
            if len(others) < ROW - 1:
                continue
            partners = [other for other in of_speaker[utt2spk[utterance]] if other != utterance]
            drawn = [partners[n] for n in generator.choice(len(partners), max_utterances, replace=False)]
            nontargets = [utterances[other] for other in generator.choice(others, ROW - 1, replace=False)]
            for count, (trials, models) in enumerate(files, 1):
                model = f"{utterance}-enrol{count}"
                models.write(f"{model} {' '.join([utterance, *drawn[: count - 1]])}\n")
                trials.write(f"{model} {drawn[-1]} target\n")
                trials.writelines(f"{model} {test} nontarget\n" for test in nontargets)
            rows += 1
    if not rows:
        for path in paths:
            path.unlink()
            path.with_name(path.name + MODELS_SUFFIX).unlink()
        return {}, left_out
    return {path.name: (rows, rows * (ROW - 1)) for path in paths}, left_out
