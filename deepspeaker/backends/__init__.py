"""Back ends that turn embeddings into scores: plain functions of arrays, and one registry."""

from deepspeaker.backends.calibration import duration_measures, train_calibration
from deepspeaker.backends.normalisation import cohort_statistics, normalised_scores
from deepspeaker.backends.plda import Plda, Statistics, adapt_plda, em_step, log_likelihood, plda_scores, train_plda
from deepspeaker.backends.products import pair_products
from deepspeaker.backends.registry import (
    BACKENDS,
    CALIBRATED,
    BackEnd,
    Embeddings,
    PldaEnrolment,
    build_backend,
    cosine_scores,
    needed_parts,
)

__all__ = [
    "BACKENDS",
    "CALIBRATED",
    "BackEnd",
    "Embeddings",
    "Plda",
    "PldaEnrolment",
    "Statistics",
    "adapt_plda",
    "build_backend",
    "cohort_statistics",
    "cosine_scores",
    "duration_measures",
    "em_step",
    "log_likelihood",
    "needed_parts",
    "normalised_scores",
    "pair_products",
    "plda_scores",
    "train_calibration",
    "train_plda",
]
