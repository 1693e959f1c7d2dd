"""Compiled rules say what the interpreted ones say, missing values included."""

from __future__ import annotations

import duckdb
import narwhals as nw
import numpy as np
import polars as pl
import psycopg
import pytest
import sqlglot
from rules import plain_recipe, random_features, random_guests
from sqlglot import exp
from test_check import random_condition

from core.errors import ConfigError, ContractError, SchemaError
from core.rules.assign import assign_rules
from core.rules.compile import assign_expr, to_sql
from core.rules.dialects import DIALECTS
from core.rules.grammar import RuleSegment, RuleSet, read_rules
from core.store import Store


def test_27_rules_equal_the_tables_written_out_on_a_million_guests():
    guests = random_guests(np.random.default_rng(0), 1_000_000)
    said = nw.from_native(guests.lazy()).select(assign_expr(read_rules("order-bands")))
    plain = plain_recipe(
        {c.name: c.cast(pl.Float64).to_numpy() for c in guests.fill_null(np.nan)}
    )
    segments = said.collect().to_native()["segment"]
    assert segments.fill_null("").equals(pl.Series("segment", plain))
    assert segments.n_unique() == 28  # some have no count of orders, kinds or channels


def random_customers(rng, features, n):
    """Return values within the domains and outside, null and NaN among them."""
    columns = {"customer_id": np.arange(n)}
    for feature in features:
        if feature.type == "flag":
            values = rng.integers(0, 2, n).astype(rng.choice([bool, int, float]))
        elif feature.type == "text":
            values = rng.choice(list("abcdef"), n)
        else:
            values = rng.integers(-5, 40, n) + rng.choice([0, 0.5], n)
        columns[feature.name] = values
    table = pl.DataFrame(columns)
    for feature in features:
        gone = pl.Series(rng.random(n) < 0.1)
        column = pl.when(~gone).then(pl.col(feature.name))
        if table[feature.name].dtype == pl.Float64:
            column = column.otherwise(pl.lit(np.nan) if rng.random() < 0.5 else None)
        table = table.with_columns(column.alias(feature.name))
    return table


def random_case(rng):
    features = random_features(rng, 8)
    whens = [random_condition(rng, features) for _ in range(4)]
    segments = tuple(RuleSegment(f"it's {i}", when) for i, when in enumerate(whens))
    return RuleSet("random", features, segments), random_customers(rng, features, 60)


def interpreted(rules, table):
    return [rules.assign(customer) for customer in table.iter_rows(named=True)]


@pytest.mark.parametrize("seed", range(15))
def test_every_road_says_the_same(seed):
    rules, table = random_case(np.random.default_rng(seed))
    expected = interpreted(rules, table)
    expr = assign_expr(rules)
    polars = nw.from_native(table).select(expr)["segment"].to_list()
    assert polars == expected
    pandas = nw.from_native(table.to_pandas()).select(expr)["segment"]
    assert [name if isinstance(name, str) else None for name in pandas] == expected
    with duckdb.connect() as database:
        database.register("customers", table)
        source = nw.from_native(database.table("customers"))
        lazy = source.with_columns(expr).collect("polars").to_native()
        assert lazy.sort("customer_id")["segment"].to_list() == expected
        found = database.sql(to_sql(rules, "duckdb", "customers")).pl()
        assert found.sort("customer_id")["segment"].to_list() == expected
        for dialect in set(DIALECTS) - {"duckdb"} if seed < 3 else ():
            written = to_sql(rules, dialect, "customers")
            [query] = sqlglot.transpile(written, read=dialect, write="duckdb")
            found = database.sql(query).pl().sort("customer_id")
            assert found["segment"].to_list() == expected, dialect


def test_learnt_numbers_reach_the_database_to_the_last_bit():
    value = 0.06521739130434782
    near = [value, np.nextafter(value, 0), np.nextafter(value, 1)]
    rules = read_rules(
        "features:\n  x: {type: number}\n"
        f"thresholds: {{t: {{quantile: 0.5, of: x, value: {value!r}}}}}\n"
        "segments:\n  - {name: low, when: x < t}\n  - {name: high, when: x >= t}\n"
    )
    table = pl.DataFrame({"customer_id": [0, 1, 2], "x": near})
    with duckdb.connect() as database:
        database.register("customers", table)
        found = database.sql(to_sql(rules, "duckdb", "customers")).pl()
    assert found.sort("customer_id")["segment"].to_list() == ["high", "low", "high"]
    assert f"{value!r}D" in to_sql(rules, "spark", "customers")


AWKWARD = """
features:
  "days since": {type: number}
  'he said "so"': {type: flag}
  k: {type: text, missing: unknown}
segments:
  - {name: "it's", when: '`days since` > 2.5 and not `he said "so"`'}
  - {name: 'back\\slash', when: 'not (k in {"a''b", "c\\\\d"} or k is missing)'}
"""


def test_sql_quotes_names_and_texts_as_each_database_wants():
    rules = read_rules(AWKWARD)
    spark = to_sql(rules, "spark", "shop.customers", "the id")
    assert "FROM `shop`.`customers`" in spark
    assert (
        "`days since` > 2.5 AND NOT COALESCE(`he said \"so\"`, FALSE) THEN 'it\\'s'"
        in spark
    )
    assert "`k` NOT IN ('a\\'b', 'c\\\\d') OR `k` IS NULL) AND `k` IS NOT NULL" in spark
    postgres = to_sql(rules, "postgres", "customers", "the id")
    assert 'NOT COALESCE("he said ""so""", FALSE) THEN \'it\'\'s\'' in postgres
    assert "('a''b', 'c\\d')" in postgres
    with pytest.raises(ConfigError, match="expected one of `duckdb`"):
        to_sql(rules, "oracle", "customers")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_database_can_read_its_own_sql(dialect):
    rules = read_rules("order-bands")
    for own, table in ((rules, "crm.guests"), (read_rules(AWKWARD), 'a b."c"`d`')):
        sql = to_sql(own, dialect, table, "the id")
        [query] = sqlglot.parse(sql, read=dialect)  # raises at what it cannot read
        [source] = [t for t in query.find_all(exp.Table) if t.name != "facts"]
        assert f"{source.db}.{source.name}" == table
        assert query.named_selects == ["the id", "segment"]
        told = [case.args["true"].this for case in query.find_all(exp.If)]
        names = [segment.name for segment in own.segments]
        assert [name for name in told if name in names] == names
        assert not list(query.find_all(exp.Anonymous, exp.Command))


def test_postgresql_itself_gives_the_same_segments(tmp_path):
    with (
        Store.open(None, tmp_path / "postgres") as store,
        psycopg.connect(store.address, autocommit=True) as database,
    ):
        for seed in range(5):
            rules, table = random_case(np.random.default_rng(seed))
            _fill(database, table)
            found = database.execute(to_sql(rules, "postgres", "customers")).fetchall()
            expected = dict(enumerate(interpreted(rules, table)))
            assert dict(found) == expected


def _fill(database, table):
    """Make the table `customers` of PostgreSQL equal to a frame."""
    types = {pl.Boolean: "BOOLEAN", pl.Int64: "BIGINT", pl.String: "TEXT"}
    columns = [f'"{n}" {types.get(t, "FLOAT8")}' for n, t in table.schema.items()]
    database.execute("DROP TABLE IF EXISTS customers")
    database.execute(f"CREATE TABLE customers ({', '.join(columns)})")
    with database.cursor().copy("COPY customers FROM STDIN") as rows:
        for row in table.iter_rows():
            rows.write_row(row)


def test_thresholds_without_a_number_are_not_compiled():
    rules = read_rules("basket-quadrants")
    with pytest.raises(ConfigError, match="`often` of `freq_score` has no number yet"):
        to_sql(rules, "duckdb", "customers")
    with pytest.raises(ConfigError, match="has no number yet"):
        assign_expr(rules)


@pytest.mark.shared_data
def test_the_published_quadrants_are_reproduced(shared_data):
    table = pl.read_parquet(shared_data / "instacart_scores.parquet")
    done = assign_rules(read_rules("basket-quadrants"), table, "user_id")
    published = table["segment"].cast(pl.String)
    assert done.table["segment"].equals(published)
    assert {n for _, _, n in done.counts()} == {61_317, 30_055, 29_851, 61_000}


def test_customers_beyond_what_is_declared_are_counted():
    table = pl.DataFrame(
        {
            "customer_id": ["a", "b", "c", "d"],
            "freq_score": [0.1, 0.9, 1.5, None],
            "loyalty_score": [0.9, 0.1, 0.5, 0.5],
        }
    )
    done = assign_rules(read_rules("basket-quadrants"), table, "customer_id")
    assert done.table["customer_id"].to_list() == ["a", "b", "c", "d"]
    assert done.counts()[-1] == ("", "in no segment", 1)
    assert done.outside == {"freq_score": 2}
    assert "2 rows are outside" in list(done.lines())[-1]
    with pytest.raises(SchemaError, match="lacks `loyalty_score`"):
        assign_rules(done.rules, table.drop("loyalty_score"), "customer_id")
    text = table.with_columns(freq_score=pl.lit("often"))
    with pytest.raises(SchemaError, match="`freq_score` is of type String"):
        assign_rules(done.rules, text, "customer_id")
    unknown = table.with_columns(freq_score=pl.lit(None, pl.String))
    assert assign_rules(done.rules, unknown, "customer_id").outside["freq_score"] == 4
    with pytest.raises(ContractError, match="in no segment"):
        assign_rules(
            read_rules(
                "features:\n  freq_score: {type: number}\n"
                "segments:\n  - {name: a, when: freq_score > p50}\n"
            ),
            table,
            "customer_id",
        )
