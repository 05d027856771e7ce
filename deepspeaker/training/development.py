"""The development EER."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from deepspeaker.embedding import embed_utterances, evenly
from deepspeaker.errors import InputError
from deepspeaker.features import FeatureIndex
from deepspeaker.metrics import det_points, equal_error_rate
from deepspeaker.models import Network
from deepspeaker.skipped import list_all
from deepspeaker.training.distributed import gathered, process_rank, share
from deepspeaker.training.not_finite import MOST_NOT_FINITE

#: So many utterances of each speaker are taken, evenly spread over their sorted ids.
UTTERANCES_PER_SPEAKER = 10


class Development:
    """The development utterances and the EER over all their pairs, each whole; at most ten of a speaker.

    All of them are read at once, before training: one with values that are not finite numbers is named in
    ``not_finite``, a file, and left out; more than 1 % of them raise ``InputError``. Within ``processes()`` each
    process, on its ``device``, reads and embeds its share.
    """

    def __init__(self, index: FeatureIndex, not_finite: Path, device: torch.device) -> None:
        self.index, self.device = index, device
        chosen = np.sort(np.concatenate([evenly(own, UTTERANCES_PER_SPEAKER) for own in index.of_speaker]))
        own = [float(np.isfinite(index.read(utterance)).all()) for utterance in chosen[share(len(chosen))].tolist()]
        finite = gathered(torch.tensor(own, device=device), len(chosen)).cpu().numpy() > 0
        bad = [index.utterance_id(utterance) for utterance in chosen[~finite].tolist()]
        if process_rank() == 0:
            reasons = dict.fromkeys(bad, "has values that are not finite numbers")
            list_all(not_finite, reasons, f"left out of the development EER: {len(bad)} of {len(chosen)} utterances")
        if len(bad) > MOST_NOT_FINITE * len(chosen):
            raise InputError(
                f"{index.data_dir}/feats.scp: {len(bad)} of {len(chosen)} development utterances have values that are "
                f"not finite numbers, more than 1 % (list: {not_finite}); make them again"
            )
        self.chosen = chosen[finite]

    def eer(self, network: Network, autocast: bool) -> float | None:
        """The equal error rate, None where there is no target or no non-target pair."""
        speaker = self.index.speaker[self.chosen]
        first, second = np.triu_indices(len(self.chosen), 1)
        same = speaker[first] == speaker[second]
        if same.all() or not same.any():
            return None
        own = self.chosen[share(len(self.chosen))].tolist()
        mine = torch.from_numpy(embed_utterances(network, self.index, own, autocast=autocast)).to(self.device)
        embeddings = gathered(mine, len(self.chosen)).cpu().numpy()
        scores = (embeddings @ embeddings.T)[first, second]
        return equal_error_rate(det_points(scores[same], scores[~same]))[0]
