"""Reading published sets: what is verified is what is read, from one version.

Reading needs no lock. Every file is verified as it is read, so a set that is replaced
meanwhile shows, and `read_published` begins again with the new one.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl

from core.artifacts.arrays import unpack_arrays
from core.artifacts.manifest import (
    Manifest,
    System,
    damaged,
    digest,
    read_manifest,
    refuse_untrusted,
)
from core.errors import PROGRAM, ArtifactError

PUBLISHING = ".publishing"
"""Folder of a set that is being moved into place, see `core.artifacts.folder`."""


@dataclass(frozen=True)
class ArtifactSet:
    """One whole set of files and its manifest.

    Attributes
    ----------
    folder : Path
        Where the files lie.
    manifest : Manifest
        What they are.
    """

    folder: Path
    manifest: Manifest

    def is_same(self, other: ArtifactSet) -> bool:
        """Whether another set is this very one, not one published since."""
        mine, others = self.manifest.stamp, other.manifest.stamp
        return (self.folder, mine) == (other.folder, others)

    def path(self, name: str) -> Path:
        """Return the path of a file, which has just been verified.

        Where others may publish meanwhile, `read` it instead.

        Raises
        ------
        ArtifactError
            If no stage has written it yet, it is missing or changed, or is a table
            without the columns it must have.
        """
        self._check(name, digest)
        path = self.folder / name
        if name in self.manifest.system.columns:
            with fitting(f"`{path}`", self.manifest.system):
                self._check_table(name, pl.scan_parquet(path, glob=False))
        return path

    def read(self, name: str) -> bytes:
        """Return the verified bytes of a file.

        Raises
        ------
        ArtifactError
            As `path`.
        """
        packed = b""

        def digest_of(path: Path) -> str:
            nonlocal packed
            packed = path.read_bytes()
            return hashlib.sha256(packed).hexdigest()

        self._check(name, digest_of)
        return packed

    def arrays(self, name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return the verified arrays and values of a file of `save_arrays`."""
        return unpack_arrays(self.read(name), str(self.folder / name))

    def table(self, name: str) -> pl.DataFrame:
        """Return the verified table of a Parquet file.

        Raises
        ------
        ArtifactError
            As `path`.
        """
        with fitting(f"`{self.folder / name}`", self.manifest.system):
            table = pl.read_parquet(io.BytesIO(self.read(name)))
            self._check_table(name, table.lazy())
        return table

    def _check_table(self, name: str, table: pl.LazyFrame) -> None:
        schema = table.collect_schema()
        for column, kind in self.manifest.system.columns.get(name, {}).items():
            dtype = schema.get(column)
            is_text, is_number = dtype == pl.String, dtype and dtype.is_numeric()
            if not (is_text if kind == "text" else is_number):
                found = dtype or "missing"
                raise ValueError(f"column `{column}` is {found}; expected {kind}")
        if name in self.manifest.system.filled and not len(table.head(1).collect()):
            raise ValueError("it holds no row; expected one at least")

    def output(self, name: str) -> Path | None:
        """Return the path of an output; None if there is none as it was written.

        A user may have deleted it, or saved it in another program.
        """
        try:
            return self.path(name)
        except ArtifactError:
            return None

    def _check(self, name: str, digest_of: Callable[[Path], str]) -> None:
        if name not in self.manifest.files:
            raise ArtifactError(f"`{self.folder}` holds no `{name}`.")
        try:
            found = digest_of(self.folder / name)
        except OSError:
            found = ""
        if found != self.manifest.files[name].sha256:
            raise damaged(self.folder, name, self.manifest)


@contextmanager
def fitting(what: str, system: System) -> Iterator[None]:
    """Say what is wrong where verified files hold other values than they should.

    Parameters
    ----------
    what : str
        What is read.
    system : System
        Whose it is.

    Raises
    ------
    ArtifactError
        For everything that values of a wrong kind or shape raise.
    """
    try:
        yield
    except ArtifactError:
        raise
    except (*_UNFIT, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        finding = (str(error).splitlines() or [""])[0].rstrip(".")
        raise ArtifactError(
            f"{what} cannot be used, though unchanged since it was written "
            f"({type(error).__name__}: {finding}). Restore it from a copy, or make it "
            f"again with `{PROGRAM} {system.command}`."
        ) from None


_UNFIT = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def published_set(root: Path, system: System, *others: System) -> ArtifactSet | None:
    """Return the published set of a folder, or None where there is none.

    Its files are verified as they are read.

    Parameters
    ----------
    root : Path
        The artifacts folder.
    system, *others : System
        Whose it may be.

    Raises
    ------
    ArtifactError
        If it is the set of another system, or not the one that `trusted` names.
    """
    for folder in (root / PUBLISHING, root):
        manifest = read_manifest(folder, system, *others)
        if manifest is not None:
            refuse_untrusted(folder, manifest)
            return ArtifactSet(folder, manifest)
    return None


T = TypeVar("T")


def read_published(
    root: Path,
    read: Callable[[ArtifactSet | None], T],
    system: System,
    *others: System,
) -> T:
    """Read files of the published set, all from one version.

    Parameters
    ----------
    root : Path
        The artifacts folder.
    read : callable
        Reads what it needs of the set that it is handed; called again with the next one
        where another set has been published meanwhile.
    system, *others : System
        Whose it may be.

    Raises
    ------
    ArtifactError
        If it is the set of another system; and whatever `read` raises of a set that is
        still the published one.
    """
    found = published_set(root, system, *others)
    while True:
        try:
            return read(found)
        except (ArtifactError, OSError):
            now = published_set(root, system, *others)
            if found is None or now is None or found.is_same(now):
                raise
            found = now
