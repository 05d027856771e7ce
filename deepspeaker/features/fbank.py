"""Log-mel features and log-energy, from Lhotse's extractor on Kaldi's scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Kaldi reads samples as 16-bit integers; ours are in [-1, 1].
KALDI_SCALE = 32768.0


class FbankExtractor:
    """Compute the features of ``compute-fbank-feats --dither=0 --snip-edges=false``.

    Parameters
    ----------
    sampling_rate
        In Hz.
    num_bins, low_freq, high_freq
        The number of triangular mel filters, and their range in Hz.
    frame_length, frame_shift
        In seconds.

    Attributes
    ----------
    minimum_samples
        The length of the shortest audio that gives a frame.

    Examples
    --------
    >>> features, log_energy = FbankExtractor()(np.zeros(16000, dtype=np.float32))
    >>> features.shape, log_energy.shape
    ((100, 64), (100,))
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
        from lhotse.features.kaldi.layers import Wav2LogFilterBank  # takes seconds

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
            energy_floor=float(np.finfo(np.float32).eps),  # Kaldi's energy of digital silence
        ).eval()

    def __call__(self, samples: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the log-mel energies and the raw log-energy of each frame.

        Parameters
        ----------
        samples
            (samples,), in [-1, 1].

        Returns
        -------
        tuple of NDArray
            Natural logarithms: (frames, num_bins) and (frames,). The second is Kaldi's ``--raw-energy=true``: computed
            after the frame's mean is removed, but before pre-emphasis and window. The VAD reads it.
        """
        import torch

        with torch.inference_mode():
            scaled = torch.from_numpy(samples * np.float32(KALDI_SCALE))
            columns = self._layer(scaled[None])[0].numpy()
        return np.ascontiguousarray(columns[:, 1:]), np.ascontiguousarray(columns[:, 0])

    def constants(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the window (samples of a frame,) and the mel filters (frequencies from 0 to the Nyquist, num_bins)."""
        return self._layer.wav2win._window.numpy(), self._layer._fb.numpy()
