"""Which items of an order count as chosen by the customer.

Left out are promotions, items without categories or marked `Exclude`, and choices: a
row with the `header_item_id` of another item is a choice inside that item, and no line
of its own. Where the choice stands in the order as a line besides, that line is the
same thing once more: choices take lines of their item out of the order, up to their
quantity.
"""

from __future__ import annotations

import polars as pl

from core.channels.schema import ITEM_COLUMNS
from core.tables.cells import ParsedRows
from core.tables.columns import FLAGS, ROW, TableSpec, flagged
from core.tables.exact import MILLIONTHS, polars_millionths
from core.tables.staging import has_fault, marked

LINE = ["order_id", "item_id"]


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
        `order_id` of the orders that were received more than once, and `n_times`.
    catalog : polars.LazyFrame or None
        The item map; None: nothing is known of items.

    Returns
    -------
    polars.LazyFrame
        `ROW`, `FLAGS` and those of `core.channels.schema.ITEM_COLUMNS` that are known.
    """
    spec, names = parsed.spec, parsed.columns
    rows = parsed.rows
    rows = marked(rows, {"repeated_item": _repeated_items(rows, repeated)}, spec)
    found = {}
    if "is_promo" in names:
        found["promo_item"] = pl.col("is_promo")
    if "header_item_id" in names:
        # An item may be named as its own header.
        found["choice"] = pl.col("header_item_id") != pl.col("item_id")
    if found:
        rows = rows.with_columns(flagged(spec, found))
    is_kept, rest = pl.col("is_kept"), pl.col("rest")
    found = {
        "unknown_order": is_kept.is_null() & pl.col("order_id").is_not_null(),
        "order_set_aside": ~is_kept,
    }
    if "header_item_id" in names:
        rows = rows.join(_chosen_lines(rows, spec), on=ROW, how="left")
        quantity = pl.when(rest > 0).then(rest).otherwise("quantity")
        rows = rows.with_columns(quantity=quantity)
        found |= {"choice_line": rest == 0, "choice_part": (rest > 0) & is_kept}
    rows = rows.join(orders, on="order_id", how="left")
    if catalog is not None:
        rows = rows.join(catalog.drop(ROW, FLAGS), on="item_id", how="left")
        is_excluded = pl.col("is_excluded")
        found |= {"unmapped_item": is_excluded.is_null(), "excluded_item": is_excluded}
    rows = rows.with_columns(flagged(spec, found))
    known = rows.collect_schema().names()
    return rows.select(ROW, FLAGS, *(name for name in ITEM_COLUMNS if name in known))


def _repeated_items(rows: pl.LazyFrame, repeated: pl.DataFrame) -> pl.DataFrame:
    """Return lines that are there because their order was received several times.

    Two equal lines of an order may be two purchases; four of an order that is in two
    files are the same two.
    """
    if repeated.is_empty():
        return pl.DataFrame(schema={ROW: pl.UInt32})
    cells = [name for name in rows.collect_schema().names() if name not in (ROW, FLAGS)]
    lines = rows.join(repeated.lazy(), on="order_id").collect(engine="streaming")
    place, n_equal = pl.int_range(pl.len()).over(cells), pl.len().over(cells)
    n_times = pl.col("n_times")
    return lines.filter(place >= (n_equal + n_times - 1) // n_times).select(ROW)


def _chosen_lines(rows: pl.LazyFrame, spec: TableSpec) -> pl.LazyFrame:
    """Return lines that choices take out of their order, and the `rest` of each.

    Among lines of one item, the smallest is taken first; equal ones are alike.
    """
    quantity = polars_millionths("quantity")
    chosen = rows.filter(spec.is_first("choice")).group_by(LINE)
    known = rows.collect_schema().names()
    cells = [name for name in ("price", "is_customised") if name in known]
    own, before = pl.col("own"), pl.col("own").cum_sum().over(LINE) - pl.col("own")
    lines = (
        rows.filter(~has_fault(spec))
        .join(chosen.agg(chosen=quantity.sum()), on=LINE, how="inner")
        .select(ROW, *LINE, *cells, "chosen", own=quantity)
        .sort(*LINE, "own", *cells, ROW)
        .with_columns(taken=(pl.col("chosen") - before).clip(0, own))
        .filter(pl.col("taken") > 0)
        .select(ROW, rest=(own - pl.col("taken")) / MILLIONTHS)
    )
    return lines.collect(engine="streaming").lazy()
