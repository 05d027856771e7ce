"""Back ends that turn embeddings into scores, and their run over trial lists."""

from deepspeaker.scoring.backends import (
    BACKENDS,
    CALIBRATED,
    BackEnd,
    Embeddings,
    PldaEnrolment,
    build_backend,
    cosine_scores,
    needed_parts,
)
from deepspeaker.scoring.enrolment import Enrolment
from deepspeaker.scoring.foreign import LabelledScores, read_foreign_trials, read_labelled_scores
from deepspeaker.scoring.trials import Trials, labelled_scores, read_trials, write_scores, write_trials

__all__ = [
    "BACKENDS",
    "CALIBRATED",
    "BackEnd",
    "Embeddings",
    "Enrolment",
    "LabelledScores",
    "PldaEnrolment",
    "Trials",
    "build_backend",
    "cosine_scores",
    "labelled_scores",
    "needed_parts",
    "read_foreign_trials",
    "read_labelled_scores",
    "read_trials",
    "write_scores",
    "write_trials",
]
