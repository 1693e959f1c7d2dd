"""The embedded server: shared by processes, stopped by the last, back after a crash."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg
import pytest

from core.errors import StoreError
from core.logging import LOGGER_NAME, get_logger
from core.redaction import redacted_address
from core.store import Store
from core.store.address import address_of, chosen_address
from core.store.embedded import EmbeddedServer, Postgres, socket_path

pytestmark = pytest.mark.slow

posix_only = pytest.mark.skipif(os.name == "nt", reason="Windows has no such sockets")

# Opens the store, says so, and closes it when its standard input ends.
CHILD = """
import sys
from pathlib import Path
from core.store import Store
with Store.open(None, Path(sys.argv[1])) as store:
    print("alembic" in sys.modules, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return the folder of a server that is not running."""
    folder = tmp_path_factory.mktemp("my shop's, (old) data") / "postgres"
    with Store.open(None, folder) as store, store.begin("make a table") as connection:
        connection.execute("CREATE TABLE notes AS SELECT 'kept' AS note")
    assert not is_running(folder)
    return folder


@pytest.fixture
def start(request):
    """Return a function that opens a folder's store in a process of its own."""
    children = []

    def start_child(folder: Path) -> subprocess.Popen:
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(folder)],
            cwd=request.config.rootpath,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        children.append(child)
        return child

    yield start_child
    for child in children:
        child.kill()
        child.communicate()


def is_running(folder: Path) -> bool:
    return (folder / "data" / "postmaster.pid").exists()


def process_of(folder: Path) -> int:
    record = (folder / "data" / "postmaster.pid").read_text("utf-8")
    return int(record.splitlines()[0])


def kill(pid: int) -> None:
    os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))


def notes(address: str) -> list[tuple[str]]:
    with psycopg.connect(address) as connection:
        return connection.execute("SELECT note FROM notes").fetchall()


def test_the_last_process_to_close_stops_the_server(folder, start):
    first, second = start(folder), start(folder)
    # Nothing to migrate, so nobody waited for alembic.
    assert [child.stdout.readline() for child in (first, second)] == ["False\n"] * 2
    server = process_of(folder)
    first.communicate()
    assert process_of(folder) == server
    with Store.open(None, folder) as store:
        assert notes(store.address) == [("kept",)]
        second.communicate()
        assert process_of(folder) == server
    assert not is_running(folder)
    assert (first.returncode, second.returncode) == (0, 0)


def test_processes_that_make_a_store_together_make_one(tmp_path, start):
    folder = tmp_path / "new" / "postgres"
    children = [start(folder) for _ in range(3)]
    said = sorted(child.stdout.readline() for child in children)
    # One of them has made the tables; the others found them, or waited for it.
    assert len(said) == 3
    assert "" not in said
    for child in children:
        child.communicate()
    assert [child.returncode for child in children] == [0, 0, 0]
    assert not is_running(folder)


def test_a_killed_process_does_not_keep_the_server_up(folder, start):
    child = start(folder)
    child.stdout.readline()
    child.kill()
    child.wait()
    # Nobody was there to stop it.
    assert is_running(folder)
    with Store.open(None, folder) as store:
        assert notes(store.address) == [("kept",)]
    assert not is_running(folder)
    assert list((folder / "users").iterdir()) == []


def test_a_killed_server_comes_back_at_the_same_address(folder):
    with Store.open(None, folder) as store:
        kill(process_of(folder))
        with pytest.raises(StoreError, match=r"cannot be reached|terminating"):
            wait_for_failure(store)
        store.ensure_running()
        assert notes(store.address) == [("kept",)]
        assert store.model("any") is None
    assert not is_running(folder)


def wait_for_failure(store, seconds: float = 10.0) -> None:
    """Ask until an answer fails: a backend outlives its server for a moment."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        store.model("any")


def test_a_server_that_was_killed_with_its_users_starts_again(folder, start):
    child = start(folder)
    child.stdout.readline()
    kill(process_of(folder))
    child.kill()
    child.wait()
    with Store.open(None, folder) as store:
        assert notes(store.address) == [("kept",)]
    assert not is_running(folder)


def test_half_made_data_of_a_killed_start_is_made_anew(tmp_path):
    folder = tmp_path / "postgres"
    (folder / "data.new").mkdir(parents=True)
    (folder / "data.new" / "PG_VERSION").write_text("18\n", encoding="utf-8")
    with Store.open(None, folder) as store:
        assert store.model("any") is None
    assert not (folder / "data.new").exists()


def test_over_tcp_the_server_asks_for_its_password(folder):
    # The way of Windows; it can be gone everywhere.
    server = EmbeddedServer(folder, transport="tcp")
    address = server.acquire()
    try:
        assert "host=127.0.0.1" in address
        assert notes(address) == [("kept",)]
        password = (folder / "password").read_text("utf-8")
        assert len(bytes.fromhex(password)) == 32
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(address.replace(password, "wrong"))
        assert password not in redacted_address(address)
    finally:
        server.release()
    assert not is_running(folder)


@posix_only
def test_nobody_else_can_reach_socket_or_data(folder):
    with Store.open(None, folder):
        socket = socket_path(folder)
        assert socket.stat().st_mode & 0o077 == 0
        assert (folder / "data").stat().st_mode & 0o077 == 0
        assert (folder / "password").stat().st_mode & 0o077 == 0
    assert not socket.exists()


@posix_only
def test_a_socket_folder_that_somebody_else_made_is_refused(folder, tmp_path):
    path = socket_path(folder)
    path.symlink_to(tmp_path, target_is_directory=True)
    try:
        with (
            pytest.raises(StoreError, match="was made by somebody else"),
            Store.open(None, folder),
        ):
            pass
    finally:
        path.unlink()


@posix_only
def test_a_socket_path_that_is_too_long_is_told(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 100)))
    with (
        pytest.raises(StoreError, match=r"bytes long; 103 are possible. Set `TMPDIR`"),
        Store.open(None, folder),
    ):
        pass


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path):
    (tmp_path / "artifacts").write_text("a file, not a folder", encoding="utf-8")
    folder = tmp_path / "artifacts" / "postgres"
    with (
        pytest.raises(StoreError, match=r"cannot write to `.*`DATABASE_URL`"),
        Store.open(None, folder),
    ):
        pass


def test_data_of_another_postgresql_is_left_alone(tmp_path):
    data = tmp_path / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("9\n", encoding="utf-8")
    with (
        pytest.raises(StoreError, match="made by PostgreSQL 9, installed are"),
        Store.open(None, tmp_path / "postgres"),
    ):
        pass
    assert [path.name for path in data.iterdir()] == ["PG_VERSION"]


def test_a_server_that_does_not_start_tells_why(tmp_path):
    folder = tmp_path / "postgres"
    with Store.open(None, folder):
        pass
    with (folder / "data" / "postgresql.conf").open("a", encoding="utf-8") as stream:
        stream.write("no_such_setting = 1\n")
    with (
        pytest.raises(StoreError, match=r"no_such_setting.*`DATABASE_URL`"),
        Store.open(None, folder),
    ):
        pass


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgres://a:b@db/shop", "postgresql://a:b@db/shop"),
        ("postgresql+psycopg://db", "postgresql://db"),
        ("  postgresql://db?sslmode=require ", "postgresql://db?sslmode=require"),
    ],
)
def test_addresses_of_other_tools_are_understood(url, expected):
    assert chosen_address(url) == expected


def test_the_option_goes_before_the_environment(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://environment/x")
    assert chosen_address(None) == "postgresql://environment/x"
    assert chosen_address("postgresql://option/x") == "postgresql://option/x"
    monkeypatch.delenv("DATABASE_URL")
    assert chosen_address(None) is None


def test_an_address_may_hold_any_password():
    address = address_of(user="a", host="h", port=5, password="p@/:?#%é")
    parts = psycopg.conninfo.conninfo_to_dict(address)
    assert parts["password"] == "p@/:?#%é"
    assert (parts["host"], int(parts["port"]), parts["user"]) == ("h", 5, "a")


def test_data_that_could_not_be_made_are_made_in_a_second_try(tmp_path, monkeypatch):
    real, tries = Postgres.run, []

    def aborting_once(self, program, *arguments, **options):
        tries.append(program)
        if tries == ["initdb"]:
            raise StoreError("`initdb` ended with exit code 134.")
        return real(self, program, *arguments, **options)

    monkeypatch.setattr(Postgres, "run", aborting_once)
    with Store.open(None, tmp_path / "postgres") as store:
        assert store.query("SELECT 1")[1] == [(1,)]
    assert tries[:3] == ["initdb", "initdb", "pg_ctl"]


@posix_only
def test_as_root_only_folders_of_root_are_opened_and_that_is_said(
    tmp_path, caplog, monkeypatch
):
    import pwd

    monkeypatch.setattr(get_logger(), "propagate", True)
    caplog.set_level(logging.WARNING, LOGGER_NAME)

    if os.geteuid() != 0:
        pytest.skip("only root runs it as somebody else")
    data = tmp_path / "closed" / "inner" / "data"
    data.mkdir(parents=True)
    closed = data.parent, data.parent.parent
    for folder in closed:
        folder.chmod(0o700)
    postgres = Postgres(tmp_path, 18, pwd.getpwnam("nobody"))

    os.chown(data.parent, 12_345, 12_345)
    with pytest.raises(StoreError, match="somebody else's") as refused:
        postgres.open_way_to(data)
    assert str(data.parent) in str(refused.value)
    assert [folder.stat().st_mode & 0o777 for folder in closed] == [0o700] * 2
    assert not caplog.records

    os.chown(data.parent, 0, 0)
    for _ in range(2):
        postgres.open_way_to(data)
    assert [folder.stat().st_mode & 0o777 for folder in closed] == [0o701] * 2
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert all(f"`{folder}`" in record.getMessage() for folder in closed)
    assert "chmod o-x" in record.getMessage()
