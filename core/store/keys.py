"""Keys of the API: made once, kept as hashes, looked up by their public prefix.

A key reads ``ss_<prefix>_<secret>``, both parts hexadecimal. What is kept of the secret
is its SHA-256. That is enough: the secret is 256 random bits, so nobody can try them
all however fast the hash is. Slow hashes (bcrypt, argon2) protect what people make up;
here they would only cost every request some 50 ms.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, insert, select, update

from core.errors import StoreError, did_you_mean
from core.store.schema import api_keys

if TYPE_CHECKING:
    from core.store.store import Store

_PATTERN = re.compile(r"ss_([0-9a-f]{12})_([0-9a-f]{64})")


@dataclass(frozen=True)
class Key:
    """What is known of a key; not its secret.

    Attributes
    ----------
    prefix : str
        Twelve hexadecimal digits, by which it is revoked.
    store_id : str
        The one store that it opens.
    name : str
        Who has it, or what for; may be empty.
    created_at : datetime
        In UTC.
    revoked_at : datetime, optional
        In UTC; None as long as it is valid.
    """

    prefix: str
    store_id: str
    name: str
    created_at: datetime
    revoked_at: datetime | None


def create_key(store: Store, store_id: str, name: str = "") -> str:
    """Make a key for one store and return it; it cannot be shown again.

    Raises
    ------
    StoreError
        If the database cannot be used.
    """
    prefix, secret = secrets.token_hex(6), secrets.token_hex(32)
    row = {
        "prefix": prefix,
        "store_id": store_id,
        "name": name,
        "secret_hash": hash_secret(secret),
    }
    with store.begin("make a key") as connection:
        connection.execute(insert(api_keys).values(row))
    return f"ss_{prefix}_{secret}"


def revoke_key(store: Store, prefix: str) -> Key:
    """Let a key be refused from now on; revoking it again changes nothing.

    Parameters
    ----------
    store : Store
        An open store.
    prefix : str
        The key's prefix, with or without the ``ss_`` before it, or the whole key.

    Raises
    ------
    StoreError
        If there is no such key.
    """
    wanted = prefix.removeprefix("ss_").partition("_")[0]
    with store.begin("revoke a key") as connection:
        statement = (
            update(api_keys)
            .where(api_keys.c.prefix == wanted)
            .values(revoked_at=func.coalesce(api_keys.c.revoked_at, func.now()))
        )
        found = connection.execute(statement).rowcount
    keys = {key.prefix: key for key in list_keys(store)}
    if not found:
        raise StoreError(
            f"there is no key `{wanted}`.{did_you_mean(wanted, keys)} `segments keys "
            "list` shows them all."
        )
    return keys[wanted]


def list_keys(store: Store, store_id: str | None = None) -> list[Key]:
    """Return the keys of one store, or of all, the oldest first."""
    columns = [api_keys.c[name] for name in Key.__dataclass_fields__]
    statement = select(*columns).order_by(api_keys.c.created_at, api_keys.c.prefix)
    if store_id is not None:
        statement = statement.where(api_keys.c.store_id == store_id)
    with store.begin("list the keys") as connection:
        rows = connection.execute(statement).all()
    return [
        Key(prefix, owner, name, _in_utc(created), _in_utc(revoked))
        for prefix, owner, name, created, revoked in rows
    ]


def _in_utc(moment: Any) -> Any:
    """Return a moment, told in the server's time zone, in UTC."""
    return moment if moment is None else moment.astimezone(UTC)


def split_key(key: str) -> tuple[str, str] | None:
    """Return prefix and secret of a key, or None if it does not look like one."""
    found = _PATTERN.fullmatch(key)
    return None if found is None else (found[1], found[2])


def hash_secret(secret: str) -> bytes:
    """Return the SHA-256 of a secret."""
    return hashlib.sha256(secret.encode()).digest()


def is_secret(secret: str, expected: bytes) -> bool:
    """Return whether a secret has a hash, in a time that does not tell how nearly."""
    return hmac.compare_digest(hash_secret(secret), expected)
