"""Stage 8: write an experiment's network as a model that people can use."""

from deepspeaker.export.measuring import (
    Embedded,
    Pairs,
    Scorer,
    calibrate,
    corpora_of,
    embed_cohort,
    embed_crops,
    embed_part,
    rates_by_seconds,
    rates_of,
    scored_pairs,
    scorer_of,
    thresholds,
)
from deepspeaker.export.onnx_graphs import OPSET, halve, quantise, write_network_onnx, write_onnx
from deepspeaker.export.stage import export_model

__all__ = [
    "OPSET",
    "Embedded",
    "Pairs",
    "Scorer",
    "calibrate",
    "corpora_of",
    "embed_cohort",
    "embed_crops",
    "embed_part",
    "export_model",
    "halve",
    "quantise",
    "rates_by_seconds",
    "rates_of",
    "scored_pairs",
    "scorer_of",
    "thresholds",
    "write_network_onnx",
    "write_onnx",
]
