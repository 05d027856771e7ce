"""The demo corpus: synthetic speech of invented speakers, made offline by eSpeak NG, in LibriSpeech's layout.

A speaker is a voice variant, an accent, a pitch, a rate and a pitch range, heard through a mild channel of
its own; an utterance has a level and a noise of its own. All is derived from the seed, speaker by speaker and
utterance by utterance, so that neither the number of jobs nor their order changes a byte.
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

from deepspeaker.corpora._espeak import Synthesiser, Voice, library_paths
from deepspeaker.corpora._sentences import make_sentence
from deepspeaker.errors import InputError
from deepspeaker.files import atomic_folder, atomic_write

PARTS = ("demo-train", "demo-dev", "demo-test")
SAMPLE_RATE = 16000
MIN_SECONDS, MAX_SECONDS = 2.0, 6.0

# Variants whose samples differ from one process to the next (those with breath noise, mostly).
UNSTABLE_VARIANTS = ("Alicia", "Demonic", "f2", "f3", "f5", "sandro", "victor", "whisper", "whisperf")
# Variants that one can hardly tell from another: steph2, adam, RicishayMax2, anika and croak, in this order.
# One of two twins might be a test speaker and the other a training speaker.
TWIN_VARIANTS = ("steph3", "klatt6", "RicishayMax3", "anikaRobot", "grandpa")
# The others, by sex: as the variant's file declares it or, where it does not, F where the middle of its
# `pitch` line is above 150 Hz. Listed, not read, so that the plan does not hang on what is installed.
FEMALE_VARIANTS = (
    "Andrea", "Annie", "anika", "aunty", "belinda", "f1", "f4", "grandma", "linda", "shelby", "steph",
    "steph2", "zac",
)  # fmt: skip
MALE_VARIANTS = (
    "Alex", "Andy", "AnxiousAndy", "Denis", "Diogo", "Gene", "Gene2", "Henrique", "Hugo", "Jacky", "Lee",
    "Marco", "Mario", "Michael", "Mike", "Mr serious", "Nguyen", "Reed", "RicishayMax", "RicishayMax2",
    "Storm", "Tweaky", "UniRobot", "adam", "announcer", "antonio", "benjamin", "boris", "caleb", "croak",
    "david", "ed", "edward", "edward2", "fast", "gustave", "ian", "iven", "iven2", "iven3", "iven4", "john",
    "kaukovalta", "klatt", "klatt2", "klatt3", "klatt4", "klatt5", "m1", "m2", "m3", "m4", "m5", "m6", "m7",
    "m8", "marcelo", "max", "michel", "miguel", "mike2", "norbert", "pablo", "paul", "pedro", "quincy", "rob",
    "robert", "robosoft", "robosoft2", "robosoft3", "robosoft4", "robosoft5", "robosoft6", "robosoft7",
    "robosoft8", "travis",
)  # fmt: skip
ACCENTS = (
    "en", "en-us", "en-gb-scotland", "en-gb-x-rp", "en-029", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-us-nyc",
)  # fmt: skip

_FIRST_READER = 1001
_MAX_SPEAKERS = 9999 - _FIRST_READER + 1  # reader numbers of one width
_PITCHES = (28.0, 72.0)
_MAX_ATTEMPTS = 12
_LETTERS_PER_SECOND_AND_RATE = 0.105  # measured over all variants; a first guess that the attempts mend

# What a stream of random numbers is for. Each use has its own, so that one more draw here moves none there.
_VARIANT_STREAM, _SPEAKER_STREAM, _CHANNEL_STREAM, _UTTERANCE_STREAM = range(4)


@dataclasses.dataclass(frozen=True)
class DemoSpeaker:
    """A planned speaker: ``reader`` is the id, ``index`` the place in the part, ``sex`` is F or M."""

    part: str
    index: int
    reader: str
    sex: str
    voice: Voice


@dataclasses.dataclass(frozen=True)
class _Utterance:
    id: str
    text: str
    seconds: float


def plan_demo_corpus(
    seed: int, *, train_speakers: int = 100, dev_speakers: int = 12, test_speakers: int = 30
) -> list[DemoSpeaker]:
    """The speakers that ``seed`` decides on, in the order train, dev, test. No audio is made.

    No variant is in two parts. Test and development speakers have a variant each; training speakers share the
    rest, and those of one variant differ in accent (up to eight of them) and clearly in pitch.

    Raises
    ------
    InputError
        A negative seed, a part without speakers, or more speakers than there are variants or reader numbers.
    """
    counts = dict(zip(PARTS, (train_speakers, dev_speakers, test_speakers), strict=True))
    variants = sorted((*FEMALE_VARIANTS, *MALE_VARIANTS))
    if seed < 0:
        raise InputError(f"seed {seed} is negative; give 0 or more")
    for part, count in counts.items():
        if count < 1:
            raise InputError(f"{part}: {count} speakers; give at least one")
    if dev_speakers + test_speakers >= len(variants):
        raise InputError(
            f"demo-dev and demo-test: {dev_speakers} + {test_speakers} speakers of a voice variant each; "
            f"give at most {len(variants) - 1} together, of {len(variants)} variants"
        )
    if sum(counts.values()) > _MAX_SPEAKERS:
        raise InputError(f"{sum(counts.values())} demo speakers; give at most {_MAX_SPEAKERS} in all")

    order = [variants[i] for i in _generator(seed, _VARIANT_STREAM).permutation(len(variants))]
    test, dev, train = np.split(np.array(order), [test_speakers, test_speakers + dev_speakers])
    part_variants = dict(zip(PARTS, (train, dev, test), strict=True))
    speakers: list[DemoSpeaker] = []
    for part, count in counts.items():
        for index, voice in enumerate(_plan_voices(seed, part, part_variants[part].tolist(), count)):
            sex = "F" if voice.variant in FEMALE_VARIANTS else "M"
            speakers.append(DemoSpeaker(part, index, str(_FIRST_READER + len(speakers)), sex, voice))
    return speakers


def _plan_voices(seed: int, part: str, variants: list[str], count: int) -> list[Voice]:
    """``count`` different voices over ``variants``, which are taken in turn."""
    rounds = -(-count // len(variants))
    band = (_PITCHES[1] - _PITCHES[0]) / rounds
    voices = []
    for index in range(count):
        turn, which = divmod(index, len(variants))
        # The same draw for all speakers of a variant: who gets which accent and which pitch band.
        shared = _generator(seed, _VARIANT_STREAM, PARTS.index(part), which)
        accent = shared.permutation(len(ACCENTS))[turn % len(ACCENTS)]
        lowest = _PITCHES[0] + band * shared.permutation(rounds)[turn]
        own = _generator(seed, _SPEAKER_STREAM, PARTS.index(part), index)
        voices.append(
            Voice(
                accent=ACCENTS[accent],
                variant=variants[which],
                rate=int(own.integers(150, 196)),
                # Half of the band, so that two speakers of a variant stay half a band apart.
                pitch=round(lowest + band * own.uniform(0.25, 0.75)),
                pitch_range=int(own.integers(35, 66)),
            )
        )
    return voices


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
    """Synthesises the corpus into ``folder``, which appears (or is replaced) whole or not at all.

    ``folder/PART/READER/CHAPTER`` holds 16 kHz, 16 bit, mono FLAC files of 2 to 6 s and their transcripts,
    with the parts demo-train, demo-dev and demo-test; ``SPEAKERS.TXT`` and ``README.TXT`` stand beside them.
    The same bytes come from the same arguments, whatever ``jobs``, on one machine with the same libraries.

    Parameters
    ----------
    seed
        0 or more; decides everything.
    train_speakers, dev_speakers, test_speakers, utterances
        Speakers of each part and utterances of each speaker.
    jobs
        Utterances made at a time; default: the processors that this process may use.
    progress
        Show a bar on stderr, where that is a terminal.

    Raises
    ------
    InputError
        ``espeakng-loader`` is missing or lacks a variant, a sentence cannot be spoken, ``utterances`` or
        ``jobs`` is below one, or the plan cannot be made (``plan_demo_corpus``).
    """
    from tqdm import tqdm

    speakers = plan_demo_corpus(
        seed, train_speakers=train_speakers, dev_speakers=dev_speakers, test_speakers=test_speakers
    )
    jobs = _usable_processors() if jobs is None else jobs
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
        # Left before the synthesisers end: what is queued is dropped, what is being spoken is waited for.
        pool = concurrent.futures.ThreadPoolExecutor(jobs)
        stack.callback(pool.shutdown, cancel_futures=True)
        bar = stack.enter_context(
            tqdm(
                total=len(speakers) * utterances,
                desc="synthetic speech",
                unit="utterance",
                disable=None if progress else True,
            )
        )

        def make(speaker: DemoSpeaker) -> list[_Utterance]:
            own = idle.get()
            try:
                made = _make_speaker(temporary, seed, speaker, utterances, own)
            finally:
                idle.put(own)
            bar.update(utterances)
            return made

        made = list(pool.map(make, speakers))
        atomic_write(temporary / "SPEAKERS.TXT", _speakers_table(speakers, made))
        atomic_write(temporary / "README.TXT", _readme(seed, speakers, utterances, synthesiser.version))


def _usable_processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_variants(speakers: list[DemoSpeaker]) -> None:
    # The library itself speaks with a variant that it does not have as if none were asked for.
    _, data = library_paths()
    for variant in sorted({speaker.voice.variant for speaker in speakers}):
        if not (data / "voices" / "!v" / variant).is_file():
            raise InputError(
                f"{data} has no voice variant {variant}; install the tested version: "
                "pip install 'deepspeaker[demo]'"
            )


def _generator(seed: int, *stream: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=stream))


def _make_speaker(
    corpus: Path, seed: int, speaker: DemoSpeaker, utterances: int, synthesiser: Synthesiser
) -> list[_Utterance]:
    """Writes a speaker's chapter: its audio files and its transcript."""
    import soundfile

    chapter = f"{speaker.reader}01"
    folder = corpus / speaker.part / speaker.reader / chapter
    folder.mkdir(parents=True)
    place = (PARTS.index(speaker.part), speaker.index)
    channel = _generator(seed, _CHANNEL_STREAM, *place).normal(scale=1.5, size=4)
    made: list[_Utterance] = []
    for number in range(utterances):
        generator = _generator(seed, _UTTERANCE_STREAM, *place, number)
        text, speech = _speak_sentence(generator, speaker, synthesiser)
        samples = _record(speech, channel, generator)
        utterance = f"{speaker.reader}-{chapter}-{number:04d}"
        soundfile.write(folder / f"{utterance}.flac", samples, SAMPLE_RATE, subtype="PCM_16", format="FLAC")
        made.append(_Utterance(utterance, text, len(samples) / SAMPLE_RATE))
    atomic_write(
        folder / f"{speaker.reader}-{chapter}.trans.txt",
        "".join(f"{utterance.id} {utterance.text.upper()}\n" for utterance in made),
    )
    return made


def _speak_sentence(
    generator: np.random.Generator, speaker: DemoSpeaker, synthesiser: Synthesiser
) -> tuple[str, NDArray[np.float64]]:
    """A sentence of 2 to 6 s and its speech at 16 kHz, in the units of 16 bit samples."""
    from scipy.signal import resample_poly

    wanted_seconds = generator.uniform(2.6, 5.4)
    letters = wanted_seconds * speaker.voice.rate * _LETTERS_PER_SECOND_AND_RATE
    for _ in range(_MAX_ATTEMPTS):
        text = make_sentence(generator, speaker.part, round(letters))
        spoken = synthesiser.speak(speaker.voice, f"{text.capitalize()}.")
        seconds = len(spoken) / synthesiser.sample_rate
        # One sample inside the limits, which resampling may round away.
        if MIN_SECONDS + 1 / SAMPLE_RATE <= seconds <= MAX_SECONDS - 1 / SAMPLE_RATE and spoken.any():
            common = int(np.gcd(SAMPLE_RATE, synthesiser.sample_rate))
            up, down = SAMPLE_RATE // common, synthesiser.sample_rate // common
            speech: NDArray[np.float64] = resample_poly(spoken.astype(np.float64), up, down)
            return text, speech
        letters *= np.clip(wanted_seconds / seconds, 0.5, 2.0)
    raise InputError(
        f'eSpeak NG speaks "{text}", like {_MAX_ATTEMPTS - 1} sentences before it, in less than '
        f"{MIN_SECONDS:g} or more than {MAX_SECONDS:g} s, with the voice {speaker.voice}; "
        "install the tested version: pip install 'deepspeaker[demo]'"
    )


def _record(
    speech: NDArray[np.float64], channel: NDArray[np.float64], generator: np.random.Generator
) -> NDArray[np.int16]:
    """``speech`` as a microphone might give it: through a channel, with a noise, at a level.

    ``channel`` holds the amplitudes in dB of the first cosines over the mel scale that make its smooth gain.
    Noise (20 to 40 dB below the speech, between white and pink) and level (peak 2 to 18 dB below full scale)
    are the utterance's own: were they the speaker's, they would tell the speakers apart.
    """
    length = len(speech)
    padded = -(-length // 4096) * 4096  # the FFT is slow where a length has large prime factors
    frequencies = np.fft.rfftfreq(padded, 1 / SAMPLE_RATE)
    mel = np.log1p(frequencies / 700) / np.log1p(SAMPLE_RATE / 2 / 700)
    gain_db = sum(level * np.cos(np.pi * (k + 1) * mel) for k, level in enumerate(channel))
    heard = np.fft.irfft(np.fft.rfft(speech, padded) * 10 ** (gain_db / 20), padded)[:length]

    colour = generator.uniform(0, 1)  # power falls by frequency to this: 0 is white, 1 is pink
    snr_db = generator.uniform(20, 40)
    peak_db = generator.uniform(-18, -2)
    spectrum = np.fft.rfft(generator.standard_normal(padded)) * np.maximum(frequencies, 50) ** (-colour / 2)
    noise = np.fft.irfft(spectrum, padded)[:length]
    noise *= np.sqrt(np.mean(heard**2) / np.mean(noise**2)) * 10 ** (-snr_db / 20)

    mixed = heard + noise
    samples: NDArray[np.int16] = np.rint(mixed * (32767 * 10 ** (peak_db / 20) / np.abs(mixed).max())).astype(
        np.int16
    )
    return samples


def _speakers_table(speakers: list[DemoSpeaker], made: list[list[_Utterance]]) -> str:
    lines = [
        "; Invented speakers: all speech here is SYNTHETIC, made by eSpeak NG.",
        "; SEX is the voice variant's, or follows its pitch where it declares none.",
        f"{';ID':<5}|{'SEX':^5}| {'SUBSET':<11}|{'MINUTES':<7}| NAME",
    ]
    for speaker, utterances in zip(speakers, made, strict=True):
        minutes = sum(utterance.seconds for utterance in utterances) / 60
        columns = (f"{speaker.reader:<5}", f"{speaker.sex:<4}", f"{speaker.part:<11}", f"{minutes:<6.2f}")
        lines.append("| ".join((*columns, str(speaker.voice))))
    return "\n".join(lines) + "\n"


def _readme(seed: int, speakers: list[DemoSpeaker], utterances: int, synthesiser: str) -> str:
    import scipy
    import soundfile

    counts = ", ".join(f"{part} {sum(speaker.part == part for speaker in speakers)}" for part in PARTS)
    return f"""SYNTHETIC SPEECH

No human speaks here. This corpus was made by Deep Speaker's demo corpus generator with the speech synthesiser
eSpeak NG, in the layout of LibriSpeech. Figures reached on it say nothing about real speech.

A speaker is a voice variant of eSpeak NG with an accent, a pitch, a rate and a pitch range (SPEAKERS.TXT),
heard through a mild channel; each utterance has a noise and a level of its own. The parts share no voice
variant and no sentence.

seed: {seed}
speakers: {counts}
utterances per speaker: {utterances}
synthesiser: {synthesiser}
libraries: numpy {np.__version__}, scipy {scipy.__version__}, libsndfile {soundfile.__libsndfile_version__}
"""
