"""Lhotse's files as input and output of run.sh."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import CutSet, Recording, RecordingSet, SupervisionSet, load_manifest
from lhotse.kaldi import export_to_kaldi
from lhotse.utils import fastcopy

from deepspeaker.kaldi import ArkWriter, DataDir, read_matrix, read_table, read_vector
from tests.recipe.tiny import EXP, PROJECT, Recipe

PARTS = ("train", "dev", "test")
EXPORTED = ["--corpus", "kaldi", "--config", "conf/demo.yaml", "--corpus-dir"]
LHOTSE = Path(sys.executable).with_name("lhotse")


def demo_cuts(finished: Recipe, part: str) -> CutSet:
    """The demo's cuts as a user makes them from the manifests, with the utterances' ids."""
    manifests = finished.folder / "data/demo/manifests"
    recordings = RecordingSet.from_file(manifests / f"{part}_recordings.jsonl.gz")
    supervisions = SupervisionSet.from_file(manifests / f"{part}_supervisions.jsonl.gz")
    cuts = CutSet.from_manifests(recordings=recordings, supervisions=supervisions)
    return CutSet.from_cuts(cut.with_id(cut.recording_id) for cut in cuts)


def nosil_bytes(data: Path, part: str) -> bytes:
    arks = sorted((data / f"{part}_nosil").glob("fbank.*.ark"), key=lambda ark: int(ark.name.split(".")[1]))
    return b"".join(ark.read_bytes() for ark in arks)


def test_lhotse_finds_all_manifests_valid(finished: Recipe) -> None:
    manifests = finished.folder / "data/demo/manifests"
    assert len(list(manifests.glob("*.jsonl.gz"))) == 12
    script = (
        "import sys\nfrom lhotse.bin.modes import validate\nfrom lhotse.bin.modes.cli_base import cli\n"
        "for path in sys.argv[1:]:\n"
        "    print(path)\n"
        "    cli(['validate', '--read-data', path], standalone_mode=False)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *sorted(map(str, manifests.glob("*.jsonl.gz")))], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(".jsonl.gz\n") == 12 and "Validation failed" not in done.stdout, done.stdout


def test_the_lhotse_command_validates_recordings_and_supervisions(finished: Recipe) -> None:
    pair = [f"data/demo/manifests/test_{kind}.jsonl.gz" for kind in ("recordings", "supervisions")]
    done = subprocess.run([LHOTSE, "validate-pair", *pair], cwd=finished.folder, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_cuts_load_the_features_of_the_arks(finished: Recipe) -> None:
    data = finished.folder / "data/demo"
    for part in ("test", "test_nosil"):
        cuts = load_manifest(data / "manifests" / f"{part}_cuts.jsonl.gz")
        feats = read_table(data / part / "feats.scp")
        assert [cut.id for cut in cuts] == list(feats)
        for cut in cuts:
            np.testing.assert_allclose(cut.load_features(), read_matrix(feats[cut.id]), rtol=1e-6)
    recordings = RecordingSet.from_file(data / "manifests" / "test_recordings.jsonl.gz")
    samples = {recording.id: recording.num_samples for recording in recordings}
    for cut in load_manifest(data / "manifests" / "test_cuts.jsonl.gz"):
        assert cut.num_samples == samples[cut.id] == soundfile.info(cut.recording.sources[0].source).frames


def test_cut_sets_as_corpus_and_embeddings_attached_to_them(finished: Recipe, recipe: Recipe, tmp_path: Path) -> None:
    """CutSets of the demo's audio give the demo's features."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for part in PARTS:
        demo_cuts(finished, part).to_file(folder / f"{part}_cuts.jsonl.gz")
    options = ["--corpus", "lhotse", "--corpus-dir", str(folder), "--config", "conf/demo.yaml", "--stop-stage", "2"]
    done = recipe.run(*options, "--nj", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    for part in PARTS:
        assert nosil_bytes(recipe.folder / "data/mine", part) == nosil_bytes(finished.folder / "data/demo", part)
    again = recipe.run(*options)
    assert again.stdout.count("finished already, skipped") == 4

    output = tmp_path / "with_xvectors.jsonl.gz"
    embeddings = tmp_path / "xvector.scp"
    with ArkWriter(tmp_path / "xvector.1.ark", embeddings) as writer:
        for number, utterance in enumerate(sorted(DataDir.read(recipe.folder / "data/mine/test").utt2spk)):
            writer.write(utterance, np.full(8, number, dtype=np.float32))
    attached = subprocess.run(
        ["utils/deepspeaker", "attach-embeddings", folder / "test_cuts.jsonl.gz", embeddings, output],
        cwd=recipe.folder,
        env=recipe.environment(),
        capture_output=True,
        text=True,
    )
    assert attached.returncode == 0, attached.stderr
    vectors = read_table(embeddings)
    cuts = load_manifest(output)
    assert len(list(cuts)) == len(vectors) == 110
    for cut in cuts:
        assert np.array_equal(cut.load_xvector()[0], read_vector(vectors[cut.id]))


@pytest.mark.slow
def test_cut_sets_with_features_as_corpus(finished: Recipe, recipe: Recipe, tmp_path: Path) -> None:
    folder = tmp_path / "ready"
    folder.mkdir()
    for part in PARTS:
        cuts = CutSet.from_jsonl_lazy(finished.folder / "data/demo/manifests" / f"{part}_cuts.jsonl.gz")
        cuts.to_file(folder / f"{part}_cuts.jsonl.gz")
    done = recipe.run("--corpus", "lhotse", "--corpus-dir", str(folder), "--stop-stage", "2", "--nj", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "(features as given)" in done.stdout
    given = DataDir.read(recipe.folder / "data/ready/test")
    assert given.feats_scp == read_table(finished.folder / "data/demo/test/feats.scp")


def exported(finished: Recipe, folder: Path) -> dict[str, np.ndarray]:
    """Export data directories by Lhotse, two utterances per recording; return the samples by utterance."""
    samples: dict[str, np.ndarray] = {}
    for part in PARTS:
        recordings, supervisions = [], []
        cuts = list(demo_cuts(finished, part))
        for both in (cuts[n : n + 2] for n in range(0, len(cuts), 2)):
            audio = [cut.load_audio()[0] for cut in both]
            samples.update({cut.id: values for cut, values in zip(both, audio, strict=True)})
            path = folder.parent / "audio" / f"{both[0].id}.wav"
            path.parent.mkdir(exist_ok=True)
            soundfile.write(path, np.concatenate(audio), 16000)
            recordings.append(Recording.from_file(path))
            start = 0
            for cut, values in zip(both, audio, strict=True):
                (supervision,) = cut.supervisions
                supervision = fastcopy(supervision, recording_id=path.stem, start=start / 16000)
                supervisions.append(fastcopy(supervision, duration=len(values) / 16000))
                start += len(values)
        export_to_kaldi(
            RecordingSet.from_recordings(recordings), SupervisionSet.from_segments(supervisions), folder / part
        )
    return samples


def test_a_directory_exported_by_lhotse_has_the_same_samples(finished: Recipe, recipe: Recipe, tmp_path: Path) -> None:
    samples = exported(finished, tmp_path / "exported")
    done = recipe.run(*EXPORTED, str(tmp_path / "exported"), "--stop-stage", "2", "--nj", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    for part in PARTS:
        assert nosil_bytes(recipe.folder / "data/exported", part) == nosil_bytes(finished.folder / "data/demo", part)
    for cut in load_manifest(recipe.folder / "data/exported/manifests/test_cuts.jsonl.gz"):
        assert cut.num_samples == len(samples[cut.id])
        assert np.array_equal(cut.load_audio()[0], samples[cut.id])


@pytest.mark.slow
def test_a_directory_exported_by_lhotse_gives_the_results_of_the_demo(
    finished: Recipe, recipe: Recipe, tmp_path: Path
) -> None:
    exported(finished, tmp_path / "exported")
    done = recipe.run(*EXPORTED, str(tmp_path / "exported"))
    assert done.returncode == 0, done.stdout + done.stderr
    ours, theirs = (
        json.loads((folder / "results.json").read_text())["systems"]
        for folder in (recipe.folder / "exp/exported_demo", finished.folder / EXP)
    )
    # Lhotse writes utt2gender; the demo has spk2gender, which trials_hard and the breakdowns use.
    assert {system["trials"] for system in ours} == {"trials_all", "trials_1p99", "trials_hard"}
    for one, other in zip(ours, theirs, strict=True):
        if one["trials"] != "trials_hard":
            assert {**one, "conditions": None} == {**other, "conditions": None}


def test_the_examples_of_the_page_run(finished: Recipe, tmp_path: Path) -> None:
    page = (PROJECT / "docs/howto/lhotse.md").read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(examples) == 5
    (tmp_path / "data").mkdir()
    (tmp_path / "data/demo").symlink_to(finished.folder / "data/demo")
    environment = {**finished.environment(), "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(examples)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 110
    assert (tmp_path / "data/divided/test_cuts.jsonl.gz").is_file()
