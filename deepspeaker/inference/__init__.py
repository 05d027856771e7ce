"""Exported models: load one, embed audio, compare voices. ``deepspeaker.export`` writes them."""

from deepspeaker.inference.answers import Candidate, Identification, Recording, Verdict, Voice, Window
from deepspeaker.inference.checks import Problem, Quality, problems, quality
from deepspeaker.inference.description import (
    CARD,
    DESCRIPTION,
    FORMAT,
    INT8_ONNX,
    NETWORK_ONNX,
    ONNX,
    WEIGHTS,
    Description,
    NetworkDescription,
    Rates,
    StoredCalibration,
    Threshold,
)
from deepspeaker.inference.many_files import FileEmbedding, Source, embed_files
from deepspeaker.inference.model import SpeakerModel, fingerprint_of
from deepspeaker.inference.speech_score import log_odds, window_statistics, with_products
from deepspeaker.inference.voices import Voices

__all__ = [
    "CARD",
    "DESCRIPTION",
    "FORMAT",
    "INT8_ONNX",
    "NETWORK_ONNX",
    "ONNX",
    "WEIGHTS",
    "Candidate",
    "Description",
    "FileEmbedding",
    "Identification",
    "NetworkDescription",
    "Problem",
    "Quality",
    "Rates",
    "Recording",
    "Source",
    "SpeakerModel",
    "StoredCalibration",
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
    "window_statistics",
    "with_products",
]
