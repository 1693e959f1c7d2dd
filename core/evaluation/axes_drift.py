"""Drift of the customers of a run: their features, and the shares of the segments.

A stationary run shall alert in at most 5% of all cases, *over everything together*.
Half of that is the features': `core.evaluation.drift` draws its limits for them by lot.
The other half is the shares of the segments of all axes. A share s differs between n
and m customers by chance with the standard deviation sqrt(s (1 - s) (1/n + 1/m)); the
limit is the normal quantile of the level divided by the number of shares (Bonferroni),
and never below `SHARE_SHIFT`, since with many customers a change that does not matter
would alert.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from core.artifacts.arrays import load_arrays, save_arrays
from core.errors import ArtifactError
from core.evaluation.drift import DRIFT_ROWS, DriftOptions, measure_drift
from core.evaluation.drift_reference import DriftReference, segment_shares
from core.segments.axes import OUTSIDE, Labels, Names

LEVEL = 0.05
SHARE_SHIFT = 0.05
# Customers whose features are kept. Between two samples of as many, chance moves PSI by
# some 0.005 and Kolmogorov-Smirnov by some 0.03, well below the floors of 0.04 and 0.08
# of `core.evaluation.drift`; 10,000 take more than twice the time.
MAX_ROWS = 4_000
FEATURES = "features"
AXES_DRIFT_ROWS: Final[dict[str, Any]] = {
    "axis": pl.String,
    **DRIFT_ROWS,
    "before": pl.Float64,
    "now": pl.Float64,
}
"""Columns of the drift of a run.

``axis``
    ``features`` for a feature.
``kind``, ``name``, ``statistic``
    ``feature``, its name, and ``psi`` or ``ks``; or ``share``, a segment by its name,
    and ``difference``.
``value``, ``threshold``, ``is_alert``
    The size, the largest that is no alert, and whether it is above.
``before``, ``now``
    The shares themselves, of all customers whom the axis looks at; null for features.
"""
Shares = dict[str, dict[int, float]]


@dataclass(frozen=True)
class AxesDrift:
    """What later runs of one model are compared with.

    Attributes
    ----------
    features : DriftReference
        Features of at most `MAX_ROWS` customers that the axes were learnt on.
    shares : dict of axis to dict of int to float
        Share of each segment among those whom the axis looks at; -1 is not placed.
    n_customers : int
        All of them.
    n_inside : dict of axis to int
        How many an axis looks at, where that is not all.
    """

    features: DriftReference
    shares: Shares
    n_customers: int
    n_inside: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls, table: pl.DataFrame, names: Sequence[str], labels: Labels, seed: int
    ) -> Self:
        """Keep what the model was learnt on.

        Parameters
        ----------
        table : DataFrame
            With the features `names`, a row per customer.
        names : sequence of str
            Numeric columns.
        labels : mapping of axis to ndarray of int64, shape (n_customers,)
            Segments of the same customers; -1 for none.
        seed : int
            Draws the customers that are kept.
        """
        rng = np.random.default_rng(seed)
        kept = np.sort(rng.permutation(table.height)[:MAX_ROWS])
        X = _matrix(table[kept], names)
        reference = DriftReference.of(X, names, _no_segment(X), seed=seed)
        inside = {axis: _inside(ids) for axis, ids in labels.items()}
        shares = {axis: segment_shares(ids) for axis, ids in inside.items()}
        fewer = {a: len(ids) for a, ids in inside.items() if len(ids) < table.height}
        return cls(reference, shares, table.height, fewer)

    def measure(
        self, table: pl.DataFrame, labels: Labels, names: Names, seed: int
    ) -> tuple[pl.DataFrame, list[str]]:
        """Compare a run with what the model was learnt on.

        Parameters
        ----------
        table : DataFrame
            The run's features.
        labels : mapping of axis to ndarray of int64
            Where the same model places its customers.
        names : mapping of axis to mapping of id to name
            Of the model's segments.
        seed : int
            Of the calibration.

        Returns
        -------
        rows : DataFrame
            Columns `AXES_DRIFT_ROWS`.
        alerts : list of str
            In words, the features' first.
        """
        X = _matrix(table, self.features.names)
        options = DriftOptions(level=LEVEL / 2)
        report = measure_drift(
            self.features, X, _no_segment(X), options=options, seed=seed
        )
        own = report.rows.filter(kind="feature").select(
            pl.lit(FEATURES).alias("axis"), *DRIFT_ROWS
        )
        shares = self._share_rows(labels, names)
        alerts = [_in_words(row) for row in shares.filter("is_alert").to_dicts()]
        rows = pl.concat([own, shares], how="diagonal").select(list(AXES_DRIFT_ROWS))
        return rows, [*report.alerts, *alerts]

    def _share_rows(self, labels: Labels, names: Names) -> pl.DataFrame:
        """Return how the share of every segment changed."""
        rows = []
        for axis, before in self.shares.items():
            ids = _inside(labels[axis])
            now = segment_shares(ids)
            for i in sorted({*before, *now}):
                pair = before.get(i, 0.0), now.get(i, 0.0)
                said = names.get(axis, {}).get(i, str(i))
                n_before = self.n_inside.get(axis, self.n_customers)
                rows.append((axis, said, *pair, max(n_before, 1), max(len(ids), 1)))
        told = []
        for axis, name, before_share, share, n_before, n in rows:
            limit = share_limit(before_share, n_before, n, len(rows))
            value = abs(share - before_share)
            fixed = (axis, "share", name, "difference", value, limit, value > limit)
            told.append((*fixed, before_share, share))
        return pl.DataFrame(told, schema=AXES_DRIFT_ROWS, orient="row")

    def save(self, path: Path) -> None:
        """Write everything as one safetensors file."""
        arrays, meta = self.features.get_state()
        shares = {
            axis: {str(i): share for i, share in own.items()}
            for axis, own in self.shares.items()
        }
        known = {"features": meta, "shares": shares, "n_customers": self.n_customers}
        if self.n_inside:
            known["n_inside"] = self.n_inside
        save_arrays(path, arrays, known)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        ArtifactError
            If the file is not such a file.
        """
        arrays, meta = load_arrays(path)
        try:
            shares = {
                axis: {int(i): float(share) for i, share in own.items()}
                for axis, own in meta["shares"].items()
            }
            return cls(
                DriftReference.from_state(arrays, meta["features"]),
                shares,
                int(meta["n_customers"]),
                {axis: int(n) for axis, n in meta.get("n_inside", {}).items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(
                f"`{path}` does not hold what the drift is measured from ({error}). "
                "Learn the model again with `--retrain always`."
            ) from None


def share_limit(share: float, n_before: int, n: int, n_shares: int) -> float:
    """Return the largest change of a share that is no alert; see the module.

    Parameters
    ----------
    share : float
        Before, 0 to 1.
    n_before, n : int
        Customers then and now.
    n_shares : int
        Shares that are looked at together.
    """
    z = NormalDist().inv_cdf(1 - LEVEL / 4 / max(n_shares, 1))
    # Of a segment that nobody was in, one customer is the least known of it.
    s = min(max(share, 1 / n_before), 1.0)
    return max(SHARE_SHIFT, z * math.sqrt(s * (1 - s) * (1 / n_before + 1 / n)))


def _matrix(table: pl.DataFrame, names: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return features as numbers, NaN where unknown."""
    columns = [pl.col(name).cast(pl.Float64).fill_null(np.nan) for name in names]
    return table.select(columns).to_numpy()


def _no_segment(X: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return labels for a comparison of features alone."""
    return np.zeros(len(X), dtype=np.int64)


def _inside(ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the segments of those whom an axis looks at."""
    return np.asarray(ids[ids != OUTSIDE])


def _in_words(row: Mapping[str, Any]) -> str:
    """Say how a segment's share changed."""
    return (
        f"{row['axis']}: `{row['name']}` holds {row['now']:.1%}, after "
        f"{row['before']:.1%} when the axis was learnt ({100 * row['value']:.1f} "
        f"points, above {100 * row['threshold']:.1f})"
    )
