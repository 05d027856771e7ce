"""Stage 6: from embeddings and trial lists to results.json."""

from deepspeaker.evaluation.lists import trial_list_path
from deepspeaker.evaluation.stage import SYSTEMS, evaluate

__all__ = ["SYSTEMS", "evaluate", "trial_list_path"]
