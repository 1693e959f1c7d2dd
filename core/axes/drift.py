"""Whether new orders have moved away from what the axes were learnt on.

`core.evaluation.drift` compares one segmentation at a time, and there are up to 13. The
features are one comparison, the segment shares of each axis are another. A stationary
run shall alert in at most 5% of all cases, *over everything together*: half of that is
the features', and the axes share the other half evenly (Bonferroni; customers are the
same on all axes, so the rate is an upper bound).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from core.arrays import load_arrays, save_arrays
from core.axes.moves import Labels
from core.evaluation.drift import (
    DRIFT_ROWS,
    DriftOptions,
    DriftReference,
    measure_drift,
)

LEVEL = 0.05
FEATURES = "features"
AXES_DRIFT_ROWS: Final[dict[str, Any]] = {
    "axis": pl.String,
    **DRIFT_ROWS,
    "before": pl.Float64,
    "now": pl.Float64,
}
Names = Mapping[str, Mapping[int, str]]


@dataclass(frozen=True)
class AxesDrift:
    """What later runs of one model are compared with.

    Attributes
    ----------
    features : DriftReference
        Features of at most 10,000 customers that the axes were learnt on.
    shares : dict of axis to DriftReference
        The segments of theirs.
    """

    features: DriftReference
    shares: dict[str, DriftReference]

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
        n = table.height
        rng = np.random.default_rng(seed)
        # Before `DriftReference` sorts all rows by all columns; shares are exact.
        kept = np.sort(rng.permutation(n)[:MAX_ROWS])
        X = _matrix(table[kept], names)
        none = np.zeros(len(X), dtype=np.int64)
        shares = {
            axis: DriftReference.of(np.empty((n, 0)), (), ids, seed=seed)
            for axis, ids in labels.items()
        }
        return cls(DriftReference.of(X, names, none, seed=seed), shares)

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
            Columns `AXES_DRIFT_ROWS`: those of `core.evaluation.drift.DriftReport`,
            with ``axis`` (``features`` for these), segments by name, and the shares
            ``before`` and ``now`` (null for features).
        alerts : list of str
            In words, the features' first.
        """
        X = _matrix(table, self.features.names)
        none = np.zeros(len(X), dtype=np.int64)
        level = LEVEL / 2
        report = measure_drift(
            self.features, X, none, options=DriftOptions(level=level), seed=seed
        )
        own = report.rows.filter(pl.col("kind") == "feature").with_columns(
            pl.lit(FEATURES).alias("axis"),
            pl.lit(None, dtype=pl.Float64).alias("before"),
            pl.lit(None, dtype=pl.Float64).alias("now"),
        )
        parts, alerts = [own.select(list(AXES_DRIFT_ROWS))], list(report.alerts)
        for axis, reference in self.shares.items():
            rows = _share_rows(
                axis, reference, labels[axis], level / len(self.shares), seed
            )
            said = rows.with_columns(_said(rows["name"], names.get(axis, {})))
            parts.append(said)
            alerts += [_in_words(row) for row in said.to_dicts() if row["is_alert"]]
        return pl.concat(parts), alerts

    def save(self, path: Path) -> None:
        """Write everything as one safetensors file."""
        arrays: dict[str, npt.NDArray[Any]] = {}
        metas = {}
        for key, reference in {FEATURES: self.features, **self.shares}.items():
            own, metas[key] = reference.get_state()
            arrays |= {f"{key}/{name}": array for name, array in own.items()}
        save_arrays(path, arrays, {"references": metas})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        ArtifactError
            If the file is not such a file.
        """
        arrays, meta = load_arrays(path)
        found = {}
        for key, own in meta["references"].items():
            prefix = f"{key}/"
            mine = {
                name.removeprefix(prefix): array
                for name, array in arrays.items()
                if name.startswith(prefix)
            }
            found[key] = DriftReference.from_state(mine, own)
        features = found.pop(FEATURES)
        return cls(features, found)


MAX_ROWS = 10_000


def _matrix(table: pl.DataFrame, names: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return features as numbers, NaN where unknown."""
    columns = table.select(
        pl.col(name).cast(pl.Float64).fill_null(np.nan) for name in names
    )
    return columns.to_numpy()


def _share_rows(
    axis: str,
    reference: DriftReference,
    ids: npt.NDArray[np.int64],
    level: float,
    seed: int,
) -> pl.DataFrame:
    """Return how the shares of one axis changed, with both of them."""
    options = DriftOptions(level=level)
    report = measure_drift(
        reference, np.empty((len(ids), 0)), ids, options=options, seed=seed
    )
    keys = [-1 if name == "unassigned" else int(name) for name in report.rows["name"]]
    before = [reference.shares.get(key, 0.0) for key in keys]
    now = [report.shares.get(key, 0.0) for key in keys]
    return report.rows.with_columns(
        pl.lit(axis).alias("axis"),
        pl.Series("before", before, dtype=pl.Float64),
        pl.Series("now", now, dtype=pl.Float64),
    ).select(list(AXES_DRIFT_ROWS))


def _said(ids: pl.Series, names: Mapping[int, str]) -> pl.Series:
    """Return segments by their names."""
    known = {str(i): name for i, name in names.items()}
    return ids.replace({**known, "unassigned": names.get(-1, "unassigned")})


def _in_words(row: Mapping[str, Any]) -> str:
    """Say how a segment's share changed."""
    return (
        f"{row['axis']}: `{row['name']}` holds {row['now']:.1%}, after "
        f"{row['before']:.1%} when the axis was learnt ({100 * row['value']:.1f} "
        f"points, above {100 * row['threshold']:.1f})"
    )
