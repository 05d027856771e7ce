"""Metrics of speaker verification and identification: pure functions of arrays."""

from deepspeaker.metrics.bootstrap import Replicates, SpeakerBootstrap
from deepspeaker.metrics.calibration import act_dcf, cllr, min_cllr, roc_auc
from deepspeaker.metrics.fixed_threshold import RatesAtThreshold, rates_at_threshold
from deepspeaker.metrics.identification import OpenSetRate, open_set_identification, rank1, rank_n
from deepspeaker.metrics.intervals import Difference, Interval, confidence_interval, paired_difference
from deepspeaker.metrics.verification import (
    P_TARGETS,
    DetPoints,
    OperatingPoint,
    det_points,
    equal_error_rate,
    false_acceptance_point,
    min_dcf,
    min_dcf_point,
)

__all__ = [
    "P_TARGETS",
    "DetPoints",
    "Difference",
    "Interval",
    "OpenSetRate",
    "OperatingPoint",
    "RatesAtThreshold",
    "Replicates",
    "SpeakerBootstrap",
    "act_dcf",
    "cllr",
    "confidence_interval",
    "det_points",
    "equal_error_rate",
    "false_acceptance_point",
    "min_cllr",
    "min_dcf",
    "min_dcf_point",
    "open_set_identification",
    "paired_difference",
    "rank1",
    "rank_n",
    "rates_at_threshold",
    "roc_auc",
]
