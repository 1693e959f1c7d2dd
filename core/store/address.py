"""Addresses of PostgreSQL servers, and what servers report as `StoreError`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

import psycopg

from core.errors import PROGRAM, StoreError

VARIABLE = "DATABASE_URL"
_SCHEMES = {"postgres", "postgresql", "postgresql+psycopg", "postgresql+psycopg2"}


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
            f"{origin} is `{redacted(text)}`, which is not the address of a PostgreSQL "
            "server. Expected something like "
            "`postgresql://user:password@host:5432/database`."
        )
    return f"postgresql://{rest}"


def connect(address: str, **more: Any) -> psycopg.Connection[Any]:
    """Return a connection; as a context it ends the transaction, and is closed."""
    return psycopg.connect(
        address, connect_timeout=10, application_name="stable-segments", **more
    )


def redacted(address: str) -> str:
    """Return an address without its password, for messages and logs.

    >>> redacted("postgresql://ann:secret@db:5432/shop")
    'postgresql://ann:***@db:5432/shop'
    """
    try:
        parts = urlsplit(address)
    except ValueError:
        return "***"
    if not parts.netloc and ("@" in address or "password" in address.lower()):
        return "***"
    query = "&".join(
        "password=***" if part.lower().startswith("password=") else part
        for part in parts.query.split("&")
    )
    account, separator, host = parts.netloc.rpartition("@")
    user, has_password, _ = account.partition(":")
    netloc = f"{user}{':***' if has_password else ''}{separator}{host}"
    return urlunsplit(parts._replace(netloc=netloc, query=query))


# Of SQLSTATE, its first characters: what a user can do about it.
_CURES = {
    "28": "Check user and password of the address.",
    "3D": "Make the database, or correct its name in the address.",
    "42501": "Grant the user the right to do that.",
    "42P01": f"Open the store once with `{PROGRAM} axes`, which makes its tables.",
    "53100": "Free space on the server's disk.",
    "53300": "Raise `max_connections` of the server, or close other clients.",
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
    return StoreError(f"{place} could not {doing}: {reason}. {cure}".strip())
