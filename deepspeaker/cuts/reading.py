"""Convert CutSets to Kaldi data directories."""

from __future__ import annotations

import functools
import shutil
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from deepspeaker.cuts.speakers import speaker_of
from deepspeaker.errors import InputError
from deepspeaker.files import atomic_path
from deepspeaker.kaldi import ArkWriter, DataDir, parse_location, read_matrix, read_table

PARTS = ("train", "dev", "test")


def find_cuts(folder: Path) -> dict[str, Path]:
    """Find ``PART_cuts.jsonl.gz`` (or ``.jsonl``) of each part in a folder.

    Raises
    ------
    InputError
        The folder or the file of train or test does not exist. The file of dev is optional.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; --corpus-dir needs one with train_cuts.jsonl.gz and so on")
    found = {}
    for part in PARTS:
        paths = [folder / f"{part}_cuts.jsonl.gz", folder / f"{part}_cuts.jsonl"]
        existing = [path for path in paths if path.is_file()]
        if existing:
            found[part] = existing[0]
        elif part != "dev":
            raise InputError(f"{paths[0]}: no such file; write it with CutSet.to_file")
    return found


def open_cuts(path: Path) -> Iterable[Any]:
    """Yield the cuts of a jsonl or jsonl.gz file.

    Raises
    ------
    InputError
        A cut cannot be read; names file and line.
    """
    from lhotse.lazy import LazyJsonlIterator
    from lhotse.serialization import deserialize_item

    if not path.is_file():
        raise InputError(f"{path}: no such file")
    number = 0
    try:
        for item in LazyJsonlIterator(path):
            cut = deserialize_item(item)
            number += 1
            if not hasattr(cut, "supervisions"):
                kind = type(cut).__name__
                raise InputError(f"{path}:{number}: a {kind} instead of a cut; create cuts with lhotse cut simple")
            yield cut
    except (OSError, EOFError, zlib.error, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}:{number + 1}: no valid cut ({reason}); write it with CutSet.to_file") from None


def read_cuts(folder: Path, store: Path, allow_pipes: bool = False) -> dict[str, DataDir]:
    """Convert the CutSets of a folder to a data directory for each part.

    Parameters
    ----------
    folder
        Folder of ``PART_cuts.jsonl.gz``. Relative paths in them may start at the working directory, at ``folder`` or
        at its parent.
    store, allow_pipes
        See ``data_dir_of_cuts``. An existing ``store`` is deleted first.
    """
    shutil.rmtree(store, ignore_errors=True)
    return {
        part: data_dir_of_cuts(open_cuts(path), store / part, allow_pipes, (folder, folder.parent))
        for part, path in find_cuts(folder).items()
    }


def data_dir_of_cuts(
    cuts: Iterable[Any], store: Path, allow_pipes: bool = False, bases: Iterable[Path] = ()
) -> DataDir:
    """Convert cuts to a data directory in which each cut is an utterance with the cut's id.

    Cuts with features become ``feats.scp``. Otherwise, their audio becomes ``wav.scp`` and, if cuts are parts of
    recordings, ``segments`` with times that give their exact samples.

    Parameters
    ----------
    cuts
        A Lhotse CutSet. A lazy one is read one cut at a time.
    store
        Folder for what these tables cannot express: mixed cuts, one channel of several, augmented or resampled
        recordings, and features in other storages than "kaldiio". Lhotse loads it, and the folder keeps features in an
        archive and audio as wav files of 32-bit floats.
    allow_pipes
        Whether commands that produce audio may be run.
    bases
        Folders at which relative paths may start.

    Raises
    ------
    InputError
        Names the cut: its id is duplicated, it has no speaker or several, only some of the cuts have features, or it
        cannot be loaded or converted.
    """
    data = DataDir(utt2spk={})
    segments: dict[str, str] = {}
    recordings: dict[str, str] = {}
    whole = True
    with _Store(store) as stored:
        for cut in cuts:
            _check_id(cut.id, data)
            cut = _rebased(cut, bases)
            _check_commands(cut, allow_pipes)
            speaker = speaker_of(cut)
            data.utt2spk[cut.id] = speaker
            _add_descriptions(data, cut, speaker)
            if bool(data.feats_scp) != bool(cut.has_features) and len(data.utt2spk) > 1:
                raise InputError(f"cut {cut.id}: only some of the cuts have features; compute or drop them for all")
            if cut.has_features:
                data.feats_scp[cut.id] = _archived(cut) or stored.features(cut)
                data.utt2dur[cut.id] = f"{cut.duration:.6f}"
            elif cut.has_recording:
                plain = _plain_audio(cut)
                name, location, first, count, samples = plain or (cut.id, *stored.audio(cut))
                other = recordings.setdefault(name, location)
                if other != location:
                    raise InputError(f"cut {cut.id}: the recording {name} is {other} and {location}; rename one")
                whole = whole and first == 0 and count == samples
                rate = cut.sampling_rate
                segments[cut.id] = f"{name} {first / rate:.9f} {(first + count) / rate:.9f}"
            else:
                raise InputError(f"cut {cut.id}: has neither audio nor features")
    if not data.utt2spk:
        raise InputError("the CutSet has no cut")
    if whole:
        data.wav_scp = {utterance: recordings[value.rsplit(" ", 2)[0]] for utterance, value in segments.items()}
    else:
        data.wav_scp, data.segments = recordings, segments
    return data


def _check_id(name: str, data: DataDir) -> None:
    if not name or name.split() != [name]:
        raise InputError(f"cut {name!r}: Kaldi's tables need an id without blanks; rename it")
    if name in data.utt2spk:
        raise InputError(f"cut {name}: the id is duplicated; rename one (CutSet.modify_ids)")


def _add_descriptions(data: DataDir, cut: Any, speaker: str) -> None:
    if speaker.split() != [speaker]:
        raise InputError(f"cut {cut.id}: the speaker {speaker!r} has blanks; rename it")
    text = " ".join(supervision.text for supervision in cut.supervisions if supervision.text)
    if text.split():
        data.text[cut.id] = " ".join(text.split())
    for supervision in cut.supervisions:
        if supervision.gender and supervision.gender[0].lower() in "mf":
            data.spk2gender[speaker] = supervision.gender[0].lower()


def _parts(cut: Any) -> Iterator[Any]:
    """Yield the cuts that a cut consists of."""
    for track in getattr(cut, "tracks", ()):
        yield from _parts(track.cut)
    if not hasattr(cut, "tracks"):
        yield cut


def _check_commands(cut: Any, allow_pipes: bool) -> None:
    """Raise ``InputError`` for commands, so that data cannot run code."""
    for part in _parts(cut):
        features, recording = getattr(part, "features", None), getattr(part, "recording", None)
        if features is not None and features.storage_type == "kaldiio" and "|" in features.storage_path:
            raise InputError(f"cut {cut.id}: its features are a pipe ({features.storage_path}); write an ark first")
        for source in recording.sources if recording is not None else ():
            if source.type == "command" and not allow_pipes:
                raise InputError(
                    f"cut {cut.id}: its audio is a command ({source.source}); give --allow-pipes true if you trust it"
                )


def _rebased(cut: Any, bases: Iterable[Path]) -> Any:
    """Prefix the relative paths of a cut with one of ``bases``, if the files exist only there."""
    for part in _parts(cut):
        paths = []
        if getattr(part, "features", None) is not None and isinstance(part.features.storage_path, str):
            paths.append(_without_offset(part.features.storage_path))
        if getattr(part, "recording", None) is not None:
            paths += [source.source for source in part.recording.sources if source.type == "file"]
        for path in paths:
            if not path or Path(path).is_absolute() or Path(path).exists():
                continue
            for base in bases:
                if (base / path).exists():
                    if cut.has_recording:
                        cut = cut.with_recording_path_prefix(base)
                    return cut.with_features_path_prefix(base) if cut.has_features else cut
    return cut


def _without_offset(path: str) -> str:
    file, colon, offset = path.rpartition(":")
    return file if colon and offset.isdigit() else path


def _archived(cut: Any) -> str | None:
    """Return ``path:offset`` of features that are a whole matrix in a Kaldi archive."""
    location = _archive_of(cut)
    features = getattr(cut, "features", None)
    if location is None or features is None or cut.num_frames != features.num_frames:
        return None
    path, offset = parse_location(location)
    return f"{Path(path).resolve()}:{offset}"


def _archive_of(cut: Any) -> str | None:
    features = getattr(cut, "features", None)
    if features is None or features.storage_type != "kaldiio":
        return None
    path = str(features.storage_path)
    if path.endswith(".scp"):
        table = _cached_table(path)
        if features.storage_key not in table:
            raise InputError(f"cut {cut.id}: {path} has no {features.storage_key}")
        return table[features.storage_key]
    return path


#: The cuts of a CutSet usually share an scp file, so that the last one is cached.
_cached_table = functools.lru_cache(maxsize=1)(read_table)


def _plain_audio(cut: Any) -> tuple[str, str, int, int, int] | None:
    """Return recording id, location, first sample, and samples of the cut and of the recording.

    None for a cut that Kaldi's tables cannot express.
    """
    from lhotse.utils import compute_num_samples

    recording = getattr(cut, "recording", None)
    if recording is None or recording.transforms or len(recording.sources) != 1:
        return None
    source = recording.sources[0]
    channels = cut.channel if isinstance(cut.channel, list) else [cut.channel]
    if source.type not in ("file", "command") or sorted(channels) != sorted(recording.channel_ids):
        return None
    location = str(Path(source.source).absolute()) if source.type == "file" else f"{source.source.rstrip()} |"
    if str(recording.id).split() != [recording.id]:
        raise InputError(f"cut {cut.id}: the recording's id {recording.id!r} has blanks; rename it")
    rate = recording.sampling_rate
    first = compute_num_samples(cut.start, rate) if cut.start else 0
    return recording.id, location, first, min(cut.num_samples, recording.num_samples - first), recording.num_samples


class _Store:
    """An archive of features and a folder of wav files. They are numbered, as ids may have any characters."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._number = 0
        self._ark: ArkWriter | None = None

    def __enter__(self) -> _Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ark is not None:
            self._ark.__exit__(kind, error, trace)

    def features(self, cut: Any) -> str:
        """Store the features of a cut and return their location."""
        archive = _archive_of(cut)
        if archive is None:
            rows = self._load(cut, "features")
        else:
            whole = read_matrix(archive)
            start = round((cut.start - cut.features.start) / cut.features.frame_shift)
            rows = whole[start : start + cut.num_frames]
        if self._ark is None:
            self._ark = ArkWriter(self._folder / "feats.ark", self._folder / "feats.scp").__enter__()
        self._number += 1
        return self._ark.write(f"{self._number:09d}", rows)

    def audio(self, cut: Any) -> tuple[str, int, int, int]:
        """Store the audio of a cut and return location, first sample, and samples of the cut and of the file."""
        samples = self._load(cut, "audio").mean(axis=0)
        self._number += 1
        path = self._folder / f"{self._number:09d}.wav"
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            soundfile.write(stream, samples, cut.sampling_rate, subtype="FLOAT", format="WAV")
        return str(path), 0, len(samples), len(samples)

    @staticmethod
    def _load(cut: Any, what: str) -> NDArray[np.float32]:
        try:
            loaded = cut.load_features() if what == "features" else cut.load_audio()
        except Exception as error:  # Lhotse's storages and readers raise many kinds
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise InputError(f"cut {cut.id}: Lhotse cannot load its {what} ({reason}); fix or remove it") from None
        return np.asarray(loaded, dtype=np.float32)
