"""Load profiles by COPY: only what has changed is written, all of it or nothing.

The rows go into a temporary table first. From there rows that differ are updated, new
ones inserted and those gone deleted, by one statement each, in the caller's one
transaction: readers see the old profiles until it commits.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import polars as pl

from core.errors import StoreError, listed
from core.store.schema import SEGMENTS, VALUES

# Rows handed to COPY at once: some 25 MB of text.
_CHUNK = 10_000
_COLUMNS = (*SEGMENTS, "confidence", *VALUES, "model_version")
_NULL = "\\N"


class LoadFacts(NamedTuple):
    """What a load has done.

    Attributes
    ----------
    n_inserted, n_updated, n_unchanged, n_deleted : int
        Customers.
    seconds : float
        From the first row to the commit.
    """

    n_inserted: int
    n_updated: int
    n_unchanged: int
    n_deleted: int
    seconds: float


def prepare_profiles(profiles: pl.DataFrame, version: int) -> pl.DataFrame:
    """Return profiles as the text that COPY reads, columns in the table's order.

    Parameters
    ----------
    profiles : DataFrame
        As `core.store.store.Store.publish` takes them.
    version : int
        Of the model that placed them.

    Raises
    ------
    StoreError
        If a column is missing, or a `customer_id` is null, twice there or holds a NUL
        character, which PostgreSQL cannot store.
    """
    _check(profiles)
    objects = []
    for name in SEGMENTS:
        source = name
        if name not in profiles.columns:
            # Hard clustering: the segments are the dominant ones.
            source = "segment_memberships" if name == "dominant_segments" else ""
        objects.append(_json(profiles, source).alias(name))
    numbers = [
        pl.col(name).cast(pl.Int64 if name == "total_orders" else pl.Float64)
        if name in profiles.columns
        else pl.lit(None, pl.Float64).alias(name)
        for name in ("confidence", *VALUES)
    ]
    return profiles.select(
        escaped(pl.col("customer_id")),
        *[escaped(text) for text in objects],
        *[number.fill_nan(None) for number in numbers],
        pl.lit(version).alias("model_version"),
    )


def load_profiles(cursor: Any, store_id: str, table: pl.DataFrame) -> LoadFacts:
    """Make a store's rows equal to a table; `seconds` is left at 0.

    Parameters
    ----------
    cursor : psycopg.Cursor
        Inside a transaction that holds the store's lock.
    store_id : str
        Whose rows.
    table : DataFrame
        From `prepare_profiles`.
    """
    cursor.execute(
        "CREATE TEMPORARY TABLE staged ON COMMIT DROP AS SELECT customer_id, "
        f"{', '.join(_COLUMNS)} FROM customer_profiles WITH NO DATA"
    )
    with cursor.copy("COPY staged FROM STDIN") as copy:
        for chunk in copy_text(table):
            copy.write(chunk)
    # Without it the planner expects a table of a thousand rows.
    cursor.execute("ANALYZE staged (customer_id)")
    n_updated = _execute(cursor, _UPDATE, store_id)
    n_deleted = _execute(cursor, _DELETE, store_id)
    n_inserted = _execute(cursor, _INSERT, store_id)
    n_unchanged = table.height - n_inserted - n_updated
    return LoadFacts(n_inserted, n_updated, n_unchanged, n_deleted, 0.0)


def copy_text(table: pl.DataFrame) -> Iterator[bytes]:
    """Yield rows in the text format of COPY; text must be escaped already."""
    for chunk in table.iter_slices(_CHUNK):
        yield chunk.write_csv(
            include_header=False, separator="\t", quote_style="never", null_value=_NULL
        ).encode()


_SAME = ", ".join(f"old.{name}" for name in _COLUMNS)
_NEW = ", ".join(f"staged.{name}" for name in _COLUMNS)
_UPDATE = f"""
    UPDATE customer_profiles AS old
    SET {", ".join(f"{name} = staged.{name}" for name in _COLUMNS)},
        last_updated = now()
    FROM staged
    WHERE old.store_id = %(store_id)s AND old.customer_id = staged.customer_id
      AND ({_SAME}) IS DISTINCT FROM ({_NEW})
"""
_DELETE = """
    DELETE FROM customer_profiles AS old
    WHERE old.store_id = %(store_id)s AND NOT EXISTS (
        SELECT FROM staged WHERE staged.customer_id = old.customer_id
    )
"""
_INSERT = f"""
    INSERT INTO customer_profiles (store_id, customer_id, {", ".join(_COLUMNS)})
    SELECT %(store_id)s, customer_id, {", ".join(_COLUMNS)} FROM staged
    WHERE NOT EXISTS (
        SELECT FROM customer_profiles AS old
        WHERE old.store_id = %(store_id)s AND old.customer_id = staged.customer_id
    )
"""


def _execute(cursor: Any, statement: str, store_id: str) -> int:
    cursor.execute(statement, {"store_id": store_id})
    return int(cursor.rowcount)


def _check(profiles: pl.DataFrame) -> None:
    needed = ("customer_id", "segment_memberships", "membership_strengths")
    missing = [name for name in needed if name not in profiles.columns]
    if missing:
        raise StoreError(
            f"the profiles have no {listed(missing)}; they have "
            f"{listed(profiles.columns, 20)}. Pass what `core.axes` makes."
        )
    ids = profiles["customer_id"]
    faults = {
        "no `customer_id`": ids.is_null(),
        "a `customer_id` that another has, too": ids.is_duplicated(),
        "a `customer_id` with a NUL character": ids.str.contains("\0", literal=True),
    }
    for fault, is_faulty in faults.items():
        if n := int(is_faulty.sum()):
            first = ids.filter(is_faulty.fill_null(value=False))[0]
            raise StoreError(
                f"{n:,} of {profiles.height:,} profiles have {fault} (first: "
                f"{first!r}). Expected one profile per customer."
            )


def _json(profiles: pl.DataFrame, name: str) -> pl.Expr:
    """Return JSON objects as text; a null field of a struct is left out."""
    if not name:
        return pl.lit("{}")
    dtype = profiles.schema[name]
    if dtype == pl.String:
        return pl.col(name)
    if not isinstance(dtype, pl.Struct):
        raise StoreError(
            f"`{name}` of the profiles is {dtype}. Expected a struct with a field per "
            "axis, or JSON text."
        )
    fields = [
        _field(pl.col(name).struct.field(field.name), field.name)
        for field in dtype.fields
    ]
    inside = pl.concat_str(fields, separator=",", ignore_nulls=True)
    return pl.concat_str(pl.lit("{"), inside, pl.lit("}"))


def _field(value: pl.Expr, name: str) -> pl.Expr:
    """Return ``"name":value``, null where the value is."""
    encoded = pl.struct(value.alias("v")).struct.json_encode()
    inner = encoded.str.slice(len('{"v":')).str.strip_suffix("}")
    text = pl.concat_str(pl.lit(f"{json.dumps(name)}:"), inner)
    return pl.when(value.is_not_null()).then(text)


def escaped(text: pl.Expr) -> pl.Expr:
    """Escape what the text format of COPY gives a meaning to."""
    pairs = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
    for plain, code in pairs.items():
        text = text.str.replace_all(plain, code, literal=True)
    return text
