"""Orders and items from one table of order lines, as most shops export it.

A line tells whose order it is, when, what of, how many, and the money. The lines of one
customer and order id are an order; without an order id, those of one customer at one
time. Of the total of a line and the price of one unit, one tells the other::

    line_total = price * quantity - discount_amount

An export may write an amount of the whole order on each of its lines, or on the first
one only. Summed it would count too often, so such a column is recognised
(`amounts_of_orders`) and spread over the lines of its order by their value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from core.config import DataConfig
from core.errors import SchemaError, listed
from core.tables.cells import LARGEST, UNKNOWN, ParsedRows
from core.tables.collect import collected_rows
from core.tables.columns import (
    FLAGS,
    ROW,
    TableSpec,
    fault_flags,
    flagged,
    recognised_columns,
)
from core.tables.faults import share
from core.tables.files import counted
from core.tables.readers import ReceivedTable
from core.tables.reconcile import ITEMS, LINES, ORDERS, PAIR

MONEY = ("line_total", "discount_amount", "refund_amount")
# An amount is one of orders if it is so in this share of those that can tell; fewer
# orders or values than these may agree by chance.
MOST_ORDERS, FEWEST_ORDERS, FEWEST_VALUES = 0.95, 5, 3
# Of sums and quotients: cents without the noise of floats.
DIGITS = 6
CENT = 0.01 + 1e-9
# Some web shops call the order `Name`, which elsewhere is a product or a person.
WEB_SHOP = {"Name", "Lineitem name"}


@dataclass(frozen=True)
class OrderLines:
    """A table of order lines, and the two tables that it stands for.

    Attributes
    ----------
    lines : ParsedRows
        All lines with their flags. Those with a fault are in neither other table.
    orders, items : ParsedRows
        As if they had been received apart; an item has the number of its line.
    taken : str
        Which column was taken from where, in a sentence.
    """

    lines: ParsedRows
    orders: ParsedRows
    items: ParsedRows
    taken: str


@dataclass(frozen=True)
class Money:
    """How amounts are written, which all lines together tell.

    Attributes
    ----------
    of_orders : tuple of str
        Those of `MONEY` that are written once per order.
    is_before_discounts : bool
        Whether discounts are still to be taken off the totals of lines.
    """

    of_orders: tuple[str, ...]
    is_before_discounts: bool


def matched_lines(
    table: ReceivedTable, wanted: Mapping[str, str]
) -> tuple[dict[str, str], str]:
    """Return the columns of order lines, our name: their name, and this as a sentence.

    Raises
    ------
    ConfigError, SchemaError
        As `core.tables.columns.recognised_columns`, or if no column tells what was
        paid.
    """
    found = [name.strip() for name in table.columns]
    if set(found) >= WEB_SHOP and "order_id" not in found:
        wanted = {"order_id": "Name", **wanted}
    matched = recognised_columns(found, wanted, LINES)
    if not {"line_total", "price"} & set(matched):
        raise SchemaError(
            f"{table.name}: no column tells what was paid. Expected `line_total` (of "
            "the line, after discounts) or `price` (of one unit); found: "
            f"{listed(found, 30)}. Map one of them: `{LINES.flag} line_total=NAME`."
        )
    return matched, _what_was_taken(matched, found)


def lines_with_headers(
    table: ReceivedTable, matched: Mapping[str, str], data: DataConfig
) -> ParsedRows:
    """Return the lines in memory, each with the customer, date and id of its order.

    Raises
    ------
    ConfigError, SchemaError
        As `core.tables.cells.parse_rows`.
    """
    parsed = collected_rows(table, matched, LINES, data)
    return replace(parsed, rows=_with_headers(parsed.rows.collect()).lazy())


def read_lines(
    table: ReceivedTable,
    wanted: Mapping[str, str],
    data: DataConfig,
    money: Money | None = None,
) -> OrderLines:
    """Read order lines, and derive orders and items from them.

    Parameters
    ----------
    table : ReceivedTable
        Lines as received.
    wanted : mapping of str to str
        The user's names, our name: their name; the others are recognised.
    data : DataConfig
        How dates and numbers are read.
    money : Money, optional
        How amounts are written, where these are the lines of some customers only.

    Raises
    ------
    ConfigError, SchemaError
        As `matched_lines` and `core.tables.cells.parse_rows`.
    """
    matched, taken = matched_lines(table, wanted)
    parsed = lines_with_headers(table, matched, data)
    rows = parsed.rows.collect()
    notes: list[str] = []
    if money is None:
        amounts = amount_counts(rows)
        totals = total_counts(rows, amounts_of_orders(amounts))
        has_price = "price" in rows.columns
        money, notes = money_told(amounts, totals, has_price=has_price)
    rows = _with_money(rows, money)
    is_paid = pl.col("line_total").abs() <= LARGEST
    rows = _flagged(rows, {"invalid_amount": ~is_paid.fill_null(value=False)})
    sound = rows.filter(~LINES.has_any(LINES.meanings))
    orders = _orders_of(sound)
    notes += [*_contradictions(sound, orders), *_cut_short(rows, orders)]
    return OrderLines(
        replace(parsed, rows=rows.lazy(), notes=[*parsed.notes, *notes]),
        _as_parsed(orders, ORDERS, parsed),
        _as_parsed(_items_of(sound), ITEMS, parsed),
        taken,
    )


def _what_was_taken(matched: Mapping[str, str], found: Sequence[str]) -> str:
    taken = ", ".join(f"`{ours}` from `{theirs}`" for ours, theirs in matched.items())
    free = [name for name in found if name not in matched.values()]
    unused = f" Not used: {listed(free)}." if free else ""
    return f"Taken: {taken}.{unused} To change it: `{LINES.flag} OURS=YOURS`."


def _flagged(
    rows: pl.DataFrame, found: Mapping[str, pl.Expr], spec: TableSpec = LINES
) -> pl.DataFrame:
    """Add what was found to the flags of rows."""
    return rows.with_columns(flagged(spec, found))


def _with_headers(rows: pl.DataFrame) -> pl.DataFrame:
    """Give every line the customer, the date and the id of its order.

    They may stand on the first line of an order only: what a line lacks is taken from
    the others of its id, if these agree.
    """
    if "order_id" not in rows.columns:
        rows = rows.with_columns(order_id=pl.lit(None, pl.String))
    has_id = pl.col("order_id").is_not_null()
    for name in ("customer_id", "order_date"):
        if not rows[name].null_count():
            continue
        fault = LINES.bits[LINES[name].flags[0]]
        given = pl.col(name).drop_nulls()
        one = pl.when(given.n_unique() == 1).then(given.first())
        known = rows.filter(has_id).group_by("order_id").agg(known=one)
        rows = rows.join(known, on="order_id", how="left", maintain_order="left")
        is_open = pl.col(name).is_null() & pl.col("known").is_not_null()
        others = ~pl.lit(fault, pl.UInt64)
        mended = pl.col(FLAGS) & others | LINES.bits["from_order"]
        rows = rows.with_columns(
            pl.coalesce(name, "known").alias(name),
            pl.when(is_open).then(mended).otherwise(FLAGS).alias(FLAGS),
        ).drop("known")
    rows = _flagged(rows, {"order_by_time": ~has_id})
    moment = pl.col("order_date").dt.to_string("iso")
    return rows.with_columns(order_id=pl.coalesce("order_id", moment))


def amount_counts(rows: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """Return how orders of several lines have the amounts of `MONEY`.

    Parameters
    ----------
    rows : DataFrame
        Of `lines_with_headers`.

    Returns
    -------
    dict of str to dict
        Per column ``orders`` that have it, how many are the ``same`` on every line,
        stand ``alone`` on one, are the sum of the lines (``sums``), and some different
        ``values``. Counts of whole orders add up.
    """
    gross = pl.col("price") * pl.col("quantity")
    has_price = "price" in rows.columns
    has_discount = "discount_amount" in rows.columns
    nothing = pl.lit(None, pl.Float64)
    less = pl.col("discount_amount").max() if has_discount else pl.lit(0.0)
    worth = (gross.sum() if has_price else nothing, less)
    return {
        name: _amounts(rows, name, *(worth if name == "line_total" else [nothing] * 2))
        for name in MONEY
        if name in rows.columns
    }


def _amounts(
    rows: pl.DataFrame, name: str, sums: pl.Expr, less: pl.Expr
) -> dict[str, Any]:
    """Return `amount_counts` of a column, given what orders come to, and discounts."""
    value, n_lines = pl.col(name), pl.len()
    orders = (
        rows.group_by(PAIR)
        .agg(
            is_same=(value.count() == n_lines) & (value.min() == value.max()),
            is_alone=(value.count() == 1) & value.first().is_not_null(),
            first=value.first(),
            sums=sums,
            less=less,
            n=n_lines,
            most=value.abs().max(),
        )
        .filter((pl.col("most") > 0) & (pl.col("n") > 1))
    )
    off = (pl.col("sums") - pl.col("first")).abs()
    off_less = (pl.col("sums") - pl.col("less") - pl.col("first")).abs()
    is_sum = pl.min_horizontal(off, off_less) <= CENT
    counts = orders.select(
        orders=pl.len(),
        same=pl.col("is_same").sum(),
        alone=pl.col("is_alone").sum(),
        sums=is_sum.sum(),
    ).row(0, named=True)
    return {**counts, "values": orders["first"].unique()[:FEWEST_VALUES].to_list()}


def amounts_of_orders(counts: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Return which amounts are of whole orders, and in how many orders lines differ.

    Parameters
    ----------
    counts : mapping of str to mapping
        `amount_counts` of all lines.
    """
    n_odd: dict[str, int] = {}
    for name, of in counts.items():
        n_orders, n_told = of["orders"], of["same"] + of["alone"]
        # What the lines come to proves with few orders what could be chance.
        is_sure = (name == "discount_amount" and "line_total" in n_odd) or (
            of["alone"] == n_orders or 2 * of["sums"] > n_orders
        )
        is_enough = n_orders >= FEWEST_ORDERS and len(of["values"]) >= FEWEST_VALUES
        is_of_orders = n_orders > 0 and n_told >= MOST_ORDERS * n_orders
        if is_of_orders and (is_sure or is_enough):
            n_odd[name] = n_orders - n_told
    return n_odd


def total_counts(rows: pl.DataFrame, of_orders: Iterable[str]) -> dict[str, int]:
    """Return how totals of lines stand to price, quantity and discount.

    Parameters
    ----------
    rows : DataFrame
        Of `lines_with_headers`.
    of_orders : iterable of str
        `amounts_of_orders`.

    Returns
    -------
    dict of str to int
        ``lines``, how many of them have a discount and a total from ``before`` or
        ``after`` it, and how many ``neither``; these add up. Empty where not all is
        given for each line.
    """
    if "line_total" in of_orders or not {"line_total", "price"} <= {*rows.columns}:
        return {}
    rows = _with_shares(rows, of_orders)
    total, discount = pl.col("line_total"), _discount(rows)
    gross = pl.col("price") * pl.col("quantity")
    is_before = (total - gross).abs() <= CENT
    is_after = (total - gross + discount).abs() <= CENT
    return rows.select(
        lines=pl.len(),
        before=(is_before & (discount > 0)).sum(),
        after=(is_after & (discount > 0)).sum(),
        neither=(~is_before & ~is_after).sum(),
    ).row(0, named=True)


def money_told(
    amounts: Mapping[str, Mapping[str, Any]],
    totals: Mapping[str, int],
    *,
    has_price: bool,
) -> tuple[Money, list[str]]:
    """Return how amounts are written, and notes on it.

    Parameters
    ----------
    amounts, totals : mapping
        `amount_counts` and `total_counts` of all lines.
    has_price : bool
        Whether lines have the price of one unit.
    """
    notes, n_odd = [], amounts_of_orders(amounts)
    by = "value" if has_price or "line_total" not in n_odd else "quantity"
    for name, n in n_odd.items():
        odd = f" In {counted(n, 'order')} it differs: the largest counts."
        notes.append(
            f"`{name}` is written once per order, on its first line or on all: it "
            f"counts once, spread over the lines by {by}.{odd if n else ''}"
        )
    is_before = totals.get("before", 0) > totals.get("after", 0)
    if is_before:
        notes.append("`line_total` is before discounts: they were taken off.")
    if n_else := totals.get("neither", 0):
        notes.append(
            f"{counted(n_else, 'line')} ({share(n_else, totals['lines'])}) whose "
            "`line_total` is not price times quantity: the total counts as it is."
        )
    return Money(tuple(n_odd), is_before), notes


def _with_money(rows: pl.DataFrame, money: Money) -> pl.DataFrame:
    """Give every line its own total and the price of one unit."""
    rows = _with_shares(rows, money.of_orders)
    quantity, discount = pl.col("quantity"), _discount(rows)
    has_price, has_total = "price" in rows.columns, "line_total" in rows.columns
    nothing = pl.lit(None, pl.Float64)
    total = pl.col("line_total") if has_total else nothing
    if money.is_before_discounts:
        rows = rows.with_columns(line_total=total - discount)
    gross = pl.col("price") * quantity if has_price else nothing
    rows = rows.with_columns(line_total=pl.coalesce(total, gross - discount))
    if has_price:
        return rows
    each = ((total + discount) / quantity).round(DIGITS)
    is_nothing = (quantity == 0) & (total == 0)
    price = pl.when(is_nothing).then(0.0).when(each.is_finite()).then(each)
    return rows.with_columns(price=price)


def _discount(rows: pl.DataFrame) -> pl.Expr:
    """Return the discount of each line."""
    has_it = "discount_amount" in rows.columns
    return pl.col("discount_amount") if has_it else pl.lit(0.0)


def _with_shares(rows: pl.DataFrame, of_orders: Iterable[str]) -> pl.DataFrame:
    """Spread amounts of whole orders over their lines, by value or else quantity."""
    names, weight = [*of_orders], pl.col("quantity")
    if "price" in rows.columns:
        weight = pl.col("price") * weight
    elif "line_total" not in names:
        weight = pl.col("line_total")
    return rows.with_columns(_spread(name, weight) for name in names)


def _spread(name: str, weight: pl.Expr) -> pl.Expr:
    """Return the part of each line in the amount of its order."""
    weight = weight.abs().fill_null(0.0)
    by_weight = pl.when(weight.sum() > 0).then(weight / weight.sum())
    return (pl.col(name).max() * by_weight.otherwise(1 / pl.len())).over(PAIR)


def _after_discounts(
    rows: pl.DataFrame, gross: pl.Expr, discount: pl.Expr
) -> tuple[pl.DataFrame, list[str]]:
    """Take discounts off totals from before them; tell of totals that differ."""
    total = pl.col("line_total")
    is_before = (total - gross).abs() <= CENT
    is_after = (total - gross + discount).abs() <= CENT
    n_before, n_after, n_else = rows.select(
        before=(is_before & (discount > 0)).sum(),
        after=(is_after & (discount > 0)).sum(),
        neither=(~is_before & ~is_after).sum(),
    ).row(0)
    notes = []
    if n_before > n_after:
        rows = rows.with_columns(line_total=total - discount)
        notes.append("`line_total` is before discounts: they were taken off.")
    if n_else:
        notes.append(
            f"{counted(n_else, 'line')} ({share(n_else, rows.height)}) whose "
            "`line_total` is not price times quantity: the total counts as it is."
        )
    return rows, notes


def _orders_of(sound: pl.DataFrame) -> pl.DataFrame:
    """Return the orders of lines: the earliest date, sums, and the main channel."""
    day, is_empty = pl.col("order_date"), LINES.has_any(["empty_discount"]).all()
    money = {"total_price": pl.col("line_total").sum().round(DIGITS)}
    if "discount_amount" in sound.columns:
        money["discount_amount"] = pl.col("discount_amount").sum().round(DIGITS)
    orders = sound.group_by(PAIR, maintain_order=True).agg(
        pl.col(ROW).min(),
        day.min(),
        is_empty.alias("is_empty"),
        pl.lit(0, pl.UInt64).first().alias(FLAGS),
        span=day.max() - day.min(),
        **money,
    )
    found = {"empty_discount": pl.col("is_empty")}
    if "source" in sound.columns:
        orders = orders.join(
            _channels(sound), on=PAIR, how="left", maintain_order="left"
        ).with_columns(pl.col("source").fill_null(UNKNOWN))
        found["unknown_source"] = pl.col("source") == UNKNOWN
    return _flagged(orders, found, ORDERS).drop("is_empty")


def _channels(sound: pl.DataFrame) -> pl.DataFrame:
    """Return the channel that most lines of an order name, and how many they name."""
    known = sound.filter(pl.col("source") != UNKNOWN).group_by(*PAIR, "source").len()
    first = known.sort("len", "source", descending=[True, False])
    each = first.group_by(PAIR, maintain_order=True)
    return each.agg(pl.col("source").first(), n_channels=pl.len())


def _contradictions(sound: pl.DataFrame, orders: pl.DataFrame) -> list[str]:
    """Return what the lines of one order say differently, and what counts then."""
    notes = []
    spans = orders.filter(pl.col("span") > pl.duration())["span"]
    if not spans.is_empty():
        notes.append(
            f"{counted(len(spans), 'order')} with lines of several dates, up to "
            f"{spans.max()!s} apart: the earliest counts."
        )
    has_id = ~LINES.has_any(["order_by_time"])
    pairs = sound.filter(has_id).select(PAIR).unique()
    of_several = pairs.filter(pl.col("order_id").is_duplicated())
    if n := of_several["order_id"].n_unique():
        notes.append(
            f"{counted(n, 'order id')} of several customers: each customer's lines are "
            "an order. Do order numbers start again at 1?"
        )
    if "n_channels" in orders.columns and (n := int((orders["n_channels"] > 1).sum())):
        notes.append(
            f"{counted(n, 'order')} with lines of several channels: that of most lines "
            "counts."
        )
    return notes


def _cut_short(rows: pl.DataFrame, orders: pl.DataFrame) -> list[str]:
    """Tell of orders that count without lines that were set aside."""
    aside = rows.filter(LINES.has_any(LINES.meanings)).select(PAIR).unique()
    n = orders.join(aside, on=PAIR, how="semi").height
    told = f"{counted(n, 'order')} had lines set aside, and count without them."
    return [told] if n else []


def _items_of(sound: pl.DataFrame) -> pl.DataFrame:
    """Return the items of lines, with the flags that items know."""
    told = {**ITEMS.meanings, **ITEMS.repairs}
    same = [n for n in told if n in LINES.bits and n not in ("float_id", "odd_id")]
    price, quantity = pl.col("price"), pl.col("quantity")
    is_usable = price.is_between(-LARGEST, LARGEST) & ~((price < 0) & (quantity < 0))
    found = {name: LINES.has_any([name]) for name in same}
    found["invalid_price"] = ~is_usable.fill_null(value=False)
    return sound.with_columns(fault_flags(ITEMS, found).alias(FLAGS))


def _as_parsed(rows: pl.DataFrame, spec: TableSpec, lines: ParsedRows) -> ParsedRows:
    """Return derived rows as if they had been received; refused ones show the lines."""
    names = [c.name for c in spec.columns if c.name in rows.columns]
    rows = rows.select(ROW, *names, FLAGS)
    return replace(lines, spec=spec, rows=rows.lazy(), notes=[])
