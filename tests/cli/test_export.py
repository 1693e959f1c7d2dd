"""Segments and rules, handed on to other programs."""

from __future__ import annotations

import duckdb
import numpy as np
import polars as pl
import pytest
import sqlglot
from typer.testing import CliRunner

from core.cli import app
from core.errors import ArtifactError, ConfigError
from core.retailers.shop_files import SHOPS
from core.rules.dialects import DIALECTS
from core.segments.export import SMALL, to_statements, with_floor


def exported(*arguments) -> str:
    done = CliRunner().invoke(app, ["export", *map(str, arguments)])
    if done.exception is not None:
        raise done.exception
    return done.output


def test_all_shops_are_exported_alike_in_every_form(trained, tmp_path):
    csv, parquet, sql = (tmp_path / f"s.{kind}" for kind in ("csv", "parquet", "sql"))
    for file in (csv, parquet, sql):
        exported(file, "--artifacts", trained)
    table = pl.read_parquet(parquet)
    shops = pl.read_parquet(trained / SHOPS)
    assert table.select("shop_id", "segment").equals(shops.select("shop_id", "segment"))
    assert table["segment_name"].null_count() == 0
    assert pl.read_csv(csv, schema=table.schema).equals(table)
    with duckdb.connect() as database:
        database.execute(sql.read_text(encoding="utf-8"))
        found = database.sql("FROM segments").pl()
    assert found.cast(dict(table.schema)).equals(table)


def test_axes_and_rules_that_are_not_there_are_refused_with_what_is(trained, tmp_path):
    with pytest.raises(ConfigError, match=r"no axis `x`; expected one of `segment`"):
        exported(tmp_path / "s.csv", "--artifacts", trained, "--axis", "x")
    with pytest.raises(ArtifactError, match=r"are not rules\. .*rules learn --from"):
        exported(tmp_path / "s.sql", "--artifacts", trained, "--rules")
    with pytest.raises(ArtifactError, match="holds no complete run"):
        exported(tmp_path / "s.csv", "--artifacts", tmp_path)


def members(rng, n):
    segment = pl.Series(rng.geometric(0.3, n) - 2, dtype=pl.Int32)
    part = pl.Series(rng.geometric(0.5, n)).cast(pl.String)
    table = pl.DataFrame(
        {"id": range(n), "axis": rng.choice(["a", "b"], n), "segment": segment}
    )
    return table.with_columns(
        segment=pl.when(segment < 9).then("segment"),
        segment_name=segment.cast(pl.String),
        sub_segment=pl.when(segment == 0).then(part),
        sub_segment_name=pl.when(segment == 0).then(part),
        strength=rng.random(n),
    )


@pytest.mark.parametrize("seed", range(20))
def test_no_exported_group_is_smaller_than_the_floor(seed):
    rng = np.random.default_rng(seed)
    floor = int(rng.integers(2, 30))
    table = members(rng, 400)
    told, n_less = with_floor(table, floor)
    assert told["id"].equals(table["id"])
    groups = told.filter(segment_name=SMALL) if n_less else told.clear()
    assert all(groups["axis"].value_counts()["count"] >= floor)
    assert groups.select("segment", "sub_segment", "strength").null_count().row(0) == (
        (groups.height,) * 3
    )
    for keys in (["axis", "segment"], ["axis", "segment", "sub_segment"]):
        sizes = told.drop_nulls("segment").group_by(keys).len()["len"]
        assert sizes.is_empty() or sizes.min() >= floor
    same = told.hash_rows() == table.hash_rows()
    assert int((~same).sum()) == n_less


def test_a_floor_of_one_leaves_all_as_it_is():
    table = members(np.random.default_rng(0), 100)
    told, n_less = with_floor(table, 1)
    assert (n_less, told.equals(table)) == (0, True)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_database_reads_the_same_rows(dialect):
    table = pl.DataFrame(
        {
            "customer_id": ["007", "it's", "back\\slash", "two\nlines", None],
            "order": [1, 2, -1, None, 2**40],
            "strength": [0.1, 1 / 3, 1e-300, float("nan"), None],
        }
    )
    script = "".join(to_statements(table, dialect, "shop.members"))
    with duckdb.connect() as database:
        database.execute("CREATE SCHEMA shop")
        for statement in sqlglot.transpile(script, read=dialect, write="duckdb"):
            database.execute(statement)
        found = database.sql("FROM shop.members").pl()
    assert found.equals(table.fill_nan(None))
