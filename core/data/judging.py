"""Which rows are kept, which are set aside for what, and what the user is told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from core.config import DataConfig
from core.data.hints import hints_on
from core.data.intake import (
    FAULTS,
    KEPT_AS,
    MEANINGS,
    ROW_FAULTS,
    FaultCount,
    Intake,
    counted,
    policies_in_order,
    share,
)
from core.data.readers import Table
from core.data.remarks import REPAIR_NOTES, distinct, id_notes, month_span
from core.data.schema import KEY_COLUMNS
from core.data.staging import BITS, MARKS, REPAIRS, Staged, sales_columns, stage
from core.data.twins import HASH, ROW, later_twins, repeated_hashes
from core.errors import SchemaError

NOTHING = pl.DataFrame(schema={ROW: pl.UInt32})


def judge(
    table: Table, data: DataConfig, target: Path, work: Path
) -> tuple[pl.DataFrame, Intake]:
    """Judge every row, write the kept ones to `target`, and account for the others.

    Parameters
    ----------
    table : Table
        Rows as received.
    data : DataConfig
        Column names, formats and policies.
    target : Path
        Parquet to write; canonical columns.
    work : Path
        Folder for intermediate files.

    Returns
    -------
    polars.DataFrame, Intake
        The rows set aside: `source_row`, `reason`, and the mapped columns as received,
        as text; and the account.

    Raises
    ------
    SchemaError
        If columns cannot be used, a fault's policy is `error`, or no row is left.
    """
    judgement = _Judgement(table, data, stage(table, data, work), work)
    return judgement.pass_sentence(target)


class _Judgement:
    """The steps of `judge`, which share the staged rows and the counts so far."""

    def __init__(
        self, table: Table, data: DataConfig, staged: Staged, work: Path
    ) -> None:
        self.table = table
        self.staged = staged
        self.work = work
        self.date_format = data.date_format
        self.policies = policies_in_order(data.policies)
        self.groups = (
            staged.rows.group_by(MARKS)
            .agg(pl.len().alias("n"), pl.col(ROW).max().alias("last"))
            .collect(engine="streaming")
        )
        self.n_read = int(self.groups["n"].sum())
        self.found = {name: self._n_marked(BITS[name]) for name in ROW_FAULTS}
        dropped = [n for n in ROW_FAULTS if self.policies[n] == "drop"]
        self.drop_bits = sum(BITS[name] for name in dropped)

    def pass_sentence(self, target: Path) -> tuple[pl.DataFrame, Intake]:
        """Do all steps in order."""
        if self.n_read == 0:
            raise SchemaError(
                f"{self.table.name} holds column names, but no rows under them."
            )
        self._stop_at(ROW_FAULTS)
        duplicates = self._exact_duplicates()
        unique = self._survivors(duplicates)
        repeats = self._repeated_keys(unique)
        kept = unique if repeats.is_empty() else _without(unique, repeats)
        reasons = self._reasons(duplicates, repeats)
        rejected = self._received(reasons.lazy())
        counts = self._counts(reasons)
        if len(rejected) == self.n_read:
            raise SchemaError(self._explain_nothing_left(counts, rejected))
        columns = sales_columns(self.staged.columns)
        kept.select(columns).sink_parquet(target, compression="lz4")
        return rejected, self._intake(kept, counts, rejected)

    def _n_marked(self, bits: int) -> int:
        """Return the number of rows with any of some marks."""
        return int(self.groups.filter(pl.col(MARKS) & bits != 0)["n"].sum())

    def _exact_duplicates(self) -> pl.DataFrame:
        """Return the rows to set aside as equal to an earlier one; count them all."""
        policy = self.policies["exact_duplicate"]
        repeated, n_repeats = repeated_hashes(self.staged.rows.select(HASH))
        self.found["exact_duplicate"] = n_repeats
        if policy == "keep" or n_repeats == 0:
            return NOTHING
        # Hashed again from the source: keeping its columns would double the disk used.
        rows = self.staged.received.with_columns(self.staged.hashed)
        twins = later_twins(rows, self.staged.compared, repeated, self.work)
        self.found["exact_duplicate"] = len(twins)
        self._stop_at(["exact_duplicate"], twins)
        return twins

    def _survivors(self, duplicates: pl.DataFrame) -> pl.LazyFrame:
        """Return the staged rows that neither a mark nor a twin has set aside."""
        rows = self.staged.rows.filter(pl.col(MARKS) & self.drop_bits == 0)
        return rows if duplicates.is_empty() else _without(rows, duplicates)

    def _repeated_keys(self, rows: pl.LazyFrame) -> pl.DataFrame:
        """Return the rows to set aside as repeating a key; count them all."""
        policy = self.policies["repeated_key"]
        keyed = rows.with_columns(pl.struct(KEY_COLUMNS).hash(seed=0).alias(HASH))
        repeated, n_repeats = repeated_hashes(keyed.select(HASH))
        self.found["repeated_key"] = n_repeats
        if policy == "keep" or n_repeats == 0:
            return NOTHING
        keys = [pl.col(column) for column in KEY_COLUMNS]
        twins = later_twins(keyed, keys, repeated, self.work)
        self.found["repeated_key"] = len(twins)
        self._stop_at(["repeated_key"], twins)
        return twins

    def _reasons(self, duplicates: pl.DataFrame, repeats: pl.DataFrame) -> pl.DataFrame:
        """Return the rows set aside, each with the first reason that applies."""
        reason: pl.Expr = pl.lit(None, pl.String)
        for name in reversed(ROW_FAULTS):
            if self.policies[name] == "drop":
                has_fault = pl.col(MARKS) & BITS[name] != 0
                reason = pl.when(has_fault).then(pl.lit(name)).otherwise(reason)
        marked = self.staged.rows.filter(pl.col(MARKS) & self.drop_bits != 0)
        own = marked.select(ROW, reason.alias("reason")).collect(engine="streaming")
        only_twins = duplicates.join(own, on=ROW, how="anti")
        parts = [
            own,
            only_twins.with_columns(reason=pl.lit("exact_duplicate")),
            repeats.with_columns(reason=pl.lit("repeated_key")),
        ]
        return pl.concat(parts).sort(ROW)

    def _received(self, reasons: pl.LazyFrame) -> pl.DataFrame:
        """Return rows as received, as text, with their numbers and reasons."""
        names = self.staged.columns.received.values()
        taken = {"source_row", "reason"}
        cells = [
            pl.col(n)
            .cast(pl.String, strict=False)
            .alias(f"{n}_received" if n in taken else n)
            for n in names
        ]
        # In the order of the source: sorting afterwards would need a second copy.
        joined = self.staged.received.join(
            reasons, on=ROW, how="inner", maintain_order="left"
        )
        rows = joined.select(pl.col(ROW).alias("source_row"), "reason", *cells)
        return rows.collect(engine="streaming")

    def _counts(self, reasons: pl.DataFrame) -> dict[str, FaultCount]:
        """Return found and set aside per fault, in order."""
        aside = dict(reasons.group_by("reason").len().iter_rows())
        return {
            name: FaultCount(self.found[name], self.policies[name], aside.get(name, 0))
            for name in FAULTS
        }

    def _stop_at(self, names: Sequence[str], twins: pl.DataFrame | None = None) -> None:
        """Raise for faults that were found and whose policy is `error`."""
        faulty = [n for n in names if self.policies[n] == "error" and self.found[n]]
        if not faulty:
            return
        lines = []
        for name in faulty:
            if twins is None:
                is_marked = pl.col(MARKS) & BITS[name] != 0
                rows = self.staged.rows.filter(is_marked).select(ROW).head(3).collect()
            else:
                rows = twins.head(3)
            numbers = ", ".join(f"{row:,}" for row in rows[ROW].sort())
            n = self.found[name]
            other = "`keep` or `drop`" if name in KEPT_AS else "`drop`"
            lines.append(
                f"{self.table.name}: {n:,} of {counted(self.n_read)} "
                f"({share(n, self.n_read)}): {MEANINGS[name]}; first: row {numbers}. "
                f"The policy of `{name}` is `error`; to go on without stopping, choose "
                f"{other}: `--set data.policies.{name}=drop`."
            )
            example = self._received(rows.lazy().with_columns(reason=pl.lit(name)))
            lines += hints_on(example, self.staged.columns, self.date_format)
        raise SchemaError("\n".join(lines))

    def _explain_nothing_left(
        self, counts: dict[str, FaultCount], rejected: pl.DataFrame
    ) -> str:
        """Return why no row is left."""
        reasons = ", ".join(
            f"{count.set_aside:,} with `{name}` ({MEANINGS[name]})"
            for name, count in counts.items()
            if count.set_aside
        )
        first = f"{self.table.name}: none of {counted(self.n_read)} can be used: "
        hints = hints_on(rejected, self.staged.columns, self.date_format)
        return "\n".join([f"{first}{reasons}.", *hints, *self.table.notes])

    def _intake(
        self,
        kept: pl.LazyFrame,
        counts: dict[str, FaultCount],
        rejected: pl.DataFrame,
    ) -> Intake:
        """Return the account of the whole."""
        repairs = {name: self._n_marked(BITS[name]) for name in REPAIRS}
        notes = [*self.table.notes, *self.staged.notes]
        n_empty = int(self.groups.select(pl.col("last").max()).item()) - self.n_read
        if n_empty:
            notes.append(f"{counted(n_empty, 'empty line')} passed over.")
        notes += hints_on(rejected, self.staged.columns, self.date_format)
        notes += [REPAIR_NOTES[name].format(n) for name, n in repairs.items() if n]
        if self.staged.columns.is_dated and counts["exact_duplicate"].set_aside:
            notes.append(
                "If equal lines are separate sales, keep them: "
                "`--set data.policies.exact_duplicate=keep`."
            )
        ids = {c: distinct(kept, c) for c in ("shop_id", "product_id")}
        for column, values in ids.items():
            notes += id_notes(column, values)
        span = month_span(kept)
        return Intake(
            rows_read=self.n_read,
            rows_kept=self.n_read - len(rejected),
            faults=counts,
            repairs=repairs,
            notes=[*notes, *span.notes],
            n_shops=len(ids["shop_id"]),
            n_products=len(ids["product_id"]),
            oldest_month=span.oldest,
            newest_month=span.newest,
            partial_last_month=span.partial,
        )


def _without(rows: pl.LazyFrame, others: pl.DataFrame) -> pl.LazyFrame:
    """Return rows whose number is not among others, in their order."""
    return rows.join(others.lazy(), on=ROW, how="anti", maintain_order="left")
