"""The verb that tells whether segments differ in what they were not cut by."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from core.cli import app
from core.cli.experiment import figure
from core.errors import SchemaError, did_you_mean, listed

if TYPE_CHECKING:
    import polars as pl


@app.app.command("validate")
def validate(
    table: app.CustomerTable,
    segment: app.SegmentColumn = "segment",
    id_: app.IdColumn = "customer_id",
    used: Annotated[
        list[str] | None,
        app.option("A column that the segments were made from; repeat for more."),
    ] = None,
    metric: Annotated[
        list[str] | None,
        app.option("A column to test; repeat for more.", "every numeric one"),
    ] = None,
    seed: app.Seed = None,
    output: Annotated[
        Path | None, app.option("CSV or Parquet file to write every figure to.")
    ] = None,
) -> None:
    """Tell how far segments differ in metrics that they were not made from.

    Metrics that segments were made from (`--used`), or that follow from these by rank,
    prove nothing and are listed apart, as checks of the definition. Also prints how
    far two random halves of the customers differ.
    """
    import polars as pl

    from core.evaluation.separation import separation, split_gaps, tied_metrics
    from core.resolve import resolve_config
    from core.tables.plain import read_table

    rows = read_table(table, [segment])
    scores = list(used or ())
    metrics = _metrics(rows, metric, [segment, id_], scores)
    found = separation(rows, segment, metrics, tied_metrics(rows, metrics, scores))
    gaps = split_gaps(rows, segment, metrics, resolve_config(flags={"seed": seed}).seed)
    medians = dict(gaps.group_by("metric").agg(pl.median("relative_gap")).iter_rows())
    app.print_table(
        ("metric", "eta sq.", "interval", "effect", "p", "halves", "tied to"),
        [
            (
                row["metric"],
                figure(row["eta_squared"]),
                "" if row["low"] is None else f"{row['low']:.3f}-{row['high']:.3f}",
                row["effect"] or "",
                figure(row["adjusted_p"]),
                "" if (gap := medians.get(row["metric"])) is None else f"{gap:.2%}",
                row["tied_by"] or "",
            )
            for row in found.iter_rows(named=True)
        ],
        f"{rows.height:,} customers in {rows[segment].n_unique():,} segments",
        to_the_right={"eta sq.", "p", "halves"},
        unbroken={"interval", "effect", "p", "halves"},
    )
    app.write_table(found, output)


def _metrics(
    rows: pl.DataFrame,
    asked: list[str] | None,
    others: list[str],
    scores: list[str],
) -> list[str]:
    """Return the columns to test, or say which is none."""
    import polars as pl

    numeric = [
        name
        for name, dtype in rows.schema.items()
        if (dtype.is_numeric() or dtype == pl.Boolean) and name not in others
    ]
    for name in [*(asked or ()), *scores]:
        if name not in numeric:
            raise SchemaError(
                f"`{name}` is no numeric column of the table; it has "
                f"{listed(numeric, 12)}.{did_you_mean(name, numeric)}"
            )
    return list(dict.fromkeys([*(asked or numeric), *scores]))
