"""Checks before a training, so that it does not fail after hours."""

from __future__ import annotations

from deepspeaker.errors import InputError
from deepspeaker.features import nosil_dir
from deepspeaker.ivector.initialisation import MIN_FRAMES_PER_COMPONENT
from deepspeaker.ivector.mfcc_shard import has_audio
from deepspeaker.ivector.steps import IVectorTraining
from deepspeaker.kaldi import read_table


def check_data(training: IVectorTraining) -> None:
    """Check, before anything is computed, that the data suffice for the models.

    Raises
    ------
    InputError
        There is no audio, stage 2 has not run, or there is too little speech for a key of the configuration.
    """
    data_dir, parts, given = training.data_dir, training.parts, training.posteriors
    for part in parts:
        if not has_audio(data_dir / part):
            raise InputError(
                f"{data_dir / part}/wav.scp: no such file, but MFCCs are computed from audio; the features of this "
                "corpus do not serve for i-vectors: run without --ivector true"
            )
    if not {"train", "test"} <= set(parts):
        raise InputError(f"{data_dir}: has no train_nosil or no test_nosil; run stage 2 first")
    table = read_table(nosil_dir(data_dir / "train") / "utt2num_frames")
    frames, components = sum(map(int, table.values())), training.components
    if not given and frames < MIN_FRAMES_PER_COMPONENT * components:
        raise InputError(
            f"ivector.components {components} needs {MIN_FRAMES_PER_COMPONENT * components} frames of speech, "
            f"{data_dir}/train has {frames}; use fewer components, or more speech"
        )
    if len(table) <= training.dim:
        raise InputError(
            f"ivector.dim {training.dim} needs more than {training.dim} training utterances, {data_dir}/train has "
            f"{len(table)}; use fewer dimensions"
        )
    speakers = set(read_table(nosil_dir(data_dir / "train") / "utt2spk").values())
    if not 2 <= len(speakers) < len(table):
        raise InputError(f"{data_dir}/train: i-vectors need two speakers, and a speaker of two utterances")
    if given:
        known = read_table(given)
        needed = (name for part in parts for name in read_table(nosil_dir(data_dir / part) / "utt2spk"))
        missing = next((utterance for utterance in needed if utterance not in known), None)
        if missing:
            raise InputError(f"{given}: has no posteriors of {missing}; give those of all utterances")
