"""Reading a corpus in the layout of LibriSpeech."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from deepspeaker.corpora import find_parts, read_librispeech
from deepspeaker.errors import InputError
from deepspeaker.kaldi import DataDir


def add_utterance(folder: Path, part: str, utterance: str) -> Path:
    reader, chapter, number = utterance.split("-")
    path = folder / part / reader / chapter / f"{utterance}.flac"
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng([int(reader), int(chapter), int(number)])
    soundfile.write(path, 0.1 * generator.normal(size=4000), 16000)
    return path


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Write a corpus: reader 19 has transcripts (one without audio), 26 has none, and 103 has one utterance."""
    folder = tmp_path / "LibriSpeech"
    for utterance in ("19-198-0000", "19-198-0001", "19-227-0000", "26-495-0000", "26-495-0001", "103-1-0000"):
        add_utterance(folder, "train-clean-5", utterance)
    (folder / "train-clean-5/19/198/19-198.trans.txt").write_text(
        "19-198-0000 THE FIRST\n19-198-0001 THE SECOND\n19-198-0002 WITHOUT AUDIO\n\n19-198-0003\n"
    )
    add_utterance(folder, "test-clean", "61-1-0000")
    (folder / "SPEAKERS.TXT").write_text(
        ";ID  |SEX| SUBSET           |MINUTES| NAME\n"
        "19   | F | train-clean-5    | 25.19 | Kara | With a bar\n"
        "26   | M | train-clean-5    | 25.08 | Denny Sayers\n"
        "27   | M | train-clean-5    | 20.00 | Not Here\n"
        "103  | x | train-clean-5    | 20.00 | Unknown\n\n"
    )
    (folder / "README.TXT").touch()
    (folder / "intro-disclaimers").mkdir()
    return folder


def read_train(corpus: Path) -> DataDir:
    return read_librispeech(corpus, ["train-clean-5"], [], ["test-clean"])["train"]


def test_parts_are_the_folders_with_audio(corpus: Path) -> None:
    assert find_parts(corpus) == ["test-clean", "train-clean-5"]


def test_transcripts_and_genders_are_read_if_known(corpus: Path) -> None:
    data = read_train(corpus)
    assert data.spk2utt == {
        "103": ["103-1-0000"],
        "19": ["19-198-0000", "19-198-0001", "19-227-0000"],
        "26": ["26-495-0000", "26-495-0001"],
    }
    assert data.wav_scp["19-227-0000"] == str(corpus / "train-clean-5/19/227/19-227-0000.flac")
    assert data.text == {"19-198-0000": "THE FIRST", "19-198-0001": "THE SECOND"}
    assert data.spk2gender == {"19": "f", "26": "m"}


def test_speakers_txt_is_optional(corpus: Path) -> None:
    (corpus / "SPEAKERS.TXT").unlink()
    assert read_train(corpus).spk2gender == {}


def test_text_may_have_another_encoding_than_utf8(corpus: Path) -> None:
    (corpus / "train-clean-5/26/495/26-495.trans.txt").write_bytes(b"26-495-0000 CAF\xc9\n")
    (corpus / "SPEAKERS.TXT").write_bytes(b"26 | M | train-clean-5 | 1 | Ren\xe9\n")
    data = read_train(corpus)
    assert data.text["26-495-0000"].startswith("CAF")
    assert data.spk2gender == {"26": "m"}


@pytest.mark.parametrize("name", ["19-198.flac", "26-198-0000.flac", "a-b-c.flac", "copy of 19-198-0000.flac"])
def test_a_name_that_does_not_match_its_folders_is_refused(corpus: Path, name: str) -> None:
    (corpus / "train-clean-5/19/198" / name).touch()
    with pytest.raises(InputError, match="READER-CHAPTER-NUMBER") as raised:
        read_train(corpus)
    assert name in str(raised.value)


def test_a_duplicate_utterance_is_refused(corpus: Path) -> None:
    other = corpus / "train-clean-5/19/other"
    other.mkdir()
    (other / "19-198-0000.flac").touch()
    with pytest.raises(InputError, match="the utterance 19-198-0000 is duplicated"):
        read_train(corpus)


def test_wrong_folders_are_refused_with_the_fix(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: no such folder; --corpus-dir needs"):
        find_parts(tmp_path / "nowhere")
    with pytest.raises(InputError, match=rf"contains no LibriSpeech corpus; give --corpus-dir {corpus}"):
        find_parts(tmp_path)
    with pytest.raises(InputError, match=r"contains no LibriSpeech corpus; expected PART/READER/CHAPTER"):
        find_parts(corpus / "train-clean-5")
