"""One month of a refresh: ingested, scored, compared, recorded.

Everything is part of the artifacts' stage ``refresh`` and belongs to a lineage of
models: ``refresh.json`` (this module), one Parquet file per block of the ledger, and
``drift.parquet``. Blocks are only ever added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.artifacts.folder import Artifacts, StageWriter
from core.artifacts.reading import ArtifactSet
from core.config import Config, RefreshConfig
from core.errors import (
    PROGRAM,
    ArtifactError,
    ConfigError,
    SourceError,
    listed,
    preceded_by,
)
from core.evaluation.drift import DriftOptions, DriftReport, measure_drift
from core.evaluation.drift_reference import DriftReference, MonthRows, usual_months
from core.evaluation.retrain_policy import TriggerState
from core.models.scaling import feature_matrix
from core.months import month_index, month_label
from core.resolve import resolve_config, unaddressed
from core.retailers.files import RETAILERS
from core.retailers.history import HISTORY
from core.retailers.model import LIFE_CYCLE, PREDICTION_SCHEMA, Model
from core.retailers.monthly import (
    ARCHIVE,
    T,
    add_months,
    archived_months,
    sales_as_trained,
    shop_series,
    write_archive,
)
from core.retailers.prepare import THIN_MONTH_SHARE, Prepared, prepare
from core.retailers.states import FLOWS_SCHEMA
from core.segments.changing import Months
from core.segments.ledger import complete_block
from core.tables.exact import MILLIONTHS
from core.tables.files import counted
from core.tables.sales import Sales, read_sales, sales_from_frame

# What a refresh may be told; everything else is the model's.
FREE_SECTIONS = (
    *("artifacts", "csv_safety", "data", "refresh", "report", "axes", "store"),
)


def refresh_config(
    artifacts: str | None,
    file: str | Path | None = None,
    source: str | None = None,
    assignments: Sequence[str] = (),
) -> Config:
    """Resolve the configuration of a refresh on top of the model's own.

    Parameters
    ----------
    artifacts : str, optional
        Folder of the model; default as everywhere.
    file, assignments
        As for `core.resolve.resolve_config`.
    source : str, optional
        The new rows; the training data is never read again.

    Raises
    ------
    ConfigError
        As `core.resolve.resolve_config`; also if an option differs that a model cannot
        change from one month to the next.
    ArtifactError
        If the folder holds no complete run.
    """
    folder = resolve_config(file, {"artifacts": artifacts}, assignments).artifacts
    published = Artifacts(folder, RETAILERS).complete()
    saved = published.manifest.config
    base = unaddressed(saved).model_copy(update={"artifacts": folder})
    flags = {"data.input": source, "artifacts": folder}
    config = resolve_config(file, flags, assignments, base=base)
    for section in Config.model_fields:
        is_free = section in FREE_SECTIONS
        if not is_free and getattr(config, section) != getattr(saved, section):
            raise ConfigError(
                f"`{section}` differs from what the model in `{folder}` was trained "
                "with, which a refresh has to keep. Leave it out, or train again with "
                f"`{PROGRAM} run`."
            )
    return config


RECORD = "refresh.json"
DRIFT = "drift.parquet"
STATE_FLOWS = "state-flows.parquet"


class MonthRecord(BaseModel):
    """What happened in one month.

    Attributes
    ----------
    month : str
        YYYY-MM.
    version : int
        Of the model that served when the month came.
    published : int or None
        Version published in it, if any.
    decision, reason : str
        See `core.retailers.report.decision.RefreshFacts`.
    shares : dict of int to float
        Share of every segment, by the model that served; -1: unassigned.
    """

    model_config = ConfigDict(extra="forbid")
    month: str
    version: int
    published: int | None = None
    decision: str
    reason: str = ""
    shares: dict[int, float]


class Record(BaseModel):
    """The content of ``refresh.json``.

    Attributes
    ----------
    format : int
    trigger : TriggerState
        Of the drift.
    months : list of MonthRecord
        Ascending.
    blocks : list of str
        Files of the ledger, in the order in which they were written.
    """

    model_config = ConfigDict(extra="forbid")
    format: Literal[1] = 1
    trigger: TriggerState = Field(default_factory=TriggerState)
    months: list[MonthRecord] = Field(default_factory=list)
    blocks: list[str] = Field(default_factory=list)

    @classmethod
    def of(cls, base: ArtifactSet) -> Record:
        """Read the record of a set; an empty one where nothing was recorded yet.

        Raises
        ------
        ArtifactError
            If the file is not such a record.
        """
        if RECORD not in base.manifest.files:
            return cls()
        try:
            return cls.model_validate_json(base.read(RECORD))
        except ValidationError as error:
            raise ArtifactError(
                f"`{base.folder / RECORD}` does not hold the record of refreshes "
                f"({error}). Restore it, or go back with `{PROGRAM} rollback`."
            ) from None

    def write(self, out: StageWriter) -> None:
        """Write ``refresh.json``."""
        text = self.model_dump_json(indent=2) + "\n"
        out.path(RECORD).write_text(text, encoding="utf-8")


class Ledger:
    """The blocks of a set, and those that a refresh adds.

    Parameters
    ----------
    base : ArtifactSet
        Holds the blocks written so far.
    out : StageWriter
        Takes new ones.
    record : Record
        Lists both.
    """

    def __init__(self, base: ArtifactSet, out: StageWriter, record: Record) -> None:
        self._base, self._out, self._record = base, out, record
        self._new: dict[str, pl.DataFrame] = {}

    def add(self, block: pl.DataFrame) -> None:
        """Write one more block."""
        month, version = block["month"][0], block["version"][0]
        name = f"ledger-{month}-v{version:03d}.parquet"
        # A model may serve, be replaced and come back within one month.
        repeat = sum(known.startswith(name[:-8]) for known in self._record.blocks)
        if repeat:
            name = f"{name[:-8]}-{repeat + 1}.parquet"
        self._new[name] = block
        block.write_parquet(self._out.path(name), compression="zstd")
        self._record.blocks.append(name)

    def blocks(self, last_months: int | None = None) -> list[pl.DataFrame]:
        """Return the blocks in order; those of the last months where asked for."""
        names = self._record.blocks
        if last_months is not None:
            wanted = sorted({_month_of(name) for name in names})[-last_months:]
            names = [name for name in names if _month_of(name) in wanted]
        new, base = self._new, self._base
        return [new[n] if n in new else complete_block(base.table(n)) for n in names]


def _month_of(name: str) -> str:
    """Return the month of a block's file name."""
    return name.removeprefix("ledger-")[:7]


def read_drift(base: ArtifactSet) -> pl.DataFrame | None:
    """Return the drift of the months recorded, if any."""
    if DRIFT not in base.manifest.files:
        return None
    return base.table(DRIFT)


def read_state_flows(base: ArtifactSet) -> pl.DataFrame:
    """Return the flows of states of the months recorded, `FLOWS_SCHEMA`."""
    if STATE_FLOWS not in base.manifest.files:
        return pl.DataFrame(schema=FLOWS_SCHEMA)
    return base.table(STATE_FLOWS)


def ledger_blocks(base: ArtifactSet) -> list[pl.DataFrame]:
    """Return all blocks of a published set, in the order in which they were written."""
    names = Record.of(base).blocks
    return [complete_block(base.table(name)) for name in names]


@dataclass(frozen=True)
class Delivery:
    """The sales up to now, and which months of them are new.

    Attributes
    ----------
    archive : Path
        All sales, the new months included.
    months : list of str
        New months, ascending, without a gap after the last one recorded.
    is_changed : bool
        Whether `archive` holds other rows than before.
    lines : list of str
        What the user should know of the rows.
    rejected : DataFrame or None
        Rows set aside; None where no rows were handed in.
    """

    archive: Path
    months: list[str]
    is_changed: bool
    lines: list[str] = field(default_factory=list)
    rejected: pl.DataFrame | None = None


def receive(
    base: ArtifactSet,
    config: Config,
    last: str,
    work: Path,
    *,
    has_products: bool,
    frame: Any = None,
    restate: bool = False,
) -> Delivery:
    """Read what was handed in, and add its new months to the archive.

    Parameters
    ----------
    base : ArtifactSet
        The published run.
    config : Config
        Names the input, if `frame` does not.
    last : str
        Last month recorded, ``YYYY-MM``.
    work : Path
        Folder for the new archive and interim files.
    has_products : bool
        Whether the model was trained with products, and so the archive has them.
    frame : pandas, Polars, DuckDB or Arrow table, optional
        Rows instead of an input.
    restate : bool
        Whether earlier months that differ from the archive replace its rows.

    Raises
    ------
    SourceError, SchemaError
        If the rows cannot be had or used, a month is missing before the new ones, or
        the only new month is not complete.
    FeatureMismatchError
        If the rows have no products, and the archive has.
    ArtifactError
        If the run kept no sales.
    """
    known = _archive_of(base)
    if frame is None and config.data.input is None:
        return Delivery(known, [], is_changed=False)
    if frame is None:
        sales = read_sales(config, work / "reading")
    else:
        sales = sales_from_frame(frame, config, work / "reading")
    sales = sales_as_trained(sales, has_products, work / "as_trained.parquet")
    received = work / "received.parquet"
    write_archive(sales, received)
    months, before = archived_months(received), archived_months(known)
    lines = [*sales.intake.summary()]
    new = [month for month in months if month > last]
    if new:
        with preceded_by([*lines]):
            new = _complete(new, sales, received, known, lines)
            _refuse_gap(last, new)
    differing = [m for m in months if m <= last and months[m] != before.get(m)]
    if differing:
        lines.append(_told(differing, restate=restate))
    taken = [*new, *(differing if restate else [])]
    if not taken:
        return Delivery(known, [], False, lines, sales.rejected)
    grown = work / ARCHIVE
    add_months(known, received, taken, grown)
    return Delivery(grown, new, True, lines, sales.rejected)


def _archive_of(base: ArtifactSet) -> Path:
    """Return the archive of a run."""
    if ARCHIVE not in base.manifest.files:
        raise ArtifactError(
            f"`{base.folder}` holds no `{ARCHIVE}`: its model was trained by an "
            f"earlier version, which kept no sales. Train again with `{PROGRAM} run`."
        )
    return base.path(ARCHIVE)


def _complete(
    new: list[str], sales: Sales, received: Path, known: Path, lines: list[str]
) -> list[str]:
    """Leave out a newest month that is not complete; refuse if nothing is left."""
    newest = new[-1]
    why = _why_incomplete(newest, sales, received, known)
    if why is None:
        return new
    if len(new) == 1:
        raise SourceError(
            f"{newest} is not complete: {why}. Nothing was recorded; run the refresh "
            "again when the month is over and its rows are all there."
        )
    lines.append(f"{newest} is not complete ({why}) and waits for its other rows.")
    return new[:-1]


def _why_incomplete(
    newest: str, sales: Sales, received: Path, known: Path
) -> str | None:
    """Return why a month cannot be taken for a whole one, if so."""
    if sales.intake.partial_last_month == newest:
        return "its dates end more than three days before the month does"
    shops = pl.col("shop_id").n_unique()
    month = pl.scan_parquet(received, glob=False).filter(month_index(newest) == T)
    n = int(month.select(shops).collect().item())
    by_month = pl.scan_parquet(known, glob=False).group_by(T).agg(shops)
    usual = float(by_month.select(pl.col("shop_id").median()).collect().item() or 0)
    if n < THIN_MONTH_SHARE * usual:
        return f"it has {counted(n, 'shop')}, a usual month {usual:,.0f}"
    return None


def _refuse_gap(last: str, new: list[str]) -> None:
    """Raise where a month is missing between the last recorded one and the new ones."""
    expected = range(month_index(last) + 1, month_index(new[-1]) + 1)
    missing = [label for t in expected if (label := month_label(t)) not in new]
    if missing:
        raise SourceError(
            f"{listed(missing)} is missing: the last month recorded is {last}, the "
            f"rows handed in are of {listed(new)}. Refresh the missing months first, "
            "or hand in all of them at once."
        )


def _told(differing: list[str], *, restate: bool) -> str:
    """Say what became of earlier months that came again with other rows."""
    found = (
        f"Earlier months came with other rows than were recorded: {listed(differing)}"
    )
    if restate:
        return f"{found}; their sales were replaced. The ledger stays as it was."
    return f"{found}; left as they were (`--restate` replaces their sales)."


# Of models of earlier versions, which know no rhythm: a shop that sold nothing for half
# a year has closed.
MAX_INACTIVE_MONTHS = 6
SHORTEST_WINDOW = 12
# Fewer shops say little of what is usual.
FEWEST_SHOPS = 50


@dataclass(frozen=True)
class ScoredMonth:
    """The shops of a month, and where a model has them.

    Attributes
    ----------
    month : str
        YYYY-MM.
    features : DataFrame
        ``shop_id``, features and volume of the eligible shops.
    labels : DataFrame
        `core.retailers.model.Model.assign` of them, row by row.
    exclusions : DataFrame
        The other shops, with their reasons.
    states, states_before : DataFrame
        ``shop_id, state`` of the shops that had ever sold, eligible or not, in this
        month and the one before, by one model.
    months : Months
        What the eligible shops sold month by month, row by row.
    sales : DataFrame
        ``shop_id, sales_12_months`` of the shops that sold in the last 12 months.
    """

    month: str
    features: pl.DataFrame
    labels: pl.DataFrame
    exclusions: pl.DataFrame
    states: pl.DataFrame = field(repr=False)
    states_before: pl.DataFrame = field(repr=False)
    months: Months = field(repr=False)
    sales: pl.DataFrame = field(repr=False)

    @property
    def assigned(self) -> pl.DataFrame:
        """What the ledger takes: ``entity, segment, strength, sub_segment, state``.

        The strength is that of the latent cluster; in a partition, or by rules,
        everyone belongs.
        """
        is_density = pl.col("segment_kind") == "density"
        strength = pl.when(is_density).then("latent_cluster_strength").otherwise(1.0)
        return self.labels.select(
            pl.col("shop_id").alias("entity"),
            "segment",
            "sub_segment",
            "state",
            strength=strength,
        )


def window_months(base: ArtifactSet) -> int:
    """Return the months that the features of a model look back over.

    Features of a longer past are drawn less to the average, so a model that learnt from
    two years would see all its shops move as a third one comes in. It goes on looking
    at two, and so do its refits.
    """
    facts = base.manifest.facts("prepare")
    wanted = base.manifest.config.features.history_months
    oldest = facts["intake"]["oldest_month"]
    span = month_index(facts["as_of"]) - month_index(oldest) + 1
    return max(min(wanted, span), SHORTEST_WINDOW)


def monthly_config(base: ArtifactSet, month: str) -> Config:
    """Return a model's configuration for the features of a later month."""
    config = base.manifest.config
    features = config.features.model_copy(
        update={"as_of": month, "history_months": window_months(base)}
    )
    eligibility = config.eligibility
    if LIFE_CYCLE not in base.manifest.files:
        silent = eligibility.max_inactive_months or MAX_INACTIVE_MONTHS
        eligibility = eligibility.model_copy(update={"max_inactive_months": silent})
    return config.model_copy(update={"features": features, "eligibility": eligibility})


def score_month(model: Model, sales: Sales, config: Config, work: Path) -> ScoredMonth:
    """Compute the features of a month, and place its shops.

    Parameters
    ----------
    model : Model
    sales : Sales
        From the archive.
    config : Config
        `monthly_config` of the month.
    work : Path
        Folder for interim files; deleted by the caller.
    """
    assert config.features.as_of is not None  # `monthly_config` names it
    prepared = prepare(config, work, sales, life_cycle=model.life_cycle)
    parts = list(model.score(prepared))
    if parts:
        features, labels = (pl.concat(tables) for tables in zip(*parts, strict=True))
    else:
        features = pl.DataFrame({"shop_id": []}, schema={"shop_id": pl.String})
        labels = pl.DataFrame(schema=PREDICTION_SCHEMA)
    months = _months_of(prepared)
    earlier = prepared.states_at(month_index(prepared.as_of) - 1)
    return ScoredMonth(
        prepared.as_of,
        features,
        labels,
        prepared.exclusions.collect(),
        prepared.states.collect(),
        earlier,
        months,
        _sales_of_year(prepared),
    )


def _sales_of_year(prepared: Prepared) -> pl.DataFrame:
    """Return the units that shops sold in the last 12 months, eligible or not."""
    t = month_index(prepared.as_of)
    months = pl.scan_parquet(prepared.work / "monthly", glob=False)
    year = months.filter(pl.col("t").is_between(t - 11, t))
    units = pl.col("quantity").sum() / MILLIONTHS
    return year.group_by("shop_id").agg(sales_12_months=units).collect()


def _months_of(prepared: Prepared) -> Months:
    """Return what the eligible shops sold, month by month."""
    monthly, concentration = prepared.work / "monthly", prepared.work / "concentration"
    is_eligible, as_of_t = pl.col("reason").is_null(), prepared.known.as_of_t
    eligible = prepared.shops.filter(is_eligible).collect()["shop_id"]
    span, n = prepared.known.span, max(len(eligible), 1)
    for shops in shop_series(monthly, concentration, eligible, span, n):
        return Months.of(shops.t, shops.quantity, shops.n_products)
    return Months.of(
        np.arange(as_of_t, as_of_t + 1), np.zeros((0, 1)), np.zeros((0, 1))
    )


def drift_of(
    reference: DriftReference,
    model: Model,
    scored: ScoredMonth,
    previous_shares: dict[int, float] | None,
    options: RefreshConfig,
) -> DriftReport:
    """Measure how a month differs from the training month."""
    X, segments, errors = drift_inputs(model, scored.features)
    return measure_drift(
        reference,
        X,
        segments,
        errors,
        previous_shares=previous_shares,
        names=model.segments.published.names,
        options=DriftOptions(options.drift_thresholds, options.share_shift),
        seed=model.config.seed,
    )


def drift_inputs(
    model: Model, features: pl.DataFrame
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features, segments and reconstruction errors of a month's shops."""
    X = feature_matrix(features, model.features)
    errors = model.encoder.reconstruction_error(model.scaler.transform(X))
    return X, model.segments_of(features), errors


def reference_of(
    base: ArtifactSet, model: Model, training: ScoredMonth
) -> DriftReference:
    """Return what later months are compared with.

    Features of a short window move as the window does: the earlier months that a
    training run keeps say how much of that is usual.
    """
    X, segments, errors = drift_inputs(model, training.features)
    history = base.table(HISTORY)
    usual = usual_months(
        history["as_of"].unique().to_list(),
        base.manifest.facts("prepare")["intake"]["oldest_month"],
        model.as_of,
        window_months(base),
    )
    past = [history.filter(as_of=month).drop("as_of") for month in usual]
    return DriftReference.of(
        X,
        model.features,
        segments,
        errors,
        past=[
            MonthRows(*drift_inputs(model, month))
            for month in past
            if month.height >= FEWEST_SHOPS
        ],
        seed=model.config.seed,
    )
