"""Utterance and speaker embeddings from a checkpoint."""

from deepspeaker.embedding.extractor import embed_utterances, evenly, speaker_means
from deepspeaker.embedding.shard import collect_embeddings, embed_shard, system_checkpoint

__all__ = ["collect_embeddings", "embed_shard", "embed_utterances", "evenly", "speaker_means", "system_checkpoint"]
