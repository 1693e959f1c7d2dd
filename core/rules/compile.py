"""Rule sets as an expression of Narwhals or Polars, and as SQL.

Both say of every customer what `RuleSet.assign` says, missing values included: null and
NaN are missing, a comparison with a missing value is false and its opposite true.
"""

from __future__ import annotations

from typing import Any, Final

import narwhals as nw

from core.rules.conditions import (
    IsMissing,
    Leaf,
    Node,
    Not,
    OneOf,
    Or,
    Range,
    Value,
)
from core.rules.dialects import Database, Dialect, database
from core.rules.grammar import RuleSet
from core.rules.syntax import Feature


def assign_expr(rules: RuleSet, of: Any = nw) -> Any:
    """Return the segment's name as an expression, null where no rule holds.

    Where several hold, the first one decides.

    Parameters
    ----------
    rules : RuleSet
        With numbers for all thresholds.
    of : module
        Whose expression it is: Narwhals, for any frame that it takes, or Polars, which
        plans it in a tenth of the time.

    Returns
    -------
    Expr
        Named ``segment``, of a table that has the features.

    Raises
    ------
    ConfigError
        If a threshold has no number yet.
    """
    columns = rules.columns(of)
    named = [
        of.when(rules.condition(segment).expr(columns, of)).then(of.lit(segment.name))
        for segment in rules.segments
    ]
    return of.coalesce(*named).alias("segment")


def to_sql(
    rules: RuleSet, dialect: Dialect, table: str, id_column: str = "customer_id"
) -> str:
    """Return a query that gives every customer of a table its segment.

    Parameters
    ----------
    rules : RuleSet
        With numbers for all thresholds.
    dialect : {'duckdb', 'postgres', 'bigquery', 'snowflake', 'spark'}
    table : str
        Its name, with schema where needed (``sales.customers``); a row per customer
        with the features as columns. A flag is a boolean or a number, set unless 0.
    id_column : str

    Returns
    -------
    str
        Columns ``id_column`` and ``segment``, null where no rule holds.

    Raises
    ------
    ConfigError
        If the dialect is unknown or a threshold has no number yet.

    Examples
    --------
    >>> from core.rules.grammar import read_rules
    >>> rules = read_rules('''
    ... features: {spend: {type: number}}
    ... segments:
    ...   - {name: high, when: spend > 90}
    ...   - {name: low, when: spend <= 90}
    ... ''')
    >>> print(to_sql(rules, "duckdb", "crm.customers"), end="")
    WITH facts AS (
      SELECT
        "customer_id",
        NULLIF(CAST("spend" AS DOUBLE), CAST('NaN' AS DOUBLE)) AS "spend"
      FROM "crm"."customers"
    )
    SELECT
      "customer_id",
      CASE
        WHEN "spend" > 90 THEN 'high'
        WHEN "spend" <= 90 THEN 'low'
      END AS segment
    FROM facts
    """
    own = database(dialect)
    sql = _Sql(own)
    key = own.name(id_column)
    facts = ",\n    ".join([key, *map(sql.column, rules.features)])
    cases = "\n    ".join(
        f"WHEN {sql.condition(rules.condition(segment))} THEN {own.text(segment.name)}"
        for segment in rules.segments
    )
    return (
        f"WITH facts AS (\n  SELECT\n    {facts}\n  FROM {own.table(table)}\n)\n"
        f"SELECT\n  {key},\n  CASE\n    {cases}\n  END AS segment\nFROM facts\n"
    )


class _Sql:
    """Parts of a query in one dialect."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.name = database.name

    def value(self, value: Value) -> str:
        if isinstance(value, str):
            return self.database.text(value)
        return self.database.number(float(value))

    def column(self, feature: Feature) -> str:
        """Return a feature of the table as a double, text or boolean without NaN."""
        name, own = self.name(feature.name), self.database
        if feature.type == "text":
            return f"CAST({name} AS {own.text_type}) AS {name}"
        number = name
        if feature.type == "flag" and not own.casts_flags:
            text = f"CAST({name} AS {own.text_type})"
            words = "WHEN 'true' THEN '1' WHEN 'false' THEN '0'"
            number = f"CASE {text} {words} ELSE {text} END"
        known = own.known(f"CAST({number} AS {own.double})")
        return f"{known}{' <> 0' if feature.type == 'flag' else ''} AS {name}"

    def condition(self, node: Node, *, negated: bool = False) -> str:
        """Return a condition that null makes false, or not true where `negated`.

        `not` is carried to the comparisons, where it takes the missing values in.
        """
        if isinstance(node, Leaf):
            return self._opposite(node) if negated else self._comparison(node)
        if isinstance(node, Not):
            return self.condition(node.part, negated=not negated)
        parts = [self.condition(part, negated=negated) for part in node.parts()]
        is_or = isinstance(node, Or) is not negated
        if len(parts) < 2:
            return parts[0] if parts else str(not is_or).upper()
        if is_or:
            return "(" + " OR ".join(parts) + ")"
        return " AND ".join(parts)

    def _comparison(self, leaf: Leaf) -> str:
        name = self.name(leaf.feature)
        match leaf:
            case Range():
                return " AND ".join(f"{name} {s} {b}" for s, b in self._bounds(leaf))
            case OneOf(values=(bool() as is_set,)):
                return name if is_set else f"NOT {name}"
            case OneOf(values=(value,)):
                return f"{name} = {self.value(value)}"
            case OneOf(values=values):
                return f"{name} IN ({', '.join(map(self.value, values))})"
        return f"{name} IS NULL"

    def _opposite(self, leaf: Leaf) -> str:
        name = self.name(leaf.feature)
        match leaf:
            case IsMissing():
                return f"{name} IS NOT NULL"
            case Range():
                outside = [f"{name} {_OPPOSITE[s]} {b}" for s, b in self._bounds(leaf)]
                return f"({' OR '.join(outside)} OR {name} IS NULL)"
            case OneOf(values=(bool() as is_set,)):
                # Not every database has `IS NOT TRUE`.
                known = f"COALESCE({name}, {str(not is_set).upper()})"
                return f"NOT {known}" if is_set else known
            case OneOf(values=values):
                none = f"{name} NOT IN ({', '.join(map(self.value, values))})"
                return f"({none} OR {name} IS NULL)"
        raise AssertionError(leaf)

    def _bounds(self, asked: Range) -> list[tuple[str, str]]:
        """Return the signs and numbers of a range."""
        low, high = asked.numbers()
        ends = (
            (low, ">=" if asked.low_included else ">"),
            (high, "<=" if asked.high_included else "<"),
        )
        return [
            (sign, self.database.number(b))
            for b, sign in ends
            if abs(b) != float("inf")
        ]


_OPPOSITE: Final = {">=": "<", ">": "<=", "<=": ">", "<": ">="}
