"""Deep Speaker (Baidu, arXiv 1705.02304) as a Kaldi-style recipe.

``load`` returns a trained model that stage 8 exported:

    model = deepspeaker.load("exp/E/model")
    model.verify("one.wav", "two.wav")
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deepspeaker.inference import SpeakerModel

__version__ = "0.1.0"
__all__ = ["load"]


def load(path: str | Path, engine: str = "auto", minimum_speech: float = 1.0) -> SpeakerModel:
    """Load an exported model. See `deepspeaker.inference.SpeakerModel` for what it can do.

    Parameters
    ----------
    path
        The folder that stage 8 wrote, or the experiment that contains it.
    engine
        "torch", "onnx" (needs no torch), "int8" (if it was exported), or "auto": onnx if possible.
    minimum_speech
        Seconds of speech that a decision needs.

    Raises
    ------
    deepspeaker.errors.InputError
        There is no model, it is damaged or too new, or the engine is not installed.
    """
    from deepspeaker.inference import SpeakerModel

    return SpeakerModel(path, engine, minimum_speech)
