"""The runs of an artifacts folder, loaded into stores: shops, and all that there is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.artifacts.folder import Artifacts
from core.artifacts.reading import ArtifactSet
from core.axes.run import CustomerAxes
from core.baskets.run import Baskets
from core.channels.run import Channels
from core.config import Config
from core.lifecycle.segmentation import StoreLoad
from core.reporting.board import BOARD
from core.retailers.files import RETAILERS
from core.retailers.model import SEGMENTS
from core.retailers.refresh.month import RECORD
from core.retailers.report.board import SYSTEM
from core.retailers.shop_files import SHOPS
from core.retailers.stored import stored_run
from core.store.publish import (
    LoadedRun,
    digests_of,
    load_run,
    opened_store,
    publish_profiles,
)

SHOPS_STORE = "shops"
"""Name of the store of shops, unless another one is given."""


def publish_shops(config: Config, store_id: str = SHOPS_STORE) -> StoreLoad:
    """Make a store hold the shops of a run of retailers, as they are now.

    Safe to repeat: a store that holds them is left alone.

    Parameters
    ----------
    config : Config
        ``artifacts`` and ``store.url``.
    store_id : str
        Name of the store.

    Raises
    ------
    ArtifactError
        If the folder holds no complete run, or one of an earlier version.
    StoreError
        If the store cannot be used, or holds something else under that name.
    """
    artifacts = Artifacts(config.artifacts, RETAILERS)
    artifacts.complete()  # before a server is started
    with opened_store(config) as store:
        return artifacts.read_complete(
            lambda base: load_run(store, _RunOfShops(base, store_id))
        )


def publish_runs(
    config: Config, shops_store: str = SHOPS_STORE
) -> dict[str, StoreLoad]:
    """Load every run that lies in the artifacts folder into its store.

    Parameters
    ----------
    config : Config
        ``artifacts``, ``store.url``, and the names of the stores of customers.
    shops_store : str
        Name of the store of shops.

    Returns
    -------
    dict of str to StoreLoad
        By name of the store; empty where there is no run.

    Raises
    ------
    ArtifactError, StoreError
        As `publish_shops`.
    """
    loads = {}
    shops = Artifacts(config.artifacts, RETAILERS).published()
    if shops is not None and shops.manifest.is_complete:
        loads[shops_store] = publish_shops(config, shops_store)
    for by in (CustomerAxes(config), Channels(config), Baskets(config)):
        published = Artifacts(by.folder, by.files.system).published()
        if published is not None:
            loads[by.store] = publish_profiles(config, published)
    return loads


class _RunOfShops:
    """A run of retailers, with its refreshes."""

    system = SYSTEM

    def __init__(self, base: ArtifactSet, store_id: str) -> None:
        self.base, self.store_id = base, store_id

    def marks(self) -> dict[str, Any]:
        names = (SHOPS, BOARD, SEGMENTS, RECORD)
        return {"lineage": self.base.manifest.lineage} | digests_of(self.base, names)

    def load(self, known: Mapping[str, Any]) -> LoadedRun:
        run = stored_run(self.base)
        meta = {"system": SYSTEM, "axes": run.axes}
        return LoadedRun(
            run.version, run.lineage, b"", meta, run.profiles, run.moves, run.board
        )
