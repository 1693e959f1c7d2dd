"""What is wrong with rows: faults found by policy, rows set aside, and the account.

Every fault of every row is counted; a row is set aside for the first fault (or for all
its faults), in the order of its table's specification, whose policy says so. Nothing is
lost: what was kept and what was set aside add up to what was read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from core.errors import SchemaError, listed
from core.tables.cells import DAY, HASH, ParsedRows
from core.tables.columns import FLAGS, ROW, TableSpec
from core.tables.dates import NO_QUARTERS, QUARTER, fitting_formats
from core.tables.files import counted
from core.tables.readers import BEYOND

MOST = 0.5
EXAMPLES = 3
LOOKED_AT = 1000
# What is left of a number cut in two at its decimal comma.
DIGITS = r"^\d{1,4}$"
NO_ROWS = pl.DataFrame(schema={ROW: pl.UInt32})
NO_REASONS = NO_ROWS.with_columns(reason=pl.lit("", pl.String))
# Hashes sorted at once (128 MB), and distinct repeated rows compared at once.
HASHES_AT_ONCE = 16_000_000
DUPLICATES_AT_ONCE = 1_000_000
# Of more rows set aside, only examples are held as text.
HELD_AT_ONCE = 100_000


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


class Validation:
    """The rows of one table held against its faults, by policy.

    Parameters
    ----------
    parsed : ParsedRows
        How they were read.
    rows : polars.LazyFrame or polars.DataFrame
        All rows, with the flags that other rows or tables have given them.
    policies : mapping of str to str
        `keep`, `drop` or `error` for each fault; others are dropped.
    option : str
        Where policies are set, for messages.
    terms : mapping of str to str
        What the cures of faults speak of.
    groups : DataFrame, optional
        `core.tables.settle.flag_counts` of all rows, where `rows` are examples of them
        only (not `ParsedRows.is_whole`). Who counts them elsewhere says what was found
        and set aside by what other rows show: `found`, `aside` and `examples`.
    """

    def __init__(
        self,
        parsed: ParsedRows,
        rows: pl.LazyFrame | pl.DataFrame,
        policies: Mapping[str, str] | None = None,
        option: str = "",
        terms: Mapping[str, str] | None = None,
        groups: pl.DataFrame | None = None,
    ) -> None:
        self.parsed, self.spec, self.option = parsed, parsed.spec, option
        self.rows, self.terms = rows.lazy(), terms or {}
        self.policies = dict.fromkeys(self.spec.meanings, "drop") | dict(policies or {})
        if groups is not None:
            flags, n = groups[FLAGS].to_numpy(), groups["len"].to_numpy()
            last = n.cumsum()
        elif isinstance(rows, pl.DataFrame):
            flags, last = rows[FLAGS].to_numpy(), rows[ROW].to_numpy()
            n = np.ones_like(flags)
        else:
            counts = rows.group_by(FLAGS).agg(pl.len(), pl.col(ROW).max())
            flags, n, last = counts.collect(engine="streaming").to_numpy().T
        self.n_read = int(n.sum())
        self.n_empty = int(last.max(initial=0)) - self.n_read
        self.n_flagged = int(n[flags & self.spec.mask(self.dropped) != 0].sum())
        self.found = {
            name: int(n[flags & bit != 0].sum()) for name, bit in self.spec.bits.items()
        }
        self.later: dict[str, pl.DataFrame] = {}

    @property
    def repairs(self) -> dict[str, int]:
        """Rows in which each kind of cell was put right."""
        return {name: self.found[name] for name in self.spec.repairs}

    def drop_duplicates(
        self, parts: Sequence[pl.LazyFrame], work: Path
    ) -> list[pl.LazyFrame]:
        """Look for rows equal in all cells, and in their keys; return those kept.

        Parameters
        ----------
        parts : sequence of LazyFrame
            All rows, on disk, with a `HASH`; equal ones are in the same part.
        work : Path
            Takes intermediate files.

        Returns
        -------
        list of LazyFrame
            The rows kept of each part.

        Raises
        ------
        SchemaError
            If a fault was found whose policy is `error`.
        """
        self.stop_at_errors(self.spec.own_faults)
        # Hashed again from the source: keeping its columns would double the disk used.
        received = self.parsed.received.with_columns(self.parsed.hashed)
        compared = self.parsed.compared
        equal = self._repeats("exact_duplicate", parts, received, compared, work)
        is_kept = ~self.spec.has_any(self.dropped)
        kept = [_without(part.filter(is_kept), equal) for part in parts]
        keys = [pl.col(column) for column in self.spec.key]
        hashed = pl.struct(keys).hash(seed=0).alias(HASH)
        keyed = [part.with_columns(hashed) for part in kept]
        later = self._repeats("repeated_key", keyed, pl.concat(keyed), keys, work)
        return [_without(part, later) for part in kept]

    def _repeats(
        self,
        fault: str,
        parts: Sequence[pl.LazyFrame],
        rows: pl.LazyFrame,
        cells: Sequence[pl.Expr],
        work: Path,
    ) -> pl.DataFrame:
        """Return the rows to set aside as equal to an earlier one; count them all."""
        found = [repeated_hashes(part.select(HASH)) for part in parts]
        self.found[fault] = sum(n for _, n in found)
        if self.policies[fault] == "keep" or not self.found[fault]:
            return NO_ROWS
        repeated = np.unique(np.concatenate([hashes for hashes, _ in found]))
        later = later_duplicates(rows, cells, repeated, work)
        self._set_aside(fault, later)
        return later

    def set_aside(self, fault: str, rows: pl.LazyFrame) -> None:
        """Count rows for a fault that others show, and set them aside by its policy."""
        self._set_aside(fault, rows.sort(ROW).collect(engine="streaming"))

    def _set_aside(self, fault: str, rows: pl.DataFrame) -> None:
        self.found[fault] = len(rows)
        if self.policies[fault] != "keep":
            self.later[fault] = rows
            self.stop_at_errors([fault])

    @cached_property
    def dropped(self) -> list[str]:
        """The faults told by flags for which rows are set aside."""
        later = ("exact_duplicate", "repeated_key")
        names = (name for name in self.spec.meanings if name not in later)
        return [name for name in names if self.policies[name] == "drop"]

    @cached_property
    def reasons(self) -> pl.DataFrame:
        """`ROW` and `reason` of the rows set aside."""
        own = NO_REASONS
        if self.n_flagged:
            flagged = self.rows.filter(self.spec.has_any(self.dropped))
            reason = own_reason(self.spec, self.dropped)
            own = flagged.select(ROW, reason=reason).collect(engine="streaming")
        later = [
            rows.join(own, on=ROW, how="anti").with_columns(reason=pl.lit(fault))
            for fault, rows in self.later.items()
        ]
        return pl.concat([own, *later]).sort(ROW) if later else own

    @cached_property
    def rejected(self) -> pl.DataFrame:
        """The rows set aside, as `rejected_rows` gives them."""
        return rejected_rows(self.parsed, self.reasons)

    @cached_property
    def aside(self) -> dict[str, int]:
        """How many rows are set aside, by reason."""
        return dict(self.reasons.group_by("reason").len().iter_rows())

    @property
    def n_aside(self) -> int:
        """How many rows are set aside."""
        return sum(self.aside.values())

    @cached_property
    def examples(self) -> pl.DataFrame:
        """Rows set aside, as `rejected`, of which not all are needed."""
        if len(self.reasons) <= HELD_AT_ONCE:
            return self.rejected
        of_each = self.reasons.group_by("reason", maintain_order=True)
        return rejected_rows(self.parsed, of_each.head(LOOKED_AT))

    @cached_property
    def faults(self) -> dict[str, FaultCount]:
        """What was found and set aside of each fault, in order."""
        aside = self.found if self.spec.has_all_reasons else self.aside
        return {
            name: FaultCount(self.found[name], policy, aside.get(name, 0))
            for name, policy in self.policies.items()
        }

    @cached_property
    def fixes(self) -> list[str]:
        """What examples of the rows set aside suggest."""
        # Of examples, the others would tell what is not true of all rows.
        of_all = (self._merged_hint, self._swapped_hint) if self.parsed.is_whole else ()
        return [
            *self._ragged_hint(),
            *(line for hint in of_all for line in hint()),
            *suggest_fixes(self.parsed, self.examples, self.terms),
        ]

    def _ragged_hint(self) -> list[str]:
        """Return what lines with more cells than the header probably are."""
        if not self.found["ragged_line"]:
            return []
        cells = self.parsed.received.filter(pl.col(BEYOND).str.strip_chars() != "")
        names = cells.collect_schema().names()
        last = names[names.index(BEYOND) - 1]
        shown = cells.select(ROW, last, BEYOND).head(LOOKED_AT)
        seen = shown.collect(engine="streaming")
        row, one, two = seen.row(0)
        is_cut = pl.col(last).str.contains(r"^[+-]?\d+$")
        if seen.select((is_cut & pl.col(BEYOND).str.contains(DIGITS)).all()).item():
            return [
                f"A line ends in `{one}` and `{two}`{self.parsed.at(row)}, a cell more "
                "than the header has: a number with a decimal comma was probably cut "
                "in two, where the comma separates cells. Export with semicolons or "
                "tabs between cells, with such numbers in quotes, or with decimal "
                "points."
            ]
        return [
            f"`{two[:40]}`{self.parsed.at(row)} is beyond the last column, `{last}`. "
            "If a cell holds the separator, put it in quotes; if a column lacks a "
            "name, add it."
        ]

    def _merged_hint(self) -> list[str]:
        """Return how to read ids that stand for the rows below, if most lack one."""
        missing = [name for name in self.spec.own_faults if name.startswith("missing_")]
        most = max(missing, key=lambda name: self.found[name], default="")
        if not most or not MOST * self.n_read < self.found[most] < self.n_read:
            return []
        ids = [c.name for c in self.spec.columns if c.kind == "id" and most in c.flags]
        columns = self.parsed.columns
        names = [columns[ours] for ours in ids if ours in columns]
        counts = self.parsed.received.select(pl.col(names).null_count())
        gaps = counts.collect(engine="streaming")
        empty = [name for name in names if gaps[name].item() > MOST * self.n_read]
        if not empty:
            return []
        return [
            f"{listed(empty)}: most cells are empty. If one stands for the rows below "
            "it, as merged cells of Excel do: "
            f'`--set "data.fill_down=[{", ".join(empty)}]"`.'
        ]

    def _swapped_hint(self) -> list[str]:
        """Return a warning if Excel seems to have taken days for months.

        Opened where the month comes first, `09/01/2022` becomes 1 September, a true
        date, and `26/01/2022` stays text.
        """
        if not self.found.get("iso_date"):
            return []
        dates = [c.name for c in self.spec.columns if c.kind == "moment"]
        day = pl.col(dates[0]).dt.day() if dates else pl.col(DAY) % 100
        is_true = self.spec.has_any(["iso_date"])
        edges = self.rows.select(
            pl.col(FLAGS).filter(is_true & (day > 12)).count() == 0,
            day.filter(~is_true).min() > 12,
        )
        if not all(edges.collect(engine="streaming").row(0)):
            return []
        return [
            "Days up to 12 are all in true dates, days above 12 all in text: Excel "
            "probably swapped day and month in the true dates when the file was "
            "opened. Export the rows again, and do not open them in Excel before."
        ]

    def stop_at_errors(self, names: Iterable[str]) -> None:
        """Raise for faults that were found and whose policy is `error`."""
        lines = []
        for name in names:
            if self.policies[name] == "error" and self.found[name]:
                lines += self._explain_error(name)
        if lines:
            raise SchemaError("\n".join(lines))

    def _explain_error(self, name: str) -> list[str]:
        """Return how often a fault was found, and what to do about it."""
        rows = self.later.get(name)
        if rows is None:
            flagged = self.rows.filter(self.spec.has_any([name])).select(ROW)
            rows = flagged.head(EXAMPLES).collect()
        rows = rows.head(EXAMPLES).with_columns(reason=pl.lit(name))
        fault = self.spec.fault(name)
        others = "`keep` or `drop`" if fault.kept_as else "`drop`"
        n = self.found[name]
        where = f"; first: row {numbers_of(rows)}" if self.parsed.is_whole else ""
        first = (
            f"{self.parsed.name}: {n:,} of {counted(self.n_read)} "
            f"({share(n, self.n_read)}): {fault.meaning}{where}. The policy of "
            f"`{name}` is `error`; to go on without stopping, choose {others}: "
            f"`--set {self.option}.{name}=drop`."
        )
        examples = rejected_rows(self.parsed, rows)
        return [first, *suggest_fixes(self.parsed, examples, self.terms)]

    def stop_without_rows(self) -> None:
        """Raise if there are no rows, or none can be used."""
        name = self.parsed.name
        if not self.n_read:
            raise SchemaError(f"{name} has no rows under its column names.")
        if self.n_aside < self.n_read:
            return
        found = ", ".join(
            f"{count.set_aside:,} with `{fault}` ({self.spec.meanings[fault]})"
            for fault, count in self.faults.items()
            if count.set_aside
        )
        first = f"{name}: none of {counted(self.n_read, self.spec.noun)} can be used: "
        lines = [f"{first}{found}.", *self.fixes, *self.parsed.notes]
        raise SchemaError("\n".join(lines))


def own_reason(spec: TableSpec, dropped: Sequence[str]) -> pl.Expr:
    """Return why a row is set aside by its own flags; null if it is not."""
    named = [pl.when(spec.has_any([name])).then(pl.lit(name)) for name in dropped]
    if not spec.has_all_reasons:
        return pl.coalesce(named)
    reasons = pl.concat_str(named, separator=", ", ignore_nulls=True)
    return pl.when(spec.has_any(dropped)).then(reasons)


def numbers_of(rows: pl.DataFrame) -> str:
    """Return the numbers of the first rows."""
    return ", ".join(f"{row:,}" for row in rows[ROW].head(EXAMPLES))


def _without(rows: pl.LazyFrame, others: pl.DataFrame) -> pl.LazyFrame:
    """Return rows whose number is not among others, in their order."""
    if others.is_empty():
        return rows
    return rows.join(others.lazy(), on=ROW, how="anti", maintain_order="left")


def rejected_rows(parsed: ParsedRows, reasons: pl.DataFrame) -> pl.DataFrame:
    """Return rows as they were received.

    Parameters
    ----------
    parsed : ParsedRows
        All rows.
    reasons : polars.DataFrame
        `ROW` and `reason` of the rows wanted.

    Returns
    -------
    polars.DataFrame
        `table` (where a reading has several), `source_row` (from 1), `reason`, and the
        mapped columns as text, in the order of the source.
    """
    where = {"table": parsed.spec.name} if parsed.spec.has_all_reasons else {}
    return rejected_scan(parsed, reasons, **where).collect(engine="streaming")


def rejected_scan(
    parsed: ParsedRows, reasons: pl.DataFrame, **where: str | None
) -> pl.LazyFrame:
    """Return `rejected_rows` lazily, for more of them than fit in memory.

    `where` are columns with one value for all, which come first.
    """
    names = [*where, "source_row", "reason"]
    shown = {
        name: f"{name}_received" if name in names else name
        for name in parsed.columns.values()
    }
    if reasons.is_empty():
        types = dict.fromkeys((*names, *shown.values()), pl.String)
        return pl.LazyFrame(schema=types | {"source_row": pl.UInt32})
    # In the order of the source: sorting afterwards would need a second copy.
    joined = parsed.received.join(
        reasons.lazy().rename({"reason": "__reason__"}),
        on=ROW,
        how="inner",
        maintain_order="left",
    )
    return joined.select(
        *(pl.lit(value, pl.String).alias(name) for name, value in where.items()),
        pl.col(ROW).alias("source_row"),
        pl.col("__reason__").alias("reason"),
        *(pl.col(n).cast(pl.String, strict=False).alias(s) for n, s in shown.items()),
    )


def suggest_fixes(
    parsed: ParsedRows, rejected: pl.DataFrame, terms: Mapping[str, str]
) -> list[str]:
    """Return a sentence for each fault that examples of cells can explain.

    Parameters
    ----------
    parsed : ParsedRows
        Says which received column is which of ours.
    rejected : polars.DataFrame
        Rows as `rejected_rows` gives them.
    terms : mapping of str to str
        What the cures of faults speak of.
    """
    fixes: list[str] = []
    if rejected.is_empty():
        return fixes
    for fault in parsed.spec.faults:
        about = [ours for ours in fault.about if ours in parsed.columns]
        has_fault = pl.col("reason").str.split(", ").list.contains(fault.name)
        rows = rejected.filter(has_fault).head(LOOKED_AT)
        if not about or rows.is_empty():
            continue
        names = [parsed.columns[ours] for ours in about]
        names = [n if n in rejected.columns else f"{n}_received" for n in names]
        cells = rows.select(
            "source_row",
            cell=pl.concat_str(pl.col(names).fill_null(""), separator=" / "),
        )
        examples = cells.unique("cell", keep="first", maintain_order=True)
        shown = ", ".join(
            (f"`{cell[:40]}`" if cell else "empty") + parsed.at(row)
            for row, cell in examples.head(EXAMPLES).iter_rows()
        )
        what = " and ".join(f"`{ours}`" for ours in about)
        verb = "is" if len(about) == 1 else "are"
        cure = fault.cure.format(**terms)
        if {"date", "month"} & set(about) and any(map(QUARTER.search, cells["cell"])):
            cure = NO_QUARTERS
        elif {"date", "order_date", "order_time"} & set(about):
            cure += _date_hint(cells["cell"].unique(maintain_order=True))
        fixes.append(f"{what} with `{fault.name}` {verb} {shown}. {cure}")
    return fixes


def _date_hint(cells: pl.Series) -> str:
    """Return which formats unreadable dates fit, as a sentence, or ``""``."""
    formats = fitting_formats(cells)
    if not formats:
        return ""
    options = " or ".join(f'`--set "data.date_format={each}"`' for each in formats[:2])
    which = "" if len(formats) == 1 else "; choose the one that is meant"
    return f" Most of those met fit {options}{which}."


def fault_lines(
    spec: TableSpec, n_read: int, n_aside: int, faults: Mapping[str, FaultCount]
) -> list[str]:
    """Return what was found of each fault and what became of it, in sentences."""
    lines = []
    if n_aside > MOST * n_read:
        lines.append(
            f"Most {spec.noun}s ({share(n_aside, n_read)}) were set aside; make sure "
            "that the right file and columns were read."
        )
    for name, count in faults.items():
        if not count.found:
            continue
        fault = spec.fault(name)
        rows = counted(count.found, spec.noun)
        found = f"{rows} ({share(count.found, n_read)}): {fault.meaning}"
        rest = count.found - count.set_aside
        if count.policy == "keep":
            kept_as = fault.kept_as or "as they are"
            lines.append(f"{found}; kept, {kept_as} (`{name}`).")
        elif not rest:
            lines.append(f"{found}; set aside (`{name}`).")
        else:
            lines.append(
                f"{found}; {count.set_aside:,} set aside (`{name}`), {rest:,} already "
                "for an earlier reason."
            )
    return lines


def repair_lines(spec: TableSpec, n_read: int, repairs: Mapping[str, int]) -> list[str]:
    """Return which cells were put right, in sentences.

    A column that is empty throughout is not told of: it counts as absent.
    """
    return [
        spec.repairs[name].format(counted(n, spec.noun))
        for name, n in repairs.items()
        if n and spec.repairs[name] and not (name.startswith("unknown") and n == n_read)
    ]


def share(n: int, total: int) -> str:
    """Return a share in per cent: two digits, and neither nothing nor all by rounding.

    >>> share(1, 3), share(1, 20_000_000), share(0, 0), share(999, 1000), share(2, 2)
    ('33%', '<0.1%', '0%', '99.9%', '100%')
    """
    ratio = n / total if total else 0.0
    if 0 < ratio < 0.001:
        return "<0.1%"
    if 0.99 < ratio < 1:
        return f"{min(round(100 * ratio, 1), 99.9)}%"
    return f"{100 * ratio:.2g}%" if ratio < 1 else "100%"


def repeated_hashes(hashes: pl.LazyFrame) -> tuple[NDArray[np.uint64], int]:
    """Return the hashes that occur more than once, and the number of repeats.

    Parameters
    ----------
    hashes : polars.LazyFrame
        One column `HASH` (UInt64), cheap to read again and again.

    Returns
    -------
    (n,) array of uint64, int
        Sorted; the number counts each occurrence after the first.
    """
    n_rows = int(hashes.select(pl.len()).collect(engine="streaming").item())
    n_slices = -(-n_rows // HASHES_AT_ONCE)
    repeated = [np.empty(0, dtype=np.uint64)]
    n_repeats = 0
    for edges in _slices(n_slices):
        part = hashes.filter(pl.col(HASH).is_between(*edges))
        values = part.collect(engine="streaming")[HASH].to_numpy(writable=True)
        values.sort()
        is_repeat = values[1:] == values[:-1]
        n_repeats += int(is_repeat.sum())
        repeated.append(np.unique(values[1:][is_repeat]))
    return np.concatenate(repeated), n_repeats


def _slices(n_slices: int) -> list[tuple[int, int]]:
    """Return the inclusive edges of equal slices of the 64-bit range."""
    edges = [2**64 * i // max(n_slices, 1) for i in range(n_slices + 1)]
    return [(low, high - 1) for low, high in pairwise(edges)]


def later_duplicates(
    rows: pl.LazyFrame,
    columns: Sequence[pl.Expr],
    repeated: NDArray[np.uint64],
    work: Path,
) -> pl.DataFrame:
    """Return the rows that are equal, cell by cell, to an earlier one.

    Parameters
    ----------
    rows : polars.LazyFrame
        With `ROW` (the order), `HASH` and whatever `columns` needs.
    columns : sequence of polars.Expr
        The cells that make rows equal; null equals null.
    repeated : (n,) array of uint64
        Sorted hashes that occur more than once; other rows are not looked at.
    work : Path
        Folder for intermediate files.

    Returns
    -------
    polars.DataFrame
        One column `ROW`, ascending.
    """
    later = [pl.DataFrame(schema={ROW: pl.UInt32})]
    suspects_path = work / "suspects.parquet"
    cells = [cell.alias(f"cell_{i}") for i, cell in enumerate(columns)]
    names = [f"cell_{i}" for i in range(len(cells))]
    for start in range(0, len(repeated), DUPLICATES_AT_ONCE):
        slice_ = repeated[start : start + DUPLICATES_AT_ONCE]
        wanted = pl.DataFrame({HASH: slice_}).lazy()
        suspects = rows.filter(
            pl.col(HASH).is_between(int(slice_[0]), int(slice_[-1]))
        ).join(wanted, on=HASH, how="semi")
        suspects.select(ROW, *cells).sink_parquet(suspects_path)
        scan = pl.scan_parquet(suspects_path, glob=False)
        first = scan.group_by(names).agg(pl.col(ROW).min()).select(ROW)
        later.append(
            scan.select(ROW).join(first, on=ROW, how="anti").collect(engine="streaming")
        )
    return pl.concat(later).sort(ROW)
