"""The trial lists of an evaluation: those of stage 1, the user's own, and the one that stage 6 makes."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepspeaker.errors import InputError
from deepspeaker.files import atomic_path, atomic_write, sha256_of
from deepspeaker.kaldi import read_table
from deepspeaker.results import TrialListInfo
from deepspeaker.trials import Enrolment, Trials, read_foreign_trials, read_trials, write_trials

ALL, ROWS, HARD, OWN = "trials_all", "trials_1p99", "trials_hard", "trials"
#: Lists of the enrolment table: trials_enrol_N has models of N utterances.
ENROLMENT = re.compile(r"trials_enrol_([1-9][0-9]*)")
#: A list's models stand beside it, under its name and this.
MODELS = ".spk2utt"
_UNKNOWN = -1


@dataclass(frozen=True, eq=False)
class TestList:
    """A trial list over ``utterances`` (sorted), ready to be scored.

    Trial k is the model ``enrolment[k]`` of ``models`` against the utterance ``test[k]``; ``trials`` has it by name.
    ``speaker`` numbers the speaker of each utterance, -1 where it is not one of the test part.
    """

    name: str
    path: Path
    trials: Trials
    utterances: list[str]
    models: Enrolment
    enrolment: NDArray[np.int64]
    test: NDArray[np.int64]
    speaker: NDArray[np.int64]
    speakers: list[str]
    info: TrialListInfo

    @property
    def is_target(self) -> NDArray[np.bool_]:
        return self.trials.is_target

    @property
    def enrolment_speaker(self) -> NDArray[np.int64]:
        """Of each trial, (trials,)."""
        return self.speaker[self.models.utterances[self.models.begin[:-1]]][self.enrolment]

    @property
    def test_speaker(self) -> NDArray[np.int64]:
        """Of each trial, (trials,)."""
        return self.speaker[self.test]

    @property
    def enrolment_utterances(self) -> int | None:
        """N, where the list is one of the enrolment table."""
        found = ENROLMENT.fullmatch(self.name)
        return int(found[1]) if found else None


def find_lists(data_dir: Path, exp_dir: Path, own: Sequence[Path], enrolment: Path | None) -> list[Path]:
    """The lists in ``data_dir/test`` and copies of the user's ``own``, which ``exp_dir/trials`` then holds alone.

    The models of own lists come from ``enrolment``, from a file beside the list with ``.spk2utt`` after its name, or
    from ``enrol_spk2utt`` of the test part; they are copied along.
    """
    folder = data_dir / "test"
    if not (folder / ALL).is_file():
        raise InputError(f"{folder}/{ALL}: no such trial list; run stage 1")
    made = sorted(
        (path for path in folder.glob("trials_enrol_*") if ENROLMENT.fullmatch(path.name)),
        key=lambda path: (len(path.name), path.name),
    )
    lists = [path for path in (folder / ALL, folder / ROWS, folder / OWN) if path.is_file()] + made
    if enrolment is not None and not own:
        raise InputError(f"--enrolment {enrolment}: is for lists that --trials names")
    taken = {path.name for path in lists} | {HARD}
    for path in own:
        if not path.is_file():
            raise InputError(f"--trials {path}: no such trial list")
        if path.name in taken or path.name.endswith(MODELS):
            raise InputError(f"--trials {path}: results are named after the file, and {path.name} is taken; rename it")
        taken.add(path.name)
    if enrolment is not None and not enrolment.is_file():
        raise InputError(f"--enrolment {enrolment}: no such file")
    kept, taking = exp_dir / "trials", exp_dir / "trials.tmp"  # a list may be named where an earlier run kept it
    shutil.rmtree(taking, ignore_errors=True)
    for path in own:
        copy = taking / path.name
        _take(path, copy)
        beside = path.with_name(path.name + MODELS)
        models = enrolment or (beside if beside.is_file() else folder / "enrol_spk2utt")
        if models.is_file():
            atomic_write(copy.with_name(copy.name + MODELS), models.read_bytes())
        lists.append(kept / path.name)
    shutil.rmtree(kept, ignore_errors=True)
    if own:
        taking.rename(kept)
    return lists


def _take(path: Path, copy: Path) -> None:
    """Copies a list; one that is not in Kaldi's form gets it."""
    with path.open(encoding="utf-8", errors="replace") as stream:
        words = stream.readline().rstrip("\r\n").split(" ")
    if len(words) == 3 and words[2] in ("target", "nontarget"):
        with atomic_path(copy) as temporary:
            shutil.copyfile(path, temporary)
    else:
        write_trials(copy, read_foreign_trials(path))


def read_list(path: Path, utt2spk: Mapping[str, str], chosen_by: str | None = None) -> TestList:
    """Reads a list with its models, and checks its labels against the speakers.

    Raises ``InputError`` that names the file: a class has no trial; a model of two speakers; a label that the
    speakers contradict; in a list of ours an id that is not of the test part.
    """
    trials = read_trials(path)
    target = int(trials.is_target.sum())
    for count, what in ((target, "target"), (len(trials.is_target) - target, "non-target")):
        if not count:
            raise InputError(f"{path}: has no {what} trial; error rates need target and non-target trials")
    told = _models_of(path)
    enrols = np.bincount(trials.enrolment, minlength=len(trials.ids)) > 0
    told = {name: told[name] for name in (trials.ids[number] for number in np.flatnonzero(enrols)) if name in told}
    if told:
        utterances, models, enrolment, test = _with_models(path, trials, enrols, told, utt2spk)
    else:
        utterances, models = trials.ids, Enrolment.single(len(trials.ids))
        enrolment, test = trials.enrolment, trials.test
    speakers = sorted({utt2spk[utterance] for utterance in utterances if utterance in utt2spk})
    number = {speaker: n for n, speaker in enumerate(speakers)}
    speaker = np.array([number.get(utt2spk.get(utterance, ""), _UNKNOWN) for utterance in utterances])
    if path.name in (ALL, ROWS, HARD) or ENROLMENT.fullmatch(path.name):
        for utterance in np.flatnonzero(speaker == _UNKNOWN)[:1]:
            raise InputError(f"{path}: {utterances[utterance]} is not an utterance of {path.parent}; run stage 1 again")
    info = TrialListInfo(
        target=target,
        nontarget=len(trials.is_target) - target,
        speakers=len(speakers),
        sha256=sha256_of(path),
        models=int(enrols.sum()) if told else None,
        chosen_by=chosen_by,
    )
    found = TestList(path.name, path, trials, utterances, models, enrolment, test, speaker, speakers, info)
    _check_labels(found)
    return found


def _models_of(path: Path) -> dict[str, list[str]]:
    """The enrolment models of a list: of the file beside it, or of the test part for its ``trials``."""
    beside = path.with_name(path.name + MODELS)
    if not beside.is_file() and path.name == OWN:
        beside = path.with_name("enrol_spk2utt")
    if not beside.is_file():
        return {}
    told = {model: utterances.split() for model, utterances in read_table(beside).items()}
    for model, utterances in told.items():
        if not utterances:
            raise InputError(f"{beside}: {model} has no utterance; complete or remove it")
        if len(set(utterances)) < len(utterances):
            raise InputError(f"{beside}: {model} has an utterance twice; keep it once")
    return told


def _with_models(
    path: Path,
    trials: Trials,
    enrols: NDArray[np.bool_],
    told: Mapping[str, list[str]],
    utt2spk: Mapping[str, str],
) -> tuple[list[str], Enrolment, NDArray[np.int64], NDArray[np.int64]]:
    """Utterances, models, and each trial's model and test utterance; ids without a model stand for themselves."""
    tested = np.zeros(len(trials.ids), dtype=bool)
    tested[trials.test] = True
    names = [trials.ids[number] for number in np.flatnonzero(enrols)]
    own = [told.get(name, [name]) for name in names]
    for name, utterances in zip(names, own, strict=True):
        if name in told and name in utt2spk and utterances != [name]:
            raise InputError(f"{path}: {name} is an enrolment model and an utterance too; give the model another name")
        of = sorted({utt2spk[utterance] for utterance in utterances if utterance in utt2spk})
        if len(of) > 1:
            raise InputError(f"{path}: the enrolment model {name} has utterances of {of[0]} and {of[1]}; one is wanted")
    ids = sorted({trials.ids[number] for number in np.flatnonzero(tested)}.union(*own))
    row = {utterance: n for n, utterance in enumerate(ids)}
    model_of = np.cumsum(enrols) - 1
    row_of = np.array([row.get(name, 0) for name in trials.ids])
    models = Enrolment.of([[row[utterance] for utterance in utterances] for utterances in own])
    return ids, models, model_of[trials.enrolment], row_of[trials.test]


def _check_labels(test_list: TestList) -> None:
    one, other = test_list.enrolment_speaker, test_list.test_speaker
    wrong = ((one == other) != test_list.is_target) & (one != _UNKNOWN) & (other != _UNKNOWN)
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        ids, trials = test_list.trials.ids, test_list.trials
        raise InputError(
            f"{test_list.path}:{first + 1}: {ids[trials.enrolment[first]]} {ids[trials.test[first]]} are of "
            f"{test_list.speakers[one[first]]} and {test_list.speakers[other[first]]}, its label says otherwise "
            f"({int(wrong.sum())} such trials); mend it or utt2spk"
        )
