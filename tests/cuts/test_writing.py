"""Data directories and embeddings as CutSets, checked by Lhotse itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from lhotse import CutSet, FeatureSet, Recording, RecordingSet, load_manifest
from lhotse.bin.modes import validate  # noqa: F401 - adds the sub-command
from lhotse.bin.modes.cli_base import cli as lhotse_command
from lhotse.kaldi import export_to_kaldi, load_kaldi_data_dir

from deepspeaker.audio import load_audio
from deepspeaker.cli import commands
from deepspeaker.cuts import cuts_of_data_dir, data_dir_of_cuts, open_cuts, with_embeddings, write_cuts
from deepspeaker.errors import InputError
from deepspeaker.features import FbankExtractor
from deepspeaker.kaldi import ArkWriter, DataDir, read_matrix, read_table
from tests.cuts.conftest import MakeCuts


def lhotse_validate(*arguments: object) -> None:
    """Run ``lhotse validate``, whose exit status is 0 even if it finds errors."""
    done = CliRunner().invoke(lhotse_command, ["validate", *map(str, arguments)])
    assert done.exit_code == 0 and "Validation failed" not in done.output, done.output


def test_the_number_of_samples_survives_a_round_trip_through_kaldi(audio_cuts: MakeCuts, tmp_path: Path) -> None:
    lengths = [3200, 4807, 5001, 6399, 12345]
    for rate in (16000, 44100):
        cuts = audio_cuts({"a": lengths, "b": lengths}, rate=rate, folder=str(rate))
        data = data_dir_of_cuts(cuts, tmp_path / "store")
        data.write(tmp_path / "kaldi")
        back = list(cuts_of_data_dir(tmp_path / "kaldi"))
        assert [(cut.id, cut.num_samples, cut.recording.num_samples) for cut in back] == [
            (cut.id, cut.num_samples, cut.recording.num_samples) for cut in cuts
        ]
        assert [cut.recording.num_samples for cut in back] == lengths * 2
        for converted, cut in zip(back, cuts, strict=True):
            assert np.array_equal(converted.load_audio(), cut.load_audio())
            assert converted.supervisions[0].speaker == cut.supervisions[0].speaker
    # Lhotse's import of the same directory has durations of whole milliseconds.
    recordings, _, _ = load_kaldi_data_dir(tmp_path / "kaldi", 44100)
    imported = [recordings[cut.id].num_samples for cut in back]
    assert imported != lengths * 2
    assert all(0 <= exact - floored < 45 for exact, floored in zip(lengths * 2, imported, strict=True))


def test_segments_survive_a_round_trip_through_kaldi(audio_cuts: MakeCuts, tmp_path: Path) -> None:
    (whole,) = audio_cuts({"a": [50_001]}, rate=44100)
    bounds = [(0, 50_001), (1, 7), (11_111, 33_332), (49_000, 50_001)]
    cuts = CutSet.from_cuts(
        whole.truncate(offset=first / 44100, duration=(last - first) / 44100).with_id(f"a-{first:05d}")
        for first, last in bounds
    )
    data_dir_of_cuts(cuts, tmp_path / "store").write(tmp_path / "kaldi")
    back = list(cuts_of_data_dir(tmp_path / "kaldi"))
    for converted, cut in zip(back, cuts, strict=True):
        assert converted.num_samples == cut.num_samples
        assert np.array_equal(converted.load_audio(), cut.load_audio())


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Two recordings of 16 kHz, one stereo of 44.1 kHz, one split into segments, with the recipe's features."""
    data = DataDir(utt2spk={}, text={"a-1": "some words"}, spk2gender={"a": "f"})
    generator = np.random.default_rng(0)
    for name, samples, rate, channels in (("r1", 16080, 16000, 1), ("r2", 30_001, 44100, 2), ("r3", 48_000, 16000, 1)):
        path = tmp_path / f"{name}.wav"
        soundfile.write(path, 0.1 * generator.normal(size=(samples, channels)), rate)
        data.wav_scp[name] = str(path)
    for utterance, value in {
        "a-1": "r1 0 1.005",
        "a-2": "r3 0.5 1.2345",
        "b-1": "r3 1.5 2.9999",
        "b-2": "r2 0 -1",
    }.items():
        data.segments[utterance], data.utt2spk[utterance] = value, utterance[0]
    extractor = FbankExtractor()
    with ArkWriter(tmp_path / "f.ark", tmp_path / "f.scp", "two-byte") as writer:
        for utterance in sorted(data.segments):
            segment = data.segment_of(utterance)
            assert segment is not None
            bounds = (segment.start, segment.end)
            samples = load_audio(data.wav_scp[segment.recording], 16000, False, bounds)[0]
            data.feats_scp[utterance] = writer.write(utterance, extractor(samples)[0])
    data.write(tmp_path / "data")
    return tmp_path / "data"


def test_features_of_archives_are_loaded_by_lhotse(data_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "cuts.jsonl.gz"
    assert write_cuts(path, cuts_of_data_dir(data_dir)) == 4
    first = path.read_bytes()
    write_cuts(path, cuts_of_data_dir(data_dir))
    assert path.read_bytes() == first
    lhotse_validate(path)
    lhotse_validate("--read-data", path)
    cuts = load_manifest(path)
    data = DataDir.read(data_dir)
    for cut in cuts:
        whole = read_matrix(data.feats_scp[cut.id])
        assert np.array_equal(cut.load_features(), whole)
        assert cut.num_frames == len(whole)
        part = cut.truncate(offset=0.1, duration=0.2)
        assert np.array_equal(part.load_features(), whole[10:30])
        assert cut.supervisions[0].speaker == data.utt2spk[cut.id]
    assert cuts["a-1"].supervisions[0].text == "some words"
    assert (cuts["a-2"].start, cuts["a-2"].num_samples) == (0.5, 11752)
    assert (cuts["b-2"].recording.num_samples, cuts["b-2"].num_channels) == (10885, 2)
    # and back again
    again = data_dir_of_cuts(open_cuts(path), tmp_path / "store")
    assert again.feats_scp == data.feats_scp and again.utt2spk == data.utt2spk


def test_features_with_fewer_frames_than_the_audio(data_dir: Path, tmp_path: Path) -> None:
    """Like those of Kaldi with snip_edges, whose last frame ends within the audio."""
    data = DataDir.read(data_dir)
    with ArkWriter(tmp_path / "s.ark", tmp_path / "s.scp") as writer:
        for utterance, location in sorted(data.feats_scp.items()):
            data.feats_scp[utterance] = writer.write(utterance, read_matrix(location)[:-2])
    data.write(data_dir)
    write_cuts(tmp_path / "cuts.jsonl.gz", cuts_of_data_dir(data_dir))
    lhotse_validate("--read-data", tmp_path / "cuts.jsonl.gz")
    for cut in load_manifest(tmp_path / "cuts.jsonl.gz"):
        assert np.array_equal(cut.load_features(), read_matrix(data.feats_scp[cut.id]))


def test_features_alone_and_audio_alone(data_dir: Path, tmp_path: Path) -> None:
    data = DataDir.read(data_dir)
    feats = DataDir(utt2spk=data.utt2spk, feats_scp=data.feats_scp)
    feats.write(tmp_path / "feats")
    audio = DataDir(utt2spk=data.utt2spk, wav_scp=data.wav_scp, segments=data.segments)
    audio.write(tmp_path / "audio")
    for name in ("feats", "audio"):
        write_cuts(tmp_path / f"{name}.jsonl.gz", cuts_of_data_dir(tmp_path / name))
        lhotse_validate("--read-data", tmp_path / f"{name}.jsonl.gz")
    cuts = load_manifest(tmp_path / "feats.jsonl.gz")
    assert not any(cut.has_recording for cut in cuts)
    assert isinstance(CutSet.from_cuts(cuts).decompose()[2], FeatureSet)
    assert isinstance(load_manifest(tmp_path / "audio.jsonl.gz").decompose()[0], RecordingSet)


def test_audio_of_another_rate_is_resampled_as_lhotse_does_it(tmp_path: Path) -> None:
    sizes = {8000: 8001, 11025: 9999, 22050: 12_347, 44100: 30_001, 48000: 31_111}
    data = DataDir(utt2spk={})
    with ArkWriter(tmp_path / "feats.ark", tmp_path / "feats.scp") as writer:
        for rate, samples in sizes.items():
            name = f"s-{rate:05d}"
            soundfile.write(path := tmp_path / f"{name}.wav", np.zeros(samples), rate)
            data.wav_scp[name], data.utt2spk[name] = str(path), "s"
            writer.write(name, np.zeros((round(samples / rate * 100), 8), dtype=np.float32))
    data.feats_scp = read_table(tmp_path / "feats.scp")
    data.write(tmp_path / "data")
    for cut in cuts_of_data_dir(tmp_path / "data"):
        expected = Recording.from_file(data.wav_scp[cut.id], recording_id=cut.id).resample(16000)
        assert cut.recording.to_dict() == expected.to_dict()
        assert cut.duration <= expected.duration


def test_embeddings_become_fields_of_cuts(data_dir: Path, tmp_path: Path) -> None:
    vectors = {name: np.arange(3, dtype=np.float32) + len(name) + n for n, name in enumerate(["a-1", "a-2", "b-1"])}
    with ArkWriter(tmp_path / "x.ark", tmp_path / "x.scp") as writer:
        for name, vector in vectors.items():
            writer.write(name, vector)
    write_cuts(tmp_path / "cuts.jsonl.gz", cuts_of_data_dir(data_dir))
    arguments = [str(tmp_path / name) for name in ("cuts.jsonl.gz", "x.scp", "out.jsonl.gz")]
    done = CliRunner().invoke(commands, ["attach-embeddings", *arguments])
    assert done.exit_code == 0, done.output
    assert "note: 1 of 4 cuts have no embedding" in done.output and "4 cuts, their field xvector" in done.output
    lhotse_validate(tmp_path / "out.jsonl.gz")
    cuts = load_manifest(tmp_path / "out.jsonl.gz")
    for name, vector in vectors.items():
        assert np.array_equal(cuts[name].load_xvector(), vector[None])
        assert np.array_equal(cuts[name].truncate(offset=0.1, duration=0.2).load_xvector(), vector[None])
    assert not cuts["b-2"].has_custom("xvector")
    assert read_table(tmp_path / "out.scp").keys() == vectors.keys()
    cuts = list(cuts_of_data_dir(data_dir))
    list(with_embeddings(cuts, tmp_path / "x.scp", tmp_path / "y.ark", "speaker_embedding"))
    assert not any(cut.has_custom("speaker_embedding") for cut in cuts)  # the objects of the caller do not change


def test_embeddings_without_cuts_are_named(data_dir: Path, tmp_path: Path) -> None:
    with ArkWriter(tmp_path / "x.ark", tmp_path / "x.scp") as writer:
        writer.write("other", np.ones(3, dtype=np.float32))
    cuts = list(cuts_of_data_dir(data_dir))
    for given, field, message in (
        (cuts, "xvector", r"x\.scp: has no embedding for any of the 4 cuts"),
        (cuts, "not a name", "--field not a name: use only letters"),
        ([cuts[0].mix(cuts[1]).with_id("other")], "xvector", "cut other: a mixed cut has no custom fields"),
    ):
        with pytest.raises(InputError, match=message):
            write_cuts(tmp_path / "out.jsonl.gz", with_embeddings(given, tmp_path / "x.scp", tmp_path / "o.ark", field))
    assert not (tmp_path / "out.jsonl.gz").exists()
    with pytest.raises(InputError, match=r"must end in \.jsonl\.gz"):
        write_cuts(tmp_path / "out.json", cuts)


def test_the_commands_convert_both_ways(audio_cuts: MakeCuts, tmp_path: Path) -> None:
    audio_cuts({"a": [3200, 1601], "b": [1600]}).to_file(tmp_path / "cuts.jsonl.gz")
    for command in (["cuts-to-data", "cuts.jsonl.gz", "data"], ["data-to-cuts", "data", "back.jsonl.gz"]):
        done = CliRunner().invoke(commands, [command[0], *(str(tmp_path / name) for name in command[1:])])
        assert done.exit_code == 0, done.output
    assert done.output.endswith("back.jsonl.gz: 3 cuts\n")
    lhotse_validate("--read-data", tmp_path / "back.jsonl.gz")
    assert [cut.num_samples for cut in load_manifest(tmp_path / "back.jsonl.gz")] == [3200, 1601, 1600]


def test_a_directory_that_lhotse_exported(audio_cuts: MakeCuts, tmp_path: Path) -> None:
    cuts = audio_cuts({"a": [3200, 4807], "b": [5001]})
    recordings, supervisions, _ = cuts.decompose()
    export_to_kaldi(recordings, supervisions, tmp_path / "kaldi")
    back = list(cuts_of_data_dir(tmp_path / "kaldi"))
    assert [(cut.id, cut.num_samples) for cut in back] == [("a-0", 3200), ("a-1", 4807), ("b-0", 5001)]
