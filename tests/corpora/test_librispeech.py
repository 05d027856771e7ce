"""LibriSpeech's layout on disk, and its download from a server of our own."""

from __future__ import annotations

import io
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile

from deepspeaker.corpora import download, find_parts
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


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler] | partial[SimpleHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/resources"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


class Failing(Quiet):
    def do_GET(self) -> None:
        self.send_error(503)


class Closing(Quiet):
    def do_GET(self) -> None:
        self.close_connection = True


class Babbling(Quiet):
    def do_GET(self) -> None:
        self.wfile.write(b"this is no HTTP\r\n\r\n")


class Short(Quiet):
    """Sends half of a file and closes."""

    def copyfile(self, source: io.BufferedReader, outputfile: io.BufferedIOBase) -> None:  # type: ignore[override]
        content = source.read()
        outputfile.write(content[: len(content) // 2])


def packed(corpus: Path, site: Path, part: str, issue: str = "31") -> Path:
    target = site / "resources" / issue / f"{part}.tar.gz"
    target.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(target, "w:gz") as tar:
        tar.add(corpus / part, f"LibriSpeech/{part}")
        tar.add(corpus / "SPEAKERS.TXT", "LibriSpeech/SPEAKERS.TXT")
    return target


def one_line(raised: pytest.ExceptionInfo[InputError]) -> bool:
    return "\n" not in str(raised.value) and "--corpus-dir" in str(raised.value)


def test_download_unpacks_what_the_server_has(corpus: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    packed(corpus, site, "train-clean-5")
    packed(corpus, site, "test-clean", "12")
    with serving(partial(Quiet, directory=str(site))) as url:
        found = download(tmp_path / "here", ["train-clean-5", "test-clean"], url)
    assert found == tmp_path / "here" / "LibriSpeech"
    assert find_parts(found) == ["test-clean", "train-clean-5"]
    ours, theirs = read_part(found, "train-clean-5"), read_part(corpus, "train-clean-5")
    assert (ours.utt2spk, ours.text, ours.spk2gender) == (theirs.utt2spk, theirs.text, theirs.spk2gender)
    # All parts are there: no server is asked any more.
    assert download(tmp_path / "here", ["train-clean-5"], url) == found


@pytest.mark.parametrize("handler", [Failing, Closing, Babbling, Quiet])
def test_a_server_that_fails_is_one_line(tmp_path: Path, handler: type[BaseHTTPRequestHandler]) -> None:
    (tmp_path / "site").mkdir()
    made = partial(handler, directory=str(tmp_path / "site"))
    with serving(made) as url, pytest.raises(InputError, match="download of train-clean-5 from http://") as raised:  # type: ignore[arg-type]
        download(tmp_path / "here", ["train-clean-5"], url)
    assert one_line(raised)
    assert not (tmp_path / "here" / "LibriSpeech" / "train-clean-5").exists()


def test_no_server_is_one_line_and_the_next_try_succeeds(corpus: Path, tmp_path: Path) -> None:
    packed(corpus, tmp_path / "site", "train-clean-5")
    with serving(Failing) as url:
        pass
    with pytest.raises(InputError, match="refused") as raised:
        download(tmp_path / "here", ["train-clean-5"], url)
    assert one_line(raised)
    with serving(partial(Quiet, directory=str(tmp_path / "site"))) as url:
        assert find_parts(download(tmp_path / "here", ["train-clean-5"], url)) == ["train-clean-5"]


def test_half_an_archive_is_one_line_and_no_part(corpus: Path, tmp_path: Path) -> None:
    packed(corpus, tmp_path / "site", "train-clean-5")
    with serving(partial(Short, directory=str(tmp_path / "site"))) as url, pytest.raises(InputError) as raised:
        download(tmp_path / "here", ["train-clean-5"], url)
    assert one_line(raised)
    assert not (tmp_path / "here" / "LibriSpeech" / "train-clean-5" / ".completed").exists()


def test_junk_for_an_archive_is_one_line(corpus: Path, tmp_path: Path) -> None:
    archive = packed(corpus, tmp_path / "site", "train-clean-5")
    content = bytearray(archive.read_bytes())
    for junk in (b"<html>not found</html>", bytes(content[:60] + b"\xff" * 500 + content[560:])):
        archive.write_bytes(junk)
        with serving(partial(Quiet, directory=str(tmp_path / "site"))) as url, pytest.raises(InputError) as raised:
            download(tmp_path / f"here-{len(junk)}", ["train-clean-5"], url)
        assert one_line(raised)


def test_members_outside_the_folder_are_refused(tmp_path: Path) -> None:
    archive = tmp_path / "site" / "resources" / "31" / "train-clean-5.tar.gz"
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:gz") as tar:
        member = tarfile.TarInfo("../outside")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"evil"))
    with (
        serving(partial(Quiet, directory=str(tmp_path / "site"))) as url,
        pytest.raises(InputError, match="Path Traversal") as raised,
    ):
        download(tmp_path / "here", ["train-clean-5"], url)
    assert one_line(raised)
    assert not (tmp_path / "outside").exists()


def test_an_unknown_part_is_named_before_anything_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="train-clean-6: LibriSpeech has no such part; known: train-clean-100"):
        download(tmp_path / "here", ["train-clean-5", "train-clean-6"], "http://127.0.0.1:9/none")
    assert not (tmp_path / "here").exists()
