from __future__ import annotations

import pytest

from deepspeaker.report import Comparison, Results, SystemResult, TrialListInfo


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
        )

    return Results(
        corpus="demo",
        synthetic=True,
        seed=7,
        config={"training": {"steps": 300, "loss": {"margin": 0.1, "hard": True}}, "model": {"name": "rescnn"}},
        trials={
            "trials_all": TrialListInfo(target=1980, nontarget=62640, speakers=30, sha256="a" * 64),
            "trials_1p99": TrialListInfo(target=299, nontarget=29601, speakers=30, sha256="b" * 64),
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
    )
