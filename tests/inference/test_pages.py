"""The Python lines that README and docs/use.md show run as they are."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepspeaker.kaldi import read_table
from tests.recipe.tiny import EXP, Recipe

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("page", ["README.md", "docs/use.md"])
def test_the_python_lines_run_as_shown(
    page: str, finished: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    block = re.search(r"^( *)import deepspeaker\n(?:\1.*\n|\n(?=\1\S))+", text, re.MULTILINE)
    assert block is not None
    lines = textwrap.dedent(block[0]).split("```")[0]
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp/E").symlink_to(finished.folder / EXP)
    wavs = list(read_table(finished.folder / "data/demo/test/wav.scp").values())
    for name, wav in zip(("one", "two", "a", "b", "a1", "a2"), [*wavs[:2], *wavs[:2], *wavs[:2]], strict=True):
        (tmp_path / f"{name}.wav").symlink_to(wav)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(lines, names)
    verdict = names["model"].verify("one.wav", "two.wav") if page == "README.md" else names["verdict"]
    assert verdict.same in (True, False) or verdict.reason
    if page != "README.md":
        assert np.linalg.norm(names["embedding"]) == pytest.approx(1, abs=1e-6)
        assert "verify(voice" in lines
