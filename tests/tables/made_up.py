"""A recipe's folder with made-up experiments: score files, logs and results as run.sh leaves them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from deepspeaker import trials as trial_lists
from deepspeaker.config import Config
from deepspeaker.kaldi import read_table, write_table
from deepspeaker.results import Results, SystemResult, TrialListInfo
from deepspeaker.tables import Cell, Corpus, Setting, experiments_of, orderings, rows_of
from deepspeaker.trials import read_trials, write_trials_1p99, write_trials_all, write_trials_enrol

SPEAKERS, UTTERANCES = 12, 10
PROJECT = Path(__file__).resolve().parents[2]


def make_data(folder: Path, test: str = "x") -> None:
    """Write a corpus with 12 test speakers of ten utterances in two sessions."""
    for part, prefix in (("train", "t"), ("dev", "d"), ("test", test)):
        utt2spk = {f"{prefix}{s:02d}-{u}": f"{prefix}{s:02d}" for s in range(SPEAKERS) for u in range(UTTERANCES)}
        (folder / part).mkdir(parents=True)
        write_table(folder / part / "utt2spk", utt2spk)
        write_table(folder / part / "utt2dur", dict.fromkeys(utt2spk, "3.60"))
    write_table(folder / "test/utt2session", {name: str(int(name[-1]) % 2) for name in utt2spk})
    write_trials_all(folder / "test/trials_all", utt2spk, 0)
    write_trials_1p99(folder / "test/trials_1p99", utt2spk, 0)
    write_trials_enrol(folder / "test", utt2spk, 0)


def write_scores(path: Path, trials: Path, shift: float, seed: int) -> None:
    """Write scores; those of target trials are higher by ``shift`` on average."""
    read = read_trials(trials)
    generator = np.random.default_rng([seed, len(read.test)])
    scores = (generator.normal(size=len(read.test)) + shift * read.is_target).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    trial_lists.write_scores(path, read, scores, np.ones(len(scores), dtype=bool))


def cells() -> Iterator[Cell]:
    for table in range(5, 12):
        yield from (row.cell for row in rows_of(table) if row.cell)
    yield from (cell for ordering in orderings() for part in ordering.parts for _, cell in part.terms)


def make_recipe(root: Path, seeds: tuple[int, ...] = (0,), **more: object) -> Setting:
    """Write everything that all tables read, and return the setting."""
    (root / "conf").symlink_to(PROJECT / "conf")
    corpora = {name: Corpus(("--corpus", "demo"), f"tables_{name}") for name in ("main", "phrase", "language")}
    configs = {"rescnn": "conf/tables.yaml", "gru": "conf/tables_gru.yaml"}
    given = Setting("tables_x", seeds, configs, corpora, (), Config(), draws=60, **more)  # type: ignore[arg-type]
    for corpus in corpora.values():
        make_data(root / "data" / corpus.data)
    experiments = experiments_of(given)
    for cell in set(cells()):
        trials = root / "data" / corpora[experiments[cell.experiment].corpus].data / "test" / cell.trials
        for seed in seeds:
            folder = root / "exp" / given.experiment(cell.experiment, seed)
            path = folder / cell.system / f"scores_{cell.trials}_{cell.backend}"
            if not path.is_file():
                shift = 1.0 if cell.system == "ivector" else 4.0 if "triplet" in cell.system else 2.5
                write_scores(path, trials, shift + 0.1 * seed, seed)
    for seed in seeds:
        for name, system in (("rescnn", "softmax"), ("rescnn", "triplet"), ("rescnn_triplet", "triplet")):
            for network in (name, name.replace("rescnn", "gru")):
                rows = "".join(f"{n},{10 * n},{0.3 / n},{0.5 + 0.1 * n}\n" for n in (1, 2, 3))
                path = root / "exp" / given.experiment(network, seed) / system / "train.csv"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"epoch,step,dev_eer,dev_acc\n{rows}", encoding="utf-8")
        for processes, share in ((1, 0.2), (2, 0.3), (4, 0.4)):
            folder = root / "exp" / given.experiment(f"hard{processes}", seed) / "triplet"
            (folder / "log").mkdir(parents=True)
            (folder / ".done.4").touch()
            rows = "".join(f"{n},{share + 0.001 * n}\n" for n in range(6))
            (folder / "train.csv").write_text(f"epoch,active_triplets\n{rows}", encoding="utf-8")
            line = f"epoch 6/6, loss 0.1, {100 * processes**0.5:.0f} utterances/s, 0 s left\n"
            (folder / "log/train.log").write_text(line, encoding="utf-8")
    for name in ("rescnn", "rescnn_phrase", "rescnn_language"):
        data = root / "data" / corpora[experiments[name].corpus].data
        _write_results(data, root / "exp" / given.experiment(name, seeds[0]))
    return given


def _write_results(data: Path, exp: Path) -> None:
    lists = [path for path in (data / "test").glob("trials_*") if re.search(r"(_all|_1p99|_\d)$", path.name)]
    info = {
        path.name: TrialListInfo(
            target=1, nontarget=1, speakers=SPEAKERS, sha256=hashlib.sha256(path.read_bytes()).hexdigest()
        )
        for path in sorted(lists)
    }
    costs = {"0.05": 0.5, "0.01": 0.5, "0.001": 0.5}
    system = SystemResult(
        name="triplet",
        model="rescnn",
        parameters=1,
        backend="cosine",
        trials="trials_all",
        eer=0.1,
        eer_threshold=0.0,
        min_dcf=costs,
    )
    Results(corpus=data.name, synthetic=True, seed=0, config={}, trials=info, systems=[system]).write(
        exp / "results.json"
    )


def speakers_of(data: Path) -> dict[str, str]:
    return read_table(data / "test/utt2spk")
