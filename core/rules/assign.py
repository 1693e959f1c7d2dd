"""Customers of a table placed by a rule set, everyone counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import narwhals as nw
import polars as pl

from core.rules.check import require_proven
from core.rules.compile import assign_expr
from core.rules.conditions import And
from core.rules.grammar import RuleSet

SEGMENT = "segment"


@dataclass(frozen=True)
class RuleAssignment:
    """What a rule set says of the customers of a table.

    Attributes
    ----------
    rules : RuleSet
        With the thresholds learnt from the table, where they had no number.
    table : DataFrame
        ``id, segment`` of every row, in its order; the segment is null where no rule
        holds.
    outside : dict of feature to int
        See `outside_domains`.
    """

    rules: RuleSet
    table: pl.DataFrame
    outside: dict[str, int]

    def counts(self) -> list[tuple[str, str, int]]:
        """Return band, segment and number of rows, in the order of the rules."""
        held = dict(self.table[SEGMENT].value_counts().iter_rows())
        rows = [
            (segment.band or "", segment.name, held.get(segment.name, 0))
            for segment in self.rules.segments
        ]
        return rows if None not in held else [*rows, ("", "in no segment", held[None])]

    def lines(self) -> Iterator[str]:
        """Yield what was learnt and what to look at, a line each."""
        for threshold in self.rules.thresholds:
            yield f"threshold {threshold.name}: {threshold.value!r}"
        features = {feature.name: feature for feature in self.rules.features}
        for name, n in self.outside.items():
            declared = features[name].domain().text()
            yield f"{n:,} rows are outside what the rules declare: `{declared}`."


def assign_rules(rules: RuleSet, table: Any, id_column: str) -> RuleAssignment:
    """Place the customers of a table.

    Parameters
    ----------
    rules : RuleSet
        Thresholds without a number are learnt from the table.
    table : frame
        Any frame that Narwhals takes, a row per customer.
    id_column : str

    Raises
    ------
    SchemaError
        If a feature is absent, or nobody has a value to learn a threshold from.
    ContractError
        If the rules do not put every possible customer into exactly one segment.
    """
    settled = require_proven(rules.settle(table))
    frame = nw.from_native(table).lazy()
    placed = frame.select(nw.col(id_column), assign_expr(settled)).collect("polars")
    return RuleAssignment(settled, placed.to_native(), outside_domains(settled, table))


def outside_domains(rules: RuleSet, table: Any) -> dict[str, int]:
    """Return how many rows have a value that the rules do not declare, by feature.

    That is one that is missing without a meaning, out of its range or no level; no
    proof speaks of such rows. Features without any are left out.
    """
    columns = rules.columns()
    inside = {
        f.name: f.domain().expr(columns).alias(f.name)
        for f in rules.features
        if f.domain() != And(())
    }
    if not inside:
        return {}
    outside = [(~within).sum() for within in inside.values()]
    counted = nw.from_native(table).lazy().select(*outside).collect("polars")
    counts = counted.to_native().row(0, named=True)
    return {name: n for name, n in counts.items() if n}
