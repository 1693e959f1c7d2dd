"""Stored profiles are served, new customers placed as a batch places them."""

from __future__ import annotations

import json
import logging
import re
import time
from dataclasses import replace
from urllib.parse import quote

import polars as pl
import pytest
from api_world import serving

from core.api import schemas
from core.api.app import ApiSettings
from core.api.assign import UNPLACED
from core.api.middleware import JsonFormatter
from core.axes.assign import AxesAssigner
from core.axes.features.catalog import AXES, PROFILE
from core.store import create_key, revoke_key

REFERENCE_FIELDS = {
    "customer_id",
    "segment_memberships",
    "dominant_segments",
    "membership_strengths",
    "confidence",
}


def stored(world, customer_id):
    return world.profiles.row(
        by_predicate=pl.col("customer_id") == customer_id, named=True
    )


def check_schema(response, model):
    """Hold an answer to its declared schema: nothing missing, nothing undeclared."""
    body = response.json()
    model.model_validate(body)
    assert body.keys() == model.model_fields.keys()
    return body


def test_a_stored_profile_is_served_as_it_was_published(world, client):
    for customer_id in world.profiles["customer_id"].head(20):
        response = client.get(f"/segments/customer/{customer_id}")
        assert response.status_code == 200
        body = check_schema(response, schemas.CustomerSegments)
        row = stored(world, customer_id)
        assert body.keys() >= REFERENCE_FIELDS
        assert body["customer_id"] == customer_id
        assert body["segment_memberships"] == row["segment_memberships"]
        assert body["dominant_segments"] == row["segment_memberships"]
        assert body["membership_strengths"] == row["membership_strengths"]
        assert body["confidence"] == row["confidence"]
        assert {name: body[name] for name in PROFILE} == {
            name: row[name] for name in PROFILE
        }
        assert response.headers["X-Model-Version"] == "1"


def test_assigning_a_stored_customers_own_rows_returns_the_stored_segments(
    world, client
):
    with_one_order = world.profiles.filter(total_orders=1)
    assert with_one_order.height > 0
    chosen = pl.concat([with_one_order.head(10), world.profiles.tail(90)])
    for customer_id in chosen["customer_id"]:
        response = client.post("/segments/assign", json=world.body(customer_id))
        assert response.status_code == 200, response.text
        body = check_schema(response, schemas.AssignedSegments)
        row = stored(world, customer_id)
        assert body["segment_memberships"] == row["segment_memberships"]
        strengths = row["membership_strengths"]
        assert body["membership_strengths"] == pytest.approx(strengths, abs=1e-6)
        assert body["confidence"] == pytest.approx(row["confidence"], abs=1e-6)
        for name in PROFILE:
            assert body[name] == pytest.approx(row[name]), name
        unplaced = {
            axis
            for axis, name in body["segment_memberships"].items()
            if name in UNPLACED
        }
        assert body["not_placed"].keys() == unplaced
        read = client.get(f"/segments/customer/{customer_id}").json()
        assert body["runner_up_segments"] == read["runner_up_segments"]


def test_the_order_of_a_requests_rows_plays_no_part(world, client):
    body = world.body(world.profiles["customer_id"][1])
    turned = {**body, "orders": body["orders"][::-1], "items": body["items"][::-1]}
    first = client.post("/segments/assign", json=body).json()
    second = client.post("/segments/assign", json=turned).json()
    assert second["segment_memberships"] == first["segment_memberships"]
    assert second["membership_strengths"] == pytest.approx(
        first["membership_strengths"]
    )


def test_a_customer_with_one_order_is_placed_where_one_order_says_enough(client):
    order = {
        "order_id": "1",
        "order_date": "2025-06-01T10:30:00",
        "total_price": 20.0,
        "discount_amount": 0,
        "source": "web",
    }
    body = client.post(
        "/segments/assign", json={"customer_id": "new", "orders": [order], "items": []}
    ).json()
    assert body["total_orders"] == 1
    assert body["segment_memberships"]["loyalty_trajectory"] == "not_enough_orders"
    assert body["membership_strengths"]["loyalty_trajectory"] == 0.0
    assert body["membership_strengths"]["purchase_value"] > 0.0
    # What one order does not tell is listed, and lowers the confidence.
    reason = "the customer has too few orders for this axis"
    assert body["not_placed"]["loyalty_trajectory"] == reason
    strengths = body["membership_strengths"]
    judged = body["runner_up_segments"].keys() | body["not_placed"].keys()
    mean = sum(strengths[axis] for axis in judged) / len(judged)
    assert body["confidence"] == pytest.approx(mean)
    assert body["confidence"] < 1 - len(body["not_placed"]) / len(strengths)


def test_what_a_request_says_nothing_of_is_not_taken_for_nothing(world, client):
    body = world.body(world.profiles["customer_id"][1])
    for order in body["orders"]:
        del order["discount_amount"]
    answer = client.post("/segments/assign", json=body).json()
    reason = "no order has `discount_amount`; send 0 where there was none"
    assert answer["not_placed"]["price_sensitivity"] == reason
    assert answer["membership_strengths"]["price_sensitivity"] == 0.0
    whole = client.post(
        "/segments/assign", json=world.body(world.profiles["customer_id"][1])
    ).json()
    unconcerned = whole["segment_memberships"].keys() - answer["not_placed"].keys()
    assert "purchase_value" in unconcerned
    for axis in unconcerned:
        for field in ("segment_memberships", "membership_strengths"):
            assert answer[field][axis] == whole[field][axis]


@pytest.mark.parametrize(
    ("change", "axis"),
    [
        (lambda body: body.pop("items"), "repurchase_behavior"),
        (
            lambda body: [order.pop("source") for order in body["orders"]],
            "communication_preference",
        ),
        (
            lambda body: [item.pop("refund_amount") for item in body["items"]],
            "return_behavior",
        ),
        (
            lambda body: [
                order.update(order_date=order["order_date"][:10])
                for order in body["orders"]
            ],
            "purchase_cadence",
        ),
    ],
)
def test_an_axis_that_a_request_lacks_something_for_says_so(
    world, client, change, axis
):
    body = world.body(world.profiles["customer_id"][1])
    change(body)
    answer = client.post("/segments/assign", json=body).json()
    assert answer["not_placed"][axis]
    assert answer["membership_strengths"][axis] == 0.0


def test_rows_that_a_file_would_set_aside_are_set_aside_and_counted(world, client):
    body = world.body(world.profiles["customer_id"][1])
    whole = client.post("/segments/assign", json=body).json()
    body["orders"].append(body["orders"][0])
    stray = {**body["items"][0], "order_id": "nowhere"}
    answer = client.post(
        "/segments/assign", json={**body, "items": [*body["items"], stray]}
    ).json()
    assert answer["set_aside"] == {
        "orders": {"repeated_order": 1},
        "items": {"unknown_order": 1},
    }
    assert answer["segment_memberships"] == whole["segment_memberships"]


def test_a_reference_date_in_the_request_stands_for_now(world, client):
    body = world.body(world.profiles["customer_id"][1])
    answer = client.post(
        "/segments/assign", json={**body, "reference_date": "2027-01-01T00:00:00Z"}
    ).json()
    assert answer["reference_date"] == "2027-01-01T00:00:00Z"
    row = stored(world, body["customer_id"])
    assert answer["days_since_last_purchase"] > row["days_since_last_purchase"] + 300


def test_offsets_are_brought_to_utc(client):
    def answer(date):
        orders = [{"order_id": 1, "order_date": date, "total_price": 1.0}]
        body = {"customer_id": "x", "orders": orders, "reference_date": "2025-03-02"}
        return client.post("/segments/assign", json=body).json()

    plain, shifted = answer("2025-03-01T10:00:00"), answer("2025-03-01T12:00:00+02:00")
    assert plain["days_since_last_purchase"] == shifted["days_since_last_purchase"]


def test_ids_of_any_writing_are_served(world, client):
    model = world.store.model("default")
    ids = ["ä/ö ü", "顧客-7", "a%2Fb", "..", "😀", "x" * 256]
    rows = world.profiles.head(len(ids)).with_columns(customer_id=pl.Series(ids))
    world.store.publish("writings", 1, "w", model.state, model.meta, rows)
    key = create_key(world.store, "writings")
    for customer_id in ids:
        path = f"/segments/customer/{quote(customer_id, safe='')}"
        if customer_id == "..":
            path = "/segments/customer/%2E%2E"
        response = client.get(path, headers={"X-API-Key": key})
        assert response.status_code == 200, (customer_id, response.text)
        assert response.json()["customer_id"] == customer_id


@pytest.mark.parametrize(
    "key",
    [None, "", "secret", "ss_000000000000_" + 64 * "0", "ß", "ss_", "x" * 5000],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/segments/customer/C000000"),
        ("POST", "/segments/assign"),
        ("GET", "/segments/stats"),
        ("GET", "/segments/axes"),
    ],
)
def test_no_key_or_a_wrong_one_is_refused(client, key, method, path):
    headers = {"X-API-Key": b"" if key is None else key.encode("latin-1")}
    response = client.request(method, path, headers=headers)
    assert response.status_code == 401
    assert "X-API-Key" in response.json()["detail"]
    assert response.headers["WWW-Authenticate"].startswith("ApiKey")


def test_a_key_with_another_secret_is_refused(world, client):
    wrong = world.key[:-1] + ("0" if world.key[-1] != "0" else "1")
    headers = {"X-API-Key": wrong}
    assert client.get("/segments/stats", headers=headers).status_code == 401
    assert client.get("/segments/customer/C000000", headers=headers).status_code == 401


def test_a_revoked_key_is_refused_with_the_next_request(world, client):
    key = create_key(world.store, "default")
    customer = f"/segments/customer/{world.profiles['customer_id'][0]}"
    headers = {"X-API-Key": key}
    assert client.get(customer, headers=headers).status_code == 200
    revoke_key(world.store, key)
    assert client.get(customer, headers=headers).status_code == 401
    assert client.get("/segments/stats", headers=headers).status_code == 401


def test_another_stores_customer_is_not_found(world, client):
    ours, theirs = world.key, world.other_key
    customer_id = world.profiles["customer_id"][-1]
    for key, name, status in [
        (ours, customer_id, 200),
        (theirs, customer_id, 404),
        (ours, f"stranger-{customer_id}", 404),
        (theirs, f"stranger-{customer_id}", 200),
    ]:
        headers = {"X-API-Key": key}
        response = client.get(f"/segments/customer/{name}", headers=headers)
        assert response.status_code == status


def test_statistics_count_the_stores_customers(world, client):
    body = check_schema(client.get("/segments/stats"), schemas.Stats)
    assert body["total_customers"] == world.profiles.height
    assert body["axes_count"] == len(body["segments_per_axis"]) == len(AXES)
    for axis, counts in body["segment_distribution"].items():
        names = world.profiles["segment_memberships"].struct.field(axis)
        expected = {row[axis]: row["count"] for row in names.value_counts().to_dicts()}
        assert counts == expected
    assert body["model_version"] == 1
    other = client.get("/segments/stats", headers={"X-API-Key": world.other_key}).json()
    assert other["total_customers"] == 3


def test_axes_are_listed_with_descriptions_and_segments(world, client):
    body = check_schema(client.get("/segments/axes"), schemas.AxesOut)
    assert [axis["name"] for axis in body["axes"]] == [axis.name for axis in AXES]
    for axis in body["axes"]:
        assert axis["description"]
        assert axis["group"] in {"marketing", "support"}
        assert sum(own["share"] for own in axis["segments"]) == pytest.approx(1.0)


def test_an_empty_store_has_statistics_and_axes_but_no_model(world, client):
    headers = {"X-API-Key": create_key(world.store, "empty")}
    stats = check_schema(client.get("/segments/stats", headers=headers), schemas.Stats)
    assert (stats["total_customers"], stats["model_version"]) == (0, None)
    axes = check_schema(client.get("/segments/axes", headers=headers), schemas.AxesOut)
    assert [axis["segments"] for axis in axes["axes"]] == [[]] * len(AXES)
    body = world.body(world.profiles["customer_id"][0])
    response = client.post("/segments/assign", json=body, headers=headers)
    assert response.status_code == 503
    assert "./run.sh axes --store empty" in response.json()["detail"]


def test_a_new_model_serves_from_the_next_request_on(world, client):
    model = world.store.model("default")
    assigner = AxesAssigner.from_bytes(model.state)
    key = {"X-API-Key": create_key(world.store, "renaming")}
    body = world.body(world.profiles["customer_id"][0])

    def publish(assigner):
        state = assigner.to_bytes()
        world.store.publish(
            "renaming", 1, "r", state, {"n": len(state)}, world.profiles
        )
        answer = client.post("/segments/assign", json=body, headers=key).json()
        return answer["segment_memberships"]["purchase_cadence"]

    before = publish(assigner)
    ids = assigner.model.names["purchase_cadence"]
    changed = next(number for number, name in ids.items() if name == before)
    renamed = assigner.model.renamed("purchase_cadence", changed, "early_bird")
    assert publish(replace(assigner, model=renamed)) == "early_bird"


def test_amounts_below_0_are_taken_as_the_run_of_the_model_took_them(world, client):
    model = world.store.model("default")
    assigner = AxesAssigner.from_bytes(model.state)
    body = world.body(world.profiles["customer_id"][0])
    returned = {**body["orders"][0], "order_id": "credit", "total_price": -5.0}
    body = {**body, "orders": [*body["orders"], returned]}
    answers = {}
    for choice in ("refund", "drop"):
        state = replace(assigner, negative_orders=choice).to_bytes()
        meta = {"choice": choice}
        world.store.publish(choice, 1, "r", state, meta, world.profiles)
        key = {"X-API-Key": create_key(world.store, choice)}
        answers[choice] = client.post("/segments/assign", json=body, headers=key).json()
    told = {choice: answer["set_aside"] for choice, answer in answers.items()}
    assert told["refund"]["orders"] == {"refund": 1}
    assert sum(told["drop"]["orders"].values()) == 1
    assert "refund" not in told["drop"]["orders"]


def test_a_model_of_another_version_is_said_and_its_profiles_are_served(world, client):
    world.store.publish("foreign", 1, "f", b"from afar", {}, world.profiles)
    key = {"X-API-Key": create_key(world.store, "foreign")}
    customer_id = world.profiles["customer_id"][0]
    refused = client.post("/segments/assign", json=world.body(customer_id), headers=key)
    assert refused.status_code == 503
    assert "./run.sh axes --retrain always" in refused.json()["detail"]
    read = client.get(f"/segments/customer/{customer_id}", headers=key)
    assert read.status_code == 200


def test_the_page_of_documentation_needs_no_other_server(client):
    page = client.get("/docs").text
    assert "//" not in page.replace("<!-- ", "").partition("<body>")[0]
    sources = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(sources) == 3
    for source in sources:
        assert client.get(source).status_code == 200, source


def test_operators_can_look_without_a_key(world):
    with serving(ApiSettings(world.store.address)) as anonymous:
        assert anonymous.get("/health").json() == {"status": "ok"}
        ready = anonymous.get("/ready")
        assert ready.json()["status"] == "ready"
        assert ready.json()["models"] >= 2
        anonymous.get("/segments/customer/a")
        anonymous.get("/segments/customer/b")
        page = anonymous.get("/metrics").text
        route = 'method="GET",route="/segments/customer/{customer_id}"'
        assert f'segments_http_requests_total{{{route},status="401"}} 2.0' in page
        assert f"segments_http_request_seconds_count{{{route}}} 2.0" in page


def test_every_request_leaves_one_line_of_json_with_its_id(
    world, client, caplog, monkeypatch
):
    # A command run in this process before leaves it off. On again, and before `caplog`
    # looks: it would listen twice.
    monkeypatch.setattr(logging.getLogger("stable_segments"), "propagate", True)
    caplog.set_level(logging.INFO, "stable_segments.api")
    given = client.get("/segments/stats", headers={"X-Request-ID": "abc-1"})
    assert given.headers["X-Request-ID"] == "abc-1"
    forged = client.get("/health", headers={"X-Request-ID": 'x" y'})
    assert forged.headers["X-Request-ID"] != 'x" y'
    ids = [answer.headers["X-Request-ID"] for answer in (given, forged)]
    # A line is written after the answer: it may come a moment later, and so may those
    # of requests of the test before.
    deadline = time.monotonic() + 10
    entries: list[dict] = []
    while len(entries) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
        lines = [JsonFormatter().format(record) for record in list(caplog.records)]
        told = [json.loads(line) for line in lines if '"request"' in line]
        entries = [entry for entry in told if entry["request_id"] in ids]
    assert [entry["request_id"] for entry in entries] == ids
    assert [entry["status"] for entry in entries] == [200, 200]
    assert entries[0]["store"] == "default"
    assert entries[0]["route"] == "/segments/stats"
    # Neither the key nor its secret part is ever written down.
    assert world.key not in "".join(lines)
