"""Addresses that fsspec reads: S3 against moto's server, and other protocols."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pytest
import requests

from core.errors import SourceError
from core.resolve import build_config
from core.tables.files import is_remote
from core.tables.plain import read_table
from core.tables.remote import store_file
from core.tables.sales import Sales, read_sales, source_fingerprint

HEADER = "shop_id,product_id,year,month,sales_qty\n"
MARCH = HEADER + "corner_shop,tea,2024,3,5\nkiosk,tea,2024,3,2\n"
APRIL = HEADER + "corner_shop,tea,2024,4,6\n"


def _read(address: str, work: Path) -> Sales:
    return read_sales(_config(address), work)


def _config(address: str):
    return build_config({"data": {"source": "input", "input": address}})


@pytest.fixture
def s3(s3_client: Any) -> str:
    s3_client.create_bucket(Bucket="wholesaler")
    for key, body in {
        "sales/2024-03.csv": MARCH.encode(),
        "sales/2024-04.csv": APRIL.encode(),
        "sales/_SUCCESS": b"",
        "packed/march.csv.gz": gzip.compress(MARCH.encode()),
        "papers/letter.pdf": b"%PDF-1.7",
    }.items():
        s3_client.put_object(Bucket="wholesaler", Key=key, Body=body)
    return "s3://wholesaler"


def test_one_key_is_read(s3: str, tmp_path: Path):
    sales = _read(f"{s3}/sales/2024-03.csv", tmp_path / "work")
    assert sales.intake.rows_read == 2
    assert sales.frame.collect()["shop_id"].to_list() == ["corner_shop", "kiosk"]


@pytest.mark.parametrize("tail", ["/sales", "/sales/", "/sales/*.csv"])
def test_prefix_and_glob_are_read_in_name_order(s3: str, tail: str, tmp_path: Path):
    sales = _read(s3 + tail, tmp_path / "work")
    assert sales.frame.collect()["month"].to_list() == [3, 3, 4]


def test_gzip_on_s3_is_unpacked(s3: str, tmp_path: Path):
    assert _read(f"{s3}/packed", tmp_path / "work").intake.rows_kept == 2


def test_fingerprint_tells_changed_content_from_same_content(
    s3: str, s3_client: Any, tmp_path: Path
):
    address = f"{s3}/sales/2024-04.csv"
    before = _read(address, tmp_path / "work").fingerprint
    assert source_fingerprint(_config(address)) == before
    body = (APRIL + "kiosk,tea,2024,4,1\n").encode()
    s3_client.put_object(Bucket="wholesaler", Key="sales/2024-04.csv", Body=body)
    assert source_fingerprint(_config(address)) != before


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s3://wholesaler/sales/2025-01.csv", "nothing is there"),
        ("s3://wholesaler/sales/*.parquet", "nothing is there"),
        ("s3://no-such-bucket/sales.csv", "nothing is there"),
        ("s3://wholesaler/papers", r"holds no table; found `letter\.pdf`"),
    ],
)
def test_what_is_not_there_is_said(s3: str, address: str, message: str, tmp_path: Path):
    with pytest.raises(SourceError, match=message):
        _read(address, tmp_path / "work")


def test_missing_credentials_are_asked_for(
    s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(SourceError, match="AWS_ACCESS_KEY_ID"):
        _read(f"{s3}/sales/2024-03.csv", tmp_path / "work")


def test_unreachable_server_is_said_soon(
    s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(SourceError, match="Check the network"):
        _read(f"{s3}/sales/2024-03.csv", tmp_path / "work")


def test_half_a_parquet_file_is_refused(s3: str, s3_client: Any, tmp_path: Path):
    path = tmp_path / "orders.parquet"
    pl.DataFrame({"order_id": ["a", "b"] * 500}).write_parquet(path)
    half = path.read_bytes()[:-40]
    s3_client.put_object(Bucket="wholesaler", Key="half/orders.parquet", Body=half)
    with pytest.raises(SourceError, match=r"orders\.parquet.*damaged or cut off"):
        read_table(f"{s3}/half/orders.parquet")


@pytest.fixture
def locked(s3_server: str, s3: str) -> Iterator[str]:
    """From here on the server knows nobody's keys."""
    requests.post(f"{s3_server}/moto-api/reset-auth", data="0", timeout=10)
    yield s3
    requests.post(f"{s3_server}/moto-api/reset-auth", data="inf", timeout=10)


def test_denied_access_asks_for_credentials(locked: str, tmp_path: Path):
    with pytest.raises(SourceError, match=r"access denied.*AWS_ACCESS_KEY_ID"):
        read_table(f"{locked}/sales/2024-03.csv")
    path = tmp_path / "march.csv"
    path.write_text(MARCH, encoding="utf-8")
    with pytest.raises(SourceError, match=r"nothing was written: .*access denied"):
        store_file(path, f"{locked}/march.csv")


class _ExpiredHandler(SimpleHTTPRequestHandler):
    """Answers as S3 does to a session token that is too old."""

    def do_GET(self) -> None:
        said = "The provided token has expired."
        body = f"<Error><Code>ExpiredToken</Code><Message>{said}</Message></Error>"
        self.send_response(400)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body.encode())

    do_HEAD = do_GET  # noqa: N815 - as above

    def log_message(self, *args: object) -> None:
        """Keep the test's output clean."""


def test_expired_credentials_are_to_be_renewed(
    s3: str, monkeypatch: pytest.MonkeyPatch
):
    with ThreadingHTTPServer(("127.0.0.1", 0), _ExpiredHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(SourceError, match=r"have expired\. Renew them"):
            read_table(f"{s3}/sales/2024-03.csv")
        server.shutdown()


def test_file_is_stored_whole_and_replaces_the_one_before(s3: str, tmp_path: Path):
    path = tmp_path / "april.csv"
    for text in (MARCH, APRIL):
        path.write_text(text, encoding="utf-8")
        store_file(path, f"{s3}/stored/april.csv")
        store_file(path, str(tmp_path / "new" / "april.csv"))
        store_file(path, (tmp_path / "uri" / "april.csv").as_uri())
    assert read_table(f"{s3}/stored/april.csv")["month"].to_list() == [4]
    for folder in ("new", "uri"):
        assert [p.name for p in (tmp_path / folder).iterdir()] == ["april.csv"]
        assert (tmp_path / folder / "april.csv").read_text("utf-8") == APRIL


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s3://no-such-bucket/april.csv", "nothing is there. Check the name"),
        ("s4://bucket/april.csv", "`s4` is no known protocol"),
    ],
)
def test_a_place_that_is_not_there_is_said(
    s3: str, address: str, message: str, tmp_path: Path
):
    path = tmp_path / "april.csv"
    path.write_text(APRIL, encoding="utf-8")
    with pytest.raises(SourceError, match=message):
        store_file(path, address)
    with pytest.raises(SourceError, match="nothing was written"):
        store_file(path, str(path / "below-a-file.csv"))


def test_memory_protocol_is_read(tmp_path: Path):
    with fsspec.open("memory://shelf/sales.csv", "w", encoding="utf-8") as stream:
        stream.write(MARCH)
    assert _read("memory://shelf/sales.csv", tmp_path).intake.rows_kept == 2
    assert _read("memory://shelf", tmp_path).intake.rows_kept == 2
    assert _read("memory://shelf/*.csv", tmp_path).intake.rows_kept == 2


def test_file_protocol_is_read(tmp_path: Path):
    path = tmp_path / "sales.csv"
    path.write_text(MARCH, encoding="utf-8")
    assert _read(path.as_uri(), tmp_path / "work").intake.rows_kept == 2


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sales.csv").write_text(MARCH, encoding="utf-8")
    handler = partial(_QuietHandler, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Keep the test's output clean."""


def test_web_address_is_read_with_its_query(web: str, tmp_path: Path):
    sales = _read(f"{web}/sales.csv?signature=a*b", tmp_path / "work")
    assert sales.intake.rows_kept == 2
    with pytest.raises(SourceError, match="nothing is there"):
        _read(f"{web}/other.csv", tmp_path / "work")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s4://bucket/sales.csv", "`s4` is no known protocol"),
        ("memory://nowhere/sales.csv", "nothing is there"),
    ],
)
def test_unknown_protocols_and_files_are_refused(
    address: str, message: str, tmp_path: Path
):
    with pytest.raises(SourceError, match=message):
        _read(address, tmp_path)


@pytest.mark.parametrize(
    "path", [r"C:\data\sales.csv", "C:/data/sales.csv", r"\\server\sales.csv", "x.csv"]
)
def test_windows_paths_are_no_protocols(path: str):
    assert not is_remote(path)
