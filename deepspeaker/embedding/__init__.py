"""Utterance and speaker embeddings from a checkpoint."""

from deepspeaker.embedding.extractor import embed_features, embed_utterances, evenly_spaced, speaker_means
from deepspeaker.embedding.shard import (
    CHOOSING_SPEAKERS,
    SYSTEMS,
    choose_checkpoint,
    collect_embeddings,
    embed_shard,
    embed_systems,
    embeddings_dir,
    read_network,
    record_network,
    systems_of,
)

__all__ = [
    "CHOOSING_SPEAKERS",
    "SYSTEMS",
    "choose_checkpoint",
    "collect_embeddings",
    "embed_features",
    "embed_shard",
    "embed_systems",
    "embed_utterances",
    "embeddings_dir",
    "evenly_spaced",
    "read_network",
    "record_network",
    "speaker_means",
    "systems_of",
]
