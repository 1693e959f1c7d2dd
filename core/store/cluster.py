"""The data of an embedded server: made, started with our settings, and stopped.

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
from contextlib import suppress
from pathlib import Path
from typing import Literal

from core.errors import StoreError
from core.logging import get_logger
from core.store.address import address_of
from core.store.postgres import INSTEAD, Postgres, find_postgres

Transport = Literal["socket", "tcp"]
USER = "postgres"
WAIT_SECONDS = 120
"""Longest that a server may take to start or stop; after a crash it has work to do."""
_SETTINGS = "segments.conf"
# A socket's path has at most 103 bytes on macOS, 107 on Linux.
_LONGEST_SOCKET = 103
# A killed server's own processes notice within moments, and go.
_LEFTOVERS_SECONDS = 10

_logger = get_logger()


class Cluster:
    """What PostgreSQL calls a database cluster; callers see that one acts at a time.

    Parameters
    ----------
    folder : path
        Holds ``data`` and ``password``.
    transport : {"socket", "tcp"}
        How clients reach the server.
    """

    def __init__(self, folder: Path, transport: Transport) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.log = self.data / "server.log"
        self.transport = transport

    def address(self) -> str | None:
        """Return where the server listens, if its own record says that it runs."""
        try:
            lines = (self.data / "postmaster.pid").read_text("utf-8").splitlines()
            _, _, _, port, host, *_ = lines
        except (OSError, ValueError):
            return None
        if host:
            return address_of(user=USER, host=host, port=int(port))
        password = (self.folder / "password").read_text("utf-8").strip()
        return address_of(
            user=USER, host="127.0.0.1", port=int(port), password=password
        )

    def start(self) -> str:
        """Start the server, its data made first if need be, and return its address.

        Raises
        ------
        StoreError
            If it does not start, with the end of its log.
        """
        made_by = self.data / "PG_VERSION"
        version = int(made_by.read_text("utf-8")) if made_by.is_file() else None
        postgres = find_postgres(version)
        postgres.open_way_to(self.data)
        if version is None:
            self._initialise(postgres)
        self._write_settings(postgres)
        with suppress(OSError):
            if self.log.stat().st_size > 10_000_000:
                self.log.unlink()
        self._run_server(postgres)
        address = self.address()
        assert address is not None  # `pg_ctl` has waited for the record
        return address

    def stop(self) -> None:
        """Stop the server if it runs; open transactions are rolled back."""
        if self.address() is None:
            return
        postgres = find_postgres(int((self.data / "PG_VERSION").read_text("utf-8")))
        wait = ["-m", "fast", "-w", "-t", str(WAIT_SECONDS)]
        # It may have been stopped or killed by someone else in the meantime.
        with suppress(StoreError):
            postgres.run("pg_ctl", ["stop", "-D", str(self.data), *wait], self.folder)
        if self.transport == "socket":
            with suppress(OSError):
                socket_path(self.folder).rmdir()

    def _run_server(self, postgres: Postgres) -> None:
        """Start the server, waiting for what a killed one has left behind to go."""
        start = ["start", "-D", str(self.data), "-l", str(self.log)]
        wait = ["-w", "-t", str(WAIT_SECONDS)]
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
        """Make the cluster, in a second try if need be.

        On a machine at ten times its load `initdb` has been seen to abort, once, and
        to succeed whenever it was called again.
        """
        try:
            self._make_data(postgres)
        except StoreError as error:
            _logger.warning("%s Trying once more.", error)
            time.sleep(1.0)
            self._make_data(postgres)

    def _make_data(self, postgres: Postgres) -> None:
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

    def _log_tail(self) -> str:
        try:
            lines = self.log.read_text("utf-8", "replace")
        except OSError:
            return "It wrote no log."
        return "The end of its log: " + " / ".join(lines.splitlines()[-4:])


def socket_path(folder: Path) -> Path:
    """Return a short folder for the socket, always the same for a server's folder."""
    digest = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"segments-{digest}"


def _socket_folder(folder: Path, postgres: Postgres) -> Path:
    """Make the socket's folder, and see that nobody else has made it before us."""
    path = socket_path(folder)
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
