"""The models that placed the profiles; one of them serves each store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from core.store.schema import axis_models


class StoredModel(NamedTuple):
    """The model that serves a store.

    Attributes
    ----------
    version : int
        Its number in its lineage.
    state : bytes
        What `core.artifacts.arrays` wrote.
    meta : dict
        What `core.axes` keeps beside it.
    lineage : str
        What the versions of one segmentation share.
    digest : str
        Tells it from any other one; changes with a name, which leaves the version.
    """

    version: int
    state: bytes
    meta: dict[str, Any]
    lineage: str
    digest: str


def current_model(connection: Connection, store_id: str) -> StoredModel | None:
    """Return the model that serves a store, or None if nothing was published."""
    columns = [axis_models.c[name] for name in StoredModel._fields]
    statement = select(*columns).where(
        axis_models.c.store_id == store_id, axis_models.c.is_current
    )
    row = connection.execute(statement).first()
    return None if row is None else StoredModel(*row)


def model_history(connection: Connection, store_id: str) -> list[dict[str, Any]]:
    """Return every model published for a store, the newest first."""
    names = ("version", "lineage", "digest", "is_current", "published_at")
    statement = (
        select(*[axis_models.c[name] for name in names])
        .where(axis_models.c.store_id == store_id)
        .order_by(axis_models.c.published_at.desc(), axis_models.c.version.desc())
    )
    return [dict(row) for row in connection.execute(statement).mappings()]


def switch_model(
    connection: Connection,
    store_id: str,
    version: int,
    lineage: str,
    state: bytes,
    meta: Mapping[str, Any],
    stats: Mapping[str, Any],
) -> None:
    """Let a model serve a store instead of the one before.

    Parameters
    ----------
    connection : Connection
        Inside the transaction that loads the profiles.
    store_id : str
        Whose model.
    version, lineage, state, meta
        See `StoredModel`.
    stats : dict
        From `core.store.statistics`.
    """
    content = json.dumps(meta, sort_keys=True).encode()
    digest = hashlib.sha256(b"%d/" % len(state) + state + content).hexdigest()
    key = {"store_id": store_id, "lineage": lineage, "version": version}
    values = {"digest": digest, "state": state, "meta": dict(meta)}
    connection.execute(
        update(axis_models)
        .where(axis_models.c.store_id == store_id, axis_models.c.is_current)
        .values(is_current=False)
    )
    row = {**key, **values, "stats": dict(stats), "is_current": True}
    statement = upsert(axis_models).values(row)
    connection.execute(
        statement.on_conflict_do_update(
            constraint=axis_models.primary_key,
            set_={
                **values,
                "stats": dict(stats),
                "is_current": True,
                "published_at": func.now(),
            },
        )
    )
