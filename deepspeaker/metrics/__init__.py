"""How good scores are: verification error rates and identification, as pure functions of arrays."""

from deepspeaker.metrics.identification import rank1
from deepspeaker.metrics.verification import (
    DetPoints,
    OperatingPoint,
    det_points,
    equal_error_rate,
    min_dcf,
    min_dcf_point,
)

__all__ = [
    "DetPoints",
    "OperatingPoint",
    "det_points",
    "equal_error_rate",
    "min_dcf",
    "min_dcf_point",
    "rank1",
]
