"""Where the tables of grocery baskets are: a sample, Kaggle, a folder, mapped files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import polars as pl

from core.baskets.sample import write_sample
from core.baskets.schema import SPECS
from core.config import BasketsConfig, Config, DataConfig
from core.errors import ConfigError, SchemaError, SourceError, listed
from core.tables.columns import recognised_columns
from core.tables.files import (
    SourceFile,
    fetch_kaggle,
    find_files,
    unpack,
)
from core.tables.readers import BEYOND, ReceivedTable, read_files

HANDLE = "psparks/instacart-market-basket-analysis"
BY_HAND = "the folder that it is in: `--source FOLDER`"
# Files of a folder, without what comes after the point, and the tables that they are.
FILES = {
    "orders": "orders",
    "order_products__prior": "items",
    "products": "products",
    "aisles": "aisles",
}
TRAIN = "order_products__train"
OPTIONS = {
    "orders": "order_columns",
    "items": "item_columns",
    "products": "product_columns",
    "aisles": "aisle_columns",
}
# What tells when orders were, where they have no dates; the hour, where these have no
# times.
NUMBERED = ("order_number", "days_since_prior_order", "order_dow")
HOUR = "order_hour_of_day"


@dataclass(frozen=True)
class Sources:
    """Tables as received, and which of their columns are which of ours.

    Attributes
    ----------
    tables : dict of str to ReceivedTable
        ``orders``, ``items``, and if there are any ``products`` and ``aisles``.
    columns : dict of str to dict of str to str
        Per table our name: their name.
    data : DataConfig
        How cells are read.
    notes : list of str
        What was taken, and what was not.
    of_lines : bool
        Whether the orders are those of lines of items.
    """

    tables: dict[str, ReceivedTable]
    columns: dict[str, dict[str, str]]
    data: DataConfig
    notes: list[str]
    of_lines: bool


def find_sources(config: Config, work: Path, scratch: Path) -> Sources:
    """Return the tables that a configuration names, with nothing checked yet.

    Parameters
    ----------
    config : Config
        Options of `baskets` and `data`.
    work : Path
        Folder for the sample.
    scratch : Path
        Folder for what is fetched or unpacked.

    Raises
    ------
    SourceError
        If data cannot be found, fetched or opened.
    SchemaError
        If orders cannot be put in the order of time.
    ConfigError
        If an option cannot be meant.
    """
    options, data = config.baskets, config.data
    if options.orders is None and options.items is None and options.source == "sample":
        folder = _written_sample(config, work)
        # Its columns are ours, whatever the user's are.
        options, data = BasketsConfig(source=str(folder)), DataConfig()
    tables, notes = _received(options, data, scratch)
    of_lines = options.orders is not None and options.orders == options.items
    return matched_sources(tables, options, data, notes, of_lines=of_lines)


def matched_sources(
    received: Mapping[str, ReceivedTable],
    options: BasketsConfig,
    data: DataConfig,
    said: Sequence[str] = (),
    *,
    of_lines: bool,
) -> Sources:
    """Return tables with their columns matched to ours.

    Parameters
    ----------
    received : mapping of str to ReceivedTable
        As `Sources` has them.
    options : BasketsConfig
        Which columns are which.
    data : DataConfig
    said : sequence of str
        Notes on what was received.
    of_lines : bool
        Whether the orders are those of lines of items.

    Raises
    ------
    SchemaError, ConfigError
        As for `find_sources`.
    """
    tables, notes = dict(received), [*said]
    columns = {}
    for name, table in tables.items():
        wanted = getattr(options, OPTIONS[name])
        found = [n.strip() for n in table.scan.collect_schema().names() if n != BEYOND]
        columns[name] = recognised_columns(found, wanted, SPECS[name])
        if name == "orders" and "order_time" in columns[name]:
            _take_number_for_id(columns[name])
        taken = [
            f"`{ours}` from `{theirs}`"
            for ours, theirs in columns[name].items()
            if ours != theirs and ours not in wanted
        ]
        if taken:
            notes.append(
                f"{table.name}: read {', '.join(taken)}. To change it: "
                f"`{SPECS[name].mapping('OURS=YOURS')}`."
            )
    table, told = _with_one_time(tables["orders"], columns["orders"])
    tables["orders"] = table
    notes += told
    if of_lines:
        tables["orders"] = _orders_of_lines(table, columns["orders"])
        notes.append(f"{table.name}: orders are read from the lines of their items.")
    return Sources(tables, columns, data, notes, of_lines)


def _written_sample(config: Config, work: Path) -> Path:
    """Return the folder of the built-in sample, which goes the way of any other."""
    folder = work / "sample"
    options = config.baskets
    write_sample(
        folder,
        options.sample_customers,
        config.seed,
        "parquet",
        has_structure=options.sample_structure,
    )
    return folder


def _received(
    options: BasketsConfig, data: DataConfig, scratch: Path
) -> tuple[dict[str, ReceivedTable], list[str]]:
    """Return the tables as received, and what was left out."""
    given = {name: getattr(options, name) for name in OPTIONS}
    if options.orders is None and options.items is None:
        files, notes = _files_of(options.source, scratch)
        tables = {
            name: read_files(found, _called(found, name), data, scratch)
            for name, found in files.items()
            if given[name] is None
        }
    else:
        for one, other in (("orders", "items"), ("items", "orders")):
            if given[one] is None:
                raise ConfigError(
                    f"`baskets.{other}` is `{given[other]}`, but `baskets.{one}` is "
                    f"not set. Pass both: `--{one} PATH`. If one file holds order "
                    "lines, with customer, order, time and product, name it twice."
                )
        tables, notes = {}, []
    for name, address in given.items():
        if address is None:
            continue
        if name == "items" and address == options.orders:
            tables[name] = replace(tables["orders"], notes=())
            continue
        try:
            tables[name] = read_files(*find_files(address, scratch), data, scratch)
        except SourceError as error:
            raise SourceError(f"`baskets.{name}`: {error}") from None
    return tables, notes


def _files_of(
    source: str, scratch: Path
) -> tuple[dict[str, list[SourceFile]], list[str]]:
    """Return the files of each table of a folder, a zip file, or Kaggle's data set."""
    if source == "kaggle":
        found = fetch_kaggle(HANDLE, None, BY_HAND)
    else:
        try:
            found, _ = find_files(source, scratch)
        except SourceError as error:
            raise SourceError(f"`baskets.source`: {error}") from None
    if len(found) == 1:
        found = unpack(found[0], scratch)
    places, notes = by_table(source, [file.name for file in found])
    return {name: [found[at] for at in own] for name, own in places.items()}, notes


def by_table(
    source: str, names: Sequence[str]
) -> tuple[dict[str, list[int]], list[str]]:
    """Return the places of each table's files, and a note on what is not read.

    Parameters
    ----------
    source : str
        Where the files are, for messages.
    names : sequence of str
        Of the files, within `source`.

    Raises
    ------
    SourceError
        If there are no orders, or no items.
    """
    files: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        # The innermost: `orders/part-0.parquet` is of `orders`, too.
        stems = [part.partition(".")[0] for part in PurePosixPath(name).parts]
        for stem in reversed([stem.lower() for stem in stems]):
            if stem in (*FILES, TRAIN):
                files.setdefault(FILES.get(stem, TRAIN), []).append(place)
                break
    lacking = [stem for stem, name in FILES.items() if name not in files]
    if set(lacking) & {"orders", "order_products__prior"}:
        raise SourceError(
            f"`baskets.source` is `{source}`, which has no file {listed(lacking)} "
            "(.csv, .csv.gz, .parquet, ...); it holds "
            f"{listed(names)}. Files of other names: "
            "`--orders PATH --items PATH`, and `--products`, `--aisles`."
        )
    if TRAIN not in files:
        return files, []
    del files[TRAIN]
    folder = "FOLDER" if source == "kaggle" else source
    others = "".join(
        f" --{name} {folder}/{name}.csv"
        for name in ("products", "aisles")
        if name in files
    )
    return files, [
        f"`{TRAIN}` was not read: it has the items of each customer's newest order, "
        "which the published study left out. To read it: `--orders "
        f"{folder}/orders.csv --items {folder}/order_products__*.csv{others}`."
    ]


def _called(files: Sequence[SourceFile], table: str) -> str:
    return files[0].name if len(files) == 1 else f"{len(files)} files of {table}"


def _take_number_for_id(columns: dict[str, str]) -> None:
    """Take an order number for the id of dated orders, which have no other."""
    if "order_id" not in columns and "order_number" in columns:
        columns["order_id"] = columns.pop("order_number")


def _with_one_time(
    table: ReceivedTable, columns: dict[str, str]
) -> tuple[ReceivedTable, list[str]]:
    """Return orders without what their dates tell better; they need one of both.

    What is left out goes from `columns`, too.
    """
    if "order_time" in columns:
        unused = [columns.pop(name) for name in NUMBERED if name in columns]
        if not unused:
            return table, []
        names = table.scan.collect_schema().names()
        scan = table.scan.drop([n for n in names if n.strip() in unused])
        return replace(table, scan=scan), [
            f"{table.name}: {listed(unused)} not read, because "
            f"`{columns['order_time']}` tells it."
        ]
    if lacking := [name for name in NUMBERED[:2] if name not in columns]:
        found = listed(table.columns, 30)
        mapping = SPECS["orders"].mapping("order_time=NAME")
        raise SchemaError(
            f"{table.name}: no column {listed(lacking)}, so that orders cannot be put "
            "in the order of time. Expected `order_time`, or `order_number` and "
            f"`days_since_prior_order`; found {found}. Map it: `{mapping}`."
        )
    return table, [
        f"{table.name} has no `{name}`: what is made of it is unknown for everyone."
        for name in (*NUMBERED[2:], HOUR)
        if name not in columns
    ]


def _orders_of_lines(table: ReceivedTable, columns: dict[str, str]) -> ReceivedTable:
    """Return the different orders of a table of order lines.

    Lines with more cells than the header are set aside as items, and tell of no order.
    """
    schema = table.scan.collect_schema().names()
    names = [n for n in schema if n.strip() in columns.values()]
    lines = table.scan
    if BEYOND in schema:
        lines = lines.filter(pl.col(BEYOND).str.strip_chars().fill_null("") == "")
    scan = lines.select(names).unique(maintain_order=True)
    return replace(table, scan=scan, parts=())
