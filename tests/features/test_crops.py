"""Crops read from arks, compared with slices of the whole matrices."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from deepspeaker.errors import InputError
from deepspeaker.features import FeatureIndex
from deepspeaker.kaldi import COMPRESSIONS, ArkWriter, DataDir, read_matrix, read_table

FRAMES = {"a-1": 40, "a-2": 7, "b-1": 20, "b-2": 21, "c-1": 1, "c-2": 100}


def make(folder: Path, compression: str = "none", cols: dict[str, int] | None = None) -> dict[str, NDArray[np.float32]]:
    """Write a data directory whose utterances alternate between two arks; return the features read back."""
    generator = np.random.default_rng(0)
    locations: dict[str, str] = {}
    for job in (1, 2):
        with ArkWriter(folder / f"f.{job}.ark", folder / f"f.{job}.scp", compression) as writer:
            for utterance in sorted(FRAMES)[job - 1 :: 2]:
                shape = (FRAMES[utterance], (cols or {}).get(utterance, 5))
                writer.write(utterance, generator.normal(size=shape).astype("f4"))
        locations.update(read_table(folder / f"f.{job}.scp"))
    data = DataDir(
        utt2spk={utterance: utterance[0] for utterance in FRAMES},
        feats_scp=locations,
        utt2num_frames={utterance: str(frames) for utterance, frames in FRAMES.items()},
    )
    data.write(folder)
    return {utterance: read_matrix(location) for utterance, location in locations.items()}


def test_index_has_frames_and_speakers(tmp_path: Path) -> None:
    make(tmp_path)
    index = FeatureIndex(tmp_path)
    assert index.utterances == sorted(FRAMES)
    assert len(index) == 6
    assert index.speakers == ["a", "b", "c"]
    assert index.speaker.tolist() == [0, 0, 1, 1, 2, 2]
    assert [members.tolist() for members in index.of_speaker] == [[0, 1], [2, 3], [4, 5]]
    assert index.frames.tolist() == [FRAMES[utterance] for utterance in index.utterances]
    assert index.feature_dim == 5
    index.close()


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_crops_are_slices_and_short_utterances_repeat(tmp_path: Path, compression: str) -> None:
    whole = make(tmp_path, compression)
    index = FeatureIndex(tmp_path)
    generator = np.random.default_rng(1)
    for frames in (1, 7, 20, 33):
        chosen = generator.integers(0, len(index), 40)
        uniform = generator.random(40)
        batch = index.crops(chosen, uniform, frames)
        assert batch.shape == (40, frames, 5)
        assert batch.dtype == np.float32
        for crop, utterance, share in zip(batch, chosen, uniform, strict=True):
            features = whole[index.utterances[utterance]]
            if len(features) >= frames:
                start = int(share * (len(features) - frames + 1))
                assert np.array_equal(crop, features[start : start + frames])
            else:
                start = int(share * len(features))
                repeated = np.concatenate([features] * (frames // len(features) + 2))
                assert np.array_equal(crop, repeated[start : start + frames])
    index.close()


def test_crops_can_begin_at_every_frame(tmp_path: Path) -> None:
    whole = make(tmp_path)
    index = FeatureIndex(tmp_path)
    at = np.full(21, index.utterances.index("a-1"))
    uniform = (np.arange(21) + 0.5) / 21
    starts = [np.flatnonzero((whole["a-1"] == crop[0]).all(axis=1))[0] for crop in index.crops(at, uniform, 20)]
    assert starts == list(range(21))
    last = index.crops(at[:1], np.array([np.nextafter(1.0, 0.0)]), 20)
    assert np.array_equal(last[0], whole["a-1"][20:])
    index.close()


def test_read_whole_utterances(tmp_path: Path) -> None:
    whole = make(tmp_path, "one-byte")
    index = FeatureIndex(tmp_path)
    for number, utterance in enumerate(index.utterances):
        assert np.array_equal(index.read(number), whole[utterance])
    index.close()


def test_threads_share_an_index(tmp_path: Path) -> None:
    make(tmp_path)
    index = FeatureIndex(tmp_path)
    batches = [np.random.default_rng(seed).integers(0, 6, 50) for seed in range(40)]

    def crops(chosen: NDArray[np.int64]) -> NDArray[np.float32]:
        return index.crops(chosen, np.full(50, 0.5), 15)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(crops, batches))
    assert all(np.array_equal(batch, crops(chosen)) for batch, chosen in zip(found, batches, strict=True))
    index.close()


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("cut", [1, 100, 450])
def test_a_truncated_ark_is_found_when_the_index_is_opened(tmp_path: Path, compression: str, cut: int) -> None:
    make(tmp_path, compression)
    path = tmp_path / "f.2.ark"  # c-2 is its last, 500 values
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(InputError) as raised:
        FeatureIndex(tmp_path)
    size = path.stat().st_size
    assert str(raised.value).startswith(f"{tmp_path}/feats.scp: c-2: {path}: the ark ends at byte {size}, ")


@pytest.mark.parametrize("size", [0, 50])
def test_an_ark_that_ends_before_its_first_matrix_is_found(tmp_path: Path, size: int) -> None:
    make(tmp_path)
    os.truncate(tmp_path / "f.2.ark", size)
    with pytest.raises(InputError, match=rf"feats\.scp: a-2: {tmp_path}/f\.2\.ark: the ark ends at byte {size}, "):
        FeatureIndex(tmp_path)


def test_an_ark_truncated_while_open_is_found(tmp_path: Path) -> None:
    make(tmp_path)
    index = FeatureIndex(tmp_path)
    os.truncate(tmp_path / "f.2.ark", (tmp_path / "f.2.ark").stat().st_size - 100)
    with pytest.raises(InputError, match=r"feats\.scp: c-2: .*f\.2\.ark: the ark ends"):
        index.read(index.utterances.index("c-2"))
    index.close()


@pytest.mark.parametrize("frames", ["30", "400"])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_wrong_utt2num_frames_is_found(tmp_path: Path, frames: str, compression: str) -> None:
    make(tmp_path, compression)
    whole = (tmp_path / "utt2num_frames").read_text()
    (tmp_path / "utt2num_frames").write_text(whole.replace("a-1 40", f"a-1 {frames}"))
    message = rf"utt2num_frames: a-1 has {frames} frames, but 40 in .*f\.1\.ark; run stage 2 again"
    with pytest.raises(InputError, match=message):
        FeatureIndex(tmp_path)
    # If opening the index does not check the utterance, reading it does.
    (tmp_path / "utt2num_frames").write_text(whole)
    index = FeatureIndex(tmp_path)
    index.frames[0] = int(frames)
    with pytest.raises(InputError, match=message):
        index.crops(np.array([0]), np.array([0.2]), 20)
    with pytest.raises(InputError, match=message):
        index.read(0)
    index.close()


def test_an_ark_regenerated_after_its_scp_is_found(tmp_path: Path) -> None:
    """A newer date alone is accepted, because copying changes it."""
    make(tmp_path)
    os.utime(tmp_path / "f.1.ark", (2e9, 2e9))
    FeatureIndex(tmp_path).close()
    kept = {name: (tmp_path / name).read_bytes() for name in ("feats.scp", "utt2num_frames")}
    with ArkWriter(tmp_path / "f.1.ark", tmp_path / "f.1.scp") as writer:
        for utterance in sorted(FRAMES)[0::2]:
            writer.write(utterance, np.zeros((FRAMES[utterance] + 3, 5), dtype=np.float32))
    assert kept == {name: (tmp_path / name).read_bytes() for name in kept}
    with pytest.raises(InputError, match=r"utt2num_frames: a-1 has 40 frames, but 43 in .*f\.1\.ark"):
        FeatureIndex(tmp_path)
    with ArkWriter(tmp_path / "f.1.ark", tmp_path / "f.1.scp") as writer:
        for utterance in ("a-1", "b-1"):  # without c-1, the last in the scp
            writer.write(utterance, np.zeros((FRAMES[utterance], 5), dtype=np.float32))
    with pytest.raises(InputError, match=r"feats\.scp: c-1: .*f\.1\.ark: the ark ends at byte"):
        FeatureIndex(tmp_path)


def test_opening_checks_every_one_of_many_arks(tmp_path: Path) -> None:
    """One of 250 arks with four utterances each is truncated."""
    locations: dict[str, str] = {}
    for job in range(250):
        with ArkWriter(tmp_path / f"f.{job}.ark", tmp_path / f"f.{job}.scp", "one-byte") as writer:
            for number in range(4):
                writer.write(f"s{job:03d}-{number}", np.ones((5 + number, 3), dtype=np.float32))
        locations.update(read_table(tmp_path / f"f.{job}.scp"))
    frames = {utterance: str(5 + int(utterance[-1])) for utterance in locations}
    DataDir(utt2spk={u: u[:4] for u in locations}, feats_scp=locations, utt2num_frames=frames).write(tmp_path)
    FeatureIndex(tmp_path).close()
    os.truncate(tmp_path / "f.123.ark", (tmp_path / "f.123.ark").stat().st_size - 1)
    with pytest.raises(InputError, match=r"feats\.scp: s123-3: .*f\.123\.ark: the ark ends at byte"):
        FeatureIndex(tmp_path)


def test_a_different_number_of_bins_is_refused(tmp_path: Path) -> None:
    make(tmp_path, cols={"b-2": 6})
    with pytest.raises(InputError, match=r"feats\.scp: b-2 has 6 bins, the first utterance 5"):
        FeatureIndex(tmp_path)


@pytest.mark.parametrize(
    ("table", "content", "message"),
    [
        ("feats.scp", None, r"/feats\.scp: no such file; run stage 2"),
        ("feats.scp", "", r"/feats\.scp: has no utterance"),
        ("utt2spk", "a-1 a\n", r"/utt2spk: a-2 of feats\.scp is missing"),
        ("utt2num_frames", "a-1 40\n", r"/utt2num_frames: a-2 of feats\.scp is missing"),
        ("utt2num_frames", None, r"/utt2num_frames: no such file"),
        ("utt2num_frames", "a-1 many\na-2 7\nb-1 20\nb-2 21\nc-1 1\nc-2 100\n", r"/utt2num_frames: a-1"),
        ("utt2num_frames", "a-1 40\na-2 0\nb-1 20\nb-2 21\nc-1 1\nc-2 100\n", r"/utt2num_frames: a-2"),
    ],
)
def test_tables_that_do_not_match_are_refused(tmp_path: Path, table: str, content: str | None, message: str) -> None:
    make(tmp_path)
    if content is None:
        (tmp_path / table).unlink()
    else:
        (tmp_path / table).write_text(content)
    with pytest.raises(InputError, match=message) as raised:
        FeatureIndex(tmp_path)
    assert "\n" not in str(raised.value)


def test_missing_and_damaged_arks_are_refused(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "f.1.ark").write_bytes(b"junk" * 1000)
    with pytest.raises(InputError, match=r"feats\.scp: a-1: .*f\.1\.ark: no binary Kaldi matrix"):
        FeatureIndex(tmp_path)
    (tmp_path / "f.1.ark").unlink()
    with pytest.raises(InputError, match=r"f\.1\.ark: No such file or directory; .*feats\.scp names it"):
        FeatureIndex(tmp_path)


@pytest.mark.parametrize("form", ["plain", "tabs", "blanks", "crlf", "shuffled", "no last newline"])
def test_tables_with_other_white_space_or_order(tmp_path: Path, form: str) -> None:
    whole = make(tmp_path)
    for name in ("feats.scp", "utt2spk", "utt2num_frames"):
        path = tmp_path / name
        lines = path.read_text().splitlines()
        if form == "tabs":
            lines = [line.replace(" ", "\t", 1) for line in lines]
        elif form == "blanks":
            lines = [f" {line.replace(' ', '  ', 1)} " for line in lines]
        elif form == "shuffled":
            lines = list(np.random.default_rng(len(name)).permutation(lines))
        end = "\r\n" if form == "crlf" else "\n"
        path.write_text(end.join(lines) + ("" if form == "no last newline" else end), newline="")
    index = FeatureIndex(tmp_path)
    assert index.utterances == sorted(FRAMES)
    assert [index.speakers[number] for number in index.speaker] == [utterance[0] for utterance in sorted(FRAMES)]
    for number, utterance in enumerate(index.utterances):
        assert index.utterance_id(number) == utterance
        assert np.array_equal(index.read(number), whole[utterance])
    index.close()


@pytest.mark.parametrize(
    ("table", "line", "message"),
    [
        ("feats.scp", "a-1 x.ark:3\n", r"feats\.scp:7: a-1 "),
        ("feats.scp", "\nz-1 x.ark:3\n", r"feats\.scp:7: empty line"),
        ("utt2spk", "a-1 other\n", r"utt2spk:7: a-1 "),
        ("feats.scp", "z-1 copy-feats x.ark - |\n", r"copy-feats x\.ark - \|: pipes and row ranges"),
        ("feats.scp", "z-1 x.ark:3[0:5]\n", r"x\.ark:3\[0:5\]: pipes and row ranges"),
    ],
)
def test_wrong_lines_are_refused(tmp_path: Path, table: str, line: str, message: str) -> None:
    make(tmp_path)
    with (tmp_path / table).open("a") as stream:
        stream.write(line)
    with pytest.raises(InputError, match=message):
        FeatureIndex(tmp_path)


def test_the_index_needs_32_bytes_per_utterance(tmp_path: Path) -> None:
    make(tmp_path)
    location = read_table(tmp_path / "feats.scp")["a-1"]
    names = [f"s{number // 40:05d}-{number:08d}" for number in range(100_000)]
    (tmp_path / "feats.scp").write_text("".join(f"{name} {location}\n" for name in names))
    (tmp_path / "utt2spk").write_text("".join(f"{name} {name[:6]}\n" for name in names))
    (tmp_path / "utt2num_frames").write_text("".join(f"{name} 40\n" for name in names))
    index = FeatureIndex(tmp_path)
    held = [value for value in vars(index).values() if isinstance(value, np.ndarray)]
    held += [value for value in vars(index.of_speaker).values() if isinstance(value, np.ndarray)]
    assert sum(array.nbytes for array in held) <= 32 * len(names) + 8 * (len(index.speakers) + 1)
    assert not any(isinstance(value, list) and len(value) == len(names) for value in vars(index).values())
    assert index.utterance_id(77_777) == names[77_777]
    assert index.of_speaker[100].tolist() == list(range(4000, 4040))
    assert index.of_speaker.sizes().tolist() == [40] * 2500
    index.close()
