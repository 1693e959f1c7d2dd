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
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from filelock import FileLock, Timeout

from core.errors import StoreError
from core.store.cluster import WAIT_SECONDS, Cluster, Transport
from core.store.postgres import INSTEAD


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
        usual: Transport = "tcp" if os.name == "nt" else "socket"
        self.cluster = Cluster(self.folder, transport or usual)
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
                self.cluster.stop()

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
            lock.acquire(timeout=2 * WAIT_SECONDS)
        except Timeout:
            raise StoreError(
                f"another process has been starting or stopping the server in "
                f"`{self.folder}` for {2 * WAIT_SECONDS} seconds. End it, then try "
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
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            address = self.cluster.address()
            if address is None:
                return self.cluster.start()
            try:
                psycopg.connect(address, connect_timeout=10).close()
            except psycopg.OperationalError as error:
                if "too many clients" in str(error):
                    return address
                # Starting up after a crash, or shutting down for a killed process.
                if "the database system is" not in str(error):
                    return self.cluster.start()
                time.sleep(0.1)
            else:
                return address
        raise StoreError(
            f"the embedded PostgreSQL in `{self.folder}` has not become ready within "
            f"{WAIT_SECONDS} seconds. Its log is `{self.cluster.log}`."
        )
