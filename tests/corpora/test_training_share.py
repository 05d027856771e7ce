"""Data with a share of the training part: what it contains, what it shares with the whole, and nesting."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from deepspeaker.corpora import choose_share, share_training
from deepspeaker.errors import InputError
from deepspeaker.kaldi import DataDir

UTT2SPK = {f"s{speaker:02d}-{number:02d}": f"s{speaker:02d}" for speaker in range(40) for number in range(speaker % 9)}


def speakers(utterances: list[str]) -> set[str]:
    return {UTT2SPK[utterance] for utterance in utterances}


@pytest.mark.parametrize("seed", range(3))
def test_a_larger_share_contains_a_smaller_one(seed: int) -> None:
    total = len(set(UTT2SPK.values()))
    for kind in ((1, 0), (0, 1), (1, 1)):
        shares = [[1 - on + on * share for on in kind] for share in (0.25, 0.5, 0.75, 1.0)]
        chosen = [choose_share(UTT2SPK, *share, seed) for share in shares]
        assert all(set(smaller) < set(larger) for smaller, larger in pairwise(chosen))
        for (by_speaker, _), of_share in zip(shares, chosen, strict=True):
            assert len(speakers(of_share)) == round(by_speaker * total)
        assert chosen[-1] == sorted(UTT2SPK)


def test_each_speaker_keeps_a_share_of_the_utterances_and_at_least_two() -> None:
    chosen = choose_share(UTT2SPK, 1, 0.5, 0)
    for speaker in set(UTT2SPK.values()):
        had, kept = (sum(UTT2SPK[u] == speaker for u in of) for of in (UTT2SPK, chosen))
        assert kept == max(round(had / 2), min(had, 2))
    assert choose_share(UTT2SPK, 1, 0.5, 1) != chosen


def test_the_choice_of_a_speakers_utterances_does_not_depend_on_other_speakers() -> None:
    alone = choose_share({u: s for u, s in UTT2SPK.items() if s in ("s08", "s17")}, 1, 0.5, 0)
    assert set(alone) == {u for u in choose_share(UTT2SPK, 1, 0.5, 0) if UTT2SPK[u] in ("s08", "s17")}


def test_fewer_than_two_speakers_are_refused() -> None:
    with pytest.raises(InputError, match=r"--train-speakers-share 0\.01: training has 35 speakers"):
        choose_share(UTT2SPK, 0.01, 1, 0)


def make_data(folder: Path) -> Path:
    for part in ("train", "test"):
        scp = {utterance: f"/arks/{part}.ark:{n}" for n, utterance in enumerate(UTT2SPK)}
        DataDir(UTT2SPK, wav_scp={u: f"/{u}.flac" for u in UTT2SPK}, feats_scp=scp).write(folder / part)
        DataDir(UTT2SPK, feats_scp=scp).write(folder / f"{part}_nosil")
    (folder / "corpus.json").write_text('{"corpus": "mine", "synthetic": false, "seed": 4}')
    (folder / ".done.1").write_text("{}")
    return folder


def test_tables_name_the_same_features_and_other_parts_are_links(tmp_path: Path) -> None:
    data, output, lines = make_data(tmp_path / "mine"), tmp_path / "mine_speakers25", list[str]()
    for _ in range(2):  # also over an earlier share
        share_training(data, output, 0.25, 1, lines.append)
        chosen = set(choose_share(UTT2SPK, 0.25, 1, 4))
        for name in ("train", "train_nosil"):
            whole, shared = DataDir.read(data / name), DataDir.read(output / name)
            assert shared.utt2spk.keys() == shared.feats_scp.keys() == chosen
            assert shared.feats_scp.items() <= whole.feats_scp.items()
        for name in ("test", "test_nosil", ".done.1"):
            assert (output / name).is_symlink() and (output / name).resolve() == (data / name).resolve()
        assert not (output / "dev").exists()
        assert json.loads((output / "corpus.json").read_text())["corpus"] == "mine_speakers25"
    assert lines[0] == f"{output}/train: 9 of 35 speakers, {len(chosen)} of {len(UTT2SPK)} utterances"
    with pytest.raises(InputError, match="has the data of a corpus"):
        share_training(data, data, 0.5, 1, lines.append)
