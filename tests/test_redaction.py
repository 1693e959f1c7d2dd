"""Passwords and signatures in addresses are shown nowhere."""

from __future__ import annotations

import logging
import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.config import Config
from core.errors import ConfigError, StoreError
from core.logging import RedactedFormatter
from core.redaction import redacted, redacted_address
from core.resolve import resolve_config, unaddressed
from core.store.address import chosen_address

SECRETS = [
    "postgresql://ann:hunter2@db:5432/shop",
    "postgresql://ann:p/hunter2@db/shop",
    "postgresql://ann:p?hunter2@db/shop",
    "postgresql://ann:p#hunter2@db/shop",
    "postgresql://ann:p@hunter2@db/shop",
    "postgresql://ann:12/hunter2@db/shop",
    "postgresql://ann@db/shop?sslmode=require&sslpassword=hunter2",
    "postgresql://db/shop?user=ann&password=hunter2#x",
    "host=db user=ann password='hunter2 x'",
    "ann:hunter2@db",
    "https://ann:hunter2@host/rows.csv",
    "https://hunter2@host/rows.csv",
    "https://host/rows.csv?X-Amz-Credential=hunter2&X-Amz-Signature=hunter2",
    "https://host/rows.csv?sv=1&sig=hunter2",
    "https://host/rows.csv?X-Goog-Signature=hunter2",
    "https://host/rows.csv?access_token=hunter2&page=3",
    "simplecache::https://ann:hunter2@host/rows.csv",
]
PLAIN = [
    "sales.csv",
    r"C:\data\a@b.csv",
    "exports/token=1/rows.csv",
    "s3://bucket/rows@v2.csv",
    "https://host:8080/rows.csv?page=3",
    "postgresql://ann@db:5432/shop?sslmode=require",
    "postgresql:///shop?host=/tmp/segments",
]


@pytest.mark.parametrize("address", SECRETS)
def test_no_secret_is_left_in_an_address(address):
    assert "hunter2" not in redacted_address(address)
    assert "hunter2" not in redacted(f"`{address}` does not answer.")
    assert "hunter2" not in str(StoreError(f"`{address}` does not answer."))


@pytest.mark.parametrize("address", PLAIN)
def test_what_holds_no_secret_stays_as_it_is(address):
    assert redacted_address(address) == address


@given(st.text(string.ascii_letters + string.digits + "/?#@:&= %+", min_size=4))
def test_no_password_is_shown_however_it_is_typed(password):
    shown = redacted_address(f"postgresql://ann:<{password}>@db:5432/shop")
    assert shown == "postgresql://ann:***@db:5432/shop"


@pytest.mark.parametrize("password", ["p/a", "p?a", "p#a", "p@a", "p/a?s#s@x", "p%2Fa"])
def test_a_password_typed_as_it_is_reaches_the_server_whole(password):
    from urllib.parse import unquote

    from psycopg.conninfo import conninfo_to_dict

    address = chosen_address(f"postgres://ann:{password}@db:5432/shop?sslmode=require")
    assert conninfo_to_dict(address) == {
        "user": "ann",
        "password": unquote(password),
        "host": "db",
        "port": "5432",
        "dbname": "shop",
        "sslmode": "require",
    }


@pytest.mark.parametrize(
    "address", ["postgresql://db:5432/shop?user=a@b", "postgresql:///shop?host=/tmp"]
)
def test_an_address_without_an_account_stays_as_it_is(address):
    assert chosen_address(address) == address


OPTIONS = (
    "data.input",
    "axes.orders",
    "axes.items",
    "axes.lines",
    "store.url",
    "refresh.mlflow_uri",
)


def with_secrets() -> Config:
    address = "https://ann:hunter2@host/x?X-Amz-Signature=hunter2"
    return resolve_config(flags=dict.fromkeys(OPTIONS, address), environ={})


def test_saved_and_printed_options_hold_no_secret():
    config = with_secrets()
    assert "hunter2" not in config.to_yaml()
    assert "hunter2" not in config.model_dump_json()
    assert config.to_yaml().count("https://ann:***@host/x") == len(OPTIONS)
    # What runs with them has them whole.
    assert "hunter2" in config.data.input


@pytest.mark.parametrize("option", OPTIONS)
def test_an_address_as_it_was_saved_is_not_used(tmp_path, option):
    path = tmp_path / "config.yaml"
    section, name = option.split(".")
    path.write_text(f"{section}: {{{name}: 'https://ann:***@host/x'}}", "utf-8")
    with pytest.raises(ConfigError, match="without its password or signature"):
        resolve_config(path, environ={})


def test_a_saved_configuration_connects_nowhere():
    config = unaddressed(with_secrets())
    assert "host/x" not in config.to_yaml()
    assert config.data.source == "input"


def test_a_long_text_is_looked_through_at_once():
    for text in (
        "a" * 100_000 + "=",
        "`" + "a" * 100_000 + ":=",
        "a://" * 25_000 + "@",
    ):
        started = time.process_time()
        redacted(text)
        assert time.process_time() - started < 1


def test_log_lines_hold_no_secret():
    record = logging.makeLogRecord(
        {"msg": "Reading %s", "args": ("https://ann:hunter2@host/x?sig=hunter2",)}
    )
    assert RedactedFormatter("%(message)s").format(record) == (
        "Reading https://ann:***@host/x?sig=***"
    )
