from __future__ import annotations

import numpy as np
import pytest

from deepspeaker.metrics import det_points
from deepspeaker.report import ReportData, embedding_map, score_densities
from deepspeaker.results import (
    Comparison,
    Condition,
    EnrolmentResult,
    OperatingPoint,
    Results,
    SystemResult,
    TrialListInfo,
)


@pytest.fixture
def results() -> Results:
    def system(name: str, trials: str, eer: float, rank1: float | None) -> SystemResult:
        return SystemResult(
            name=name,
            model="rescnn",
            parameters=1234567,
            backend="cosine",
            trials=trials,
            eer=eer,
            eer_threshold=0.1 + 0.2,
            min_dcf={"0.001": 0.75, "0.05": 0.25, "0.01": 1 / 3},
            rank1=rank1,
            min_cllr=0.125,
            roc_auc=0.99,
            eer_ci95=[eer / 2, eer * 1.5],
            min_dcf_ci95={prior: [0.2, 0.8] for prior in ("0.05", "0.01", "0.001")},
            min_dcf_threshold={"0.05": 0.4, "0.01": 0.5, "0.001": None},
            at_false_acceptance={"0.01": OperatingPoint(threshold=0.45, p_miss=0.1)},
            conditions=[
                Condition(
                    by="gender",
                    value="f",
                    target=900,
                    nontarget=3000,
                    speakers=15,
                    eer=eer / 2,
                    eer_ci95=[eer / 4, eer],
                    min_dcf={"0.05": 0.2, "0.01": 0.3, "0.001": 0.7},
                ),
                Condition(by="gender", value="f, m", target=0, nontarget=20000, speakers=30),
            ],
        )

    def enrolled(name: str, utterances: int, eer: float) -> EnrolmentResult:
        return EnrolmentResult(
            name=name,
            backend="cosine",
            enrolment="average",
            utterances=utterances,
            trials=f"trials_enrol_{utterances}",
            eer=eer,
            eer_ci95=[eer / 2, eer * 1.5],
            min_dcf={"0.05": 0.2, "0.01": 0.3, "0.001": 0.7},
            rank1=0.9,
        )

    return Results(
        corpus="demo",
        synthetic=True,
        seed=7,
        config={"training": {"steps": 300, "loss": {"margin": 0.1, "hard": True}}, "model": {"name": "rescnn"}},
        trials={
            "trials_all": TrialListInfo(target=1980, nontarget=62640, speakers=30, sha256="a" * 64),
            "trials_1p99": TrialListInfo(target=299, nontarget=29601, speakers=30, sha256="b" * 64),
            "trials_enrol_1": TrialListInfo(target=300, nontarget=29700, speakers=30, sha256="c" * 64, models=300),
            "trials_enrol_2": TrialListInfo(target=300, nontarget=29700, speakers=30, sha256="d" * 64, models=300),
        },
        systems=[
            system("untrained", "trials_all", 0.341, None),
            system("triplet", "trials_all", 0.04217, None),
            system("triplet", "trials_1p99", 0.04, 0.9333),
        ],
        comparisons=[
            Comparison(
                systems=["triplet", "untrained"],
                backends=["cosine", "cosine"],
                trials="trials_all",
                eer_difference=-0.29883,
                ci95=[-0.35, -0.25],
                p_value=0.0004,
            )
        ],
        enrolment_table=[enrolled("triplet", 1, 0.0412), enrolled("triplet", 2, 0.0312)],
    )


@pytest.fixture(scope="session")
def report_data() -> ReportData:
    """Return curves, densities, maps and histories of random scores and embeddings."""
    generator = np.random.default_rng(0)
    curves, densities, maps = {}, {}, {}
    speakers = [f"s{row // 6}" for row in range(42)]
    utterances = [f"{speaker}-{row:02d}" for row, speaker in enumerate(speakers)]
    for name, distance in (("untrained", 1.0), ("triplet", 3.5)):
        targets, nontargets = generator.normal(distance, 1, 300), generator.normal(0, 1, 3000)
        curves[name] = det_points(targets, nontargets)
        densities[name] = score_densities(targets, nontargets, distance / 2)
        means = distance * np.repeat(generator.normal(size=(7, 8)), 6, axis=0)
        maps[name] = embedding_map(means + generator.normal(size=means.shape), utterances, speakers, 0)
    rows = [{"step": str(step), "loss": str(1 / step), "dev_eer": "0.1"} for step in (10, 20, 30)]
    commands = ["cd recipes", "./run.sh --seed 7"]
    return ReportData({"Systems, cosine": curves}, densities, maps, {"softmax": rows}, commands)
