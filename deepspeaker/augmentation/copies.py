"""Data directories of changed copies: their audio is changed when stage 2 reads it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from deepspeaker.augmentation.augmenter import DESCRIPTION, sources_table
from deepspeaker.augmentation.sources import check_sources, find_sources
from deepspeaker.config import Augment, Conditions, Copy
from deepspeaker.errors import InputError
from deepspeaker.files import atomic_write
from deepspeaker.kaldi import DataDir, has_precomputed_features, parse_segment, read_table, write_table

#: The part with the degraded copies of the test part.
CONDITIONS_PART = "test_conditions"
#: How many times real time a core makes copies, at least, for the announcement; codecs take longer.
_SPEED, _CODEC_SPEED = 150.0, 40.0
#: Sampling rates at which the codecs work, in Hz.
_CODEC_RATES = (8000, 12000, 16000, 24000, 48000)
#: Noises and impulse responses, for messages.
_SOURCES = {"noise": "noises", "reverb": "impulse responses"}


def copy_part(name: str) -> str:
    """Return the part that has the copy ``name`` of the training part.

    Examples
    --------
    >>> copy_part("noise")
    'train_noise'
    """
    return f"train_{name}"


def write_copies(
    data_dir: Path,
    augment: Augment,
    conditions: Conditions,
    seed: int,
    *,
    sampling_rate: int,
    bytes_per_second: float,
    say: Callable[[str], None],
) -> list[Path]:
    """Write the data directories of the copies, and announce what their features cost.

    ``train_NAME`` has a copy of the training part, with Kaldi's names: speakers and utterances of a speed copy begin
    with its name, and utterances of other copies end in it. ``test_conditions`` has all conditions. In each directory,
    ``augmentation.json`` tells stage 2 how to change the audio, ``utt2uniq`` has the unchanged utterance of each one,
    and ``utt2condition`` the name of its copy. A directory that exists with the same content stays as it is.

    Parameters
    ----------
    data_dir
        Contains ``train`` and ``test``.
    augment, conditions
        The sections of the configuration.
    seed
        Decides what is random in the copies.
    sampling_rate
        Of the features, in Hz.
    bytes_per_second
        What a second of features takes on disk.
    say
        Prints lines for the user.

    Returns
    -------
    list of Path
        The directories, for stage 2.

    Raises
    ------
    InputError
        The features of a part came with it, noises or impulse responses are missing or silent, or the disk is too
        small. Nothing is written then.
    """
    parts = {copy_part(copy.name): ("train", [copy]) for copy in augment.copies}
    if conditions.copies:
        parts[CONDITIONS_PART] = ("test", conditions.copies)
    originals = {part: _with_audio(data_dir / part) for part in dict.fromkeys(part for part, _ in parts.values())}
    sources = {
        (part, copy.name): _sources(data_dir / part, copy, sampling_rate)
        for part, (_, copies) in parts.items()
        for copy in copies
    }
    written: list[tuple[Path, DataDir, dict[str, str], dict[str, str]]] = []
    for part, (original, copies) in parts.items():
        data = DataDir(utt2spk={})
        utt2uniq: dict[str, str] = {}
        utt2condition: dict[str, str] = {}
        for copy in copies:
            _add_copy(data, utt2uniq, utt2condition, originals[original], copy)
        written.append((data_dir / part, data, utt2uniq, utt2condition))
    for original, data in originals.items():
        copies = [copy for source, copies in parts.values() if source == original for copy in copies]
        made = [new for folder, new, *_ in written if parts[folder.name][0] == original]
        _announce(data_dir, original, data, copies, made, bytes_per_second, say)
    for (folder, data, utt2uniq, utt2condition), (_, copies) in zip(written, parts.values(), strict=True):
        description = {"seed": seed, "copies": [copy.model_dump() for copy in copies]}
        text = json.dumps(description, indent=1) + "\n"
        tables = {sources_table(copy.name): sources[folder.name, copy.name] for copy in copies if copy.folder}
        if not _is_written(folder, data, text, tables):
            _write(folder, data, {"utt2uniq": utt2uniq, "utt2condition": utt2condition, **tables}, text)
    return [folder for folder, *_ in written]


def _with_audio(folder: Path) -> DataDir:
    """Return a data directory, whose features must not have come with it."""
    data = DataDir.read(folder)
    if has_precomputed_features(folder):
        key = "augment" if folder.name == "train" else "conditions"
        other = "; softmax.vtlp and triplet.vtlp work on features" if key == "augment" else ""
        raise InputError(
            f"{folder}: its features came with the corpus, and copies are made from audio; set {key}.copies=[]{other}"
        )
    return data


def _sources(folder: Path, copy: Copy, sampling_rate: int) -> dict[str, str]:
    """Return the noises or impulse responses of a copy, checked if they are not those of the last run."""
    if copy.kind == "codec" and sampling_rate not in _CODEC_RATES:
        rates = ", ".join(map(str, _CODEC_RATES))
        raise InputError(f"the copy {copy.name}: codecs work at {rates} Hz, features.sampling_rate is {sampling_rate}")
    if not copy.folder:
        return {}
    what, table = _SOURCES[copy.kind], folder / sources_table(copy.name)
    files = {f"{number:06d}": file for number, file in enumerate(find_sources(copy.folder, what), 1)}
    if not table.is_file() or read_table(table) != files:
        check_sources(list(files.values()), what)
    return files


def _add_copy(
    data: DataDir, utt2uniq: dict[str, str], utt2condition: dict[str, str], original: DataDir, copy: Copy
) -> None:
    """Add a copy of every utterance to the tables."""
    for utterance, speaker in original.utt2spk.items():
        duration = float(original.utt2dur.get(utterance, "0"))
        if copy.seconds is not None and 0 < duration < copy.seconds:
            continue
        name = f"{copy.name}-{utterance}" if copy.new_speakers else f"{utterance}-{copy.name}"
        data.utt2spk[name] = f"{copy.name}-{speaker}" if copy.new_speakers else speaker
        utt2uniq[name], utt2condition[name] = utterance, copy.name
        if duration:
            data.utt2dur[name] = f"{duration / (copy.factor or 1.0):.3f}"
        if original.segments and utterance in original.segments:
            data.segments[name] = original.segments[utterance]
        elif not original.segments and utterance in original.wav_scp:
            data.wav_scp[name] = original.wav_scp[utterance]
    if original.segments:
        recordings = {parse_segment(value).recording for value in data.segments.values()}
        data.wav_scp |= {name: place for name, place in original.wav_scp.items() if name in recordings}


def _announce(
    data_dir: Path,
    part: str,
    original: DataDir,
    copies: Sequence[Copy],
    written: Sequence[DataDir],
    bytes_per_second: float,
    say: Callable[[str], None],
) -> None:
    """Say what the copies of a part cost, and refuse them if the disk is too small."""
    seconds = sum(float(duration) for data in written for duration in data.utt2dur.values())
    once = sum(float(duration) for duration in original.utt2dur.values())
    codecs = sum(copy.kind == "codec" for copy in copies)
    minutes = (seconds / _SPEED + codecs * once / _CODEC_SPEED) / 60
    size = seconds * bytes_per_second
    what, names = "copies" if part == "train" else "conditions", ", ".join(copy.name for copy in copies)
    say(
        f"{data_dir}/{part}: {len(copies)} {what} of {once / 3600:.2f} h ({names}) have {seconds / 3600:.2f} h of "
        f"audio; their features take at most {size / 1e6:.0f} MB and about {minutes:.1f} min of one core the first time"
    )
    if size > (free := shutil.disk_usage(data_dir).free):
        raise InputError(
            f"{data_dir}: the {what} of {part} need {size / 1e6:.0f} MB, the disk has {free / 1e6:.0f} MB left; free "
            f"some, or use fewer {what}"
        )


def _is_written(folder: Path, data: DataDir, description: str, tables: dict[str, dict[str, str]]) -> bool:
    """Return whether a directory has this content, apart from what stage 2 added."""
    try:
        before = replace(DataDir.read(folder), utt2num_frames={})
        same = (folder / DESCRIPTION).read_text(encoding="utf-8") == description
        return same and before == data and all(read_table(folder / name) == table for name, table in tables.items())
    except (InputError, OSError):
        return False


def _write(folder: Path, data: DataDir, tables: dict[str, dict[str, str]], description: str) -> None:
    """Write a directory; the description comes last."""
    (folder / DESCRIPTION).unlink(missing_ok=True)
    for old in folder.glob(sources_table("*")):
        old.unlink()
    data.write(folder)
    for name, table in tables.items():
        write_table(folder / name, table)
    atomic_write(folder / DESCRIPTION, description)
