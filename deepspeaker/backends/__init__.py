"""Back ends that turn embeddings into scores: functions of arrays, and one registry."""

from deepspeaker.backends.calibration import Calibration, duration_measures, train_calibration
from deepspeaker.backends.cosine import cosine_scores, length_normalised
from deepspeaker.backends.normalisation import cohort_statistics, normalised_scores
from deepspeaker.backends.plda import Plda, Statistics, adapt_plda, em_step, log_likelihood, plda_scores, train_plda
from deepspeaker.backends.products import BLOCK, pair_products
from deepspeaker.backends.registry import (
    BACKENDS,
    BackEnd,
    EmbeddedTrials,
    Embeddings,
    Options,
    PldaEnrolment,
    averaging,
    labelled_pairs,
    needed_parts,
    train_backend,
)

__all__ = [
    "BACKENDS",
    "BLOCK",
    "BackEnd",
    "Calibration",
    "EmbeddedTrials",
    "Embeddings",
    "Options",
    "Plda",
    "PldaEnrolment",
    "Statistics",
    "adapt_plda",
    "averaging",
    "cohort_statistics",
    "cosine_scores",
    "duration_measures",
    "em_step",
    "labelled_pairs",
    "length_normalised",
    "log_likelihood",
    "needed_parts",
    "normalised_scores",
    "pair_products",
    "plda_scores",
    "train_backend",
    "train_calibration",
    "train_plda",
]
