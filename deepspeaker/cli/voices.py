"""Commands that use an exported model: verify, enrol, identify, and the voices in a file."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deepspeaker.cli.model_options import (
    NO,
    NO_ANSWER,
    YES,
    answers,
    engine_option,
    error_rates,
    false_acceptance_option,
    json_option,
    load_model,
    minimum_speech_option,
    model_argument,
    optional_model_argument,
    print_json,
    print_notes,
    prior_option,
)
from deepspeaker.cli.options import PATH, commands
from deepspeaker.errors import InputError

if TYPE_CHECKING:
    from deepspeaker.inference import SpeakerModel, Window

_SHOWN = 10  # candidates


@commands.command()
@optional_model_argument
@click.argument("one")
@click.argument("two")
@false_acceptance_option
@prior_option
@engine_option
@minimum_speech_option
@json_option
@answers
def verify(
    model: str,
    one: str,
    two: str,
    false_acceptance: float,
    prior: float,
    engine: str,
    minimum_speech: float,
    as_json: bool,
) -> int:
    """Tell whether two audio files are of the same speaker.

    MODEL is a folder that stage 8 wrote, or an experiment; without it, the network of this package answers. Other
    commands take it by the name "pretrained". The exit status is 0 for the same speaker, 1 for different
    speakers, 2 for an error or if the files do not hold enough evidence.
    """
    loaded = load_model(model, engine, minimum_speech)
    verdict = loaded.verify(one, two, false_acceptance=false_acceptance, prior=prior)
    if as_json:
        measured_on = {"corpus": loaded.description.corpus, "voices": loaded.description.voices}
        print_json(dataclasses.asdict(verdict) | {"threshold": verdict.threshold.model_dump()} | measured_on)
    else:
        print({True: "same speaker", False: "different speakers", None: "cannot say"}[verdict.same])
        if verdict.same is None:
            print(verdict.reason)
        else:
            value = verdict.threshold.value
            if verdict.llr is not None and verdict.probability is not None:
                print(f"log-likelihood ratio {verdict.llr:.2f}, threshold {value:.2f}")
                print(f"probability of the same speaker {verdict.probability:.1%}, at a prior of {prior:.0%}")
            else:
                print(f"cosine {verdict.cosine:.3f}, threshold {value:.3f}")
                print("no probability: the model is not calibrated")
            description, seconds = loaded.description, verdict.speech_seconds or 0.0
            print(*error_rates(verdict.threshold, false_acceptance, description, seconds=seconds), sep="\n")
        print_notes(verdict.problems)
    return {True: YES, False: NO, None: NO_ANSWER}[verdict.same]


@commands.command()
@model_argument
@click.argument("voices", type=PATH)
@click.argument("name")
@click.argument("files", nargs=-1, required=True)
@click.option("--replace", is_flag=True, help="replace a voice of this name")
@engine_option
@minimum_speech_option
@json_option
def enrol(
    model: str,
    voices: Path,
    name: str,
    files: tuple[str, ...],
    replace: bool,
    engine: str,
    minimum_speech: float,
    as_json: bool,
) -> None:
    """Enrol a voice from one or more audio files.

    VOICES is the file of enrolled voices; it is created if it does not exist. Several files enrol as the mean of their
    embeddings. Files that do not sound like one voice are reported.
    """
    from deepspeaker.inference import Voices

    loaded = load_model(model, engine, minimum_speech)
    recordings = [loaded.analyse(file) for file in files]
    voice = loaded.voice(recordings)
    disagreeing = loaded.inconsistent(recordings)
    Voices(voices, loaded.fingerprint).add(name, voice, replace)
    seconds = voice.speech_frames * loaded.description.features.frame_shift
    problems = {one.name: one.problems for one in recordings if one.problems}
    if as_json:
        record = {"name": name, "files": list(files), "speech_seconds": round(seconds, 2), "problems": problems}
        print_json(record | {"inconsistent": [list(pair) for pair in disagreeing]})
        return
    print(f"{voices}: enrolled {name} from {len(files)} file{'s' if len(files) > 1 else ''}, {seconds:.1f} s of speech")
    print_notes(problems)
    for one, other, score in disagreeing:
        print(f"note: {one} and {other} do not sound like one voice (score {score:.2f})", file=sys.stderr)


@commands.command()
@model_argument
@click.argument("voices", type=PATH)
@click.argument("file")
@click.option("--segment", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="tell when a voice speaks")
@click.option("--name", "names", multiple=True, help="consider only this voice; may be repeated")
@false_acceptance_option
@prior_option
@engine_option
@minimum_speech_option
@json_option
@answers
def identify(
    model: str,
    voices: Path,
    file: str,
    segment: float | None,
    names: tuple[str, ...],
    false_acceptance: float,
    prior: float,
    engine: str,
    minimum_speech: float,
    as_json: bool,
) -> int:
    """Find the enrolled voice of an audio file, or say that it is unknown.

    With --segment, windows of this length are compared, and the times at which each voice speaks are printed. The exit
    status is 0 for a known voice, 1 for an unknown one, 2 for an error or without enough evidence.
    """
    from deepspeaker.inference import Voices

    loaded = load_model(model, engine, minimum_speech)
    enrolled = Voices(voices, loaded.fingerprint).all()
    for name in names:
        if name not in enrolled:
            raise InputError(f"{voices}: {name} is not enrolled")
    chosen = {name: voice for name, voice in enrolled.items() if not names or name in names}
    if segment is not None:
        return _segments(loaded, chosen, file, segment, false_acceptance, as_json)
    found = loaded.identify(file, chosen, false_acceptance=false_acceptance, prior=prior)
    if as_json:
        print_json(dataclasses.asdict(found) | {"threshold": found.threshold.model_dump()})
    elif not found.candidates:
        print("cannot say")
        print(found.reason)
    else:
        print(found.name or "unknown")
        for candidate in found.candidates[:_SHOWN]:
            score = candidate.cosine if candidate.llr is None else candidate.llr
            share = "" if candidate.probability is None else f"  probability {candidate.probability:6.1%}"
            print(f"  {candidate.name}  score {score:.2f}{share}")
        print(f"threshold {found.threshold.value:.2f} for {len(chosen)} voices")
        wanted, headline = false_acceptance / len(chosen), "For each voice at this threshold"
        print(*error_rates(found.threshold, wanted, loaded.description, headline), sep="\n")
    if not as_json:
        print_notes({file: found.problems} if found.problems else {})
    if not found.candidates:
        return NO_ANSWER
    return YES if found.name else NO


@commands.group("voices")
def voices_group() -> None:
    """List, rename or remove enrolled voices."""


voices_argument = click.argument("voices", type=PATH)


@voices_group.command("list")
@model_argument
@voices_argument
@json_option
def list_voices(model: str, voices: Path, as_json: bool) -> None:
    """List the voices of a file."""
    from deepspeaker.inference import Voices, fingerprint_of

    enrolled = Voices(voices, fingerprint_of(model)).all()
    if as_json:
        print_json({name: {"files": one.files, "speech_frames": one.speech_frames} for name, one in enrolled.items()})
        return
    for name, voice in enrolled.items():
        print(f"{name}  {voice.files} file{'s' if voice.files > 1 else ''}")


@voices_group.command()
@model_argument
@voices_argument
@click.argument("name")
@click.argument("new_name")
def rename(model: str, voices: Path, name: str, new_name: str) -> None:
    """Rename a voice."""
    from deepspeaker.inference import Voices, fingerprint_of

    Voices(voices, fingerprint_of(model)).rename(name, new_name)


@voices_group.command()
@model_argument
@voices_argument
@click.argument("name")
def remove(model: str, voices: Path, name: str) -> None:
    """Remove a voice."""
    from deepspeaker.inference import Voices, fingerprint_of

    Voices(voices, fingerprint_of(model)).remove(name)


def _segments(
    model: SpeakerModel, voices: Mapping[str, Any], file: str, seconds: float, false_acceptance: float, as_json: bool
) -> int:
    """Print when each voice speaks."""
    threshold = model.description.threshold(false_acceptance).value
    windows = model.windows(file, voices, seconds)
    spoken = {name: _spans(windows, name, threshold) for name in voices}
    if as_json:
        rows = [dataclasses.asdict(window) for window in windows]
        print_json({"windows": rows, "speaks": spoken, "threshold": threshold})
    else:
        for name, spans in spoken.items():
            times = ", ".join(f"{start:.1f} to {end:.1f} s" for start, end in spans)
            print(f"{name}: {times or 'does not speak'}")
        empty = sum(not window.scores for window in windows)
        if empty:
            print(f"note: {empty} of {len(windows)} windows have too little speech", file=sys.stderr)
    if not any(window.scores for window in windows):
        return NO_ANSWER
    return YES if any(spoken.values()) else NO


def _spans(windows: Sequence[Window], name: str, threshold: float) -> list[tuple[float, float]]:
    """Join the windows in which a voice speaks if they overlap or touch."""
    spans: list[tuple[float, float]] = []
    for window in windows:
        if window.scores.get(name, -float("inf")) >= threshold:
            if spans and window.start <= spans[-1][1]:
                spans[-1] = (spans[-1][0], window.end)
            else:
                spans.append((window.start, window.end))
    return spans
