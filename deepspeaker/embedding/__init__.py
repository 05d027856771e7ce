"""Utterance and speaker embeddings from a checkpoint."""

from deepspeaker.embedding.extractor import embed_utterances, evenly_spaced, speaker_means
from deepspeaker.embedding.shard import (
    CHOOSING_SPEAKERS,
    SYSTEMS,
    choose_checkpoint,
    collect_embeddings,
    embed_shard,
    embed_systems,
    embeddings_dir,
    system_checkpoint,
)

__all__ = [
    "CHOOSING_SPEAKERS",
    "SYSTEMS",
    "choose_checkpoint",
    "collect_embeddings",
    "embed_shard",
    "embed_systems",
    "embed_utterances",
    "embeddings_dir",
    "evenly_spaced",
    "speaker_means",
    "system_checkpoint",
]
