"""Addresses of PostgreSQL servers, and what servers report as `StoreError`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlencode

import psycopg

from core.errors import PROGRAM, StoreError, StoreLayoutError
from core.redaction import redacted_address

VARIABLE = "DATABASE_URL"
_SCHEMES = {"postgres", "postgresql", "postgresql+psycopg", "postgresql+psycopg2"}
# User, password and the rest; digits before a `/` are a port.
_TYPED = re.compile(r"([^:/?#@]*):(?!\d+(?:/|$))(.*?)@([^@?#]*(?:\?\w.*)?)", re.DOTALL)


def address_of(
    *,
    user: str,
    host: str,
    port: int,
    password: str | None = None,
) -> str:
    """Return the address of a server; a `host` that is a folder holds its socket."""
    secret = "" if password is None else f":{quote(password, safe='')}"
    query = urlencode({"host": host, "port": port})
    return f"postgresql://{quote(user, safe='')}{secret}@/postgres?{query}"


def chosen_address(url: str | None) -> str | None:
    """Return the address that a user has chosen, or None for the embedded server.

    Parameters
    ----------
    url : str, optional
        ``store.url``; goes before the environment variable ``DATABASE_URL``.

    Raises
    ------
    StoreError
        If it is not a PostgreSQL address.
    """
    origin = "`store.url`" if url else f"`{VARIABLE}`"
    text = (url or os.environ.get(VARIABLE, "")).strip()
    if not text:
        return None
    scheme, separator, rest = text.partition("://")
    if not separator or scheme.lower() not in _SCHEMES:
        raise StoreError(
            f"{origin} is `{redacted_address(text)}`, which is not the address of a "
            "PostgreSQL server. Expected something like `postgresql://user:...@host:5432/database`."
        )
    return f"postgresql://{_escaped(rest)}"


def _escaped(rest: str) -> str:
    """Escape a password that was typed as it is; libpq takes `/` for its end.

    >>> _escaped("ann:p/a?s#s@db:5432/shop?sslmode=require")
    'ann:p%2Fa%3Fs%23s@db:5432/shop?sslmode=require'
    """
    found = _TYPED.fullmatch(rest)
    if found is None:
        return rest
    user, password, place = found.groups()
    return f"{user}:{quote(password, safe='%')}@{place}"


def connect(address: str, **more: Any) -> psycopg.Connection[Any]:
    """Return a connection; as a context it ends the transaction, and is closed."""
    return psycopg.connect(
        address, connect_timeout=10, application_name="stable-segments", **more
    )


# Of SQLSTATE, its first characters: what a user can do about it.
_CURES = {
    "28": "Check user and password of the address.",
    "3D": "Make the database, or correct its name in the address.",
    "25006": "A query can change nothing.",
    "42501": "Grant the user the right to do that (a query may only read).",
    "42P01": f"Open the store once with `{PROGRAM} axes`, which makes its tables.",
    "53100": "Free space on the server's disk.",
    "53300": "Raise `max_connections` of the server, or close other clients.",
    "57014": "Ask for less, or ask with `psql`, which has no such limit.",
    "57P03": "The server is starting or stopping; try again shortly.",
}


@contextmanager
def as_store_errors(doing: str, place: str) -> Iterator[None]:
    """Raise what psycopg raises as `StoreError`.

    Parameters
    ----------
    doing : str
        What was being done, for the message: "load the profiles".
    place : str
        Of the database, without any password.
    """
    try:
        yield
    except psycopg.Error as error:
        raise store_error(doing, place, error) from error


def store_error(doing: str, place: str, error: BaseException) -> StoreError:
    """Return the error to raise for what the database has reported."""
    state = getattr(error, "sqlstate", None) or ""
    reason = (" ".join(str(error).split()) or type(error).__name__).rstrip(".?")
    if not state and isinstance(error, psycopg.OperationalError):
        return StoreError(
            f"{place} cannot be reached to {doing}: {reason}. Check that the server "
            "runs, and that its address is right."
        )
    cure = next((text for start, text in _CURES.items() if state.startswith(start)), "")
    # 42: of the statement and the tables it names, rather than of the server.
    kind = StoreLayoutError if state.startswith("42") else StoreError
    return kind(f"{place} could not {doing}: {reason}. {cure}".strip())
