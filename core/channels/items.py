"""Which items of an order count as chosen by the customer.

Left out are promotions, items without categories or marked `Exclude`, and choices: a
row with a `header_item_id` is a choice inside that item, and no line of its own. Where
the choice stands in the order as a line besides, that line is the same thing once more:
choices take lines of their item out of the order, up to their quantity.
"""

from __future__ import annotations

import polars as pl

from core.channels.maps import flagged, has_fault, later_rows, marked
from core.tables.cells import ParsedRows
from core.tables.columns import FLAGS, ROW, TableSpec

LINE = ["order_id", "item_id"]
MILLIONTHS = 1_000_000


def flag_items(
    parsed: ParsedRows,
    orders: pl.LazyFrame,
    repeated: pl.DataFrame,
    catalog: pl.LazyFrame | None,
) -> pl.LazyFrame:
    """Return items with their categories, flagged by why they do not count.

    Parameters
    ----------
    parsed : ParsedRows
        The items as read.
    orders : polars.LazyFrame
        `order_id`, each once, and `is_kept`.
    repeated : polars.DataFrame
        `order_id` of the orders that were received more than once.
    catalog : polars.LazyFrame or None
        The item map; None: nothing is known of items.

    Returns
    -------
    polars.LazyFrame
        `ROW`, `FLAGS` and the columns of `core.channels.schema.ITEM_COLUMNS`.
    """
    spec = parsed.spec
    rows = _with_all_columns(parsed)
    rows = marked(rows, {"repeated_item": _repeated_items(rows, repeated)}, spec)
    rows = rows.join(orders, on="order_id", how="left")
    is_choice = pl.col("header_item_id").is_not_null()
    found = {
        "unknown_order": pl.col("is_kept").is_null() & pl.col("order_id").is_not_null(),
        "order_set_aside": ~pl.col("is_kept"),
        "choice": is_choice,
        "promo_item": pl.col("is_promo"),
    }
    rows = rows.with_columns(flagged(spec, found))
    if "header_item_id" in parsed.columns:
        rows = _without_choices(rows, spec)
    if catalog is None:
        empty = {"driver_category": pl.String, "base_category": pl.String}
        return rows.with_columns(
            *(pl.lit(None, dtype).alias(name) for name, dtype in empty.items()),
            pl.lit(None, pl.Boolean).alias("is_veg"),
        )
    rows = rows.join(catalog.drop(ROW, FLAGS), on="item_id", how="left")
    return rows.with_columns(
        flagged(
            spec,
            {
                "unmapped_item": pl.col("is_excluded").is_null(),
                "excluded_item": pl.col("is_excluded"),
            },
        )
    )


def _with_all_columns(parsed: ParsedRows) -> pl.LazyFrame:
    """Add the columns that the table lacks."""
    absent = {
        "price": pl.lit(None, pl.Float64),
        "is_promo": pl.lit(value=False),
        "header_item_id": pl.lit(None, pl.String),
        "is_customised": pl.lit(None, pl.Boolean),
    }
    return parsed.rows.with_columns(
        value.alias(name)
        for name, value in absent.items()
        if name not in parsed.columns
    )


def _repeated_items(rows: pl.LazyFrame, repeated: pl.DataFrame) -> pl.DataFrame:
    """Return lines equal to another one, of orders received more than once.

    Two equal lines of an order may be two purchases; of an order that is in two files,
    they are the same one.
    """
    if repeated.is_empty():
        return pl.DataFrame(schema={ROW: pl.UInt32})
    lines = rows.join(repeated.lazy(), on="order_id", how="semi")
    cells = [name for name in rows.collect_schema().names() if name not in (ROW, FLAGS)]
    return later_rows(lines.collect(engine="streaming"), cells)


def _without_choices(rows: pl.LazyFrame, spec: TableSpec) -> pl.LazyFrame:
    """Flag the lines that choices take out of their order, and reduce those in part.

    Among lines of one item, the smallest is taken first; equal ones are alike.
    """
    quantity = (pl.col("quantity") * MILLIONTHS).round().cast(pl.Int64)
    before = spec.mask(
        [*spec.own_faults, "order_set_aside", "unknown_order", "repeated_item"]
    )
    is_choice = spec.has_any(["choice"])
    chosen = (
        rows.filter(is_choice & (pl.col(FLAGS) & before == 0))
        .group_by(LINE)
        .agg(quantity.sum().alias("chosen"))
    )
    lines = (
        rows.filter(~has_fault(spec))
        .join(chosen, on=LINE, how="inner")
        .select(ROW, *LINE, "price", "is_customised", "chosen", own=quantity)
        .sort(*LINE, "own", "price", "is_customised", ROW)
        .with_columns(earlier=pl.col("own").cum_sum().over(LINE) - pl.col("own"))
        .select(
            ROW,
            taken=(pl.col("chosen") - pl.col("earlier")).clip(0, pl.col("own")),
            own="own",
        )
        .filter(pl.col("taken") > 0)
        .collect(engine="streaming")
    )
    rest = (pl.col("own") - pl.col("taken")) / MILLIONTHS
    return (
        rows.join(lines.lazy(), on=ROW, how="left")
        .with_columns(
            flagged(spec, {"choice_line": rest == 0, "choice_part": rest > 0}),
            quantity=pl.when(rest > 0).then(rest).otherwise("quantity"),
        )
        .drop("own", "taken")
    )
