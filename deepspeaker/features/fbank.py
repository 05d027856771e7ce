"""Log-mel features and log-energy of an utterance, by Lhotse's extractor on Kaldi's scale."""

from __future__ import annotations

import numpy as np
import torch
from lhotse.features.kaldi.layers import Wav2LogFilterBank
from numpy.typing import NDArray

#: Kaldi reads samples as 16-bit integers; ours are in [-1, 1].
KALDI_SCALE = 32768.0


class FbankExtractor:
    """Equals ``compute-fbank-feats`` with dither 0 and snip_edges false.

    Frames are ``frame_length`` and ``frame_shift`` seconds; ``num_bins`` triangular mel filters lie between
    ``low_freq`` and ``high_freq`` Hz.
    """

    def __init__(
        self,
        sampling_rate: int = 16000,
        num_bins: int = 64,
        low_freq: float = 20.0,
        high_freq: float = 7600.0,
        frame_length: float = 0.025,
        frame_shift: float = 0.010,
    ) -> None:
        self.minimum_samples = round(sampling_rate * frame_shift)
        self._layer = Wav2LogFilterBank(
            sampling_rate=sampling_rate,
            frame_length=frame_length,
            frame_shift=frame_shift,
            dither=0.0,
            snip_edges=False,
            low_freq=low_freq,
            high_freq=high_freq,
            num_filters=num_bins,
            use_energy=True,
            raw_energy=True,
            energy_floor=float(np.finfo(np.float32).eps),  # Kaldi's least energy, of digital silence
        ).eval()

    def __call__(self, samples: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Samples (n,) in [-1, 1] -> log-mel energies (frames, num_bins), raw log-energy (frames,), both natural logs.

        The raw log-energy is that of Kaldi's ``--raw-energy=true``: after the removal of the frame's mean, before
        pre-emphasis and window; it is what the VAD rule looks at.
        """
        with torch.inference_mode():
            scaled = torch.from_numpy(samples * np.float32(KALDI_SCALE))
            columns = self._layer(scaled[None])[0].numpy()
        return np.ascontiguousarray(columns[:, 1:]), np.ascontiguousarray(columns[:, 0])
