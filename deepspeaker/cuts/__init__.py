"""Lhotse CutSets: convert them to and from data directories, and train on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepspeaker.cuts.reading import data_dir_of_cuts, find_cuts, open_cuts, read_cuts
from deepspeaker.cuts.speakers import speaker_of
from deepspeaker.cuts.writing import cut_items, cuts_of_data_dir, with_embeddings, write_cuts

if TYPE_CHECKING:
    from deepspeaker.cuts.dataset import SpeakerCropDataset
    from deepspeaker.cuts.sampling import SpeakerCutSampler

__all__ = [
    "SpeakerCropDataset",
    "SpeakerCutSampler",
    "cut_items",
    "cuts_of_data_dir",
    "data_dir_of_cuts",
    "find_cuts",
    "open_cuts",
    "read_cuts",
    "speaker_of",
    "with_embeddings",
    "write_cuts",
]


def __getattr__(name: str) -> object:
    """Import the classes that need Lhotse and torch, which take seconds to import, when they are used."""
    if name == "SpeakerCropDataset":
        from deepspeaker.cuts.dataset import SpeakerCropDataset

        return SpeakerCropDataset
    if name == "SpeakerCutSampler":
        from deepspeaker.cuts.sampling import SpeakerCutSampler

        return SpeakerCutSampler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
