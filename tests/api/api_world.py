"""What the tests of the API share: a small sample, segmented and stored for real."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import uvicorn

from core.api.app import ApiSettings, create_app
from core.api.server import listen, new_event_loop, server_config, url_of
from core.axes.run import run_axes
from core.axes.sample import generate_shoppers
from core.config import Config
from core.resolve import resolve_config
from core.store import Store, create_key
from core.store.publish import publish_profiles

REPOSITORY = Path(__file__).resolve().parents[2]
N_CUSTOMERS = 400


@dataclass
class World:
    """A store `default` of 400 customers, and `other` of a few, with a key for each."""

    store: Store
    artifacts: Path
    key: str
    other_key: str
    orders: pl.DataFrame
    items: pl.DataFrame
    profiles: pl.DataFrame

    def body(self, customer_id: str) -> dict[str, Any]:
        """Return a customer's own rows as a request."""
        orders = self.orders.filter(customer_id=customer_id).drop("customer_id")
        items = self.items.filter(customer_id=customer_id).drop("customer_id")
        dates = pl.col("order_date").dt.to_string("iso:strict")
        return {
            "customer_id": customer_id,
            "orders": orders.with_columns(dates).to_dicts(),
            "items": items.to_dicts(),
        }


def segmented(folder: Path) -> None:
    """Segment a sample, without a store."""
    made = generate_shoppers(N_CUSTOMERS, seed=7)
    run_axes(_config(folder), made.orders, made.items)


@contextmanager
def stored(folder: Path) -> Iterator[World]:
    """Load a folder that is `segmented` into its store, and keep its database up."""
    made = generate_shoppers(N_CUSTOMERS, seed=7)
    with Store.open(None, folder / "postgres") as store:
        # Nothing is learnt again: the run finds its files and loads them.
        run = run_axes(
            _config(folder), made.orders, made.items, into_store=publish_profiles
        )
        assert run.exit_code == 0
        assert not run.facts["is_changed"]
        profiles = pl.read_parquet(run.folder / "customer_profiles.parquet")
        model = store.model("default")
        assert model is not None
        strangers = profiles.tail(3).with_columns(
            customer_id="stranger-" + pl.col("customer_id")
        )
        store.publish("other", 5, "other", model.state, model.meta, strangers)
        keys = [create_key(store, name, "test") for name in ("default", "other")]
        yield World(store, folder, *keys, made.orders, made.items, profiles)


def _config(folder: Path) -> Config:
    return resolve_config(flags={"artifacts": str(folder)}, environ={})


@contextmanager
def serving(settings: ApiSettings, key: str = "") -> Iterator[httpx.Client]:
    """Serve in a thread, on a free port; yield a client with a key."""
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(server_config(create_app(settings), settings))
    loop = new_event_loop()
    work = threading.Thread(
        target=lambda: loop.run_until_complete(server.serve([listener]))
    )
    work.start()
    while not server.started:
        time.sleep(0.01)
    try:
        with httpx.Client(base_url=url_of(listener), timeout=60) as client:
            client.headers["X-API-Key"] = key
            yield client
    finally:
        server.should_exit = True
        work.join()
        loop.close()
