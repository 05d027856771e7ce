"""Embeddings of many dimensions as points on a plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepspeaker.errors import InputError
from deepspeaker.report.drawing import COLOURS, GREY, blank_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_SPEAKERS = 40
MOST_UTTERANCES = 20
# A point's neighbours, in effect, should be those of its speaker: t-SNE's perplexity follows their number.
_PERPLEXITIES = (5, 30)
# A speaker's name is written on the map where at least half of the points lie this near to their middle.
_TOGETHER = 0.08
# As markers of matplotlib and as paths of SVG around 0, about 3.5 units in radius.
_SHAPES = (
    ("o", "M-3.4 0a3.4 3.4 0 1 0 6.8 0a3.4 3.4 0 1 0-6.8 0z"),
    ("s", "M-3-3h6v6h-6z"),
    ("^", "M0-4L4 3H-4z"),
    ("D", "M0-4.2L4.2 0L0 4.2L-4.2 0z"),
    ("v", "M0 4L4-3H-4z"),
)


@dataclass(frozen=True, eq=False)
class EmbeddingMap:
    """Utterances on a plane; all sequences have the same length, of at least 2."""

    utterances: Sequence[str]
    speakers: Sequence[str]
    positions: NDArray[np.float64]
    """Shape ``(utterances, 2)``, within 0 and 1."""
    nearest: NDArray[np.int64]
    """For each utterance the one of all the others that has the highest cosine with it."""
    cosine: NDArray[np.float64]
    """That cosine."""

    @property
    def confused(self) -> NDArray[np.bool_]:
        """Whether an utterance's nearest is of another speaker though there is another of its own."""
        _, number, count = np.unique(self.speakers, return_inverse=True, return_counts=True)
        return np.asarray((number != number[self.nearest]) & (count[number] > 1))


def chosen_utterances(utt2spk: Mapping[str, str], seed: int) -> list[str]:
    """At most 40 speakers and of each at most 20 utterances, drawn by ``seed``; in the order of speakers and ids."""
    generator = np.random.default_rng(seed)
    of: dict[str, list[str]] = {}
    for utterance in sorted(utt2spk):
        of.setdefault(utt2spk[utterance], []).append(utterance)
    speakers = sorted(of)
    if len(speakers) > MOST_SPEAKERS:
        speakers = sorted(generator.choice(speakers, MOST_SPEAKERS, replace=False).tolist())
    chosen: list[str] = []
    for speaker in speakers:
        own = of[speaker]
        if len(own) > MOST_UTTERANCES:
            own = sorted(generator.choice(own, MOST_UTTERANCES, replace=False).tolist())
        chosen += own
    return chosen


def embedding_map(embeddings: ArrayLike, utterances: Sequence[str], speakers: Sequence[str], seed: int) -> EmbeddingMap:
    """Lays embeddings out by t-SNE (van der Maaten and Hinton, 2008) of their directions.

    Near points are alike; distances between clusters and their sizes mean little.

    Args:
        embeddings: shape ``(n, dimensions)``, n at least 2, finite; their length does not matter.
        utterances, speakers: of the n rows.
        seed: of the optimisation; on one machine, the same input and seed give the same positions.

    Raises:
        InputError: fewer than two embeddings.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    matrix = np.asarray(embeddings, dtype=np.float64)
    if len(matrix) < 2:
        raise InputError("a map needs at least two embeddings")
    unit = matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    nearest = np.argmax(cosines, axis=1)
    # One thread: sums in another order would end in another layout.
    with threadpool_limits(1):
        per_speaker = float(np.median(np.unique(np.array(speakers), return_counts=True)[1]))
        perplexity = min(max(per_speaker, _PERPLEXITIES[0]), _PERPLEXITIES[1], (len(unit) - 1) / 3)
        laid_out = TSNE(perplexity=perplexity, init=_first_layout(unit), random_state=seed % 2**32).fit_transform(unit)
    low, high = laid_out.min(axis=0), laid_out.max(axis=0)
    # One scale for both directions, in the middle of the unit square.
    side = max(float((high - low).max()), 1e-12)
    positions = (laid_out - (low + high) / 2) / side + 0.5
    return EmbeddingMap(
        utterances, speakers, positions.astype(np.float64), nearest, cosines[np.arange(len(unit)), nearest]
    )


def plot_maps(maps: Mapping[str, EmbeddingMap], path: str | Path, title: str) -> None:
    """Draws the maps beside each other; ``path`` is a PNG, SVG or PDF, written atomically."""
    with blank_figure(width=0.2 + 4.6 * len(maps), height=5.4) as figure:
        grid = figure.subplots(1, len(maps), squeeze=False)[0]
        for axes, (name, content) in zip(grid, maps.items(), strict=True):
            _draw(axes, content)
            axes.set_title(name, loc="left", fontsize=10)
        figure.suptitle(title, x=0.01, ha="left", fontsize=12)
        save_figure(figure, path)


def map_speakers(content: EmbeddingMap, side: float, margin: float) -> list[dict[str, object]]:
    """What a page needs to draw a map in a square of ``side`` units: for each speaker colour, shape, points, label."""
    scaled = margin + content.positions * (side - 2 * margin)
    confused = content.confused
    drawn: list[dict[str, object]] = []
    labels: dict[str, tuple[float, float]] = {}
    for number, speaker in enumerate(sorted(set(content.speakers))):
        rows = [row for row, name in enumerate(content.speakers) if name == speaker]
        points = []
        for row in rows:
            other = int(content.nearest[row])
            same = content.speakers[other] == speaker
            whose = "of the same speaker" if same else f"of speaker {content.speakers[other]}"
            tip = (
                f"{content.utterances[row]}, speaker {speaker}; nearest is {content.utterances[other]} {whose}, "
                f"cosine {content.cosine[row]:.3f}"
            )
            x, y = scaled[row]
            points.append({"x": f"{x:.1f}", "y": f"{y:.1f}", "tip": tip, "confused": bool(confused[row])})
        x, y = np.median(scaled[rows], axis=0)
        near = scaled[rows][np.hypot(*(scaled[rows] - (x, y)).T) <= _TOGETHER * side]
        if 2 * len(near) >= len(rows):
            # Above them, or below where another name stands already.
            for height in (near[:, 1].min() - 6, near[:, 1].max() + 13):
                if all(abs(x - a) > 25 or abs(height - b) > 9 for a, b in labels.values()):
                    labels[speaker] = (x, height)
                    break
        colour, shape = COLOURS[number % len(COLOURS)], _SHAPES[number % len(_SHAPES)][1]
        label = {"x": f"{labels[speaker][0]:.1f}", "y": f"{labels[speaker][1]:.1f}"} if speaker in labels else None
        drawn.append({"name": speaker, "colour": colour, "shape": shape, "points": points, "label": label})
    return drawn


def _first_layout(unit: NDArray[np.float64]) -> NDArray[np.float32]:
    """The two principal components, small, signs fixed; for embeddings that hardly differ, points on a circle."""
    centred = unit - unit.mean(axis=0)
    left, values, right = np.linalg.svd(centred, full_matrices=False)
    layout = np.zeros((len(unit), 2))
    for column in range(min(2, len(values))):
        sign = 1 if right[column][np.argmax(np.abs(right[column]))] > 0 else -1
        layout[:, column] = sign * left[:, column] * values[column]
    spread = layout[:, 0].std()
    if spread < 1e-9:
        angles = 2 * np.pi * np.arange(len(unit)) / len(unit)
        layout, spread = np.stack((np.cos(angles), np.sin(angles)), axis=1), 1.0
    return np.asarray(1e-4 * layout / spread, dtype=np.float32)


def _draw(axes: Axes, content: EmbeddingMap) -> None:
    speakers = sorted(set(content.speakers))
    names = np.array(content.speakers)
    for number, speaker in enumerate(speakers):
        x, y = content.positions[names == speaker].T
        marker = _SHAPES[number % len(_SHAPES)][0]
        axes.scatter(x, -y, s=22, marker=marker, color=COLOURS[number % len(COLOURS)], linewidths=0, zorder=2)
    x, y = content.positions[content.confused].T
    axes.scatter(x, -y, s=55, facecolors="none", edgecolors=GREY, linewidths=0.7, zorder=3)
    axes.set(xlim=(-0.03, 1.03), ylim=(-1.03, 0.03), aspect="equal", xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_color("#DDDDDD")
    count = int(content.confused.sum())
    axes.set_xlabel(
        f"{len(names):,} utterances of {len(speakers):,} speakers; ringed: {count:,} nearest to another's", fontsize=9
    )
