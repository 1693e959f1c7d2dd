"""The API against its own OpenAPI document, by schemathesis."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from api_world import serving, small_world

from core.api.app import ApiSettings
from core.store import create_key

# What the document does not say of an order: of which years it is, and that it is no
# refund. Such a request is valid by the document and refused all the same; that it is
# refused for these reasons only is the second check.
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
    if is_valid and response.status_code == 422:
        for problem in response.json()["detail"]:
            assert any(said in problem["msg"] for said in BEYOND_A_DOCUMENT), problem
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with small_world(tmp_path_factory.mktemp("api")) as made:
        yield made


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
            "--max-examples", "60", "--seed", "1", "--no-color",
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
