"""How much two axes say the same: adjusted mutual information of their segments."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import polars as pl

from core.segments.axis_model import NOWHERE, IntArray

OVERLAP_CUSTOMERS = 20_000


def axis_overlap(labels: Mapping[str, IntArray], seed: int = 0) -> pl.DataFrame:
    """Return the overlap of every two axes.

    Parameters
    ----------
    labels : mapping of str to ndarray of int, shape (n_customers,)
        Segments by axis, the same customers in the same order; -1 is not placed.
    seed : int
        Of the draw, where there are more than 20,000 customers.

    Returns
    -------
    DataFrame
        ``axis, other, ami, n_customers``, one row per pair in the axes' order. `ami` is
        1 where the segments of one axis follow from those of the other, 0 where they
        agree as much as by chance; null where one of them has a single segment. Counted
        on the customers placed on both, `n_customers`.
    """
    from sklearn.metrics import adjusted_mutual_info_score

    n = max((len(column) for column in labels.values()), default=0)
    picked = np.arange(n)
    if n > OVERLAP_CUSTOMERS:
        rng = np.random.default_rng(seed)
        picked = np.sort(rng.choice(n, OVERLAP_CUSTOMERS, replace=False))
    drawn = {axis: column[picked] for axis, column in labels.items()}
    rows = []
    for axis, other in itertools.combinations(drawn, 2):
        is_placed = (drawn[axis] != NOWHERE) & (drawn[other] != NOWHERE)
        pair = drawn[axis][is_placed], drawn[other][is_placed]
        has_several = all(len(np.unique(one)) > 1 for one in pair)
        ami = float(adjusted_mutual_info_score(*pair)) if has_several else None
        rows.append((axis, other, ami, int(is_placed.sum())))
    schema = {
        "axis": pl.String,
        "other": pl.String,
        "ami": pl.Float64,
        "n_customers": pl.Int64,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")
