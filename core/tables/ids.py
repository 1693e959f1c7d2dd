"""What the ids of the rows kept tell: look-alikes, placeholders, and rows of totals.

Also the draw by a hash of the id: the same on every engine, version and order of rows,
and nearly the same from month to month.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import polars as pl

from core.tables.faults import share

PLACEHOLDER = (
    r"(?i)^(0+|-1|9{4,}|guest.*|unknown.*|anonym.*|anon|walk.?in.*|cash.*|default"
    r"|dummy|test|undefined|not.?set|misc.*|others?|-+|\?+|x+|gast|unbekannt)$"
)
TOTAL = (
    r"(?i)\b(sub-?)?totals?\b|^(sum|all|alle|summe|gesamt.*|insgesamt|totaal|totale"
    r"|somme|suma)$"
)
# Six digits are what Excel shows of a long number, 15 what it keeps.
ROUNDED = r"^(\d{6}0{6,}|\d{15}0+)$"
# From which share of the rows, and multiple of the median id's rows, an id is told of,
# and among how many; less for the name of a placeholder.
OUTSIZED, OUTSIZED_PLACEHOLDER = (0.05, 20, 20), (0.01, 5, 5)
# Ids looked at as totals, and the share of groups in which one has to be the sum.
CANDIDATES, MOST_GROUPS = 5, 0.95
# Subtotals, totals over them, and one of all hold the same amounts so many times.
LEVELS = (1, 2, 3)


def id_sums(rows: pl.LazyFrame, column: str, value: str) -> pl.DataFrame:
    """Return `id`, `n` (its rows) and `total` (the sum of a value), by id."""
    sums = rows.group_by(pl.col(column).alias("id")).agg(
        pl.len().alias("n"), pl.col(value).sum().alias("total")
    )
    return sums.sort("id").collect(engine="streaming")


def total_ids(
    rows: pl.LazyFrame, sums: pl.DataFrame, column: str, value: str, key: Sequence[str]
) -> list[str]:
    """Return the ids that stand for totals: their value is the sum of all others.

    Only ids named as totals are looked at, and those that hold half of everything, as
    a total does; data without either costs no further reading.

    Parameters
    ----------
    rows : polars.LazyFrame
        Rows that can be used.
    sums : polars.DataFrame
        `id_sums` of them.
    column, value : str
        The ids, and what was summed.
    key : sequence of str
        What tells rows apart: a total is of those that are equal but for `column`.
    """
    groups = [name for name in key if name != column]

    def compared(ids: Sequence[str], candidates: Sequence[str]) -> pl.DataFrame:
        # A table with one column of ids has no groups that a total could be of.
        found = rows if groups else rows.limit(0)
        of = (column, value, ids, candidates, groups or [column])
        return sum_counts(found, *of).collect(engine="streaming")

    whole = float(sums.select("total").sum().item())
    return totals_among(sums, whole, compared)


Compared = Callable[[Sequence[str], Sequence[str]], pl.DataFrame]
"""Ids, and all candidates for totals, to `sum_counts` of the rows, or of parts."""


def totals_among(sums: pl.DataFrame, whole: float, compared: Compared) -> list[str]:
    """Return which ids stand for totals.

    Parameters
    ----------
    sums : DataFrame
        `id_sums`; ids that neither are named as totals nor hold half of everything
        may be missing.
    whole : float
        Sum of the values of all rows.
    compared : callable
        Looks at the rows.
    """
    named = sums.filter(pl.col("id").str.contains(TOTAL))["id"].to_list()
    is_half = (pl.col("total") * 2 - whole).abs() <= abs(whole) * 0.02
    is_looked_at = (pl.col("id").is_in(named) | is_half) & (pl.col("total") != 0)
    found = sums.filter(is_looked_at).sort("total", "id", descending=True)
    alone = found.head(CANDIDATES)["id"].to_list()
    totals: list[str] = []
    # Subtotals of several names add up together only.
    for ids in ([named] if len(named) > 1 else []) + [[id_] for id_ in alone]:
        own = float(sums.filter(pl.col("id").is_in(ids))["total"].sum())
        is_named = set(ids) <= set(named)
        is_whole = is_named and any(
            abs(own - times * (whole - own)) <= _rounding(own) for times in LEVELS
        )
        if not set(ids) <= set(totals) and (
            is_whole or _are_sums(compared(ids, [*named, *alone]), is_named)
        ):
            totals += ids
    return totals


def _rounding(total: Any) -> Any:
    """Return by how much a total may differ from its sum."""
    return 0.005 + abs(total) * 1e-6


def sum_counts(
    rows: pl.LazyFrame,
    column: str,
    value: str,
    ids: Sequence[str],
    candidates: Sequence[str],
    groups: Sequence[str],
) -> pl.LazyFrame:
    """Count the groups in which ids occur, and hold the sum of the others.

    Of all others, or of those that are no candidates for totals themselves, which
    subtotals and totals together hold two or three times.

    Returns
    -------
    LazyFrame of one row
        ``n_groups``, ``n`` (rows of others in them) and ``n_equal`` (groups in which
        the value is the sum); parts of whole groups add up.
    """
    amount, is_it = pl.col(value), pl.col(column).is_in(ids)
    sums = rows.group_by(groups).agg(
        n=(~is_it).sum(),
        has=is_it.any(),
        own=amount.filter(is_it).sum(),
        others=amount.filter(~is_it).sum(),
        base=amount.filter(~pl.col(column).is_in(candidates)).sum(),
    )
    of = [pl.col("others"), *(pl.col("base") * times for times in LEVELS[: len(ids)])]
    is_near = [(pl.col("own") - each).abs() <= _rounding(each) for each in of]
    return sums.filter(pl.col("has") & (pl.col("n") > 0)).select(
        n_groups=pl.len().cast(pl.Int64),
        n=pl.col("n").sum().cast(pl.Int64),
        n_equal=pl.any_horizontal(is_near).sum().cast(pl.Int64),
    )


def _are_sums(counts: pl.DataFrame, is_named: bool) -> bool:
    """Return whether the value of ids is the sum of the others' wherever they occur."""
    n_groups, n, n_equal = counts.sum().row(0)
    if not n_groups or n_equal < MOST_GROUPS * n_groups:
        return False
    # Without a name, equal sums of one or two rows may be chance.
    return is_named or (n_groups >= 3 and n >= 2 * n_groups)


def outsized_ids(sums: pl.DataFrame, column: str, noun: str) -> list[str]:
    """Return a note on ids that hold a share of the rows out of all proportion."""
    n_rows, median = sums.select(total=pl.col("n").sum(), at=pl.col("n").median()).row(
        0
    )
    return outsized_among(sums, n_rows, median, len(sums), column, noun)


def outsized_among(
    sums: pl.DataFrame, n_rows: int, median: float, n_ids: int, column: str, noun: str
) -> list[str]:
    """Return the same of ids of which those with few rows may be missing."""
    if not n_rows:
        return []
    is_outsized = pl.lit(value=False)
    for (least, times, fewest), is_meant in (
        (OUTSIZED, pl.lit(value=True)),
        (OUTSIZED_PLACEHOLDER, pl.col("id").str.contains(PLACEHOLDER)),
    ):
        is_large = (pl.col("n") >= least * n_rows) & (pl.col("n") >= times * median)
        is_outsized |= is_meant & is_large & (n_ids >= fewest)
    found = sums.filter(is_outsized).sort("n", "id", descending=True).head(CANDIDATES)
    if found.is_empty():
        return []
    held = ", ".join(
        f"`{id_}` {share(n, n_rows)}" for id_, n in found[["id", "n"]].rows()
    )
    ids = ", ".join(f"'{id_}'" for id_ in found["id"])
    return [
        f"`{column}` holds a share of the {noun}s that is far too large: {held}; the "
        f"median is {share(int(median), n_rows)}. If that is a placeholder, leave it "
        f'out: `--set "data.exclude_ids=[{ids}]"`.'
    ]


def id_hash(ids: pl.Series) -> pl.Series:
    """Return a number of each id that any engine computes alike.

    The first 8 bytes of the SHA-256 of its UTF-8 text, most significant first.

    Parameters
    ----------
    ids : polars.Series of String
        Without nulls.

    Returns
    -------
    polars.Series of UInt64

    Examples
    --------
    >>> id_hash(pl.Series(["S1", "S2"])).to_list()
    [3933521924323150293, 12536379949627024638]
    """
    digests = b"".join(sha256(id_.encode()).digest()[:8] for id_ in ids)
    return pl.Series(ids.name, np.frombuffer(digests, dtype=">u8").astype(np.uint64))


def drawn_by_hash(ids: pl.Series, n: int | None) -> pl.Series:
    """Return whether each of distinct ids is among the `n` with the smallest hash.

    Parameters
    ----------
    ids : polars.Series of String
        Without nulls.
    n : int or None
        None: all are drawn.

    Returns
    -------
    polars.Series of Boolean
    """
    if n is None or n >= len(ids):
        return pl.repeat(True, len(ids), eager=True)
    hashes = id_hash(ids)
    return hashes <= hashes.bottom_k(n).max()


def alike_forms(ids: pl.Series) -> pl.DataFrame:
    """Return what makes ids look alike.

    Parameters
    ----------
    ids : polars.Series of String
        Distinct, without nulls.

    Returns
    -------
    DataFrame
        ``lower`` case; of numbers ``bare``, without leading zeros, and of those of 12
        and more digits ``long``, the id, and ``rounded``, it if it ends in zeros.
    """
    id_, digits = pl.col("id"), pl.col("digits")
    forms = pl.DataFrame({"id": ids}).with_columns(
        digits=pl.when(id_.str.contains(r"^[0-9]+$")).then(id_)
    )
    long = pl.when(digits.str.len_bytes() >= 12).then(digits)
    return forms.select(
        lower=id_.str.to_lowercase(),
        bare=digits.str.strip_chars_start("0"),
        long=long,
        rounded=pl.when(long.str.contains(ROUNDED)).then(long),
    )


def alike_ids(ids: pl.Series, name: str) -> list[str]:
    """Return what is odd about distinct ids, none of which is changed."""
    forms, counts = alike_forms(ids), dict[str, int]()
    for form in forms:
        known = form.drop_nulls()
        counts |= {form.name: len(known), f"distinct_{form.name}": known.n_unique()}
    return alike_told({**counts, "least_long": forms["long"].min()}, name)


def alike_told(counts: Mapping[str, Any], name: str) -> list[str]:
    """Return the same of counts of `alike_forms`.

    Parameters
    ----------
    counts : mapping of str to int or str
        How many there are of each form (``lower``: of all ids), how many different
        ones (``distinct_lower``, ...), and ``least_long``, the first of ``long``.
    name : str
        Whose ids they are.
    """
    n, n_digits, n_long = counts["lower"], counts["bare"], counts["long"]
    warnings = []
    if 0 < n_digits < n:
        warnings.append(
            f"{n_digits:,} of {n:,} {name} ids are numbers, the others hold "
            "other characters; all are taken as text."
        )
    n_case = n - counts["distinct_lower"]
    if n_case:
        warnings.append(
            f"{n_case:,} {name} ids differ from another one only by upper and lower "
            "case; they are taken as different."
        )
    if n_long and counts["rounded"] == n_long:
        warnings.append(
            f"All {n_long:,} {name} ids of 12 and more digits end in zeros, such as "
            f"`{counts['least_long']}`: Excel may have cut digits off, and made one id "
            "of several. Compare them with their source."
        )
    n_zeros = n_digits - counts["distinct_bare"]
    if n_zeros:
        warnings.append(
            f"{n_zeros:,} {name} ids differ from another one only by leading zeros; "
            "they are taken as different (`007` is not `7`)."
        )
    return warnings
