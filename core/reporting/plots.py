"""Plots of segments: spaces, sizes, features, months; readable in colour blindness.

Clusters are told apart by colour (Okabe and Ito, 2008), by the shape of their markers
and by a number written on them; noise is pale grey and lies behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from core.entities import Entity
from core.errors import ModelError
from core.reporting import style
from core.reporting.text import share

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage


NOISE = -1
ROW = Entity("row", "row", "rows", "size")
"""What is drawn, where nothing else is said."""
_POINTS_DRAWN = 30_000
_POINTS_PER_CLUSTER = 150  # a small cluster keeps at least these, if it has them
_LEGEND_LINES = 15


def plot_space(
    coordinates: NDArray[np.float64],
    labels: ArrayLike,
    title: str,
    axis_labels: tuple[str, str] = ("", ""),
    path: Path | None = None,
    entity: Entity = ROW,
    noun: str = "cluster",
) -> Figure:
    """Draw entities in two dimensions, by cluster.

    Parameters
    ----------
    coordinates : ndarray of float64, shape (n_entities, 2)
        Such as the two leading principal components of the space.
    labels : array-like of int, shape (n_entities,)
        Cluster per entity; -1 is noise.
    title : str
    axis_labels : tuple of str
        Of the horizontal and the vertical axis.
    path : Path, optional
        PNG to write.
    entity : Entity
        Its plural, for the texts.
    noun : str
        What the groups are called.

    Returns
    -------
    Figure
        Of matplotlib, drawn without pyplot.

    Examples
    --------
    >>> corners = np.array([[0.0, 0.0], [0.1, 0.1], [5.0, 5.0]])
    >>> plot_space(corners, [0, 0, 1], "Two groups").axes[0].get_title("left")
    'Two groups'

    Notes
    -----
    At most 30,000 entities are drawn (small clusters keep 150 of theirs), and the view
    ends where the outermost 0.2% on each side would squeeze the rest; the picture says
    how many entities it leaves out.
    """
    marks = np.asarray(labels)
    drawn = _subsample(marks)
    window = view_of(coordinates)
    is_within = (coordinates >= window[0]) & (coordinates <= window[1])
    inside: NDArray[np.bool_] = np.logical_and.reduce(is_within, axis=1)
    clusters, sizes = np.unique(marks[marks != NOISE], return_counts=True)
    with style.picture(path, (6.6, 4.6)) as figure:
        axes = figure.add_subplot()
        seen = drawn[inside[drawn]]
        point = float(np.clip(7000 / max(len(seen), 1), 3, 22))
        noise = coordinates[seen[marks[seen] == NOISE]]
        axes.scatter(
            noise[:, 0], noise[:, 1], s=point * 0.6, c=style.NOISE_COLOUR, lw=0
        )
        for place, cluster in enumerate(clusters):
            own = coordinates[seen[marks[seen] == cluster]]
            axes.scatter(
                own[:, 0],
                own[:, 1],
                s=point,
                lw=0,
                alpha=0.75,
                **style.cluster_look(place),
            )
        axes.set_xlim(window[0][0], window[1][0])
        axes.set_ylim(window[0][1], window[1][1])
        _write_on_clusters(axes, coordinates[inside], marks[inside], clusters)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_title(style.wrapped(title, 80))
        axes.set_xlabel(axis_labels[0])
        axes.set_ylabel(axis_labels[1])
        _space_legend(axes, clusters, sizes, int((marks == NOISE).sum()), noun, entity)
        left_out = _left_out(len(marks), len(seen), int((~inside).sum()), entity)
        style.footnote(figure, left_out)
    return figure


def _subsample(labels: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the entities to draw: a fixed draw, small clusters not thinned away."""
    if len(labels) <= _POINTS_DRAWN:
        return np.arange(len(labels))
    rng = np.random.default_rng(0)
    share = _POINTS_DRAWN / len(labels)
    parts = []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        n_kept = max(int(len(own) * share), _POINTS_PER_CLUSTER)
        parts.append(rng.permutation(own)[:n_kept])
    return np.sort(np.concatenate(parts))


def view_of(
    coordinates: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the corners of a view that a few far outliers cannot squeeze."""
    low, high = coordinates.min(axis=0), coordinates.max(axis=0)
    inner = np.quantile(coordinates, [0.002, 0.998], axis=0)
    reach = inner[1] - inner[0]
    low = np.maximum(low, inner[0] - 0.25 * reach)
    high = np.minimum(high, inner[1] + 0.25 * reach)
    margin = np.where(high > low, 0.04 * (high - low), 1.0)
    return low - margin, high + margin


def _write_on_clusters(
    axes: Axes,
    coordinates: NDArray[np.float64],
    labels: NDArray[np.int64],
    clusters: NDArray[np.int64],
) -> None:
    """Write each cluster's number where it is densest, unless one stands there already.

    Numbers are canonical, the largest cluster first, so it is the smaller that waives.
    """
    from matplotlib.patheffects import withStroke

    room = np.array(axes.get_xlim() + axes.get_ylim()).reshape(2, 2)
    reach = (room[:, 1] - room[:, 0]) * [0.045, 0.045]
    written: list[NDArray[np.float64]] = []
    for cluster in clusters:
        own = coordinates[labels == cluster]
        if not len(own):
            continue
        middle = crowded_place(own)
        if any((np.abs(middle - other) < reach).all() for other in written):
            continue
        written.append(middle)
        axes.annotate(
            str(cluster),
            (float(middle[0]), float(middle[1])),
            ha="center",
            va="center",
            fontweight="bold",
            path_effects=[withStroke(linewidth=3, foreground="white")],
            zorder=5,
        )


def crowded_place(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the middle of the fullest cell of a 12 x 12 grid over the points.

    A cluster that falls into two islands has its median between them, on other
    entities.
    """
    counts, x_edges, y_edges = np.histogram2d(points[:, 0], points[:, 1], bins=12)
    column, row = np.unravel_index(int(counts.argmax()), counts.shape)
    low = np.array([x_edges[column], y_edges[row]])
    high = np.array([x_edges[column + 1], y_edges[row + 1]])
    is_inside = ((points >= low) & (points <= high)).all(axis=1)
    place: NDArray[np.float64] = np.median(points[is_inside], axis=0)
    return place


def _space_legend(
    axes: Axes,
    clusters: NDArray[np.int64],
    sizes: NDArray[np.int64],
    n_noise: int,
    noun: str,
    entity: Entity,
) -> None:
    """Name clusters and noise, if there is any, with their sizes."""
    from matplotlib.lines import Line2D

    look: dict[str, Any] = {"ls": "", "ms": 6, "mew": 0}
    shown = _LEGEND_LINES
    handles = [
        Line2D(
            [], [], label=f"{cluster}  ({size:,})", **style.cluster_look(place), **look
        )
        for place, (cluster, size) in enumerate(zip(clusters, sizes, strict=True))
    ][:shown]
    if len(clusters) > shown:
        rest = f"{len(clusters) - shown} more  ({sizes[shown:].sum():,})"
        handles.append(Line2D([], [], label=rest, ls=""))
    noise = Line2D(
        [],
        [],
        label=f"{'unassigned' if noun == 'segment' else 'noise'}  ({n_noise:,})",
        marker="o",
        color=style.NOISE_COLOUR,
        **look,
    )
    heading = f"{noun} ({entity.plural})" if len(clusters) else f"no {noun}"
    axes.legend(
        handles=[*handles, noise] if n_noise else handles,
        title=heading,
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        alignment="left",
        borderaxespad=0,
    )


def _left_out(n_entities: int, n_seen: int, n_outside: int, entity: Entity) -> str:
    """Say what was left out of a picture of a space; nothing if all is there."""
    if n_seen == n_entities:
        return ""
    outside = f"; {n_outside:,} lie outside the view" if n_outside else ""
    return f"{n_seen:,} of {n_entities:,} {entity.plural} drawn{outside}."


def draw_cells(
    axes: Axes,
    values: NDArray[np.float64],
    colours: Sequence[Any],
    limits: tuple[float, float],
    bad: str = "#C9CDD2",
    grid: tuple[str, float] | None = ("white", 1.2),
    **extremes: str,
) -> AxesImage:
    """Colour a table of cells.

    Parameters
    ----------
    axes : matplotlib Axes
    values : ndarray of float64, shape (n_rows, n_columns)
        NaN is drawn in the colour `bad`.
    colours : sequence
        Stops of the colour map, even or as (place, colour).
    limits : tuple of float
        Values of the first and the last stop.
    bad : str
    grid : tuple of (str, float), optional
        Colour and width of the lines between cells.
    **extremes
        `under` and `over`: colours of what lies beyond the limits.
    """
    from matplotlib.colors import LinearSegmentedColormap

    colour_map = LinearSegmentedColormap.from_list("cells", list(colours))
    image = axes.imshow(
        np.ma.masked_invalid(values),
        aspect="auto",
        cmap=colour_map.with_extremes(bad=bad, **extremes),
        vmin=limits[0],
        vmax=limits[1],
        interpolation="nearest",
    )
    axes.tick_params(length=0, labelcolor=style.INK)
    axes.spines[:].set_visible(False)
    if grid is not None:
        # Lines, not minor ticks, of which each is laid out several times.
        bottom, right = np.array(values.shape) - 0.5
        colour, width = grid
        axes.vlines(np.arange(-0.5, right + 1), -0.5, bottom, colour, lw=width)
        axes.hlines(np.arange(-0.5, bottom + 1), -0.5, right, colour, lw=width)
    return image


def write_cells(
    axes: Axes,
    texts: Iterable[tuple[int, int, str, bool]],
    fontsize: float = 8,
    weight: str = "normal",
) -> None:
    """Write into cells: (row, column, text, whether the cell is dark)."""
    for row, column, text, is_dark in texts:
        axes.text(
            column,
            row,
            text,
            ha="center",
            va="center",
            fontsize=fontsize,
            fontweight=weight,
            color="white" if is_dark else style.INK,
            in_layout=False,  # it stays within its cell
        )


def add_colour_bar(image: AxesImage, label: str, **options: Any) -> Any:
    """Put the scale of a table of cells beside it, and return it."""
    bar = image.axes.figure.colorbar(
        image, ax=image.axes, shrink=0.8, aspect=30, **options
    )
    bar.set_label(label)
    bar.outline.set_visible(False)
    return bar


_BARS_DRAWN = 15


def plot_loss(
    history: Mapping[str, Sequence[float]], best_epoch: int, path: Path | None = None
) -> Figure:
    """Draw the training and validation loss by epoch, and mark the epoch kept.

    Parameters
    ----------
    history : mapping of str to sequence of float
        ``loss`` and, where there is one, ``val_loss``: one value per epoch.
    best_epoch : int
        Counted from 1: the epoch whose weights were kept.
    path : Path, optional
        PNG to write.

    Returns
    -------
    Figure
        Of matplotlib, drawn without pyplot.

    Raises
    ------
    ModelError
        For a history without a `loss`, or a `best_epoch` outside of it.

    Examples
    --------
    >>> plot_loss({"loss": [3.0, 2.0]}, 2).axes[0].get_ylabel()
    'loss'
    """
    n_epochs = len(history.get("loss", ()))
    if not 1 <= best_epoch <= n_epochs:
        raise ModelError(
            f"`best_epoch` is {best_epoch}, the history holds {n_epochs} epochs of "
            "`loss`; expected an epoch of it, counted from 1."
        )
    from matplotlib.ticker import MaxNLocator

    with style.picture(path, (6.2, 3.6)) as figure:
        axes = figure.add_subplot()
        ends = []
        for key, name, colour, dash in (
            ("loss", "training", style.COLOURS[0], "-"),
            ("val_loss", "validation", style.COLOURS[4], "--"),
        ):
            values = np.asarray(history.get(key, ()), dtype=np.float64)
            if len(values):
                epochs = np.arange(1, len(values) + 1)
                marker = "o" if len(values) == 1 else ""
                axes.plot(epochs, values, dash, color=colour, lw=1.8, marker=marker)
                ends.append((float(values[-1]), len(values), name, colour))
        _write_at_line_ends(axes, ends)
        _mark_best_epoch(axes, history, best_epoch)
        axes.set_title("Loss while the autoencoder was trained")
        axes.set_xlim(0.5, n_epochs + 0.5)
        axes.set_xlabel("epoch")
        axes.set_ylabel("loss")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(axis="y", color="#E4E7EB", lw=0.8)
        axes.set_axisbelow(True)
    return figure


def plot_sizes(
    labels_by_space: Mapping[str, ArrayLike],
    path: Path | None = None,
    entity: Entity = ROW,
) -> Figure:
    """Draw the entities in every cluster and in noise, one panel per space.

    All panels share one linear scale that starts at 0 and ends at all entities, so that
    a dominating cluster looks dominating. The 15 largest clusters get a bar each, the
    others one together.

    Parameters
    ----------
    labels_by_space : mapping of str to array-like of int
        The title of a space to its labels; -1 is noise.
    path : Path, optional
        PNG to write.
    entity : Entity
        Its plural, for the axis.

    Returns
    -------
    Figure
        Of matplotlib, drawn without pyplot.

    Examples
    --------
    >>> figure = plot_sizes({"Segments": [0, 0, 1, -1]})
    >>> figure.axes[0].get_xlabel()
    'rows'
    """
    panels = {name: _bars(np.asarray(x)) for name, x in labels_by_space.items()}
    heights = [len(bars) for bars in panels.values()]
    height = 1.3 * len(panels) + 0.3 * sum(heights)
    with style.picture(path, (6.2, max(height, 2.2))) as figure:
        grid = figure.subplots(
            len(panels), 1, squeeze=False, height_ratios=heights, sharex=True
        )[:, 0]
        total = max(sum(bar[1] for bar in bars) for bars in panels.values())
        for axes, (name, bars) in zip(grid, panels.items(), strict=True):
            _draw_bars(axes, bars)
            axes.set_title(style.wrapped(name, 70))
            axes.set_xlim(0, total * 1.24)
        grid[-1].set_xlabel(entity.plural)
        grid[-1].xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        grid[-1].set_xticks([t for t in grid[-1].get_xticks() if 0 <= t <= total])
    return figure


def _write_at_line_ends(
    axes: Axes, ends: Sequence[tuple[float, int, str, str]]
) -> None:
    """Name each line at its right end, the higher one above the other."""
    for place, (value, epoch, name, colour) in enumerate(sorted(ends)):
        axes.annotate(
            name,
            (epoch, value),
            xytext=(7, 0 if len(ends) == 1 else (-7, 7)[place]),
            textcoords="offset points",
            va="center",
            color=colour,
            fontweight="bold",
            annotation_clip=False,
        )


def _mark_best_epoch(
    axes: Axes, history: Mapping[str, Sequence[float]], best_epoch: int
) -> None:
    """Draw a line and a point where the weights were kept."""
    curve = history.get("val_loss") or history["loss"]
    best = curve[best_epoch - 1]
    axes.axvline(best_epoch, color=style.FAINT_INK, lw=0.9, ls=":")
    axes.plot([best_epoch], [best], "o", ms=7, mfc="white", mec=style.INK, mew=1.5)
    is_late = best_epoch > len(history["loss"]) / 2
    axes.annotate(
        f"kept: epoch {best_epoch} ({best:.4g})",
        (best_epoch, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(-6 if is_late else 6, -4),
        textcoords="offset points",
        ha="right" if is_late else "left",
        va="top",
        color=style.INK,
    )


def _bars(labels: NDArray[np.int64]) -> list[tuple[str, int, str]]:
    """Return name, entities and colour of each bar, from the top down."""
    clusters, sizes = np.unique(labels[labels != NOISE], return_counts=True)
    bars = [
        (f"cluster {cluster}", int(size), str(style.cluster_look(place)["color"]))
        for place, (cluster, size) in enumerate(zip(clusters, sizes, strict=True))
    ]
    bars.sort(key=lambda bar: -bar[1])
    if len(bars) > _BARS_DRAWN:
        rest = bars[_BARS_DRAWN:]
        name = f"{len(rest)} more clusters"
        bars = [*bars[:_BARS_DRAWN], (name, sum(bar[1] for bar in rest), "#7B8794")]
    if not bars:
        bars = [("no cluster", 0, style.NOISE_COLOUR)]
    return [*bars, ("noise", int((labels == NOISE).sum()), style.NOISE_COLOUR)]


def _draw_bars(axes: Axes, bars: Sequence[tuple[str, int, str]]) -> None:
    """Draw horizontal bars with their counts and shares written beside them."""
    places = np.arange(len(bars))
    counts = [bar[1] for bar in bars]
    total = max(sum(counts), 1)
    axes.barh(places, counts, color=[bar[2] for bar in bars], height=0.72)
    for place, count in zip(places, counts, strict=True):
        axes.annotate(
            f"{count:,}  ({share(count / total)})",
            (count, place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    axes.set_yticks(places, [bar[0] for bar in bars])
    axes.tick_params(axis="y", length=0, labelcolor=style.INK)
    axes.set_ylim(len(bars) - 0.4, -0.6)


_COLUMNS = 3
_MOST_PANELS = 15
_MOST_YEARS_NAMED = 4


def plot_curves(
    curves: pl.DataFrame,
    names: Mapping[int, str],
    path: Path | None = None,
    entity: Entity = ROW,
) -> Figure:
    """Draw the monthly sales of every segment, relative to its entities' own means.

    Parameters
    ----------
    curves : DataFrame
        As `core.segments.profiles.monthly_curves` returns it, with the number of
        entities under its saved name. The first 15 segments are drawn.
    names : mapping of segment to name
    path : Path, optional
        PNG to write. All panels share both scales, so that a flat year looks flat.
    entity : Entity
        Its words and the name of its count.

    Returns
    -------
    Figure
        Of matplotlib, drawn without pyplot.

    Examples
    --------
    >>> months, flat = ["2024-01", "2024-02"], [1.0, 1.0]
    >>> curves = pl.DataFrame({"segment": [0, 0], "month": months, "mean": flat})
    >>> curves = curves.with_columns(low=0.9, high=1.1, n_rows=20)
    >>> plot_curves(curves, {0: "Steady"}).axes[0].get_title("left").split()
    ['Steady', '20', 'rows']
    """
    segments = curves["segment"].unique().sort().to_list()
    if not segments:
        with style.picture(path, (6.2, 1.4)) as figure:
            axes = figure.add_subplot(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            axes.text(0.5, 0.5, "No segment with known months.", ha="center")
        return figure
    drawn = segments[:_MOST_PANELS]
    months = curves["month"].unique().sort().to_list()
    n_columns = min(_COLUMNS, len(drawn))
    n_rows = -(-len(drawn) // n_columns)
    with style.picture(path, (max(3.1 * n_columns, 4.6), 2.3 * n_rows + 0.5)) as figure:
        grid = figure.subplots(
            n_rows, n_columns, squeeze=False, sharex=True, sharey=True
        )
        for place, axes in enumerate(grid.ravel()):
            if place >= len(drawn):
                axes.set_visible(False)
                continue
            own = curves.filter(pl.col("segment") == drawn[place])
            _draw(axes, own, months, str(style.cluster_look(place)["color"]))
            n = max(own[entity.count_column].to_list())
            title = f"{style.wrapped(names[drawn[place]], 32)}\n{n:,} {entity.plural}"
            axes.set_title(title, fontsize=9.5, pad=5)
            # The last row may be shorter: its upper neighbours name the years, too.
            axes.tick_params(labelbottom=place + n_columns >= len(drawn))
        top = float(np.nanmax(curves["high"].to_numpy()))
        top = max(top, float(np.nanmax(curves["mean"].to_numpy())))
        grid[0, 0].set_ylim(0, top * 1.05 or 1)
        figure.supylabel(f"sales over the {entity.noun}'s mean", fontsize=9.5)
        style.footnote(figure, _note(len(segments), len(drawn), entity))
    return figure


def _draw(axes: Axes, own: pl.DataFrame, months: list[str], colour: str) -> None:
    """Draw one segment's mean line and its quartile band."""
    place = {month: i for i, month in enumerate(months)}
    x = [place[month] for month in own["month"]]
    axes.fill_between(x, own["low"], own["high"], color=colour, alpha=0.2, lw=0)
    marker = "o" if len(x) == 1 else ""
    axes.plot(x, own["mean"], color=colour, lw=1.8, marker=marker, ms=4)
    axes.axhline(1, color=style.FAINT_INK, lw=0.8, ls=":")
    starts = [i for i, month in enumerate(months) if month.endswith("-01")]
    step = -(-len(starts) // _MOST_YEARS_NAMED) or 1
    ticks = starts[::step] or [0]
    axes.set_xticks(ticks, [_tick(months[i]) for i in ticks])
    axes.tick_params(labelsize=8)
    axes.set_xlim(-0.5, len(months) - 0.5)


def _tick(month: str) -> str:
    """Return the year of a January, else the whole month."""
    return month[:4] if month.endswith("-01") else month


def _note(n_segments: int, n_drawn: int, entity: Entity) -> str:
    """Say how to read the picture, and what was left out of it."""
    text = (
        f"Line: mean of the segment's {entity.plural}; band: the middle half of them."
    )
    if n_drawn < n_segments:
        text += f" {n_drawn} of {n_segments} segments."
    return text
