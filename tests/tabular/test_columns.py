"""What becomes of the columns of any table."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest

from core.errors import FeatureMismatchError, SchemaError
from core.tabular.amounts import amount_form, read_amounts
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


def amounts() -> pl.DataFrame:
    """Return a fee that is 0 for half, and two scores that miss together."""
    fee = [0.0 if i % 2 else 10.0 + i for i in range(N)]
    score = [None if i % 4 == 0 else float(i % 37) for i in range(N)]
    alone = [None if i % 5 == 0 else float(i % 29) for i in range(N)]
    return pl.DataFrame({"fee": fee, "a": score, "b": score, "c": alone})


def test_a_value_of_many_rows_stands_beside_the_number():
    encoding = TableEncoding.learn(amounts())
    levels = {plan.name: plan.levels for plan in encoding.columns}
    assert levels["fee"] == ("0", "not 0")
    encoded = encoding.encode(amounts())[:2].select("fee", "fee=0", "fee=not 0")
    assert encoded.rows() == [(10.0, 0.0, 1.0), (109.0, 1.0, 0.0)]
    scaled = encoding.matrix(encoding.encode(amounts()))
    fees = encoding.learn_scaling(scaled).columns(scaled)[0]
    assert fees[::2].std() == pytest.approx(1.0)  # of those that pay one
    assert encoding.fixed_features(scaled[0])[0] == "fee=0"
    assert encoding.fixed_features(scaled[1])[0] == "fee"
    assert TableEncoding.from_dict(encoding.as_dict()) == encoding


def test_cells_that_miss_together_are_told_those_by_chance_are_not():
    encoding = TableEncoding.learn(amounts())
    levels = {plan.name: plan.levels for plan in encoding.columns}
    assert levels["a"] == levels["b"] == ("(missing)", "(known)")
    assert levels["c"] == ()
    assert encoding.encode(amounts())["a=(missing)"].sum() == N / 4


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
    with pytest.raises(SchemaError, match="there is one row"):
        TableEncoding.learn(TABLE[:1])


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (["$1,234.50", "$5", "-$3.20", "($7)"], [1234.5, 5.0, -3.2, -7.0]),
        (["12%", "3.5%", "0%"], [12.0, 3.5, 0.0]),
        (["1.234,56 €", "3,00 €", "12 €"], [1234.56, 3.0, 12.0]),
        (["4.700 €", "12 €"], [4700.0, 12.0]),
        (["12.345%", "1.250%"], [12.345, 1.25]),
        (["1 234,5", "12"], [1234.5, 12.0]),
        (["007", "8.5"], None),
        (["75001", "75002"], None),
        (["$5", "€5"], None),
        (["5%", "6"], None),
        (["1,5", "1.5"], None),
        (["low", "high"], None),
    ],
)
def test_amounts_typed_as_text_are_numbers(cells, numbers):
    text = pl.Series("x", cells)
    form = amount_form(text, 20)
    found = None if form is None else read_amounts(text, form).to_list()
    assert found == numbers


def test_a_column_with_a_word_for_unknown_is_one_of_numbers():
    """As the horsepower of cars, of which six of 398 are `?`."""
    power = [str(80 + i % 90) for i in range(N - 4)] + ["?"] * 4
    table = pl.DataFrame({"power": power, "x": np.arange(N) % 7})
    encoding = TableEncoding.learn(table)
    assert encoding.features == ["power", "x"]
    assert TableEncoding.from_dict(encoding.as_dict()) == encoding
    rows = pl.DataFrame({"power": ["90", "?"], "x": [1, 2]})
    assert encoding.encode(rows)["power"].to_list() == [90.0, encoding.columns[0].fill]
    with pytest.raises(FeatureMismatchError, match="`abc` is none of the kind"):
        encoding.encode(pl.DataFrame({"power": ["abc"], "x": [1]}))


def test_ids_and_columns_of_nearly_one_value_are_left_out():
    ids = np.random.default_rng(0).choice(10**6, N, replace=False)
    table = pl.DataFrame(
        {
            "account_id": ids,
            "spend_cents": ids,
            "is_blocked": [1] + [0] * (N - 1),
            "has_card": [0, 1] * (N // 2),
        }
    )
    encoding = TableEncoding.learn(table)
    assert encoding.skipped == {
        "account_id": "every row has its own, as an id",
        "is_blocked": "nearly every row has the same value",
    }
    assert {p.name: p.kind for p in encoding.columns} == {
        "spend_cents": "number",
        "has_card": "category",
    }
