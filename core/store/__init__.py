"""The store of customer profiles: a PostgreSQL, embedded or your own.

`Store.open` gives the store itself, `AsyncReader` reads it for the API, `create_key`
makes the API's keys; `core.store.publish` is what the systems hand their results to.
"""

from __future__ import annotations

from core.store.loading import LoadFacts
from core.store.reading import AsyncReader, StoredProfile
from core.store.store import (
    Key,
    Store,
    StoredModel,
    create_key,
    list_keys,
    revoke_key,
)

__all__ = [
    "AsyncReader",
    "Key",
    "LoadFacts",
    "Store",
    "StoredModel",
    "StoredProfile",
    "create_key",
    "list_keys",
    "revoke_key",
]
