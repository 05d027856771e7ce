"""What all figures share: colours, axes, and a figure as a file or as SVG inside a page.

The same input gives the same bytes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from deepspeaker.errors import InputError
from deepspeaker.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette without its yellow, which is faint on white; told apart with any colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
#: Line styles as matplotlib has them: lengths of dashes and gaps, in widths of the line.
DASHES: tuple[tuple[float, ...], ...] = ((), (5, 2), (1.2, 1.4), (6, 2, 1.2, 2), (3, 1.5))
GREY = "#555555"
_DPI = 150
_RATE_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
_KINDS = ("png", "svg", "pdf")
_TIP = "tip-"


def style(index: int) -> tuple[str, tuple[float, ...]]:
    """Colour and dashes of curve ``index``; 35 pairs, neighbours differ in both."""
    return COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)]


@contextmanager
def blank_figure(width: float, height: float) -> Iterator[Figure]:
    """A blank figure of that many inches, to be saved before the block ends.

    Made without pyplot, so without a display or global state, and under matplotlib's default settings, whatever the
    user's own are.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        # Letters stay letters: smaller, readable aloud, and in the page's own type.
        matplotlib.rcParams["svg.fonttype"] = "none"
        figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


def figure_kind(path: str | Path) -> str:
    """``png``, ``svg`` or ``pdf``, after the name's ending; raises ``InputError`` for another."""
    kind = Path(path).suffix[1:].lower()
    if kind not in _KINDS:
        raise InputError(f"{path}: figures are written as {', '.join(_KINDS)}; end the name in one of them")
    return kind


def save_figure(figure: Figure, path: str | Path) -> None:
    """Writes a PNG, SVG or PDF, after the name's ending, atomically and without dates or versions of programs."""
    import matplotlib

    kind = figure_kind(path)
    matplotlib.rcParams["svg.hashsalt"] = "figure"
    metadata: dict[str, Any] = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}.get(
        kind, {"Creator": None, "Producer": None, "CreationDate": None}
    )
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=_DPI, metadata=metadata)


def hover(artist: Artist, tips: list[str], text: str) -> None:
    """Gives an artist a text that the page shows when it is pointed at; ``tips`` goes to `inline_svg`."""
    artist.set_gid(f"{_TIP}{len(tips)}")
    tips.append(text)


def inline_svg(figure: Figure, name: str, description: str, tips: list[str] | None = None) -> str:
    """The figure as an ``<svg>`` element for a page.

    ``name`` keeps its ids apart from those of the page's other figures; ``description`` is what is read aloud in its
    place. It takes the width that there is.
    """
    import matplotlib

    matplotlib.rcParams["svg.hashsalt"] = name
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>|<!--.*?-->", "", text, flags=re.S)

    def group(found: re.Match[str]) -> str:
        # Names of groups ("axes_1") would come again in every figure; none is referred to.
        if not found[1].startswith(_TIP):
            return "<g>"
        tip = (tips or [])[int(found[1].removeprefix(_TIP))]
        return f'<g class="tip"><title>{escape(tip)}</title>'

    text = re.sub(r'<g id="([^"]*)">', group, text)
    # The fonts that matplotlib names are not those of the reader's machine.
    text = re.sub(r"font(-family)?: ([0-9.]+px )?[^;\"]*", lambda m: f"font-size: {m[2].strip()}" if m[2] else "", text)
    text = re.sub(r"<svg ([^>]*)>", lambda head: _head(head[1], description, bool(tips)), text, count=1)
    return re.sub(r"\n\s*", "\n", text).strip()


def _head(attributes: str, description: str, points: bool) -> str:
    """The opening tag: without a size of its own, with a name for those who do not see it."""
    box = re.search(r'viewBox="[^"]*"', attributes)
    assert box is not None
    hovering = ' class="hover" tabindex="0"' if points else ""
    return f'<svg {box[0]} role="img" aria-label="{escape(description)}"{hovering} stroke-linejoin="round">'


def dress(axes: Axes, x_label: str, y_label: str) -> None:
    """Labels, a faint grid behind the curves, and no frame where there is no axis."""
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(color="#E4E4E4", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(color=GREY, labelsize=9)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(GREY)


def rate_axis(axes: Axes, which: Literal["x", "y"], rates: Iterable[float]) -> float:
    """Makes an axis logarithmic, in percent, just wide enough for ``rates`` (fractions); returns its lower end.

    Rates of 0 have no place on it; they are drawn at that end.
    """
    shown = [100 * rate for rate in rates if rate > 0] or [1.0]
    low = max([tick for tick in _RATE_TICKS if tick <= 0.9 * min(shown)], default=_RATE_TICKS[0])
    high = min([tick for tick in _RATE_TICKS if tick >= 1.05 * max(shown)], default=_RATE_TICKS[-1])
    ticks = [tick for tick in _RATE_TICKS if low <= tick <= high]
    axes.set(**{f"{which}scale": "log", f"{which}lim": (low, high)})
    axes.set(**{f"{which}ticks": ticks, f"{which}ticklabels": [f"{tick:g}" for tick in ticks]})
    axes.minorticks_off()
    return low


def sample_line(index: int) -> Mapping[str, str]:
    """Colour and dash array (SVG) of the line that curve ``index`` is drawn with, for a legend in a page."""
    colour, dashes = style(index)
    return {"colour": colour, "dashes": " ".join(f"{2.2 * length:g}" for length in dashes)}
