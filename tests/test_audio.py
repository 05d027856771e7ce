"""Audio from files that soundfile wrote, from pipes and from archives."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from deepspeaker.audio import AudioInfo, audio_file, audio_info, load_audio, read_audio, segment_samples
from deepspeaker.errors import InputError

#: Extension -> options of soundfile.
FORMATS = {
    "wav": {},
    "flac": {},
    "ogg": {},
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "aiff": {},
}
Readers = [read_audio, audio_info]


def noise(samples: int = 48000, seed: int = 0) -> NDArray[np.float64]:
    return 0.1 * np.random.default_rng(seed).normal(size=samples)


def tone(hertz: float, rate: int, samples: int) -> NDArray[np.float64]:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(samples) / rate)


def wav_bytes(samples: NDArray[np.float64], rate: int = 16000) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format="WAV", subtype="PCM_16")
    return stream.getvalue()


def one_line(raised: pytest.ExceptionInfo[InputError], start: object) -> bool:
    return str(raised.value).startswith(str(start)) and "\n" not in str(raised.value)


@pytest.mark.parametrize("ending", ["wav", "flac", "aiff"])
def test_lossless_files_are_read_exactly_in_minus_one_to_one(tmp_path: Path, ending: str) -> None:
    samples = noise()
    soundfile.write(tmp_path / f"a.{ending}", samples, 16000, subtype="PCM_16")
    read = read_audio(str(tmp_path / f"a.{ending}"))
    assert read.dtype == np.float32
    assert read.shape == samples.shape
    assert np.abs(read - samples).max() <= 1 / 32768
    assert audio_info(str(tmp_path / f"a.{ending}")) == AudioInfo(16000, 48000, 1)


@pytest.mark.parametrize("ending", ["ogg", "opus"])
def test_lossy_files_are_read_approximately(tmp_path: Path, ending: str) -> None:
    samples = tone(440, 16000, 32000)
    soundfile.write(tmp_path / f"a.{ending}", samples, 16000, **FORMATS[ending])
    read = read_audio(str(tmp_path / f"a.{ending}"))
    assert len(read) == len(samples)
    assert np.corrcoef(read, samples)[0, 1] > 0.99


def test_full_scale_of_16_bit(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.array([-32768, 0, 16384, 32767], dtype=np.int16), 16000)
    assert read_audio(str(tmp_path / "a.wav")).tolist() == [-1.0, 0.0, 0.5, 32767 / 32768]


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = noise(seed=1), noise(seed=2)
    soundfile.write(tmp_path / "a.flac", np.stack([left, right], axis=1), 16000)
    assert np.abs(read_audio(str(tmp_path / "a.flac")) - (left + right) / 2).max() <= 1 / 32768
    assert audio_info(str(tmp_path / "a.flac")) == AudioInfo(16000, 48000, 2)


@pytest.mark.parametrize("rate", [8000, 44100, 48000, 11025])
@pytest.mark.parametrize("hertz", [300, 1000, 3100])
def test_another_rate_keeps_length_and_pitch(tmp_path: Path, rate: int, hertz: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone(hertz, rate, 2 * rate), rate)
    read = read_audio(str(tmp_path / "a.wav"))
    assert len(read) == 32000
    spectrum = np.abs(np.fft.rfft(read * np.hanning(len(read))))
    assert np.argmax(spectrum) * 16000 / len(read) == pytest.approx(hertz, abs=1)
    inner = slice(1000, -1000)
    assert np.abs(read[inner] - tone(hertz, 16000, 32000)[inner]).max() < 0.01
    assert audio_info(str(tmp_path / "a.wav")) == AudioInfo(rate, 2 * rate, 1)


def test_frequencies_above_the_new_nyquist_are_removed(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(12000, 44100, 44100), 44100)
    assert np.abs(read_audio(str(tmp_path / "a.wav"))[500:-500]).max() < 0.01


def test_an_archive_of_whole_wav_files(tmp_path: Path) -> None:
    """As ``wav-copy`` writes it: key, blank, file."""
    files = {"a": noise(3000, 1), "b": noise(5000, 2), "c": noise(4000, 3)}
    offsets = {}
    with (tmp_path / "wav.ark").open("wb") as stream:
        for key, samples in files.items():
            stream.write(f"{key} ".encode())
            offsets[key] = stream.tell()
            stream.write(wav_bytes(samples))
    for key, samples in files.items():
        location = f"{tmp_path}/wav.ark:{offsets[key]}"
        read = read_audio(location)
        assert read.shape == samples.shape
        assert np.abs(read - samples).max() <= 1 / 32768
        assert audio_info(location) == AudioInfo(16000, len(samples), 1)
    for read_one in Readers:
        with pytest.raises(InputError) as raised:
            read_one(f"{tmp_path}/wav.ark:1")
        assert one_line(raised, f"{tmp_path}/wav.ark:1: no wav file begins")
        with pytest.raises(InputError) as raised:
            read_one(f"{tmp_path}/wav.ark:999999")
        assert one_line(raised, f"{tmp_path}/wav.ark:999999: no wav file begins")
        with pytest.raises(InputError) as raised:
            read_one(f"{tmp_path}/none.ark:2")
        assert one_line(raised, f"{tmp_path}/none.ark: No such file")
    whole = (tmp_path / "wav.ark").read_bytes()
    (tmp_path / "wav.ark").write_bytes(whole[:-1000])
    for read_one in Readers:
        with pytest.raises(InputError, match="truncated") as raised:
            read_one(f"{tmp_path}/wav.ark:{offsets['c']}")
        assert one_line(raised, f"{tmp_path}/wav.ark:{offsets['c']}: ")


def test_the_flac_pipe_is_opened_without_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "a;b.flac", noise(), 16000)
    monkeypatch.setenv("PATH", "")
    location = f"flac -c -d -s {tmp_path}/a;b.flac |"
    assert audio_file(location) == f"{tmp_path}/a;b.flac"
    assert len(read_audio(location)) == 48000
    assert audio_info(location).samples == 48000


def test_plain_files() -> None:
    assert audio_file("/a b/c.wav") == "/a b/c.wav"
    assert audio_file("x.ark:5") is None
    assert audio_file("cat x.wav |") is None
    assert audio_file("flac -c -d -s x.flac | sox - -r 8000 |") is None


@pytest.mark.parametrize("read", Readers)
def test_other_pipes_run_only_when_allowed(tmp_path: Path, read: Callable[..., object]) -> None:
    (tmp_path / "a.wav").write_bytes(wav_bytes(noise()))
    location = f"touch {tmp_path}/ran; cat {tmp_path}/a.wav |"
    with pytest.raises(InputError, match="--allow-pipes") as raised:
        read(location)
    assert one_line(raised, location)
    assert not (tmp_path / "ran").exists()
    read(location, allow_pipes=True)
    assert (tmp_path / "ran").exists()


def test_a_pipe_reads_the_same_as_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav_bytes(noise()))
    piped = read_audio(f"cat {tmp_path}/a.wav | cat |", allow_pipes=True)
    assert np.array_equal(piped, read_audio(str(tmp_path / "a.wav")))


def test_a_pipe_whose_header_does_not_know_the_length(tmp_path: Path) -> None:
    whole = wav_bytes(noise())
    size = whole.index(b"data") + 4
    for unknown in (0x7FFFF000, 0xFFFFFFFF):
        stream = whole[:4] + b"\xff\xff\xff\xff" + whole[8:size] + unknown.to_bytes(4, "little") + whole[size + 4 :]
        (tmp_path / "a.wav").write_bytes(stream)
        assert len(read_audio(f"cat {tmp_path}/a.wav |", allow_pipes=True)) == 48000


@pytest.mark.parametrize("read", Readers)
@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("echo why >&2; exit 3", "the pipe failed with status 3: why"),
        ("no-such-program-at-all", "the pipe failed with status 127"),
        ("false | cat", "the pipe failed with status 1"),
        ("true", "the pipe wrote nothing"),
        ("echo junk", "cannot be read as audio"),
    ],
)
def test_failing_pipes_are_errors(read: Callable[..., object], command: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        read(f"{command} |", allow_pipes=True)
    assert one_line(raised, command)


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("fraction", [0.0005, 0.01, 0.3, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_an_error(tmp_path: Path, ending: str, fraction: float) -> None:
    path = tmp_path / f"a.{ending}"
    soundfile.write(path, noise(), 16000, **FORMATS[ending])
    whole = path.read_bytes()
    path.write_bytes(whole[: int(fraction * len(whole))])
    with pytest.raises(InputError) as raised:
        read_audio(str(path))
    assert one_line(raised, f"{path}: ")


@pytest.mark.parametrize("ending", ["wav", "ogg", "opus", "aiff"])
def test_truncation_is_found_without_reading_the_samples(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    soundfile.write(path, noise(), 16000, **FORMATS[ending])
    path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(InputError, match="truncated") as raised:
        audio_info(str(path))
    assert one_line(raised, f"{path}: ")


#: Formats whose header declares the bytes of the samples -> options of soundfile.
CHUNKED = {
    "wav": {"format": "WAV", "subtype": "PCM_16"},
    "wav of 24 bit": {"format": "WAV", "subtype": "PCM_24"},
    "wav of large endian": {"format": "WAV", "endian": "BIG"},
    "wav extensible": {"format": "WAVEX", "subtype": "FLOAT"},
    "rf64": {"format": "RF64", "subtype": "PCM_16"},
    "w64": {"format": "W64", "subtype": "PCM_24"},
    "aiff": {"format": "AIFF", "subtype": "PCM_U8"},
    "caf": {"format": "CAF", "subtype": "DOUBLE"},
}


@pytest.mark.parametrize("kind", CHUNKED)
@pytest.mark.parametrize("read", Readers)
@pytest.mark.parametrize("piped", [False, True])
def test_truncation_is_found_by_sizes_and_not_by_messages_of_libsndfile(
    tmp_path: Path, kind: str, read: Callable[..., object], piped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The messages of libsndfile differ between versions, and there are none for rf64 and w64."""
    monkeypatch.setattr(soundfile.SoundFile, "extra_info", "")
    path = tmp_path / "a"
    location = f"cat {path} |" if piped else str(path)
    soundfile.write(path, noise(16000), 16000, **CHUNKED[kind])
    whole = path.read_bytes()
    read(location, allow_pipes=True)
    for missing in (1, 700, 10_000):
        path.write_bytes(whole[:-missing])
        with pytest.raises(InputError) as raised:
            read(location, allow_pipes=True)
        assert one_line(raised, location)


def test_chunks_before_and_after_the_samples_are_skipped(tmp_path: Path) -> None:
    """Chunks of odd and even sizes. If only a chunk after the samples is truncated, the samples are complete."""
    whole = wav_bytes(noise())
    begin = whole.index(b"data")
    for size in (3, 10):
        extra = b"junk" + size.to_bytes(4, "little") + b"data\xff\xff\xff\x6f"[:size].ljust(size + size % 2, b"\0")
        content = whole[8:begin] + extra + whole[begin:] + extra
        (tmp_path / "a.wav").write_bytes(b"RIFF" + len(content).to_bytes(4, "little") + content)
        assert len(read_audio(str(tmp_path / "a.wav"))) == 48000
        (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:-2])
        assert len(read_audio(str(tmp_path / "a.wav"))) == 48000
        (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:-20])
        with pytest.raises(InputError, match=r"a\.wav: is truncated, it has 9599\d of 96000 bytes"):
            read_audio(str(tmp_path / "a.wav"))


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("samples", [1, 100, 15999, 200001])
def test_a_complete_file_of_any_length_is_not_reported_as_truncated(tmp_path: Path, ending: str, samples: int) -> None:
    path = tmp_path / f"a.{ending}"
    soundfile.write(path, noise(samples), 16000, **FORMATS[ending])
    assert len(read_audio(str(path))) == audio_info(str(path)).samples == samples
    assert len(read_audio(f"cat {path} |", allow_pipes=True)) == samples


@pytest.mark.parametrize("read", Readers)
def test_errors_name_empty_invalid_and_missing_files(tmp_path: Path, read: Callable[..., object]) -> None:
    (tmp_path / "empty.flac").touch()
    (tmp_path / "junk.flac").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "text.wav").write_text("no audio\nat all\n")
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 16000)
    (tmp_path / "folder.wav").mkdir()
    for name, message in {
        "empty.flac": "is empty",
        "junk.flac": "cannot be read as audio",
        "text.wav": "cannot be read as audio",
        "none.wav": "has no samples",
        "folder.wav": "is a folder, not an audio file",
        "missing.wav": "no such file",
    }.items():
        with pytest.raises(InputError, match=message) as raised:
            read(str(tmp_path / name))
        assert one_line(raised, f"{tmp_path}/{name}: ")


@pytest.mark.parametrize("read", Readers)
def test_a_flac_stream_without_a_length_is_refused(tmp_path: Path, read: Callable[..., object]) -> None:
    soundfile.write(tmp_path / "a.flac", noise(), 16000)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21] &= 0xF0  # STREAMINFO: the 36 bits of the number of samples
    content[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(content)
    with pytest.raises(InputError, match="does not contain its length") as raised:
        read(str(tmp_path / "a.flac"))
    assert one_line(raised, f"{tmp_path}/a.flac: ")


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    samples = noise()
    samples[7] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    with pytest.raises(InputError, match=r"a\.wav: has samples that are not finite"):
        read_audio(str(tmp_path / "a.wav"))


@pytest.mark.parametrize("ending", [*FORMATS, "mp3"])
def test_segments_have_their_exact_samples(tmp_path: Path, ending: str) -> None:
    soundfile.write(tmp_path / f"a.{ending}", noise(40000), 16000, **FORMATS.get(ending, {}))
    location = str(tmp_path / f"a.{ending}")
    whole = read_audio(location)
    for first, stop in ((0, 1), (1, 2), (3, 16003), (4640, 23456), (31111, 40000)):
        piece, info = load_audio(location, segment=(round(first / 16000, 6), round(stop / 16000, 6)))
        assert np.array_equal(piece, whole[first:stop])
        assert info.sampling_rate == 16000
    assert np.array_equal(load_audio(location, segment=(1.5, None))[0], whole[24000:])
    assert np.array_equal(load_audio(location, segment=(2.0, 2.9))[0], whole[32000:])  # 0.4 s too long
    for segment, message in (((2.5, 3), "begins at 2.5 s"), ((1, 3.0), "ends at 3 s"), ((1, 1.00001), "no sample")):
        with pytest.raises(InputError, match=message) as raised:
            load_audio(location, segment=segment)
        assert one_line(raised, f"{location}: the segment ")


def test_a_segment_is_cut_before_resampling(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(8000), 8000)
    soundfile.write(tmp_path / "b.wav", soundfile.read(tmp_path / "a.wav")[0][801:2403], 8000)
    piece, info = load_audio(str(tmp_path / "a.wav"), segment=(0.100125, 0.300375))
    assert info == AudioInfo(8000, 8000, 1)
    assert np.array_equal(piece, read_audio(str(tmp_path / "b.wav")))


def test_six_digits_identify_every_sample_of_an_hour() -> None:
    info = AudioInfo(48000, 48000 * 3600, 1)
    generator = np.random.default_rng(0)
    for first in generator.integers(0, info.samples - 1, 2000).tolist():
        start, end = float(f"{first / 48000:.6f}"), float(f"{(first + 1) / 48000:.6f}")
        assert segment_samples(start, end, info) == (first, first + 1)


def test_a_pipe_runs_once_for_consecutive_segments(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav_bytes(noise()))
    location = f"echo >>{tmp_path}/count; cat {tmp_path}/a.wav |"
    pieces = [load_audio(location, allow_pipes=True, segment=(start, start + 0.5))[0] for start in (0, 0.5, 1)]
    assert np.array_equal(np.concatenate(pieces), read_audio(str(tmp_path / "a.wav"))[:24000])
    assert (tmp_path / "count").read_text() == "\n"
