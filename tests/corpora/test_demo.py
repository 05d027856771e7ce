"""The demo corpus: layout, reproducibility, disjoint parts, and voices that repeat exactly."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from deepspeaker.corpora.demo import (
    ACCENTS,
    FEMALE_VARIANTS,
    LANGUAGES,
    MALE_VARIANTS,
    MAX_SECONDS,
    NAMES,
    PARTS,
    TWIN_VARIANTS,
    UNSTABLE_VARIANTS,
    Synthesiser,
    Voice,
    library_paths,
    make_demo_corpus,
    make_sentence,
    plan_demo_corpus,
    plan_sessions,
)
from deepspeaker.errors import InputError
from deepspeaker.kaldi import read_table

SPEAKERS = {"demo-train": 4, "demo-dev": 2, "demo-test": 2}
UTTERANCES = 3


def make_tiny(folder: Path, seed: int, jobs: int | None = None, **content: Any) -> Path:
    counts = {f"{part.removeprefix('demo-')}_speakers": count for part, count in SPEAKERS.items()}
    make_demo_corpus(folder, seed, **counts, utterances=UTTERANCES, jobs=jobs, progress=False, **content)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # A long path: eSpeak NG has short buffers for names.
    return make_tiny(tmp_path_factory.mktemp("demo") / ("long-name-" * 15) / "corpus", seed=3, jobs=1)


def test_the_number_of_jobs_does_not_change_the_bytes(corpus: Path, tmp_path: Path) -> None:
    assert contents(make_tiny(tmp_path / "again", seed=3, jobs=3)) == contents(corpus)


def test_a_different_seed_makes_a_different_corpus(corpus: Path, tmp_path: Path) -> None:
    first, second = contents(corpus), contents(make_tiny(tmp_path / "other", seed=4))
    audio = {name for name in first if name.endswith(".flac")}
    assert audio == {name for name in second if name.endswith(".flac")}
    assert not {first[name] for name in audio} & {second[name] for name in audio}


def test_layout_is_that_of_librispeech(corpus: Path) -> None:
    assert {path.name for path in corpus.iterdir()} == {*PARTS, "SPEAKERS.TXT", "README.TXT"}
    assert "SYNTHETIC" in (corpus / "README.TXT").read_text()
    table = {}
    for line in (corpus / "SPEAKERS.TXT").read_text().splitlines():
        if not line.startswith(";"):
            reader, sex, subset, minutes, name = (column.strip() for column in line.split("|"))
            assert sex in {"F", "M"} and float(minutes) > 0 and name
            table[reader] = subset
    assert Counter(table.values()) == SPEAKERS
    assert len({len(reader) for reader in table}) == 1

    for part in PARTS:
        readers = list((corpus / part).iterdir())
        assert {reader.name for reader in readers} == {name for name, subset in table.items() if subset == part}
        for reader in readers:
            (chapter,) = reader.iterdir()
            prefix = f"{reader.name}-{chapter.name}"
            ids = [f"{prefix}-{number:04d}" for number in range(UTTERANCES)]
            lines = (chapter / f"{prefix}.trans.txt").read_text().splitlines()
            assert [line.split(" ", 1)[0] for line in lines] == ids
            assert all(re.fullmatch(r"[A-Z' ]+", line.split(" ", 1)[1]) for line in lines)
            assert {path.stem for path in chapter.glob("*.flac")} == set(ids)


def test_audio_is_speech_of_2_to_6_seconds(corpus: Path) -> None:
    paths = list(corpus.rglob("*.flac"))
    assert len(paths) == UTTERANCES * sum(SPEAKERS.values())
    for path in paths:
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype, info.format) == (16000, 1, "PCM_16", "FLAC")
        samples, _ = soundfile.read(path)
        assert 2.0 <= len(samples) / 16000 <= 6.0
        assert 0.1 < np.abs(samples).max() < 0.82  # peak 2 to 18 dB below full scale
        frames = samples[: len(samples) // 400 * 400].reshape(-1, 400)
        level_db = 10 * np.log10((frames**2).mean(axis=1) + 1e-12)
        assert np.percentile(level_db, 90) - np.percentile(level_db, 2) > 10  # words and pauses
        assert level_db.min() > -100  # noise, never digital silence


def test_parts_share_no_sentence(corpus: Path) -> None:
    sentences = {
        part: {
            line.split(" ", 1)[1]
            for path in (corpus / part).rglob("*.trans.txt")
            for line in path.read_text().splitlines()
        }
        for part in PARTS
    }
    assert {part: len(found) for part, found in sentences.items()} == {
        part: count * UTTERANCES for part, count in SPEAKERS.items()
    }
    # Each sentence contains exactly one name, and each name is used in only one part.
    part_of = {name.lower(): part for part, names in NAMES.items() for name in names}
    assert len(part_of) == sum(len(names) for names in NAMES.values())
    for part, found in sentences.items():
        for sentence in found:
            assert [part_of[word] for word in sentence.lower().split() if word in part_of] == [part]


@pytest.mark.parametrize("letters", [1, 60])
def test_make_sentence_reaches_the_length(letters: int) -> None:
    generator = np.random.default_rng(0)
    lengths = [len(make_sentence(generator, "demo-dev", letters)) for _ in range(200)]
    assert min(lengths) >= letters
    assert max(lengths) < letters + 80


def test_plan_of_the_full_corpus() -> None:
    for seed in range(5):
        plan = plan_demo_corpus(seed)
        expected = ["demo-train"] * 100 + ["demo-dev"] * 12 + ["demo-test"] * 30
        assert [speaker.part for speaker in plan] == expected
        assert len({speaker.reader for speaker in plan}) == len(plan)
        variants = {part: {s.voice.variant for s in plan if s.part == part} for part in PARTS}
        assert len(variants["demo-test"]) == 30
        assert len(variants["demo-dev"]) == 12
        assert sum(len(found) for found in variants.values()) == len(set().union(*variants.values()))
        train = [speaker.voice for speaker in plan if speaker.part == "demo-train"]
        for i, voice in enumerate(train):
            for other in train[:i]:
                if voice.variant == other.variant:
                    assert voice.accent != other.accent
                    assert abs(voice.pitch - other.pitch) >= 6
    assert plan_demo_corpus(1) == plan_demo_corpus(1) != plan_demo_corpus(2)


def test_a_speaker_of_a_part_has_the_same_number_in_every_corpus() -> None:
    default = {(speaker.part, speaker.index): speaker.reader for speaker in plan_demo_corpus(0)}
    assert list(default.values()) == [str(number) for number in range(1001, 1143)]
    for train, dev, test in ((20, 3, 60), (300, 40, 5)):
        plan = plan_demo_corpus(1, train_speakers=train, dev_speakers=dev, test_speakers=test)
        numbers = {(speaker.part, speaker.index): speaker.reader for speaker in plan}
        assert {place: numbers[place] for place in numbers.keys() & default} == {
            place: default[place] for place in numbers.keys() & default
        }
        together = default | numbers
        assert len(set(together.values())) == len(together)
        assert {len(number) for number in together.values()} == {4}


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"seed": -1}, "seed -1"),
        ({"seed": 0, "dev_speakers": 0}, "demo-dev: 0 speakers"),
        ({"seed": 0, "test_speakers": 80}, "give at most 89 together"),
        ({"seed": 0, "train_speakers": 9000}, "give at most 8099"),
    ],
)
def test_wrong_plans_are_refused(counts: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan_demo_corpus(**counts)


def test_all_variants_are_listed_with_the_sex_of_their_files() -> None:
    folder = library_paths()[1] / "voices" / "!v"
    listed = [*FEMALE_VARIANTS, *MALE_VARIANTS, *UNSTABLE_VARIANTS, *TWIN_VARIANTS]
    assert sorted(listed) == sorted(path.name for path in folder.iterdir())
    for variant in (*FEMALE_VARIANTS, *MALE_VARIANTS):
        text = (folder / variant).read_text()
        gender = re.search(r"(?im)^gender\s+(\w+)", text)
        pitch = re.search(r"(?m)^pitch\s+(\d+)\s+(\d+)", text)
        high = pitch is not None and sum(map(int, pitch.groups())) / 2 > 150
        female = gender[1].lower() == "female" if gender else high
        assert female == (variant in FEMALE_VARIANTS), variant


def test_every_variant_repeats_exactly() -> None:
    """Two processes speak in opposite orders, because unstable variants differ between processes."""
    voices = [
        Voice(ACCENTS[i % len(ACCENTS)], variant, rate=195, pitch=30 + i % 40, pitch_range=50)
        for i, variant in enumerate((*FEMALE_VARIANTS, *MALE_VARIANTS))
    ]
    text = "Seven jolly owls fetched him a ship."
    with Synthesiser() as first, Synthesiser() as second:
        samples = [first.speak(voice, text) for voice in voices]
        repeated = [second.speak(voice, text) for voice in reversed(voices)][::-1]
    for voice, a, b in zip(voices, samples, repeated, strict=True):
        assert np.array_equal(a, b), voice
        assert np.abs(a).max() > 1000, voice
    assert len({spoken.tobytes() for spoken in samples}) == len(voices)


def test_a_missing_library_is_an_error_with_the_fix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(InputError, match=r"pip install 'deepspeaker\[demo\]'") as raised:
        make_tiny(tmp_path / "corpus", seed=0)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_errors_name_voice_and_sentence() -> None:
    unknown = Voice("xx", "f1", 170, 50, 50)
    good = Voice("en", "f1", 170, 50, 50)
    with Synthesiser() as synthesiser:
        with pytest.raises(InputError, match=r'"Hello\." with the voice xx\+f1 .*does not know this voice'):
            synthesiser.speak(unknown, "Hello.")
        assert len(synthesiser.speak(good, "Hello.")) > 1000
        synthesiser._process.kill()
        with pytest.raises(InputError, match=r'"Hello\." with the voice en\+f1 .*its process ended'):
            synthesiser.speak(good, "Hello.")


def test_a_library_that_hangs_is_stopped() -> None:
    with Synthesiser(timeout_seconds=0) as synthesiser, pytest.raises(InputError, match="no answer within 0 s"):
        synthesiser.speak(Voice("en", "f1", 170, 50, 50), "Hello.")


def test_a_failure_leaves_no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("deepspeaker.corpora.demo.speakers.ACCENTS", ("xx",))
    with pytest.raises(InputError, match="does not know this voice"):
        make_tiny(tmp_path / "corpus", seed=0, jobs=2)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_variant_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("deepspeaker.corpora.demo.speakers.MALE_VARIANTS", tuple(f"nobody{i}" for i in range(50)))
    with pytest.raises(InputError, match="no voice variant nobody"):
        make_tiny(tmp_path / "corpus", seed=0)


# ---- a phrase, languages, sessions -----------------------------------------------------------------------


def transcripts(folder: Path) -> dict[str, str]:
    lines = [line for path in folder.rglob("*.trans.txt") for line in path.read_text().splitlines()]
    return dict(line.split(" ", 1) for line in lines)


def test_every_utterance_says_the_phrase_in_its_own_way(tmp_path: Path) -> None:
    corpus = make_tiny(tmp_path / "corpus", seed=3, jobs=1, phrase=" hey  computer ")
    assert contents(make_tiny(tmp_path / "again", seed=3, jobs=2, phrase="hey computer")) == contents(corpus)
    said = transcripts(corpus)
    assert set(said.values()) == {"HEY COMPUTER"} and len(said) == UTTERANCES * sum(SPEAKERS.values())
    tables = [read_table(corpus / part / "utt2phrase") for part in PARTS]
    assert {utterance: phrase for table in tables for utterance, phrase in table.items()} == dict.fromkeys(
        said, "hey computer"
    )
    for reader in (corpus / "demo-train").iterdir():
        if reader.is_dir():  # the rate differs between utterances, so the durations do
            seconds = [soundfile.info(path).duration for path in reader.rglob("*.flac")]
            assert len(set(seconds)) == UTTERANCES and 0.3 < min(seconds) < max(seconds) < 2
    assert "hey computer" in (corpus / "README.TXT").read_text()


@pytest.mark.parametrize("language", LANGUAGES)
def test_another_language_has_the_same_voices_and_other_sentences(
    corpus: Path, tmp_path: Path, language: str
) -> None:
    counts = {"train_speakers": 60, "dev_speakers": 12, "test_speakers": 30}
    english_plan, plan = plan_demo_corpus(5, **counts), plan_demo_corpus(5, **counts, language=language)
    for english, other in zip(english_plan, plan, strict=True):
        assert other.voice.accent == language
        assert dataclasses.replace(other.voice, accent=english.voice.accent) == english.voice
    made = make_tiny(tmp_path / "corpus", seed=3, language=language)
    assert {path.name for path in made.rglob("*.flac")} == {path.name for path in corpus.rglob("*.flac")}
    assert all(2 <= soundfile.info(path).duration <= MAX_SECONDS for path in made.rglob("*.flac"))
    for part in PARTS:
        said = transcripts(made / part)
        assert read_table(made / part / "utt2lang") == dict.fromkeys(said, language)
        names = [name.upper() for name in LANGUAGES[language].names[part]]
        assert all(any(sentence.startswith(name) for name in names) for sentence in said.values())
    names = [name for part in PARTS for name in LANGUAGES[language].names[part]]
    assert len(set(names)) == len(names)


def test_sessions_are_chapters_with_different_channels_and_voices(tmp_path: Path) -> None:
    corpus = make_tiny(tmp_path / "corpus", seed=3, sessions=2)
    for reader in (corpus / "demo-test").iterdir():
        chapters = {chapter.name: len(list(chapter.glob("*.flac"))) for chapter in reader.iterdir()}
        assert chapters == {f"{reader.name}01": 1, f"{reader.name}02": 2}
    (speaker, *_) = plan_demo_corpus(3)
    (only,) = plan_sessions(3, speaker, 1)
    assert only.voice == speaker.voice
    sessions = plan_sessions(3, speaker, 20)
    assert len({session.voice for session in sessions}) > 10
    assert all(abs(session.voice.pitch - speaker.voice.pitch) <= 4 for session in sessions)
    levels = np.array([session.channel for session in sessions])
    # 3 dB between sessions: within six standard errors of the estimate from 80 values
    assert abs(np.std(levels - levels.mean(axis=0), ddof=4) - 3) < 6 * 3 / np.sqrt(2 * 76)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"language": "xx"}, "language xx is unknown; use en, de, cmn"),
        ({"phrase": "  "}, "phrase '  ': use words on one line"),
        ({"phrase": "hey\ncomputer"}, r"phrase 'hey\\ncomputer': use words on one line"),
        ({"phrase": "..."}, r'the phrase "\.\.\.": eSpeak NG speaks it silently'),
        ({"phrase": "very " * 40}, r"for \d+\.\d s, with the voice .*; give one of 0\.3 to 6 s"),
        ({"sessions": 4}, "4 sessions of 3 utterances per speaker; give at most 3"),
        ({"sessions": 0}, "sessions 0; give at least one"),
    ],
)
def test_a_wrong_content_is_one_line(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        make_tiny(tmp_path / "corpus", seed=0, jobs=1, **content)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []
