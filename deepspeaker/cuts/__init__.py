"""Lhotse CutSets: convert them to and from data directories, and train on them."""

from deepspeaker.cuts.dataset import SpeakerCropDataset
from deepspeaker.cuts.reading import data_dir_of_cuts, find_cuts, open_cuts, read_cuts
from deepspeaker.cuts.sampling import SpeakerCutSampler
from deepspeaker.cuts.speakers import speaker_of
from deepspeaker.cuts.writing import cuts_of_data_dir, with_embeddings, write_cuts

__all__ = [
    "SpeakerCropDataset",
    "SpeakerCutSampler",
    "cuts_of_data_dir",
    "data_dir_of_cuts",
    "find_cuts",
    "open_cuts",
    "read_cuts",
    "speaker_of",
    "with_embeddings",
    "write_cuts",
]
