"""The store of customer profiles: a PostgreSQL, embedded or your own.

`Store.open` gives the store itself, `AsyncReader` reads it for the API, and
`core.store.store` makes the API's keys.
"""

from __future__ import annotations

from core.store.loading import LoadFacts
from core.store.reading import AsyncReader, StoredProfile
from core.store.store import (
    Key,
    Store,
    StoredModel,
    create_key,
    has_store,
    list_keys,
    publish_ledger,
    publish_profiles,
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
    "has_store",
    "list_keys",
    "publish_ledger",
    "publish_profiles",
    "revoke_key",
]
