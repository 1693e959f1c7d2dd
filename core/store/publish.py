"""What a run of a system leaves in the store, after its files are published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import polars as pl

from core.artifacts.arrays import pack_arrays
from core.artifacts.reading import ArtifactSet
from core.artifacts.runs import PROFILES, RunFiles, blocks_of, read_meta
from core.config import Config
from core.errors import StoreError
from core.lifecycle.segmentation import StoreLoad
from core.logging import get_logger
from core.reporting.board import BOARD, Board
from core.store.address import chosen_address
from core.store.loading import copy_into, escaped
from core.store.store import Store

# In what the store keeps beside a model: which published files its rows were made from.
LOADED = "loaded"


def publish_profiles(config: Config, published: ArtifactSet) -> StoreLoad:
    """Make a store hold exactly the profiles of a published set.

    Safe to repeat: a store that holds them is left alone. A failure is told, not
    raised, for the files are published whatever the database does; the profiles before
    stay complete.

    Parameters
    ----------
    config : Config
        ``store.url``.
    published : ArtifactSet
        Of `core.lifecycle.run.run_segmentation`; it knows the name of its store.
    """
    get_logger().info("Loading the profiles into the store")
    try:
        with opened_store(config) as store:
            return load_run(store, _RunOfCustomers(published))
    except StoreError as error:
        line = (
            f"The files are published, but the store does not have them: {error} Run "
            "the same command again when that is fixed; until then the store has the "
            "profiles of before."
        )
        return StoreLoad(line, {"error": str(error)}, error.exit_code)


@contextmanager
def opened_store(config: Config) -> Iterator[Store]:
    """Open the store of a configuration: its own, or that of the artifacts folder."""
    folder = Path(config.artifacts) / "postgres"
    with Store.open(config.store.url, folder) as store:
        yield store


class LoadedRun(NamedTuple):
    """What a store is given."""

    version: int
    lineage: str
    state: bytes
    meta: dict[str, Any]
    profiles: pl.DataFrame
    moves: pl.DataFrame | None
    board: Board | None


class Source(Protocol):
    """A published set that a store is loaded from."""

    store_id: str
    system: str

    def marks(self) -> dict[str, Any]:
        """Return what tells its rows from others."""

    def load(self, known: Mapping[str, Any]) -> LoadedRun:
        """Return everything; `known` are the marks of what the store holds."""


class _RunOfCustomers:
    """A run of `core.lifecycle`."""

    def __init__(self, base: ArtifactSet) -> None:
        self.base, self.files = base, RunFiles(base.manifest.system)
        self.system = self.files.stage
        self.store_id = str(self.files.facts(base)["store"])

    def marks(self) -> dict[str, Any]:
        facts = self.files.facts(self.base)
        own = {"run": facts["run"], "lineage": facts["lineage"]}
        return own | digests_of(self.base, (PROFILES, self.files.meta, BOARD))

    def load(self, known: Mapping[str, Any]) -> LoadedRun:
        meta = read_meta(self.base)
        arrays, _ = self.base.arrays(self.files.state)
        is_told = BOARD in self.base.manifest.files
        return LoadedRun(
            meta["version"],
            meta["lineage"],
            pack_arrays(arrays, meta),
            meta,
            self.base.table(PROFILES),
            _moves_after(self.base, known),
            Board.from_json(self.base.read(BOARD)) if is_told else None,
        )


def digests_of(base: ArtifactSet, names: Sequence[str]) -> dict[str, str]:
    """Return the SHA-256 of files, of those that there are."""
    entries = base.manifest.files
    return {name: entries[name].sha256 for name in names if name in entries}


def load_run(store: Store, source: Source) -> StoreLoad:
    """Load a run into its store, unless that has been done.

    Raises
    ------
    StoreError
        If the store cannot be used, or holds something else under that name.
    """
    stored = store.model(source.store_id)
    known = {} if stored is None else stored.meta.get(LOADED, {})
    if stored is not None and stored.system != source.system:
        raise StoreError(
            f"{store.name} holds {stored.system} under the name `{source.store_id}`, "
            f"and these are {source.system}. Give these a store of their own with "
            "`--store NAME`."
        )
    marks = source.marks()
    if known == marks:
        return StoreLoad(
            f"{store.name} holds these profiles already.", {"is_loaded": False}
        )
    made = source.load(known)
    done = store.publish(
        source.store_id,
        made.version,
        made.lineage,
        made.state,
        {**made.meta, LOADED: marks},
        made.profiles,
        made.moves,
        made.board,
    )
    counts = {
        "new": done.n_inserted,
        "changed": done.n_updated,
        "unchanged": done.n_unchanged,
        "gone": done.n_deleted,
    }
    said = ", ".join(f"{n:,} {word}" for word, n in counts.items() if n)
    line = (
        f"{store.name}: {made.profiles.height:,} profiles of the store "
        f"`{source.store_id}` ({said}) in {done.seconds:.1f} s."
    )
    return StoreLoad(line, {"is_loaded": True, **counts, "seconds": done.seconds})


def _moves_after(
    published: ArtifactSet, known: Mapping[str, Any]
) -> pl.DataFrame | None:
    """Return the moves of the runs that the store has not heard of, as text."""
    is_same = known.get("lineage") == published.manifest.lineage
    last = int(known.get("run", 0)) if is_same else 0
    names = [name for run, name in blocks_of(published).items() if run > last]
    if not names:
        return None
    blocks = [published.table(name) for name in names]
    return pl.concat(blocks).select(
        "customer_id",
        pl.format("{} (run {})", pl.col("reference_date").str.head(10), "run").alias(
            "run"
        ),
        "axis",
        pl.col("old_name").alias("old"),
        pl.col("new_name").alias("new"),
        "cause",
    )


def has_store(url: str | None, folder: Path) -> bool:
    """Whether there is a store to write to: one that was chosen, or the embedded one.

    Parameters
    ----------
    url : str, optional
        ``store.url``; without it the environment variable ``DATABASE_URL`` counts.
    folder : path
        Of the embedded server, which has to be there already.
    """
    return chosen_address(url) is not None or folder.is_dir()


def publish_ledger(
    url: str | None, folder: Path, lineage: str, blocks: Sequence[pl.DataFrame]
) -> int | None:
    """Add the blocks that the store does not have yet to its copy of a ledger.

    The files are the ledger; the table is there to ask in SQL. Blocks are only ever
    added: one that the table has is left as it is.

    Parameters
    ----------
    url, folder
        As for `Store.open`.
    lineage : str
        Of the models that the ledger belongs to.
    blocks : sequence of DataFrame
        With the columns of `core.segments.ledger.LEDGER_SCHEMA`, a month, version and
        role each.

    Returns
    -------
    int or None
        How many were added; None, and no store is made, where `has_store` finds none.

    Raises
    ------
    StoreError
        If the store cannot be opened or written to; nothing is added then.
    """
    if not has_store(url, folder):
        return None
    with (
        Store.open(url, folder) as store,
        store.begin("add to the ledger") as connection,
        connection.cursor() as cursor,
    ):
        return sum(_add(cursor, lineage, block) for block in blocks)


def _add(cursor: Any, lineage: str, block: pl.DataFrame) -> int:
    """Add one block unless it is there; return 1 if it was added, else 0."""
    key = ("lineage", "month", "version", "role")
    told = ("sub_segment", "state", "changing", "changing_to", "changing_since")
    columns = (*key, "entity", "segment", "strength", "settled", *told)
    table = block.select(pl.lit(lineage).alias("lineage"), *columns[1:])
    same = " AND ".join(f"{name} = %s" for name in key)
    cursor.execute(
        f"SELECT 1 FROM segment_ledger WHERE {same} LIMIT 1", table.select(key).row(0)
    )
    if cursor.fetchone() is not None:
        return 0
    text = table.with_columns(escaped(pl.col(pl.String)))
    copy_into(cursor, f"segment_ledger ({', '.join(columns)})", text)
    return 1
