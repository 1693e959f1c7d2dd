"""The API's reads: one round trip, refused with the key, back after an outage."""

from __future__ import annotations

import asyncio
import json
import time

import polars as pl
import pytest

from core.errors import StoreError
from core.store import AsyncReader, Store, create_key, revoke_key
from core.store.embedded import EmbeddedServer

PROFILES = pl.DataFrame(
    {
        "customer_id": ["ann", "Ünï/🛒"],
        "segment_memberships": [{"purchase_value": "whale"}] * 2,
        "membership_strengths": [{"purchase_value": 0.25}] * 2,
        "confidence": [0.25, None],
        "total_orders": [3, 4],
    }
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("store") / "postgres"


@pytest.fixture(scope="module")
def store(folder):
    with Store.open(None, folder) as opened:
        opened.publish("mine", 7, "line", b"state", {"axes": 1}, PROFILES)
        opened.publish("other", 1, "line", b"x", {}, PROFILES.head(1))
        yield opened


@pytest.fixture
def key(store):
    return create_key(store, "mine")


def reading(store, ask, **options):
    """Run ``ask(reader)`` in an event loop of its own."""

    async def run():
        async with AsyncReader(store.address, **options) as reader:
            return await ask(reader)

    return asyncio.run(run())


@pytest.mark.parametrize("customer_id", ["ann", "Ünï/🛒"])
def test_a_key_reads_customers_of_its_store(store, key, customer_id):
    store_id, profile = reading(store, lambda r: r.profile_with_key(key, customer_id))
    assert store_id == "mine"
    assert profile.customer_id == customer_id
    assert json.loads(profile.segment_memberships) == {"purchase_value": "whale"}
    assert json.loads(profile.dominant_segments) == {"purchase_value": "whale"}
    assert json.loads(profile.membership_strengths) == {"purchase_value": 0.25}
    assert profile.model_version == 7


@pytest.mark.parametrize(
    "customer_id", ["bob", "", "a\0b", "\ud800", "'; --", "x" * 100_000]
)
def test_a_customer_that_is_not_there_is_none(store, key, customer_id):
    found = reading(store, lambda r: r.profile_with_key(key, customer_id))
    assert found == ("mine", None)


def test_another_stores_customer_is_none(store):
    theirs = create_key(store, "other")
    assert reading(store, lambda r: r.authenticate(theirs)) == "other"
    found = reading(store, lambda r: r.profile_with_key(theirs, "Ünï/🛒"))
    assert found == ("other", None)


def test_a_wrong_key_opens_nothing(store, key):
    wrong = [key[:-1] + ("0" if key[-1] != "0" else "1"), "", "ss_x", key.upper()]

    async def ask(reader):
        for text in wrong:
            assert await reader.authenticate(text) is None
            assert await reader.profile_with_key(text, "ann") == (None, None)
        return await reader.authenticate(key)

    assert reading(store, ask) == "mine"


def test_a_revoked_key_is_refused_by_the_next_request(store, key):
    async def ask(reader):
        before = await reader.profile_with_key(key, "ann")
        await asyncio.to_thread(revoke_key, store, key)
        return before, await reader.profile_with_key(key, "ann")

    before, after = reading(store, ask)
    assert before[0] == "mine"
    assert after == (None, None)


def test_the_model_is_sent_only_where_it_is_not_known(store):
    found = reading(store, lambda r: r.model("mine"))
    assert found == store.model("mine")
    assert found[:3] == (7, b"state", {"axes": 1})
    assert reading(store, lambda r: r.model("mine", found.digest)) is None
    assert reading(store, lambda r: r.model("nobody's")) is None
    # A segment renamed: another state of the same version.
    store.publish("mine", 7, "line", b"renamed", {"axes": 1}, PROFILES)
    assert reading(store, lambda r: r.model("mine", found.digest)).state == b"renamed"


def test_statistics_are_those_of_the_last_load(store):
    stats = reading(store, lambda r: r.stats("mine"))
    assert stats["segment_distribution"] == {"purchase_value": {"whale": 2}}
    empty = reading(store, lambda r: r.stats("nobody's"))
    assert empty.keys() == stats.keys()
    assert empty["total_customers"] == 0


def test_more_requests_than_connections_wait_for_their_turn(store, key):
    async def ask(reader):
        reads = [reader.profile_with_key(key, "ann") for _ in range(200)]
        return await asyncio.gather(*reads)

    found = reading(store, ask, pool_size=2)
    assert {(store_id, profile.customer_id) for store_id, profile in found} == {
        ("mine", "ann")
    }


def test_a_request_given_up_does_not_hand_its_answer_to_another(store, key):
    async def ask(reader):
        for delay in (0.0, 0.0005, 0.001, 0.002, 0.004):
            given_up = asyncio.create_task(reader.profile_with_key(key, "ann"))
            await asyncio.sleep(delay)
            given_up.cancel()
            assert await reader.profile_with_key(key, "Ünï/🛒") is not None
            _, profile = await reader.profile_with_key(key, "Ünï/🛒")
            assert profile.customer_id == "Ünï/🛒"
        return True

    assert reading(store, ask, pool_size=1)


def test_an_outage_is_told_at_once_and_ends_by_itself(store, folder, key):
    server = EmbeddedServer(folder)

    async def ask(reader):
        assert await reader.n_models() == 2
        server.cluster.stop()
        started = time.monotonic()
        for _ in range(5):
            with pytest.raises(StoreError, match=r"cannot be reached|shutting down"):
                await reader.profile_with_key(key, "ann")
            with pytest.raises(StoreError):
                await reader.n_models()
        assert time.monotonic() - started < 2
        store.ensure_running()
        # Every connection of the pool was lost; no request pays for it.
        reads = [reader.profile_with_key(key, "ann") for _ in range(8)]
        assert all(store_id == "mine" for store_id, _ in await asyncio.gather(*reads))
        return await reader.n_models()

    assert reading(store, ask) == 2
    # The store's own connections are back, too.
    assert store.model("other").version == 1


def test_a_restart_between_two_requests_goes_unnoticed(store, folder, key):
    server = EmbeddedServer(folder)

    async def ask(reader):
        await reader.profile_with_key(key, "ann")
        server.cluster.stop()
        store.ensure_running()
        return await reader.profile_with_key(key, "ann")

    assert reading(store, ask)[0] == "mine"


def test_a_database_that_does_not_answer_is_given_up_in_time(store):
    async def ask(reader):
        with store.begin("lock the keys") as connection:
            connection.execute("LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(StoreError, match=r"not managed within 0.3 s to check"):
                await reader.authenticate(f"ss_{'0' * 12}_{'0' * 64}")
        return await reader.authenticate(f"ss_{'0' * 12}_{'0' * 64}")

    assert reading(store, ask, timeout=0.3) is None
