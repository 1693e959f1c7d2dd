"""Orders and items of customers, from files, frames, or a generator.

Every source takes one way: columns matched, cells parsed and flagged, rows held against
each other (`core.tables.reconcile`), and what was set aside accounted for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import polars as pl

from core.config import AxesConfig, Config, DataConfig
from core.errors import ConfigError, SchemaError, SourceError
from core.tables.cells import (
    ParsedRows,
    latest_moment,
    naive,
)
from core.tables.collect import collected_rows, own_policies
from core.tables.columns import FLAGS, ROW, Column, TableSpec
from core.tables.faults import (
    FaultCount,
    Validation,
    fault_lines,
    numbers_of,
    repair_lines,
    share,
)
from core.tables.files import counted, find_files
from core.tables.frames import table_from_frame
from core.tables.ids import outsized_ids
from core.tables.lines import Money, read_lines
from core.tables.readers import (
    READING_OPTIONS,
    ReceivedTable,
    fingerprint,
    read_files,
    scratch_folder,
)
from core.tables.reconcile import (
    ITEMS,
    LINES,
    ORDERS,
    PAIR,
    Negative,
    Refunds,
    attribute_refunds,
    kept_rows,
    reconcile_items,
    reconcile_orders,
    refund_account,
    refund_rows,
)

# What data may lack. The last one is lacking where every order is dated at midnight.
OPTIONAL = (
    "items", "discount_amount", "source", "category", "refund_amount", "order_time",
)  # fmt: skip
# A date may be wrong without being impossible: this far from the next one before it,
# the newest is worth a look, since every recency counts from it.
GAP_DAYS = 30
MANY = 0.2


@dataclass(frozen=True)
class Purchases:
    """Orders and items that can be used, and what became of the others.

    Attributes
    ----------
    orders : polars.DataFrame
        `customer_id`, `order_id` (String), `order_date` (Datetime, microseconds, no
        zone), `total_price` (Float64, at least 0; what was paid) and, unless absent,
        `discount_amount` (Float64, at least 0) and `source` (String, lower case;
        ``unknown`` where empty). No nulls; a customer has an order id once.
    items : polars.DataFrame or None
        `customer_id`, `order_id`, `product_id` (String), `quantity` (Float64, at least
        0), `price` (Float64, of one unit, at least 0) and, unless absent, `category`
        (String; ``unknown`` where empty) and `refund_amount` (Float64, at least 0).
        No nulls; every item has its order in `orders`.
    reference_date : datetime
        The moment that stands for now.
    absent : tuple of str
        Those of `OPTIONAL` that the data does not have.
    intake : dict
        The account, JSON-able; `intake_lines` tells it.
    rejected : polars.DataFrame
        Rows set aside: `table`, `source_row` (from 1), `reason`, and the mapped cells
        as received, as text.
    fingerprint : str
        SHA-256 that is equal when the same content is read with the same options.
    truth : polars.DataFrame or None
        What the generator planted; only for the sample.
    """

    orders: pl.DataFrame
    items: pl.DataFrame | None
    reference_date: datetime
    absent: tuple[str, ...]
    intake: dict[str, Any]
    rejected: pl.DataFrame
    fingerprint: str
    truth: pl.DataFrame | None = None

    @property
    def customers(self) -> pl.DataFrame:
        """``customer_id``, each customer once."""
        return self.orders.select("customer_id").unique()


PurchasesGenerator = Callable[[int, int], Any]
"""Makes the built-in sample of a number of customers with a seed: an object with
`orders`, `items` (our columns) and `truth`."""


def read_purchases(
    config: Config, work: Path, generate: PurchasesGenerator | None = None
) -> Purchases:
    """Read the orders and items that a configuration names.

    Parameters
    ----------
    config : Config
        Options of `axes`; those of `data` about CSV, Excel, dates and decimal marks
        hold here, too. Without `axes.orders` and `axes.lines` the built-in sample is
        generated.
    work : Path
        Folder for intermediate files; created if it is not there.
    generate : callable, optional
        Makes the sample, for a configuration that asks for it.

    Raises
    ------
    SourceError
        If the data cannot be found, fetched or opened, or the sample is asked for
        without `generate`.
    SchemaError
        If its columns or rows cannot be used.
    ConfigError
        If an option about the data cannot be meant.
    """
    axes = config.axes
    check_named(axes)
    if axes.lines is None and axes.orders is None:
        return _read_sample(config, generate)
    sources = {"orders": axes.orders, "items": axes.items, "lines": axes.lines}
    with scratch_folder(work) as scratch:
        tables = {
            name: read_files(*find_files(source, scratch), config.data, scratch)
            for name, source in sources.items()
            if source is not None
        }
        return _from_tables(tables, config)


def check_named(axes: AxesConfig) -> None:
    """Refuse sources that cannot be meant together.

    Raises
    ------
    ConfigError
    """
    if axes.lines is not None and (axes.orders or axes.items):
        raise ConfigError(
            "`axes.lines` is set, and so is `axes.orders` or `axes.items`. Order lines "
            "hold both: pass `--lines PATH` alone, or `--orders` and `--items`."
        )
    if axes.lines is None and axes.orders is None and axes.items is not None:
        raise ConfigError(
            f"`axes.items` is `{axes.items}`, but `axes.orders` is not set. Items "
            "need their orders: `--orders PATH`; order lines, with customer and "
            "date, are both: `--lines PATH`."
        )


def check_handed_in(orders: Any | None, items: Any | None, lines: Any | None) -> None:
    """Refuse frames that cannot be meant together.

    Raises
    ------
    ConfigError
    """
    if lines is not None and (orders is not None or items is not None):
        raise ConfigError(
            "`lines` were handed in beside `orders` or `items`; expected order lines "
            "alone, or orders with or without items."
        )
    if items is not None and orders is None:
        raise ConfigError(
            "`items` were handed in without `orders`; expected both, or orders alone."
        )


def purchases_from_frames(
    orders: Any | None,
    items: Any | None,
    config: Config,
    work: Path,
    *,
    lines: Any | None = None,
    money: Money | None = None,
) -> Purchases:
    """Take orders and items from frames in memory, with the checks made of files.

    Parameters
    ----------
    orders, items : pandas, Polars (eager or lazy) or Arrow table, or DuckDB relation
        Names are mapped by `config.axes.order_columns` and `config.axes.item_columns`.
        `items` may be None, and `orders` if there are `lines`.
    config : Config
        As for `read_purchases`; `axes.orders`, `axes.items` and `axes.lines` play no
        part.
    work : Path
        As for `read_purchases`.
    lines : frame, optional
        Order lines instead of both, mapped by `config.axes.line_columns`.
    money : Money, optional
        How amounts of `lines` are written, where they are those of some customers.

    Raises
    ------
    SourceError
        If one is no frame, or cannot be evaluated.
    SchemaError, ConfigError
        As for `read_purchases`.
    """
    natives = {"orders": orders, "items": items, "lines": lines}
    check_handed_in(orders, items, lines)
    with scratch_folder(work) as scratch:
        tables = {
            name: table_from_frame(native, scratch, f"the frame of {name}")
            for name, native in natives.items()
            if native is not None or (name == "orders" and lines is None)
        }
        return _from_tables(tables, config, money)


def purchases_of_part(
    tables: Mapping[str, ReceivedTable],
    config: Config,
    *,
    absent: Collection[str],
    money: Money | None = None,
) -> Purchases:
    """Take all rows of some customers, the others being elsewhere.

    Parameters
    ----------
    tables : mapping of str to ReceivedTable
        ``orders``, and ``items`` if there are any, or ``lines``; `settled` by all rows.
    config : Config
        As for `purchases_from_frames`; `axes.reference_date` is settled.
    absent : collection of str
        Those of `OPTIONAL` that the data of all customers does not have.
    money : Money, optional
        How amounts of ``lines`` are written.

    Returns
    -------
    Purchases
        With empty `orders` if none can be used. Its account has no notes and hints.

    Raises
    ------
    SchemaError, ConfigError
        As for `read_purchases`, but not for a table without a row that can be used.
    """
    axes, data = config.axes, config.data
    terms = Terms(
        axes.negative_orders,
        _reference(axes.reference_date),
        absent=tuple(name for name in OPTIONAL if name in absent),
        policies=own_policies(data),
    )
    purchases = _assembled(tables, axes, terms, data, money)
    return replace(purchases, intake={**purchases.intake, "notes": []})


def _read_sample(config: Config, generate: PurchasesGenerator | None) -> Purchases:
    """Generate the sample and take it like any other source."""
    if generate is None:
        raise SourceError(
            "`axes.orders` is not set, and no generator was handed in. Name the data "
            "with `--orders PATH`."
        )
    n_customers = config.axes.sample_customers
    made = generate(n_customers, config.seed)
    content = fingerprint({"sample_customers": n_customers, "seed": config.seed})
    tables = {
        "orders": ReceivedTable("the sample", made.orders.lazy(), content),
        "items": ReceivedTable("the sample", made.items.lazy(), content),
    }
    # Its columns are ours, whatever the user's are.
    ours = config.axes.model_copy(update={"order_columns": {}, "item_columns": {}})
    sample = config.model_copy(update={"axes": ours, "data": DataConfig()})
    return replace(_from_tables(tables, sample), truth=made.truth)


def _from_tables(
    tables: Mapping[str, ReceivedTable], config: Config, money: Money | None = None
) -> Purchases:
    """Read orders, and items if there are any, and put the result together."""
    axes, data = config.axes, config.data
    reference = _reference(axes.reference_date)
    latest = latest_moment()
    terms = Terms(axes.negative_orders, reference, latest, policies=own_policies(data))
    mapped = [axes.order_columns, axes.item_columns]
    if "lines" in tables:
        mapped = [axes.line_columns]
    purchases = _assembled(tables, axes, terms, data, money)
    digests = {name: table.digest for name, table in tables.items()}
    content = {
        **{"items": None, **digests},
        "axes": [*mapped, axes.negative_orders],
        "data": data.model_dump(include=READING_OPTIONS),
        "reference_date": purchases.reference_date.isoformat(),
    }
    return replace(purchases, fingerprint=fingerprint(content))


def _assembled(
    tables: Mapping[str, ReceivedTable],
    axes: AxesConfig,
    terms: Terms,
    data: DataConfig,
    money: Money | None,
) -> Purchases:
    """Read lines, or orders and items if there are any, and put them together."""
    if "lines" in tables:
        return _from_lines(tables["lines"], axes.line_columns, terms, data, money)
    orders = collected_rows(tables["orders"], axes.order_columns, ORDERS, data)
    items = None
    if "items" in tables:
        items = collected_rows(tables["items"], axes.item_columns, ITEMS, data)
    return assemble_orders(orders, items, terms)


def _from_lines(
    table: ReceivedTable,
    wanted: Mapping[str, str],
    terms: Terms,
    data: DataConfig,
    money: Money | None,
) -> Purchases:
    """Derive orders and items from lines; account for all three."""
    found = read_lines(table, wanted, data, money)
    account, refused = _validated(found.lines, found.lines.rows.collect(), terms)
    purchases = assemble_orders(found.orders, found.items, terms)
    intake = {
        **purchases.intake,
        "lines": {**account, "taken": found.taken},
        "notes": [*found.lines.notes, *purchases.intake["notes"]],
    }
    rejected = pl.concat([refused, purchases.rejected], how="diagonal")
    return replace(purchases, intake=intake, rejected=rejected)


def _reference(text: str | None) -> datetime | None:
    """Return the configured moment; a day stands for its end."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text.strip())
        is_day = len(text.strip()) <= len("2024-01-31") and "T" not in text
    except ValueError:
        raise ConfigError(
            f"`axes.reference_date` is `{text}`; expected a day or a moment in ISO "
            "8601, such as `2024-01-31` or `2024-01-31T18:00`."
        ) from None
    if is_day:
        return datetime.combine(date(moment.year, moment.month, moment.day), time.max)
    return naive(moment)


@dataclass(frozen=True)
class Terms:
    """What decides how rows are held against each other.

    Attributes
    ----------
    negative : str
        What a negative row is: ``refund``, ``drop`` or ``error``.
    reference : datetime or None
        The moment that stands for now; None: the newest order.
    latest : datetime or None
        Where `reference` is None, no order can be after this.
    absent : tuple of str or None
        Of the rows of some customers: what those of all lack. None: these are all.
    policies : mapping of str to str
        What to do with rows of a fault, where they are not to be set aside.
    """

    negative: Negative
    reference: datetime | None
    latest: datetime | None = None
    absent: tuple[str, ...] | None = None
    policies: Mapping[str, str] = field(default_factory=dict)


def assemble_orders(
    orders: ParsedRows, items: ParsedRows | None, terms: Terms
) -> Purchases:
    """Hold the rows of both tables against each other, and account for all of them.

    Parameters
    ----------
    orders, items : ParsedRows
        The rows as read.
    terms : Terms
        What decides.

    Raises
    ------
    SchemaError
        If no row of a table can be used, or negative rows are to stop.
    """
    order_rows, reference = reconcile_orders(
        orders.rows.collect(), terms.negative, terms.reference, terms.latest
    )
    account, refused = _validated(orders, order_rows, terms)
    accounts: dict[str, Any] = {"orders": account, "items": None}
    rejected, notes = [refused], [*orders.notes]
    kept, kept_items = kept_rows(order_rows, ORDERS), None
    n_refunds = refund_rows(order_rows, ORDERS).height
    refunds = Refunds(n_orders=n_refunds, n_orders_without_lines=n_refunds)
    if items is not None:
        item_rows = reconcile_items(items.rows.collect(), order_rows, terms.negative)
        accounts["items"], refused = _validated(items, item_rows, terms)
        kept_items, refunds = attribute_refunds(item_rows, order_rows)
        rejected.append(refused)
        notes += items.notes
    absent = terms.absent
    if absent is None:
        absent, more = _lacking(kept, kept_items, accounts)
        notes += [*more, *_order_warnings(kept, kept_items, account)]
    elif kept_items is not None and "refund_amount" not in kept_items.columns:
        # Refund lines of other customers are known.
        kept_items = kept_items.with_columns(refund_amount=pl.lit(0.0))
    kept = _in_order(kept, ORDERS, absent)
    kept_items = None if kept_items is None else _in_order(kept_items, ITEMS, absent)
    intake = {
        **accounts,
        "refunds": refund_account(refunds),
        **_extent(kept, kept_items),
        "notes": notes,
    }
    return Purchases(
        orders=kept,
        items=kept_items,
        # Without an order there was an error before, or a moment given.
        reference_date=reference or datetime.min,
        absent=absent,
        intake=intake,
        rejected=pl.concat(rejected, how="diagonal"),
        fingerprint="",
    )


def _validated(
    parsed: ParsedRows, rows: pl.DataFrame, terms: Terms
) -> tuple[dict[str, Any], pl.DataFrame]:
    """Return the account of a table and its rows set aside; stop where need be."""
    limit = terms.reference or terms.latest
    until = "" if limit is None else f" {limit.isoformat(' ', 'minutes')}"
    checked = Validation(
        parsed, rows, terms.policies, "data.policies", {"until": until}
    )
    checked.stop_at_errors(parsed.spec.own_faults)
    _check_negative(checked, rows, terms.negative)
    if terms.absent is None:
        checked.stop_without_rows()
    account = {
        "source": parsed.name,
        "rows_read": checked.n_read,
        "rows_kept": checked.n_read - checked.n_flagged,
        "rows_set_aside": checked.n_flagged,
        "faults": {name: checked.found[name] for name in parsed.spec.meanings},
        "repairs": checked.repairs,
        "hints": checked.fixes if terms.absent is None else [],
    }
    return account, checked.rejected


def _check_negative(
    checked: Validation, rows: pl.DataFrame, negative: Negative
) -> None:
    """Stop at negative rows, where `axes.negative_orders` is ``error``."""
    if negative != "error" or checked.spec is LINES:
        return
    found = rows.filter(checked.spec.has_any(["negative"]))
    if found.is_empty():
        return
    column = "`total_price`" if checked.spec is ORDERS else "`quantity` or `price`"
    raise SchemaError(
        f"{checked.parsed.name}: {found.height:,} of {counted(rows.height)} have a "
        f"{column} below 0; first: row {numbers_of(found)}. `axes.negative_orders` is "
        "`error`; to go on, take them as refunds (`--set axes.negative_orders=refund`) "
        "or set them aside (`--set axes.negative_orders=drop`)."
    )


def _optional_columns(spec: TableSpec) -> list[Column]:
    """Return the columns that data may lack; their last flag is of empty cells."""
    return [column for column in spec.columns if column.name in OPTIONAL]


def _lacking(
    orders: pl.DataFrame, items: pl.DataFrame | None, accounts: Mapping[str, Any]
) -> tuple[tuple[str, ...], list[str]]:
    """Return those of `OPTIONAL` that the data does not have, and notes on them."""
    absent: set[str] = set()
    notes: list[str] = []
    for spec, frame in ((ORDERS, orders), (ITEMS, items)):
        account = accounts[spec.name]
        for column in _optional_columns(spec):
            name = column.name
            if frame is None or name not in frame.columns:
                absent.add(name)
            elif account["repairs"][column.flags[-1]] == account["rows_read"]:
                # Refund lines may have filled a column that came empty.
                if name == "refund_amount" and frame[name].sum() > 0:
                    continue
                absent.add(name)
                notes.append(f"`{name}` is empty in every row: taken as absent.")
    if items is None:
        absent.add("items")
    midnight = pl.col("order_date").dt.truncate("1d") == pl.col("order_date")
    if orders.select(midnight.all()).item():
        absent.add("order_time")
        notes.append("Orders have dates without a time of day.")
    return tuple(name for name in OPTIONAL if name in absent), notes


def _in_order(
    frame: pl.DataFrame, spec: TableSpec, absent: Collection[str]
) -> pl.DataFrame:
    """Return our columns of a table in our order."""
    return frame[[c.name for c in spec.columns if c.name not in absent]]


def _extent(orders: pl.DataFrame, items: pl.DataFrame | None) -> dict[str, Any]:
    """Return how many customers and products, and from when to when."""
    dates = orders["order_date"]
    oldest, newest = dates.min(), dates.max()
    return {
        "n_customers": orders["customer_id"].n_unique(),
        "n_products": None if items is None else items["product_id"].n_unique(),
        "oldest_order": oldest.isoformat() if isinstance(oldest, datetime) else None,
        "newest_order": newest.isoformat() if isinstance(newest, datetime) else None,
    }


def _order_warnings(
    orders: pl.DataFrame, items: pl.DataFrame | None, account: Mapping[str, Any]
) -> list[str]:
    """Return what is odd about the rows kept, though each is fine by itself."""
    sums = orders.group_by("customer_id").agg(pl.len().alias("n"))
    notes = outsized_ids(sums.rename({"customer_id": "id"}), "customer_id", "order")
    n_repeats = account["faults"]["repeated_order"]
    if n_repeats > MANY * account["rows_read"]:
        notes.append(
            f"{share(n_repeats, account['rows_read'])} of the order rows repeat an "
            "order id. Expected one row per order: are these item rows, or order "
            "numbers that start again each day?"
        )
    newest = orders["order_date"].dt.date().unique().sort()[-2:].to_list()
    if len(newest) > 1 and (gap := (newest[1] - newest[0]).days) > GAP_DAYS:
        notes.append(
            f"The newest order ({newest[1]}) is {gap:,} days after the one before it. "
            "If its date is wrong, so is every recency: set `axes.reference_date`."
        )
    if "discount_amount" in orders.columns:
        above = pl.col("discount_amount") > pl.col("total_price")
        if n := orders.filter(above).height:
            notes.append(
                f"{counted(n, 'order')} with a discount above the total, kept: totals "
                "are taken as what was paid, after discounts."
            )
    return notes + ([] if items is None else _item_warnings(orders, items))


def _item_warnings(orders: pl.DataFrame, items: pl.DataFrame) -> list[str]:
    """Return what is odd about the items kept."""
    notes = []
    n_without = orders.join(items, on=PAIR, how="anti").height
    if n_without:
        notes.append(
            f"{counted(n_without, 'order')} ({share(n_without, orders.height)}) "
            "without items: features of products see the others only."
        )
    compared = items.drop(ROW, FLAGS, "refund_amount", strict=False)
    repeated = items.height - compared.hash_rows().n_unique()
    if repeated:
        notes.append(
            f"{counted(repeated, 'item row')} equal to another one of the same order, "
            "kept: a receipt may list a product twice."
        )
    return notes


def intake_lines(intake: Mapping[str, Any]) -> list[str]:
    """Return the account of `Purchases.intake` in sentences, most important first."""
    orders, items = intake["orders"], intake["items"]
    lines = []
    if received := intake.get("lines"):
        lines = [
            f"Kept {received['rows_kept']:,} of "
            f"{counted(received['rows_read'], 'line')} ({received['source']}); orders "
            "and items are made of these.",
            received["taken"],
        ]
    lines += [
        f"Kept {orders['rows_kept']:,} of {counted(orders['rows_read'], 'order')} "
        f"({orders['source']}) of {counted(intake['n_customers'], 'customer')}, "
        f"{intake['oldest_order'][:10]} to {intake['newest_order'][:10]}."
    ]
    if items is not None:
        n = intake["n_products"]
        of = "" if n is None else f" of {counted(n, 'product')}"
        lines.append(
            f"Kept {items['rows_kept']:,} of {counted(items['rows_read'], 'item')} "
            f"({items['source']}){of}."
        )
    for spec in (LINES, ORDERS, ITEMS):
        if (account := intake.get(spec.name)) is not None:
            # Refunds are told of together.
            faults = {
                name: FaultCount(n, "drop", n)
                for name, n in account["faults"].items()
                if name != "refund"
            }
            n_read, n_aside = account["rows_read"], account["rows_set_aside"]
            lines += fault_lines(spec, n_read, n_aside, faults)
            lines += repair_lines(spec, n_read, account["repairs"])
            lines += account["hints"]
    return [*lines, *_refund_lines(intake), *intake["notes"]]


def _refund_lines(intake: Mapping[str, Any]) -> list[str]:
    """Return what became of the refunds."""
    refunds = intake["refunds"]
    n_orders, n_lines = refunds["n_orders"], refunds["n_lines"]
    lines = []
    found = [
        counted(n, what)
        for n, what in ((n_orders, "order"), (n_lines, "item line"))
        if n
    ]
    if found:
        lines.append(
            "Taken as refunds (`refund`), not as orders or purchases: "
            f"{' and '.join(found)} below 0."
        )
    if refunds["amount"] > 0:
        attributed, amount = refunds["attributed"], refunds["amount"]
        lines.append(
            f"Refund lines came to {amount:,.2f}; {attributed:,.2f} of it "
            f"({share(attributed, amount)}) were put to purchases of the same customer "
            "and product, the rest was bought before the data or is not in it."
        )
    if n := refunds["n_orders_without_lines"]:
        lines.append(
            f"{counted(n, 'refund order')} without item lines: what was given back is "
            "not known, so no feature counts it."
        )
    return lines
