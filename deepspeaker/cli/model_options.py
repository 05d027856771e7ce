"""What the commands that use an exported model share: options, exit status, and what they print."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from deepspeaker import PRETRAINED
from deepspeaker.cli.options import Function
from deepspeaker.errors import InputError

if TYPE_CHECKING:
    from deepspeaker.inference import Description, Problem, Rates, SpeakerModel, Threshold

#: Like grep: 0 is yes, 1 is no, 2 is no answer.
YES, NO, NO_ANSWER = 0, 1, 2

model_argument = click.argument("model")


def _one_or_pretrained(_context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> str:
    if len(given) > 1:
        raise click.UsageError(f"Got unexpected extra argument ({given[0]})")
    return given[0] if given else PRETRAINED


#: A MODEL before the other arguments, which may be left out.
optional_model_argument = click.argument("model", nargs=-1, metavar="[MODEL]", callback=_one_or_pretrained)
json_option = click.option("--json", "as_json", is_flag=True, help="print JSON")
engine_option = click.option(
    "--engine",
    type=click.Choice(["auto", "onnx", "int8", "torch"]),
    default="auto",
    show_default=True,
    help="what computes; auto: onnx if possible, because it starts faster",
)
minimum_speech_option = click.option(
    "--minimum-speech", type=click.FloatRange(0.1), default=1.0, show_default=True, help="seconds a decision needs"
)
false_acceptance_option = click.option(
    "--false-acceptance",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.01,
    show_default=True,
    help="how often a wrong speaker may be accepted",
)
prior_option = click.option(
    "--prior",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.5,
    show_default=True,
    help="probability, before listening, of the same speaker (identify: that the speaker is enrolled)",
)


def answers(function: Function) -> Function:
    """Decorate a command whose exit status is an answer: an error is NO_ANSWER."""

    @functools.wraps(function)
    def command(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except BrokenPipeError:  # head or less has read enough
            return NO_ANSWER
        except (InputError, OSError) as error:
            if click.get_current_context().find_root().params["debug"]:
                raise
            print(f"deepspeaker: {error}", file=sys.stderr)
            return NO_ANSWER

    return command  # type: ignore[return-value]


def load_model(path: str, engine: str, minimum_speech: float) -> SpeakerModel:
    """Load the model of a command."""
    from deepspeaker.inference import SpeakerModel

    return SpeakerModel(path, engine, minimum_speech)


def error_rates(
    threshold: Threshold,
    wanted: float,
    description: Description,
    headline: str = "At this threshold",
    seconds: float = 0.0,
) -> list[str]:
    """Say how often the threshold errs, and on whose voices, also for ``seconds`` of speech on the shorter side."""

    def told(rates: Rates) -> str:
        accepted, rejected = _rate(rates.p_fa, rates.p_fa_ci95), _rate(rates.p_miss, rates.p_miss_ci95)
        return f"{accepted} of different speakers accepted, {rejected} of same speakers rejected"

    lines = [f"{headline}, in % with 95 % intervals:"]
    for name, rates in (("development", threshold.development), ("test", threshold.test)):
        if rates is not None:
            lines.append(f"  {rates.speakers} {name} speakers of {description.corpus}: {told(rates)}")
    if by_seconds := threshold.rates_for(seconds):
        lines.append(f"  test speakers, {by_seconds.seconds:g} s of speech on both sides: {told(by_seconds)}")
    if description.voices:
        lines.append(f"  Their voices: {description.voices}")
    if threshold.development is None:
        lines.append("  The test speakers chose the threshold, so others will see more errors.")
    if threshold.goal > wanted:
        lines.append(
            f"  The threshold is for {threshold.goal:.2%} of wrong speakers, not {wanted:.2%}: the model was tested on "
            "too few speakers for that."
        )
    return lines


def _rate(rate: float, interval: tuple[float, float] | None) -> str:
    from deepspeaker.results import format_rate

    return format_rate(rate, list(interval) if interval else None)


def print_notes(problems: Mapping[str, Sequence[Problem]]) -> None:
    """Print what is wrong with files but does not forbid a decision."""
    for name, found in problems.items():
        for problem in found:
            if not problem.forbids:
                print(f"note: {name}: {problem.sentence}", file=sys.stderr)


def print_json(content: Any) -> None:
    """Print records, arrays and tuples as JSON."""
    print(json.dumps(content, indent=1, default=_plain))


def _plain(value: Any) -> Any:
    if hasattr(value, "_asdict"):
        return value._asdict()
    if hasattr(value, "item"):
        return value.item()
    return str(value)

