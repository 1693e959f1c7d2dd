"""The columns of the sales table, and how a user's own names are matched to them.

A name is taken only where it is meant: mapped by the user, or equal to ours (spaces
around it aside). Look-alikes and well-known synonyms are suggested, never taken.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from core.errors import ConfigError, SchemaError, did_you_mean, listed

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
