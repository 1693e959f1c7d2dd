"""Orders and items of one customer as records, by the rules of files, at once.

A request's few rows are read in plain Python, where a query per step would take longer
than all rows together. The rules are those of `core.tables.cells` and
`core.tables.reconcile`; tests hold what comes of random records against what comes of
the same rows in a file.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any

from core.tables.cells import (
    FIRST_YEAR,
    FLOAT_TEXT,
    LARGEST,
    LAST_YEAR,
    MISSING_TEXTS,
    SCIENTIFIC,
    UNKNOWN,
    naive,
)
from core.tables.columns import Column, TableSpec
from core.tables.exact import compensated_sum
from core.tables.orders import OPTIONAL
from core.tables.reconcile import ASIDE, ITEMS, KEPT, ORDERS, REFUND, Negative

Records = Sequence[Mapping[str, Any]]
Cells = dict[str, list[Any]]
# By the place of a row, its faults.
Faults = defaultdict[int, set[str]]


@dataclass(frozen=True)
class CustomerRows:
    """Orders and items of one customer that can be used, and what became of others.

    Attributes
    ----------
    customer_id : str
    orders : dict of str to list
        Columns as in `core.tables.orders.Purchases`, without ``customer_id``; empty
        lists if no order can be used.
    items : dict of str to list, or None
        Columns of the items, where the model knows items.
    reference_date : datetime
        The moment that stands for now.
    absent : tuple of str
        Columns that were left out.
    set_aside : dict of str to dict of str to int
        Rows with each fault that was met, of ``orders`` and of ``items``; refunds are
        among them.
    """

    customer_id: str
    orders: Cells
    items: Cells | None
    reference_date: datetime
    absent: tuple[str, ...]
    set_aside: dict[str, dict[str, int]]


def customer_rows(
    customer_id: str,
    orders: Records,
    items: Records,
    *,
    absent: Collection[str],
    reference_date: datetime,
    negative_orders: Negative = "refund",
) -> CustomerRows:
    """Take the records of one customer the way a whole file is taken.

    Parameters
    ----------
    customer_id : str
        Whose they are; what a record says of it plays no part.
    orders : sequence of mapping
        `order_id`, `order_date` (datetime; one with a zone is brought to UTC),
        `total_price`, and optionally `discount_amount` and `source`.
    items : sequence of mapping
        `order_id`, `product_id`, `quantity`, `price`, and optionally `category` and
        `refund_amount`.
    absent : collection of str
        What the model's data did not have: left out here as well. What a record lacks
        beside is taken as none (amounts) or ``unknown`` (texts).
    reference_date : datetime
        The moment that stands for now; orders after it are set aside.
    negative_orders : str
        As `axes.negative_orders`; ``error`` is as ``drop``.
    """
    lacking = tuple(name for name in OPTIONAL if name in absent)
    now, below_0 = naive(reference_date), "negative"
    if negative_orders == "refund":
        below_0 = "refund"
    name, _ = _read_id(customer_id)
    cells, faults = _read(orders, ORDERS, customer_id)
    _reconcile_orders(cells, faults, now, below_0)
    kept_items, item_faults = None, Faults(set)
    if "items" not in lacking:
        lines, item_faults = _read(items, ITEMS, customer_id)
        _reconcile_items(lines, item_faults, _statuses(cells, faults), below_0)
        _attribute_refunds(lines, item_faults, cells, faults)
        kept_items = _kept(lines, item_faults, ITEMS, lacking)
    return CustomerRows(
        name or customer_id,
        _kept(cells, faults, ORDERS, lacking),
        kept_items,
        now,
        lacking,
        {
            "orders": _counted(faults, ORDERS),
            "items": _counted(item_faults, ITEMS),
        },
    )


def _read(records: Records, spec: TableSpec, customer: str) -> tuple[Cells, Faults]:
    """Return our columns with what can be used, None elsewhere, and faults."""
    cells: Cells = {}
    faults = Faults(set)
    for column in spec.columns:
        name = column.name
        values = [record.get(name) for record in records]
        if name == "customer_id":
            values = [customer] * len(records)
        cells[name] = READERS[column.kind](values, column, faults)
    return cells, faults


def _ids(values: list[Any], column: Column, faults: Faults) -> list[str | None]:
    missing, *_, scientific = column.flags
    known = {value: _read_id(value) for value in set(values)}
    for row, value in enumerate(values):
        text, is_scientific = known[value]
        if text is None and missing:
            faults[row].add(missing)
        if is_scientific:
            faults[row].add(scientific)
    return [known[value][0] for value in values]


def _read_id(value: Any) -> tuple[str | None, bool]:
    """Return an id, `17850.0` as `17850`, and whether digits of it are lost."""
    text = "" if value is None else str(value).strip()
    if text in MISSING_TEXTS:
        return None, False
    if text.endswith((".0", ".00")) and re.match(FLOAT_TEXT, text):
        return text.rstrip("0").removesuffix("."), False
    is_marked = "E+" in text or "e+" in text
    return text, is_marked and re.search(SCIENTIFIC, text) is not None


def _moments(
    values: list[Any], column: Column, faults: Faults
) -> list[datetime | None]:
    moments = [_read_moment(value) for value in values]
    for row, moment in enumerate(moments):
        if moment is None:
            faults[row].add(column.flags[0])
    return moments


def _read_moment(value: Any) -> datetime | None:
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if not isinstance(value, datetime):
        return None
    moment = naive(value)
    return moment if FIRST_YEAR <= moment.year <= LAST_YEAR else None


def _numbers(values: list[Any], column: Column, faults: Faults) -> list[float | None]:
    numbers = [_read_number(value) for value in values]
    for row, number in enumerate(numbers):
        if number is None:
            faults[row].add(column.flags[0])
    return numbers


def _read_number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    # -0.0 becomes 0.0, so that equal quantities are equal bits; NaN is within nothing.
    return number + 0.0 if -LARGEST <= number <= LARGEST else None


def _amounts(values: list[Any], column: Column, faults: Faults) -> list[float]:
    """Return amounts; what is none, or below 0, is taken as 0."""
    return [max(_read_number(value) or 0.0, 0.0) for value in values]


def _names(values: list[Any], column: Column, faults: Faults) -> list[str]:
    """Return texts, ``unknown`` for what stands for nothing."""
    known = {value: _read_name(value) for value in set(values)}
    return [known[value] for value in values]


def _read_name(value: Any) -> str:
    text = "" if value is None else str(value).strip()
    return UNKNOWN if text in MISSING_TEXTS else text


def _words(values: list[Any], column: Column, faults: Faults) -> list[str]:
    return [name.lower() for name in _names(values, column, faults)]


READERS: dict[str, Callable[[list[Any], Column, Faults], list[Any]]] = {
    "id": _ids,
    "moment": _moments,
    "number": _numbers,
    "amount": _amounts,
    "name": _names,
    "word": _words,
}


def _reconcile_orders(
    cells: Cells, faults: Faults, now: datetime, below_0: str
) -> None:
    """Mark refunds, repeats, and orders after now; see `core.tables.reconcile`."""
    seen: set[tuple[str, bool]] = set()
    columns = (cells[name] for name in ("order_id", "total_price", "order_date"))
    for row, (order, total, moment) in enumerate(zip(*columns, strict=True)):
        if faults.get(row):
            continue
        is_negative = total < 0
        found = {
            below_0: is_negative,
            # A refund may carry the id of the order that it takes back.
            "repeated_order": (order, is_negative) in seen,
            "after_reference": moment > now,
        }
        seen.add((order, is_negative))
        if any(found.values()):
            faults[row].update(name for name, is_so in found.items() if is_so)


def _statuses(cells: Cells, faults: Faults) -> dict[str, int]:
    """Return of each order whether it is kept, else a refund, else set aside."""
    statuses: dict[str, int] = {}
    for row, order in enumerate(cells["order_id"]):
        if order is not None:
            own = faults.get(row)
            status = KEPT if not own else REFUND if own == {"refund"} else ASIDE
            statuses[order] = min(statuses.get(order, ASIDE), status)
    return statuses


def _reconcile_items(
    cells: Cells, faults: Faults, statuses: Mapping[str, int], below_0: str
) -> None:
    """Mark refunds, and items of orders that are not there or set aside."""
    rows = zip(cells["order_id"], cells["quantity"], cells["price"], strict=True)
    for row, (order, quantity, price) in enumerate(rows):
        if quantity is not None and price is not None and quantity < 0 and price < 0:
            faults[row].add("invalid_price")
        if faults.get(row):
            continue
        is_negative = quantity < 0 or price < 0
        status = statuses.get(order)
        if is_negative:
            faults[row].add(below_0)
        if status is None:
            faults[row].add("unknown_order")
        elif status == ASIDE or (status == REFUND and not is_negative):
            faults[row].add("order_set_aside")


def _attribute_refunds(
    lines: Cells, faults: Faults, orders: Cells, order_faults: Faults
) -> None:
    """Turn refund lines into `refund_amount` of what was bought, newest first."""
    given: dict[str, list[float]] = defaultdict(list)
    for row, own in faults.items():
        if own == {"refund"}:
            amount = abs(lines["quantity"][row] * lines["price"][row])
            given[lines["product_id"][row]].append(amount)
    if not given:
        return
    left = {product: compensated_sum(amounts) for product, amounts in given.items()}
    rows = enumerate(zip(orders["order_id"], orders["order_date"], strict=True))
    dates = {order: day for row, (order, day) in rows if not order_faults.get(row)}
    refunds = lines["refund_amount"]
    bought = []
    for row, product in enumerate(lines["product_id"]):
        if product in left and not faults.get(row):
            room = lines["price"][row] * lines["quantity"][row] - refunds[row]
            order = lines["order_id"][row]
            age = datetime.max - dates[order]
            bought.append((age, order, -max(room, 0.0), row, product))
    reached: dict[str, float] = defaultdict(float)
    for *_, below_0, row, product in sorted(bought):
        room = -below_0
        reached[product] += room
        taken_before = reached[product] - room
        refunds[row] += min(max(left[product] - taken_before, 0.0), room)


def _kept(
    cells: Cells, faults: Faults, spec: TableSpec, absent: Collection[str]
) -> Cells:
    """Return the columns that the model knows, of rows without a fault."""
    bad = {row for row, own in faults.items() if own}
    kept = {}
    for column in spec.columns:
        if column.name not in ("customer_id", *absent):
            values = cells[column.name]
            kept[column.name] = (
                [value for row, value in enumerate(values) if row not in bad]
                if bad
                else values
            )
    return kept


def _counted(faults: Faults, spec: TableSpec) -> dict[str, int]:
    """Return how many rows have each fault that was met, in the table's order."""
    counts = Counter(name for own in faults.values() for name in own)
    return {name: counts[name] for name in spec.meanings if counts[name]}
