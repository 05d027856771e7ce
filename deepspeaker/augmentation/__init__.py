"""Augmented copies of the training part and degraded copies of the test part, from changed audio."""

from deepspeaker.augmentation.augmenter import (
    DESCRIPTION,
    Augmenter,
    TooLittleSpeechError,
    read_description,
)
from deepspeaker.augmentation.copies import CONDITIONS_PART, copy_part, write_copies
from deepspeaker.augmentation.generated import (
    coloured_noise,
    generated_noise,
    generated_room,
    hum,
    room_impulse_response,
)
from deepspeaker.augmentation.transforms import clip, compress, gain, low_pass, mix, reverberate, speed, telephone

__all__ = [
    "CONDITIONS_PART",
    "DESCRIPTION",
    "Augmenter",
    "TooLittleSpeechError",
    "clip",
    "coloured_noise",
    "compress",
    "copy_part",
    "gain",
    "generated_noise",
    "generated_room",
    "hum",
    "low_pass",
    "mix",
    "read_description",
    "reverberate",
    "room_impulse_response",
    "speed",
    "telephone",
    "write_copies",
]
