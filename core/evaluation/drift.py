"""Drift of features and segments beyond what chance does.

How they are found is told in `core.evaluation.drift`.

A month is compared with the *reference*, rows of the training month, in

- the distribution of every feature, and of the reconstruction error (what the encoder
  cannot restore is unlike what it has learnt): PSI and Kolmogorov-Smirnov
  (`core.evaluation.drift_reference`);
- the share of the unassigned, and of every segment, each against the training month
  and against the month before.

A textbook limit (PSI 0.25) is too low for 50 shops and too high for 50,000. With
``calibrated`` thresholds, pairs of samples of the two sizes are drawn from the
reference itself, with replacement and whole rows at a time, so that dependent features
stay dependent. All statistics are put on one scale by their mean and standard deviation
over the pairs (PSI by its square root, whose tail is like the others'), and the limit
is the ``1 - level`` quantile of the *largest* (max-T: Westfall and Young, 1993):
of the months that differ from the training month by chance only, 5% alert, *over
everything together*. Features of the same entities overlap from month to month, which
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
from typing import Any, Literal

import numpy as np
import polars as pl

from core.evaluation import drift_reference
from core.evaluation.quality import NOISE, FloatArray, IntArray

Thresholds = Literal["calibrated", "fixed"]
# They place the limit between the levels of 4% and 6% or so.
N_SAMPLES = 400
FIXED = {"psi": 0.25, "ks": 0.1}
FLOORS = {"psi": 0.04, "ks": 0.08}


@dataclass(frozen=True)
class DriftOptions:
    """Thresholds of drift alerts.

    Attributes
    ----------
    thresholds : {'calibrated', 'fixed'}
        'fixed': PSI 0.25, Kolmogorov-Smirnov 0.1 and `share_shift`, whatever the size.
    share_shift : float
        Least change of a share that alerts, 0 to 1.
    level : float
        Most stationary months that may alert, as a share; of calibrated thresholds.
    """

    thresholds: Thresholds = "calibrated"
    share_shift: float = 0.05
    level: float = 0.05


def drift_limits(
    reference: drift_reference.DriftReference,
    pairs: Mapping[tuple[str, str], drift_reference.ColumnPair],
    keys: list[drift_reference.Key],
    n_rows: int,
    options: DriftOptions,
    seed: int,
) -> dict[drift_reference.Key, float]:
    """Return the largest value of each statistic that is no alert.

    Parameters
    ----------
    reference : DriftReference
    pairs : mapping of (kind, name) to a pair of columns
        `DriftReference.columns` of the month.
    keys : list of Key
        Statistics that were measured.
    n_rows : int
        Rows of the month.
    options : DriftOptions
    seed : int
        Draws the samples.
    """
    if options.thresholds == "fixed":
        return {key: FIXED.get(key[2], options.share_shift) for key in keys}
    samples = null_samples(reference, pairs, n_rows, seed)
    measured = {key: samples[key] for key in keys if key in samples}
    chance = _max_t_limits(measured, options.level)
    limits = {}
    for key in keys:
        floor = FLOORS.get(key[2], options.share_shift)
        limit = max(chance.get(key, 0.0), floor)
        limits[key] = _beyond(key, limit, reference.usual)
    return limits


def _beyond(
    key: drift_reference.Key, limit: float, usual: Mapping[drift_reference.Key, float]
) -> float:
    """Return the limit of what comes on top of a usual difference.

    Distances add up at most (triangle inequality); PSI, the square of one as long as it
    is small, does by its root.
    """
    kind, name, statistic = key
    # A month may also be as far from the month before as it is from training.
    known = "difference" if statistic == "step" else statistic
    excess = usual.get((kind, name, known), 0.0)
    if not excess:
        return limit
    power = _power(key)
    return float((limit**power + excess**power) ** (1 / power))


def null_samples(
    reference: drift_reference.DriftReference,
    pairs: Mapping[tuple[str, str], drift_reference.ColumnPair],
    n_rows: int,
    seed: int,
) -> dict[drift_reference.Key, FloatArray]:
    """Return every statistic of pairs of samples that differ by chance only.

    The month before is taken to have had as many rows as the month. Samples of more
    than 10,000 rows are not needed: even those stay below all floors. Of n rows,
    n - sqrt(n) are drawn: the reference is a sample, too, and knows its own spread the
    worse the smaller it is. With 100 rows, 8% instead of 5% of simulated months alerted
    without.
    """
    rng = np.random.default_rng(seed)
    n_kept = len(reference.X)
    sizes = (
        n_kept,
        min(n_rows, drift_reference.MAX_ROWS),
        min(n_rows, drift_reference.MAX_ROWS),
    )
    drawn = [max(size - round(size**0.5), 1) for size in sizes]
    before, now, previous = (_draw_counts(n_kept, size, rng) for size in drawn)
    samples: dict[drift_reference.Key, FloatArray] = {}
    for place, (column, _) in pairs.items():
        psi, samples[*place, "ks"] = column.compare_samples(before, now)
        samples[*place, "psi"] = psi
    ids = sorted(set(reference.segments.tolist()))
    shares = [
        drift_reference.share_samples(reference.segments, ids, x)
        for x in (before, now, previous)
    ]
    for i, own_before, own_now, own_previous in zip(ids, *shares, strict=True):
        samples[*drift_reference.share_place(i), "difference"] = np.abs(
            own_now - own_before
        )
        samples[*drift_reference.share_place(i), "step"] = np.abs(
            own_now - own_previous
        )
    return samples


def _draw_counts(
    n_rows: int, size: int, rng: np.random.Generator
) -> drift_reference.CountArray:
    """Return how often each row is drawn, shape (n_rows, `N_SAMPLES`)."""
    counts = [
        np.bincount(rng.integers(n_rows, size=size), minlength=n_rows)
        for _ in range(N_SAMPLES)
    ]
    return np.ascontiguousarray(np.array(counts, dtype=np.float32).T)


def _max_t_limits(
    samples: Mapping[drift_reference.Key, FloatArray], level: float
) -> dict[drift_reference.Key, float]:
    """Return the limits that only a share `level` of the samples passes anywhere."""
    values = np.array([x ** _power(key) for key, x in samples.items()])
    centre, spread = values.mean(axis=1), values.std(axis=1)
    scale = np.where(spread > 0, spread, 1.0)
    largest = ((values - centre[:, None]) / scale[:, None]).max(axis=0)
    limit = np.quantile(largest, 1 - level, method="higher")
    limits = np.maximum(centre + limit * spread, 0.0)
    return {
        key: float(own ** (1 / _power(key)))
        for key, own in zip(samples, limits, strict=True)
    }


def _power(key: drift_reference.Key) -> float:
    """Return the power that gives a statistic a tail like a normal's."""
    return 0.5 if key[2] == "psi" else 1.0


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
    reference: drift_reference.DriftReference,
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
    month = drift_reference.checked_rows(
        drift_reference.MonthRows(X, segments, errors), len(reference.names)
    )
    pairs, shares = (
        reference.columns(month),
        drift_reference.segment_shares(month.segments),
    )
    measured = drift_reference.measure_columns(pairs)
    measured |= drift_reference.share_changes(shares, reference.shares, "difference")
    if previous_shares is not None:
        measured |= drift_reference.share_changes(shares, previous_shares, "step")
    limits = drift_limits(reference, pairs, list(measured), len(month.X), options, seed)
    rows = [(*k, value, limits[k], value > limits[k]) for k, value in measured.items()]
    table = pl.DataFrame(rows, schema=DRIFT_ROWS, orient="row")
    before = {"difference": reference.shares, "step": previous_shares or {}}
    alerts = _alert_sentences(table, shares, before, names or {})
    return DriftReport(table, alerts, shares, len(month.X))


def _alert_sentences(
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
        _column_sentence(*place, found[place])
        if place[0] in {"feature", "reconstruction"}
        else _share_sentence(*place, found[place], now, before, names)
        for place in sorted(found, key=rank)
    ]


_NAMES = {"psi": "PSI", "ks": "Kolmogorov-Smirnov"}


def _column_sentence(kind: str, name: str, rows: list[dict[str, Any]]) -> str:
    """Say how a distribution moved."""
    what = f"`{name}`" if kind == "feature" else f"the {name}"
    found = [
        f"{_NAMES[row['statistic']]} {row['value']:.2g}, limit {row['threshold']:.2g}"
        for row in rows
    ]
    return f"{what} differs from training: " + "; ".join(found)


def _share_sentence(
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
    what = "the unassigned are" if segment == NOISE else f"{named} holds"
    changes = []
    for row in rows:
        statistic, points, limit = row["statistic"], row["value"], row["threshold"]
        when = "in training" if statistic == "difference" else "the month before"
        share = before[statistic].get(segment, 0.0)
        changes.append(
            f"{_percent(share)}% {when} (changed by {_percent(points)} points, "
            f"limit {_percent(limit)})"
        )
    held = _percent(now.get(segment, 0.0))
    return f"{what} {held}%; it was " + "; ".join(changes)


def _percent(value: float) -> str:
    """Return a share in percent, with two significant digits from 1% on."""
    return f"{100 * value:.{0 if abs(value) >= 0.0995 else 1}f}"
