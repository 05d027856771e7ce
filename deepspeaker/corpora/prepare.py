"""Stage 1: write the data directories, manifests and trial lists of a corpus."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from deepspeaker.audio import AudioInfo
from deepspeaker.corpora.kaldi_corpus import chapters_as_sessions, note_chapters
from deepspeaker.corpora.manifests import write_manifests
from deepspeaker.corpora.partitions import PARTS, check_disjoint, split_off_dev
from deepspeaker.corpora.usable import open_utterances, set_durations
from deepspeaker.errors import InputError
from deepspeaker.files import atomic_write, sha256_of
from deepspeaker.kaldi import DataDir, has_precomputed_features, read_table, write_table
from deepspeaker.skipped import list_all, report_skipped
from deepspeaker.trials import write_trials_1p99, write_trials_all, write_trials_enrol


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
    test_source: Path | None = None,
    dev_source: Path | None = None,
    utt2session: Mapping[str, str] | None = None,
    allow_speaker_overlap: bool = False,
    same_speakers: bool = False,
) -> None:
    """Write ``train``, ``dev``, ``test`` (with trial lists), ``manifests`` and ``corpus.json``.

    If there is no development part, some training speakers become one.

    Parameters
    ----------
    data
        The parts: "train", "test" and optionally "dev".
    output
        The folder to write.
    corpus, synthetic
        The name of the corpus, and whether its speech is synthetic.
    seed
        Decides the development speakers and the trials.
    max_skipped
        How many utterances of a part may be unusable, in percent. ``output/skipped_PART`` lists them.
    frame_shift
        In seconds; gives durations to utterances with features but no audio.
    allow_pipes
        Whether entries of wav.scp may run commands.
    say
        Prints lines for the user.
    test_source
        A folder whose ``trials``, ``enrol_spk2utt`` and ``utt2X`` tables are copied to the test part.
    dev_source
        The folder of the development part, or of the training part that has its speakers, whose ``utt2corpus`` is
        copied.
    utt2session
        The session of utterances of the test part, written there as ``utt2session``. If there is none, neither here
        nor in ``test_source``, chapters of LibriSpeech count as sessions.
    allow_speaker_overlap
        Whether a speaker may be in two parts.
    same_speakers
        Whether the parts have the same speakers because there are too few; ``corpus.json`` then tells stage 6.

    Raises
    ------
    InputError
        Too many utterances are unusable, parts share a speaker, or a part has too few speakers or utterances.
    """
    output.mkdir(parents=True, exist_ok=True)
    note_chapters(data, say)
    usable: dict[str, DataDir] = {}
    audio: dict[str, dict[str, AudioInfo]] = {}  # per part, because two parts may use one name for a recording
    for part, directory in data.items():
        usable[part], audio[part], skipped = open_utterances(part, directory, allow_pipes, say)
        report_skipped(output / f"skipped_{part}", skipped, len(directory.utt2spk), f"{part} utterances", max_skipped)
    if not same_speakers:
        check_disjoint(usable, allow_speaker_overlap, say)
    if "dev" not in usable:
        usable = split_off_dev(usable, seed, say)
        audio["dev"] = audio["train"]
    if len(usable["train"].spk2utt) < 2:
        raise InputError("training has fewer than two speakers; add some")
    for part in PARTS:
        if part in usable:
            _write_part(part, usable[part], output, audio[part], frame_shift, say)
        else:
            _remove_part(output, part)
    written = {part: DataDir.read(output / part) for part in PARTS if (output / part).is_dir()}
    check_disjoint(written, allow_speaker_overlap or same_speakers)
    copy_test_tables(test_source, output / "test", usable["test"])
    (output / "dev" / "utt2corpus").unlink(missing_ok=True)
    if "dev" in usable and dev_source and (dev_source / "utt2corpus").is_file():
        _copy_table(dev_source / "utt2corpus", output / "dev", usable["dev"])
    if not utt2session and not (output / "test" / "utt2session").is_file():
        utt2session = chapters_as_sessions(usable["test"].utt2spk)
        if utt2session:
            count = len(set(utt2session.values()))
            say(f"test/utt2session: {count} chapters (ids reader-chapter-number) count as sessions")
    if utt2session:
        kept = {utterance: s for utterance, s in utt2session.items() if utterance in usable["test"].utt2spk}
        write_table(output / "test" / "utt2session", kept)
    write_trial_lists(output / "test", usable["test"].utt2spk, seed, say)
    description = {"corpus": corpus, "synthetic": synthetic, "seed": seed}
    if same_speakers:
        description["same_speakers"] = True
    atomic_write(output / "corpus.json", json.dumps(description, indent=2) + "\n")


def _write_part(
    part: str,
    directory: DataDir,
    output: Path,
    audio: dict[str, AudioInfo],
    frame_shift: float,
    say: Callable[[str], None],
) -> None:
    set_durations(part, directory, audio, say)
    if not _is_written(directory, output / part):  # otherwise keep the features of stage 2
        directory.write(output / part)
    write_manifests(output / "manifests", part, directory, audio, frame_shift)
    hours = sum(float(duration) for duration in directory.utt2dur.values()) / 3600
    length = f", {hours:.2f} h" if hours else ""
    say(f"{part}: {len(directory.spk2utt)} speakers, {len(directory.utt2spk)} utterances{length}")
    unsorted = [utterance for utterance, speaker in directory.utt2spk.items() if not utterance.startswith(speaker)]
    if unsorted:
        say(
            f"note: {len(unsorted)} utterance ids of {part} do not begin with their speaker's id (first: "
            f"{unsorted[0]}); Kaldi's tools require that"
        )


def _is_written(directory: DataDir, path: Path) -> bool:
    """Return whether a data directory is on disk already, apart from features that stage 2 added."""
    try:
        written = DataDir.read(path)
    except InputError:
        return False
    if not has_precomputed_features(path):
        written = replace(written, feats_scp={}, vad_scp={}, utt2num_frames={})
    return written == directory


def _remove_part(output: Path, part: str) -> None:
    """Remove a part that only an earlier run had."""
    for name in (part, f"{part}_nosil"):
        shutil.rmtree(output / name, ignore_errors=True)
    for manifest in (output / "manifests").glob(f"{part}_*.jsonl.gz"):
        manifest.unlink()


def copy_test_tables(source: Path | None, folder: Path, test: DataDir) -> None:
    """Copy ``trials``, ``enrol_spk2utt`` and the ``utt2X`` tables that are not in a ``DataDir``; remove old ones.

    Tables are restricted to the utterances of the test part. The lists are not: stage 6 reports missing utterances.
    """
    written = {"utt2spk", "utt2num_frames", "utt2dur"}
    for old in [folder / "trials", folder / "enrol_spk2utt", *folder.glob("utt2*")]:
        if old.name not in written:
            old.unlink(missing_ok=True)
    if source is None:
        return
    for name in ("trials", "enrol_spk2utt"):
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    for path in sorted(source.glob("utt2*")):
        if path.name not in written:
            _copy_table(path, folder, test)


def _copy_table(path: Path, folder: Path, part: DataDir) -> None:
    """Copy the lines of the utterances of a part."""
    write_table(folder / path.name, {u: value for u, value in read_table(path).items() if u in part.utt2spk})


def write_trial_lists(folder: Path, utt2spk: dict[str, str], seed: int, say: Callable[[str], None]) -> None:
    """Write the lists ``trials_all``, ``trials_1p99`` and ``trials_enrol_N`` of a test part, as far as it allows them.

    Raises
    ------
    InputError
        There is no pair of one speaker, or none of two speakers.
    """
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
