"""Stage 8: write an experiment's network as a model that people can use."""

from deepspeaker.export.measuring import (
    Embedded,
    Pairs,
    calibrate,
    embed_crops,
    embed_part,
    rates_of,
    scored_pairs,
    stored_calibration,
    thresholds,
)
from deepspeaker.export.onnx_graphs import OPSET, quantise, write_network_onnx, write_onnx
from deepspeaker.export.stage import export_model

__all__ = [
    "OPSET",
    "Embedded",
    "Pairs",
    "calibrate",
    "embed_crops",
    "embed_part",
    "export_model",
    "quantise",
    "rates_of",
    "scored_pairs",
    "stored_calibration",
    "thresholds",
    "write_network_onnx",
    "write_onnx",
]
