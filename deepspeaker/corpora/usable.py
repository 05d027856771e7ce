"""Find the utterances of a data directory whose audio or features can be opened, and measure them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from deepspeaker.audio import AudioInfo, audio_info
from deepspeaker.corpora.manifests import utterance_samples
from deepspeaker.errors import InputError
from deepspeaker.kaldi import DataDir, read_header_of

T = TypeVar("T")


def open_utterances(
    part: str, directory: DataDir, allow_pipes: bool, say: Callable[[str], None]
) -> tuple[DataDir, dict[str, AudioInfo], dict[str, str]]:
    """Open the audio or the features of each utterance.

    Parameters
    ----------
    part
        The name of the part, for messages.
    directory
        The data directory. Its ``utt2num_frames`` is corrected if features came with it.
    allow_pipes
        Whether entries of wav.scp may run commands.
    say
        Prints lines for the user.

    Returns
    -------
    tuple
        The data directory with the usable utterances, the properties of each recording, and the reason why each of the
        other utterances cannot be used.
    """
    frames, feature_errors = _try_each(directory.feats_scp, lambda location: read_header_of(location).rows)
    segments = {u: directory.segment_of(u) for u in directory.utt2spk if u not in directory.feats_scp}
    needed = {segment.recording: directory.wav_scp[segment.recording] for segment in segments.values() if segment}
    info, audio_errors = _try_each(needed, lambda location: audio_info(location, allow_pipes))
    skipped: dict[str, str] = {}
    for utterance in directory.utt2spk:
        try:
            if utterance in directory.feats_scp:
                if not frames.get(utterance):
                    raise InputError(feature_errors.get(utterance, "has no frames"))
                continue
            segment = segments[utterance]
            if segment is None:
                raise InputError(f"is in neither {'segments' if directory.segments else 'wav.scp'} nor feats.scp")
            if segment.recording in audio_errors:
                raise InputError(audio_errors[segment.recording])
            utterance_samples(directory, utterance, info)
        except InputError as error:
            skipped[utterance] = str(error)
    counted = {utterance: str(rows) for utterance, rows in frames.items()}
    wrong = [u for u, given in directory.utt2num_frames.items() if counted.get(u, given) != given]
    if wrong:
        say(f"note: utt2num_frames of {part} is wrong for {len(wrong)} utterances (first: {wrong[0]}); using the arks")
    directory.utt2num_frames.update(counted)
    return directory.subset([u for u in directory.utt2spk if u not in skipped]), info, skipped


def _try_each(table: Mapping[str, str], open_: Callable[[str], T]) -> tuple[dict[str, T], dict[str, str]]:
    """Open each location of a table in threads; return the results and the errors."""

    def open_one(item: tuple[str, str]) -> tuple[str, T | None, str]:
        try:
            return item[0], open_(item[1]), ""
        except InputError as error:
            return item[0], None, str(error)

    results: dict[str, T] = {}
    errors: dict[str, str] = {}
    with ThreadPoolExecutor() as pool:
        for name, result, reason in pool.map(open_one, sorted(table.items()), chunksize=64):
            if result is None:
                errors[name] = reason
            else:
                results[name] = result
    return results, errors


def set_durations(part: str, directory: DataDir, info: Mapping[str, AudioInfo], say: Callable[[str], None]) -> None:
    """Set ``utt2dur``, and ``reco2dur`` if there are segments, from the audio.

    Utterances with features but no audio keep the given ``utt2dur``.
    """
    shortened = []
    for utterance in directory.utt2spk:
        samples = utterance_samples(directory, utterance, info)
        if samples is None:
            continue
        recording, first, stop = samples
        directory.utt2dur[utterance] = f"{(stop - first) / info[recording].sampling_rate:.6f}"
        segment = directory.segment_of(utterance)
        if segment is not None and segment.end and round(segment.end * info[recording].sampling_rate) > stop:
            shortened.append(utterance)
    known = directory.wav_scp.keys() & info.keys() if directory.segments else ()
    directory.reco2dur = {name: f"{info[name].samples / info[name].sampling_rate:.6f}" for name in known}
    if shortened:
        say(
            f"note: {len(shortened)} segments of {part} end less than half a second after their recording; they now "
            f"end with it (first: {shortened[0]})"
        )
