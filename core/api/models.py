"""The models that place customers, kept in memory as long as they serve."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from typing import NamedTuple

from core.api.logs import log
from core.api.metrics import Metrics
from core.axes.assign import AxesAssigner
from core.store import AsyncReader

MAX_MODELS = 32


class Loaded(NamedTuple):
    """A model, and the digest of what it was read from."""

    digest: str
    assigner: AxesAssigner


class ModelCache:
    """Reads the model of a store when it is first needed, and after every refit.

    Each look-up asks the database whether the model is still the one that serves, which
    moves no more than a digest; so all workers change over with the profiles. The 32
    stores asked for last are kept.

    Parameters
    ----------
    reader : AsyncReader
    metrics : Metrics
    """

    def __init__(self, reader: AsyncReader, metrics: Metrics) -> None:
        self._reader = reader
        self._metrics = metrics
        self._kept: OrderedDict[str, Loaded] = OrderedDict()

    async def get(self, store_id: str) -> AxesAssigner | None:
        """Return the model that serves a store now, or None if nothing is published.

        Raises
        ------
        StoreError
            If the database is away.
        ArtifactError
            If what it holds is no model.
        """
        kept = self._kept.get(store_id)
        stored = await self._reader.model(store_id, kept.digest if kept else None)
        if stored is None:
            if kept is not None:
                self._kept.move_to_end(store_id)
            return kept.assigner if kept else None
        assigner = await asyncio.to_thread(AxesAssigner.from_bytes, stored.state)
        self._kept[store_id] = Loaded(stored.digest, assigner)
        self._kept.move_to_end(store_id)
        while len(self._kept) > MAX_MODELS:
            self._kept.popitem(last=False)
        self._metrics.models_loaded.inc()
        log(logging.INFO, "model loaded", store=store_id, version=stored.version)
        return assigner
