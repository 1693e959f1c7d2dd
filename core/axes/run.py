"""One run of the customer axes: read, learn or place, publish, load into the store.

Everything is written aside and published in one step, so a run that is killed has not
happened. What was published before is gone on from: ids and names of segments live on,
and who moved is written down. The store is loaded last, from the published files, in
one transaction of its own; where that fails, the next run tries again.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.artifacts import Artifacts
from core.axes.files import folder_of, one_at_a_time
from core.axes.learning import Run
from core.axes.loading import load_into_store
from core.axes.marks import Marks
from core.axes.telling import run_lines, unchanged_lines
from core.config import Config
from core.data.purchases import Purchases, purchases_from_frames, read_purchases
from core.errors import ConfigError
from core.logging import get_logger


@dataclass(frozen=True)
class AxesRun:
    """What a run has done.

    Attributes
    ----------
    folder : Path
        The published set.
    facts : dict
        Those of the manifest, JSON-able; with ``is_changed``, and ``stored`` where
        profiles were to be loaded.
    lines : list of str
        The same for people.
    exit_code : int
        0, or that of the error that the loading ended in: the files are published then,
        and the store still serves what it did.
    """

    folder: Path
    facts: dict[str, Any]
    lines: list[str]
    exit_code: int = 0


def run_axes(
    config: Config,
    orders: Any = None,
    items: Any = None,
    *,
    refit: bool = True,
    into_store: bool = True,
) -> AxesRun:
    """Segment customers on 13 behavioural axes, and publish their profiles.

    Parameters
    ----------
    config : Config
        Options of ``axes`` and ``store``; without ``axes.orders`` and `orders` the
        built-in sample is segmented.
    orders, items : pandas, Polars, DuckDB or Arrow table, optional
        Rows instead of files; `items` needs `orders`.
    refit : bool
        Whether the axes are learnt anew from these orders; if not, the published model
        places everyone, if there is one. The same orders under the same options change
        nothing either way.
    into_store : bool
        Whether the profiles are loaded into the store as well.

    Raises
    ------
    SourceError, SchemaError
        If the rows cannot be had or used.
    ArtifactError
        If another run is writing to the folder, or what it holds is unusable.
    FeatureMismatchError
        If the published model is to place customers by columns that are not there.
    ConfigError
        If options contradict each other, or the file of names is not one.
    """
    folder = folder_of(config)
    with (
        one_at_a_time(folder),
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as work,
    ):
        purchases = _received(config, orders, items, Path(work))
        artifacts = Artifacts(folder)
        marks = Marks.of(config, purchases)
        base = artifacts.published()
        if base is not None and marks.are_known(base, refit=refit):
            facts = {**base.manifest.facts("axes"), "is_changed": False}
            lines = unchanged_lines(facts)
        else:
            with artifacts.stage("axes", _without_secrets(config)) as out:
                run = Run(out, artifacts, config, marks, refit=refit)
                facts = {**run.carry_out(purchases), "is_changed": True}
            lines = run_lines(facts, folder)
        if not into_store:
            return AxesRun(folder, facts, lines)
        published = artifacts.published()
        assert published is not None  # just now, or by the run before
        stored = load_into_store(config, published)
        facts["stored"] = stored.facts
        return AxesRun(folder, facts, [*lines, stored.line], stored.exit_code)


def _received(config: Config, orders: Any, items: Any, work: Path) -> Purchases:
    """Return what is to be segmented."""
    get_logger().info("Reading orders and items")
    if orders is not None:
        return purchases_from_frames(orders, items, config, work)
    if items is not None:
        raise ConfigError(
            "`items` were handed in without `orders`; expected both, or orders alone."
        )
    return read_purchases(config, work)


def _without_secrets(config: Config) -> Config:
    """Return what is saved with the set: the store's address may hold a password."""
    store = config.store.model_copy(update={"url": None})
    return config.model_copy(update={"store": store})
