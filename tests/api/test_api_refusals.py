"""What cannot be answered is refused with a message that names the field."""

from __future__ import annotations

import copy
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import polars as pl
import psutil
import pytest
from api_world import serving

from core.api.app import ApiSettings
from core.store import create_key

ORDER = {"order_id": "O1", "order_date": "2025-06-01T10:30:00Z", "total_price": 20.0}
ITEM = {"order_id": "O1", "product_id": "P1", "quantity": 2, "price": 10.0}
BODY = {"customer_id": "C1", "orders": [ORDER], "items": [ITEM]}
# What the document does not say of an order: of which years it is, and that it is no
# refund. Such a request is valid by the document and refused all the same, and so is a
# row of features, which other stores take; that a request is refused for these reasons
# only is the second check.
CONFIG = """
hooks = "document_hooks.py"

[[operations]]
include-name = "POST /segments/assign"
checks.positive_data_acceptance.expected-statuses = ["200", "422"]
"""
HOOKS = """
import schemathesis

BEYOND_A_DOCUMENT = (
    "expected a year from 1900", "lies in the future", "none can be used"
)


@schemathesis.check
def valid_requests_are_refused_for_their_dates_and_refunds_only(ctx, response, case):
    is_valid = case.meta is not None and case.meta.generation.mode.is_positive
    is_row = isinstance(case.body, dict) and "features" in case.body
    if is_valid and not is_row and response.status_code == 422:
        for problem in response.json()["detail"]:
            assert any(said in problem["msg"] for said in BEYOND_A_DOCUMENT), problem
"""
LIMITS = {"max_body_bytes": 50_000, "max_orders": 20, "max_items": 30}


@pytest.fixture(scope="module")
def client(world):
    with serving(ApiSettings(world.store.address, **LIMITS), world.key) as started:
        yield started


def changed(path, value):
    """Return the sound request with one value replaced, or removed by Ellipsis."""
    body = copy.deepcopy(BODY)
    *parents, last = path
    place = body
    for name in parents:
        place = place[name]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return body


def problems(response, status=422):
    assert response.status_code == status, response.text
    return {problem["msg"].split("`")[1] for problem in response.json()["detail"]}


def test_the_sound_request_is_answered(client):
    assert client.post("/segments/assign", json=BODY).status_code == 200


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        # malformed
        (["customer_id"], ..., "customer_id"),
        (["customer_id"], None, "customer_id"),
        (["customer_id"], True, "customer_id"),
        (["customer_id"], ["C1"], "customer_id"),
        (["orders"], ..., "orders"),
        (["orders"], {}, "orders"),
        (["orders", 0], "O1", "orders.0"),
        (["orders", 0, "order_id"], ..., "orders.0.order_id"),
        (["orders", 0, "total_price"], "20", "orders.0.total_price"),
        (["orders", 0, "total_price"], None, "orders.0.total_price"),
        (["orders", 0, "discount_amount"], "none", "orders.0.discount_amount"),
        (["orders", 0, "source"], 7, "orders.0.source"),
        (["orders", 0, "totl_price"], 20, "orders.0.totl_price"),
        (["items", 0, "quantity"], [], "items.0.quantity"),
        (["items", 0, "category"], {}, "items.0.category"),
        (["orders", 0, "order_date"], "yesterday", "orders.0.order_date"),
        (["orders", 0, "order_date"], 1_748_000_000, "orders.0.order_date"),
        (["orders", 0, "order_date"], "2025-02-30", "orders.0.order_date"),
        (["reference_date"], "now", "reference_date"),
        # huge
        (["customer_id"], "x" * 257, "customer_id"),
        (["orders", 0, "total_price"], 1e10, "orders.0.total_price"),
        (["orders", 0, "total_price"], 10**400, "orders.0.total_price"),
        (["items", 0, "price"], -1e10, "items.0.price"),
        (["orders"], [ORDER] * 21, "orders"),
        (["items"], [ITEM] * 31, "items"),
        # empty
        (["customer_id"], "", "customer_id"),
        (["orders"], [], "orders"),
        (["orders", 0], {}, "orders.0.order_id"),
        (["items", 0, "product_id"], "", "items.0.product_id"),
        (["orders", 0, "order_date"], "", "orders.0.order_date"),
        # dated where no order can be
        (["orders", 0, "order_date"], "2150-01-01", "orders.0.order_date"),
        (["orders", 0, "order_date"], "1823-01-01", "orders.0.order_date"),
        (["reference_date"], "1999-01-01", "orders"),
        # nothing bought
        (["orders", 0, "total_price"], -20.0, "orders"),
        # unicode
        (["customer_id"], "a\0b", "customer_id"),
        (["customer_id"], "a\nb", "customer_id"),
        (["items", 0, "category"], "a\0b", "items.0.category"),
    ],
)
def test_a_faulty_field_is_named(client, path, value, field):
    response = client.post("/segments/assign", json=changed(path, value))
    assert field in problems(response)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b"[" * 40_000,
        b'{"customer_id": "\\ud800", "orders": []}',
        json.dumps(BODY).replace("20.0", "NaN").encode(),
        json.dumps(BODY).replace("20.0", "Infinity").encode(),
        json.dumps(BODY).encode("utf-16"),
    ],
)
def test_a_body_that_is_no_such_object_is_refused(client, body):
    headers = {"Content-Type": "application/json"}
    response = client.post("/segments/assign", content=body, headers=headers)
    assert problems(response)


def test_every_fault_of_a_request_is_named_up_to_twenty(client):
    body = {**BODY, "orders": [{}] * 10}
    response = client.post("/segments/assign", json=body)
    found = response.json()["detail"]
    assert len(found) == 21
    assert found[-1]["msg"] == "`body`: has 10 further faults."


def test_what_was_received_is_shown_but_not_at_any_length(client):
    date = "2025-" + "9" * 10_000
    body = changed(["orders", 0, "order_date"], date)
    (problem,) = client.post("/segments/assign", json=body).json()["detail"]
    assert "received '2025-999" in problem["msg"]
    assert len(problem["msg"]) < 200


def test_a_body_too_large_is_refused_before_it_is_read(client):
    response = client.post("/segments/assign", content=b" " * 50_001)
    assert response.status_code == 413
    assert "50,000 bytes" in response.json()["detail"]


def test_a_body_that_does_not_say_its_length_is_counted(client):
    pieces = (b" " * 1000 for _ in range(100))
    response = client.post("/segments/assign", content=pieces)
    assert response.status_code == 413


def test_a_client_that_claims_a_huge_body_is_not_waited_for(client):
    parts = urlsplit(str(client.base_url))
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as wire:
        wire.sendall(
            b"POST /segments/assign HTTP/1.1\r\nHost: x\r\n"
            b"Content-Type: application/json\r\nContent-Length: 9999999999\r\n\r\n"
        )
        assert wire.recv(4096).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
def test_a_body_of_another_kind_is_refused(client, headers):
    content = json.dumps(BODY)
    response = client.post("/segments/assign", content=content, headers=headers)
    assert response.status_code == 415
    assert "application/json" in response.json()["detail"]


@pytest.mark.parametrize("customer_id", ["a%00b", "%0a", "x" * 257, ""])
def test_an_impossible_id_is_named(client, customer_id):
    response = client.get(f"/segments/customer/{customer_id}")
    assert problems(response) == {"customer_id"}


def test_an_unknown_way_or_method_is_refused(client):
    assert client.get("/segments").status_code == 404
    assert client.delete("/segments/stats").status_code == 405
    assert client.get("/segments/assign").status_code == 405


def test_the_database_may_go_away_and_come_back(world, client):
    customer = f"/segments/customer/{world.profiles['customer_id'][0]}"
    ways = [("GET", customer), ("GET", "/segments/stats"), ("GET", "/ready")]
    assert [client.request(*way).status_code for way in ways] == [200] * 3
    record = world.artifacts / "postgres" / "data" / "postmaster.pid"
    server = psutil.Process(int(record.read_text().splitlines()[0]))
    children = server.children(recursive=True)
    server.kill()
    psutil.wait_procs([server, *children], timeout=30)
    for way in [*ways, ("POST", "/segments/assign")]:
        response = client.request(*way, json=BODY if way[0] == "POST" else None)
        assert response.status_code == 503
        assert response.headers["Retry-After"]
        # What the database said, and where it is, is for the log.
        assert response.json()["detail"] == "the database is away; try again shortly."
    assert client.get("/health").status_code == 200
    world.store.ensure_running()
    assert [client.request(*way).status_code for way in ways] == [200] * 3
    assert client.post("/segments/assign", json=BODY).status_code == 200


def test_schemathesis_finds_nothing(world, tmp_path):
    # The document's example of a customer, so that some requests find one.
    model = world.store.model("default")
    example = world.profiles.head(1).with_columns(customer_id=pl.lit("C-1048"))
    world.store.publish("example", 1, "e", model.state, model.meta, example)
    key = create_key(world.store, "example")
    (tmp_path / "schemathesis.toml").write_text(CONFIG, encoding="utf-8")
    (tmp_path / "document_hooks.py").write_text(HOOKS, encoding="utf-8")
    # Few rows, so that one more than allowed is not too large a body first.
    settings = ApiSettings(world.store.address, max_orders=20, max_items=30)
    with serving(settings, key) as client:
        command = [
            str(Path(sys.executable).with_name("schemathesis")), "run",
            f"{client.base_url}/openapi.json", "--header", f"X-API-Key: {key}",
            "--max-examples", "30", "--seed", "1", "--no-color",
        ]  # fmt: skip
        result = subprocess.run(
            command,
            cwd=tmp_path,
            check=False,
            capture_output=True,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "7 selected / 7 total" in result.stdout
    assert "POST /segments/assign" not in result.stdout
