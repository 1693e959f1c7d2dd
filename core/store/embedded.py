"""A PostgreSQL server in a folder, started by whoever comes first.

::

    postgres/
      data/       the database cluster, the server's own (mode 700)
      users/      one lock file per open handle, of any process
      lock        held while the server is started or stopped
      password    of the TCP connection, where there are no sockets (Windows)

A handle counts as long as its process lives: the operating system gives up the lock of
a killed one, so the last to close stops the server whoever was killed before. A server
whose last user was killed stays up until the next handle is closed.

On POSIX the server listens on a Unix socket only, in a folder that no other account
may enter; on Windows on a free port of 127.0.0.1, with a random password.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import socket
import stat
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import psycopg
from filelock import FileLock, Timeout

from core.errors import StoreError
from core.store.address import address_of
from core.store.postgres import INSTEAD, Postgres, find_postgres

Transport = Literal["socket", "tcp"]
USER = "postgres"
_SETTINGS = "segments.conf"
# A socket's path has at most 103 bytes on macOS, 107 on Linux.
_LONGEST_SOCKET = 103
_WAIT_SECONDS = 120
# A killed server's own processes notice within moments, and go.
_LEFTOVERS_SECONDS = 10


class EmbeddedServer:
    """One handle on the server of a folder.

    Parameters
    ----------
    folder : path
        Made if it is not there.
    transport : {"socket", "tcp"}, optional
        How clients reach the server; default: a socket where the system has them.
    """

    def __init__(self, folder: Path, transport: Transport | None = None) -> None:
        self.folder = Path(folder).absolute()
        self.data = self.folder / "data"
        self.transport = transport or ("tcp" if os.name == "nt" else "socket")
        self._users = self.folder / "users"
        self._mine: FileLock | None = None

    def acquire(self) -> str:
        """Start the server unless it runs, and return its address.

        Raises
        ------
        StoreError
            If it cannot be started; the message says why.
        """
        self._make_folder()
        with self._locked():
            address = self._ensure_running()
            self._mine = self._lock_of(self._users / f"{uuid.uuid4().hex}.lock")
            self._mine.acquire()
        return address

    def ensure_running(self) -> str:
        """Start the server again if it has gone, and return its address."""
        with self._locked():
            return self._ensure_running()

    def release(self) -> None:
        """Give up the handle; the last one stops the server."""
        if self._mine is None:
            return
        with self._locked():
            self._mine.release()
            Path(self._mine.lock_file).unlink(missing_ok=True)
            self._mine = None
            if not self._has_users():
                self._stop()

    def _make_folder(self) -> None:
        try:
            self._users.mkdir(parents=True, exist_ok=True)
            (self._users / ".probe").write_bytes(b"")
            (self._users / ".probe").unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(
                f"the embedded PostgreSQL cannot write to `{self.folder}` "
                f"({error.strerror or error}). Pass `--artifacts` a folder that can be "
                f"written to. {INSTEAD}"
            ) from None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = self._lock_of(self.folder / "lock")
        try:
            lock.acquire(timeout=2 * _WAIT_SECONDS)
        except Timeout:
            raise StoreError(
                f"another process has been starting or stopping the server in "
                f"`{self.folder}` for {2 * _WAIT_SECONDS} seconds. End it, then try "
                "again."
            ) from None
        try:
            yield
        finally:
            lock.release()

    @staticmethod
    def _lock_of(path: Path) -> FileLock:
        # A handle may be opened in one thread and closed in another.
        return FileLock(path, thread_local=False)

    def _has_users(self) -> bool:
        """Return whether any process holds a handle; clear those of dead ones."""
        is_used = False
        for path in self._users.glob("*.lock"):
            lock = self._lock_of(path)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                is_used = True
                continue
            lock.release()
            path.unlink(missing_ok=True)
        return is_used

    def _ensure_running(self) -> str:
        """Return the address of the running server, started if need be."""
        deadline = time.monotonic() + _WAIT_SECONDS
        while time.monotonic() < deadline:
            address = self._address()
            if address is None:
                return self._start()
            try:
                psycopg.connect(address, connect_timeout=10).close()
            except psycopg.OperationalError as error:
                # Starting up after a crash, or shutting down for a killed process.
                if "the database system is" not in str(error):
                    return self._start()
                time.sleep(0.1)
            else:
                return address
        raise StoreError(
            f"the embedded PostgreSQL in `{self.folder}` has not become ready within "
            f"{_WAIT_SECONDS} seconds. Its log is `{self.data / 'server.log'}`."
        )

    def _address(self) -> str | None:
        """Return where the server listens, if its own record says that it runs."""
        try:
            lines = (self.data / "postmaster.pid").read_text("utf-8").splitlines()
        except OSError:
            return None
        if len(lines) < 6:
            return None
        if lines[4]:
            return address_of(user=USER, host=lines[4], port=int(lines[3]))
        password = (self.folder / "password").read_text("utf-8").strip()
        return address_of(
            user=USER, host="127.0.0.1", port=int(lines[3]), password=password
        )

    def _start(self) -> str:
        made_by = self.data / "PG_VERSION"
        version = int(made_by.read_text("utf-8")) if made_by.is_file() else None
        postgres = find_postgres(version)
        postgres.open_way_to(self.data)
        if version is None:
            self._initialise(postgres)
        self._write_settings(postgres)
        log = self.data / "server.log"
        with suppress(OSError):
            if log.stat().st_size > 10_000_000:
                log.unlink()
        self._run_server(postgres, log)
        address = self._address()
        assert address is not None  # `pg_ctl` has waited for the record
        return address

    def _run_server(self, postgres: Postgres, log: Path) -> None:
        """Start the server, waiting for what a killed one has left behind to go."""
        start = ["start", "-D", str(self.data), "-l", str(log)]
        wait = ["-w", "-t", str(_WAIT_SECONDS)]
        deadline = time.monotonic() + _LEFTOVERS_SECONDS
        while True:
            try:
                postgres.run("pg_ctl", [*start, *wait], self.folder)
            except StoreError as error:
                said = self._log_tail()
                is_left = "already exists" in said or "shared memory block" in said
                if is_left and time.monotonic() < deadline:
                    self._forget_zombie()
                    time.sleep(0.2)
                    continue
                raise StoreError(f"{error} {said} {INSTEAD}") from None
            return

    def _forget_zombie(self) -> None:
        """Remove the record of a dead server that nobody has buried.

        In a container without an init process its number stays taken for ever, and a
        new server takes it for running.
        """
        record = self.data / "postmaster.pid"
        with suppress(OSError, IndexError):
            number = record.read_text("utf-8").splitlines()[0]
            status = Path("/proc", number, "stat").read_text("utf-8")
            if status.rpartition(")")[2].split()[0] == "Z":
                record.unlink()

    def _initialise(self, postgres: Postgres) -> None:
        """Make the cluster aside; a killed start leaves nothing half made."""
        new, password = self.folder / "data.new", self.folder / "password"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        postgres.give(new)
        password.write_text(secrets.token_hex(32), encoding="utf-8")
        postgres.give(password)
        arguments = ["-D", str(new), "-U", USER, "--encoding=UTF8", "--no-locale"]
        trust = ["--auth-local=trust", "--auth-host=scram-sha-256"]
        postgres.run(
            "initdb", [*arguments, *trust, f"--pwfile={password}"], self.folder
        )
        with (new / "postgresql.conf").open("a", encoding="utf-8") as stream:
            stream.write(f"\ninclude_if_exists = '{_SETTINGS}'\n")
        new.rename(self.data)

    def _write_settings(self, postgres: Postgres) -> None:
        settings = {
            "max_connections": "100",
            "shared_buffers": "256MB",
            "maintenance_work_mem": "128MB",
            "max_wal_size": "2GB",
            # Nothing replicates from here.
            "wal_level": "minimal",
            "max_wal_senders": "0",
            # Compiling costs more than any query of ours takes.
            "jit": "off",
        }
        if self.transport == "socket":
            folder = _socket_folder(self.folder, postgres)
            settings["listen_addresses"] = ""
            settings["unix_socket_directories"] = f'"{folder}"'
        else:
            settings["listen_addresses"] = "127.0.0.1"
            settings["unix_socket_directories"] = ""
            settings["port"] = str(_free_port())
        text = "".join(
            f"{name} = '{value.replace(chr(39), 2 * chr(39))}'\n"
            for name, value in settings.items()
        )
        path = self.data / _SETTINGS
        path.write_text(text, encoding="utf-8")
        postgres.give(path)

    def _stop(self) -> None:
        address = self._address()
        if address is None:
            return
        postgres = find_postgres(int((self.data / "PG_VERSION").read_text("utf-8")))
        wait = ["-m", "fast", "-w", "-t", str(_WAIT_SECONDS)]
        # It may have been stopped or killed by someone else in the meantime.
        with suppress(StoreError):
            postgres.run("pg_ctl", ["stop", "-D", str(self.data), *wait], self.folder)
        if self.transport == "socket":
            with suppress(OSError):
                _socket_path(self.folder).rmdir()

    def _log_tail(self) -> str:
        try:
            lines = (self.data / "server.log").read_text("utf-8", "replace")
        except OSError:
            return "It wrote no log."
        return "The end of its log: " + " / ".join(lines.splitlines()[-4:])


def _socket_path(folder: Path) -> Path:
    """Return a short folder for the socket, always the same for a server's folder."""
    digest = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"segments-{digest}"


def _socket_folder(folder: Path, postgres: Postgres) -> Path:
    """Make the socket's folder, and see that nobody else has made it before us."""
    path = _socket_path(folder)
    length = len(os.fsencode(path / ".s.PGSQL.5432.lock"))
    if length > _LONGEST_SOCKET:
        raise StoreError(
            f"the socket of the embedded PostgreSQL would be at `{path}`, "
            f"{length} bytes long; {_LONGEST_SOCKET} are possible. Set `TMPDIR` to a "
            f"shorter path. {INSTEAD}"
        )
    owners = {os.geteuid()}
    if postgres.account is not None:
        owners.add(postgres.account.uid)
    try:
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        status = path.lstat()
    except OSError as error:
        raise StoreError(
            f"`{path}`, for the socket of the embedded PostgreSQL, cannot be made "
            f"({error.strerror or error}). Set `TMPDIR` to a folder that can be "
            f"written to. {INSTEAD}"
        ) from None
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in owners:
        raise StoreError(
            f"`{path}`, for the socket of the embedded PostgreSQL, was made by "
            "somebody else. Remove it, or set `TMPDIR` to a folder of your own. "
            f"{INSTEAD}"
        )
    postgres.give(path)
    postgres.open_way_to(path / "socket")
    return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
