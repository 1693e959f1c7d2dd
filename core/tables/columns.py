"""Columns of tables: ours, those met in the field, and how they are matched.

A name is taken only where it is meant: mapped by the user, or equal to ours (spaces
around it aside). Look-alikes and well-known synonyms are suggested, never taken.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from core.errors import ConfigError, SchemaError, did_you_mean, listed
from core.tables.readers import BEYOND

KEY_COLUMNS = ("shop_id", "product_id", "year", "month")
OUR_COLUMNS = (*KEY_COLUMNS, "date", "sales_qty", "sales_value")
EXPECTED = (
    "`shop_id`, `product_id`, `year` and `month` (or one `date`), `sales_qty`, and "
    "`sales_value` if there is one"
)
SALES_SCHEMA = {
    "shop_id": pl.String,
    "product_id": pl.String,
    "year": pl.Int32,
    "month": pl.Int32,
    "sales_qty": pl.Float64,
    "sales_value": pl.Float64,
}

# Names as they are met in the field, lower case, letters and digits only.
SYNONYMS = {
    "shop_id": "shop store storeid shopcode storecode storenumber storename retailer "
    "retailerid retailercode outlet outletid outletcode customer customerid custid "
    "customercode customernumber client clientid account accountid buyer buyerid "
    "household householdid dealer dealerid pos posid userid",
    "product_id": "product productcode productnumber sku skuid skucode stockcode item "
    "itemid itemcode itemnumber article articleid articlecode articlenumber material "
    "materialid ean upc barcode gtin",
    "year": "yr salesyear saleyear orderyear fiscalyear calendaryear jahr annee ano",
    "month": "mon mth monthnumber monthno salesmonth salemonth ordermonth monat mois",
    "date": "day datetime timestamp invoicedate orderdate saledate salesdate "
    "transactiondate purchasedate orderedat period yearmonth datum",
    "sales_qty": "qty quantity salesquantity saleqty soldqty unitssold units sold "
    "bottlessold pieces pcs volume orderqty orderquantity count amountsold salesunits",
    "sales_value": "value sales salesamount revenue turnover amount total netsales",
}


@dataclass(frozen=True)
class ColumnMap:
    """Which received column is which of ours.

    Attributes
    ----------
    received : dict of str to str
        Our name: the name as received, spaces included.
    """

    received: dict[str, str]

    @property
    def is_dated(self) -> bool:
        """Whether year and month are derived from `date`."""
        return "date" in self.received


def match_columns(
    found: Sequence[str], wanted: Mapping[str, str], where: str
) -> ColumnMap:
    """Match the columns of a table to ours.

    Parameters
    ----------
    found : sequence of str
        Column names as received.
    wanted : mapping of str to str
        The user's option `data.columns`, our name: their name.
    where : str
        What the table is called in messages.

    Raises
    ------
    ConfigError
        If `wanted` names a column we do not have, gives one column two meanings, or
        maps both `date` and `year` or `month`.
    SchemaError
        If a column is missing or named twice; shows what was expected and found, near
        names, and the option that maps them.
    """
    _check_wanted(wanted)
    received: dict[str, str] = {}
    missing: list[str] = []
    for ours in _columns_to_find(found, wanted):
        name = _find(wanted.get(ours, ours), found, where)
        if name is not None:
            received[ours] = name
        elif ours != "sales_value" or ours in wanted:
            missing.append(ours)
    if missing:
        raise SchemaError(_explain_missing(missing, found, wanted, where))
    return ColumnMap(received)


def _check_wanted(wanted: Mapping[str, str]) -> None:
    """Refuse a mapping that cannot be meant."""
    for ours in wanted:
        if ours not in OUR_COLUMNS:
            raise ConfigError(
                f"`data.columns` maps `{ours}`, which is none of ours."
                f"{did_you_mean(ours, OUR_COLUMNS)} Known: {listed(OUR_COLUMNS)}."
            )
    if "date" in wanted and ("year" in wanted or "month" in wanted):
        raise ConfigError(
            "`data.columns` maps `date` and also `year` or `month`; the month can come "
            "from one of them only. Map either `date`, or `year` and `month`."
        )
    meanings: dict[str, str] = {}
    for ours, theirs in wanted.items():
        if (other := meanings.setdefault(theirs.strip(), ours)) != ours:
            raise ConfigError(
                f"`data.columns` maps `{theirs}` to both `{other}` and `{ours}`; "
                "a column has one meaning."
            )


def _columns_to_find(found: Sequence[str], wanted: Mapping[str, str]) -> list[str]:
    """Return our columns to look for: with `date`, or with `year` and `month`."""
    names = {name.strip() for name in found}
    has_months = {"year", "month"} <= names | set(wanted)
    use_date = "date" in wanted or ("date" in names and not has_months)
    time = ["date"] if use_date else ["year", "month"]
    return ["shop_id", "product_id", *time, "sales_qty", "sales_value"]


def _find(name: str, found: Sequence[str], where: str) -> str | None:
    """Return the received name equal to `name`, spaces around it aside."""
    alike = [other for other in found if other.strip() == name.strip()]
    if len(alike) > 1:
        raise SchemaError(
            f"{where}: {len(alike)} columns are named `{name.strip()}`; it is not "
            "known which is meant. Rename one of them."
        )
    return alike[0] if alike else None


def suggest(ours: str, found: Sequence[str], expected: str | None = None) -> str | None:
    """Return the received column that `ours` probably is, or None.

    `expected` is the name the user gave for it, which is looked for first.
    """
    plain = {_plain(name): name.strip() for name in reversed(found)}
    for target in filter(None, (expected, ours)):
        if _plain(target) in plain:
            return plain[_plain(target)]
        if near := difflib.get_close_matches(_plain(target), plain, n=1, cutoff=0.75):
            return plain[near[0]]
    for synonym in SYNONYMS[ours].split():
        if synonym in plain:
            return plain[synonym]
    return None


def _plain(name: str) -> str:
    """Return a name without case, spaces and punctuation."""
    return re.sub(r"[\W_]+", "", name).lower()


def _explain_missing(
    missing: Sequence[str], found: Sequence[str], wanted: Mapping[str, str], where: str
) -> str:
    """Return expected, found, and the options that would mend the difference."""
    absent = []
    for ours in missing:
        theirs = wanted.get(ours)
        mapped = f" (mapped to `{theirs}`, which is not there)" if theirs else ""
        absent.append(f"`{ours}`{mapped}")
    lines = [f"{where}: no column {', '.join(absent)}.", f"  expected: {EXPECTED}"]
    lines.append(f"  found:    {listed([n.strip() for n in found], 30) or 'none'}")
    taken = {wanted.get(o, o) for o in OUR_COLUMNS if o not in missing}
    free = [name for name in found if name.strip() not in taken]
    if options := _mapping_options(missing, free, wanted):
        lines.append(f"  perhaps:  {' '.join(options)}")
    else:
        lines.append(
            "  Map your own names with `--column OURS=YOURS`, such as "
            f"`--column {missing[0]}=NAME`."
        )
    if (
        found
        and sum(bool(re.fullmatch(r"[\d.,-]*", n.strip())) for n in found)
        > len(found) / 2
    ):
        lines.append("  The first line looks like data: is the header line missing?")
    return "\n".join(lines)


def _mapping_options(
    missing: Sequence[str], free: Sequence[str], wanted: Mapping[str, str]
) -> list[str]:
    """Return `--column` options for the missing columns that have a likely match."""
    options = []
    asked = list(missing)
    if {"year", "month"} <= set(asked) and not {"year", "month"} & set(wanted):
        has_months = all(suggest(ours, free) for ours in ("year", "month"))
        if not has_months and suggest("date", free):
            asked = [o for o in asked if o not in ("year", "month")] + ["date"]
    for ours in asked:
        if theirs := suggest(ours, free, wanted.get(ours)):
            shown = f'"{ours}={theirs}"' if " " in theirs else f"{ours}={theirs}"
            options.append(f"--column {shown}")
            free = [name for name in free if name.strip() != theirs]
    return options


Kind = Literal["id", "moment", "number", "text"]


@dataclass(frozen=True)
class Column:
    """One column of ours.

    Attributes
    ----------
    name : str
        Our name.
    kind : str
        `id`, `moment`, `number` or `text`.
    is_required : bool
        Whether a table without it is refused.
    synonyms : str
        Names met in the field, lower case, letters and digits only.
    """

    name: str
    kind: Kind
    is_required: bool
    synonyms: str


@dataclass(frozen=True)
class TableSpec:
    """One of the two tables.

    Attributes
    ----------
    name : str
        `orders` or `items`.
    option, flag : str
        What maps the user's names: in a configuration, and on the command line.
    columns : tuple of Column
        In our order.
    """

    name: str
    option: str
    flag: str
    columns: tuple[Column, ...]

    def __getitem__(self, name: str) -> Column:
        """Return the column of that name."""
        return next(column for column in self.columns if column.name == name)


_CUSTOMER = (
    "customer custid customercode customernumber client clientid account accountid "
    "buyer buyerid shopper shopperid household householdid householdkey user userid "
    "member memberid"
)
_ORDER = (
    "order ordernumber orderno invoice invoiceid invoiceno invoicenumber basketid "
    "transaction transactionid receipt receiptid saleid cartid"
)
ORDERS = TableSpec(
    "orders",
    "axes.order_columns",
    "--order-column",
    (
        Column("customer_id", "id", True, _CUSTOMER),
        Column("order_id", "id", True, _ORDER),
        Column(
            "order_date",
            "moment",
            True,
            "date datetime timestamp orderts ts time createdat orderedat invoicedate "
            "transactiondate transactiontimestamp purchasedate saledate placedat",
        ),
        Column(
            "total_price",
            "number",
            True,
            "total amount ordertotal ordervalue totalamount value salesvalue revenue "
            "grandtotal price subtotal netamount payment",
        ),
        Column(
            "discount_amount",
            "number",
            False,
            "discount discounts totaldiscount totaldiscounts discountvalue rebate",
        ),
        Column("source", "text", False, "channel sourcename saleschannel orderchannel"),
    ),
)
ITEMS = TableSpec(
    "items",
    "axes.item_columns",
    "--item-column",
    (
        Column("customer_id", "id", False, _CUSTOMER),
        Column("order_id", "id", True, _ORDER),
        Column(
            "product_id",
            "id",
            True,
            "product productcode productnumber sku skuid stockcode item itemid "
            "itemcode article articleid material materialid ean upc barcode",
        ),
        Column("quantity", "number", True, "qty units pieces pcs count volume"),
        Column("price", "number", True, "unitprice itemprice priceperunit pricepaid"),
        Column(
            "category",
            "text",
            False,
            "productcategory categoryname producttype department productgroup aisle",
        ),
        Column(
            "refund_amount",
            "number",
            False,
            "refund refunds refunded refundedamount returnamount returned",
        ),
    ),
)


EXPECTED_OF_KIND = {
    "id": "an id",
    "moment": "a date with its time",
    "number": "a number",
    "text": "text",
}


def match_table(
    schema: pl.Schema, wanted: Mapping[str, str], spec: TableSpec, where: str
) -> tuple[dict[str, str], list[str]]:
    """Match the columns of a table to ours, and check that their types will do.

    Parameters
    ----------
    schema : polars.Schema
        Columns as received.
    wanted : mapping of str to str
        The user's option, our name: their name.
    spec : TableSpec
        Which table it is.
    where : str
        What the table is called in messages.

    Returns
    -------
    dict of str to str, list of str
        Our name: the name as received, spaces included, in our order; and a note for
        each optional column that is missing while another one looks like it.

    Raises
    ------
    ConfigError
        If `wanted` names a column that we do not have, or gives one two meanings.
    SchemaError
        If a column is missing, named twice, or of a type that cannot be meant; shows
        what was expected and found, and the option that maps it.
    """
    _check_table_wanted(wanted, spec)
    found = [name for name in schema.names() if name != BEYOND]
    received: dict[str, str] = {}
    missing: list[str] = []
    for column in spec.columns:
        name = _find(wanted.get(column.name, column.name), found, where)
        if name is not None:
            received[column.name] = name
            _check_type(schema[name], name, column, spec, where)
        elif column.is_required or column.name in wanted:
            missing.append(column.name)
    if missing:
        raise SchemaError(_explain_table(missing, found, wanted, spec, where))
    return received, _suggestions(received, found, spec, where)


def _check_table_wanted(wanted: Mapping[str, str], spec: TableSpec) -> None:
    """Refuse a mapping that cannot be meant."""
    known = [column.name for column in spec.columns]
    meanings: dict[str, str] = {}
    for ours, theirs in wanted.items():
        if ours not in known:
            raise ConfigError(
                f"`{spec.option}` maps `{ours}`, which is none of ours."
                f"{did_you_mean(ours, known)} Known: {listed(known)}."
            )
        if (other := meanings.setdefault(theirs.strip(), ours)) != ours:
            raise ConfigError(
                f"`{spec.option}` maps `{theirs}` to both `{other}` and `{ours}`; "
                "a column has one meaning."
            )


def _check_type(
    dtype: pl.DataType, name: str, column: Column, spec: TableSpec, where: str
) -> None:
    """Refuse a received column whose type can never be read as ours."""
    is_date = isinstance(dtype, pl.Date | pl.Datetime)
    is_moment = column.kind == "moment"
    if dtype.is_nested() or isinstance(dtype, pl.Object | pl.Time | pl.Duration):
        advice = "Convert it before, or map another column."
    elif is_date and not is_moment:
        advice = f"Map the right column: `{spec.flag} {column.name}=NAME`."
    elif is_moment and isinstance(dtype, pl.Boolean):
        advice = "Give dates as dates, as ISO text, or as seconds since 1970."
    else:
        return
    raise SchemaError(
        f"{where}: column `{name.strip()}` is of type {dtype}; expected "
        f"{EXPECTED_OF_KIND[column.kind]} for `{column.name}`. {advice}"
    )


def _suggest(column: Column, found: Sequence[str], expected: str | None) -> str | None:
    """Return the received column that one of ours probably is, or None."""
    plain = {_plain(name): name.strip() for name in reversed(found)}
    for target in filter(None, (expected, column.name)):
        if near := difflib.get_close_matches(_plain(target), plain, n=1, cutoff=0.8):
            return plain[near[0]]
    return next((plain[s] for s in column.synonyms.split() if s in plain), None)


def _option(spec: TableSpec, ours: str, theirs: str) -> str:
    """Return the flag that maps a column, quoted where a shell needs it."""
    pair = f"{ours}={theirs}"
    return f'{spec.flag} "{pair}"' if " " in theirs else f"{spec.flag} {pair}"


def _suggestions(
    received: Mapping[str, str], found: Sequence[str], spec: TableSpec, where: str
) -> list[str]:
    """Return a note for each optional column that another one may stand for."""
    taken = set(received.values())
    free = [name for name in found if name not in taken]
    notes = []
    for column in spec.columns:
        if column.name in received or column.is_required:
            continue
        if theirs := _suggest(column, free, None):
            free = [name for name in free if name.strip() != theirs]
            notes.append(
                f"{where} has no `{column.name}`. If `{theirs}` is meant: "
                f"`{_option(spec, column.name, theirs)}`."
            )
    return notes


def _explain_table(
    missing: Sequence[str],
    found: Sequence[str],
    wanted: Mapping[str, str],
    spec: TableSpec,
    where: str,
) -> str:
    """Return expected, found, and the options that would mend the difference."""
    absent = []
    for ours in missing:
        theirs = wanted.get(ours)
        mapped = f" (mapped to `{theirs}`, which is not there)" if theirs else ""
        absent.append(f"`{ours}`{mapped}")
    required = [column.name for column in spec.columns if column.is_required]
    optional = [column.name for column in spec.columns if not column.is_required]
    lines = [
        f"{where}: no column {', '.join(absent)} in the {spec.name}.",
        f"  expected: {listed(required)}, and if there is one {listed(optional)}",
        f"  found:    {listed([n.strip() for n in found], 30) or 'none'}",
    ]
    taken = {wanted.get(c.name, c.name) for c in spec.columns if c.name not in missing}
    free = [name for name in found if name.strip() not in taken]
    options = []
    for ours in missing:
        if likely := _suggest(spec[ours], free, wanted.get(ours)):
            options.append(_option(spec, ours, likely))
            free = [name for name in free if name.strip() != likely]
    if options:
        lines.append(f"  perhaps:  {' '.join(options)}")
    else:
        lines.append(
            f"  Map your own names with `{spec.flag} OURS=YOURS`, such as "
            f"`{spec.flag} {missing[0]}=NAME`."
        )
    return "\n".join(lines)
