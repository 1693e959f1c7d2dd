"""Keys open one store, are kept as hashes, and are refused once revoked."""

from __future__ import annotations

import re
from datetime import UTC

import pytest
from psycopg.rows import namedtuple_row
from typer.testing import CliRunner

from core.cli import app
from core.errors import StoreError
from core.store import Store, create_key, list_keys, revoke_key
from core.store.store import hash_secret, is_secret, split_key


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture(scope="module")
def store(artifacts):
    with Store.open(None, artifacts / "postgres") as opened:
        yield opened


@pytest.fixture
def run(store, artifacts):
    """Return a function that runs `keys ...` beside the open store."""

    def run_verb(*arguments: str, code: int = 0):
        result = CliRunner().invoke(
            app, ["keys", *arguments, "--artifacts", str(artifacts)]
        )
        assert result.exit_code == code, result.output
        return result

    return run_verb


def test_only_the_hash_of_a_key_is_stored(store):
    key = create_key(store, "shop", "CRM")
    prefix, secret = split_key(key)
    with store.begin("read") as connection:
        cursor = connection.cursor(row_factory=namedtuple_row)
        row = cursor.execute(
            "SELECT * FROM api_keys WHERE prefix = %s", (prefix,)
        ).fetchone()
    assert bytes(row.secret_hash) == hash_secret(secret)
    assert not any(secret in str(value) for value in row)
    assert (row.store_id, row.name, row.revoked_at) == ("shop", "CRM", None)


def test_keys_differ_and_their_secrets_have_256_bits(store):
    made = [split_key(create_key(store, "many")) for _ in range(3)]
    assert len({prefix for prefix, _ in made}) == 3
    assert len({secret for _, secret in made}) == 3
    assert all(len(bytes.fromhex(secret)) == 32 for _, secret in made)


def test_a_secret_matches_its_own_hash_only():
    assert is_secret("abc", hash_secret("abc"))
    assert not is_secret("abd", hash_secret("abc"))


@pytest.mark.parametrize(
    "text",
    ["", "ss_", "ss_abc_def", "x" * 100_000, "ss_é", f"ss_{'0' * 12}_{'G' * 64}"],
)
def test_text_that_is_no_key_is_known_without_asking(text):
    assert split_key(text) is None


def test_a_revoked_key_keeps_the_time_when_it_was(store):
    prefix, _ = split_key(create_key(store, "revoked", "old"))
    first = revoke_key(store, prefix)
    assert first.revoked_at.tzinfo is UTC
    # Also by the whole beginning, as it stands in a configuration.
    assert revoke_key(store, f"ss_{prefix}_").revoked_at == first.revoked_at
    assert [key.name for key in list_keys(store, "revoked")] == ["old"]


def test_a_key_that_is_not_there_cannot_be_revoked(store):
    prefix, _ = split_key(create_key(store, "near"))
    wrong = prefix[:-1] + ("0" if prefix[-1] != "0" else "1")
    with pytest.raises(StoreError, match=f"no key `{wrong}`. Did you mean `{prefix}`?"):
        revoke_key(store, wrong)


def test_a_key_is_printed_once_and_alone(run, store):
    result = run("create", "--store", "cli", "--name", "Ann's CRM")
    assert re.fullmatch(r"ss_[0-9a-f]{12}_[0-9a-f]{64}\n", result.stdout)
    assert "cannot be shown again" in result.stderr
    assert "run `./run.sh axes --store cli`" in result.stderr
    prefix, secret = split_key(result.stdout.strip())
    listed = run("list", "--store", "cli").stdout
    assert prefix in listed
    assert "Ann's CRM" in listed
    assert secret not in listed
    assert "is revoked" in run("revoke", prefix).stdout
    assert list_keys(store, "cli")[0].revoked_at is not None


@pytest.mark.parametrize("name", ["[/b]", "[red]x[/red]", ":smile:", "[link=x]a"])
def test_a_key_is_listed_by_its_name_as_it_was_written(run, name):
    run("create", "--store", "markup", "--name", name)
    assert name in run("list", "--store", "markup").stdout


def test_a_name_gives_the_terminal_no_commands(run):
    run("create", "--store", "codes", "--name", "a\x1b[31mb")
    assert "a?[31mb" in run("list", "--store", "codes").stdout


def test_no_keys_are_no_error(run):
    assert "no keys yet" in run("list", "--store", "nobody's").stdout


def test_a_database_that_is_away_is_an_error_without_its_password(run):
    address = "postgresql://ann:secret@127.0.0.1:1/shop"
    result = run("list", "--database", address, code=1)
    assert isinstance(result.exception, StoreError)
    assert result.exception.exit_code == 9
    assert "ann:***@127.0.0.1:1/shop` cannot be reached" in str(result.exception)
    assert "secret" not in str(result.exception)


@pytest.mark.parametrize("address", ["mysql://db/shop", "ann:secret@db", "db"])
def test_an_address_of_another_kind_is_refused(run, monkeypatch, address):
    monkeypatch.setenv("DATABASE_URL", address)
    result = run("list", code=1)
    assert "`DATABASE_URL` is" in str(result.exception)
    assert "secret" not in str(result.exception)
