"""The file of enrolled voices."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from deepspeaker.errors import InputError
from deepspeaker.inference import Voice, Voices


def voice(seed: int = 0) -> Voice:
    return Voice(np.random.default_rng(seed).normal(size=8).astype(np.float32), 300 + seed, 2)


def add_ten(path: Path, first: int) -> None:
    for number in range(first, first + 10):
        Voices(path, "model").add(f"v{number:02d}", voice(number))


def test_voices_are_added_renamed_and_removed(tmp_path: Path) -> None:
    voices = Voices(tmp_path / "my voices $(x).db", "model")
    voices.add("anna", voice(1))
    voices.add("berta", voice(2))
    with pytest.raises(InputError, match="anna is enrolled already"):
        voices.add("anna", voice(3))
    voices.add("anna", voice(3), replace=True)
    found = voices.all()
    assert list(found) == ["anna", "berta"]
    np.testing.assert_array_equal(found["anna"].embedding, voice(3).embedding)
    assert (found["anna"].speech_frames, found["anna"].files) == (303, 2)
    with pytest.raises(InputError, match="berta is enrolled already"):
        voices.rename("anna", "berta")
    voices.rename("anna", "clara")
    voices.remove("berta")
    assert list(voices.all()) == ["clara"]
    with pytest.raises(InputError, match="berta is not enrolled"):
        voices.remove("berta")
    with pytest.raises(InputError, match="no name"):
        voices.add("a\nb", voice())


def test_voices_of_another_model_are_refused(tmp_path: Path) -> None:
    Voices(tmp_path / "v.db", "model").add("anna", voice())
    with pytest.raises(InputError, match="another model"):
        Voices(tmp_path / "v.db", "other").all()


def test_two_writers_lose_nothing(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(add_ten, [tmp_path / "v.db"] * 2, [0, 10]))
    assert list(Voices(tmp_path / "v.db", "model").all()) == [f"v{number:02d}" for number in range(20)]


def test_a_locked_file_is_one_line(tmp_path: Path) -> None:
    voices = Voices(tmp_path / "v.db", "model", patience=0.1)
    voices.add("anna", voice())
    other = sqlite3.connect(tmp_path / "v.db")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(InputError, match="another program"):
        voices.add("berta", voice())
    other.rollback()
    assert list(voices.all()) == ["anna"]


def test_other_files_are_refused(tmp_path: Path) -> None:
    missing = Voices(tmp_path / "v.db", "model")
    for act in (missing.all, lambda: missing.rename("anna", "berta"), lambda: missing.remove("anna")):
        with pytest.raises(InputError, match="no such file"):
            act()
    assert not missing.path.exists()
    (tmp_path / "junk.db").write_bytes(b"junk" * 1000)
    with pytest.raises(InputError, match="cannot be used"):
        Voices(tmp_path / "junk.db", "model").all()
    with pytest.raises(InputError, match="no such folder"):
        Voices(tmp_path / "none/v.db", "model").add("anna", voice())
