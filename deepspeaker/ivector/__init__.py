"""The i-vector system: MFCCs, a Gaussian mixture (UBM), a total variability matrix, and i-vectors.

Training goes through shards. Each job calls ``accumulate_*`` on its utterances, `add` sums what the jobs return, and
``update_*`` makes the next model of the sum. So the number of jobs changes results by rounding errors only.
"""

from deepspeaker.ivector.arrays import add, load_arrays, save_arrays
from deepspeaker.ivector.extractor import (
    Extractor,
    ExtractorStatistics,
    accumulate_extractor,
    initial_extractor,
    ivectors,
    posteriors,
    total_variability,
    update_extractor,
)
from deepspeaker.ivector.initialisation import initial_ubm, sample_rows
from deepspeaker.ivector.mfcc import MfccExtractor, sliding_cmvn, speech_features, with_deltas
from deepspeaker.ivector.mixture import Ubm, check_posteriors, frame_posteriors
from deepspeaker.ivector.statistics import (
    UtteranceStatistics,
    read_posteriors,
    statistics_of_given,
    utterance_statistics,
)
from deepspeaker.ivector.ubm import UbmStatistics, accumulate_given, accumulate_ubm, update_ubm

__all__ = [
    "Extractor",
    "ExtractorStatistics",
    "MfccExtractor",
    "Ubm",
    "UbmStatistics",
    "UtteranceStatistics",
    "accumulate_extractor",
    "accumulate_given",
    "accumulate_ubm",
    "add",
    "check_posteriors",
    "frame_posteriors",
    "initial_extractor",
    "initial_ubm",
    "ivectors",
    "load_arrays",
    "posteriors",
    "read_posteriors",
    "sample_rows",
    "save_arrays",
    "sliding_cmvn",
    "speech_features",
    "statistics_of_given",
    "total_variability",
    "update_extractor",
    "update_ubm",
    "utterance_statistics",
    "with_deltas",
]
