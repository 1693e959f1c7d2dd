"""Orders and items from one table of order lines, as most shops export it.

A line tells whose order it is, when, what of, how many, and the money. The lines of one
customer and order id are an order; without an order id, those of one customer at one
time. Of the total of a line and the price of one unit, one tells the other::

    line_total = price * quantity - discount_amount

An export may write an amount of the whole order on each of its lines, or on the first
one only. Summed it would count too often, so such a column is recognised
(`_n_odd_orders`) and spread over the lines of its order by their value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

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


def read_lines(
    table: ReceivedTable, wanted: Mapping[str, str], data: DataConfig
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

    Raises
    ------
    ConfigError, SchemaError
        As `core.tables.cells.parse_rows`, or if no column tells what was paid.
    """
    found = [name.strip() for name in table.columns]
    if set(found) >= WEB_SHOP and "order_id" not in found:
        wanted = {"order_id": "Name", **wanted}
    matched = recognised_columns(found, wanted, LINES)
    parsed = collected_rows(table, matched, LINES, data)
    if not {"line_total", "price"} & set(matched):
        raise SchemaError(
            f"{table.name}: no column tells what was paid. Expected `line_total` (of "
            "the line, after discounts) or `price` (of one unit); found: "
            f"{listed(found, 30)}. Map one of them: `{LINES.flag} line_total=NAME`."
        )
    rows = _with_headers(parsed.rows.collect())
    rows, notes = _with_money(rows)
    is_paid = pl.col("line_total").abs() <= LARGEST
    rows = _flagged(rows, {"invalid_amount": ~is_paid.fill_null(value=False)})
    sound = rows.filter(~LINES.has_any(LINES.meanings))
    orders = _orders_of(sound)
    notes += [*_contradictions(sound, orders), *_cut_short(rows, orders)]
    return OrderLines(
        replace(parsed, rows=rows.lazy(), notes=[*parsed.notes, *notes]),
        _as_parsed(orders, ORDERS, parsed),
        _as_parsed(_items_of(sound), ITEMS, parsed),
        _what_was_taken(matched, found),
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


def _with_money(rows: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Give every line its own total and the price of one unit; tell how."""
    quantity, nothing = pl.col("quantity"), pl.lit(None, pl.Float64)
    given = {name for name in (*MONEY, "price") if name in rows.columns}
    gross = pl.col("price") * quantity if "price" in given else nothing
    total = pl.col("line_total") if "line_total" in given else nothing
    has_discount = "discount_amount" in given
    discount = pl.col("discount_amount") if has_discount else pl.lit(0.0)
    of_orders: list[str] = []
    notes = []
    by, weight = "value", gross if "price" in given else total
    for name in (name for name in MONEY if name in given):
        worth = (gross.sum(), discount.max()) if name == "line_total" else None
        is_sure = name == "discount_amount" and "line_total" in of_orders
        n_odd = _n_odd_orders(rows, name, worth, is_sure=is_sure)
        if n_odd is None:
            continue
        of_orders.append(name)
        if "price" not in given and name == "line_total":
            by, weight = "quantity", quantity
        odd = f" In {counted(n_odd, 'order')} it differs: the largest counts."
        notes.append(
            f"`{name}` is written once per order, on its first line or on all: it "
            f"counts once, spread over the lines by {by}.{odd if n_odd else ''}"
        )
    rows = rows.with_columns(_spread(name, weight) for name in of_orders)
    if {"line_total", "price"} <= given and "line_total" not in of_orders:
        rows, more = _after_discounts(rows, gross, discount)
        notes += more
    rows = rows.with_columns(line_total=pl.coalesce(total, gross - discount))
    if "price" in given:
        return rows, notes
    each = ((total + discount) / quantity).round(DIGITS)
    is_nothing = (quantity == 0) & (total == 0)
    price = pl.when(is_nothing).then(0.0).when(each.is_finite()).then(each)
    return rows.with_columns(price=price), notes


def _n_odd_orders(
    rows: pl.DataFrame,
    name: str,
    worth: tuple[pl.Expr, pl.Expr] | None,
    *,
    is_sure: bool,
) -> int | None:
    """Return in how many orders the lines differ in an amount of whole orders.

    None where it is an amount of each line. `worth` is what the lines of an order come
    to and its discount: few orders prove by it what they could have by chance.
    """
    value, n_lines = pl.col(name), pl.len()
    sums = pl.lit(None, pl.Float64) if worth is None else worth[0]
    less = pl.lit(None, pl.Float64) if worth is None else worth[1]
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
    if orders.is_empty():
        return None
    off = (pl.col("sums") - pl.col("first")).abs()
    off_less = (pl.col("sums") - pl.col("less") - pl.col("first")).abs()
    is_sum = pl.min_horizontal(off, off_less) <= CENT
    n_same, n_alone, n_sum, n_values = orders.select(
        pl.col("is_same").sum(),
        pl.col("is_alone").sum(),
        is_sum.sum().alias("n_sum"),
        pl.col("first").n_unique(),
    ).row(0)
    is_sure = is_sure or n_alone == orders.height or 2 * n_sum > orders.height
    is_enough = orders.height >= FEWEST_ORDERS and n_values >= FEWEST_VALUES
    is_of_orders = n_same + n_alone >= MOST_ORDERS * orders.height
    if is_of_orders and (is_sure or is_enough):
        return int(orders.height - n_same - n_alone)
    return None


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
