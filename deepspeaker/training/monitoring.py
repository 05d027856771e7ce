"""What a training reports while it runs: development EER, progress, TensorBoard scalars and ``train.csv``."""

from __future__ import annotations

import csv
import io
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from deepspeaker.embedding import embed_utterances, evenly_spaced
from deepspeaker.features import FeatureIndex
from deepspeaker.files import atomic_write
from deepspeaker.metrics import det_points, equal_error_rate, rank1
from deepspeaker.models import Network
from deepspeaker.training.distributed import all_gather, rank, shard
from deepspeaker.training.loading import not_finite_error
from deepspeaker.trials import ROW

#: Most utterances of each development speaker, evenly spread over their sorted ids.
UTTERANCES_PER_SPEAKER = 10

#: Most development utterances. They form two million pairs; to embed them takes longer than to score them.
DEV_UTTERANCES = 2000

#: Steps between two entries in TensorBoard.
LOG_STEPS = 20

#: Seconds between two lines of progress within an epoch, when there is no bar.
LINE_SECONDS = 60.0


class Development:
    """The development EER over all pairs of whole utterances, at most ten of each speaker.

    A part of more than 2,000 utterances is reduced evenly: first each speaker, to two utterances at least, then the
    number of speakers. Each rank reads and embeds its shard. All utterances are read once before training.

    Raises
    ------
    InputError
        If an utterance has values that are not finite. The line names it.
    """

    def __init__(self, index: FeatureIndex, device: torch.device) -> None:
        self.index, self.device = index, device
        speakers = evenly_spaced(np.arange(len(index.speakers), dtype=np.int32), DEV_UTTERANCES // 2)
        each = min(UTTERANCES_PER_SPEAKER, DEV_UTTERANCES // len(speakers))
        self.chosen = np.sort(np.concatenate([evenly_spaced(index.of_speaker[speaker], each) for speaker in speakers]))
        self._shard = self.chosen[shard(len(self.chosen))].tolist()
        for utterance in self._shard:
            if not np.isfinite(index.read(utterance)).all():
                raise not_finite_error(index, utterance)

    def rates(self, network: Network, autocast: bool) -> dict[str, float]:
        """Return ``dev_eer`` and, with enough utterances for the 1 + 99 protocol, the accuracy ``dev_acc``.

        Without target or without non-target pairs, the dictionary is empty.
        """
        speaker = self.index.speaker[self.chosen]
        first, second = np.triu_indices(len(self.chosen), 1)
        same = speaker[first] == speaker[second]
        if same.all() or not same.any():
            return {}
        local = torch.from_numpy(embed_utterances(network, self.index, self._shard, autocast=autocast)).to(self.device)
        embeddings = all_gather(local, len(self.chosen)).cpu().numpy()
        matrix = embeddings @ embeddings.T
        scores = matrix[first, second]
        rates = {"dev_eer": equal_error_rate(det_points(scores[same], scores[~same]))[0]}
        rows = self._rows(speaker)
        if len(rows):
            rates["dev_acc"] = rank1(matrix[rows[:, :1], rows[:, 1:]], np.arange(ROW) == np.zeros((len(rows), 1)))
        return rates

    def _rows(self, speaker: NDArray[np.int32]) -> NDArray[np.int64]:
        """Return rows of an anchor, a target and 99 non-targets, (rows, 101); the same in every epoch."""
        generator, rows = np.random.default_rng(0), []
        for anchor in range(len(speaker)):
            others = np.flatnonzero(speaker != speaker[anchor])
            partners = np.setdiff1d(np.flatnonzero(speaker == speaker[anchor]), anchor)
            if len(partners) and len(others) >= ROW - 1:
                nontargets = generator.choice(others, ROW - 1, replace=False)
                rows.append([anchor, generator.choice(partners), *nontargets])
        return np.array(rows, dtype=np.int64).reshape(-1, ROW + 1)


class Monitor:
    """Report a training on the screen, in ``train.csv`` and to TensorBoard; only rank 0 does.

    Parameters
    ----------
    folder
        Gets ``train.csv`` and ``tensorboard/``, with scalars named ``SECTION_step/...`` and ``SECTION_epoch/...``.
    section
        "softmax" or "triplet".
    steps, step
        All steps of the training, and those already done.
    bar
        Whether to show a progress bar on stderr instead of lines.
    """

    def __init__(self, folder: Path, section: str, steps: int, step: int, bar: bool) -> None:
        self._folder, self._section, self._steps, self._step, self._first = folder, section, steps, step, rank() == 0
        self._bar = tqdm(
            total=steps, initial=step, unit="step", disable=not (bar and self._first), dynamic_ncols=True, leave=False
        )
        self._lines = self._first and not bar
        self._last_line = time.monotonic()
        # When each of the last hundred steps ended, and the utterances up to then.
        self._seen = deque([(self._last_line, 0)], maxlen=101)

    def __enter__(self) -> Monitor:
        if self._first:
            from torch.utils.tensorboard.writer import SummaryWriter

            self._board = SummaryWriter(str(self._folder / "tensorboard"), purge_step=self._step + 1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        if self._first:
            self._board.close()

    def step(self, step: int, metrics: Mapping[str, float], utterances: int) -> None:
        """Report a step, with its metrics and its number of utterances."""
        self._step = step
        self._seen.append((time.monotonic(), self._seen[-1][1] + utterances))
        self._bar.update()
        self._bar.set_postfix_str(f"loss {metrics['loss']:.3f}, {self._speed():.0f} utterances/s", refresh=False)
        if step % LOG_STEPS == 0:
            self._scalars("step", metrics)
        if self._lines and time.monotonic() - self._last_line > LINE_SECONDS:
            print(f"  step {step}/{self._steps}, loss {metrics['loss']:.3f}, {self._pace()}", flush=True)
            self._last_line = time.monotonic()

    def write(self, history: Sequence[Mapping[str, float]]) -> None:
        """Rewrite ``train.csv`` and add the last epoch to TensorBoard."""
        if not self._first:
            return
        stream = io.StringIO()
        columns = list(dict.fromkeys(name for row in history for name in row))
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
        atomic_write(self._folder / "train.csv", stream.getvalue())
        self._scalars("epoch", history[-1])
        self._board.flush()

    def epoch(self, row: Mapping[str, float], epochs: int) -> None:
        """Print the line of an epoch."""
        if not self._first:
            return
        shown = [f"epoch {row['epoch']:.0f}/{epochs}", f"loss {row['loss']:.3f}"]
        if "accuracy" in row:
            shown.append(f"accuracy {100 * row['accuracy']:.1f} %")
        if "active_triplets" in row:
            shown.append(f"active triplets {100 * row['active_triplets']:.1f} %")
            shown.append(f"cosine {row['positive_cosine']:.3f} positive {row['negative_cosine']:.3f} negative")
        shown.append(f"dev EER {100 * row['dev_eer']:.2f} %" if "dev_eer" in row else "no dev EER")
        if "dev_acc" in row:
            shown.append(f"ACC {100 * row['dev_acc']:.1f} %")
        self._bar.clear()
        print(", ".join([*shown, self._pace()]), flush=True)
        self._last_line = time.monotonic()
        self._seen = deque([(self._last_line, self._seen[-1][1])], maxlen=self._seen.maxlen)  # leave development out

    def _scalars(self, kind: str, metrics: Mapping[str, float]) -> None:
        if self._first:
            for name, value in metrics.items():
                self._board.add_scalar(f"{self._section}_{kind}/{name}", value, self._step)

    def _speed(self) -> float:
        """Return the utterances per second over the last hundred steps."""
        (begin, first), (end, last) = self._seen[0], self._seen[-1]
        return (last - first) / max(end - begin, 1e-9)

    def _pace(self) -> str:
        left = (self._steps - self._step) * (self._seen[-1][0] - self._seen[0][0]) / max(len(self._seen) - 1, 1)
        shown = f"{left / 60:.1f} min left" if left >= 60 else f"{left:.0f} s left"
        return f"{self._speed():.0f} utterances/s, {shown}"
