"""Profiles of segments: sizes, averages, what sets them apart, typical members.

Everything reads a lazy table a few columns at a time, so that a Parquet file of a
million rows never has to fit in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from core.errors import SchemaError, did_you_mean, listed
from core.months import month_label

NOISE = -1
# Medians need the values of their column at once: at most so many at a time, and so
# many columns. Some 100 MB; of more rows, a column alone takes more.
_VALUES_AT_ONCE = 4_000_000
_COLUMNS_AT_ONCE = 4
_NORMAL_IQR = 1.3489795003921634  # interquartile range of a standard normal
_TAIL_SHARE = 0.01


def cluster_insights(
    table: pl.LazyFrame | pl.DataFrame,
    spaces: Mapping[str, str],
    features: Sequence[str],
) -> pl.DataFrame:
    """Describe every cluster of every space by size and averages.

    Parameters
    ----------
    table : polars LazyFrame or DataFrame
        One row per entity: the numeric `features` and one integer label column per
        space. A null label (an entity that was not eligible) is not counted; -1 is
        noise.
    spaces : mapping of space to its label column
        Such as ``{"latent": "latent_cluster", "raw": "raw_cluster"}``.
    features : sequence of str
        Numeric columns to describe, in their own units. Null and NaN are left out of
        their column's figures.

    Returns
    -------
    polars.DataFrame
        One row per space and cluster; spaces in the order given, clusters ascending,
        noise (-1) last.

        ``space`` : str; ``cluster`` : int
        ``size`` : int
            Entities.
        ``share`` : float
            Size over all entities of the space that have a label, noise included.
        ``<feature>_mean``, ``<feature>_median``, ``<feature>_std`` : float
            Null where the cluster has no value; the sample standard deviation
            (n - 1) is null for a single value too.

    Raises
    ------
    SchemaError
        If a column is missing, named twice or not numeric.
    """
    lazy = table.lazy()
    _check_columns(lazy, list(spaces.values()), features)
    blocks = [
        _describe_space(lazy, space, label, features) for space, label in spaces.items()
    ]
    if not blocks:
        return pl.DataFrame(schema=_insight_schema(features))
    return pl.concat(blocks)


def cluster_contrasts(
    table: pl.LazyFrame | pl.DataFrame, label: str, features: Sequence[str]
) -> pl.DataFrame:
    """Measure how far the median of each cluster lies from that of all other entities.

    Parameters
    ----------
    table, features
        As for `cluster_insights`.
    label : str
        The label column of one space.

    Returns
    -------
    polars.DataFrame
        One row per cluster (ascending, noise left out) and feature (in their order):

        ``cluster`` : int; ``feature`` : str
        ``median``, ``rest_median`` : float
            In the feature's own unit, of the cluster and of every other entity that
            has a label, noise included; null without a value on that side.
        ``effect`` : float
            ``(median - rest_median) / spread``, in robust standard deviations. The
            spread is that of all entities: the larger of IQR / 1.349 (the standard
            deviation, for a normal) and the standard deviation after clipping 1% at
            either end, so that the collapsed quartiles of a column that is mostly
            zero do not make every difference look enormous. Null where either
            median is null or the feature does not vary.

        The clusters were made from these same features, so a large effect describes
        a cluster and proves nothing: random cuts have large effects, too.

    Raises
    ------
    SchemaError
        If a column is missing, named twice or not numeric.
    """
    lazy = table.lazy()
    _check_columns(lazy, [label], features)
    labelled = lazy.filter(pl.col(label).is_not_null())
    rows: list[dict[str, Any]] = []
    for chunk in _chunks(features, labelled):
        block = labelled.select(
            pl.col(label).cast(pl.Int64), *(_clean(name) for name in chunk)
        ).collect(engine="streaming")
        labels = block[label].to_numpy()
        for name in chunk:
            rows += _contrast_rows(name, labels, block[name].to_numpy())
    place = {name: position for position, name in enumerate(features)}
    rows.sort(key=lambda row: (row["cluster"], place[row["feature"]]))
    return pl.DataFrame(rows, schema=_CONTRAST_SCHEMA)


def robust_spread(ordered: NDArray[np.float64]) -> float:
    """Return the larger of IQR / 1.349 and the winsorised standard deviation.

    Parameters
    ----------
    ordered : ndarray of float64, shape (n_entities,)
        Known values of one feature, ascending; 0 is returned where there are none.
    """
    if not len(ordered):
        return 0.0
    low, lower, upper, high = np.quantile(
        ordered, [_TAIL_SHARE, 0.25, 0.75, 1 - _TAIL_SHARE]
    )
    clipped = float(np.clip(ordered, low, high).std())
    return max(float(upper - lower) / _NORMAL_IQR, clipped)


_CONTRAST_SCHEMA: dict[str, Any] = {
    "cluster": pl.Int64,
    "feature": pl.String,
    "median": pl.Float64,
    "rest_median": pl.Float64,
    "effect": pl.Float64,
}


def _chunks(features: Sequence[str], rows: pl.LazyFrame) -> Iterator[Sequence[str]]:
    """Yield a few features at a time; once with none where there are none."""
    n_rows = rows.select(pl.len()).collect(engine="streaming").item()
    step = min(_COLUMNS_AT_ONCE, max(1, _VALUES_AT_ONCE // max(n_rows, 1)))
    for start in range(0, max(len(features), 1), step):
        yield features[start : start + step]


def _clean(name: str) -> pl.Expr:
    """Return a feature as float64 in which NaN is null."""
    return pl.col(name).cast(pl.Float64).fill_nan(None)


def _describe_space(
    table: pl.LazyFrame, space: str, label: str, features: Sequence[str]
) -> pl.DataFrame:
    labelled = table.filter(pl.col(label).is_not_null())
    key = pl.col(label).cast(pl.Int64).alias("cluster")
    sizes = labelled.group_by(key).agg(pl.len().cast(pl.Int64).alias("size"))
    result = (
        sizes.collect(engine="streaming")
        .sort(pl.col("cluster") == NOISE, "cluster")
        .select(
            pl.lit(space).alias("space"),
            "cluster",
            "size",
            (pl.col("size") / pl.col("size").sum()).alias("share"),
        )
    )
    for chunk in _chunks(features, labelled):
        block = labelled.group_by(key).agg(
            figure
            for name in chunk
            for figure in (
                _clean(name).mean().alias(f"{name}_mean"),
                _clean(name).median().alias(f"{name}_median"),
                _clean(name).std().alias(f"{name}_std"),
            )
        )
        figures = block.collect(engine="streaming")
        result = result.join(figures, on="cluster", how="left", maintain_order="left")
    return result


def _contrast_rows(
    feature: str, labels: NDArray[np.int64], values: NDArray[np.float64]
) -> list[dict[str, Any]]:
    """Return one row per cluster for one feature; NaN in `values` is missing."""
    order = np.argsort(values, kind="stable")[: int((~np.isnan(values)).sum())]
    ordered, owners = values[order], labels[order]
    spread = robust_spread(ordered)
    rows = []
    for cluster in (int(label) for label in np.unique(labels) if label != NOISE):
        places = np.flatnonzero(owners == cluster)
        own, rest = _middle(ordered[places]), _middle_without(ordered, places)
        effect = None
        if own is not None and rest is not None and spread > 0:
            effect = (own - rest) / spread
        rows.append(
            {
                "cluster": cluster,
                "feature": feature,
                "median": own,
                "rest_median": rest,
                "effect": effect,
            }
        )
    return rows


def _middle(ordered: NDArray[np.float64]) -> float | None:
    """Return the median of sorted values; ``None`` of none."""
    n = len(ordered)
    return float(ordered[(n - 1) // 2] + ordered[n // 2]) / 2 if n else None


def _middle_without(
    ordered: NDArray[np.float64], places: NDArray[np.intp]
) -> float | None:
    """Return the median of sorted values other than those at `places` (ascending).

    The m-th value that is left sits m places on, plus one for each place passed over;
    so no copy of the rest is made for every cluster.
    """
    n = len(ordered) - len(places)
    if not n:
        return None
    left_before = places - np.arange(len(places))
    middle = np.array([(n - 1) // 2, n // 2])
    found = middle + np.searchsorted(left_before, middle, side="right")
    return float(ordered[found].sum()) / 2


def _insight_schema(features: Sequence[str]) -> dict[str, Any]:
    figures = {
        f"{name}_{figure}": pl.Float64
        for name in features
        for figure in ("mean", "median", "std")
    }
    return {
        "space": pl.String,
        "cluster": pl.Int64,
        "size": pl.Int64,
        "share": pl.Float64,
        **figures,
    }


def _check_columns(
    table: pl.LazyFrame, labels: Sequence[str], features: Sequence[str]
) -> None:
    """Refuse missing, repeated and non-numeric columns, by name."""
    schema = table.collect_schema()
    for name in [*labels, *features]:
        if name not in schema:
            raise SchemaError(
                f"the table has no column `{name}`; it has "
                f"{listed(schema.names())}.{did_you_mean(name, schema.names())}"
            )
    repeated = sorted({name for name in features if list(features).count(name) > 1})
    if repeated:
        raise SchemaError(f"features are named twice: {listed(repeated)}.")
    texts = [name for name in features if not schema[name].is_numeric()]
    texts += [name for name in labels if not schema[name].is_integer()]
    if texts:
        found = ", ".join(f"`{name}` is {schema[name]}" for name in texts)
        raise SchemaError(
            f"expected numeric features and integer labels, but {found}. "
            "Leave these columns out or convert them first."
        )


UNASSIGNED = -1
N_TYPICAL = 5
CURVE_MONTHS = 36
_CURVE_SCHEMA: dict[str, Any] = {
    "segment": pl.Int64,
    "month": pl.String,
    "n_entities": pl.Int64,
    "mean": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
}


def typical_members(
    table: pl.DataFrame,
    closeness: NDArray[np.float64],
    X: NDArray[np.float64],
    id_column: str,
    n: int = N_TYPICAL,
) -> pl.DataFrame:
    """Choose the most typical entities of every segment.

    Parameters
    ----------
    table : DataFrame
        The ids, ``segment`` (-1 is none) and what else is to be kept.
    closeness : ndarray of float, shape (n_entities,)
        The larger, the more typical: strength within a density segment, or less the
        distance from the centre of a partition's.
    X : ndarray of float, shape (n_entities, n_features)
        Scaled features. Of equally typical entities (many have the full strength) those
        come first that lie nearest to the medians of their segment.
    id_column : str
        Column of the ids.
    n : int
        Entities per segment; fewer where it has no more.

    Returns
    -------
    DataFrame
        ``segment``, ``place`` (from 1), then the columns of `table`; at last the entity
        whose id comes first.
    """
    keys = {
        "_closeness": -closeness,
        "_apart": np.round(_from_medians(X, table["segment"].to_numpy()), 9),
    }
    return (
        table.with_columns(
            pl.Series(name, key, dtype=pl.Float64) for name, key in keys.items()
        )
        .filter(pl.col("segment") != UNASSIGNED)
        .sort("segment", *keys, id_column)
        .with_columns(
            place=pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over("segment")
        )
        .filter(pl.col("place") <= n)
        .select("segment", "place", pl.exclude("segment", "place", *keys))
    )


def _from_medians(
    X: NDArray[np.float64], segments: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return how far each entity lies from the medians of its segment."""
    apart = np.zeros(len(X))
    for segment in np.unique(segments):
        own = segments == segment
        apart[own] = np.sqrt(((X[own] - np.median(X[own], axis=0)) ** 2).sum(axis=1))
    return apart


def monthly_curves(
    monthly: pl.DataFrame,
    segments: pl.DataFrame,
    as_of_t: int,
    id_column: str,
    n_months: int = CURVE_MONTHS,
) -> pl.DataFrame:
    """Average the relative monthly sales of the entities of every segment.

    An entity's sales are divided by their mean over the months looked at, from its
    first active month on; a month without sales counts as 0.

    Parameters
    ----------
    monthly : DataFrame
        The ids, ``t`` and ``quantity`` of active months.
    segments : DataFrame
        The ids and ``segment``; -1 (none) is left out.
    as_of_t : int
        Last month looked at, as `core.months.month_index` counts.
    id_column : str
        Column of the ids, in both tables.
    n_months : int
        Months up to it, or as many as there are.

    Returns
    -------
    DataFrame
        One row per segment and month: ``segment``, ``month`` (YYYY-MM), ``n_entities``
        with a value, their ``mean``, and ``low`` and ``high``, the quartiles; 1 is an
        entity's own average month.
    """
    known = monthly.filter(pl.col("t") <= as_of_t).join(
        segments.filter(pl.col("segment") != UNASSIGNED), on=id_column
    )
    if known.is_empty():
        return pl.DataFrame(schema=_CURVE_SCHEMA)
    first_t = max(as_of_t - n_months + 1, int(known["t"].min()))  # type: ignore[arg-type]  # not empty
    starts = known.group_by(id_column).agg(
        pl.col("segment").first(), start=pl.col("t").min()
    )
    months = pl.DataFrame({"t": range(first_t, as_of_t + 1)}, schema={"t": pl.Int32})
    grid = (
        starts.join(months, how="cross")
        .filter(pl.col("t") >= pl.col("start"))
        .join(
            known.select(id_column, pl.col("t").cast(pl.Int32), "quantity"),
            on=[id_column, "t"],
            how="left",
        )
        .with_columns(pl.col("quantity").fill_null(0.0))
    )
    relative = pl.col("quantity") / pl.col("quantity").mean().over(id_column)
    return (
        grid.with_columns(relative=relative)
        .filter(pl.col("relative").is_finite())
        .group_by("segment", "t")
        .agg(
            n_entities=pl.len().cast(pl.Int64),
            # Summed in one order, so that the last bit does not depend on threads.
            mean=pl.col("relative").sort().mean(),
            low=pl.col("relative").quantile(0.25, "linear"),
            high=pl.col("relative").quantile(0.75, "linear"),
        )
        .sort("segment", "t")
        .with_columns(
            month=pl.col("t").map_elements(month_label, return_dtype=pl.String)
        )
        .select(list(_CURVE_SCHEMA))
        .cast(_CURVE_SCHEMA)  # type: ignore[arg-type]  # a dict of dtypes is one
    )
