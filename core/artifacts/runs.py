"""Runs over the customers of a store: folder, lock, files, fingerprint, ledger.

A system that segments customers on axes keeps a model per store, in a folder of its
own, and a run of it is a single stage. Here is what such folders share, under the
system's own names.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from core.artifacts.folder import link
from core.artifacts.manifest import System, library_versions
from core.artifacts.reading import ArtifactSet
from core.errors import PROGRAM, ArtifactError, ConfigError

PROFILES = "customer_profiles.parquet"
LONG_TABLE = "axis_segments.csv"
SIZES = "axis_sizes.csv"
REJECTED = "rejected_rows.parquet"
LEDGER = "ledger-"
"""Beginning of the names of the ledger's blocks, one for each run."""
_BLOCK = re.compile(rf"{LEDGER}([0-9]{{4,}})\.parquet")
_PLAIN = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True)
class RunFiles:
    """The files of a system's runs, by the stage that they are.

    Attributes
    ----------
    system : System
        Of a single stage.
    """

    system: System

    @property
    def stage(self) -> str:
        """The stage, which is also the verb."""
        return self.system.model_stage

    @property
    def state(self) -> str:
        """Arrays of the model."""
        return f"{self.stage}.safetensors"

    @property
    def meta(self) -> str:
        """Everything else of the model, names of segments among it."""
        return f"{self.stage}.json"

    @property
    def drift_reference(self) -> str:
        """What later runs are compared with."""
        return f"{self.stage}_drift.safetensors"

    @property
    def drift(self) -> str:
        """Drift of the run."""
        return f"{self.stage}_drift.csv"

    @property
    def page(self) -> str:
        """What people read."""
        return f"{self.stage}.html"

    def facts(self, base: ArtifactSet) -> dict[str, Any]:
        """Return the facts of the run that a set is of."""
        return base.manifest.facts(self.stage)


def run_system(name: str, stage: str, outputs: tuple[str, ...] = ()) -> System:
    """Return the system of runs that are a single stage.

    Parameters
    ----------
    name : str
        What its folders hold, as messages say it.
    stage : str
        The stage, and the verb.
    outputs : tuple of str
        Files of its own that nothing reads back.
    """
    shared = {LONG_TABLE, SIZES, f"{stage}_drift.csv"}
    return System(
        name=name,
        stages={stage: stage},
        command=stage,
        model_stage=stage,
        outputs=frozenset({*shared, *outputs}),
        records=(f"{LEDGER}*",),
        columns={PROFILES: {"customer_id": "text"}},
    )


def store_folder(
    artifacts: str | Path, stage: str, store: str, default: str = "default"
) -> Path:
    """Return the folder of one store's runs, in the artifacts folder.

    Every store has a model of its own, so it has a folder of its own: the name of the
    stage for the store `default`, ``STAGE-NAME`` for others. A name that some file
    system could not take, or not tell from another one, gets eight digits of its
    SHA-256 appended.

    >>> store_folder("artifacts", "axes", "default").as_posix()
    'artifacts/axes'
    >>> store_folder("artifacts", "axes", "Shop 1").name
    'axes-shop-1-d4a69134'
    """
    if store == default:
        return Path(artifacts) / stage
    if _PLAIN.fullmatch(store) and not store.endswith("."):
        return Path(artifacts) / f"{stage}-{store}"
    slug = re.sub(r"[^a-z0-9]+", "-", store.lower()).strip("-")[:40] or "store"
    digits = hashlib.sha256(store.encode()).hexdigest()[:8]
    return Path(artifacts) / f"{stage}-{slug}-{digits}"


@contextmanager
def one_at_a_time(folder: Path, system: System) -> Iterator[None]:
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
            f"another run of the {system.command} is writing to `{folder}`. Wait for "
            "it, or pass `--artifacts` another folder."
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
    """Return the file name of a run's block of the ledger."""
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
    facts = base.manifest.facts(base.manifest.system.model_stage)
    return max(int(facts["run"]), *blocks_of(base), 0) + 1


def carry_ledger(base: ArtifactSet, folder: Path) -> None:
    """Give a new set the blocks of the one before."""
    for name in blocks_of(base).values():
        link(base.path(name), folder / name)


@dataclass(frozen=True)
class RunFingerprint:
    """SHA-256 of what a run is made from.

    Attributes
    ----------
    rows : str
        What was read, and how.
    options : str
        Options that decide what is learnt from them, the version of this package among
        them.
    """

    rows: str
    options: str

    @classmethod
    def of(cls, rows: str, options: Mapping[str, Any]) -> Self:
        """Return the fingerprint of a run that is about to start.

        Parameters
        ----------
        rows : str
        options : mapping
            JSON-able.
        """
        decided = {**options, "package": library_versions()["stable-segments"]}
        text = json.dumps(decided, sort_keys=True)
        return cls(rows, hashlib.sha256(text.encode()).hexdigest())

    def are_known(self, base: ArtifactSet, *, refit: bool) -> bool:
        """Whether the run of a published set was made from the same.

        With `refit`, its model must have been learnt from these rows, too.
        """
        facts = base.manifest.facts(base.manifest.system.model_stage)
        is_same = bool(facts["rows"] == self.rows)
        return is_same and (not refit or facts["learnt_from"] == self.as_dict())

    def as_dict(self) -> dict[str, str]:
        """Return plain values, ready for JSON."""
        return {"rows": self.rows, "options": self.options}


def content_digest(path: str | None, key: str, expected: str) -> str | None:
    """Return the SHA-256 of a file that an option names; None for no file.

    Parameters
    ----------
    path : str, optional
    key : str
        The option, such as ``axes.names``.
    expected : str
        What the file should be, such as "a YAML file of naming rules".

    Raises
    ------
    ConfigError
        If it cannot be read.
    """
    if path is None:
        return None
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(
            f"`{key}` is `{path}`, which cannot be read "
            f"({error.strerror or error}). Expected {expected}."
        ) from None


def write_meta(path: Path, meta: Mapping[str, Any]) -> None:
    """Write JSON that a person can read; what is no JSON (NaN) is refused."""
    text = json.dumps(meta, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_meta(base: ArtifactSet) -> dict[str, Any]:
    """Read what `write_meta` wrote of a set's model.

    Raises
    ------
    ArtifactError
        If the file has changed, or is not JSON.
    """
    system = base.manifest.system
    name = RunFiles(system).meta
    try:
        meta: dict[str, Any] = json.loads(base.read(name))
    except ValueError as error:
        raise unusable(system, f"`{base.folder / name}`: {error}") from None
    return meta


def unusable(system: System, finding: str) -> ArtifactError:
    """Return the error for a saved model that cannot be used."""
    return ArtifactError(
        f"the saved {system.command} are unusable: {finding}. Learn them again with "
        f"`{PROGRAM} {system.command} --retrain always`."
    )
