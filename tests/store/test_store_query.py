"""The store can be looked into and asked in SQL from the command line, not changed."""

from __future__ import annotations

import csv
import io

import polars as pl
import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from typer.testing import CliRunner

from core.cli import app
from core.errors import StoreError
from core.store import Store
from core.store.query import READER, TABLES, run_query


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture(scope="module")
def run(artifacts):
    def run_verb(*arguments: str, **options):
        return CliRunner().invoke(
            app, ["store", *arguments, "--artifacts", str(artifacts)], **options
        )

    # Kept open, so that the server does not start anew with every command.
    with Store.open(None, artifacts / "postgres"):
        yield run_verb


@pytest.fixture(scope="module")
def loaded(run, artifacts):
    """Load two customers, after a look at the store that is still empty."""
    assert "no profiles yet" in run("status").stdout
    profiles = pl.DataFrame(
        {
            "customer_id": ["ann", "[bob]"],
            "segment_memberships": [{"purchase_value": "whale"}] * 2,
            "membership_strengths": [{"purchase_value": 0.5}] * 2,
            "lifetime_value": [12.5, None],
        }
    )
    with Store.open(None, artifacts / "postgres") as store:
        store.publish("mine", 3, "line", b"", {}, profiles)
        store.publish("other", 1, "line", b"", {}, profiles.head(1))


@pytest.mark.usefixtures("loaded")
def test_status_lists_every_store_with_its_model(run):
    lines = run("status").stdout.splitlines()
    assert lines[0].startswith("Store: embedded PostgreSQL in")
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines]
    found = [row[:4] for row in cells if len(row) == 5]
    assert found == [["mine", "2", "3", "line"], ["other", "1", "1", "line"]]


@pytest.mark.usefixtures("loaded")
def test_a_query_prints_rows_as_csv(run):
    statement = """
        SELECT customer_id, lifetime_value, segment_memberships FROM customer_profiles
        WHERE store_id = 'mine' AND customer_id LIKE '%n%' OR customer_id = '[bob]'
        ORDER BY customer_id DESC
    """
    result = run("query", "-", "--csv", input=statement)
    assert list(csv.reader(io.StringIO(result.stdout))) == [
        ["customer_id", "lifetime_value", "segment_memberships"],
        ["ann", "12.5", '{"purchase_value": "whale"}'],
        ["[bob]", "", '{"purchase_value": "whale"}'],
    ]


@pytest.mark.usefixtures("loaded")
def test_a_query_prints_a_table_for_people(run):
    output = run("query", "SELECT customer_id FROM customer_profiles").stdout
    assert "[bob]" in output
    assert output.endswith("3 rows\n")


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM customer_profiles",
        "DROP TABLE customer_profiles",
        "COMMIT; DELETE FROM customer_profiles",
    ],
)
@pytest.mark.usefixtures("loaded")
def test_nothing_can_be_changed_by_a_query(run, statement):
    result = run("query", statement)
    assert isinstance(result.exception, StoreError)
    counted = run("query", "SELECT count(*) FROM customer_profiles", "--csv")
    assert counted.stdout == "count\n3\n"


@pytest.mark.usefixtures("loaded")
def test_sql_that_is_not_understood_is_told(run):
    result = run("query", "SELECT customer FROM customer_profiles")
    assert 'column "customer" does not exist' in str(result.exception)
    assert result.exception.exit_code == 9


@pytest.mark.parametrize(
    "statement",
    [
        "COPY (SELECT 1) TO PROGRAM 'touch {mark}'",
        "/* a */ -- b\n ; copy customer_profiles TO '{mark}'",
        "DO $$ BEGIN COPY (SELECT 1) TO PROGRAM 'touch {mark}'; END $$",
        "DO $$ BEGIN RESET ROLE; COPY (SELECT 1) TO PROGRAM 'touch {mark}'; END $$",
        "SELECT set_config('role', 'postgres', true), pg_read_file('PG_VERSION')",
        "SELECT set_config('session_authorization', 'postgres', true)",
        "SELECT pg_read_file('postgresql.conf')",
        "SELECT * FROM pg_authid",
        "SELECT lo_create(0)",
        "EXPLAIN ANALYZE DELETE FROM api_keys",
        "CREATE TEMPORARY TABLE mine (a int)",
        "SET ROLE postgres",
    ],
)
@pytest.mark.usefixtures("loaded")
def test_a_query_has_no_powers_over_the_server(run, tmp_path, statement):
    mark = tmp_path / "mark"
    result = run("query", statement.format(mark=mark))
    assert isinstance(result.exception, StoreError), result.stdout
    assert not mark.exists()


@pytest.mark.usefixtures("loaded")
def test_copy_is_refused_with_what_to_do_instead(run):
    result = run("query", "COPY customer_profiles TO STDOUT")
    assert str(result.exception).startswith("`COPY` is refused")
    assert "`--csv`" in str(result.exception)


@pytest.mark.usefixtures("loaded")
def test_a_query_runs_as_a_role_that_can_only_select(run):
    result = run("query", "SELECT session_user, current_user", "--csv")
    assert result.stdout.splitlines()[1] == f"{READER},{READER}"
    for table in TABLES:
        rights = "INSERT, UPDATE, DELETE, TRUNCATE"
        asked = f"SELECT has_table_privilege('{table}', '{rights}')"
        assert run("query", asked, "--csv").stdout.splitlines()[1] == "False"
    assert run("query", "SELECT count(*) FROM segment_ledger").exit_code == 0


@pytest.mark.usefixtures("loaded")
def test_a_query_that_takes_too_long_is_ended(artifacts):
    with (
        Store.open(None, artifacts / "postgres") as store,
        pytest.raises(psycopg.errors.QueryCanceled),
    ):
        run_query(store.address, "SELECT pg_sleep(60)", seconds=0.2)


@pytest.mark.usefixtures("loaded")
def test_an_address_without_powers_is_used_itself(artifacts):
    with Store.open(None, artifacts / "postgres") as store:
        run_query(store.address, "SELECT 1")
        address = make_conninfo(store.address, user=READER)
        assert run_query(address, "SELECT current_user")[1] == [(READER,)]
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            run_query(address, "DELETE FROM api_keys")


@pytest.mark.usefixtures("loaded")
def test_a_server_that_lets_no_reader_in_is_told(artifacts, monkeypatch):
    monkeypatch.setattr("core.store.query.READER", "postgres\0")
    with (
        Store.open(None, artifacts / "postgres") as store,
        pytest.raises(StoreError, match="a role that is no superuser"),
    ):
        store.query("SELECT 1")
