"""What becomes of the columns of any table."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest

from core.errors import FeatureMismatchError, SchemaError
from core.tabular.columns import TableEncoding

N = 200
TABLE = pl.DataFrame(
    {
        "age": [20.0, 30.0, 40.0, None] * (N // 4),
        "spend": [float(2 ** (i % 10)) for i in range(N)],
        "plan": ["free"] * 120 + ["pro"] * 70 + ["odd", "rare"] * 2 + [None] * 6,
        "is_member": [True, False] * (N // 2),
        "code": [1, 2, 3, 3] * (N // 4),
        "row": range(N),
        "name": [f"name {i}" for i in range(N)],
        "country": ["FR"] * N,
        "empty": pl.Series([None] * N, dtype=pl.Float64),
    }
)


def learnt() -> TableEncoding:
    return TableEncoding.learn(TABLE, categories=["code"])


def test_every_column_is_encoded_or_left_out_with_the_reason():
    encoding = learnt()
    assert {plan.name: plan.kind for plan in encoding.columns} == {
        "age": "number",
        "spend": "number",
        "plan": "category",
        "is_member": "category",
        "code": "category",
    }
    assert encoding.skipped == {
        "row": "it counts the rows",
        "name": "nearly every row has its own text",
        "country": "it has one value",
        "empty": "it has no values",
    }
    levels = {plan.name: plan.levels for plan in encoding.columns}
    assert levels["plan"] == ("free", "pro", "(missing)", "(other)")
    assert levels["code"] == ("3", "1", "2")
    assert [plan.is_log for plan in encoding.columns[:2]] == [False, True]


def test_missing_rare_and_unseen_values_have_a_place():
    encoding = learnt()
    rows = pl.DataFrame(
        {
            "age": [None, 20.0, None],
            "spend": [8.0, 8.0, None],
            "plan": ["rare", "new", None],
            "is_member": pl.Series(["True", None, None]),  # as Python objects say it
            "code": [3.0, 9.0, None],
        }
    )
    found = encoding.encode(rows)
    assert found["age"].to_list() == [30.0, 20.0, None]
    assert found["plan=(other)"].to_list() == [1.0, 1.0, None]
    assert found["code=3"].to_list() == [1.0, 0.0, None]
    assert found["is_member=true"].to_list() == [1.0, 0.0, None]


def test_every_column_counts_alike():
    """The variances of a column's features add up to 1."""
    encoding = TableEncoding.learn(TABLE.drop("spend"), categories=["code"])
    X = encoding.matrix(encoding.encode(TABLE))
    variances = encoding.learn_scaling(X).columns(X).var(axis=1)
    assert variances[0] == pytest.approx(1.0)
    for block in encoding.blocks:
        assert variances[block].sum() == pytest.approx(1.0)


def test_an_encoding_is_restored_from_plain_values():
    encoding = learnt()
    again = TableEncoding.from_dict(encoding.as_dict())
    assert again == encoding
    assert again.encode(TABLE).equals(encoding.encode(TABLE))


@pytest.mark.parametrize(
    "dates",
    [
        [dt.date(2024, 1, 1 + i) for i in range(20)],
        [f"2024-01-{1 + i:02d}" for i in range(20)],
        [f"{1 + i:02d}/02/2024" for i in range(20)],
        [dt.timedelta(days=i) for i in range(20)],
    ],
)
def test_dates_are_refused_with_advice(dates):
    table = pl.DataFrame({"signup": dates, "x": np.arange(20) % 7})
    with pytest.raises(SchemaError, match=r"`signup` hold dates.*--drop signup"):
        TableEncoding.learn(table)
    assert TableEncoding.learn(table, drop=["signup"]).features == ["x"]


def test_another_table_is_refused():
    encoding = learnt()
    with pytest.raises(FeatureMismatchError, match=r"lacks `age`.*`Age`"):
        encoding.encode(TABLE.rename({"age": "Age"}))
    with pytest.raises(FeatureMismatchError, match="`spend` held numbers"):
        encoding.encode(TABLE.with_columns(spend=pl.lit("much")))
    with pytest.raises(SchemaError, match="no column to segment by"):
        TableEncoding.learn(TABLE.select("country", "name"))
