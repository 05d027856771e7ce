"""Trial lists: making them, reading those of any toolkit, and their enrolment models."""

from deepspeaker.trials.enrolment import Enrolment
from deepspeaker.trials.foreign import LabelledScores, read_foreign_trials, read_labelled_scores
from deepspeaker.trials.id_pairs import first_duplicate, match, numbered
from deepspeaker.trials.making import (
    ROW,
    write_trials_1p99,
    write_trials_all,
    write_trials_conditions,
    write_trials_enrol,
)
from deepspeaker.trials.trial_list import (
    MODELS_SUFFIX,
    UNKNOWN_SPEAKER,
    TrialList,
    read_trials,
    trial_list_path,
    write_scores,
    write_trials,
)
from deepspeaker.trials.utterance_pairs import utterance_pairs

__all__ = [
    "MODELS_SUFFIX",
    "ROW",
    "UNKNOWN_SPEAKER",
    "Enrolment",
    "LabelledScores",
    "TrialList",
    "first_duplicate",
    "match",
    "numbered",
    "read_foreign_trials",
    "read_labelled_scores",
    "read_trials",
    "trial_list_path",
    "utterance_pairs",
    "write_scores",
    "write_trials",
    "write_trials_1p99",
    "write_trials_all",
    "write_trials_conditions",
    "write_trials_enrol",
]
