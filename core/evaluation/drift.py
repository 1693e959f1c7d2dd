"""Whether data has moved away from what a model was trained on, beyond chance.

A month is compared with the *reference*, rows of the training month, in

- the distribution of every feature, and of the reconstruction error (what the encoder
  cannot restore is unlike what it has learnt): PSI and Kolmogorov-Smirnov
  (`core.evaluation.distances`);
- the share of the unassigned, and of every segment, each against the training month
  and against the month before.

A textbook limit (PSI 0.25) is too low for 50 shops and too high for 50,000. With
``calibrated`` thresholds, pairs of samples of the two sizes are drawn from the
reference itself, with replacement and whole rows at a time, so that dependent features
stay dependent. All statistics are put on one scale by their mean and standard deviation
over the pairs (PSI by its square root, whose tail is like the others'), and the limit
is the ``1 - level`` quantile of the *largest* (max-T: Westfall and Young, 1993):
of the months that differ from the training month by chance only, 5% alert, *over
everything together*. Features of the same shops overlap from month to month, which
makes a stationary month differ less than two samples do: the rate is an upper bound.

With many rows, chance hardly moves anything and a shift that does not matter would
alert. No threshold is below what a *small* shift (Cohen, 1988: 0.2 standard deviations)
does to a normal distribution: 0.04 for PSI (the divergence of two normals is the
squared shift), 2 * Phi(0.1) - 1 = 0.08 for Kolmogorov-Smirnov; shares need
`share_shift`. What was usual before training comes on top, where the reference knows it
(`core.evaluation.drift_reference`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from core.evaluation.drift_limits import DriftOptions, drift_limits
from core.evaluation.drift_reference import (
    DriftReference,
    MonthRows,
    checked_rows,
    measure_columns,
    segment_shares,
    share_changes,
    usual_months,
)
from core.evaluation.quality import NOISE, FloatArray, IntArray

__all__ = [
    "DRIFT_ROWS",
    "DriftOptions",
    "DriftReference",
    "DriftReport",
    "MonthRows",
    "measure_drift",
    "segment_shares",
    "usual_months",
]

DRIFT_ROWS: dict[str, Any] = {
    "kind": pl.String,
    "name": pl.String,
    "statistic": pl.String,
    "value": pl.Float64,
    "threshold": pl.Float64,
    "is_alert": pl.Boolean,
}

# What the options of a refresh say where nobody has changed them.
CALIBRATED = DriftOptions()


@dataclass(frozen=True)
class DriftReport:
    """How one month differs from the training month.

    Attributes
    ----------
    rows : DataFrame
        One row per statistic, columns `DRIFT_ROWS`:

        ``kind`` : ``feature``, ``reconstruction``, ``unassigned`` or ``share``
        ``name`` : the feature; ``reconstruction error``; ``unassigned``; a segment's id
        ``statistic`` : ``psi`` or ``ks`` (distributions); ``difference`` (of a share
        from the training month's) or ``step`` (from the month before)
        ``value`` : its size, 0 or more; ``threshold`` : the largest that is no alert
        ``is_alert`` : whether it is above
    alerts : list of str
        The alerts in words, one for each kind and name, the clearest of a kind first.
    shares : dict of int to float
        Share of every segment in the month; -1: unassigned.
    n_rows : int
        Rows of the month.
    """

    rows: pl.DataFrame
    alerts: list[str]
    shares: dict[int, float]
    n_rows: int

    @property
    def alert_kinds(self) -> list[str]:
        """Kinds with an alert, each once, in the order of the rows."""
        found = self.rows.filter("is_alert")["kind"]
        return found.unique(maintain_order=True).to_list()

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        shares = {str(segment): share for segment, share in self.shares.items()}
        return {**asdict(self), "rows": self.rows.to_dicts(), "shares": shares}


def measure_drift(
    reference: DriftReference,
    X: FloatArray,
    segments: IntArray,
    errors: FloatArray | None = None,
    *,
    previous_shares: Mapping[int, float] | None = None,
    names: Mapping[int, str] | None = None,
    options: DriftOptions = CALIBRATED,
    seed: int = 0,
) -> DriftReport:
    """Compare a month with the training month.

    Parameters
    ----------
    reference : DriftReference
    X : ndarray of float64, shape (n_rows, n_features)
        The month's features, in the reference's order; NaN where unknown.
    segments : ndarray of int, shape (n_rows,)
        Segments of the same model; -1 for none.
    errors : ndarray of float64, shape (n_rows,), optional
        Reconstruction errors; not compared where either side has none.
    previous_shares : mapping of int to float, optional
        Shares of the month before, by the same model; None: not compared with.
    names : mapping of int to str, optional
        Names of segments by id, for the sentences; where there is none, the id.
    options : DriftOptions
    seed : int
        Of the calibration.

    Raises
    ------
    ModelError
        If the month has no rows, or does not fit the reference.
    """
    month = checked_rows(MonthRows(X, segments, errors), len(reference.names))
    pairs, shares = reference.columns(month), segment_shares(month.segments)
    measured = measure_columns(pairs)
    measured |= share_changes(shares, reference.shares, "difference")
    if previous_shares is not None:
        measured |= share_changes(shares, previous_shares, "step")
    limits = drift_limits(reference, pairs, list(measured), len(month.X), options, seed)
    rows = [(*k, value, limits[k], value > limits[k]) for k, value in measured.items()]
    table = pl.DataFrame(rows, schema=DRIFT_ROWS, orient="row")
    before = {"difference": reference.shares, "step": previous_shares or {}}
    alerts = _in_words(table, shares, before, names or {})
    return DriftReport(table, alerts, shares, len(month.X))


def _in_words(
    table: pl.DataFrame,
    now: Mapping[int, float],
    before: Mapping[str, Mapping[int, float]],
    names: Mapping[int, str],
) -> list[str]:
    """Return a sentence per kind and name with an alert, the clearest first of a kind.

    `before` has the shares that a ``difference`` and a ``step`` were measured from.
    """
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in table.filter("is_alert").iter_rows(named=True):
        found.setdefault((row["kind"], row["name"]), []).append(row)
    kinds = list(dict.fromkeys(kind for kind, _ in found))

    def rank(place: tuple[str, str]) -> tuple[int, float]:
        clearest = max(row["value"] / row["threshold"] for row in found[place])
        return kinds.index(place[0]), -clearest

    return [
        _of_column(*place, found[place])
        if place[0] in {"feature", "reconstruction"}
        else _of_share(*place, found[place], now, before, names)
        for place in sorted(found, key=rank)
    ]


_NAMES = {"psi": "PSI", "ks": "Kolmogorov-Smirnov"}


def _of_column(kind: str, name: str, rows: list[dict[str, Any]]) -> str:
    """Say how a distribution moved."""
    what = f"`{name}`" if kind == "feature" else f"the {name}"
    found = [
        f"{_NAMES[row['statistic']]} {row['value']:.2g}, above {row['threshold']:.2g}"
        for row in rows
    ]
    return f"{what} moved: " + "; ".join(found)


def _of_share(
    kind: str,
    name: str,
    rows: list[dict[str, Any]],
    now: Mapping[int, float],
    before: Mapping[str, Mapping[int, float]],
    names: Mapping[int, str],
) -> str:
    """Say how a share changed, and since when."""
    segment = NOISE if kind == "unassigned" else int(name)
    named = f"segment {segment}" + (f' "{names[segment]}"' if segment in names else "")
    what = "the unassigned hold" if segment == NOISE else f"{named} holds"
    changes = []
    for row in rows:
        statistic, points, limit = row["statistic"], row["value"], row["threshold"]
        when = "in training" if statistic == "difference" else "the month before"
        share = before[statistic].get(segment, 0.0)
        changes.append(
            f"{share:.1%} {when} ({100 * points:.1f} points, above {100 * limit:.1f})"
        )
    return f"{what} {now.get(segment, 0.0):.1%}, after " + "; ".join(changes)
