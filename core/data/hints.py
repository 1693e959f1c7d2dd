"""What rows set aside have in common, and the option that would mend it."""

from __future__ import annotations

import polars as pl

from core.data.schema import ColumnMap

EXAMPLES = 3
LOOKED_AT = 1000
THOUSANDS = r"^[+-]?[0-9]{1,3}([,. '\u00a0\u202f][0-9]{3})+([.,][0-9]+)?$"
DECIMAL_COMMA = r"^[+-]?[0-9]*,[0-9]+$"
SHORT_YEAR = r"^[0-9]{2} "


def hints_on(
    rejected: pl.DataFrame, columns: ColumnMap, date_format: str | None
) -> list[str]:
    """Return a sentence for each reason that examples can explain.

    Parameters
    ----------
    rejected : polars.DataFrame
        `source_row`, `reason` and the mapped columns as received, as text.
    columns : ColumnMap
        Which received column is which of ours.
    date_format : str or None
        The option `data.date_format`.
    """
    theirs = columns.received
    hints = []
    quantities = _examples(rejected, "invalid_quantity", theirs["sales_qty"])
    if not quantities.is_empty():
        advice = ""
        if quantities["text"].str.contains(THOUSANDS).any():
            advice = (
                " Thousands separators are not guessed: take them out, and set "
                "`data.decimal` if the comma is the decimal mark."
            )
        elif quantities["text"].str.contains(DECIMAL_COMMA).any():
            advice = " If the comma is the decimal mark: `--set data.decimal=,`."
        hints.append(f"Unusable quantities are {_shown(quantities)}.{advice}")
    if columns.is_dated:
        dates = _examples(rejected, "impossible_month", theirs["date"])
        if not dates.is_empty():
            expected = (
                f"Expected the format `{date_format}`"
                if date_format
                else "Expected ISO dates such as 2024-01-31"
            )
            hints.append(
                f"Unreadable dates are {_shown(dates)}. {expected}; set "
                "`data.date_format`, such as `%d.%m.%Y` or `%m/%d/%Y %H:%M`."
            )
        return hints
    months = _examples(rejected, "impossible_month", theirs["year"], theirs["month"])
    if not months.is_empty():
        is_short = months["text"].str.contains(SHORT_YEAR).any()
        advice = " Years need four digits." if is_short else ""
        hints.append(f"Impossible years and months are {_shown(months)}.{advice}")
    return hints


def _examples(rejected: pl.DataFrame, reason: str, *columns: str) -> pl.DataFrame:
    """Return the first different cells of rows set aside for a reason, as `text`."""
    rows = rejected.filter(pl.col("reason") == reason).head(LOOKED_AT)
    names = [c if c in rejected.columns else f"{c}_received" for c in columns]
    text = pl.concat_str(pl.col(names).fill_null(""), separator=" / ")
    cells = rows.select("source_row", text.alias("text"))
    return cells.unique("text", keep="first", maintain_order=True)


def _shown(cells: pl.DataFrame) -> str:
    """Return examples with the rows that hold them."""
    shown = [
        f"`{text[:40]}` (row {row:,})" if text else f"empty (row {row:,})"
        for row, text in cells.head(EXAMPLES).iter_rows()
    ]
    return ", ".join(shown)
