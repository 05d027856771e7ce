"""Archives against kaldiio and kaldi_native_io."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import kaldi_native_io
import kaldiio
import numpy as np
import pytest
from numpy.typing import NDArray

from deepspeaker.errors import InputError
from deepspeaker.kaldi import (
    COMPRESSIONS,
    ArkWriter,
    parse_location,
    read_header,
    read_header_of,
    read_matrix,
    read_rows,
    read_rows_into,
    read_table,
    read_vector,
)

KINDS = {"none": "FM", "speech-feature": "CM", "two-byte": "CM2", "one-byte": "CM3"}
# Rounding steps as fractions of the range; CM stores a column relative to its percentiles.
STEPS = {"none": 0.0, "speech-feature": 1 / 63, "two-byte": 1 / 65535, "one-byte": 1 / 255}


def random_matrices(seed: int) -> dict[str, NDArray[np.float32]]:
    generator = np.random.default_rng(seed)
    shapes = [(1, 1), (1, 64), (7, 3), (200, 64), (33, 1), (*generator.integers(1, 90, size=2),)]
    matrices = {
        f"utt-{number}": (generator.normal(generator.uniform(-9, 9), generator.uniform(0.1, 20), shape)).astype("f4")
        for number, shape in enumerate(shapes)
    }
    matrices["utt-constant"] = np.full((12, 5), -3.25, dtype=np.float32)
    matrices["utt-zero"] = np.zeros((12, 5), dtype=np.float32)
    return matrices


def written(folder: Path, values: dict[str, Any], compression: str = "none") -> dict[str, str]:
    with ArkWriter(folder / "x.ark", folder / "x.scp", compression) as writer:
        for key, value in values.items():
            writer.write(key, value)
    return read_table(folder / "x.scp")


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("seed", range(3))
def test_kaldiio_and_kaldi_native_io_read_the_same_matrices(tmp_path: Path, compression: str, seed: int) -> None:
    matrices = random_matrices(seed)
    scp = written(tmp_path, matrices, compression)
    by_kaldiio = dict(kaldiio.load_ark(str(tmp_path / "x.ark")))
    assert list(by_kaldiio) == list(scp) == list(matrices)
    with kaldi_native_io.RandomAccessFloatMatrixReader(f"scp:{tmp_path}/x.scp") as reader:
        for key, matrix in matrices.items():
            read = read_matrix(scp[key])
            assert read.dtype == np.float32
            assert read_header_of(scp[key])[:3] == (KINDS[compression], *matrix.shape)
            scale = float(np.abs(matrix).max()) + float(np.ptp(matrix))
            for other in (by_kaldiio[key], kaldiio.load_mat(scp[key]), np.array(reader[key])):
                assert np.allclose(read, other, rtol=0, atol=1e-6 * scale)
            assert np.abs(read - matrix).max() <= STEPS[compression] * (np.ptp(matrix) + 1) + 1e-6 * scale


def test_floats_are_stored_exactly(tmp_path: Path) -> None:
    matrices = random_matrices(5)
    scp = written(tmp_path, matrices)
    for key, matrix in matrices.items():
        assert np.array_equal(read_matrix(scp[key]), matrix)


def test_kaldiio_and_kaldi_native_io_read_the_same_vectors(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    vectors: dict[str, Any] = {f"v{n}": generator.normal(size=n).astype("f4") for n in (1, 2, 7)}
    vectors["w-double"] = generator.normal(size=9)
    scp = written(tmp_path, vectors, "one-byte")
    with kaldi_native_io.RandomAccessFloatVectorReader(f"scp:{tmp_path}/x.scp") as reader:
        for key, vector in vectors.items():
            read = read_vector(scp[key])
            assert read.dtype == np.float32
            assert np.array_equal(read, vector.astype("f4"))
            assert np.array_equal(read, np.array(reader[key]))
            assert np.array_equal(read, kaldiio.load_mat(scp[key]).astype("f4"))


def test_an_ark_of_kaldi_native_io_is_read(tmp_path: Path) -> None:
    matrix = np.random.default_rng(1).normal(size=(40, 13)).astype("f4")
    with kaldi_native_io.FloatMatrixWriter(f"ark,scp:{tmp_path}/a.ark,{tmp_path}/a.scp") as writer:
        writer.write("first", matrix)
        writer.write("second", -matrix)
    with kaldi_native_io.DoubleMatrixWriter(f"ark,scp:{tmp_path}/d.ark,{tmp_path}/d.scp") as writer:
        writer.write("first", matrix.astype("f8"))
    scp = read_table(tmp_path / "a.scp")
    assert np.array_equal(read_matrix(scp["first"]), matrix)
    assert np.array_equal(read_matrix(scp["second"]), -matrix)
    double = read_table(tmp_path / "d.scp")["first"]
    assert read_header_of(double).kind == "DM"
    assert np.array_equal(read_matrix(double), matrix)


@pytest.mark.parametrize("method", ["kSpeechFeature", "kTwoByteAuto", "kOneByteAuto", "kTwoByteSignedInteger"])
def test_compressed_arks_of_kaldi_native_io_are_read(tmp_path: Path, method: str) -> None:
    matrix = (10 * np.random.default_rng(2).normal(size=(50, 20))).astype("f4")
    kind = getattr(kaldi_native_io.CompressionMethod, method)
    with kaldi_native_io.CompressedMatrixWriter(f"ark,scp:{tmp_path}/a.ark,{tmp_path}/a.scp") as writer:
        writer.write("first", matrix, kind)
    location = read_table(tmp_path / "a.scp")["first"]
    with kaldi_native_io.RandomAccessFloatMatrixReader(f"scp:{tmp_path}/a.scp") as reader:
        assert np.allclose(read_matrix(location), np.array(reader["first"]), rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["FM", "DM", "CM", "CM2", "CM3"])
def test_any_rows_equal_those_of_the_whole_matrix(tmp_path: Path, kind: str) -> None:
    generator = np.random.default_rng([*kind.encode()])
    method = {"FM": None, "DM": None, "CM": 2, "CM2": 3, "CM3": 5}[kind]
    for _ in range(20):
        rows, cols = generator.integers(1, 70, size=2)
        matrix = generator.normal(0, 5, (rows, cols)).astype("f8" if kind == "DM" else "f4")
        kaldiio.save_ark(str(tmp_path / "a.ark"), {"key": matrix}, compression_method=method)
        whole = kaldiio.load_mat(f"{tmp_path}/a.ark:4")
        descriptor = os.open(tmp_path / "a.ark", os.O_RDONLY)
        try:
            assert read_header(descriptor, 4)[:3] == (kind, rows, cols)
            assert np.allclose(read_rows(descriptor, 4), whole, rtol=1e-5, atol=1e-5)
            for _ in range(10):
                start = int(generator.integers(0, rows + 1))
                count = int(generator.integers(0, rows - start + 1))
                part = read_rows(descriptor, 4, start, count)
                assert part.shape == (count, cols)
                assert np.array_equal(part, read_rows(descriptor, 4)[start : start + count])
                assert np.allclose(part, whole[start : start + count], rtol=1e-5, atol=1e-5)
            assert np.array_equal(read_rows(descriptor, 4, start), read_rows(descriptor, 4)[start:])
            for start, count in ((0, int(rows) + 1), (int(rows), 1), (-1, 1), (0, -1)):
                with pytest.raises(InputError, match=f"of a matrix of {rows} rows"):
                    read_rows(descriptor, 4, start, count)
        finally:
            os.close(descriptor)


def test_an_exception_keeps_the_old_files(tmp_path: Path) -> None:
    def fail(value: float) -> None:
        with ArkWriter(tmp_path / "arks" / "x.ark", tmp_path / "x.scp") as writer:
            writer.write("a", np.full((2, 2), value, dtype=np.float32))
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        fail(1.0)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    with ArkWriter(tmp_path / "arks" / "x.ark", tmp_path / "x.scp") as writer:
        writer.write("a", np.zeros((2, 2), dtype=np.float32))
        assert not (tmp_path / "arks" / "x.ark").exists()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert sorted(path.name for path in before) == ["x.ark", "x.scp"]
    with pytest.raises(RuntimeError):
        fail(2.0)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_unsorted_and_duplicated_keys_are_errors(tmp_path: Path) -> None:
    vector = np.zeros(2, dtype=np.float32)
    for second in ("a", "B"):
        with (
            pytest.raises(ValueError, match="C order"),
            ArkWriter(tmp_path / "x.ark", tmp_path / "x.scp") as writer,
        ):
            writer.write("a", vector)
            writer.write(second, vector)
    assert list(tmp_path.iterdir()) == []


def test_the_scp_names_the_ark_by_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in here").mkdir()
    monkeypatch.chdir(tmp_path / "in here")
    with ArkWriter("x.ark", "x.scp") as writer:
        writer.write("ü-1", np.ones((3, 2), dtype=np.float32))
    assert read_table("x.scp") == {"ü-1": f"{tmp_path}/in here/x.ark:5"}
    assert read_matrix(read_table("x.scp")["ü-1"]).sum() == 6


def test_locations() -> None:
    assert parse_location("/a/b.ark:15") == ("/a/b.ark", 15)
    assert parse_location("/a:b/c.ark") == ("/a:b/c.ark", 0)
    assert parse_location("a.mat") == ("a.mat", 0)
    for location in ("copy-feats ark:x.ark ark:- |", "x.ark:12[0:3]"):
        with pytest.raises(InputError, match="pipes and row ranges"):
            parse_location(location)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_errors_name_an_ark_truncated_anywhere(tmp_path: Path, compression: str) -> None:
    matrix = np.random.default_rng(0).normal(size=(6, 4)).astype("f4")
    location = written(tmp_path, {"a": matrix}, compression)["a"]
    whole = (tmp_path / "x.ark").read_bytes()
    for size in range(len(whole)):
        (tmp_path / "x.ark").write_bytes(whole[:size])
        with pytest.raises(InputError) as raised:
            read_matrix(location)
        assert str(raised.value).startswith(f"{tmp_path}/x.ark: ")
        assert "\n" not in str(raised.value)


def test_errors_name_the_ark_of_a_vector_truncated_anywhere(tmp_path: Path) -> None:
    location = written(tmp_path, {"a": np.ones(3, dtype=np.float32)})["a"]
    whole = (tmp_path / "x.ark").read_bytes()
    for size in range(len(whole)):
        (tmp_path / "x.ark").write_bytes(whole[:size])
        with pytest.raises(InputError) as raised:
            read_vector(location)
        assert str(raised.value).startswith(f"{tmp_path}/x.ark: ")


@pytest.mark.parametrize("seed", range(200))
def test_errors_name_an_invalid_ark(tmp_path: Path, seed: int) -> None:
    generator = np.random.default_rng(seed)
    head = [b"", b"\0B", b"\0BFM ", b"\0BFM \4", b"\0BCM ", b"\0BCM2 ", b"\0BCM3 ", b"\0BDM ", b"\0BFV \4"][seed % 9]
    (tmp_path / "j.ark").write_bytes(head + generator.bytes(int(generator.integers(0, 60))))
    for read in (read_matrix, read_vector):
        with pytest.raises(InputError) as raised:
            read(f"{tmp_path}/j.ark:0")
        assert str(raised.value).startswith(f"{tmp_path}/j.ark: ")
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "header",
    [
        b"\0BFM \4" + struct.pack("<i", 2**31 - 1) + b"\4" + struct.pack("<i", 2**31 - 1),
        b"\0BFM \4" + struct.pack("<i", -3) + b"\4" + struct.pack("<i", 4),
        b"\0BFM \4" + struct.pack("<i", 3) + b"\4" + struct.pack("<i", -4),
        b"\0BCM " + struct.pack("<ffii", 0, 1, 2**31 - 1, 2**31 - 1),
        b"\0BCM3 " + struct.pack("<ffii", 0, 1, -1, -1),
    ],
)
def test_impossible_sizes_are_errors_before_memory_is_allocated(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "j.ark").write_bytes(header + bytes(100))
    with pytest.raises(InputError, match="recreate"):
        read_matrix(f"{tmp_path}/j.ark:0")


def test_wrong_kind_and_missing_file(tmp_path: Path) -> None:
    scp = written(tmp_path, {"m": np.zeros((2, 3), dtype=np.float32), "v": np.zeros(3, dtype=np.float32)})
    with pytest.raises(InputError, match="no binary Kaldi vector"):
        read_vector(scp["m"])
    with pytest.raises(InputError, match="unknown kind of Kaldi matrix"):
        read_matrix(scp["v"])
    for read in (read_matrix, read_vector):
        with pytest.raises(InputError, match=r"none\.ark: No such file or directory"):
            read(f"{tmp_path}/none.ark:3")
        with pytest.raises(InputError):
            read(f"{tmp_path}/x.ark:{10**30}")


def test_an_entry_of_a_vad_scp_runs_no_command_and_no_pickle(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    # A pickle that calls os.mkdir, as kaldiio would load it.
    (tmp_path / "p.ark").write_bytes(b"PKLcos\nmkdir\n(S'" + str(ran).encode() + b"'\ntR.")
    for location in (f"touch {ran} |:12", f"| touch {ran}", f"touch {ran} | ", f"{tmp_path}/p.ark:0"):
        with pytest.raises(InputError):
            read_vector(location)
    assert not ran.exists()


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_rows_into_an_array_equal_those_of_read_rows(tmp_path: Path, compression: str) -> None:
    matrix = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32)
    with ArkWriter(tmp_path / "a.ark", tmp_path / "a.scp", compression) as writer:
        writer.write("a", matrix)
    path, offset = parse_location(read_table(tmp_path / "a.scp")["a"])
    descriptor = os.open(path, os.O_RDONLY)
    for start, count in ((0, 50), (3, 20), (49, 1)):
        out = np.full((count, 7), np.nan, dtype=np.float32)
        if read_rows_into(descriptor, offset, 50, start, out):
            assert compression in ("one-byte", "two-byte")
            assert np.array_equal(out, read_rows(descriptor, offset, start, count))
        else:
            assert compression in ("none", "speech-feature")
    for start, shape in ((40, (11, 7)), (0, (5, 6)), (0, (5, 8)), (-1, (5, 7))):
        assert not read_rows_into(descriptor, offset, 50, start, np.empty(shape, dtype=np.float32))
    assert not read_rows_into(descriptor, offset, 51, 0, np.empty((5, 7), dtype=np.float32))
    os.close(descriptor)
    Path(path).write_bytes(Path(path).read_bytes()[:-30])
    descriptor = os.open(path, os.O_RDONLY)
    assert not read_rows_into(descriptor, offset, 50, 40, np.empty((10, 7), dtype=np.float32))
    os.close(descriptor)


def test_an_ark_that_is_truncated_while_it_is_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the check of its size and the read, as another process may do."""
    path = tmp_path / "x.ark"
    kaldiio.save_ark(str(path), {"a": np.ones((50, 4), dtype=np.float32)})
    descriptor, pread = os.open(path, os.O_RDONLY), os.pread

    def truncate_and_read(file: int, size: int, offset: int) -> bytes:
        if size > 100:
            os.truncate(path, 60)
        return pread(file, size, offset)

    monkeypatch.setattr(os, "pread", truncate_and_read)
    with pytest.raises(InputError, match="the ark ends at byte 60, not 817"):
        read_rows(descriptor, 2)
    os.close(descriptor)
