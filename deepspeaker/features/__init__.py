"""Log-mel features, VAD, CMVN, crops read straight from arks, and VTLP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepspeaker.features.crops import FeatureIndex, UtterancesBySpeaker
from deepspeaker.features.fbank import FbankExtractor
from deepspeaker.features.normalisation import check_normalised, mean_variance_normalised
from deepspeaker.features.shard import (
    collect_shards,
    compute_shard,
    join_tables,
    load_utterance,
    nosil_dir,
    shard_of,
)
from deepspeaker.features.vad import energy_vad
from deepspeaker.features.vtlp import vtlp_matrix

if TYPE_CHECKING:
    from deepspeaker.features.front_end import FrontEnd

__all__ = [
    "FbankExtractor",
    "FeatureIndex",
    "FrontEnd",
    "UtterancesBySpeaker",
    "check_normalised",
    "collect_shards",
    "compute_shard",
    "energy_vad",
    "join_tables",
    "load_utterance",
    "mean_variance_normalised",
    "nosil_dir",
    "shard_of",
    "vtlp_matrix",
]


def __getattr__(name: str) -> object:
    """Import the class that needs torch, which takes seconds to import, when it is used."""
    if name == "FrontEnd":
        from deepspeaker.features.front_end import FrontEnd

        return FrontEnd
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
