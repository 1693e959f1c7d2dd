"""Where a run of the customer axes lies, and what its files are called."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from core.config import Config
from core.errors import ArtifactError

STATE = "axes.safetensors"
META = "axes.json"
PROFILES = "customer_profiles.parquet"
LONG_TABLE = "axis_segments.csv"
SIZES = "axis_sizes.csv"
REPORT = "axes_report.csv"
OVERLAP = "axis_overlap.csv"
REJECTED = "rejected_rows.parquet"
DRIFT_REFERENCE = "axes_drift.safetensors"
DRIFT = "axes_drift.csv"
PAGE = "axes.html"
_PLAIN = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def axes_folder(artifacts: str | Path, store: str = "default") -> Path:
    """Return the folder of one store's axes, in the artifacts folder.

    Every store has a model of its own, so it has a folder of its own: ``axes`` for the
    store ``default``, ``axes-NAME`` for others. A name that some file system could not
    take, or not tell from another one, gets eight digits of its SHA-256 appended.

    >>> axes_folder("artifacts").as_posix()
    'artifacts/axes'
    >>> axes_folder("artifacts", "Shop 1").name
    'axes-shop-1-d4a69134'
    """
    if store == "default":
        return Path(artifacts) / "axes"
    if _PLAIN.fullmatch(store) and not store.endswith("."):
        return Path(artifacts) / f"axes-{store}"
    slug = re.sub(r"[^a-z0-9]+", "-", store.lower()).strip("-")[:40] or "store"
    digits = hashlib.sha256(store.encode()).hexdigest()[:8]
    return Path(artifacts) / f"axes-{slug}-{digits}"


def folder_of(config: Config) -> Path:
    """Return the folder of the axes that a configuration asks for."""
    return axes_folder(config.artifacts, config.axes.store)


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Hold a folder for one whole run: reading, publishing and loading into the store.

    Raises
    ------
    ArtifactError
        If another run holds it, or the folder cannot be written to.
    """
    lock = FileLock(folder / ".run.lock", timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise ArtifactError(
            f"another run of the axes is writing to `{folder}`. Wait for it, or pass "
            "`--artifacts` another folder."
        ) from None
    except OSError as error:
        raise ArtifactError(
            f"`{folder}` cannot be written to ({error.strerror or error}). Pass "
            "`--artifacts` a folder that can."
        ) from None
    try:
        yield
    finally:
        lock.release()
