"""What a refresh is handed: rows of one or more new months, added to those it knows."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from core.artifacts import ArtifactSet
from core.config import Config
from core.data.intake import counted
from core.data.sources import Sales, read_sales, sales_from_frame
from core.errors import ArtifactError, SourceError, listed
from core.features.archive import ARCHIVE, T, add_months, archived_months, write_archive
from core.features.preparation import THIN_MONTH_SHARE
from core.months import month_index, month_label


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
    frame : pandas, Polars, DuckDB or Arrow table, optional
        Rows instead of an input.
    restate : bool
        Whether earlier months that differ from the archive replace its rows.

    Raises
    ------
    SourceError, SchemaError
        If the rows cannot be had or used, a month is missing before the new ones, or
        the only new month is not complete.
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
    received = work / "received.parquet"
    write_archive(sales, received)
    months, before = archived_months(received), archived_months(known)
    lines = [*sales.intake.summary()]
    new = [month for month in months if month > last]
    if new:
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
            "earlier version, which kept no sales. Train again with `segments run`."
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
