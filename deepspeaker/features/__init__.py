"""Log-mel features, VAD, normalisation; crops straight from arks, warps of them."""

from deepspeaker.features.crops import FeatureIndex, Groups
from deepspeaker.features.fbank import FbankExtractor
from deepspeaker.features.normalisation import check_normalised, mean_variance_normalised
from deepspeaker.features.shard import collect_shards, compute_shard, nosil_dir, shard_of
from deepspeaker.features.vad import energy_vad
from deepspeaker.features.warp import frequency_warp

__all__ = [
    "FbankExtractor",
    "FeatureIndex",
    "Groups",
    "check_normalised",
    "collect_shards",
    "compute_shard",
    "energy_vad",
    "frequency_warp",
    "mean_variance_normalised",
    "nosil_dir",
    "shard_of",
]
