"""Trial lists: making them, reading everybody's, and the enrolment models that they name."""

from deepspeaker.trials.enrolment import Enrolment
from deepspeaker.trials.foreign import LabelledScores, read_foreign_trials, read_labelled_scores
from deepspeaker.trials.id_pairs import first_twice, match, numbered
from deepspeaker.trials.making import TrialList, write_trials_1p99, write_trials_all, write_trials_enrol
from deepspeaker.trials.trial_list import (
    Trials,
    labelled_scores,
    read_trials,
    trial_list_path,
    write_scores,
    write_trials,
)
from deepspeaker.trials.utterance_pairs import utterance_pairs

__all__ = [
    "Enrolment",
    "LabelledScores",
    "TrialList",
    "Trials",
    "first_twice",
    "labelled_scores",
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
    "write_trials_enrol",
]
