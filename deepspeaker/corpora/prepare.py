"""Stage 1: from a corpus to data directories, manifests and trial lists with disjoint speakers."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from deepspeaker.audio import AudioInfo, audio_file, audio_info
from deepspeaker.corpora import librispeech
from deepspeaker.corpora.manifests import utterance_samples, write_manifests
from deepspeaker.errors import InputError
from deepspeaker.files import atomic_write, sha256_of
from deepspeaker.kaldi import DataDir, has_precomputed_features, read_header_of, read_table, write_table
from deepspeaker.skipped import list_all, report_skipped
from deepspeaker.trials import write_trials_1p99, write_trials_all, write_trials_enrol

#: Development speakers are carved out of training when none are given: this share of those with two utterances or
#: more, at most so many; and none at all when that would be fewer than the least.
DEV_SHARE, MOST_DEV_SPEAKERS, LEAST_DEV_SPEAKERS = 0.1, 40, 2

#: So many training speakers with two utterances or more are needed for that.
LEAST_SPEAKERS_TO_CARVE = math.ceil(LEAST_DEV_SPEAKERS / DEV_SHARE)

#: What to do for want of development speakers.
DEV_REMEDY = (
    "name development parts (--dev-parts), add DIR/dev or DIR/dev_cuts.jsonl.gz, or train on "
    f"{LEAST_SPEAKERS_TO_CARVE} speakers or more that have two utterances"
)

PARTS = ("train", "dev", "test")

#: A speaker of Kaldi's LibriSpeech recipe: a reader and one of the chapters.
_CHAPTER = re.compile(r"((?:lbi-)?\d+)-\d+")

T = TypeVar("T")


def read_librispeech(
    folder: Path, train: Sequence[str], dev: Sequence[str], test: Sequence[str]
) -> dict[str, DataDir]:
    """``train``, ``dev`` (where there is one) and ``test`` of a corpus in LibriSpeech's layout.

    Parts that are not named are LibriSpeech's own (or the demo's), as far as they are on disk.
    """
    found = librispeech.find_parts(folder)
    defaults = {
        "train": (*librispeech.TRAIN_PARTS, "demo-train"),
        "dev": (*librispeech.DEV_PARTS, "demo-dev"),
        "test": (*librispeech.TEST_PARTS, "demo-test"),
    }
    asked = {"train": train, "dev": dev, "test": test}
    for use, named in asked.items():
        for part in named:
            if part not in found:
                raise InputError(f"{folder}: has no part {part} (--{use}-parts); there are: {' '.join(found)}")
    free = [part for part in found if not any(part in named for named in asked.values())]
    if not any(part in free for part in defaults["test"]):
        defaults["test"] = librispeech.MINI_TEST_PARTS
    data: dict[str, DataDir] = {}
    for use in ("test", "train", "dev"):  # the test chooses first
        parts = list(dict.fromkeys(asked[use])) or [part for part in defaults[use] if part in free]
        free = [part for part in free if part not in parts]
        if parts:
            data[use] = _joined([librispeech.read_part(folder, part) for part in parts], f"--{use}-parts")
        elif use != "dev":
            raise InputError(f"{folder}: no part for {use}; name some of {' '.join(found)} with --{use}-parts")
    data = {use: data[use] for use in PARTS if use in data}
    return data


def read_kaldi(folder: Path, allow_pipes: bool = True) -> dict[str, DataDir]:
    """``train``, ``dev`` (if there) and ``test`` of a folder of Kaldi data directories, locations made absolute.

    Raises ``InputError``, besides those of ``DataDir.read``, for an entry that runs a command unless ``allow_pipes``.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; --corpus-dir wants one with data directories train and test")
    data = {}
    for use in PARTS:
        if (folder / use).is_dir() or use != "dev":
            data[use] = DataDir.read(folder / use)
            if not allow_pipes:
                _refuse_pipes(folder / use / "wav.scp", data[use].wav_scp)
            for table in (data[use].wav_scp, data[use].feats_scp, data[use].vad_scp):
                for utterance, location in table.items():
                    table[utterance] = _absolute(location, folder)
    return data


def _refuse_pipes(path: Path, wav_scp: Mapping[str, str]) -> None:
    pipes = [
        (number, name)
        for number, (name, location) in enumerate(wav_scp.items(), 1)
        if location.endswith("|") and audio_file(location) is None
    ]
    if pipes:
        number, name = pipes[0]
        raise InputError(
            f"{path}:{number}: {name} is a pipe, which runs a command ({len(pipes)} such lines); give "
            "--allow-pipes true if you trust them"
        )


def merge_chapters(data: Mapping[str, DataDir]) -> None:
    """Makes readers of the speakers ``reader-chapter`` and ``lbi-reader-chapter`` of Kaldi's LibriSpeech recipe.

    ``lbi-84-121123`` becomes ``lbi-84``, so that ids of utterances still begin with their speaker's. Raises
    ``InputError`` for a speaker of another form, and for a reader with two genders.
    """
    for part, directory in data.items():
        for utterance, speaker in directory.utt2spk.items():
            directory.utt2spk[utterance] = _reader(speaker, part)
        genders: dict[str, str] = {}
        for speaker, gender in directory.spk2gender.items():
            if genders.setdefault(_reader(speaker, part), gender) != gender:
                raise InputError(f"{part}/spk2gender: the chapters of reader {_reader(speaker, part)} differ in gender")
        directory.spk2gender = genders


def _reader(speaker: str, part: str) -> str:
    match = _CHAPTER.fullmatch(speaker)
    if not match:
        raise InputError(
            f"{part}/utt2spk: the speaker {speaker} has not the form reader-chapter or lbi-reader-chapter; leave out "
            "--merge-chapters"
        )
    return match[1]


def _note_chapters(data: Mapping[str, DataDir], say: Callable[[str], None]) -> None:
    """Says so when the speakers look like chapters of readers who have several."""
    speakers = {speaker for directory in data.values() for speaker in directory.utt2spk.values()}
    matches = [_CHAPTER.fullmatch(speaker) for speaker in speakers]
    readers = {match[1] for match in matches if match}
    if all(matches) and len(readers) < len(speakers):
        say(
            f"note: the {len(speakers)} speakers look like chapters of {len(readers)} readers (first: "
            f"{min(speakers)}), as Kaldi's LibriSpeech recipe has them; --merge-chapters true makes readers of them"
        )


def _absolute(location: str, folder: Path) -> str:
    """Relative paths count from where the tables' owner stood: here, their folder, or the one above (Kaldi's s5)."""
    path = audio_file(location) or ("" if location.endswith("|") else location.rpartition(":")[0])
    if not path or Path(path).is_absolute():
        return location
    before, _, after = location.rpartition(path)
    for base in (Path(), folder, folder.parent):
        if (base / path.rpartition(":")[0]).is_file() or (base / path).is_file():
            return f"{before}{base.resolve() / path}{after}"
    return location


def prepare(
    data: dict[str, DataDir],
    output: Path,
    *,
    corpus: str,
    synthetic: bool,
    seed: int,
    max_skipped: float,
    frame_shift: float,
    allow_pipes: bool,
    say: Callable[[str], None],
    own: Path | None = None,
    allow_speaker_overlap: bool = False,
) -> None:
    """Writes ``output/{train,dev,test}``, ``output/manifests``, the trial lists in ``output/test`` and corpus.json.

    What the folder ``own`` says of the test part beyond a ``DataDir`` is passed on to it: ``trials``,
    ``enrol_spk2utt`` and ``utt2X`` tables. Utterances whose audio or features cannot be opened are skipped and listed
    in ``output/skipped_PART``. Raises ``InputError`` when more than ``max_skipped`` percent are, when a speaker stands
    in two parts and ``allow_speaker_overlap`` does not insist, and when training or test have too little for their
    purpose.
    """
    output.mkdir(parents=True, exist_ok=True)
    _note_chapters(data, say)
    whole: dict[str, DataDir] = {}
    audio: dict[str, dict[str, AudioInfo]] = {}  # recordings of two parts may have one name
    for part, directory in data.items():
        kept, audio[part], skipped = _opened(part, directory, allow_pipes, say)
        report_skipped(output / f"skipped_{part}", skipped, len(directory.utt2spk), f"{part} utterances", max_skipped)
        whole[part] = directory.subset(kept)
    _check_disjoint(whole, allow_speaker_overlap, say)
    if "dev" not in whole:
        whole = _carve(whole, seed, say)
        audio["dev"] = audio["train"]
    if len(whole["train"].spk2utt) < 2:
        raise InputError("training has fewer than two speakers; nothing can be learnt")
    manifests = output / "manifests"
    manifests.mkdir(exist_ok=True)
    for part in PARTS:
        if part not in whole:
            _remove_part(output, part)
            continue
        directory = whole[part]
        _set_durations(part, directory, audio[part], say)
        if not _is_there(directory, output / part):  # else the features of stage 2 stay
            directory.write(output / part)
        write_manifests(manifests, part, directory, audio[part], frame_shift)
        hours = sum(float(duration) for duration in directory.utt2dur.values()) / 3600
        length = f", {hours:.2f} h" if hours else ""
        say(f"{part}: {len(directory.spk2utt)} speakers, {len(directory.utt2spk)} utterances{length}")
        odd = [utterance for utterance, speaker in directory.utt2spk.items() if not utterance.startswith(speaker)]
        if odd:
            say(
                f"note: {len(odd)} utterance ids of {part} do not begin with their speaker's id (first: {odd[0]}); "
                "Kaldi's own tools want that"
            )
    written = {part: DataDir.read(output / part) for part in PARTS if (output / part).is_dir()}
    _check_disjoint(written, allow_speaker_overlap)
    _pass_on(own, output / "test", whole["test"])
    _write_trials(output / "test", whole["test"].utt2spk, seed, say)
    description = {"corpus": corpus, "synthetic": synthetic, "seed": seed}
    atomic_write(output / "corpus.json", json.dumps(description, indent=2) + "\n")


def _is_there(directory: DataDir, path: Path) -> bool:
    """Whether a data directory is there already, but for the features that stage 2 added."""
    try:
        there = DataDir.read(path)
    except InputError:
        return False
    if not has_precomputed_features(path):
        there = replace(there, feats_scp={}, vad_scp={}, utt2num_frames={})
    return there == directory


def _joined(parts: Sequence[DataDir], option: str) -> DataDir:
    joined = DataDir(utt2spk={})
    for part in parts:
        for utterance in part.utt2spk:
            if utterance in joined.utt2spk:
                raise InputError(f"{option}: the utterance {utterance} stands in two of the parts; name one of them")
        for name in ("utt2spk", "wav_scp", "text", "spk2gender"):
            getattr(joined, name).update(getattr(part, name))
    return joined


def _opened(
    part: str, directory: DataDir, allow_pipes: bool, say: Callable[[str], None]
) -> tuple[list[str], dict[str, AudioInfo], dict[str, str]]:
    """The utterances that can be opened, what their recordings say of themselves, and why the others cannot.

    ``utt2num_frames`` becomes what the arks of given features say.
    """
    frames, no_features = _tried(directory.feats_scp, lambda location: read_header_of(location).rows)
    segments = {u: directory.segment_of(u) for u in directory.utt2spk if u not in directory.feats_scp}
    wanted = {segment.recording: directory.wav_scp[segment.recording] for segment in segments.values() if segment}
    info, no_audio = _tried(wanted, lambda location: audio_info(location, allow_pipes))
    skipped: dict[str, str] = {}
    for utterance in directory.utt2spk:
        try:
            if utterance in directory.feats_scp:
                if not frames.get(utterance):
                    raise InputError(no_features.get(utterance, "has no frames"))
                continue
            segment = segments[utterance]
            if segment is None:
                raise InputError(f"is in neither {'segments' if directory.segments else 'wav.scp'} nor feats.scp")
            if segment.recording in no_audio:
                raise InputError(no_audio[segment.recording])
            utterance_samples(directory, utterance, info)
        except InputError as error:
            skipped[utterance] = str(error)
    counted = {utterance: str(rows) for utterance, rows in frames.items()}
    wrong = [u for u, told in directory.utt2num_frames.items() if counted.get(u, told) != told]
    if wrong:
        say(f"note: utt2num_frames of {part} is wrong for {len(wrong)} utterances (first: {wrong[0]}); the arks decide")
    directory.utt2num_frames.update(counted)
    return [u for u in directory.utt2spk if u not in skipped], info, skipped


def _tried(table: Mapping[str, str], look: Callable[[str], T]) -> tuple[dict[str, T], dict[str, str]]:
    """What ``look`` finds at each location of a table, and why it finds nothing at the others."""

    def one(item: tuple[str, str]) -> tuple[str, T | None, str]:
        try:
            return item[0], look(item[1]), ""
        except InputError as error:
            return item[0], None, str(error)

    found: dict[str, T] = {}
    failed: dict[str, str] = {}
    with ThreadPoolExecutor() as pool:
        for name, result, reason in pool.map(one, sorted(table.items()), chunksize=64):
            if result is None:
                failed[name] = reason
            else:
                found[name] = result
    return found, failed


def _set_durations(
    part: str, directory: DataDir, info: Mapping[str, AudioInfo], say: Callable[[str], None]
) -> None:
    """Sets ``utt2dur`` and, where there are segments, ``reco2dur`` to what the audio says, where there is audio."""
    cut = []
    for utterance in directory.utt2spk:
        samples = utterance_samples(directory, utterance, info)
        if samples is None:
            continue
        recording, first, stop = samples
        directory.utt2dur[utterance] = f"{(stop - first) / info[recording].sampling_rate:.6f}"
        segment = directory.segment_of(utterance)
        if segment is not None and segment.end and round(segment.end * info[recording].sampling_rate) > stop:
            cut.append(utterance)
    known = directory.wav_scp.keys() & info.keys() if directory.segments else ()
    directory.reco2dur = {name: f"{info[name].samples / info[name].sampling_rate:.6f}" for name in known}
    if cut:
        say(
            f"note: {len(cut)} segments of {part} end after their recording by less than half a second and are cut "
            f"there (first: {cut[0]})"
        )


def _check_disjoint(data: dict[str, DataDir], allowed: bool, say: Callable[[str], None] | None = None) -> None:
    for index, first in enumerate(data):
        for second in list(data)[index + 1 :]:
            shared = sorted(data[first].spk2utt.keys() & data[second].spk2utt.keys())
            if not shared:
                continue
            told = f"{len(shared)} speakers are in both {first} and {second} (first: {shared[0]})"
            if not allowed:
                raise InputError(
                    f"{told}; name parts with different speakers, remove them from one of the two, or insist with "
                    "--allow-speaker-overlap true"
                )
            if say is not None:
                say(f"note: {told}, as --allow-speaker-overlap insists")


def _carve(data: dict[str, DataDir], seed: int, say: Callable[[str], None]) -> dict[str, DataDir]:
    """Takes development speakers out of training, drawn from the seed."""
    train = data["train"]
    speakers = [speaker for speaker, utterances in train.spk2utt.items() if len(utterances) > 1]
    count = min(int(len(speakers) * DEV_SHARE), MOST_DEV_SPEAKERS)
    if count < LEAST_DEV_SPEAKERS:
        say(
            f"no development speakers: only {len(speakers)} training speakers have two utterances or more, fewer than "
            f"{LEAST_SPEAKERS_TO_CARVE}, of which a tenth would be carved out; there will be no development EER, and "
            f"the back ends calibrated, fused and plda-adapted cannot learn. To change that, {DEV_REMEDY}"
        )
        return data
    generator = np.random.default_rng(np.random.SeedSequence([seed, *b"dev"]))
    chosen = set(generator.choice(speakers, count, replace=False).tolist())
    say(f"no development part was given: {count} of {len(train.spk2utt)} training speakers become it")
    return {
        "train": train.subset([u for u, speaker in train.utt2spk.items() if speaker not in chosen]),
        "dev": train.subset([u for u, speaker in train.utt2spk.items() if speaker in chosen]),
        "test": data["test"],
    }


def _remove_part(output: Path, part: str) -> None:
    """Removes what an earlier preparation left of a part that this one does not have."""
    for name in (part, f"{part}_nosil"):
        shutil.rmtree(output / name, ignore_errors=True)
    for manifest in (output / "manifests").glob(f"{part}_*.jsonl.gz"):
        manifest.unlink()


def _pass_on(own: Path | None, folder: Path, test: DataDir) -> None:
    """Copies ``trials``, ``enrol_spk2utt`` and the ``utt2X`` tables that a ``DataDir`` does not have; removes old ones.

    Tables keep the utterances of the test part; the lists stay as they are, stage 6 names what they ask for in vain.
    """
    ours = {"utt2spk", "utt2num_frames", "utt2dur"}
    for old in [folder / "trials", folder / "enrol_spk2utt", *folder.glob("utt2*")]:
        if old.name not in ours:
            old.unlink(missing_ok=True)
    if own is None:
        return
    for name in ("trials", "enrol_spk2utt"):
        if (own / name).is_file():
            shutil.copyfile(own / name, folder / name)
    for path in sorted(own.glob("utt2*")):
        if path.name not in ours:
            table = read_table(path)
            write_table(folder / path.name, {u: value for u, value in table.items() if u in test.utt2spk})


def _write_trials(folder: Path, utt2spk: dict[str, str], seed: int, say: Callable[[str], None]) -> None:
    target, nontarget = write_trials_all(folder / "trials_all", utt2spk, seed)
    if not target or not nontarget:
        raise InputError(
            f"{folder}: {target} target and {nontarget} non-target pairs; a test needs two speakers and two utterances "
            "of one of them"
        )
    counts = {"trials_all": (target, nontarget)}
    try:
        counts["trials_1p99"] = write_trials_1p99(folder / "trials_1p99", utt2spk, seed)
    except InputError as error:
        (folder / "trials_1p99").unlink(missing_ok=True)
        say(f"no list trials_1p99: {error}")
    for old in folder.glob("trials_enrol_*"):
        old.unlink()
    enrolment, left_out = write_trials_enrol(folder, utt2spk, seed)
    headline = f"{len(left_out)} of {len(set(utt2spk.values()))} test speakers enrol nobody in trials_enrol_N"
    list_all(folder.parent / "skipped_enrol", left_out, headline)
    if not enrolment:
        say("no lists trials_enrol_N: they need a speaker with six utterances and 99 utterances of other speakers")
    for name, (target, nontarget) in (counts | enrolment).items():
        say(f"{name}: {target} target, {nontarget} nontarget trials, sha256 {sha256_of(folder / name)}")
