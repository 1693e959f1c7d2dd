"""Structs as the text of JSON objects, and text as COPY reads it."""

from __future__ import annotations

import json

import polars as pl

from core.errors import StoreError

# What COPY's text format gives a meaning to; the backslash comes first.
_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}


def object_text(column: pl.Series) -> pl.Series:
    """Return JSON objects as text, escaped for COPY.

    Parameters
    ----------
    column : Series
        Structs with fields of text or of numbers: a null or NaN field is left out.
        Text is taken for JSON already.

    Raises
    ------
    StoreError
        If it is neither.
    """
    if column.dtype == pl.String:
        return column.to_frame().select(escaped(pl.col(column.name))).to_series()
    if not isinstance(column.dtype, pl.Struct):
        raise StoreError(
            f"`{column.name}` of the profiles is {column.dtype}. Expected a struct "
            "with a field per axis, or JSON text."
        )
    fields = [_field(column.struct.field(field.name)) for field in column.dtype.fields]
    inside = pl.concat_str(fields, separator=",", ignore_nulls=True)
    return (
        column.to_frame()
        .select(pl.concat_str(pl.lit("{"), inside, pl.lit("}")))
        .to_series()
    )


def escaped(text: pl.Expr) -> pl.Expr:
    """Escape what the text format of COPY gives a meaning to."""
    for plain, code in _ESCAPES.items():
        text = text.str.replace_all(plain, code, literal=True)
    return text


def _field(values: pl.Series) -> pl.Series:
    """Return ``"name":value`` of each row, null where the value is."""
    name = _quoted(values.name)
    if values.dtype.is_numeric():
        numbers = values.cast(pl.Float64).fill_nan(None).cast(pl.String)
        return pl.select(pl.lit(f"{name}:") + numbers).to_series()
    # There are few segments: each is encoded once.
    known = values.cast(pl.String).unique().drop_nulls().to_list()
    texts = [f"{name}:{_quoted(value)}" for value in known]
    return values.cast(pl.String).replace_strict(
        known, texts, default=None, return_dtype=pl.String
    )


def _quoted(text: str) -> str:
    """Return text as a JSON string, with its backslashes escaped for COPY."""
    return json.dumps(text, ensure_ascii=False).replace("\\", "\\\\")
