"""The i-vector system: MFCCs, a Gaussian mixture (UBM), a total variability matrix, and i-vectors.

Training goes through shards. Each job calls ``accumulate_*`` on its utterances, `add` sums what the jobs return, and
``update_*`` makes the next model of the sum. So the number of jobs changes results by rounding errors only.
"""

from deepspeaker.ivector.arrays import add, load_arrays, save_arrays
from deepspeaker.ivector.checks import check_data
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
from deepspeaker.ivector.mfcc_shard import collect_mfcc_shards, compute_mfcc_shard, has_audio, mfcc_dir
from deepspeaker.ivector.mixture import Ubm, check_posteriors, frame_posteriors
from deepspeaker.ivector.statistics import (
    UtteranceStatistics,
    read_posteriors,
    statistics_of_given,
    utterance_statistics,
)
from deepspeaker.ivector.steps import IVECTOR, IVectorTraining, Model
from deepspeaker.ivector.ubm import UbmStatistics, accumulate_given, accumulate_ubm, update_ubm

__all__ = [
    "IVECTOR",
    "Extractor",
    "ExtractorStatistics",
    "IVectorTraining",
    "MfccExtractor",
    "Model",
    "Ubm",
    "UbmStatistics",
    "UtteranceStatistics",
    "accumulate_extractor",
    "accumulate_given",
    "accumulate_ubm",
    "add",
    "check_data",
    "check_posteriors",
    "collect_mfcc_shards",
    "compute_mfcc_shard",
    "frame_posteriors",
    "has_audio",
    "initial_extractor",
    "initial_ubm",
    "ivectors",
    "load_arrays",
    "mfcc_dir",
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
