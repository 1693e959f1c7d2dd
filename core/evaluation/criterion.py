"""The criterion by which options of the clustering are chosen, and the choice.

Everything is counted from labels, so that options of different latent spaces can be
compared. For one set of options::

    value     = refit ARI x coverage x ln(effective clusters)
    criterion = value on the data - mean value on data without structure

*Refit ARI* is the agreement with models learnt anew on 80% of the shops, noise as a
class of its own; below 0 it counts as 0. *Coverage x ln(effective clusters)* is the
structure score of `core.evaluation.quality`. *Data without structure* are
Gaussian-copula nulls, learnt and refitted by the same options.

None of the three is enough alone: one cluster of everybody is as stable as can be, and
so is noise that agrees with noise; many small clusters have a splendid structure score,
on nothing as well. The null says what the options find where nothing is.

The best criterion is an estimate, and the best of many. Among the options within one
standard error of it (Breiman et al., 1984), those that change the least of what stands
are chosen; and nothing is changed where the best is not clearly larger than the best of
one null among the others (max-T). Few refits give a small standard error by luck at
times: the median of all options counts where it is larger.

Measured on five planted data sets of 850 to 950 shops, easy to hard, with the encoder
of that time (2 or 3 latent sizes, 30 options, 3 refits, 2 nulls; adjusted Rand index
against the truth): the choice reached 0.61 to 0.94, the best of all options 0.65 to
0.94, the defaults 0.08 to 0.93. Taken by refit ARI alone it would have been 0.06 to
0.94, by the structure score alone 0.56 to 0.94; over models refitted, 0.23 to 0.93 by
the structure score and 0.46 to 0.93 by the criterion, whose rank correlation with the
truth was 0.50 to 0.90. On two data sets without structure the defaults were kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
from sklearn.metrics import adjusted_rand_score

from core.clustering.selection import ClusterOptions
from core.evaluation.quality import FloatArray, label_summary
from core.evaluation.stability import SUBSAMPLE_SHARE

GridLabels = npt.NDArray[np.int32]
"""Labels under several options, shape (n_options, n_shops); -1 is noise."""

MARGIN = 0.1
"""Nats beyond the nulls that are called clear: two equal clusters of 7% of the shops,
as in `core.evaluation.null`."""

SCHEMA = {
    "latent_size": pl.Int64,
    "min_samples": pl.Int64,
    "min_cluster_size": pl.Int64,
    "selection_method": pl.String,
    "clusters": pl.Int64,
    "coverage": pl.Float64,
    "effective_clusters": pl.Float64,
    "refit_ari": pl.Float64,
    "value": pl.Float64,
    "null_value": pl.Float64,
    "criterion": pl.Float64,
    "standard_error": pl.Float64,
    "is_standing": pl.Boolean,
    "is_chosen": pl.Boolean,
}


class Candidate(NamedTuple):
    """One row of the search.

    Attributes
    ----------
    latent_size : int
        Dimensions of the latent space.
    options : ClusterOptions
        Of the clustering in it.
    """

    latent_size: int
    options: ClusterOptions


class Measured(NamedTuple):
    """What one latent size came to, under every option.

    Attributes
    ----------
    labels : ndarray of int32, shape (n_options, n_shops)
        Of the model learnt from all shops.
    ari : ndarray of float64, shape (n_refits, n_options)
        Agreement of those labels with each refit's.
    null_values : ndarray of float64, shape (n_nulls, n_options)
        Value on each data set without structure.
    """

    labels: GridLabels
    ari: FloatArray
    null_values: FloatArray


def agreements(labels: GridLabels, refit: GridLabels) -> FloatArray:
    """Return the adjusted Rand index under each option, noise as a class of its own."""
    pairs = zip(labels, refit, strict=True)
    return np.array([adjusted_rand_score(one, other) for one, other in pairs])


def structure_scores(labels: GridLabels) -> FloatArray:
    """Return coverage x ln(effective clusters) under each option, in nats."""
    return np.array([label_summary(row).structure_score for row in labels])


def values_of(labels: GridLabels, ari: FloatArray) -> FloatArray:
    """Return the value of each option for each refit: `ari` has the refits' shape."""
    return np.clip(ari, 0.0, None) * structure_scores(labels)


def criterion_table(
    latent_size: int, options: Sequence[ClusterOptions], found: Measured
) -> pl.DataFrame:
    """Return one row per option of a latent size.

    Returns
    -------
    DataFrame
        Columns of `SCHEMA`, all but the last two. ``coverage`` and
        ``effective_clusters`` are those of the labels, ``refit_ari``, ``value`` and
        ``null_value`` are means. ``standard_error`` is that of the criterion: those of
        the mean over refits and of the mean over nulls, added in quadrature. Refits
        share most of their shops, so the variance of their mean is taken as ``1 / n +
        share left out / share learnt from`` of theirs (Nadeau and Bengio, 2003), not
        as ``1 / n``.
    """
    values = values_of(found.labels, found.ari)
    overlap = (1 - SUBSAMPLE_SHARE) / SUBSAMPLE_SHARE
    error = np.hypot(
        _error_of_mean(values, overlap), _error_of_mean(found.null_values, 0.0)
    )
    value, null_value = values.mean(axis=0), found.null_values.mean(axis=0)
    rows = []
    for i, option in enumerate(options):
        summary = label_summary(found.labels[i])
        rows.append(
            (
                latent_size,
                option.min_samples,
                option.min_cluster_size,
                option.selection_method,
                summary.n_clusters,
                summary.coverage,
                summary.effective_clusters,
                found.ari[:, i].mean(),
                value[i],
                null_value[i],
                value[i] - null_value[i],
                error[i],
            )
        )
    schema = dict(list(SCHEMA.items())[:-2])
    return pl.DataFrame(rows, schema=schema, orient="row")


def null_excess(found: Sequence[Measured]) -> float:
    """Return the best criterion that one null reaches among the other ones.

    The same nulls were taken for each latent size; every option counts.
    """
    values = np.concatenate([measured.null_values for measured in found], axis=1)
    others = (values.sum(axis=0) - values) / (len(values) - 1)
    return float((values - others).max())


def choose(
    table: pl.DataFrame, standing: Candidate, on_nothing: float
) -> tuple[pl.DataFrame, bool]:
    """Mark the row to take; best criterion first.

    Parameters
    ----------
    table : DataFrame
        Rows of `criterion_table`, the standing options among them.
    standing : Candidate
        The options that are kept unless others are better by a standard error.
    on_nothing : float
        See `null_excess`.

    Returns
    -------
    table : DataFrame
        Columns of `SCHEMA`. Within one standard error of the best, the options that
        stand are chosen, else the ones that change the fewest settings, then the ones
        nearest in cluster size, then the better.
    is_beyond_null : bool
        Whether the best, less a standard error, lies above `on_nothing` by `MARGIN`. If
        not, the standing options are chosen.
    """
    ordered = table.sort(
        ["criterion", "latent_size", "min_samples", "min_cluster_size"],
        descending=[True, False, False, False],
        maintain_order=True,
    )
    changes = [_changes(row, standing) for row in ordered.iter_rows(named=True)]
    errors = ordered["standard_error"].to_numpy()
    bar = float(ordered["criterion"][0] - max(errors[0], np.median(errors)))
    is_beyond_null = bar > max(on_nothing, 0.0) + MARGIN
    within = int((ordered["criterion"] >= bar).sum())
    chosen = min(range(within), key=lambda i: (*changes[i], i))
    if not is_beyond_null:
        chosen = changes.index((0, 0.0))
    marked = ordered.with_columns(
        is_standing=pl.Series([change == (0, 0.0) for change in changes]),
        is_chosen=pl.int_range(pl.len()) == chosen,
    )
    return marked, is_beyond_null


def candidate_of(row: dict[str, object]) -> Candidate:
    """Return the candidate that a row of the table is about."""
    options = ClusterOptions(*(row[name] for name in ClusterOptions._fields))  # type: ignore[arg-type]  # the schema says so
    return Candidate(int(str(row["latent_size"])), options)


def _changes(row: dict[str, object], standing: Candidate) -> tuple[int, float]:
    """Return how many settings differ, and by which factor (in nats) the size does."""
    found = candidate_of(row)
    pairs = [
        (found.latent_size, standing.latent_size),
        *zip(found.options, standing.options, strict=True),
    ]
    ratio = found.options.min_cluster_size / standing.options.min_cluster_size
    return sum(one != other for one, other in pairs), abs(math.log(ratio))


def _error_of_mean(values: FloatArray, overlap: float) -> FloatArray:
    """Return the standard error of the mean over the first axis, of at least two."""
    variances: FloatArray = values.var(axis=0, ddof=1)
    return np.sqrt(variances * (1 / len(values) + overlap))
