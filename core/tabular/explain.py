"""One row explained: why it is in its segment, and what would move it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from core.artifacts.reading import ArtifactSet, read_published
from core.errors import ConfigError, did_you_mean
from core.models.centroids import FloatArray, IntArray
from core.reporting.page import Templates
from core.segments.explain import UNASSIGNED, Explanation, explain
from core.segments.memberships import nothing_published
from core.tabular.assign import TableAssigner
from core.tabular.files import AXIS, FILES, ROWS
from core.tabular.rows import ID

TEMPLATES = Templates(Path(__file__).parent / "templates")
MAX_COMPARED = 20_000
"""Rows that typical ranges are taken from; more would not move them."""
MAX_IDS = 100_000
"""Ids that are searched for one that looks like the one asked for."""


def explain_row(
    assigner: TableAssigner, table: pl.DataFrame, row: int, entity_id: str
) -> Explanation:
    """Explain where a row stands among others.

    Only numbers are moved, and none that has a value that stands for itself: no row
    comes half of the way from one level to another.

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
    fixed = encoding.fixed_features(start)
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
        fixed,
    )


def explain_id(folder: str | Path, entity_id: str) -> tuple[Explanation, list[str]]:
    """Explain a customer of the published run in a folder.

    Parameters
    ----------
    folder : path
        Of `core.tabular.files.fit_folder`.
    entity_id : str

    Returns
    -------
    (Explanation, list of str)
        The same as figures and in words.

    Raises
    ------
    ArtifactError
        If there is no run.
    ConfigError
        If it has no such customer; the message names one that looks like it.
    """

    def read(base: ArtifactSet | None) -> tuple[TableAssigner, pl.DataFrame]:
        if base is None or ROWS not in base.manifest.files:
            raise nothing_published(FILES, folder)
        return TableAssigner.of_set(base), base.table(ROWS)

    assigner, table = read_published(Path(folder), read, FILES.system)
    ids, asked = table[ID], entity_id.strip()
    place = ids.index_of(asked)
    if place is None:
        raise ConfigError(
            f"no customer `{asked}` in `{folder}`, which knows {len(ids):,}."
            f"{did_you_mean(asked, ids.head(MAX_IDS))}"
        )
    found = explain_row(assigner, table, place, asked)
    levels = {
        feature: f"{plan.name} {level}"
        for plan in assigner.encoding.columns
        for feature, level in zip(plan.level_features, plan.levels, strict=True)
    }
    facts = {"own": found, "unassigned": UNASSIGNED, "levels": levels}
    lines = TEMPLATES.sentences("run.txt.j2", "explanation", number=_number, **facts)
    return found, lines


def _number(value: float) -> str:
    """Return a value with four digits, thousands whole."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
