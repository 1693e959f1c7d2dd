"""One row explained: why it is in its segment, and what would move it."""

from __future__ import annotations

import numpy as np
import polars as pl

from core.models.centroids import FloatArray, IntArray
from core.segments.explain import Explanation, explain
from core.tabular.assign import TableAssigner
from core.tabular.files import AXIS

MAX_COMPARED = 20_000
"""Rows that typical ranges are taken from; more would not move them."""


def explain_row(
    assigner: TableAssigner, table: pl.DataFrame, row: int, entity_id: str
) -> Explanation:
    """Explain where a row stands among others.

    Only numbers are moved: no row comes half of the way from one level to another.

    Parameters
    ----------
    assigner : TableAssigner
    table : DataFrame
        The row among those to compare it with.
    row : int
        Its place.
    entity_id : str
        What messages call it.

    Raises
    ------
    FeatureMismatchError
        If a column is missing that the segments were learnt from.
    """
    encoding = assigner.encoding
    encoded = encoding.encode(table)
    start = encoding.matrix(encoded[row])[0]
    others = encoded
    if table.height > MAX_COMPARED:
        step = table.height / MAX_COMPARED
        others = encoded[np.unique((np.arange(MAX_COMPARED) * step).astype(int))]
    X = encoding.matrix(others)

    def assign(points: FloatArray) -> IntArray:
        rows = pl.DataFrame(points, schema=encoding.features, orient="row")
        return assigner.model.assign(rows)[AXIS].labels

    own = assigner.model.assign(encoded[row])[AXIS]
    runner_up = int(own.runner_up[0])
    levels = [f for p in encoding.columns if p.kind == "category" for f in p.features]
    placed = {
        "segment": int(own.labels[0]),
        "segment_kind": assigner.axis.report["kind"],
        "nearest_segment": None if runner_up < 0 else runner_up,
        "distance": None if runner_up < 0 else float(own.runner_up_distances[0]),
    }
    return explain(
        entity_id,
        start,
        placed,
        X,
        assign(X),
        encoding.features,
        assigner.axis.names,
        assign,
        levels,
    )
