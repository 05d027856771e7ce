"""Lhotse's CutSets: in, out, and as training batches."""

from deepspeaker.cuts.dataset import SpeakerCropDataset
from deepspeaker.cuts.sampling import SpeakerCutSampler
from deepspeaker.cuts.speakers import speaker_of

__all__ = ["SpeakerCropDataset", "SpeakerCutSampler", "speaker_of"]
