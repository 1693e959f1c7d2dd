"""Nothing that fails or is killed in the middle of a load leaves a trace."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest

from core.errors import StoreError
from core.store import Store
from core.store.address import connect
from core.store.migrations import VERSION_TABLE, migrate

N = 3_000
REFERENCE_SQL = """
SELECT customer_id, lifetime_value FROM customer_profiles
WHERE segment_memberships->>'purchase_value' = 'whale'
  AND segment_memberships->>'price_sensitivity' = 'deal_hunter'
ORDER BY lifetime_value DESC LIMIT 1000;
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("store") / "postgres"


@pytest.fixture(scope="module")
def store(folder):
    with Store.open(None, folder) as opened:
        yield opened


def profiles(value: float, n: int = N) -> pl.DataFrame:
    """Return customers `c0` and on; each 100th a whale, each 10th hunts deals."""
    rows = pl.DataFrame({"i": range(n)})
    return rows.select(
        customer_id="c" + pl.col("i").cast(pl.String),
        segment_memberships=pl.struct(
            purchase_value=pl.when(pl.col("i") % 100 == 0)
            .then(pl.lit("whale"))
            .otherwise(pl.lit("mid_tier")),
            price_sensitivity=pl.when(pl.col("i") % 10 == 0)
            .then(pl.lit("deal_hunter"))
            .otherwise(pl.lit("not_enough_orders")),
        ),
        membership_strengths=pl.struct(
            purchase_value=pl.lit(0.75),
            price_sensitivity=pl.when(pl.col("i") % 10 == 0).then(1.0).otherwise(0.0),
        ),
        confidence=pl.lit(0.75),
        lifetime_value=value + pl.col("i"),
    )


def publish(store, store_id, version, table):
    return store.publish(store_id, version, "line", b"v%d" % version, {}, table)


def query(store, statement, **values):
    with store.begin("read") as connection:
        return connection.execute(statement, values).fetchall()


def standing(store, store_id):
    """Return what stands: model, and (rows, smallest value, largest version)."""
    (rows,) = query(
        store,
        "SELECT count(*), min(lifetime_value), max(model_version) "
        "FROM customer_profiles WHERE store_id = %(s)s",
        s=store_id,
    )
    model = store.model(store_id)
    return (None if model is None else model.version, *rows)


def test_a_row_that_fails_leaves_the_old_profiles_complete(store):
    publish(store, "broken", 1, profiles(1.0))
    texts = profiles(2.0).with_columns(
        segment_memberships=pl.when(pl.col("customer_id") == f"c{N - 1}")
        .then(pl.lit('{"purchase_value": '))
        .otherwise(pl.lit("{}"))
    )
    with pytest.raises(StoreError, match=r"could not load the profiles.*json"):
        publish(store, "broken", 2, texts)
    assert standing(store, "broken") == (1, N, 1.0, 1)


CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_store_loading import profiles, publish
from core.store import Store
with Store.open(None, Path(sys.argv[1])) as store:
    publish(store, "killed", 2, profiles(2.0))
"""


def test_a_killed_load_leaves_the_old_profiles_complete(store, folder, request):
    publish(store, "killed", 1, profiles(1.0))
    # The last row is held, so that the load stops in the middle of its changes.
    with store.begin("hold a row") as held:
        held.execute(
            "SELECT FROM customer_profiles WHERE store_id = 'killed' "
            f"AND customer_id = 'c{N - 1}' FOR UPDATE"
        )
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(folder), str(request.path.parent)],
            cwd=request.config.rootpath,
        )
        wait_until(lambda: waiting(store) == 1)
        # Meanwhile readers see the old ones, all of them.
        assert standing(store, "killed") == (1, N, 1.0, 1)
        child.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        child.wait()
    assert standing(store, "killed") == (1, N, 1.0, 1)
    wait_until(lambda: waiting(store) == 0)
    facts = publish(store, "killed", 2, profiles(2.0))
    assert facts.n_updated == N
    assert standing(store, "killed") == (2, N, 2.0, 2)


def waiting(store) -> int:
    """Return how many other sessions wait for a lock."""
    ((n,),) = query(
        store, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    )
    return n


def wait_until(holds, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_two_loads_at_once_follow_each_other(store):
    publish(store, "both", 1, profiles(1.0))
    with ThreadPoolExecutor() as threads:
        loads = [
            threads.submit(publish, store, "both", version, profiles(float(version)))
            for version in (2, 3)
        ]
        # Each found all rows of the one before to differ, or the lock did not hold.
        assert [load.result().n_updated for load in loads] == [N, N]
    version = store.model("both").version
    assert version in {2, 3}
    assert standing(store, "both") == (version, N, float(version), version)


def test_the_sql_of_the_reference_runs_as_written(store):
    publish(store, "sql", 1, profiles(0.0, n=1_000))
    with store.begin("clear") as connection:
        connection.execute("DELETE FROM customer_profiles WHERE store_id <> 'sql'")
    found = query(store, REFERENCE_SQL)
    # Whales are c0, c100, ..., all of them among the deal hunters c0, c10, ...
    assert found == [(f"c{i}", float(i)) for i in range(900, -1, -100)]


@pytest.mark.parametrize("column", ["segment_memberships", "dominant_segments"])
def test_containment_is_answered_from_the_gin_index(store, column):
    publish(store, "gin", 1, profiles(0.0, n=5_000))
    plan = query(
        store,
        "EXPLAIN SELECT customer_id FROM customer_profiles "
        f"""WHERE {column} @> '{{"purchase_value": "whale"}}'""",
    )
    text = "\n".join(line for (line,) in plan)
    assert f"Bitmap Index Scan on customer_profiles_{column}" in text, text


def test_statistics_count_customers_but_not_absent_segments(store):
    publish(store, "stats", 1, profiles(0.0, n=1_000))
    ((stats,),) = query(
        store, "SELECT stats FROM axis_models WHERE store_id = 'stats' AND is_current"
    )
    assert stats == {
        "total_customers": 1_000,
        "customers_with_segments": 1_000,
        "axes_count": 2,
        "segments_per_axis": {"purchase_value": 2, "price_sensitivity": 1},
        "segment_distribution": {
            "purchase_value": {"whale": 10, "mid_tier": 990},
            "price_sensitivity": {"deal_hunter": 100, "not_enough_orders": 900},
        },
    }


def test_moves_are_kept_once(store):
    moves = pl.DataFrame(
        {
            "customer_id": ["c1", "c2"],
            "run": ["2026-01", "2026-01"],
            "axis": ["purchase_value", "purchase_value"],
            "old": ["mid_tier", None],
            "new": ["whale", "mid_tier"],
            "cause": ["behaviour", "new customer"],
        }
    )
    for _ in range(2):
        store.publish("moves", 1, "line", b"", {}, profiles(0.0, n=3), moves)
    found = query(
        store,
        "SELECT customer_id, run, axis, old, new, cause FROM axis_moves "
        "WHERE store_id = 'moves' ORDER BY customer_id",
    )
    assert [tuple(row) for row in found] == moves.rows()


@pytest.fixture
def other(store):
    """Yield the address of an empty database of the same server."""
    with connect(store.address, autocommit=True) as outside:
        outside.execute("CREATE DATABASE other")
        yield store.address.replace("/postgres?", "/other?")
        outside.execute("DROP DATABASE other WITH (FORCE)")


def test_tables_of_a_newer_version_are_refused(store, other, tmp_path):
    with Store.open(other, tmp_path) as opened, opened.begin("age") as connection:
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    with (
        pytest.raises(StoreError, match=r"layout `9999`, made by a newer version"),
        Store.open(other, tmp_path),
    ):
        pass


def test_migrations_can_be_undone_and_done_again(store, other, tmp_path):
    with Store.open(other, tmp_path) as opened:
        migrate(other, "base")
        with opened.begin("look") as connection:
            tables = "SELECT count(*) FROM pg_tables WHERE tablename = 'axis_models'"
            assert connection.execute(tables).fetchone() == (0,)
        opened.migrate()
        assert opened.model("any") is None
