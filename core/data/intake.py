"""From rows as received to rows that can be used, with an account of the others.

Every fault of every row is counted; a row is set aside for the first fault, in the
order of `FAULTS`, whose policy says so. Nothing is lost: what was kept and what was set
aside add up to what was read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from core.config import Policies

# The order decides which reason a row with several faults is set aside for.
ROW_FAULTS = (
    "ragged_line",
    "missing_id",
    "impossible_month",
    "invalid_quantity",
    "negative_quantity",
    "zero_quantity",
)
FAULTS = (*ROW_FAULTS, "exact_duplicate", "repeated_key")
MEANINGS = {
    "ragged_line": "more cells than the header",
    "missing_id": "no shop or no product",
    "impossible_month": "no possible month",
    "invalid_quantity": "no usable quantity",
    "negative_quantity": "negative quantity",
    "zero_quantity": "quantity of 0",
    "exact_duplicate": "equal to an earlier row in every column",
    "repeated_key": "same shop, product and month as an earlier row",
}
KEPT_AS = {
    "ragged_line": "cut off at the last column",
    "negative_quantity": "netted off their month",
    "repeated_key": "summed per month",
}
MOST = 0.5


@dataclass(frozen=True)
class FaultCount:
    """How often one fault was met.

    Attributes
    ----------
    found : int
        Rows with this fault, whatever else they have; `repeated_key` is looked for
        among the rows that no other fault has set aside.
    policy : str
        `keep`, `drop` or `error`.
    set_aside : int
        Rows set aside for this reason; 0 where the policy is `keep`.
    """

    found: int
    policy: str
    set_aside: int


@dataclass(frozen=True)
class Intake:
    """The account of one reading.

    Attributes
    ----------
    rows_read, rows_kept : int
        Rows; lines without any value are not counted as rows.
    faults : dict of str to FaultCount
        Per fault, in the order in which reasons are given.
    repairs : dict of str to int
        Cells mended on the way, such as ids stored as floats.
    notes : list of str
        What the user should know, in sentences.
    n_shops, n_products : int
        Distinct ids among the rows kept.
    oldest_month, newest_month : str
        YYYY-MM, among the rows kept.
    partial_last_month : str or None
        The newest month, if its dates end more than 3 days before the month does.
    """

    rows_read: int
    rows_kept: int
    faults: dict[str, FaultCount]
    repairs: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    n_shops: int = 0
    n_products: int = 0
    oldest_month: str | None = None
    newest_month: str | None = None
    partial_last_month: str | None = None

    @property
    def rows_set_aside(self) -> int:
        """Rows read but not kept."""
        return self.rows_read - self.rows_kept

    def to_dict(self) -> dict[str, Any]:
        """Return the account as plain JSON-able values."""
        faults = {name: vars(count).copy() for name, count in self.faults.items()}
        return {**vars(self), "rows_set_aside": self.rows_set_aside, "faults": faults}

    def summary(self) -> list[str]:
        """Return the account in sentences, the most important first."""
        months = f"{self.oldest_month} to {self.newest_month}"
        sentences = [
            f"Kept {self.rows_kept:,} of {counted(self.rows_read)}: "
            f"{counted(self.n_shops, 'shop')}, {counted(self.n_products, 'product')}, "
            f"{months}."
        ]
        if self.rows_set_aside > MOST * self.rows_read:
            sentences.append(
                f"Most rows ({share(self.rows_set_aside, self.rows_read)}) were set "
                "aside; make sure that the right file and columns were read."
            )
        sentences += [
            _fault_sentence(name, count, self.rows_read)
            for name, count in self.faults.items()
            if count.found
        ]
        return sentences + self.notes


def share(n: int, total: int) -> str:
    """Return a share in per cent, with a decimal that never rounds to nothing.

    >>> share(1, 4), share(1, 20_000_000), share(0, 0)
    ('25.0%', '<0.1%', '0.0%')
    """
    ratio = n / total if total else 0.0
    return "<0.1%" if 0 < ratio < 0.001 else f"{ratio:.1%}"


def counted(n: int, noun: str = "row") -> str:
    """Return a number with its noun.

    >>> counted(1), counted(2_000, "shop")
    ('1 row', '2,000 shops')
    """
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def policies_in_order(policies: Policies) -> dict[str, str]:
    """Return the policy of each fault, in the order in which reasons are given."""
    chosen: Mapping[str, str] = policies.model_dump()
    return {name: chosen[name] for name in FAULTS}


def _fault_sentence(name: str, count: FaultCount, n_rows: int) -> str:
    """Return what was found of one fault, and what became of it."""
    found = f"{counted(count.found)} ({share(count.found, n_rows)}): {MEANINGS[name]}"
    if count.policy == "keep":
        return f"{found}; kept, {KEPT_AS.get(name, 'as they are')} (`{name}`)."
    if count.set_aside == count.found:
        return f"{found}; set aside (`{name}`)."
    rest = count.found - count.set_aside
    return (
        f"{found}; {count.set_aside:,} set aside (`{name}`), {rest:,} already for an "
        "earlier reason."
    )
