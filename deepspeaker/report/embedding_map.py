"""Two-dimensional maps of embeddings."""

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

MAX_SPEAKERS = 40
MAX_UTTERANCES = 20
# t-SNE's perplexity, its effective number of neighbours, is the number of utterances per speaker within this range.
_PERPLEXITY_RANGE = (5, 30)
# A speaker is labelled if at least half of the points are this close to their median.
_LABEL_RADIUS = 0.08
# Markers of matplotlib, and SVG paths around 0 with a radius of about 3.5 units.
_SHAPES = (
    ("o", "M-3.4 0a3.4 3.4 0 1 0 6.8 0a3.4 3.4 0 1 0-6.8 0z"),
    ("s", "M-3-3h6v6h-6z"),
    ("^", "M0-4L4 3H-4z"),
    ("D", "M0-4.2L4.2 0L0 4.2L-4.2 0z"),
    ("v", "M0 4L4-3H-4z"),
)


@dataclass(frozen=True, eq=False)
class EmbeddingMap:
    """Positions of utterances on a plane.

    Attributes
    ----------
    utterances, speakers : sequence of str
        Ids of the utterances, at least 2, and of their speakers.
    positions : ndarray of shape (n_utterances, 2)
        Coordinates between 0 and 1.
    nearest : ndarray of int of shape (n_utterances,)
        Index of the other utterance with the highest cosine.
    cosine : ndarray of shape (n_utterances,)
        The cosine with this utterance.
    """

    utterances: Sequence[str]
    speakers: Sequence[str]
    positions: NDArray[np.float64]
    nearest: NDArray[np.int64]
    cosine: NDArray[np.float64]

    @property
    def confused(self) -> NDArray[np.bool_]:
        """Whether the nearest utterance is of another speaker. False for the only utterance of a speaker."""
        _, number, count = np.unique(self.speakers, return_inverse=True, return_counts=True)
        return np.asarray((number != number[self.nearest]) & (count[number] > 1))


def sample_utterances(utt2spk: Mapping[str, str], seed: int) -> list[str]:
    """Return a random sample of at most 40 speakers with at most 20 utterances each, sorted by speaker and id."""
    generator = np.random.default_rng(seed)
    spk2utt: dict[str, list[str]] = {}
    for utterance in sorted(utt2spk):
        spk2utt.setdefault(utt2spk[utterance], []).append(utterance)
    speakers = sorted(spk2utt)
    if len(speakers) > MAX_SPEAKERS:
        speakers = sorted(generator.choice(speakers, MAX_SPEAKERS, replace=False).tolist())
    sample: list[str] = []
    for speaker in speakers:
        utterances = spk2utt[speaker]
        if len(utterances) > MAX_UTTERANCES:
            utterances = sorted(generator.choice(utterances, MAX_UTTERANCES, replace=False).tolist())
        sample += utterances
    return sample


def embedding_map(embeddings: ArrayLike, utterances: Sequence[str], speakers: Sequence[str], seed: int) -> EmbeddingMap:
    """Lay out embeddings on a plane by t-SNE.

    Neighbouring points have similar directions. Sizes of clusters and distances between them mean little.

    Parameters
    ----------
    embeddings : array_like of shape (n_utterances, n_dimensions)
        At least 2 finite vectors. Their lengths do not matter.
    utterances, speakers : sequence of str
        Ids of the rows and of their speakers.
    seed : int
        Seed of the optimisation. On one machine, equal input and seed give equal positions.

    Raises
    ------
    InputError
        If there are fewer than two embeddings.

    References
    ----------
    .. [1] L. van der Maaten and G. Hinton, "Visualizing data using t-SNE", Journal of Machine Learning Research 9,
       2579-2605, 2008.
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
    # One thread, because sums in another order would give another layout.
    with threadpool_limits(1):
        per_speaker = float(np.median(np.unique(np.array(speakers), return_counts=True)[1]))
        perplexity = min(max(per_speaker, _PERPLEXITY_RANGE[0]), _PERPLEXITY_RANGE[1], (len(unit) - 1) / 3)
        laid_out = TSNE(perplexity=perplexity, init=_first_layout(unit), random_state=seed % 2**32).fit_transform(unit)
    low, high = laid_out.min(axis=0), laid_out.max(axis=0)
    # Use one scale for both directions and centre the layout in the unit square.
    side = max(float((high - low).max()), 1e-12)
    positions = (laid_out - (low + high) / 2) / side + 0.5
    return EmbeddingMap(
        utterances, speakers, positions.astype(np.float64), nearest, cosines[np.arange(len(unit)), nearest]
    )


def plot_maps(maps: Mapping[str, EmbeddingMap], path: str | Path, title: str) -> None:
    """Draw the maps side by side to a PNG, SVG or PDF that is written atomically."""
    with blank_figure(width=0.2 + 4.6 * len(maps), height=5.4) as figure:
        grid = figure.subplots(1, len(maps), squeeze=False)[0]
        for axes, (name, content) in zip(grid, maps.items(), strict=True):
            _draw(axes, content)
            axes.set_title(name, loc="left", fontsize=10)
        figure.suptitle(title, x=0.01, ha="left", fontsize=12)
        save_figure(figure, path)


def map_speakers(content: EmbeddingMap, side: float, margin: float) -> list[dict[str, object]]:
    """Return what the page draws in a square of ``side`` units: name, colour, shape, points and label per speaker."""
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
            tip = (
                f"{content.utterances[row]}, speaker {speaker}; nearest: {content.utterances[other]}, "
                f"{'same speaker' if same else f'speaker {content.speakers[other]}'}, cosine {content.cosine[row]:.3f}"
            )
            x, y = scaled[row]
            points.append({"x": f"{x:.1f}", "y": f"{y:.1f}", "tip": tip, "confused": bool(confused[row])})
        x, y = np.median(scaled[rows], axis=0)
        near = scaled[rows][np.hypot(*(scaled[rows] - (x, y)).T) <= _LABEL_RADIUS * side]
        if 2 * len(near) >= len(rows):
            # Above the points, or below them if another label is already there.
            for height in (near[:, 1].min() - 6, near[:, 1].max() + 13):
                if all(abs(x - a) > 25 or abs(height - b) > 9 for a, b in labels.values()):
                    labels[speaker] = (x, height)
                    break
        colour, shape = COLOURS[number % len(COLOURS)], _SHAPES[number % len(_SHAPES)][1]
        label = {"x": f"{labels[speaker][0]:.1f}", "y": f"{labels[speaker][1]:.1f}"} if speaker in labels else None
        drawn.append({"name": speaker, "colour": colour, "shape": shape, "points": points, "label": label})
    return drawn


def _first_layout(unit: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the two principal components, small and with fixed signs, or a circle if the embeddings hardly differ."""
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
        f"{len(names):,} utterances of {len(speakers):,} speakers; ringed: {count:,} nearest to another speaker",
        fontsize=9,
    )
