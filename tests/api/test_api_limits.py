"""What one client does, or the database, does not keep the service from the others."""

from __future__ import annotations

import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import polars as pl
import psycopg
import pytest
from api_world import serving
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from core.api import connections
from core.api.app import ApiSettings
from core.api.middleware import RateLimit
from core.logging import get_logger
from core.store import create_key

pytestmark = pytest.mark.slow


def wire_to(client, timeout=10.0):
    parts = urlsplit(str(client.base_url))
    return socket.create_connection((parts.hostname, parts.port), timeout=timeout)


def is_closed(wire):
    """Whether the other side has closed it, or does so within its time-out."""
    try:
        while wire.recv(65536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


# --- connections --------------------------------------------------------------------

HEAD = b"GET /health HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /he",
        HEAD,
        HEAD + b"\r\n" + HEAD,
        b"POST /segments/assign HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
        HEAD + b"Content-Length: 9\r\n\r\n{",
        b"\r\n",
    ],
)
def test_who_sends_no_whole_request_is_closed(client, monkeypatch, sent):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(connections, "BODY_SECONDS", 0.1)
    with wire_to(client) as wire:
        wire.sendall(sent)
        assert is_closed(wire)


def test_dripping_a_head_does_not_keep_a_connection(client, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    with wire_to(client) as wire:
        started = time.monotonic()
        with suppress(ConnectionError):
            while time.monotonic() - started < 5:
                wire.sendall(b"G" if time.monotonic() == started else b"X")
                time.sleep(0.05)
        assert time.monotonic() - started < 3


LONG = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("ask", "n_times"),
    [
        (LONG + b"\r\n", 500),
        (LONG + b"Connection: close\r\n\r\n", 1),
    ],
)
def test_who_takes_no_answer_is_closed(client, monkeypatch, ask, n_times):
    monkeypatch.setattr(connections, "BODY_SECONDS", 0.3)
    ended = []
    end = connections.LimitedConnection.end
    monkeypatch.setattr(
        connections.LimitedConnection, "end", lambda own: (ended.append(own), end(own))
    )
    # The system takes some megabytes in the client's place, the server's buffer more.
    monkeypatch.setattr(connections.LimitedConnection, "connection_made", _with_little)
    parts = urlsplit(str(client.base_url))
    with socket.socket() as wire:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        wire.connect((parts.hostname, parts.port))
        wire.sendall(ask * n_times)
        deadline = time.monotonic() + 20
        while not ended and time.monotonic() < deadline:
            time.sleep(0.05)
    assert len(ended) == 1


_made = connections.LimitedConnection.connection_made


def _with_little(own, transport):
    own_socket = transport.get_extra_info("socket")
    own_socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    _made(own, transport)


def test_a_connection_between_two_requests_is_kept(client, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    with wire_to(client) as wire:
        for _ in range(2):
            wire.sendall(HEAD + b"\r\n")
            assert wire.recv(4096).startswith(b"HTTP/1.1 200")
            time.sleep(0.5)


def test_idle_connections_make_room_for_requests(client, monkeypatch):
    monkeypatch.setattr(connections.LimitedConnection, "limit", 20)
    idle = [wire_to(client, timeout=0.05) for _ in range(60)]
    try:
        for _ in range(5):
            with wire_to(client) as wire:
                wire.sendall(HEAD + b"\r\n")
                assert wire.recv(4096).startswith(b"HTTP/1.1 200")
        closed = [is_closed(wire) for wire in idle]
        assert 40 <= sum(closed) < 60
    finally:
        for wire in idle:
            wire.close()


def test_there_is_room_below_the_limit_of_the_system():
    assert 10 <= connections.most_connections() <= connections.MAX_CONNECTIONS


# --- rates --------------------------------------------------------------------------


def test_a_key_that_asks_too_often_is_told_to_wait_and_others_are_not(world):
    with serving(ApiSettings(world.store.address, rate_limit=1.0), world.key) as client:
        answers = [client.get("/segments/stats") for _ in range(15)]
        assert [answer.status_code for answer in answers[:10]] == [200] * 10
        assert answers[-1].status_code == 429
        assert int(answers[-1].headers["Retry-After"]) >= 1
        assert "store.rate_limit" in answers[-1].json()["detail"]
        other = {"X-API-Key": world.other_key}
        assert client.get("/segments/stats", headers=other).status_code == 200
        assert client.get("/health").status_code == 200


def test_a_rate_is_kept_on_average_and_forgets_no_key_that_asks():
    limit = RateLimit(10.0)
    n_answered = sum(limit.seconds_to_wait("a", n / 1000) == 0 for n in range(60_000))
    assert n_answered == pytest.approx(60 * 10 + 100, rel=0.01)
    for n in range(20_000):
        limit.seconds_to_wait(str(n), 60.0)
    assert len(limit._full_at) == 10_000
    assert RateLimit(None).seconds_to_wait("a", 0.0) == 0.0
    slow = RateLimit(0.01)
    assert slow.seconds_to_wait("a", 0.0) == 0.0
    assert 99 <= slow.seconds_to_wait("a", 1.0) <= 100
    assert slow.seconds_to_wait("a", 102.0) == 0.0


# --- the database -------------------------------------------------------------------


@contextmanager
def between(address):
    """Pass bytes between clients and a database; yield an address and a switch."""
    place = conninfo_to_dict(address)
    frozen, over = threading.Event(), threading.Event()
    wires = []

    def reach():
        if str(place["host"]).startswith("/"):
            wire = socket.socket(socket.AF_UNIX)
            wire.connect(f"{place['host']}/.s.PGSQL.{place['port']}")
            return wire
        return socket.create_connection((place["host"], int(place["port"])))

    def pump(source, target):
        with suppress(OSError):
            while data := source.recv(65536):
                while frozen.is_set() and not over.is_set():
                    time.sleep(0.01)
                target.sendall(data)

    def accept():
        with suppress(OSError):
            while True:
                near, far = listener.accept()[0], reach()
                wires.extend([near, far])
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        port = listener.getsockname()[1]
        yield make_conninfo(address, host="127.0.0.1", port=port), frozen
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        for wire in wires:
            wire.close()


def test_a_database_that_hangs_is_told_within_5_seconds(world):
    customer = f"/segments/customer/{world.profiles['customer_id'][0]}"
    with (
        between(world.store.address) as (address, frozen),
        serving(ApiSettings(address), world.key) as client,
    ):
        assert client.get(customer).status_code == 200
        frozen.set()
        started = time.monotonic()
        with ThreadPoolExecutor() as both:
            answers = list(both.map(client.get, (customer, "/segments/axes")))
        assert [answer.status_code for answer in answers] == [503, 503]
        assert time.monotonic() - started < 5
        assert client.get("/health").status_code == 200
        frozen.clear()
        assert client.get(customer).status_code == 200


def test_a_missing_column_is_not_an_outage_and_can_be_put_back(world, client):
    customer = f"/segments/customer/{world.profiles['customer_id'][0]}"
    assert client.get(customer).status_code == 200

    def rename(old, new):
        with psycopg.connect(world.store.address) as connection:
            connection.execute(
                f"ALTER TABLE customer_profiles RENAME COLUMN {old} TO {new}"
            )

    rename("lifetime_value", "gone")
    try:
        response = client.get(customer)
        assert response.status_code == 500
        assert "not those of this version" in response.json()["detail"]
        assert "Retry-After" not in response.headers
    finally:
        rename("gone", "lifetime_value")
    assert client.get(customer).status_code == 200


@pytest.mark.parametrize("number", ["NaN", "Infinity"])
def test_a_stored_number_that_is_none_is_null(world, client, number):
    model = world.store.model("default")
    rows = world.profiles.head(1).with_columns(customer_id=pl.lit("nan"))
    world.store.publish("nan", 1, "n", model.state, model.meta, rows)
    with psycopg.connect(world.store.address) as connection:
        connection.execute(
            "UPDATE customer_profiles SET lifetime_value = %s, confidence = %s "
            "WHERE store_id = 'nan'",
            (float(number), float(number)),
        )
    headers = {"X-API-Key": create_key(world.store, "nan")}
    body = client.get("/segments/customer/nan", headers=headers).json()
    assert body["lifetime_value"] is None
    assert body["confidence"] is None


# --- small things -------------------------------------------------------------------


def test_head_is_answered_as_get_without_a_body(world, client):
    customer = f"/segments/customer/{world.profiles['customer_id'][0]}"
    for way in (customer, "/segments/stats", "/health", "/metrics", "/docs"):
        got, head = client.get(way), client.head(way)
        assert head.status_code == got.status_code == 200
        assert head.headers["Content-Type"] == got.headers["Content-Type"]
        assert head.content == b""
    assert client.head("/segments/assign").status_code == 405
    assert 'method="HEAD",route="/health"' in client.get("/metrics").text


@pytest.mark.parametrize(
    ("way", "status"), [("/segments/stats", 200), ("/nowhere", 404), ("/health", 200)]
)
def test_answers_are_neither_kept_nor_guessed_at(client, way, status):
    response = client.get(way)
    assert response.status_code == status
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_the_root_leads_to_the_documentation(client):
    response = client.get("/", follow_redirects=True)
    assert response.status_code == 200
    assert response.url.path == "/docs"


@pytest.mark.parametrize(
    ("proxies", "expected"),
    [((), "127.0.0.1"), (("10.0.0.0/8",), "127.0.0.1"), (("127.0.0.1",), "1.2.3.4")],
)
def test_only_a_trusted_proxy_says_who_the_client_is(
    world, caplog, monkeypatch, proxies, expected
):
    monkeypatch.setattr(get_logger(), "propagate", True)
    settings = ApiSettings(world.store.address, trusted_proxies=proxies)
    with caplog.at_level(logging.INFO, "stable_segments.api"), serving(settings) as own:
        own.get("/health", headers={"X-Forwarded-For": "1.2.3.4"})
    (record,) = [r for r in caplog.records if r.message == "request"]
    assert record.fields["client"] == expected
