"""Log-mel features, VAD, CMVN, crops read straight from arks, and VTLP."""

from deepspeaker.features.crops import FeatureIndex, UtterancesBySpeaker
from deepspeaker.features.fbank import FbankExtractor
from deepspeaker.features.normalisation import check_normalised, mean_variance_normalised
from deepspeaker.features.shard import collect_shards, compute_shard, nosil_dir, shard_of
from deepspeaker.features.vad import energy_vad
from deepspeaker.features.vtlp import vtlp_matrix

__all__ = [
    "FbankExtractor",
    "FeatureIndex",
    "UtterancesBySpeaker",
    "check_normalised",
    "collect_shards",
    "compute_shard",
    "energy_vad",
    "mean_variance_normalised",
    "nosil_dir",
    "shard_of",
    "vtlp_matrix",
]
