"""The model card: ``README.md`` in the form of Hugging Face, with a header in YAML."""

from __future__ import annotations

import yaml

from deepspeaker.inference import Description, Rates, Threshold
from deepspeaker.results import format_rate


def model_card(description: Description) -> str:
    """Return the card of a model as Markdown."""
    header = {
        "library_name": "deepspeaker",
        "license": description.licence or "unknown",
        "pipeline_tag": "audio-classification",
        "tags": ["speaker-verification", "speaker-identification", "speaker-embedding"],
    }
    lines = ["---", yaml.safe_dump(header, sort_keys=False).strip(), "---", "", f"# {description.name}", ""]
    speech = "**synthetic** speech" if description.synthetic else "speech"
    networks = " and ".join(
        f"{network.config.get('name', 'rescnn')} ({network.experiment}/{network.system}, {network.checkpoint})"
        for network in description.networks
    )
    lines += [
        "A speaker verification model in the way of Deep Speaker (arXiv 1705.02304). It tells whether two recordings "
        "are of one speaker.",
        "",
        f"- **Network**: {networks}; {description.parameters:,} parameters, embeddings of {description.embedding_dim} "
        "dimensions.",
        f"- **Training data**: {description.training_speakers} speakers of the corpus {description.corpus} ({speech}).",
        *(f"- **Source**: {source}" for source in description.sources),
        f"- **Licence**: {description.licence or 'not stated'}.",
        *([f"- **Command**: `{description.command}`"] if description.command else []),
        f"- **Seed**: {description.seed}. Written by deepspeaker {description.version}.",
        "",
        "## How well it does",
        "",
        *_results(description),
        "",
        "## Thresholds",
        "",
        *_thresholds(description),
        "",
        "## What it must not be used for",
        "",
        *_limits(description),
        "",
        "## How to use it",
        "",
        "    deepspeaker verify FOLDER one.wav two.wav",
        "",
        "or in Python:",
        "",
        "    import deepspeaker",
        '    model = deepspeaker.load("FOLDER")',
        '    print(model.verify("one.wav", "two.wav"))',
        "",
    ]
    return "\n".join(lines)


def _results(description: Description) -> list[str]:
    results = description.results
    within = " within a corpus" if results.get("corpora", 1) > 1 else ""
    lines = [
        f"EER on all pairs{within} of {results['utterances']} utterances of {results['speakers']} test speakers, whom "
        f"it never heard in training (cosine): **{format_rate(results['eer'], results.get('eer_ci95'))} %**."
    ]
    if "eer_int8" in results:
        lines.append(f"With eight-bit weights (`model_int8.onnx`): {format_rate(results['eer_int8'])} %.")
    if description.voices:
        lines += ["", f"Whose voices: {description.voices}"]
    return lines


def _thresholds(description: Description) -> list[str]:
    calibration = description.calibration
    if calibration:
        lines = [
            f"Scores are log-likelihood ratios. {calibration.speakers} development speakers ({calibration.utterances} "
            "utterances) calibrated them and chose the thresholds; the test speakers did not. Rates in %, with 95 % "
            "intervals over speakers:",
        ]
        if description.cohort:
            lines[0] = f"Scores are normalised by {description.cohort.speakers} training speakers. {lines[0]}"
    else:
        lines = [
            "Scores are cosines: there were no development speakers to calibrate them. **The test speakers chose the "
            "thresholds**, so the rates on other speakers are higher. Rates in %, with 95 % intervals over speakers:",
        ]
    parts = ["development", "test"] if calibration else ["test"]
    columns = [f"{part}: {rate}" for part in parts for rate in ("false acceptances", "misses")]
    lines += ["", "| goal | threshold | " + " | ".join(columns) + " |", "|---:" * (2 + len(columns)) + "|"]
    for threshold in description.thresholds:
        cells = [f"{100 * threshold.goal:g}", f"{threshold.value:.3f}"]
        for part in parts:
            rates: Rates | None = getattr(threshold, part)
            assert rates is not None
            cells.append(format_rate(rates.p_fa, _pair(rates.p_fa_ci95)))
            cells.append(format_rate(rates.p_miss, _pair(rates.p_miss_ci95)))
        lines.append("| " + " | ".join(cells) + " |")
    low, high = description.seconds
    lines += ["", f"Measured on utterances with {low:g} to {high:g} s of speech."]
    for threshold in description.thresholds:
        if threshold.by_seconds:
            lines += ["", *_by_seconds(threshold)]
    return lines


def _by_seconds(threshold: Threshold) -> list[str]:
    lines = [
        f"The threshold {threshold.value:.3f} on crops of the test speakers' utterances, with so many seconds of "
        "speech on both sides:",
        "",
        "| seconds | speakers | false acceptances | misses |",
        "|---:|---:|---:|---:|",
    ]
    for rates in threshold.by_seconds:
        accepted = format_rate(rates.p_fa, _pair(rates.p_fa_ci95))
        missed = format_rate(rates.p_miss, _pair(rates.p_miss_ci95))
        lines.append(f"| {rates.seconds:g} | {rates.speakers} | {accepted} | {missed} |")
    return lines


def _pair(interval: tuple[float, float] | None) -> list[float] | None:
    return list(interval) if interval else None


def _limits(description: Description) -> list[str]:
    lines = [
        "- **No decision about people without a person who checks it**: access to rights, work, credit, or evidence in "
        "court.",
        "- **No protection against recordings or synthetic voices** of a speaker: it does not detect them.",
        "- **No claim beyond the data above.** Other languages, microphones, codecs, distances and ages change the "
        "error rates. Measure them on your own recordings: `deepspeaker evaluate`.",
        "- **No identification of people who did not agree** to have their voice compared.",
    ]
    if description.synthetic:
        lines.insert(0, "- **Anything but trying it out**: it was trained on synthetic speech.")
    return lines
