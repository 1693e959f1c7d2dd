"""What orders and items say of each other: repeats, strangers, refunds.

Works on parsed rows, of a whole file or of one request, and adds to their flags; the
columns and faults are listed in ``orders.yaml``.

Refunds
-------
An order with a negative total is no order, and an item line whose quantity or price is
negative is no purchase: with the policy ``refund`` both give money back. The lines of
one customer and product are summed, and the sum becomes the `refund_amount` of what the
customer bought of that product, newest purchase first, each line up to its own value
(price x quantity, less what it already has as a refund). What is left over, because the
purchase lies before the data or is not in it, is counted and stays out of every
feature. A negative total without lines names no product: it is counted only.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import polars as pl

from core.tables.columns import FLAGS, ROW, TableSpec, flagged, read_specs

Negative = Literal["refund", "drop", "error"]
BOUGHT = ["customer_id", "product_id"]
KEPT, REFUND, ASIDE = 0, 1, 2

SPECS = read_specs("orders.yaml")
ORDERS, ITEMS, LINES = SPECS["orders"], SPECS["items"], SPECS["lines"]
PAIR = list(ORDERS.key)


@dataclass(frozen=True)
class Refunds:
    """What negative rows came to.

    Attributes
    ----------
    n_orders, n_lines : int
        Orders and item lines taken as refunds.
    amount : float
        Sum of these lines, above 0.
    attributed : float
        The part of it that purchases in the data could take.
    n_orders_without_lines : int
        Refund orders of which no line was found.
    """

    n_orders: int = 0
    n_lines: int = 0
    amount: float = 0.0
    attributed: float = 0.0
    n_orders_without_lines: int = 0


def reconcile_orders(
    rows: pl.DataFrame,
    negative: Negative,
    reference: datetime | None,
    latest: datetime | None = None,
) -> tuple[pl.DataFrame, datetime | None]:
    """Mark refunds, repeats, and orders after the reference date.

    Parameters
    ----------
    rows : polars.DataFrame
        `ROW`, our columns and `FLAGS`.
    negative : str
        What a negative total is: ``refund``, or set aside with another flag.
    reference : datetime or None
        The moment that stands for now; None: the newest order.
    latest : datetime or None
        Where `reference` is None, orders after this moment cannot have been placed.

    Returns
    -------
    polars.DataFrame, datetime or None
        The rows with their flags; and the reference date, None without any order.
    """
    is_sound = ~ORDERS.has_any(ORDERS.own_faults)
    is_negative = is_sound & (pl.col("total_price") < 0)
    # A refund may carry the id of the order that it takes back.
    key = pl.struct(pl.when(is_sound).then(pl.col(c)) for c in PAIR)
    parts = [is_negative, is_sound & ~is_negative]
    firsts = [pl.when(part).then(key).is_first_distinct() for part in parts]
    is_first = pl.when(is_negative).then(firsts[0]).otherwise(firsts[1])
    limit = reference or latest
    is_late = pl.lit(value=False) if limit is None else pl.col("order_date") > limit
    found = {
        "refund" if negative == "refund" else "negative": is_negative,
        "repeated_order": is_sound & ~is_first,
        "after_reference": is_sound & is_late,
    }
    marked = rows.with_columns(flagged(ORDERS, found))
    if reference is None:
        newest = kept_rows(marked, ORDERS)["order_date"].max()
        reference = newest if isinstance(newest, datetime) else None
    return marked, reference


def reconcile_items(
    rows: pl.DataFrame, orders: pl.DataFrame, negative: Negative
) -> pl.DataFrame:
    """Find each item's order and customer, and flag refunds and strangers.

    Parameters
    ----------
    rows : polars.DataFrame
        `ROW`, our columns (`customer_id` may be absent) and `FLAGS`.
    orders : polars.DataFrame
        All order rows, reconciled.
    negative : str
        As for `reconcile_orders`.
    """
    known = _known_orders(orders)
    if "customer_id" not in rows.columns:
        rows = rows.with_columns(customer_id=pl.lit(None, pl.String))
    n_owners = None
    if rows["customer_id"].null_count():
        rows, n_owners = _with_owner(rows, known)
    # Of the keys alone: joining whole rows would copy every column.
    status = rows[PAIR].join(
        known, on=PAIR, how="left", nulls_equal=True, maintain_order="left"
    )["status"]
    is_sound = ~ITEMS.has_any(ITEMS.own_faults)
    is_negative = is_sound & ((pl.col("quantity") < 0) | (pl.col("price") < 0))
    is_ambiguous = pl.lit(value=False) if n_owners is None else pl.lit(n_owners) > 1
    is_unknown = pl.col("status").is_null() & ~is_ambiguous
    is_aside = (pl.col("status") == ASIDE) | (
        (pl.col("status") == REFUND) & ~is_negative
    )
    found = {
        "refund" if negative == "refund" else "negative": is_negative,
        "ambiguous_order": is_sound & is_ambiguous,
        "unknown_order": is_sound & is_unknown,
        "order_set_aside": is_sound & is_aside & ~is_ambiguous,
    }
    marked = rows.hstack([status]).with_columns(flagged(ITEMS, found))
    return marked[rows.columns]


def _known_orders(orders: pl.DataFrame) -> pl.DataFrame:
    """Return `PAIR` and `status`, once each, of all orders that have an id."""
    faults = pl.col(FLAGS) & ORDERS.mask(ORDERS.meanings)
    is_kept, is_refund = faults == 0, faults == ORDERS.bits["refund"]
    status = pl.when(is_kept).then(KEPT).when(is_refund).then(REFUND).otherwise(ASIDE)
    known = orders.select(*PAIR, status=status.cast(pl.Int8))
    if known["order_id"].null_count():
        known = known.filter(pl.col("order_id").is_not_null())
    if known["status"].max() == KEPT:
        return known
    # A refund may share its id with the order, and so may a row set aside.
    return known.group_by(PAIR).agg(pl.col("status").min())


def _with_owner(
    rows: pl.DataFrame, known: pl.DataFrame
) -> tuple[pl.DataFrame, pl.Series]:
    """Take the customer of items without one from their order, if only one has it.

    Returns the rows, and of how many customers the order may be (1 if that is given).
    """
    owners = known.group_by("order_id").agg(
        owner=pl.col("customer_id").drop_nulls().first(),
        owners=pl.col("customer_id").drop_nulls().n_unique(),
    )
    found = rows[PAIR].join(owners, on="order_id", how="left", maintain_order="left")
    is_open = pl.col("customer_id").is_null()
    is_sure = is_open & (pl.col("owners") == 1)
    taken = found.select(
        customer_id=pl.when(is_sure).then("owner").otherwise("customer_id"),
        n_owners=pl.when(is_open).then(pl.col("owners").fill_null(1)).otherwise(1),
    )
    return rows.with_columns(taken["customer_id"]), taken["n_owners"]


def attribute_refunds(
    items: pl.DataFrame, orders: pl.DataFrame
) -> tuple[pl.DataFrame, Refunds]:
    """Turn refund lines into `refund_amount` of what was bought.

    Parameters
    ----------
    items, orders : polars.DataFrame
        All rows, reconciled.

    Returns
    -------
    polars.DataFrame, Refunds
        The items kept, with `refund_amount` if the data has it or any refund line; and
        the account.
    """
    kept, lines = kept_rows(items, ITEMS), refund_rows(items, ITEMS)
    refund_orders = refund_rows(orders, ORDERS)
    if lines.is_empty():
        n = refund_orders.height
        return kept, Refunds(n_orders=n, n_orders_without_lines=n)
    given_back = lines.group_by(BOUGHT).agg(
        given_back=(pl.col("quantity") * pl.col("price")).abs().sum()
    )
    if "refund_amount" not in kept.columns:
        kept = kept.with_columns(refund_amount=pl.lit(0.0))
    shares = _spread(kept, orders, given_back)
    kept = kept.join(shares, on=ROW, how="left", maintain_order="left")
    extra = pl.col("extra").fill_null(0.0)
    kept = kept.with_columns(refund_amount=pl.col("refund_amount") + extra)
    lineless = refund_orders.join(lines, on=PAIR, how="anti")
    return kept.drop("extra"), Refunds(
        n_orders=refund_orders.height,
        n_lines=lines.height,
        amount=float(given_back["given_back"].sum()),
        attributed=float(shares["extra"].sum()),
        n_orders_without_lines=lineless.height,
    )


def _spread(
    kept: pl.DataFrame, orders: pl.DataFrame, given_back: pl.DataFrame
) -> pl.DataFrame:
    """Return `ROW` and `extra`: what each bought line takes of its product's refund."""
    dates = kept_rows(orders, ORDERS)[[*PAIR, "order_date"]]
    room = pl.col("price") * pl.col("quantity") - pl.col("refund_amount")
    bought = (
        kept.join(given_back, on=BOUGHT, how="inner")
        .join(dates, on=PAIR, how="inner")
        .with_columns(room=pl.max_horizontal(room, 0.0))
        # Beyond the date only to be the same whatever the order of the rows.
        .sort(
            "order_date", "order_id", "room", ROW, descending=[True, False, True, False]
        )
    )
    taken_before = pl.col("room").cum_sum().over(BOUGHT) - pl.col("room")
    left = pl.max_horizontal(pl.col("given_back") - taken_before, 0.0)
    return bought.select(ROW, extra=pl.min_horizontal(left, "room"))


def kept_rows(rows: pl.DataFrame, spec: TableSpec) -> pl.DataFrame:
    """Return the reconciled rows that have no flag but repairs."""
    return _rows_flagged(rows, spec, 0)


def refund_rows(rows: pl.DataFrame, spec: TableSpec) -> pl.DataFrame:
    """Return the reconciled rows that are refunds, and nothing worse."""
    return _rows_flagged(rows, spec, spec.bits["refund"])


def _rows_flagged(rows: pl.DataFrame, spec: TableSpec, flags: int) -> pl.DataFrame:
    """Return the rows whose faults are these; without a copy of all or none."""
    is_flagged = (rows[FLAGS].to_numpy() & spec.mask(spec.meanings)) == flags
    if not is_flagged.any():
        return rows.clear()
    return rows if is_flagged.all() else rows.filter(pl.Series(is_flagged))


def refund_account(refunds: Refunds) -> dict[str, Any]:
    """Return what refunds came to, with amounts to the cent."""
    return {
        **vars(refunds),
        "amount": round(refunds.amount, 2),
        "attributed": round(refunds.attributed, 2),
    }
