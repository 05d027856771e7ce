"""Stage 6: from embeddings and trial lists to results.json."""

from deepspeaker.evaluation.conditions import (
    EVERY_VALUE,
    Conditions,
    TrialConditions,
    read_conditions,
    read_degraded,
    trial_conditions,
)
from deepspeaker.evaluation.figures import Rates, Scored, at_false_acceptance, condition_figures, system_figures
from deepspeaker.evaluation.fusion import fuse
from deepspeaker.evaluation.hard import write_trials_hard
from deepspeaker.evaluation.lists import find_lists, read_list
from deepspeaker.evaluation.stage import evaluate
from deepspeaker.evaluation.systems import System, check_embedded, read_system

__all__ = [
    "EVERY_VALUE",
    "Conditions",
    "Rates",
    "Scored",
    "System",
    "TrialConditions",
    "at_false_acceptance",
    "check_embedded",
    "condition_figures",
    "evaluate",
    "find_lists",
    "fuse",
    "read_conditions",
    "read_degraded",
    "read_list",
    "read_system",
    "system_figures",
    "trial_conditions",
    "write_trials_hard",
]
