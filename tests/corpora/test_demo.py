"""The demo corpus: layout, reproducibility, disjoint parts, and voices that repeat exactly."""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from deepspeaker.corpora.demo import (
    ACCENTS,
    FEMALE_VARIANTS,
    MALE_VARIANTS,
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
)
from deepspeaker.errors import InputError

SPEAKERS = {"demo-train": 4, "demo-dev": 2, "demo-test": 2}
UTTERANCES = 3


def make_tiny(folder: Path, seed: int, jobs: int | None = None) -> Path:
    counts = {f"{part.removeprefix('demo-')}_speakers": count for part, count in SPEAKERS.items()}
    make_demo_corpus(folder, seed, **counts, utterances=UTTERANCES, jobs=jobs, progress=False)
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


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"seed": -1}, "seed -1"),
        ({"seed": 0, "dev_speakers": 0}, "demo-dev: 0 speakers"),
        ({"seed": 0, "test_speakers": 80}, "give at most 89 together"),
        ({"seed": 0, "train_speakers": 9000}, "give at most 8999"),
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
