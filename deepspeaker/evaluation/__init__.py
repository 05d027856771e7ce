"""Stage 6: from embeddings and trial lists to results.json."""

from deepspeaker.evaluation.stage import evaluate

__all__ = ["evaluate"]
