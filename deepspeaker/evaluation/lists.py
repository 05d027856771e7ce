"""The trial lists of an evaluation: those of stage 1, those given by ``--trials``, and the hard list of stage 6."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepspeaker.augmentation import CONDITIONS_PART
from deepspeaker.errors import InputError
from deepspeaker.files import atomic_path, atomic_write, sha256_of
from deepspeaker.kaldi import read_table
from deepspeaker.results import TrialListInfo
from deepspeaker.trials import (
    MODELS_SUFFIX,
    UNKNOWN_SPEAKER,
    TrialList,
    read_foreign_trials,
    read_trials,
    write_trials,
)

#: Names of lists: every pair, the paper's protocol, the hard list, and the list that a Kaldi test directory brings.
ALL, ROWS, HARD, CORPUS = "trials_all", "trials_1p99", "trials_hard", "trials"
#: The list that tests degraded copies.
DEGRADED = "trials_conditions"
_ENROLMENT_LIST = re.compile(r"trials_enrol_([1-9][0-9]*)")


def enrolment_utterances(name: str) -> int | None:
    """Return N for ``trials_enrol_N``, whose models have N utterances, and None for any other list.

    Examples
    --------
    >>> enrolment_utterances("trials_enrol_3"), enrolment_utterances("trials_all")
    (3, None)
    """
    found = _ENROLMENT_LIST.fullmatch(name)
    return int(found[1]) if found else None


def read_corpus(data_dir: Path) -> dict[str, Any]:
    """Return the content of ``corpus.json``, which stage 1 wrote."""
    path = data_dir / "corpus.json"
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run stage 1") from None
    except ValueError:
        raise InputError(f"{path}: not JSON; run stage 1 again") from None
    return content


def find_lists(
    data_dir: Path, exp_dir: Path, given: Sequence[Path], enrolment: Path | None, degraded: bool = False
) -> list[Path]:
    """Return the lists to score: those in ``data_dir/test``, then copies of the ``given`` lists in ``exp_dir/trials``.

    With ``degraded``, the list of ``data_dir/test_conditions`` is among the first.

    The enrolment models of a given list come from ``enrolment``, else from the file beside the list whose name ends in
    ``.spk2utt``, else from ``enrol_spk2utt`` of the test part. They are copied too.

    Raises
    ------
    InputError
        Stage 1 has not run, a given file does not exist, or its name is taken.
    """
    test_dir = data_dir / "test"
    if not (test_dir / ALL).is_file():
        raise InputError(f"{test_dir}/{ALL}: no such trial list; run stage 1")
    enrolment_lists = sorted(
        (path for path in test_dir.glob("trials_enrol_*") if enrolment_utterances(path.name)),
        key=lambda path: (len(path.name), path.name),
    )
    lists = [path for path in (test_dir / ALL, test_dir / ROWS, test_dir / CORPUS) if path.is_file()] + enrolment_lists
    if degraded:
        lists.append(data_dir / CONDITIONS_PART / DEGRADED)
        if not lists[-1].is_file():
            raise InputError(f"{lists[-1]}: no such trial list; run stage 2 with these conditions.copies")
    if enrolment is not None and not given:
        raise InputError(f"--enrolment {enrolment}: needs a list; name it with --trials")
    taken = {path.name for path in lists} | {HARD}
    for path in given:
        if not path.is_file():
            raise InputError(f"--trials {path}: no such trial list")
        if path.name in taken or path.name.endswith(MODELS_SUFFIX):
            raise InputError(f"--trials {path}: results are named after the file, and {path.name} is taken; rename it")
        taken.add(path.name)
    if enrolment is not None and not enrolment.is_file():
        raise InputError(f"--enrolment {enrolment}: no such file")
    copies, temporary = exp_dir / "trials", exp_dir / "trials.tmp"  # a given list may be a copy of an earlier run
    shutil.rmtree(temporary, ignore_errors=True)
    for path in given:
        copy = temporary / path.name
        _copy_list(path, copy, test_dir)
        beside = path.with_name(path.name + MODELS_SUFFIX)
        models = enrolment or (beside if beside.is_file() else test_dir / "enrol_spk2utt")
        if models.is_file():
            atomic_write(copy.with_name(copy.name + MODELS_SUFFIX), models.read_bytes())
        lists.append(copies / path.name)
    shutil.rmtree(copies, ignore_errors=True)
    if given:
        temporary.rename(copies)
    return lists


def _copy_list(path: Path, copy: Path, test_dir: Path) -> None:
    """Copy a list byte by byte if it is in Kaldi's form, else convert it; audio files become their utterances."""
    with path.open(encoding="utf-8", errors="replace") as stream:
        words = stream.readline().rstrip("\r\n").split(" ")
    if len(words) == 3 and words[2] in ("target", "nontarget") and "/" not in words[0] + words[1]:
        with atomic_path(copy) as temporary:
            shutil.copyfile(path, temporary)
    else:
        whole = (test_dir / "wav.scp").is_file() and not (test_dir / "segments").is_file()
        write_trials(copy, read_foreign_trials(path, read_table(test_dir / "wav.scp") if whole else None))


def read_list(path: Path, utt2spk: Mapping[str, str]) -> TrialList:
    """Read a list with its enrolment models and its speakers, and check them.

    Raises
    ------
    InputError
        Names the file: a class has no trial, a model has utterances of two speakers, a label contradicts the speakers,
        or a list of stage 1 or 6 has an id that is not in the test part.
    """
    trials = read_trials(path)
    for count, kind in ((trials.is_target.sum(), "target"), ((~trials.is_target).sum(), "non-target")):
        if not count:
            raise InputError(f"{path}: has no {kind} trial; error rates need target and non-target trials")
    enrolled = {trials.model_ids[number] for number in np.unique(trials.enrolment)}
    models = {name: utterances for name, utterances in _read_models(path).items() if name in enrolled}
    _check_models(path, models, utt2spk)
    if models:
        trials = trials.with_models(models)
    trials = trials.with_speakers(utt2spk)
    if path.name in (ALL, ROWS, HARD) or enrolment_utterances(path.name):
        for row in np.flatnonzero(trials.speaker == UNKNOWN_SPEAKER)[:1]:
            unknown = trials.utterances[row]
            raise InputError(f"{path}: {unknown} is not an utterance of {path.parent}; run stage 1 again")
    _check_labels(trials)
    return trials


def _read_models(path: Path) -> dict[str, list[str]]:
    """Return the models in the file beside a list or, for the list that a corpus brings, in ``enrol_spk2utt``."""
    beside = path.with_name(path.name + MODELS_SUFFIX)
    if not beside.is_file() and path.name == CORPUS:
        beside = path.with_name("enrol_spk2utt")
    if not beside.is_file():
        return {}
    models = {model: utterances.split() for model, utterances in read_table(beside).items()}
    for model, utterances in models.items():
        if not utterances:
            raise InputError(f"{beside}: {model} has no utterance; add one or remove the line")
        if len(set(utterances)) < len(utterances):
            raise InputError(f"{beside}: {model} has an utterance twice; keep it once")
    return models


def _check_models(path: Path, models: Mapping[str, Sequence[str]], utt2spk: Mapping[str, str]) -> None:
    for name, utterances in models.items():
        if name in utt2spk and list(utterances) != [name]:
            raise InputError(f"{path}: {name} is both an enrolment model and an utterance; rename the model")
        speakers = sorted({utt2spk[utterance] for utterance in utterances if utterance in utt2spk})
        if len(speakers) > 1:
            raise InputError(
                f"{path}: the enrolment model {name} has utterances of {speakers[0]} and {speakers[1]}; "
                "a model has one speaker"
            )


def _check_labels(trials: TrialList) -> None:
    first, second = trials.enrolment_speaker, trials.test_speaker
    known = (first != UNKNOWN_SPEAKER) & (second != UNKNOWN_SPEAKER)
    wrong = np.flatnonzero(((first == second) != trials.is_target) & known)
    if len(wrong):
        trial = int(wrong[0])
        raise InputError(
            f"{trials.path}:{trial + 1}: {trials.text_of(trial)} are utterances of {trials.speakers[first[trial]]} and "
            f"{trials.speakers[second[trial]]}, but the label says otherwise ({len(wrong)} such trials); correct the "
            "label or utt2spk"
        )


def list_info(trials: TrialList, chosen_by: str | None) -> TrialListInfo:
    """Return the record of a list in results.json."""
    target = int(trials.is_target.sum())
    return TrialListInfo(
        target=target,
        nontarget=len(trials.is_target) - target,
        speakers=len(trials.speakers),
        sha256=sha256_of(trials.path),
        models=None if trials.model_ids is trials.utterances else len(trials.model_ids),
        chosen_by=chosen_by,
    )
