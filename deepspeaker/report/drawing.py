"""Common parts of all figures: colours, axes, and output to a file or to SVG within a page.

Equal input gives equal bytes.
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

# The palette of Okabe and Ito, distinguishable with any colour vision, without its yellow, which is faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
#: Dash patterns as in matplotlib: lengths of dashes and gaps, in line widths.
DASHES: tuple[tuple[float, ...], ...] = ((), (5, 2), (1.2, 1.4), (6, 2, 1.2, 2), (3, 1.5))
GREY = "#555555"
_DPI = 150
_RATE_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
_KINDS = ("png", "svg", "pdf")
_TIP = "tip-"


def line_style(index: int) -> tuple[str, tuple[float, ...]]:
    """Return colour and dash pattern of a curve. There are 35 pairs; neighbours differ in both."""
    return COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)]


@contextmanager
def blank_figure(width: float, height: float) -> Iterator[Figure]:
    """Yield a blank figure, with its size in inches. Save it within the block.

    The figure does not use pyplot and therefore needs neither a display nor global state. It has matplotlib's default
    settings, not those of the user.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        # Keep text as text: smaller, accessible to screen readers, and in the font of the page.
        matplotlib.rcParams["svg.fonttype"] = "none"
        figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


def figure_kind(path: str | Path) -> str:
    """Return ``png``, ``svg`` or ``pdf`` from a file name. Raise ``InputError`` for any other extension."""
    kind = Path(path).suffix[1:].lower()
    if kind not in _KINDS:
        raise InputError(f"{path}: figures are written as {', '.join(_KINDS)}; use one of these extensions")
    return kind


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a PNG, SVG or PDF atomically, depending on the extension, without dates or program versions."""
    import matplotlib

    kind = figure_kind(path)
    matplotlib.rcParams["svg.hashsalt"] = "figure"
    metadata: dict[str, Any] = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}.get(
        kind, {"Creator": None, "Producer": None, "CreationDate": None}
    )
    _lay_out(figure)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=_DPI, metadata=metadata)


def _lay_out(figure: Figure) -> None:
    """Place the axes once. Otherwise, matplotlib draws the whole figure an additional time to do so."""
    if engine := figure.get_layout_engine():
        engine.execute(figure)
        figure.set_layout_engine(None)


def add_tooltip(artist: Artist, tips: list[str], text: str) -> None:
    """Give an artist a tooltip on the page. Pass ``tips`` to `inline_svg`."""
    artist.set_gid(f"{_TIP}{len(tips)}")
    tips.append(text)


def inline_svg(figure: Figure, name: str, description: str, tips: list[str] | None = None) -> str:
    """Return the figure as an ``<svg>`` element that fills the width available.

    Parameters
    ----------
    figure : Figure
        From `blank_figure`.
    name : str
        Unique on the page; it keeps the ids of the figures distinct.
    description : str
        The text for screen readers.
    tips : list of str, optional
        The tooltips given to `add_tooltip`.
    """
    import matplotlib

    matplotlib.rcParams["svg.hashsalt"] = name
    _lay_out(figure)
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>|<!--.*?-->", "", text, flags=re.S)

    def group(found: re.Match[str]) -> str:
        # Group names ("axes_1") would be duplicated in every figure. Nothing refers to them.
        if not found[1].startswith(_TIP):
            return "<g>"
        tip = (tips or [])[int(found[1].removeprefix(_TIP))]
        return f'<g class="tip"><title>{escape(tip)}</title>'

    text = re.sub(r'<g id="([^"]*)">', group, text)
    # The reader may not have the fonts that matplotlib names.
    text = re.sub(r"font(-family)?: ([0-9.]+px )?[^;\"]*", lambda m: f"font-size: {m[2].strip()}" if m[2] else "", text)
    text = re.sub(r"<svg ([^>]*)>", lambda match: _svg_tag(match[1], description, bool(tips)), text, count=1)
    return re.sub(r"\n\s*", "\n", text).strip()


def _svg_tag(attributes: str, description: str, has_tips: bool) -> str:
    """Return the opening tag, without a fixed size and with a label for screen readers."""
    box = re.search(r'viewBox="[^"]*"', attributes)
    assert box is not None
    hovering = ' class="hover" tabindex="0"' if has_tips else ""
    return f'<svg {box[0]} role="img" aria-label="{escape(description)}"{hovering} stroke-linejoin="round">'


def style_axes(axes: Axes, x_label: str, y_label: str) -> None:
    """Set the labels, draw a faint grid behind the curves and remove the frame at the top and on the right."""
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(color="#E4E4E4", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(color=GREY, labelsize=9)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(GREY)


def rate_axis(axes: Axes, which: Literal["x", "y"], rates: Iterable[float]) -> float:
    """Make an axis logarithmic, in percent, just wide enough for ``rates`` (fractions), and return its lower end.

    Draw rates of 0 at the lower end.
    """
    shown = [100 * rate for rate in rates if rate > 0] or [1.0]
    low = max([tick for tick in _RATE_TICKS if tick <= 0.9 * min(shown)], default=_RATE_TICKS[0])
    high = min([tick for tick in _RATE_TICKS if tick >= 1.05 * max(shown)], default=_RATE_TICKS[-1])
    ticks = [tick for tick in _RATE_TICKS if low <= tick <= high]
    axes.set(**{f"{which}scale": "log", f"{which}lim": (low, high)})
    axes.set(**{f"{which}ticks": ticks, f"{which}ticklabels": [f"{tick:g}" for tick in ticks]})
    axes.minorticks_off()
    return low


def legend_line(index: int) -> Mapping[str, str]:
    """Return colour and SVG dash array of a curve, for a legend on the page."""
    colour, dashes = line_style(index)
    return {"colour": colour, "dashes": " ".join(f"{2.2 * length:g}" for length in dashes)}
