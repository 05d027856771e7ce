"""The three lines at the end of a run."""

from __future__ import annotations

from pathlib import Path

from deepspeaker.report.tables import whose_speakers
from deepspeaker.results import Results


def summary(results: Results, exp_dir: Path) -> str:
    """What was reached, where it lies, what to try next: three lines."""
    rates = [
        f"{100 * system.eer:.2f} % {'after ' if system.name != 'untrained' else ''}{system.name}"
        for system in reversed(results.systems)
        if system.trials == results.first_list and system.backend == results.systems[0].backend
    ]
    first, last = results.systems[0].name, results.systems[-1]
    by_name = {s.name: s.eer for s in results.systems if s.trials == results.first_list and s.backend == last.backend}
    speakers = whose_speakers(results, results.first_list)
    synthetic = " (synthetic speech)" if results.synthetic else ""
    if len(by_name) > 1 and by_name[last.name] > 0.75 * by_name[first]:
        advice = "training hardly helped: more steps (--set softmax.epochs=N), or more training speakers"
    elif results.synthetic:
        advice = "real speech: run.sh --corpus librispeech --corpus-dir LIBRISPEECH, or --corpus kaldi --corpus-dir DIR"
    else:
        advice = "a larger network on a GPU: --config conf/librispeech.yaml; another seed: --seed 1 --exp NAME"
    return (
        f"reached: EER {', '.join(rates)}; {results.corpus}{synthetic}, {speakers}\n"
        f"lies in: {exp_dir}/ (report.html, RESULTS.md, results.json, det.png, triplet/embeddings_test/xvector.scp)\n"
        f"try next: {advice}"
    )
