"""The verb that hands segments on: CSV, Parquet, or SQL for a database."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from core.cli import app
from core.errors import PROGRAM, ArtifactError, ConfigError, SourceError
from core.rules.dialects import Dialect

if TYPE_CHECKING:
    import polars as pl

    from core.artifacts.reading import ArtifactSet
    from core.rules.grammar import RuleSet


@app.app.command("export")
def export(
    output: Annotated[
        Path,
        typer.Argument(help="File to write: .csv, .parquet or .sql; .yaml for rules."),
    ],
    artifacts: app.Folder = "",
    axis: Annotated[str | None, app.option("One axis of several.", "all")] = None,
    rules: Annotated[
        bool,
        app.option(
            "Export the rules that decide instead: a query for .sql, else YAML."
        ),
    ] = False,
    dialect: Annotated[Dialect, app.option("Database that a .sql is for.")] = "duckdb",
    table: Annotated[
        str | None,
        app.option(
            "Table that a .sql makes, or that the query of `--rules` reads.",
            "segments, or customers",
        ),
    ] = None,
    min_size: Annotated[
        int,
        app.option(
            "Fewest members of a segment; smaller ones are exported together, without "
            "their names.",
            min=1,
        ),
    ] = 1,
) -> None:
    """Write who is in which segment, or the rules that say so, for other programs.

    `--artifacts` names the folder of a run, such as `artifacts` or `artifacts/axes`.
    """
    from core.artifacts.reading import read_published

    def read(found: ArtifactSet | None) -> pl.DataFrame | tuple[RuleSet, str]:
        if found is None or not found.manifest.is_complete:
            raise ArtifactError(
                f"`{artifacts}` holds no complete run; expected a folder with "
                "published segments, such as `artifacts` or `artifacts/axes`."
            )
        return _rules(found) if rules else _members(found, axis)

    content = read_published(Path(artifacts), read, *app.systems())
    if isinstance(content, tuple):
        _write_rules(*content, output, dialect, table or "customers")
    else:
        _write_members(content, output, dialect, table or "segments", min_size)


def _members(found: ArtifactSet, axis: str | None) -> pl.DataFrame:
    """Return a row per entity and axis, as `core.segments.export` takes it."""
    import polars as pl

    from core.artifacts.runs import PROFILES
    from core.errors import did_you_mean, listed
    from core.retailers.files import RETAILERS
    from core.retailers.model import published_segments
    from core.retailers.shop_files import SHOPS, exported_shops
    from core.segments.memberships import exported_customers

    if found.manifest.system is RETAILERS:
        if SHOPS not in found.manifest.files:
            raise ArtifactError(
                f"`{found.folder}` was made by an earlier version, which wrote no "
                f"`{SHOPS}`. Run `{PROGRAM} infer`."
            )
        table = exported_shops(found.table(SHOPS), published_segments(found))
    else:
        table = exported_customers(found.table(PROFILES))
    axes = table["axis"].unique(maintain_order=True).to_list()
    if axis is not None and axis not in axes:
        raise ConfigError(
            f"there is no axis `{axis}`; expected one of {listed(axes, 20)}."
            f"{did_you_mean(axis, axes)}"
        )
    chosen = table if axis is None else table.filter(axis=axis)
    return chosen.with_columns(pl.lit(found.manifest.version).alias("version"))


def _rules(found: ArtifactSet) -> tuple[RuleSet, str]:
    """Return the rules that decide, as published, and the column of ids."""
    import numpy as np

    from core.baskets.files import BASKET_SEGMENTS
    from core.baskets.model import BasketsAssigner
    from core.channels.files import CHANNEL_SEGMENTS
    from core.channels.model import ChannelsAssigner
    from core.retailers.features import SHOP
    from core.retailers.files import RETAILERS
    from core.retailers.model import SegmentAssigner
    from core.segments.rule_axis import SEGMENT

    system = found.manifest.system
    if system in (BASKET_SEGMENTS, CHANNEL_SEGMENTS):
        kind = BasketsAssigner if system is BASKET_SEGMENTS else ChannelsAssigner
        model = kind.of_set(found).model
        ids = model.axes[SEGMENT].ids_of(np.arange(len(model.rules.segments)))
        names = [model.names[SEGMENT][int(i)] for i in ids]
        return _named(model.rules, names), "customer_id"
    if system is RETAILERS:
        segments = SegmentAssigner.from_set(found)
        if segments.published.kind == "rules" and segments.rules is not None:
            published = sorted(segments.published.segments, key=lambda s: s.cluster)
            assert segments.rules.rules is not None  # of this kind
            names = [segment.name for segment in published]
            return _named(segments.rules.rules, names), SHOP.id_column
    raise ArtifactError(
        f"the segments in `{found.folder}` are not rules. `{PROGRAM} rules learn "
        f"--from {found.folder}` learns rules that imitate them, and says how well."
    )


def _named(rules: RuleSet, names: list[str]) -> RuleSet:
    segments = zip(rules.segments, names, strict=True)
    return replace(rules, segments=tuple(replace(s, name=n) for s, n in segments))


def _write_members(
    members: pl.DataFrame, output: Path, dialect: Dialect, table: str, min_size: int
) -> None:
    from core.segments.export import to_statements, with_floor

    told, n_less = with_floor(members, min_size)
    if output.suffix == ".sql":
        _write(output, "".join(to_statements(told, dialect, table)))
        app.print_lines([f"{output}: {told.height:,} rows"])
    else:
        app.write_table(told, output)
    if n_less:
        app.print_lines(
            [
                f"{n_less:,} rows are in segments or sub-segments of fewer than "
                f"{min_size:,} or were taken together with them: their names are left "
                "out."
            ]
        )


def _write_rules(
    rules: RuleSet, id_column: str, output: Path, dialect: Dialect, table: str
) -> None:
    from core.rules.compile import to_sql

    is_sql = output.suffix == ".sql"
    query = to_sql(rules, dialect, table, id_column) if is_sql else ""
    _write(output, query or rules.to_yaml())
    app.print_lines([f"{output}: {len(rules.segments)} rules"])


def _write(output: Path, text: str) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SourceError(f"`{output}` cannot be written ({error}).") from None
