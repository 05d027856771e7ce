"""Synthesise the demo corpus.

A speaker is a voice heard through a mild channel. Level and noise differ between utterances. The seed decides
everything, separately for each speaker and utterance, so that the number of jobs does not change a byte.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import os
import queue
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepspeaker.corpora.demo.espeak import Synthesiser, library_paths
from deepspeaker.corpora.demo.sentences import make_sentence
from deepspeaker.corpora.demo.speakers import (
    CHANNEL_STREAM,
    PARTS,
    UTTERANCE_STREAM,
    DemoSpeaker,
    plan_demo_corpus,
    random_stream,
)
from deepspeaker.errors import InputError
from deepspeaker.files import atomic_folder, atomic_write

SAMPLE_RATE = 16000
MIN_SECONDS, MAX_SECONDS = 2.0, 6.0

_MAX_ATTEMPTS = 12
_LETTERS_PER_SECOND_AND_RATE = 0.105  # the mean over all variants: a first guess that further attempts correct


@dataclasses.dataclass(frozen=True)
class _Utterance:
    id: str
    text: str
    seconds: float


def make_demo_corpus(
    folder: Path,
    seed: int,
    *,
    train_speakers: int = 100,
    dev_speakers: int = 12,
    test_speakers: int = 30,
    utterances: int = 12,
    jobs: int | None = None,
    progress: bool = True,
) -> None:
    """Synthesise the corpus into a folder, which is created or replaced as a whole.

    ``folder/PART/READER/CHAPTER`` holds 16 kHz, 16 bit, mono FLAC files of 2 to 6 s and their transcripts. The parts
    are demo-train, demo-dev and demo-test. ``folder`` also holds ``SPEAKERS.TXT`` and ``README.TXT``. On one machine
    with the same libraries, equal arguments give equal bytes, for any ``jobs``.

    Parameters
    ----------
    folder
        The folder to write.
    seed
        0 or more.
    train_speakers, dev_speakers, test_speakers, utterances
        The number of speakers of each part, and of utterances per speaker.
    jobs
        How many speakers to synthesise at a time. Default: the number of processors that this process may use.
    progress
        Whether to show a progress bar if stderr is a terminal.

    Raises
    ------
    InputError
        ``espeakng-loader`` or one of its variants is missing, a sentence cannot be spoken, ``utterances`` or ``jobs``
        is below one, or ``plan_demo_corpus`` refuses the arguments.
    """
    from tqdm import tqdm

    speakers = plan_demo_corpus(
        seed, train_speakers=train_speakers, dev_speakers=dev_speakers, test_speakers=test_speakers
    )
    if jobs is None:
        jobs = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for name, value in (("utterances", utterances), ("jobs", jobs)):
        if value < 1:
            raise InputError(f"{name} {value}; give at least one")
    _check_variants(speakers)

    with contextlib.ExitStack() as stack:
        temporary = stack.enter_context(atomic_folder(folder))
        idle: queue.SimpleQueue[Synthesiser] = queue.SimpleQueue()
        for _ in range(jobs):
            synthesiser = stack.enter_context(Synthesiser())
            idle.put(synthesiser)
        # On an error, the stack first drops queued speakers and waits for current ones, then ends the synthesisers.
        pool = concurrent.futures.ThreadPoolExecutor(jobs)
        stack.callback(pool.shutdown, cancel_futures=True)
        total, disable = len(speakers) * utterances, None if progress else True
        bar = stack.enter_context(tqdm(total=total, desc="synthetic speech", unit="utterance", disable=disable))

        def make(speaker: DemoSpeaker) -> list[_Utterance]:
            synthesiser = idle.get()
            try:
                spoken = _make_speaker(temporary, seed, speaker, utterances, synthesiser)
            finally:
                idle.put(synthesiser)
            bar.update(utterances)
            return spoken

        spoken = list(pool.map(make, speakers))
        atomic_write(temporary / "SPEAKERS.TXT", _speakers_table(speakers, spoken))
        atomic_write(temporary / "README.TXT", _readme(seed, speakers, utterances, synthesiser.version))


def _check_variants(speakers: list[DemoSpeaker]) -> None:
    """Check that all variants are installed; the library silently ignores a missing one."""
    _, data = library_paths()
    for variant in sorted({speaker.voice.variant for speaker in speakers}):
        if not (data / "voices" / "!v" / variant).is_file():
            fix = "install the tested version: pip install 'deepspeaker[demo]'"
            raise InputError(f"{data} has no voice variant {variant}; {fix}")


def _make_speaker(
    corpus: Path, seed: int, speaker: DemoSpeaker, utterances: int, synthesiser: Synthesiser
) -> list[_Utterance]:
    """Write the audio files and the transcript of a speaker."""
    import soundfile

    chapter = f"{speaker.reader}01"
    folder = corpus / speaker.part / speaker.reader / chapter
    folder.mkdir(parents=True)
    place = (PARTS.index(speaker.part), speaker.index)
    channel = random_stream(seed, CHANNEL_STREAM, *place).normal(scale=1.5, size=4)
    spoken: list[_Utterance] = []
    for number in range(utterances):
        generator = random_stream(seed, UTTERANCE_STREAM, *place, number)
        text, speech = _speak_sentence(generator, speaker, synthesiser)
        samples = _record(speech, channel, generator)
        utterance = f"{speaker.reader}-{chapter}-{number:04d}"
        soundfile.write(folder / f"{utterance}.flac", samples, SAMPLE_RATE, subtype="PCM_16", format="FLAC")
        spoken.append(_Utterance(utterance, text, len(samples) / SAMPLE_RATE))
    transcript = "".join(f"{utterance.id} {utterance.text.upper()}\n" for utterance in spoken)
    atomic_write(folder / f"{speaker.reader}-{chapter}.trans.txt", transcript)
    return spoken


def _speak_sentence(
    generator: np.random.Generator, speaker: DemoSpeaker, synthesiser: Synthesiser
) -> tuple[str, NDArray[np.float64]]:
    """Return a sentence of 2 to 6 s, and its samples at 16 kHz on the 16-bit scale."""
    from scipy.signal import resample_poly

    target_seconds = generator.uniform(2.6, 5.4)
    letters = target_seconds * speaker.voice.rate * _LETTERS_PER_SECOND_AND_RATE
    for _ in range(_MAX_ATTEMPTS):
        text = make_sentence(generator, speaker.part, round(letters))
        spoken = synthesiser.speak(speaker.voice, f"{text.capitalize()}.")
        seconds = len(spoken) / synthesiser.sample_rate
        # Stay one sample inside the limits, because resampling rounds the length.
        if MIN_SECONDS + 1 / SAMPLE_RATE <= seconds <= MAX_SECONDS - 1 / SAMPLE_RATE and spoken.any():
            common = int(np.gcd(SAMPLE_RATE, synthesiser.sample_rate))
            up, down = SAMPLE_RATE // common, synthesiser.sample_rate // common
            speech: NDArray[np.float64] = resample_poly(spoken.astype(np.float64), up, down)
            return text, speech
        letters *= np.clip(target_seconds / seconds, 0.5, 2.0)
    raise InputError(
        f'eSpeak NG speaks "{text}" and {_MAX_ATTEMPTS - 1} sentences before it in less than '
        f"{MIN_SECONDS:g} or more than {MAX_SECONDS:g} s, with the voice {speaker.voice}; "
        "install the tested version: pip install 'deepspeaker[demo]'"
    )


def _record(
    speech: NDArray[np.float64], channel: NDArray[np.float64], generator: np.random.Generator
) -> NDArray[np.int16]:
    """Apply a channel, noise and a level.

    ``channel`` is a smooth gain: the amplitudes in dB of the first cosines over the mel scale. Noise (20 to 40 dB below
    the speech, between white and pink) and level (peak 2 to 18 dB below full scale) are drawn for each utterance. If
    they were constant for a speaker, they would identify the speaker.
    """
    length = len(speech)
    padded = -(-length // 4096) * 4096  # the FFT is slow if the length has large prime factors
    frequencies = np.fft.rfftfreq(padded, 1 / SAMPLE_RATE)
    mel = np.log1p(frequencies / 700) / np.log1p(SAMPLE_RATE / 2 / 700)
    gain_db = sum(level * np.cos(np.pi * (k + 1) * mel) for k, level in enumerate(channel))
    filtered = np.fft.irfft(np.fft.rfft(speech, padded) * 10 ** (gain_db / 20), padded)[:length]

    colour = generator.uniform(0, 1)  # power is proportional to frequency ** -colour: 0 is white, 1 is pink
    snr_db = generator.uniform(20, 40)
    peak_db = generator.uniform(-18, -2)
    spectrum = np.fft.rfft(generator.standard_normal(padded)) * np.maximum(frequencies, 50) ** (-colour / 2)
    noise = np.fft.irfft(spectrum, padded)[:length]
    noise *= np.sqrt(np.mean(filtered**2) / np.mean(noise**2)) * 10 ** (-snr_db / 20)

    mixed = filtered + noise
    scaled = np.rint(mixed * (32767 * 10 ** (peak_db / 20) / np.abs(mixed).max()))
    samples: NDArray[np.int16] = scaled.astype(np.int16)
    return samples


def _speakers_table(speakers: list[DemoSpeaker], spoken: list[list[_Utterance]]) -> str:
    lines = [
        "; Invented speakers: all speech here is SYNTHETIC, made by eSpeak NG.",
        "; SEX is declared by the voice variant, or follows from its pitch.",
        f"{';ID':<5}|{'SEX':^5}| {'SUBSET':<11}|{'MINUTES':<7}| NAME",
    ]
    for speaker, utterances in zip(speakers, spoken, strict=True):
        minutes = sum(utterance.seconds for utterance in utterances) / 60
        columns = (f"{speaker.reader:<5}", f"{speaker.sex:<4}", f"{speaker.part:<11}", f"{minutes:<6.2f}")
        lines.append("| ".join((*columns, str(speaker.voice))))
    return "\n".join(lines) + "\n"


def _readme(seed: int, speakers: list[DemoSpeaker], utterances: int, synthesiser: str) -> str:
    import scipy
    import soundfile

    counts = ", ".join(f"{part} {sum(speaker.part == part for speaker in speakers)}" for part in PARTS)
    return f"""SYNTHETIC SPEECH

No human speaks here. Deep Speaker's demo corpus generator made this corpus with the speech synthesiser eSpeak NG,
in the layout of LibriSpeech. Results on it say nothing about real speech.

A speaker is a voice variant of eSpeak NG with an accent, a pitch, a rate and a pitch range (see SPEAKERS.TXT),
heard through a mild channel. Each utterance has different noise and a different level. The parts share no voice
variant and no sentence.

seed: {seed}
speakers: {counts}
utterances per speaker: {utterances}
synthesiser: {synthesiser}
libraries: numpy {np.__version__}, scipy {scipy.__version__}, libsndfile {soundfile.__libsndfile_version__}
"""
