"""Change utterances as the ``augmentation.json`` of their data directory says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepspeaker.audio import AudioInfo
from deepspeaker.augmentation import transforms
from deepspeaker.augmentation.generated import generated_noise, generated_room
from deepspeaker.augmentation.sources import impulse_response, noise_piece
from deepspeaker.config import Copy
from deepspeaker.errors import InputError
from deepspeaker.kaldi import DataDir, read_table

Load = Callable[[str], tuple[NDArray[np.float32], AudioInfo]]

#: The file that makes a data directory one of changed copies.
DESCRIPTION = "augmentation.json"
#: How many utterances babble is made of, and how many seconds of each.
_VOICES, _VOICE_SECONDS = 32, 12.0


def sources_table(name: str) -> str:
    """Return the name of the table of noises or impulse responses of a copy."""
    return f"sources_{name}.scp"


def read_description(folder: Path) -> tuple[int, dict[str, Copy]]:
    """Return the seed of a data directory that ``write_copies`` made, and its copies by name.

    Raises
    ------
    InputError
        The file is missing or damaged.
    """
    path = folder / DESCRIPTION
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return int(content["seed"]), {copy["name"]: Copy.model_validate(copy) for copy in content["copies"]}
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{path}: cannot be read; run stage 2 again") from None


class Augmenter:
    """Changes the utterances of a data directory that ``write_copies`` made.

    The result depends on the seed, the copy's name and the utterance's id, but not on other utterances, their order, or
    the number of jobs.

    Parameters
    ----------
    folder
        The data directory, with ``augmentation.json`` and ``utt2condition``.
    data
        Its tables.
    sampling_rate
        Of the samples, in Hz.
    load
        Returns the samples of an utterance, and the properties of its recording.

    Raises
    ------
    InputError
        The description is damaged.
    """

    def __init__(self, folder: Path, data: DataDir, sampling_rate: int, load: Load) -> None:
        self.seed, self.copies = read_description(folder)
        self.condition = read_table(folder / "utt2condition")
        self.data, self.sampling_rate, self.load = data, sampling_rate, load
        self._files = {
            name: list(read_table(folder / sources_table(name)).values())
            for name, copy in self.copies.items()
            if copy.folder
        }
        self._voices: dict[str, dict[str, NDArray[np.float32]]] = {}

    def samples(self, utterance: str, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the changed samples of an utterance, (samples,).

        Raises
        ------
        InputError
            A noise cannot be read, or no other speaker can babble.
        """
        name = self.condition[utterance]
        copy, generator, rate = self.copies[name], self._generator(name, utterance), self.sampling_rate

        def draw(bounds: list[float] | None) -> float:
            assert bounds is not None  # the schema has a default for each kind
            return float(generator.uniform(bounds[0], bounds[1]))

        match copy.kind:
            case "speed":
                assert copy.factor is not None
                return transforms.speed(samples, copy.factor, rate)
            case "noise":
                snr = draw(copy.snr)
                if copy.folder:
                    noise = noise_piece(self._files[name], len(samples), rate, generator)
                else:
                    noise = generated_noise(len(samples), rate, generator)
                return transforms.mix(samples, noise, snr, rate)
            case "babble":
                snr, voices = draw(copy.snr), round(draw(copy.voices))
                babble = self._babble(name, utterance, len(samples), voices, generator)
                return transforms.mix(samples, babble, snr, rate)
            case "reverb":
                files = self._files.get(name)
                room = impulse_response(files, rate, generator) if files else generated_room(rate, generator)
                return transforms.reverberate(samples, room, rate)
            case "bandwidth":
                return transforms.low_pass(samples, draw(copy.cutoff), rate)
            case "telephone":
                return transforms.telephone(samples, rate)
            case "codec":
                assert copy.codecs is not None
                return transforms.compress(samples, str(generator.choice(copy.codecs)), draw(copy.compression), rate)
            case "gain":
                return transforms.gain(samples, draw(copy.db))
            case "clipping":
                return transforms.clip(samples, draw(copy.db))
        return samples

    def speech(self, utterance: str, speech: NDArray[np.float32], frame_shift: float) -> NDArray[np.float32]:
        """Return the VAD decisions, (frames,), with only the condition's seconds of speech in a row left.

        Raises
        ------
        InputError
            There is less speech than the condition wants.
        """
        copy = self.copies[self.condition[utterance]]
        if copy.seconds is None:
            return speech
        wanted, frames = round(copy.seconds / frame_shift), np.flatnonzero(speech > 0)
        if len(frames) < wanted:
            raise TooLittleSpeechError(f"has {len(frames) * frame_shift:.2f} s of speech, not {copy.seconds:g} s")
        first = int(self._generator(copy.name, utterance).integers(len(frames) - wanted + 1))
        kept = np.zeros_like(speech)
        kept[frames[first : first + wanted]] = 1.0
        return kept

    def _generator(self, *words: str) -> np.random.Generator:
        key = [byte for word in words for byte in (*word.encode(), 0)]
        return np.random.default_rng(np.random.SeedSequence([self.seed, *key]))

    def _babble(
        self, name: str, utterance: str, length: int, voices: int, generator: np.random.Generator
    ) -> NDArray[np.float32]:
        """Return ``voices`` voices of other speakers at once, equally loud, (length,)."""
        if name not in self._voices:
            self._voices[name] = self._read_voices(name)
        utt2spk = self.data.utt2spk
        others = [v for speaker, v in self._voices[name].items() if utt2spk[speaker] != utt2spk[utterance]]
        if not others:
            raise InputError("has no other speaker who could babble")
        babble = np.zeros(length, dtype=np.float32)
        for number in generator.choice(len(others), min(voices, len(others)), replace=False):
            voice = others[number]
            babble += np.resize(np.roll(voice, -int(generator.integers(len(voice)))), length)
        return babble

    def _read_voices(self, name: str) -> dict[str, NDArray[np.float32]]:
        """Return the samples of some utterances, each with a power of 1; the same ones in every job."""
        utterances = sorted(u for u, condition in self.condition.items() if condition == name)
        chosen = self._generator(name, "", "voices").permutation(len(utterances))[:_VOICES]
        voices = {}
        for utterance in (utterances[number] for number in sorted(chosen)):
            try:
                samples = self.load(utterance)[0]
            except InputError:
                continue  # stage 2 lists it when its turn comes
            samples = samples[: round(_VOICE_SECONDS * self.sampling_rate)]
            if power := float(np.mean(np.square(samples, dtype=np.float64))):
                voices[utterance] = samples / np.float32(power**0.5)
        return voices


class TooLittleSpeechError(InputError):
    """An utterance has less speech than its condition wants. This is expected, and not counted as a failure."""
