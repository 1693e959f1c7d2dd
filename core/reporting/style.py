"""The house's style for pictures: one canvas, one palette, one way to remark.

matplotlib is used through `Figure` objects alone: no pyplot, no backend is chosen, and
the caller's style is restored afterwards.
"""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# Okabe and Ito's palette, yellow last because it is faint on white.
COLOURS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#D55E00",
    "#56B4E9",
    "#5D4E9E",
    "#B8A800",
)
# One more marker than colours, so that the pairs repeat after 72 clusters only.
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
NOISE_COLOUR = "#C9CDD2"
INK = "#1F2933"
FAINT_INK = "#616E7C"
_STYLE: dict[str, Any] = {
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "font.family": "sans-serif",
    "font.size": 10.0,
    "text.color": INK,
    # Feature and file names are texts: a `$` in them is no formula.
    "text.parse_math": False,
    "text.usetex": False,
    "axes.edgecolor": "#9AA5B1",
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 12.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10.0,
    "axes.unicode_minus": True,
    "xtick.color": FAINT_INK,
    "ytick.color": FAINT_INK,
    "legend.frameon": False,
}


@contextmanager
def picture(path: Path | None, size: tuple[float, float]) -> Iterator[Figure]:
    """Hand out a figure in the house's style, then write it to `path`, if any."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(), warnings.catch_warnings():
        # Names in a script that the bundled font lacks are drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        mpl.rcParams.update(_whole_style(mpl.rcParamsDefault))
        figure = Figure(figsize=size, dpi=150, layout="constrained")
        canvas: Any = FigureCanvasAgg(figure)
        yield figure
        if path is None:
            return
        # Laid out here and once: with `bbox_inches="tight"`, `savefig` draws everything
        # twice. The page grows around anything the layout has not foreseen.
        if layout := figure.get_layout_engine():
            layout.execute(figure)
        figure.set_layout_engine(None)
        page = figure.get_tightbbox(canvas.get_renderer()).padded(0.15)
        figure.savefig(
            path, format="png", bbox_inches=page, metadata={"Software": None}
        )


def _whole_style(defaults: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return matplotlib's defaults with ours on top, whatever the caller has set."""
    untouched = ("backend", "interactive", "toolbar", "webagg", "macosx", "tk.")
    kept = {
        key: value
        for key, value in defaults.items()
        if not str(key).startswith(untouched)
    }
    return {**kept, **_STYLE}


def cluster_look(place: int) -> dict[str, Any]:
    """Return the colour and the marker of the cluster at a place in the order."""
    return {
        "color": COLOURS[place % len(COLOURS)],
        "marker": _MARKERS[place % len(_MARKERS)],
    }


def footnote(figure: Figure, text: str) -> None:
    """Write a small remark below the picture, if there is one."""
    if text:
        figure.supxlabel(text, fontsize=8.5, color=FAINT_INK, x=0.01, ha="left")


def wrapped(text: str, width: int) -> str:
    """Break a long title into lines."""
    return "\n".join(textwrap.wrap(text, width)) or text


def shortened(name: str, limit: int = 38) -> str:
    """Shorten a name in its middle, where names of one family are alike."""
    if len(name) <= limit:
        return name
    half = (limit - 1) // 2
    return f"{name[:half]}…{name[-half:]}"
