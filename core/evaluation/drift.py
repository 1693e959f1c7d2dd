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
`share_shift`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from core.errors import ArtifactError, ModelError, listed
from core.evaluation.distances import CountArray, ReferenceColumn, share_samples
from core.evaluation.quality import NOISE, FloatArray, IntArray

Thresholds = Literal["calibrated", "fixed"]
MAX_ROWS = 10_000
# The 95% quantile of the largest statistic is known to within 1% of the level by them.
N_SAMPLES = 400
FIXED = {"psi": 0.25, "ks": 0.1}
FLOORS = {"psi": 0.04, "ks": 0.08}
RECONSTRUCTION = "reconstruction error"
DRIFT_ROWS: dict[str, Any] = {
    "kind": pl.String,
    "name": pl.String,
    "statistic": pl.String,
    "value": pl.Float64,
    "threshold": pl.Float64,
    "is_alert": pl.Boolean,
}
# Kind, name and statistic of a row.
Key = tuple[str, str, str]


@dataclass(frozen=True)
class DriftOptions:
    """What counts as an alert.

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


@dataclass(frozen=True)
class DriftReference:
    """What months are compared with: rows of the training month.

    Attributes
    ----------
    names : tuple of str
        The features.
    X : ndarray of float64, shape (n_kept, n_features)
        Their values, unscaled; NaN where unknown. In an order of their own.
    segments : ndarray of int64, shape (n_kept,)
        Segment of each row; -1 for none.
    errors : ndarray of float64, shape (n_kept,), or None
        Reconstruction errors.
    shares : dict of int to float
        Share of every segment among all rows of the training month.
    n_rows : int
        All rows of the training month, at least `n_kept`.
    """

    names: tuple[str, ...]
    X: FloatArray
    segments: IntArray
    errors: FloatArray | None
    shares: dict[int, float] = field(repr=False)
    n_rows: int

    @classmethod
    def of(
        cls,
        X: FloatArray,
        names: Sequence[str],
        segments: IntArray,
        errors: FloatArray | None = None,
        *,
        seed: int = 0,
        max_rows: int = MAX_ROWS,
    ) -> Self:
        """Keep what later months are compared with.

        Parameters
        ----------
        X : ndarray of float64, shape (n_rows, n_features)
            Features as prepared, not scaled; NaN where unknown.
        names : sequence of str
            Of the features.
        segments : ndarray of int, shape (n_rows,)
            As the model gives them; -1 for none.
        errors : ndarray of float64, shape (n_rows,), optional
            Mean squared reconstruction error per row.
        seed : int
            Draws the rows that are kept; the order of the rows plays no part.
        max_rows : int, default 10,000
            Rows kept of a larger table.

        Raises
        ------
        ModelError
            If the table is empty, or shapes or values do not fit.
        """
        X, segments, errors = _checked(X, segments, errors, len(names))
        shares = segment_shares(segments)
        # One order for one set of rows: equal rows may change places unnoticed.
        last = np.zeros(len(X)) if errors is None else errors
        order = np.lexsort((last, segments, *X.T))
        if len(order) > max_rows:
            rng = np.random.default_rng(seed)
            order = order[np.sort(rng.choice(len(order), max_rows, replace=False))]
        kept = None if errors is None else errors[order]
        return cls(tuple(names), X[order], segments[order], kept, shares, len(X))

    def get_state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Return the rows as named arrays, and the rest as JSON-able values."""
        arrays: dict[str, npt.NDArray[Any]] = {
            "X": self.X,
            "segments": self.segments,
            "share_ids": np.array(list(self.shares), dtype=np.int64),
            "share_values": np.array(list(self.shares.values())),
        }
        if self.errors is not None:
            arrays["errors"] = self.errors
        return arrays, {"names": list(self.names), "n_rows": self.n_rows}

    @classmethod
    def from_state(
        cls, arrays: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]
    ) -> Self:
        """Return the reference that `get_state` took apart.

        Raises
        ------
        ArtifactError
            If something is missing or does not fit together.
        """
        needed = ("X", "segments", "share_ids", "share_values")
        missing = [name for name in needed if name not in arrays]
        missing += [name for name in ("names", "n_rows") if name not in meta]
        if missing:
            raise _unusable(f"it lacks {listed(missing)}")
        ids, values = arrays["share_ids"], arrays["share_values"]
        names, n_rows = meta["names"], meta["n_rows"]
        try:
            X, segments, errors = _checked(
                arrays["X"], arrays["segments"], arrays.get("errors"), len(names)
            )
            shares = {int(i): float(v) for i, v in zip(ids, values, strict=True)}
        except (ModelError, TypeError, ValueError) as error:
            raise _unusable(str(error)) from None
        if type(n_rows) is not int or n_rows < len(X):
            raise _unusable(f"`n_rows` is {n_rows!r}; expected {len(X)} or more")
        return cls(tuple(names), X, segments, errors, shares, n_rows)


def measure_drift(
    reference: DriftReference,
    X: FloatArray,
    segments: IntArray,
    errors: FloatArray | None = None,
    *,
    previous_shares: Mapping[int, float] | None = None,
    options: DriftOptions = DriftOptions(),
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
    options : DriftOptions
    seed : int
        Of the calibration.

    Raises
    ------
    ModelError
        If the month has no rows, or does not fit the reference.
    """
    X, segments, errors = _checked(X, segments, errors, len(reference.names))
    pairs = _columns(reference, X, errors)
    shares = segment_shares(segments)
    measured = _measure_columns(pairs)
    measured |= _share_changes(shares, reference.shares, "difference")
    if previous_shares is not None:
        measured |= _share_changes(shares, previous_shares, "step")
    limits = {key: _floor(key, options) for key in measured}
    if options.thresholds == "calibrated":
        samples = _null_samples(reference, pairs, measured, len(X), seed)
        chance = _max_t_limits(samples, options.level)
        limits = {key: max(limits[key], chance.get(key, 0.0)) for key in measured}
    rows = [(*key, value, limits[key]) for key, value in measured.items()]
    table = pl.DataFrame(
        [(*row, row[3] > row[4]) for row in rows], schema=DRIFT_ROWS, orient="row"
    )
    before = reference.shares, previous_shares or {}
    return DriftReport(table, _in_words(table, shares, *before), shares, len(X))


def segment_shares(segments: IntArray) -> dict[int, float]:
    """Return the share of rows in each segment there is, by id; -1: unassigned."""
    ids, counts = np.unique(segments, return_counts=True)
    return {
        int(i): n / len(segments) for i, n in zip(ids, counts.tolist(), strict=True)
    }


def _checked(
    X: Any, segments: Any, errors: Any, n_features: int
) -> tuple[FloatArray, IntArray, FloatArray | None]:
    """Return the three arrays of a month, or say why they cannot be compared."""
    X, segments = np.asarray(X, dtype=np.float64), np.asarray(segments)
    if X.ndim != 2 or not len(X) or X.shape[1] != n_features:
        raise ModelError(
            f"drift is measured on a table of shape {X.shape}; expected at least one "
            f"row and {n_features} features. Pass the features of the model, in order."
        )
    if np.isinf(X).any():
        raise ModelError("a feature is infinite; expected numbers, or NaN if unknown.")
    if segments.shape != (len(X),) or segments.dtype.kind not in "iu":
        raise ModelError(
            f"`segments` has the shape {segments.shape} and the type {segments.dtype}; "
            f"expected a whole number for each of {len(X):,} rows, -1 for none."
        )
    if errors is not None:
        errors = np.asarray(errors, dtype=np.float64)
        if errors.shape != (len(X),) or not np.isfinite(errors).all():
            raise ModelError(
                f"`errors` has the shape {errors.shape}; expected a finite "
                f"reconstruction error for each of {len(X):,} rows."
            )
    return X + 0.0, segments.astype(np.int64), errors


def _unusable(finding: str) -> ArtifactError:
    """Return the error for a state that `get_state` cannot have left."""
    return ArtifactError(
        f"the saved reference of the drift is unusable: {finding}. Train the clusters "
        "again."
    )


_Pair = tuple[ReferenceColumn, FloatArray]


def _columns(
    reference: DriftReference, X: FloatArray, errors: FloatArray | None
) -> dict[tuple[str, str], _Pair]:
    """Return each column of the reference with the month's, by kind and name."""
    pairs = {
        ("feature", name): (ReferenceColumn.of(before), now)
        for name, before, now in zip(reference.names, reference.X.T, X.T, strict=True)
    }
    if errors is not None and reference.errors is not None:
        pair = ReferenceColumn.of(reference.errors), errors
        pairs["reconstruction", RECONSTRUCTION] = pair
    return pairs


def _measure_columns(pairs: Mapping[tuple[str, str], _Pair]) -> dict[Key, float]:
    """Return PSI and Kolmogorov-Smirnov of every column."""
    measured: dict[Key, float] = {}
    for place, (before, now) in pairs.items():
        measured[*place, "psi"], measured[*place, "ks"] = before.compare(now)
    return measured


def _share_changes(
    now: Mapping[int, float], before: Mapping[int, float], statistic: str
) -> dict[Key, float]:
    """Return how much the share of the unassigned and of each segment has changed."""
    ids = sorted({NOISE, *now, *before})
    return {
        (*_share_place(i), statistic): abs(now.get(i, 0.0) - before.get(i, 0.0))
        for i in ids
    }


def _share_place(segment: int) -> tuple[str, str]:
    """Return kind and name of the row of a segment's share."""
    if segment == NOISE:
        return "unassigned", "unassigned"
    return "share", str(segment)


def _floor(key: Key, options: DriftOptions) -> float:
    """Return the threshold that a row has whatever the number of rows."""
    table = FIXED if options.thresholds == "fixed" else FLOORS
    return table.get(key[2], options.share_shift)


def _null_samples(
    reference: DriftReference,
    pairs: Mapping[tuple[str, str], _Pair],
    measured: Mapping[Key, float],
    n_rows: int,
    seed: int,
) -> dict[Key, FloatArray]:
    """Return every statistic of pairs of samples that differ by chance only.

    The month before is taken to have had as many rows as the month. Samples of more
    than 10,000 rows are not needed: even those stay below all floors.
    """
    rng = np.random.default_rng(seed)
    n_kept = len(reference.X)
    sizes = n_kept, min(n_rows, MAX_ROWS), min(n_rows, MAX_ROWS)
    before, now, previous = (_draws(n_kept, size, rng) for size in sizes)
    samples: dict[Key, FloatArray] = {}
    for place, (column, _) in pairs.items():
        psi, samples[*place, "ks"] = column.compare_samples(before, now)
        samples[*place, "psi"] = psi
    ids = sorted(set(reference.segments.tolist()))
    shares = [
        share_samples(reference.segments, ids, x) for x in (before, now, previous)
    ]
    for i, own_before, own_now, own_previous in zip(ids, *shares, strict=True):
        samples[*_share_place(i), "difference"] = np.abs(own_now - own_before)
        samples[*_share_place(i), "step"] = np.abs(own_now - own_previous)
    return {key: samples[key] for key in measured if key in samples}


def _draws(n_rows: int, size: int, rng: np.random.Generator) -> CountArray:
    """Return how often each row is drawn, shape (n_rows, `N_SAMPLES`)."""
    counts = [
        np.bincount(rng.integers(n_rows, size=size), minlength=n_rows)
        for _ in range(N_SAMPLES)
    ]
    return np.ascontiguousarray(np.array(counts, dtype=np.float32).T)


def _max_t_limits(samples: Mapping[Key, FloatArray], level: float) -> dict[Key, float]:
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


def _power(key: Key) -> float:
    """Return the power that gives a statistic a tail like a normal's."""
    return 0.5 if key[2] == "psi" else 1.0


def _in_words(
    table: pl.DataFrame,
    now: Mapping[int, float],
    training: Mapping[int, float],
    previous: Mapping[int, float],
) -> list[str]:
    """Return a sentence per kind and name with an alert, the clearest first."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in table.filter("is_alert").iter_rows(named=True):
        found.setdefault((row["kind"], row["name"]), []).append(row)
    kinds = list(dict.fromkeys(kind for kind, _ in found))

    def rank(place: tuple[str, str]) -> tuple[int, float]:
        clearest = max(row["value"] / row["threshold"] for row in found[place])
        return kinds.index(place[0]), -clearest

    sentences = []
    for kind, name in sorted(found, key=rank):
        rows = found[kind, name]
        if kind in {"feature", "reconstruction"}:
            what = f"`{name}`" if kind == "feature" else f"the {name}"
            sentences.append(f"{what} moved: " + "; ".join(map(_distance, rows)))
        else:
            segment = NOISE if kind == "unassigned" else int(name)
            what = "the unassigned" if segment == NOISE else f"segment {segment}"
            before = {"difference": training, "step": previous}
            changes = [
                _share_change(row, before[row["statistic"]].get(segment, 0.0))
                for row in rows
            ]
            share = now.get(segment, 0.0)
            sentences.append(f"{what} now hold {share:.1%}: " + "; ".join(changes))
    return sentences


_NAMES = {"psi": "PSI", "ks": "Kolmogorov-Smirnov"}


def _distance(row: Mapping[str, Any]) -> str:
    """Return a distance and its limit in words."""
    name = _NAMES[row["statistic"]]
    return f"{name} {row['value']:.2g}, above {row['threshold']:.2g}"


def _share_change(row: Mapping[str, Any], before: float) -> str:
    """Return a share's change and its limit in words."""
    when = "in training" if row["statistic"] == "difference" else "the month before"
    points, limit = 100 * row["value"], 100 * row["threshold"]
    return f"{before:.1%} {when}, a change of {points:.1f} points, above {limit:.1f}"
