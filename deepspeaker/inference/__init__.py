"""Exported models: load one, embed audio, compare voices. ``deepspeaker.export`` writes them."""

from deepspeaker.inference.answers import Candidate, Identification, Recording, Verdict, Voice, Window
from deepspeaker.inference.checks import Problem, Quality, problems, quality
from deepspeaker.inference.cohort import Cohort
from deepspeaker.inference.description import (
    CARD,
    COHORT,
    DESCRIPTION,
    FALSE_ACCEPTANCE,
    FORMAT,
    INT8_ONNX,
    NETWORK_ONNX,
    ONNX,
    WEIGHTS,
    Description,
    NetworkDescription,
    Rates,
    RatesBySeconds,
    StoredCalibration,
    StoredCohort,
    Threshold,
    threshold_for,
)
from deepspeaker.inference.many_files import FileEmbedding, Source, embed_files
from deepspeaker.inference.model import SpeakerModel, fingerprint_of
from deepspeaker.inference.speech_score import log_odds, window_statistics, with_products
from deepspeaker.inference.voices import Voices

__all__ = [
    "CARD",
    "COHORT",
    "DESCRIPTION",
    "FALSE_ACCEPTANCE",
    "FORMAT",
    "INT8_ONNX",
    "NETWORK_ONNX",
    "ONNX",
    "WEIGHTS",
    "Candidate",
    "Cohort",
    "Description",
    "FileEmbedding",
    "Identification",
    "NetworkDescription",
    "Problem",
    "Quality",
    "Rates",
    "RatesBySeconds",
    "Recording",
    "Source",
    "SpeakerModel",
    "StoredCalibration",
    "StoredCohort",
    "Threshold",
    "Verdict",
    "Voice",
    "Voices",
    "Window",
    "embed_files",
    "fingerprint_of",
    "log_odds",
    "problems",
    "quality",
    "threshold_for",
    "window_statistics",
    "with_products",
]
