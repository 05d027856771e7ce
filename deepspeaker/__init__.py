"""Deep Speaker (Baidu, arXiv 1705.02304) as a Kaldi-style recipe.

``load`` returns a trained model, that of this package or one that stage 8 exported:

    model = deepspeaker.load()
    model.verify("one.wav", "two.wav")
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deepspeaker.inference import SpeakerModel

__version__ = "0.1.0"
__all__ = ["load"]
#: The model that stands for the network in this package.
PRETRAINED = "pretrained"


def load(path: str | Path = PRETRAINED, engine: str = "auto", minimum_speech: float = 1.0) -> SpeakerModel:
    """Load a trained model. See `deepspeaker.inference.SpeakerModel` for what it can do.

    Parameters
    ----------
    path
        The folder that stage 8 wrote, the experiment that contains it, or "pretrained" for the network of this package.
    engine
        "torch", "onnx" (needs no torch), "int8" (if it was exported), or "auto": onnx if possible.
    minimum_speech
        Seconds of speech that a decision needs.

    Raises
    ------
    deepspeaker.errors.InputError
        There is no model, it is damaged or too new, or the engine is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> model = load()
    >>> silence = np.zeros(32000)
    >>> model.verify(silence, silence, sampling_rate=16000).reason
    'samples: It has no speech: it is silent or too quiet.'
    """
    from deepspeaker.inference import SpeakerModel

    return SpeakerModel(path, engine, minimum_speech)
