"""Addresses of PostgreSQL servers: read, written, and shown without the password."""

from __future__ import annotations

import os
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from core.errors import StoreError

VARIABLE = "DATABASE_URL"
_SCHEMES = {"postgres", "postgresql", "postgresql+psycopg", "postgresql+psycopg2"}


def address_of(
    *,
    user: str,
    host: str,
    port: int,
    password: str | None = None,
    database: str = "postgres",
) -> str:
    """Return the address of a server; a `host` that is a folder holds its socket."""
    secret = "" if password is None else f":{quote(password, safe='')}"
    query = urlencode({"host": host, "port": port})
    return f"postgresql://{quote(user, safe='')}{secret}@/{database}?{query}"


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
