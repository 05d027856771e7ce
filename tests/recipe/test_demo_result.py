"""The demo in full size."""

from __future__ import annotations

import json

import numpy as np
import pytest

import deepspeaker
from deepspeaker.audio import read_audio
from deepspeaker.kaldi import read_table
from tests.recipe.tiny import Recipe


@pytest.mark.slow
def test_the_demo_distinguishes_unseen_synthetic_voices(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    recipe.settings = {}
    done = recipe.run(timeout=3600)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((recipe.folder / "exp/demo_demo/results.json").read_text())
    eer = {system["name"]: system["eer"] for system in results["systems"] if system["trials"] == "trials_all"}
    assert results["trials"]["trials_all"]["speakers"] == 30
    assert eer["untrained"] > 0.25
    assert eer["triplet"] <= 0.05
    model = deepspeaker.load(recipe.folder / "exp/demo_demo")
    voices: dict[str, list[str]] = {}
    for utterance, path in read_table(recipe.folder / "data/demo/test/wav.scp").items():
        voices.setdefault(utterance.split("-")[0], []).append(path)
    names = list(voices)
    noticed = {"alone": 0, "mixed": 0}
    for name, other in zip(names, names[7:] + names[:7], strict=True):
        alone, mixed = voices[name][:4], voices[name][:2] + voices[other][:2]
        for kind, files in (("alone", alone), ("mixed", mixed)):
            samples = np.concatenate([read_audio(file) for file in files])
            codes = [problem.code for problem in model.analyse(samples, 16000).problems]
            noticed[kind] += "several_voices" in codes
    assert noticed["alone"] <= 2
    assert noticed["mixed"] >= 24
