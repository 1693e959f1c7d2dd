"""Learning the segments of all axes from features, with ids of the model before.

Per axis: amounts and counts are taken as logarithms; features are winsorised and scaled
(`core.models.preprocessing`); the number of segments is chosen on a draw of customers
(`core.models.criterion`); KMeans goes on from there on everybody. Segments keep
the ids and names of the model before (`core.segments.identity`).

**Why winsorised.** Eighteen kinds of planted groups (2 to 6, of 5% to 65% of 2,000
customers: normal, long-tailed, skewed, even, flags, shares, zeros), one feature in a
unit 50 times smaller, 4 customers with an absurd value; KMeans with the true number,
mean and worst adjusted Rand index against the truth:

=======================================  ====  =====
scaling                                  mean  worst
=======================================  ====  =====
winsorised at 1% (taken)                 0.96   0.83
winsorised at 5%                         0.92   0.34
standard deviation, nothing clipped      0.70   0.22
none, as in the reference                0.49   0.00
median and interquartile range           0.31   0.00
=======================================  ====  =====
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import polars as pl

from core.axes.features.catalog import CHANNEL_SHARE, FEATURES, AxisFeatures
from core.axes.names import AxisNames, load_axis_names, name_clusters
from core.models import centroids, criterion
from core.models.centroids import FloatArray
from core.segments.axes import (
    AxesModel,
    FittedAxis,
    Told,
    axis_identity,
    axis_segments,
    kept_segments,
)

if TYPE_CHECKING:
    from core.config import Config


class AxisFit(NamedTuple):
    """What was learnt of an axis, before its segments have ids and names.

    Attributes
    ----------
    features : AxisFeatures
    model : CentroidModel or None
        None where the axis is skipped, as `placed` and `choice` are then.
    placed : Assignment or None
        Of all customers, by cluster.
    before : ndarray of int, shape (n_customers,), or None
        Ids that the model before gives the same customers.
    choice : Choice or None
    """

    features: AxisFeatures
    model: centroids.CentroidModel | None
    placed: centroids.Assignment | None
    before: centroids.IntArray | None
    choice: criterion.Choice | None


def with_identity(
    fit: AxisFit, before: FittedAxis | None, names: AxisNames
) -> FittedAxis:
    """Return an axis whose segments have ids and names.

    A segment that lives on keeps its id. It keeps its name, too, if a user gave it, or
    if the axis had several segments before and has several now: `everyone` cannot be
    the name of a part. What the rules would call it now stands in `rule_name`.

    Parameters
    ----------
    fit : AxisFit
    before : FittedAxis, optional
        The same axis of the model before.
    names : AxisNames
    """
    next_id = 0 if before is None else before.next_id
    if fit.model is None or fit.placed is None or fit.choice is None:
        return _skipped(fit.features, next_id)
    labels, n_segments = fit.placed.labels, fit.model.n_segments
    identity = axis_identity(before, fit.before, labels, n_segments, next_id)
    sizes = np.bincount(labels + 1, minlength=n_segments + 1)
    centres = fit.model.centres
    values = fit.model.in_units()
    used = fit.features.used
    kept = kept_segments(identity, before, n_segments)
    by_rules = name_clusters(centres, values, used, names)
    named = name_clusters(
        centres, values, used, names, {c: s.name for c, s in kept.items()}
    )
    told = {cluster: Told(one.name, one.why) for cluster, one in by_rules.items()}
    told[centroids.NOWHERE] = Told(names.unplaced, "a feature of the axis is unknown")
    called = {cluster: one.name for cluster, one in named.items()}
    called[centroids.NOWHERE] = names.unplaced
    segments = axis_segments(identity, called, kept, told, labels, fit.choice.kind)
    return FittedAxis(
        fit.features.axis,
        used,
        dict(fit.features.skipped),
        fit.model,
        segments,
        identity.next_id,
        identity.events,
        fit.choice.report(sizes),
    )


def _skipped(features: AxisFeatures, next_id: int) -> FittedAxis:
    """Return the record of an axis without a model."""
    report = {"kind": "skipped", "n_segments": 0, "verdict": "skipped"}
    skipped = dict(features.skipped)
    return FittedAxis(features.axis, (), skipped, None, (), next_id, (), report)


TIERS: Final = ((0.0, 0.5, 0.2), (0.5, 0.8, 0.3), (0.8, 0.95, 0.3), (0.95, 1.0, 0.2))
"""From and to which share of the customers by value, and the share of the draw."""
NOBODY: Final = "no customer has all features of the axis"


@dataclass(frozen=True)
class AxesOptions:
    """How the axes are learnt.

    Attributes
    ----------
    max_segments, min_segments : int
        Bounds of the number of segments of an axis; `min_segments` above 1 cuts an axis
        that has none.
    fit_customers : int or None
        Customers, drawn by value tier, that centres are learnt from; None: all.
    names : str or None
        YAML with naming rules, see `core.axes.names`.
    seed : int
    """

    max_segments: int = 6
    min_segments: int = 1
    fit_customers: int | None = None
    names: str | None = None
    seed: int = 42

    @classmethod
    def of(cls, config: Config) -> AxesOptions:
        """Return the options of a configuration."""
        axes = config.axes
        return cls(
            axes.max_segments,
            axes.min_segments,
            axes.fit_customers,
            axes.names,
            config.seed,
        )


def fit_axes(
    features: pl.DataFrame,
    available: Mapping[str, AxisFeatures],
    options: AxesOptions = AxesOptions(),
    *,
    previous: AxesModel | None = None,
    context: Mapping[str, Any] | None = None,
) -> AxesModel:
    """Learn the segments of all axes.

    Parameters
    ----------
    features : DataFrame
        As `customer_features` returns it, one row per customer.
    available : mapping of str to AxisFeatures
        As `core.axes.features.catalog.features_available` returns it.
    options : AxesOptions
    previous : AxesModel, optional
        The model before, whose ids and names are kept.
    context : mapping, optional
        See `AxesModel`.

    Returns
    -------
    AxesModel
        With an entry for every axis of `available`, skipped ones too.

    Raises
    ------
    ConfigError
        For naming rules that cannot be read.
    """
    names = load_axis_names(options.names)
    drawn = _drawn_customers(features, options)
    axes = []
    with centroids.one_thread():
        for axis, its in available.items():
            fit = _fit_axis(features, its, drawn, options, previous)
            before = None if previous is None else previous.axes.get(axis)
            axes.append(with_identity(fit, before, names[axis]))
    return AxesModel(tuple(axes), context)


def _drawn_customers(
    features: pl.DataFrame, options: AxesOptions
) -> tuple[centroids.IntArray, FloatArray] | None:
    """Return customers to learn from with their weights; None: everybody."""
    n = options.fit_customers
    if n is None or n >= features.height:
        return None
    values = features["lifetime_value"].cast(pl.Float64).to_numpy()
    return tier_sample(values, n, options.seed)


def _fit_axis(
    features: pl.DataFrame,
    its: AxisFeatures,
    drawn: tuple[centroids.IntArray, FloatArray] | None,
    options: AxesOptions,
    previous: AxesModel | None,
) -> AxisFit:
    """Learn the segments of one axis, without ids and names."""
    if not its.used:
        return AxisFit(its, None, None, None, None)
    floats = features.select(pl.col(its.used).cast(pl.Float64).fill_null(np.nan))
    table = floats.to_numpy()
    is_known = np.isfinite(table).all(axis=1)
    before = _labels_before(features, its.axis, previous)
    if not is_known.any():
        skipped = {**its.skipped, **dict.fromkeys(its.used, NOBODY)}
        return AxisFit(AxisFeatures(its.axis, (), skipped), None, None, before, None)
    is_log = [_is_log(name) for name in its.used]
    scaling = centroids.learn_scaling(table[is_known], is_log)
    n_before = 0
    if before is not None and previous is not None:
        model = previous.axes[its.axis].model
        n_before = 0 if model is None else model.n_segments
    choice, centres = criterion.learn_centres(
        table,
        is_known,
        scaling,
        fewest=options.min_segments,
        most=options.max_segments,
        seed=options.seed,
        drawn=drawn,
        before=before,
        n_before=n_before,
    )
    model = centroids.CentroidModel(centres, scaling).by_size(table)
    return AxisFit(its, model, model.assign(table), before, choice)


def _labels_before(
    features: pl.DataFrame, axis: str, previous: AxesModel | None
) -> centroids.IntArray | None:
    """Return where the model before places the customers; None where it cannot."""
    found = None if previous is None else previous.fitted.get(axis)
    if found is None or not set(found.features) <= set(features.columns):
        return None
    return AxesModel((found,)).assign(features)[axis].labels


def _is_log(name: str) -> bool:
    """Return whether a feature enters distances as its logarithm."""
    known = FEATURES.get(name)
    if known is None and name.startswith(f"{CHANNEL_SHARE}_"):
        known = FEATURES[CHANNEL_SHARE]
    return known is not None and known.scale == "log"


def tier_sample(
    values: FloatArray, n: int, seed: int
) -> tuple[centroids.IntArray, FloatArray]:
    """Draw customers by value tier.

    The reference draws 1,000, 1,500, 1,500 and 1,000 of 5,000 from the lower half, the
    next 30%, the next 15% and the top 5%. Taken as they are these would make valuable
    customers four times as many as they are; their weights undo that.

    Parameters
    ----------
    values : ndarray of shape (n_customers,)
        Lifetime values; unknown (NaN) ones count as the lowest. Equal values are
        ordered by lot.
    n : int
        Customers to draw, at most as many as there are.
    seed : int

    Returns
    -------
    (ndarray of int64, ndarray of float64)
        Rows, ascending, and how many customers each stands for (sums to all of them).
    """
    rng = np.random.default_rng(seed)
    known = np.where(np.isnan(values), -np.inf, values)
    order = np.lexsort([rng.permutation(len(values)), known])
    edges = [round(share * len(values)) for _, share, _ in TIERS]
    rows, weights = [], []
    for tier, (_, _, share) in zip(np.split(order, edges[:-1]), TIERS, strict=True):
        size = min(len(tier), max(round(share * n), 1))
        if size:
            rows.append(rng.choice(tier, size, replace=False))
            weights.append(np.full(size, len(tier) / size))
    picked, heavy = np.concatenate(rows), np.concatenate(weights)
    ascending = np.argsort(picked)
    return picked[ascending].astype(np.int64), heavy[ascending]
