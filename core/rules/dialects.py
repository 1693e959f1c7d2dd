"""Names, texts, numbers and types as each database wants them written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, get_args

from core.errors import ConfigError, listed

Dialect = Literal["duckdb", "postgres", "bigquery", "snowflake", "spark"]
DIALECTS: Final = get_args(Dialect)


@dataclass(frozen=True)
class Database:
    """How one database writes SQL.

    Attributes
    ----------
    text_type, double, integer : str
        Names of types.
    quote : str
        Around names.
    has_escapes : bool
        Whether a backslash in a text begins an escape.
    escapes_names : bool
        Whether it does so in a name, too.
    casts_flags : bool
        Whether a boolean can be cast to a double.
    has_folded_names : bool
        Whether plain names are stored in another case, so that only what has to be
        quoted is.
    double_suffix : str
        What makes a decimal literal a double.
    nan_equals_nan : bool
        Whether NaN is found by comparing.
    """

    text_type: str = "VARCHAR"
    double: str = "DOUBLE"
    integer: str = "BIGINT"
    quote: str = '"'
    has_escapes: bool = False
    escapes_names: bool = False
    casts_flags: bool = True
    has_folded_names: bool = False
    double_suffix: str = "e0"
    nan_equals_nan: bool = True

    def name(self, name: str) -> str:
        """Return a name, quoted where it has to be."""
        is_plain = re.fullmatch(r"[a-z_][a-z0-9_]*", name) and name not in _RESERVED
        if self.has_folded_names and is_plain:
            return name
        if self.escapes_names:
            return f"`{_escaped(name, '`')}`"
        return self.quote + name.replace(self.quote, 2 * self.quote) + self.quote

    def table(self, name: str) -> str:
        """Return the name of a table, such as ``sales.customers``."""
        return ".".join(map(self.name, name.split(".")))

    def text(self, text: str) -> str:
        """Return a text as a literal."""
        if self.has_escapes:
            return f"'{_escaped(text, chr(39))}'"
        return "'" + text.replace("'", "''") + "'"

    def number(self, number: float) -> str:
        """Return a literal that is the same double, not a decimal near it."""
        if number.is_integer() and abs(number) < 1e15:
            return str(int(number))
        written = repr(number)
        if len(written.strip("-0.").replace(".", "")) <= 15 and "e" not in written:
            return written  # such a decimal is converted without a second rounding
        is_complete = "e" in written and self.double_suffix == "e0"
        return written if is_complete else written + self.double_suffix

    def known(self, number: str) -> str:
        """Return an expression of a double with null for NaN."""
        if not self.nan_equals_nan:
            return f"IF(IS_NAN({number}), NULL, {number})"
        return f"NULLIF({number}, CAST('NaN' AS {self.double}))"


def _escaped(text: str, quote: str) -> str:
    for character, written in (("\\", "\\\\"), (quote, f"\\{quote}"), ("\n", "\\n")):
        text = text.replace(character, written)
    return text


DATABASES: Final[dict[str, Database]] = {
    "duckdb": Database(),
    "postgres": Database(
        text_type="TEXT", double="DOUBLE PRECISION", casts_flags=False
    ),
    "bigquery": Database(
        text_type="STRING",
        double="FLOAT64",
        integer="INT64",
        quote="`",
        has_escapes=True,
        escapes_names=True,
        casts_flags=False,
        nan_equals_nan=False,
    ),
    "snowflake": Database(has_escapes=True, casts_flags=False, has_folded_names=True),
    "spark": Database(
        text_type="STRING", quote="`", has_escapes=True, double_suffix="D"
    ),
}

# Words that no column of Snowflake can be called by without quotes.
_WORDS = """
account all alter and any as between by case cast check column connect connection
constraint create cross current current_date current_time current_timestamp
current_user database delete distinct drop else exists false following for from  full
grant group gscluster having ilike in increment inner insert intersect into  is issue
join lateral left like localtime localtimestamp minus natural not null  of on or order
organization qualify regexp revoke right rlike row rows sample  schema select set some
start table tablesample then to trigger true try_cast  union unique update using
values view when whenever where with
"""
_RESERVED: Final = frozenset(_WORDS.split())


def database(dialect: str) -> Database:
    """Return how a dialect is written.

    Raises
    ------
    ConfigError
        If it is unknown.
    """
    if dialect not in DATABASES:
        raise ConfigError(f"dialect `{dialect}`; expected one of {listed(DIALECTS)}.")
    return DATABASES[dialect]
