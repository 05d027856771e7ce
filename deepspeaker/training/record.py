"""What a training writes for people: a CSV, TensorBoard scalars, a line an epoch with speed and time left."""

from __future__ import annotations

import csv
import io
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from deepspeaker.files import atomic_write
from deepspeaker.training.distributed import process_rank


class Meter:
    """Speed and time left, over the last hundred steps."""

    def __init__(self, steps: int, step: int) -> None:
        self._steps, self._step = steps, step
        self._seen: deque[tuple[float, int]] = deque([(time.monotonic(), 0)], maxlen=101)

    def count(self, utterances: int) -> None:
        """A step is done, with so many utterances."""
        self._step += 1
        self._seen.append((time.monotonic(), self._seen[-1][1] + utterances))

    def speed(self) -> float:
        """Utterances a second."""
        (begin, first), (end, last) = self._seen[0], self._seen[-1]
        return (last - first) / max(end - begin, 1e-9)

    def left(self) -> float:
        """Seconds until all steps are done."""
        return (self._steps - self._step) * (self._seen[-1][0] - self._seen[0][0]) / max(len(self._seen) - 1, 1)

    def pace(self) -> str:
        """Both, as people read them."""
        left = self.left()
        shown = f"{left / 60:.1f} min left" if left >= 60 else f"{left:.0f} s left"
        return f"{self.speed():.0f} utterances/s, {shown}"


class Record:
    """``train.csv`` and ``tensorboard/`` of a stage's folder; TensorBoard's goes on from ``step``."""

    def __init__(self, folder: Path, section: str, step: int) -> None:
        self._folder, self._section, self._step = folder, section, step

    def __enter__(self) -> Record:
        if process_rank() == 0:
            from torch.utils.tensorboard.writer import SummaryWriter

            self._board = SummaryWriter(str(self._folder / "tensorboard"), purge_step=self._step + 1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if process_rank() == 0:
            self._board.close()

    def scalars(self, kind: str, step: int, figures: Mapping[str, float]) -> None:
        """Adds TensorBoard scalars ``SECTION_KIND/name``; kind is "step" or "epoch"."""
        for name, value in figures.items():
            self._board.add_scalar(f"{self._section}_{kind}/{name}", value, step)

    def epochs(self, history: Sequence[Mapping[str, float]]) -> None:
        """Writes ``train.csv`` anew, and the last epoch to TensorBoard."""
        stream = io.StringIO()
        columns = list(dict.fromkeys(name for row in history for name in row))
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
        atomic_write(self._folder / "train.csv", stream.getvalue())
        self.scalars("epoch", int(history[-1]["step"]), history[-1])
        self._board.flush()


def epoch_line(row: Mapping[str, float], epochs: int, meter: Meter) -> str:
    """An epoch as people read it."""
    shown = [f"epoch {row['epoch']:.0f}/{epochs}", f"loss {row['loss']:.3f}"]
    if "accuracy" in row:
        shown.append(f"accuracy {100 * row['accuracy']:.1f} %")
    if "active_triplets" in row:
        shown.append(f"active triplets {100 * row['active_triplets']:.1f} %")
        shown.append(f"cosine {row['positive_cosine']:.3f} positive {row['negative_cosine']:.3f} negative")
    shown.append(f"dev EER {100 * row['dev_eer']:.2f} %" if "dev_eer" in row else "no dev EER")
    shown.append(meter.pace())
    return ", ".join(shown)
