"""LibriSpeech's layout on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from deepspeaker.corpora import find_parts
from deepspeaker.corpora.librispeech import read_part
from deepspeaker.errors import InputError


def add_utterance(folder: Path, part: str, utterance: str) -> Path:
    reader, chapter, number = utterance.split("-")
    path = folder / part / reader / chapter / f"{utterance}.flac"
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng([int(reader), int(chapter), int(number)])
    soundfile.write(path, 0.1 * generator.normal(size=4000), 16000)
    return path


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Reader 19 with transcripts of which one has no audio, 26 with audio that has none, 103 with one utterance."""
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


def test_parts_are_the_folders_with_audio(corpus: Path) -> None:
    assert find_parts(corpus) == ["test-clean", "train-clean-5"]


def test_a_part_with_and_without_transcripts(corpus: Path) -> None:
    data = read_part(corpus, "train-clean-5")
    assert data.spk2utt == {
        "103": ["103-1-0000"],
        "19": ["19-198-0000", "19-198-0001", "19-227-0000"],
        "26": ["26-495-0000", "26-495-0001"],
    }
    assert data.wav_scp["19-227-0000"] == str(corpus / "train-clean-5/19/227/19-227-0000.flac")
    assert data.text == {"19-198-0000": "THE FIRST", "19-198-0001": "THE SECOND"}
    assert data.spk2gender == {"19": "f", "26": "m"}


def test_no_table_of_speakers_is_no_obstacle(corpus: Path) -> None:
    (corpus / "SPEAKERS.TXT").unlink()
    assert read_part(corpus, "train-clean-5").spk2gender == {}


def test_text_that_is_not_utf8_is_no_obstacle(corpus: Path) -> None:
    (corpus / "train-clean-5/26/495/26-495.trans.txt").write_bytes(b"26-495-0000 CAF\xc9\n")
    (corpus / "SPEAKERS.TXT").write_bytes(b"26 | M | train-clean-5 | 1 | Ren\xe9\n")
    data = read_part(corpus, "train-clean-5")
    assert data.text["26-495-0000"].startswith("CAF")
    assert data.spk2gender == {"26": "m"}


@pytest.mark.parametrize("name", ["19-198.flac", "26-198-0000.flac", "a-b-c.flac", "copy of 19-198-0000.flac"])
def test_a_name_that_does_not_fit_its_folders_is_named(corpus: Path, name: str) -> None:
    (corpus / "train-clean-5/19/198" / name).touch()
    with pytest.raises(InputError, match="READER-CHAPTER-NUMBER") as raised:
        read_part(corpus, "train-clean-5")
    assert name in str(raised.value)


def test_an_utterance_that_comes_twice_is_named(corpus: Path) -> None:
    other = corpus / "train-clean-5/19/other"
    other.mkdir()
    (other / "19-198-0000.flac").touch()
    with pytest.raises(InputError, match="the utterance 19-198-0000 comes twice"):
        read_part(corpus, "train-clean-5")


def test_wrong_folders_are_named_with_the_mend(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: no such folder; --corpus-dir wants"):
        find_parts(tmp_path / "nowhere")
    with pytest.raises(InputError, match=rf"no LibriSpeech corpus is there; give --corpus-dir {corpus}"):
        find_parts(tmp_path)
    with pytest.raises(InputError, match=r"no LibriSpeech corpus is there; PART/READER/CHAPTER"):
        find_parts(corpus / "train-clean-5")
