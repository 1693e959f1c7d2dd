"""A folder from somebody else connects nowhere, and a saved one holds no secret."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import shutil
import socket
import threading
from contextlib import contextmanager

import polars as pl
import pytest
from typer.testing import CliRunner

from core.artifacts.folder import Artifacts
from core.artifacts.manifest import trusted
from core.cli import app
from core.config import Config
from core.errors import ArtifactError
from core.resolve import resolve_config
from core.retailers.files import RETAILERS
from core.retailers.model import Model
from core.retailers.pipelines import prepare_features, run_inference, stage_config
from core.retailers.refresh.month import refresh_config
from core.retailers.refresh.run import run_refresh
from core.retailers.report.page import source_name
from core.retailers.sample import generate_sales
from core.store.publish import publish_ledger


@pytest.fixture
def listener():
    """Yield a socket that nobody should connect to."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        yield server


def is_asked(listener) -> bool:
    try:
        listener.accept()[0].close()
    except TimeoutError:
        return False
    return True


def prepared_by_a_stranger(artifacts, listener):
    """Put addresses into a manifest, as whoever can write to the folder can."""
    place = f"127.0.0.1:{listener.getsockname()[1]}"
    path = artifacts / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    config = manifest["config"]
    config["data"] |= {"source": "input", "input": f"http://{place}/rows.csv"}
    config["refresh"]["mlflow_uri"] = f"http://{place}"
    config["store"]["url"] = f"postgresql://{place}/shop?connect_timeout=2"
    path.write_text(json.dumps(manifest), encoding="utf-8")


def test_inference_does_not_read_what_only_the_manifest_names(artifacts, listener):
    before = pl.read_csv(artifacts / "cluster_predictions.csv")
    prepared_by_a_stranger(artifacts, listener)
    config = stage_config("inference", flags={"artifacts": str(artifacts)})
    run_inference(config)
    assert not is_asked(listener)
    # The training data was labelled; no other rows were scored.
    assert not (artifacts / "scored_predictions.csv").exists()
    after = pl.read_csv(artifacts / "cluster_predictions.csv")
    assert after.equals(before)


def test_a_later_stage_keeps_the_name_of_the_source(artifacts, listener):
    prepared_by_a_stranger(artifacts, listener)
    config = stage_config("clustering", flags={"artifacts": str(artifacts)})
    assert config.data.input.startswith("http://127.0.0.1")
    assert config.store.url is None
    assert config.refresh.mlflow_uri is None


def test_a_refresh_connects_only_where_the_user_says(artifacts, listener):
    prepared_by_a_stranger(artifacts, listener)
    config = refresh_config(str(artifacts))
    result = run_refresh(config, retrain="never", into_store=publish_ledger)
    assert result.exit_code == 0, result.lines
    assert not is_asked(listener)


@contextmanager
def served(folder):
    """Serve a folder over HTTP."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        work = threading.Thread(target=server.serve_forever, args=(0.01,))
        work.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            work.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_the_secrets_of_a_sources_address_are_not_saved(tmp_path):
    pytest.importorskip("aiohttp")
    sample = Config.model_validate({"sample": {"n_shops": 40}}).sample
    generate_sales(sample, 1).rows.write_parquet(tmp_path / "rows.parquet")
    folder = tmp_path / "artifacts"
    with served(tmp_path) as place:
        address = f"http://ann:hunter2@{place}/rows.parquet?X-Amz-Signature=hunter2"
        flags = {"artifacts": str(folder), "data.input": address}
        result = prepare_features(resolve_config(flags=flags, environ={}))
    assert "hunter2" not in json.dumps([result.facts, result.lines])
    for path in folder.iterdir():
        if path.is_file():
            assert b"hunter2" not in path.read_bytes(), path
    base = Artifacts(folder, RETAILERS).published()
    assert source_name(base.manifest) == (
        f"http://ann:***@{place}/rows.parquet?X-Amz-Signature=***"
    )
    # The same address, named again by the user, is still the same data.
    config = stage_config("autoencoder", flags=flags)
    assert config.data.input == address


def run(*arguments):
    return CliRunner().invoke(app, list(arguments))


def test_a_pinned_manifest_is_the_only_one_that_is_opened(artifacts):
    folder = str(artifacts)
    pin = run("verify", "--artifacts", folder).stdout.split()[-1]
    path = artifacts / "manifest.json"
    assert pin == hashlib.sha256(path.read_bytes()).hexdigest()
    pinned = ("--artifacts", folder, "--trusted-digest", pin.upper())
    assert run("verify", *pinned).exit_code == 0
    with trusted(pin):
        assert Model.load(artifacts).features

    path.write_text(path.read_text("utf-8") + "\n", encoding="utf-8")
    for verb in ("verify", "infer", "refresh"):
        refused = run(verb, *pinned)
        assert isinstance(refused.exception, ArtifactError)
        assert pin in str(refused.exception).lower()
    with trusted(pin), pytest.raises(ArtifactError, match="--trusted-digest"):
        Model.load(artifacts)
    assert run("verify", "--artifacts", folder).exit_code == 0


def test_a_pending_set_is_no_way_around_the_pin(artifacts):
    pin = run("verify", "--artifacts", str(artifacts)).stdout.split()[-1]
    shutil.copytree(artifacts, artifacts / "pending")
    path = artifacts / "pending" / "manifest.json"
    path.write_text(path.read_text("utf-8") + "\n", encoding="utf-8")
    refused = run("infer", "--artifacts", str(artifacts), "--trusted-digest", pin)
    assert isinstance(refused.exception, ArtifactError)
    assert "pending" in str(refused.exception)


def test_a_pinned_run_may_publish(artifacts):
    pin = run("verify", "--artifacts", str(artifacts)).stdout.split()[-1]
    pinned = ("--artifacts", str(artifacts), "--trusted-digest", pin)
    assert run("refresh", *pinned).exit_code == 0
    assert run("infer", *pinned).exit_code == 0
    # What was published since is another set.
    assert isinstance(run("infer", *pinned).exception, ArtifactError)


def test_what_a_pinned_run_has_built_itself_is_trusted(trained, tmp_path):
    own = Artifacts(tmp_path / "own", RETAILERS)
    shutil.copytree(trained, own.root)
    config = own.complete().manifest.config
    with trusted(own.complete().manifest.sha256):
        with own.stage("autoencoder", config):
            pass
        assert own.pending_folder.is_dir()
        assert own.base("clustering").folder == own.pending_folder
    with trusted("0" * 64), pytest.raises(ArtifactError, match="pending"):
        own.base("clustering")
