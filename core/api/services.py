"""What the endpoints work with, and what they have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from fastapi import Request

from core.api.assigning import Limits
from core.api.gate import facts_of
from core.api.metrics import Metrics
from core.api.models import ModelCache
from core.api.problems import unauthorised, unavailable
from core.axes.assign import AxesAssigner
from core.store import AsyncReader

# Beyond this an answer would come too late to be of use.
MAX_WAITING = 64


class Services(NamedTuple):
    """What the endpoints work with, in the application's state."""

    reader: AsyncReader
    models: ModelCache
    metrics: Metrics
    limits: Limits
    pool: ThreadPoolExecutor
    waiting: list[int]  # one number: assignments begun and not ended


async def store_of(request: Request, key: str | None) -> str:
    """Return the store that a request's key opens; note it for the log."""
    services: Services = request.app.state.services
    store_id = await services.reader.authenticate(key) if key else None
    if store_id is None:
        raise unauthorised()
    facts_of(request.scope)["store"] = store_id
    return store_id


async def model_of(services: Services, store_id: str) -> AxesAssigner:
    """Return the store's model, or answer that there is none yet."""
    assigner = await services.models.get(store_id)
    if assigner is None:
        raise unavailable(
            f"the store `{store_id}` has no model yet. Learn one with `segments axes "
            f"--store {store_id}`."
        )
    return assigner


async def in_pool(services: Services, work: Callable[[], bytes]) -> bytes:
    """Run work beside the event loop, unless too much is waiting already."""
    if services.waiting[0] >= MAX_WAITING:
        raise unavailable(f"{MAX_WAITING} assignments are waiting; try again shortly.")
    services.waiting[0] += 1
    try:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(services.pool, work)
    finally:
        services.waiting[0] -= 1
