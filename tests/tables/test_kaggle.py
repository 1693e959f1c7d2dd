"""The real kagglehub client against a local server that answers as Kaggle does.

The server is the client's HTTP proxy, so that its port can be any free one.
"""

from __future__ import annotations

import io
import json
import socket
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlparse

import pytest

from core.config import Config
from core.errors import SourceError
from core.resolve import build_config
from core.tables.sales import read_sales, source_fingerprint

MARCH = "shop_id,product_id,year,month,sales_qty\nkiosk,tea,2024,3,2\n"
HANDLE = "wholesaler/monthly-sales"


class _Kaggle(BaseHTTPRequestHandler):
    """Answers the three requests that kagglehub makes for a data set."""

    requests: list[str]
    files: dict[str, str]
    status: int

    def do_HEAD(self) -> None:
        self._answer(404, b"")

    def do_POST(self) -> None:
        name = urlparse(self.path).path.rpartition("/")[2]
        type(self).requests.append(name)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.status != 200 or body["datasetSlug"] != HANDLE.split("/")[1]:
            code = self.status if self.status != 200 else 404
            answer = {"code": code, "message": "no"}
            self._answer(code, json.dumps(answer).encode(), "application/json")
        elif name == "GetDataset":
            answer = {"ref": HANDLE, "currentVersionNumber": 2}
            self._answer(200, json.dumps(answer).encode(), "application/json")
        else:
            self._answer(200, _archive(self.files), "application/zip")

    def _answer(self, code: int, body: bytes, kind: str = "text/html") -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Keep the test's output clean."""


def _archive(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return buffer.getvalue()


@pytest.fixture
def kaggle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[_Kaggle]]:
    handler = type("Kaggle", (_Kaggle,), {"requests": [], "status": 200})
    handler.files = {"shop-sales-data.csv": MARCH}
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    _point_kagglehub_at(server.server_port, monkeypatch, tmp_path)
    yield handler
    server.shutdown()
    thread.join()
    server.server_close()


def _point_kagglehub_at(
    port: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
    for name in ("no_proxy", "NO_PROXY", "KAGGLE_DATA_PROXY_URL", "KAGGLE_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "none"))
    # For its user agent it looks for Keras among its callers, five times a request;
    # among all modules of a run of the tests that takes half a second.
    monkeypatch.setattr("kagglehub.clients.search_lib_in_call_stack", lambda name: None)


def _config(**data: object) -> Config:
    return build_config({"data": {"source": "kaggle", "kaggle_handle": HANDLE, **data}})


def test_data_set_is_downloaded_and_read(kaggle: type[_Kaggle], tmp_path: Path):
    sales = read_sales(_config(), tmp_path / "work")
    assert kaggle.requests == ["GetDataset", "DownloadDataset"]
    assert sales.frame.collect().rows() == [("kiosk", "tea", 2024, 3, 2.0)]


def test_second_reading_takes_it_from_the_cache(kaggle: type[_Kaggle], tmp_path: Path):
    first = read_sales(_config(), tmp_path / "work")
    assert source_fingerprint(_config()) == first.fingerprint
    assert kaggle.requests.count("DownloadDataset") == 1


def test_cached_version_needs_no_network(
    kaggle: type[_Kaggle], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    handle = f"{HANDLE}/versions/2"
    read_sales(_config(kaggle_handle=handle), tmp_path / "work")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    sales = read_sales(_config(kaggle_handle=handle), tmp_path / "work")
    assert sales.intake.rows_kept == 1


def test_every_table_is_read_when_no_file_is_named(
    kaggle: type[_Kaggle], tmp_path: Path
):
    april = MARCH.replace("2024,3", "2024,4")
    kaggle.files = {"a/march.csv": MARCH, "b/april.csv": april, "README.md": "x"}
    sales = read_sales(_config(kaggle_file=None), tmp_path / "work")
    assert sales.frame.collect()["month"].to_list() == [3, 4]


def test_file_that_is_not_in_the_data_set_is_named_with_those_that_are(
    kaggle: type[_Kaggle], tmp_path: Path
):
    kaggle.files = {"shop-sale-data.csv": MARCH}
    with pytest.raises(
        SourceError, match=r"Did you mean `shop-sale-data\.csv`"
    ) as info:
        read_sales(_config(), tmp_path / "work")
    assert "`data.kaggle_file`" in str(info.value)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (404, "Kaggle knows no data set `wholesaler/monthly-sales`"),
        (403, "denies access"),
        (401, "denies access"),
        (500, "status 500"),
    ],
)
def test_refusals_say_what_to_do(
    kaggle: type[_Kaggle], status: int, message: str, tmp_path: Path
):
    kaggle.status = status
    with pytest.raises(SourceError, match=message) as info:
        read_sales(_config(), tmp_path / "work")
    assert "--input FILE" in str(info.value)


def test_no_network_is_said_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    _point_kagglehub_at(9, monkeypatch, tmp_path)
    start = time.monotonic()
    with pytest.raises(SourceError, match="cannot be reached") as info:
        read_sales(_config(), tmp_path / "work")
    assert time.monotonic() - start < 30
    assert "--input FILE" in str(info.value)


def test_silent_network_is_given_up_soon(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr("core.tables.files.PROBE_SECONDS", 0.5)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        _point_kagglehub_at(deaf.getsockname()[1], monkeypatch, tmp_path)
        start = time.monotonic()
        with pytest.raises(SourceError, match="cannot be reached"):
            read_sales(_config(), tmp_path / "work")
        assert time.monotonic() - start < 20


@pytest.mark.parametrize("handle", ["monthly-sales", "a/b/c", "a//", "a/b/versions/x"])
def test_malformed_handle_is_refused(handle: str, tmp_path: Path):
    with pytest.raises(SourceError, match="expected `owner/data-set`"):
        read_sales(_config(kaggle_handle=handle), tmp_path / "work")
