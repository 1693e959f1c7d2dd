"""`serve` as users start it: a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

import httpx
import psutil
import pytest
from api_world import REPOSITORY

pytestmark = pytest.mark.slow

HEAVY = {"tensorflow", "keras", "sklearn", "hdbscan", "matplotlib"}


@contextmanager
def started(artifacts, *options):
    """Run `serve`; yield the process, a client and what it said."""
    command = [
        sys.executable, "-m", "core", "serve", "--artifacts", str(artifacts),
        "--port", "0", *options,
    ]  # fmt: skip
    out = (artifacts / "requests.log").open("w+", encoding="utf-8")
    process = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    try:
        said = ""
        while "A key for requests" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        address = re.search(r"at (http://\S+)", said)[1]
        with httpx.Client(base_url=address, timeout=30) as client:
            wait_for(lambda: status(client, "/health") == 200)
            yield process, client, said
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(60)
        process.stderr.close()
        out.close()


def serve_again(port):
    return subprocess.run(
        [sys.executable, "-m", "core", "serve", "--port", str(port)],
        cwd=REPOSITORY,
        check=False,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


def status(client, path, **options):
    try:
        return client.get(path, **options).status_code
    except httpx.TransportError:
        return None


def wait_for(is_so, seconds=60):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def postmaster(artifacts):
    record = artifacts / "postgres" / "data" / "postmaster.pid"
    return psutil.Process(int(record.read_text().splitlines()[0]))


def workers(process):
    """Return the process ids of a server's workers."""
    found = set()
    for child in psutil.Process(process.pid).children():
        with suppress(psutil.NoSuchProcess):
            if "spawn_main" in " ".join(child.cmdline()):
                found.add(child.pid)
    return found


def test_an_empty_store_is_served_whatever_happens_to_its_database(tmp_path):
    with started(tmp_path) as (process, client, said):
        assert "holds no profiles yet: `./run.sh axes`" in said
        assert status(client, "/ready") == 503
        assert "./run.sh axes" in client.get("/ready").json()["detail"]
        key = {"X-API-Key": "ss_000000000000_" + 64 * "0"}
        assert status(client, "/segments/stats", headers=key) == 401
        server = postmaster(tmp_path)
        children = server.children(recursive=True)
        server.kill()
        psutil.wait_procs([server, *children], timeout=30)
        assert status(client, "/segments/stats", headers=key) == 503
        # The server looks after its embedded database.
        wait_for(lambda: status(client, "/segments/stats", headers=key) == 401)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    # The last user of the embedded database stops it.
    assert not (tmp_path / "postgres" / "data" / "postmaster.pid").exists()


def test_the_log_is_json_lines_and_a_taken_port_is_said(world):
    with started(world.artifacts) as (process, client, said):
        assert "no profiles" not in said
        customer_id = world.profiles["customer_id"][0]
        response = client.get(
            f"/segments/customer/{customer_id}", headers={"X-API-Key": world.key}
        )
        assert response.status_code == 200
        taken = serve_again(client.base_url.port)
        assert taken.returncode == 2
        assert "Choose another with `--port`" in taken.stderr
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    lines = (world.artifacts / "requests.log").read_text("utf-8").splitlines()
    entries = [json.loads(line) for line in lines]
    (entry,) = [e for e in entries if e.get("store") == "default"]
    assert entry["event"] == "request"
    assert entry["request_id"] == response.headers["X-Request-ID"]
    assert (entry["method"], entry["status"]) == ("GET", 200)
    assert entry["duration_ms"] > 0
    assert world.key not in "".join(lines)


def test_several_processes_count_together_and_are_replaced(world):
    with started(world.artifacts, "--workers", "2") as (process, client, _):
        path = f"/segments/customer/{world.profiles['customer_id'][0]}"
        for _ in range(10):
            with httpx.Client(base_url=client.base_url) as anew:
                assert status(anew, path, headers={"X-API-Key": world.key}) == 200
        page = client.get("/metrics").text
        route = 'method="GET",route="/segments/customer/{customer_id}",status="200"'
        assert f"segments_http_requests_total{{{route}}} 10.0" in page

        before = workers(process)
        assert len(before) == 2
        psutil.Process(min(before)).kill()
        wait_for(lambda: len(workers(process) - before) == 1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_an_assignment_needs_neither_tensorflow_nor_scikit_learn(world, tmp_path):
    body = tmp_path / "body.json"
    customer = world.profiles["customer_id"][0]
    body.write_text(json.dumps(world.body(customer)), encoding="utf-8")
    code = f"""
import sys
from pathlib import Path
import core.api.server
from core.api.assign import Limits, assign, read_request
from core.axes.assign import AxesAssigner
assigner = AxesAssigner.load(Path({str(world.artifacts / "axes")!r}))
request = read_request(Path({str(body)!r}).read_bytes(), Limits(1000, 10000))
assert assign(assigner, request)["customer_id"] == {customer!r}
print(*sorted({HEAVY!r} & set(sys.modules)))
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        check=False,
        capture_output=True,
        text=True,
        env=os.environ,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == ""
