"""The table of all entities in a page, and the map over it, packed for its script."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Collection, Mapping
from typing import Any, Final

import numpy as np
import polars as pl
import polars.selectors as cs
from numpy.typing import NDArray

from core.entities import Entity
from core.reporting.plots import crowded_place, view_of
from core.reporting.style import NOISE_COLOUR, cluster_look

LIMIT: Final = 1_200_000
"""Characters that all entities together may add to a page."""
MOST_SHOWN: Final = 250_000
"""Entities of which no more could fit into these, however short their ids."""
OUTSIDE: Final = -1
"""Place of what is not on the map, either way."""
_RANGE: Final = 1023
_LEVEL: Final = 6


def explorer(
    table: pl.DataFrame,
    titles: Mapping[str, str],
    entity: Entity,
    filters: Collection[str],
    view: Mapping[str, Any] | None = None,
    limit: int = LIMIT,
    n_all: int | None = None,
) -> dict[str, Any]:
    """Pack a table of entities as `page.js` reads it.

    Parameters
    ----------
    table : DataFrame
        A row per entity, those first that matter most; where not all fit, the last ones
        are left out. The columns of `titles`, and ``x`` and ``y`` of `map_view`, if
        there is a map. Columns of few values are of type Enum.
    titles : mapping of column to str
        What is shown, in this order; the first is the entity's id.
    entity : Entity
        Its words.
    filters : collection of str
        Columns of type Enum that get a choice of their own.
    view : mapping, optional
        Of `map_view`.
    limit : int
        Characters that the packed rows may take.
    n_all : int, optional
        Entities in all, where `table` holds only the first `MOST_SHOWN` of them.

    Returns
    -------
    dict
        ``noun``, ``plural``, ``columns``, ``map``, ``n`` and ``n_shown`` (entities),
        and ``data``: the columns as JSON, compressed (gzip), as base64.
    """
    data, n_shown = _fitting(table, limit)
    columns = [
        {
            "key": name,
            "title": title,
            "digits": _digits(table[name]),
            "is_filter": name in filters,
            "values": _values(table[name]),
        }
        for name, title in titles.items()
    ]
    return {
        "noun": entity.noun,
        "plural": entity.plural,
        "columns": columns,
        "map": None if view is None else dict(view),
        "n": table.height if n_all is None else n_all,
        "n_shown": n_shown,
        "data": data,
    }


def _digits(column: pl.Series) -> int | None:
    """Return the least decimals of a column: 2 of shares, None of texts."""
    if not column.dtype.is_numeric():
        return None
    return 2 if (column <= 1).all() else 0


def _values(column: pl.Series) -> list[str] | None:
    """Return the texts that a column's codes stand for."""
    dtype = column.dtype
    return dtype.categories.to_list() if isinstance(dtype, pl.Enum) else None


def _fitting(table: pl.DataFrame, limit: int) -> tuple[str, int]:
    """Return the first rows that fit, packed, and how many they are."""
    n = table.height
    data = _packed(table)
    while len(data) > limit and n:
        n = min(n - 1, int(0.98 * n * limit / len(data)))
        data = _packed(table.head(n))
    return data, n


def _packed(table: pl.DataFrame) -> str:
    codes = table.with_columns(
        pl.col(name).to_physical().cast(pl.Int32).fill_null(-1)
        for name, dtype in table.schema.items()
        if isinstance(dtype, pl.Enum)
    )
    # JSON has no word for what is no number.
    finite = pl.when(cs.float().is_finite()).then(cs.float())
    codes = codes.with_columns(finite)
    text = json.dumps(codes.to_dict(as_series=False), separators=(",", ":"))
    packed = gzip.compress(text.encode("utf-8"), _LEVEL, mtime=0)
    return base64.b64encode(packed).decode("ascii")


def map_view(
    coordinates: NDArray[np.float64], segments: pl.Series, grey: Collection[str] = ()
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Lay out entities on a map.

    Parameters
    ----------
    coordinates : ndarray of float64, shape (n_entities, 2)
    segments : Series of type Enum
        What an entity is coloured by. The first word of each text is written on the
        map.
    grey : collection of str
        Texts of those that are in none.

    Returns
    -------
    places : DataFrame
        ``x`` and ``y``, whole numbers from 0 to 1023; -1 lies outside the view.
    view : dict
        ``key`` (the column), ``colours`` by code, ``labels`` (place and text of each
        segment) and ``legend`` (name and colour of those on the map).
    """
    low, high = view_of(coordinates)
    scaled = (coordinates - low) / (high - low)
    is_inside = np.asarray(((scaled >= 0) & (scaled <= 1)).all(axis=1))
    places = np.rint(scaled * _RANGE).astype(np.int64)
    places[~is_inside] = OUTSIDE
    names = _values(segments) or []
    colours = [
        NOISE_COLOUR if name in grey else str(cluster_look(place)["color"])
        for place, name in enumerate(names)
    ]
    labels, legend = [], []
    for name, colour in zip(names, colours, strict=True):
        own = places[is_inside & (segments == name).to_numpy()]
        if len(own):
            legend.append([name, colour])
        if len(own) and name not in grey:
            x, y = crowded_place(own.astype(np.float64))
            labels.append([round(float(x)), round(float(y)), name.partition(" ")[0]])
    return pl.DataFrame(places, schema=["x", "y"]), {
        "key": segments.name,
        "colours": colours,
        "labels": labels,
        "legend": legend,
    }
