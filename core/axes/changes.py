"""What differs between two runs of the axes: drift of the customers, and who moved.

**Drift.** A stationary run shall alert in at most 5% of all cases, *over everything
together*. Half of that is the features': `core.evaluation.drift` draws its limits for
them by lot. The other half is the shares of the segments of all axes. A share s differs
between n and m customers by chance with the standard deviation
sqrt(s (1 - s) (1/n + 1/m)); the limit is the normal quantile of the level divided by
the number of shares (Bonferroni), and never below `SHARE_SHIFT`, since with many
customers a change that does not matter would alert.

**Moves.** Two runs differ for two reasons, which are never added up unseen:

- ``behaviour``: the model of the run before places a customer elsewhere on the new data
  than it did on the old;
- ``model``: the new model places a customer, on the same data, elsewhere than the one
  before. Ids live on between the two, so a renumbered segment moves nobody.

A run adds one block of rows to the ledger; blocks are never rewritten. A customer who
is new, or gone, has not moved.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any, Final, Literal, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from core.artifacts.arrays import load_arrays, save_arrays
from core.errors import PROGRAM, ArtifactError
from core.evaluation.drift import DRIFT_ROWS, DriftOptions, measure_drift
from core.evaluation.drift_reference import DriftReference, segment_shares
from core.segments.transitions import moved

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
    The shares themselves, of all customers; null for features.
"""
# Segment ids by axis, one per customer, in the order of `customers`.
Labels = Mapping[str, npt.NDArray[np.int64]]
Names = Mapping[str, Mapping[int, str]]
Shares = dict[str, dict[int, float]]


@dataclass(frozen=True)
class AxesDrift:
    """What later runs of one model are compared with.

    Attributes
    ----------
    features : DriftReference
        Features of at most `MAX_ROWS` customers that the axes were learnt on.
    shares : dict of axis to dict of int to float
        Share of each segment among all of them; -1 is not placed.
    n_customers : int
        All of them.
    """

    features: DriftReference
    shares: Shares
    n_customers: int

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
        shares = {axis: segment_shares(ids) for axis, ids in labels.items()}
        return cls(reference, shares, table.height)

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
            now = segment_shares(labels[axis])
            for i in sorted({*before, *now}):
                pair = before.get(i, 0.0), now.get(i, 0.0)
                said = names.get(axis, {}).get(i, str(i))
                rows.append((axis, said, *pair, len(labels[axis])))
        z = NormalDist().inv_cdf(1 - LEVEL / 4 / max(len(rows), 1))
        told = []
        for axis, name, before_share, share, n in rows:
            # Of a segment that nobody was in, one customer is the least known of it.
            s = min(max(before_share, 1 / self.n_customers), 1.0)
            chance = z * math.sqrt(s * (1 - s) * (1 / self.n_customers + 1 / n))
            limit, value = max(SHARE_SHIFT, chance), abs(share - before_share)
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
            n_customers = int(meta["n_customers"])
            return cls(
                DriftReference.from_state(arrays, meta["features"]), shares, n_customers
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(
                f"`{path}` does not hold what the drift is measured from ({error}). "
                f"Learn the axes again with `{PROGRAM} axes --retrain always`."
            ) from None


def _matrix(table: pl.DataFrame, names: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return features as numbers, NaN where unknown."""
    columns = [pl.col(name).cast(pl.Float64).fill_null(np.nan) for name in names]
    return table.select(columns).to_numpy()


def _no_segment(X: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return labels for a comparison of features alone."""
    return np.zeros(len(X), dtype=np.int64)


def _in_words(row: Mapping[str, Any]) -> str:
    """Say how a segment's share changed."""
    return (
        f"{row['axis']}: `{row['name']}` holds {row['now']:.1%}, after "
        f"{row['before']:.1%} when the axis was learnt ({100 * row['value']:.1f} "
        f"points, above {100 * row['threshold']:.1f})"
    )


Cause = Literal["behaviour", "model"]
MOVES_SCHEMA: Final = pl.Schema(
    {
        "run": pl.Int32,
        "reference_date": pl.String,
        "version": pl.Int32,
        "customer_id": pl.String,
        "axis": pl.String,
        "old": pl.Int32,
        "new": pl.Int32,
        "old_name": pl.String,
        "new_name": pl.String,
        "cause": pl.String,
    }
)
"""Columns of a block of the ledger.

``run``
    Number of the run, from 1.
``reference_date``
    Its "now", ISO 8601.
``version``
    Of the model that placed the customer in ``new``.
``old``, ``new``, ``old_name``, ``new_name``
    Segments by id and by name; -1 where the axis did not place the customer.
``cause``
    ``behaviour`` or ``model``.
"""


def label_table(customers: pl.Series, labels: Labels) -> pl.DataFrame:
    """Return ``customer_id`` and a column of segment ids for each axis."""
    columns = [pl.Series(axis, ids, dtype=pl.Int32) for axis, ids in labels.items()]
    return pl.DataFrame([customers.alias("customer_id"), *columns])


def moves_between(
    before: pl.DataFrame, after: pl.DataFrame, cause: Cause
) -> pl.DataFrame:
    """Return the customers whose segment differs, axis by axis.

    Parameters
    ----------
    before, after : DataFrame
        From `label_table`. Customers and axes of only one of them are left out.
    cause : {'behaviour', 'model'}
        What differs between the two.

    Returns
    -------
    DataFrame
        ``customer_id``, ``axis``, ``old``, ``new``, ``cause``; by axis, then customer.
    """
    axes = [name for name in after.columns[1:] if name in before.columns]
    keys = ("customer_id", "axis", "old", "new", "cause")
    empty = pl.DataFrame(schema={name: MOVES_SCHEMA[name] for name in keys})
    rows = [
        moved(before, after, "customer_id", axis).with_columns(
            axis=pl.lit(axis), cause=pl.lit(cause)
        )
        for axis in axes
    ]
    return pl.concat([empty, *(row.select(keys).cast(empty.schema) for row in rows)])


def ledger_block(
    moves: pl.DataFrame,
    names: Mapping[str, Mapping[int, str]],
    *,
    run: int,
    reference_date: str,
    version: int,
) -> pl.DataFrame:
    """Return moves with their names, ready for the ledger.

    Parameters
    ----------
    moves : DataFrame
        Of `moves_between`, one or more.
    names : mapping of axis to mapping of id to name
        Of all segments before and after.
    run, reference_date, version
        See `MOVES_SCHEMA`.
    """
    said = pl.DataFrame(
        [(axis, i, name) for axis, known in names.items() for i, name in known.items()],
        schema={"axis": pl.String, "id": pl.Int32, "name": pl.String},
        orient="row",
    )
    named = moves
    for side in ("old", "new"):
        own = said.rename({"id": side, "name": f"{side}_name"})
        named = named.join(own, on=["axis", side], how="left", maintain_order="left")
    heads = {"run": run, "reference_date": reference_date, "version": version}
    return named.with_columns(
        pl.lit(value).alias(key) for key, value in heads.items()
    ).select(pl.col(name).cast(dtype) for name, dtype in MOVES_SCHEMA.items())


def move_counts(block: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """Return how many customers moved by cause, for each axis with any."""
    counts = block.group_by("axis", "cause").len().sort("axis", "cause")
    found: dict[str, dict[str, Any]] = {}
    for axis, cause, n in counts.iter_rows():
        found.setdefault(axis, {})[cause] = n
    return found
