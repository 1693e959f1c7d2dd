"""Versions are logged to a real MLflow store, once; without MLflow the cure is said."""

from __future__ import annotations

import importlib.util
import os
import sys

import pytest

from core.artifacts.tracking import log_version
from core.errors import ConfigError, SegmentsError

FACTS = {
    "lineage": "0123456789ab",
    "version": 2,
    "model_id": "ba9876543210",
    "verdict": {"kind": "natural", "is_certified": False, "p_value": 0.05},
    "gate": {"ari": 0.93, "explained": None, "value": float("nan")},
    "names": {"a | b": "Summer"},
}
needs_mlflow = pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is None,
    reason="MLflow is not installed (`pip install stable-segments[mlflow]`)",
)


@pytest.fixture
def uri(tmp_path, monkeypatch):
    # Newer releases want to be asked for a store of plain files, which needs no server.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return (tmp_path / "store").as_uri()


@pytest.fixture
def card(tmp_path):
    path = tmp_path / "model-card.md"
    path.write_text("# Segments, version 2\n", encoding="utf-8")
    return path


@needs_mlflow
def test_numbers_become_metrics_and_the_rest_parameters(uri, card):
    import mlflow

    run_id = log_version(uri, FACTS, [card])
    client = mlflow.MlflowClient(uri)
    run = client.get_run(run_id)
    assert run.data.metrics == {"version": 2, "verdict.p_value": 0.05, "gate.ari": 0.93}
    assert run.data.params == {
        "lineage": "0123456789ab",
        "model_id": "ba9876543210",
        "verdict.kind": "natural",
        "verdict.is_certified": "False",
        "names.a _ b": "Summer",
    }
    assert run.info.status == "FINISHED"
    assert [file.path for file in client.list_artifacts(run_id)] == [card.name]


@needs_mlflow
def test_a_version_is_logged_once(uri, card):
    first = log_version(uri, FACTS, [card])
    assert log_version(uri, FACTS, [card]) == first
    assert log_version(uri, FACTS | {"version": 3}, [card]) != first


@needs_mlflow
def test_what_fails_half_way_is_logged_again(uri, card, tmp_path):
    with pytest.raises(SegmentsError, match="did not take version 2"):
        log_version(uri, FACTS, [tmp_path / "none.md"])
    run_id = log_version(uri, FACTS, [card])
    assert log_version(uri, FACTS, [card]) == run_id


@needs_mlflow
def test_an_address_that_does_not_answer_is_an_error_without_the_password(card):
    before = dict(os.environ)
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    try:
        with pytest.raises(SegmentsError) as caught:
            log_version("http://ana:secret@localhost:9", FACTS, [card])
    finally:
        del os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"]
    assert "http://ana:***@localhost:9" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert dict(os.environ) == before


def test_without_mlflow_the_error_says_how_to_install_it(card, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ConfigError, match=r"pip install stable-segments\[mlflow\]"):
        log_version("https://mlflow.example.com", FACTS, [card])
