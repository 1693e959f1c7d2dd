"""The store of customer profiles: a PostgreSQL, embedded or your own.

`Store.open` gives the store itself, `AsyncReader` reads it for the API, and
`core.store.keys` makes the API's keys.
"""

from __future__ import annotations

from core.store.keys import Key, create_key, list_keys, revoke_key
from core.store.ledger import has_store, publish_ledger
from core.store.loading import LoadFacts
from core.store.models import StoredModel
from core.store.reading import AsyncReader, StoredProfile
from core.store.store import Store, publish_profiles

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
