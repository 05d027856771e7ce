"""A trial list as arrays, read from and written to Kaldi's text form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deepspeaker.errors import InputError
from deepspeaker.files import atomic_path
from deepspeaker.trials.enrolment import Enrolment
from deepspeaker.trials.id_pairs import first_duplicate, numbered

if TYPE_CHECKING:
    import polars as pl

#: A list's enrolment models are in a file beside it: the list's name and this suffix.
MODELS_SUFFIX = ".spk2utt"
#: The number of a speaker who is not in ``utt2spk``.
UNKNOWN_SPEAKER = -1


@dataclass(frozen=True, eq=False)
class TrialList:
    """Trials, each of an enrolment model against a test utterance.

    Trial ``k`` compares the model ``model_ids[enrolment[k]]`` with the utterance ``utterances[test[k]]``. A model is
    one utterance or several. In a plain list every utterance is a model, and ``model_ids`` is ``utterances``.

    Examples
    --------
    >>> trials = TrialList(["anna-1", "anna-2", "ben-1"], np.array([0, 0]), np.array([1, 2]), np.array([True, False]))
    >>> trials.utterances[trials.test[1]]
    'ben-1'
    >>> trials = trials.with_models({"anna-1": ["anna-1", "anna-2"]}).with_speakers({"anna-1": "anna", "ben-1": "ben"})
    >>> trials.models.counts
    array([2])
    >>> trials.enrolment_speaker, trials.test_speaker
    (array([0, 0]), array([-1,  1]))
    """

    utterances: list[str]
    """Ids of all utterances that the models and the tests consist of, sorted."""
    enrolment: NDArray[np.int64]
    """Model of each trial, an index into ``model_ids``, shape ``(trials,)``."""
    test: NDArray[np.int64]
    """Test utterance of each trial, an index into ``utterances``, shape ``(trials,)``."""
    is_target: NDArray[np.bool_]
    """Whether both sides are of one speaker, shape ``(trials,)``."""
    model_ids: list[str] = field(default_factory=list)
    """Names of the enrolment models, sorted; by default, every utterance is a model."""
    models: Enrolment = field(default_factory=lambda: Enrolment.single(0))
    """The utterances of each model, as indices into ``utterances``."""
    speakers: list[str] = field(default_factory=list)
    """Ids of the known speakers, sorted."""
    speaker: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Speaker of each utterance, an index into ``speakers`` or -1 where unknown, shape ``(utterances,)``."""
    path: Path = Path()
    """Where the list was read from."""

    def __post_init__(self) -> None:
        if not self.model_ids:
            object.__setattr__(self, "model_ids", self.utterances)
            object.__setattr__(self, "models", Enrolment.single(len(self.utterances)))
        if not len(self.speaker):
            object.__setattr__(self, "speaker", np.full(len(self.utterances), UNKNOWN_SPEAKER))

    @property
    def name(self) -> str:
        """The list's name in results: that of its file."""
        return self.path.name

    @property
    def enrolment_speaker(self) -> NDArray[np.int64]:
        """Speaker of the enrolment side of each trial, shape ``(trials,)``."""
        return self.speaker[self.models.utterances[self.models.begin[:-1]]][self.enrolment]

    @property
    def test_speaker(self) -> NDArray[np.int64]:
        """Speaker of the test side of each trial, shape ``(trials,)``."""
        return self.speaker[self.test]

    def text_of(self, trial: int) -> str:
        """Return the two ids of a trial as a line has them."""
        return f"{self.model_ids[self.enrolment[trial]]} {self.utterances[self.test[trial]]}"

    def with_models(self, utterances_of: Mapping[str, Sequence[str]]) -> TrialList:
        """Return the list with enrolment models of one or more utterances, which its first column names.

        A name that is not in ``utterances_of`` stands for the utterance of that name. Speakers are forgotten.
        """
        enrols = np.bincount(self.enrolment, minlength=len(self.model_ids)) > 0
        model_ids = [self.model_ids[number] for number in np.flatnonzero(enrols)]
        consist_of = [list(utterances_of.get(name, [name])) for name in model_ids]
        tested = {self.utterances[number] for number in np.unique(self.test)}
        utterances = sorted(tested.union(*consist_of))
        row = {utterance: number for number, utterance in enumerate(utterances)}
        new_row = np.array([row.get(utterance, 0) for utterance in self.utterances])
        return replace(
            self,
            utterances=utterances,
            enrolment=(np.cumsum(enrols) - 1)[self.enrolment],
            test=new_row[self.test],
            model_ids=model_ids,
            models=Enrolment.of([[row[utterance] for utterance in one] for one in consist_of]),
            speakers=[],
            speaker=np.full(len(utterances), UNKNOWN_SPEAKER),
        )

    def with_speakers(self, utt2spk: Mapping[str, str]) -> TrialList:
        """Return the list with the speakers of its utterances."""
        speakers = sorted({utt2spk[utterance] for utterance in self.utterances if utterance in utt2spk})
        number = {speaker: n for n, speaker in enumerate(speakers)}
        speaker = [number.get(utt2spk.get(utterance, ""), UNKNOWN_SPEAKER) for utterance in self.utterances]
        return replace(self, speakers=speakers, speaker=np.array(speaker, dtype=np.int64))


def read_trials(path: Path) -> TrialList:
    """Read ``enrolment-id test-id target|nontarget`` lines, with one space between the words.

    Raises
    ------
    InputError
        Names file and line: a line of another form, or a trial that appears twice.

    See Also
    --------
    read_foreign_trials : Lists of other toolkits.
    """
    table = _read_words(path)
    labels = table["label"]
    wrong = ~labels.is_in(["target", "nontarget"])
    if wrong.any():
        line = int(wrong.arg_true()[0])
        raise InputError(f"{path}:{line + 1}: the third word must be target or nontarget, not {labels[line]}")
    ids, (enrolment, test) = numbered(table["enrolment"], table["test"])
    trials = TrialList(ids, enrolment, test, (labels == "target").to_numpy().copy(), path=path)
    keys = enrolment * len(ids) + test
    duplicate = first_duplicate(keys)
    if duplicate is not None:
        lines = np.setdiff1d(np.arange(len(keys)), np.unique(keys, return_index=True)[1]).tolist()
        more = f" ({len(lines)} lines: {', '.join(str(n + 1) for n in lines[:10])}{', ...' if len(lines) > 10 else ''})"
        raise InputError(
            f"{path}:{duplicate + 1}: the trial {trials.text_of(duplicate)} appears twice"
            f"{more if len(lines) > 1 else ''}; keep one"
        )
    return trials


def write_trials(path: Path, trials: TrialList) -> None:
    """Write ``enrolment-id test-id target|nontarget`` lines."""
    _write_lines(path, trials, slice(None), np.where(trials.is_target, "target", "nontarget"))


def write_scores(path: Path, trials: TrialList, scores: NDArray[np.float32], scored: NDArray[np.bool_]) -> None:
    """Write ``enrolment-id test-id score`` lines of the trials that are ``scored``.

    Parameters
    ----------
    path
        The score file to write.
    trials
        The list that was scored.
    scores
        Scores of all trials, shape ``(trials,)``. The text of a score reads back as the same float32.
    scored
        Which trials to write, shape ``(trials,)``.
    """
    _write_lines(path, trials, scored, scores[scored])


def _write_lines(path: Path, trials: TrialList, chosen: slice | NDArray[np.bool_], last: NDArray[Any]) -> None:
    import polars as pl

    models = pl.Series(trials.model_ids)
    utterances = models if trials.model_ids is trials.utterances else pl.Series(trials.utterances)
    table = pl.DataFrame(
        {
            "enrolment": models.gather(trials.enrolment[chosen]),
            "test": utterances.gather(trials.test[chosen]),
            "last": pl.Series(last),
        }
    )
    with atomic_path(path) as temporary:
        table.write_csv(temporary, include_header=False, separator=" ", quote_style="never")


def _read_words(path: Path) -> pl.DataFrame:
    """Return the columns ``enrolment``, ``test`` and ``label`` as ``Categorical``."""
    import polars as pl

    if not path.is_file():
        raise InputError(f"{path}: no such file; run the stage that writes it")
    schema = dict.fromkeys(("enrolment", "test", "label"), pl.Categorical)
    try:
        table = pl.read_csv(path, has_header=False, separator=" ", quote_char=None, schema=schema)
    except (pl.exceptions.PolarsError, UnicodeDecodeError):
        raise InputError(_first_problem(path)) from None
    if not len(table) or any(table[name].null_count() for name in schema):
        raise InputError(_first_problem(path))
    return table


def _first_problem(path: Path) -> str:
    form = "every line must be 'enrolment-id test-id target|nontarget', with one space between the words"
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            words = line.rstrip(b"\r\n").split(b" ")
            if len(words) != 3 or b"" in words:
                return f"{path}:{number}: {form}"
    return f"{path}: {'is not UTF-8 text' if path.stat().st_size else 'is empty'}; {form}"


def trial_list_path(data_dir: Path, exp_dir: Path, name: str) -> Path:
    """Return where the trial list with this name in ``results.json`` is: in the experiment, or in the test part."""
    in_experiment = exp_dir / "trials" / name
    return in_experiment if in_experiment.is_file() else data_dir / "test" / name
