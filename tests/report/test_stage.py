from __future__ import annotations

import hashlib
import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from deepspeaker.config import Config, load_config
from deepspeaker.errors import InputError
from deepspeaker.kaldi import ArkWriter, write_table
from deepspeaker.metrics import det_points, equal_error_rate, min_dcf
from deepspeaker.report import write_report
from deepspeaker.results import Results, SystemResult, TrialListInfo
from deepspeaker.stages import Mark

SPEAKERS, EACH = 12, 4
PICTURES = ("eer.png", "det.png", "det_backends.png", "scores.png", "embeddings.png", "softmax/training.png")


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ``data`` and ``exp`` as after stage 6, from random embeddings."""
    root = tmp_path_factory.mktemp("experiment")
    utt2spk = {f"r{s:02d}-{u}": f"r{s:02d}" for s in range(SPEAKERS) for u in range(EACH)}
    test = root / "data" / "test"
    write_table(test / "utt2spk", utt2spk)
    ids = sorted(utt2spk)
    pairs = [(a, b) for n, a in enumerate(ids) for b in ids[n + 1 :]]
    is_target = np.array([utt2spk[a] == utt2spk[b] for a, b in pairs])
    lines = [f"{a} {b} {'target' if same else 'nontarget'}\n" for (a, b), same in zip(pairs, is_target, strict=True)]
    (test / "trials_all").write_text("".join(lines), encoding="utf-8")
    generator = np.random.default_rng(0)
    means = {speaker: generator.normal(size=8) for speaker in sorted(set(utt2spk.values()))}
    systems = []
    for name, noise in (("untrained", 2.0), ("softmax", 0.5)):
        folder = root / "exp" / name / "embeddings_test"
        vectors = {u: (means[utt2spk[u]] + noise * generator.normal(size=8)).astype(np.float32) for u in ids}
        with ArkWriter(folder / "xvector.1.ark", folder / "xvector.scp") as writer:
            for utterance in ids:
                writer.write(utterance, vectors[utterance])
        unit = {utterance: vector / np.linalg.norm(vector) for utterance, vector in vectors.items()}
        cosine = np.array([unit[a] @ unit[b] for a, b in pairs], dtype=np.float32)
        for backend, scores in (("cosine", cosine), ("plda", 30 * cosine - 20)):
            text = "".join(f"{a} {b} {score:.9g}\n" for (a, b), score in zip(pairs, scores, strict=True))
            (root / "exp" / name / f"scores_trials_all_{backend}").write_text(text, encoding="utf-8")
            points = det_points(scores[is_target], scores[~is_target])
            eer, threshold = equal_error_rate(points)
            systems.append(
                SystemResult(
                    name=name,
                    model="rescnn",
                    parameters=1000,
                    backend=backend,
                    trials="trials_all",
                    eer=eer,
                    eer_threshold=threshold,
                    min_dcf={str(p): min_dcf(points, p) for p in (0.05, 0.01, 0.001)},
                )
            )
    Results(
        corpus="made-up",
        synthetic=True,
        seed=3,
        config=Config().model_dump(mode="json"),
        trials={
            "trials_all": TrialListInfo(
                target=int(is_target.sum()),
                nontarget=int((~is_target).sum()),
                speakers=SPEAKERS,
                sha256=hashlib.sha256((test / "trials_all").read_bytes()).hexdigest(),
            )
        },
        systems=systems,
    ).write(root / "exp" / "results.json")
    history = "epoch,step,learning_rate,loss,dev_eer\n1,5,0.01,1.5,0.2\n2,10,0.001,0.7,0.1\n"
    (root / "exp" / "softmax" / "train.csv").write_text(history, encoding="utf-8")
    return root


@pytest.fixture
def root(experiment: Path, tmp_path: Path) -> Path:
    shutil.copytree(experiment, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_the_report_is_reproducible(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_report(root / "data", root / "exp")
    table = capsys.readouterr().out
    files = [root / "exp" / name for name in (*PICTURES, "report.html", "RESULTS.md", "config.yaml")]
    first = [path.read_bytes() for path in files]
    assert all(content.startswith(b"\x89PNG") for content in first[: len(PICTURES)])
    assert not (root / "exp" / "untrained" / "training.png").exists()
    page, markdown = (path.read_text(encoding="utf-8") for path in files[-3:-1])
    for system in json.loads((root / "exp" / "results.json").read_text())["systems"]:
        for text in (table, page, markdown):
            assert f"{100 * system['eer']:.2f}" in text
            assert f"{system['min_dcf']['0.01']:.3f}" in text
    for name in PICTURES:
        assert f"]({name})" in markdown
    for text in (table, page, markdown):
        assert "synthetic" in text
    for heading in (
        "Systems (back end: cosine)",
        "Back ends (system: softmax)",
        "r00-0, speaker r00; nearest: ",
        "softmax training",
    ):
        assert heading in page
    assert str(root / "exp" / "report.html") in table.splitlines()[-1]
    write_report(root / "data", root / "exp")
    assert [path.read_bytes() for path in files] == first
    assert not list((root / "exp").rglob(".*.tmp"))


def leave_marks(root: Path, made: dict[str, object], prepared: dict[str, object], **more: dict[str, object]) -> None:
    """Write the completion marks of a run with these options."""
    if made:
        Mark(root / "data", 0).end({}, made)
    Mark(root / "data", 1).end({}, prepared)
    Mark(root / "exp" / "softmax", 3).end({}, more.get("trained", {}))
    Mark(root / "exp", 6).end({}, more.get("scored", {}))


def printed_run(root: Path) -> dict[str, str]:
    """Return the options of run.sh in RESULTS.md."""
    write_report(root / "data", root / "exp")
    markdown = (root / "exp" / "RESULTS.md").read_text(encoding="utf-8")
    (run,) = [shlex.split(line) for line in markdown.splitlines() if line.startswith("    ./run.sh")]
    return dict(zip(run[1::2], run[2::2], strict=True))


def test_the_commands_contain_the_options_that_were_used(root: Path) -> None:
    corpus = root / "R&D; it's mine"
    parts = {"train_parts": "a b", "dev_parts": "", "merge_chapters": False, "allow_pipes": True, "max_skipped": 7.5}
    parts |= {"seed": 5}
    trained = {"init_from": "exp/other/checkpoint_last.pt", "nproc": 2, "nnodes": 1}
    leave_marks(root, {}, {"corpus": "librispeech", "corpus_dir": str(corpus), **parts}, trained=trained)
    always = {"--seed": "3", "--config": "exp/exp/config.yaml", "--exp": "exp_again", "--data": "data"}
    assert printed_run(root) == always | {
        "--corpus": "librispeech",
        "--corpus-dir": str(corpus),
        "--train-parts": "a b",
        "--allow-pipes": "true",
        "--max-skipped": "7.5",
        "--init-from": "exp/other/checkpoint_last.pt",
        "--nproc": "2",
        "--data-seed": "5",
    }
    leave_marks(root, {"parts": "mini"}, {"corpus": "librispeech", "corpus_dir": "data/x/corpus/LibriSpeech"})
    assert printed_run(root) == always | {"--corpus": "librispeech", "--mini": "true"}
    leave_marks(root, {"seed": 3}, {"corpus": "demo", "corpus_dir": "data/demo/corpus", "max_skipped": 5.0})
    assert printed_run(root) == always | {"--corpus": "demo"}
    markdown = (root / "exp" / "RESULTS.md").read_text(encoding="utf-8")
    assert load_config(root / "exp" / "config.yaml") == Config()
    digest = hashlib.sha256((root / "data/test/trials_all").read_bytes()).hexdigest()
    assert f"echo '{digest}  data/data/test/trials_all' | sha256sum --check" in markdown


def test_the_commands_contain_custom_lists_and_an_allowed_overlap(root: Path) -> None:
    custom = root / "exp" / "trials" / "mine"
    custom.parent.mkdir()
    shutil.move(root / "data" / "test" / "trials_all", custom)
    results = Results.read(root / "exp" / "results.json")
    systems = [system.model_copy(update={"trials": "mine", "shared_speakers": 2}) for system in results.systems]
    lists = {"mine": results.trials["trials_all"]}
    results.model_copy(update={"trials": lists, "systems": systems}).write(root / "exp" / "results.json")
    for system in systems:
        folder = root / "exp" / system.name
        shutil.move(folder / f"scores_trials_all_{system.backend}", folder / f"scores_mine_{system.backend}")
    leave_marks(root, {}, {"corpus": "demo"}, scored={"allow_speaker_overlap": True})
    write_report(root / "data", root / "exp")
    markdown = (root / "exp" / "RESULTS.md").read_text(encoding="utf-8")
    assert "--allow-speaker-overlap true --trials exp/exp/trials/mine --seed 3" in markdown
    assert "  exp/exp/trials/mine' | sha256sum --check" in markdown
    assert "Warning: of the 12 speakers of mine, 2 were in the training data of untrained" in markdown
    assert "unseen" not in (root / "exp" / "report.html").read_text(encoding="utf-8")


def test_a_report_without_embeddings_and_histories(root: Path) -> None:
    (root / "exp" / "embeddings.png").touch()  # left by an earlier report
    shutil.rmtree(root / "exp" / "untrained" / "embeddings_test")
    (root / "exp" / "softmax" / "train.csv").unlink()
    write_report(root / "data", root / "exp")
    page = (root / "exp" / "report.html").read_text(encoding="utf-8")
    assert 'id="det"' in page and 'id="embeddings"' not in page and 'id="training"' not in page
    assert not (root / "exp" / "embeddings.png").exists()


def test_missing_results_or_scores_are_rejected(root: Path) -> None:
    (root / "exp" / "softmax" / "scores_trials_all_plda").unlink()
    with pytest.raises(InputError, match="scores_trials_all_plda: no such file"):
        write_report(root / "data", root / "exp")
    (root / "exp" / "results.json").unlink()
    with pytest.raises(InputError, match=r"results\.json: no such file; stage 6 writes it"):
        write_report(root / "data", root / "exp")
    assert not (root / "exp" / "report.html").exists()
