"""Where a run of the axes lies, its files, and its fingerprint."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from core.artifacts.folder import link
from core.artifacts.manifest import System, library_versions
from core.artifacts.reading import ArtifactSet
from core.config import Config
from core.errors import ArtifactError, ConfigError

if TYPE_CHECKING:
    from core.tables.orders import Purchases


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
LEDGER = "ledger-"
"""Beginning of the names of the ledger's blocks, one for each run."""
CUSTOMER_AXES = System(
    name="customer axes",
    stages={"axes": "axes"},
    command="axes",
    model_stage="axes",
    outputs=frozenset({LONG_TABLE, SIZES, REPORT, OVERLAP, DRIFT}),
    records=(f"{LEDGER}*",),
    columns={PROFILES: {"customer_id": "text"}},
)
_BLOCK = re.compile(rf"{LEDGER}([0-9]{{4,}})\.parquet")
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


def block_name(run: int) -> str:
    """Return the file name of a run's block."""
    return f"{LEDGER}{run:04d}.parquet"


def blocks_of(base: ArtifactSet) -> dict[int, str]:
    """Return the file names of the ledger's blocks by run, ascending."""
    found = {name: _BLOCK.fullmatch(name) for name in base.manifest.files}
    runs = {int(match[1]): name for name, match in found.items() if match is not None}
    return dict(sorted(runs.items()))


def next_run(base: ArtifactSet | None) -> int:
    """Return the number of the run after a set; 1 where there is none.

    After going back, the ledger knows later runs than the set does.
    """
    if base is None:
        return 1
    return max(int(base.manifest.facts("axes")["run"]), *blocks_of(base), 0) + 1


def carry_ledger(base: ArtifactSet, folder: Path) -> None:
    """Give a new set the blocks of the one before."""
    for name in blocks_of(base).values():
        link(base.path(name), folder / name)


_DECIDING = ("max_segments", "min_segments", "fit_customers")


@dataclass(frozen=True)
class RunFingerprint:
    """SHA-256 of what a run is made from.

    Attributes
    ----------
    rows : str
        Orders and items, and how they were read.
    options : str
        Options that decide what is learnt from them, the file of names and the version
        of this package among them.
    """

    rows: str
    options: str

    @classmethod
    def of(cls, config: Config, purchases: Purchases) -> RunFingerprint:
        """Return the marks of a run that is about to start.

        Raises
        ------
        ConfigError
            If the file of names cannot be read.
        """
        options: dict[str, Any] = {
            name: getattr(config.axes, name) for name in _DECIDING
        }
        options["seed"] = config.seed
        options["names"] = _content(config.axes.names)
        options["package"] = library_versions()["stable-segments"]
        return cls(purchases.fingerprint, _digest(options))

    def are_known(self, base: ArtifactSet, *, refit: bool) -> bool:
        """Whether the run of a published set was made from the same.

        With `refit`, its model must have been learnt from these rows, too.
        """
        facts = base.manifest.facts("axes")
        is_same = bool(facts["rows"] == self.rows)
        return is_same and (not refit or facts["learnt_from"] == self.as_dict())

    def as_dict(self) -> dict[str, str]:
        """Return plain values, ready for JSON."""
        return {"rows": self.rows, "options": self.options}


def _content(path: str | None) -> str | None:
    """Return the SHA-256 of a file's content; None for no file."""
    if path is None:
        return None
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(
            f"`axes.names` is `{path}`, which cannot be read "
            f"({error.strerror or error}). Expected a YAML file of naming rules."
        ) from None


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
