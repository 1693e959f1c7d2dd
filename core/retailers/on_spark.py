"""Shops on Spark: everyone's features and labels where the rows are, a sample here.

Each partition holds all rows of its shops and runs what one machine runs
(`core.retailers.spark_parts`). Collected are counts, and the rows of a sample, from
which the ordinary stages learn: all shops whose hash is not greater than that of the
last of `clustering.fit_shops` eligible ones, so that it is the same on every engine.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from core.config import Config
from core.errors import ConfigError, FeatureMismatchError
from core.months import month_index, month_label
from core.retailers.monthly import NO_PRODUCTS, grid_start, without_products
from core.retailers.prepare import Known, chosen_as_of, shop_counts
from core.retailers.spark_parts import (
    COUNTS,
    DRAW,
    ENTITY,
    FORMS,
    JUDGED,
    JUDGED_PREFIX,
    KEPT,
    LIVES,
    STATED,
    STATES_PREFIX,
    SUMS,
    Check,
    account_part,
    alike_part,
    aside_part,
    entities_part,
    kept_part,
    lives_part,
    months_part,
    shops_part,
    shops_schema,
    sums_part,
)
from core.retailers.spark_parts import (
    REASON as WHY,
)
from core.segments.states import LifeCycle
from core.spark.rows import CELL, SparkRows, parsed_rows, received_part
from core.spark.session import is_spark, read_as_here, session, ship
from core.spark.sources import SparkSource, read_source, told_of
from core.spark.tables import by_entity, collected, map_tables, on_disk, write
from core.tables.cells import DAY, HASH
from core.tables.columns import ROW
from core.tables.faults import Validation, own_reason, rejected_rows
from core.tables.ids import alike_ids, alike_told, outsized_among, totals_among
from core.tables.readers import fingerprint
from core.tables.sales import SALES, Sales, ValidationReport, report_of, validation_of

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


@dataclass(frozen=True)
class SparkPrepared:
    """What is known of rows on Spark once they are read and their shops are judged.

    Attributes
    ----------
    config : Config
        What it was prepared with.
    intake : ValidationReport
        The account of all rows.
    as_of : str
        Last month looked at, ``YYYY-MM``.
    life_cycle : LifeCycle
        What tells states.
    notes : list of str
        How `as_of` was settled.
    kept : Spark DataFrame
        `core.retailers.spark_parts.KEPT`.
    shops : Spark DataFrame
        `core.retailers.spark_parts.shops_schema`: a row for everyone.
    rejected : Spark DataFrame or None
        ``reason`` and the mapped columns as received; None: no row was set aside.
    examples : DataFrame
        Some of these.
    name : str
        Of the source.
    """

    config: Config
    intake: ValidationReport
    as_of: str
    life_cycle: LifeCycle
    notes: list[str]
    kept: DataFrame
    shops: DataFrame
    rejected: DataFrame | None
    examples: pl.DataFrame
    name: str

    @property
    def features(self) -> DataFrame:
        """The features of the eligible shops, as ``features.parquet`` has them."""
        others = (DRAW, STATES_PREFIX, JUDGED_PREFIX)
        names = [name for name in self.shops.columns if not name.startswith(others)]
        return self._eligible.select(names)

    @property
    def stated_features(self) -> DataFrame:
        """The same with the ``state`` of each shop."""
        state = self.shops[f"{STATES_PREFIX}state"].alias("state")
        return self._eligible.select(*self.features.columns, state)

    @property
    def states(self) -> DataFrame:
        """Everyone's states, as ``shop_states.csv`` has them."""
        months = {
            f"{JUDGED_PREFIX}{name}": name for name in ("first_month", "last_month")
        }
        told = {f"{STATES_PREFIX}{name}": name for name in STATED}
        state = f"{STATES_PREFIX}state"
        order = {state: "state", **months, **told}
        return self._named(self.shops, order)

    @property
    def exclusions(self) -> DataFrame:
        """The shops that are not eligible, as ``exclusions.csv`` has them."""
        reason = self.shops[f"{JUDGED_PREFIX}reason"]
        names = {f"{JUDGED_PREFIX}{name}": name for name in JUDGED}
        names |= {f"{STATES_PREFIX}state": "state"}
        return self._named(self.shops.filter(reason.isNotNull()), names)

    @property
    def _eligible(self) -> DataFrame:
        return self.shops.filter(self.shops[f"{JUDGED_PREFIX}reason"].isNull())

    @staticmethod
    def _named(df: DataFrame, names: dict[str, str]) -> DataFrame:
        return df.select("shop_id", *(df[old].alias(new) for old, new in names.items()))

    def write(self, output: str) -> dict[str, str]:
        """Write what is of everyone; return where each table is."""
        tables = {
            "features": self.features,
            "exclusions": self.exclusions,
            "shop_states": self.states,
        }
        if self.rejected is not None:
            tables["rejected_rows"] = self.rejected
        with told_of(self.name):
            return {name: write(df, output, name) for name, df in tables.items()}

    def facts(self) -> dict[str, Any]:
        """Return how many shops there are, are eligible, or why they are not."""
        reason = f"{JUDGED_PREFIX}reason"
        found = collected(self.shops.groupBy(reason).count())
        return shop_counts(dict(found.sort("count", descending=True).iter_rows()))

    def sample(self, work: Path) -> Sales:
        """Collect the rows of the sample, as sales that need no further check.

        Parameters
        ----------
        work : Path
            Gets a Parquet file, which must outlive the result.
        """
        rows, drawn = self.kept, self.config.clustering.fit_shops
        if drawn is not None and drawn < self.intake.n_shops:
            last = self._eligible.select(DRAW).orderBy(DRAW).limit(drawn)
            limit = last.agg({DRAW: "max"}).head()[0]
            if limit is not None:
                among = self.shops.filter(self.shops[DRAW] <= limit)
                rows = rows.join(among.select("shop_id"), "shop_id", "left_semi")
        path = work / "sample.parquet"
        collected(rows).select(list(KEPT)).sort(SALES.key).write_parquet(path)
        told = {
            "source": self.name,
            "options": self.config.data.model_dump(mode="json"),
            "rows": self.intake.rows_read,
        }
        frame = pl.scan_parquet(path, glob=False)
        return Sales(frame, path, self.examples, self.intake, fingerprint(told))


@contextmanager
def prepared_on_spark(
    config: Config,
    frame: Any = None,
    *,
    has_products: bool | None = None,
    life_cycle: LifeCycle | None = None,
    not_before: str | None = None,
) -> Iterator[SparkPrepared]:
    """Read and check rows on Spark and judge their shops, for as long as it is open.

    Parameters
    ----------
    config : Config
        Says what to read and by which rules.
    frame : Spark DataFrame, optional
        Rows to use instead of the configured source.
    has_products, life_cycle
        As for `core.retailers.prepare.prepare`.
    not_before : str, optional
        ``YYYY-MM``: `as_of` is not earlier.

    Raises
    ------
    SourceError, SchemaError, FeatureMismatchError, ConfigError
        As `core.retailers.prepare.prepare`.
    """
    spark = session(config.spark) if frame is None else frame.sparkSession
    ship(spark)
    held: list[DataFrame] = []
    with read_as_here(spark) if frame is None else _as_it_is():
        source = _source(spark, config, frame)
        try:
            with told_of(source.name):
                prepared = _prepared(
                    source, config, held, has_products, life_cycle, not_before
                )
            yield prepared
        finally:
            for df in held:
                df.unpersist()


@contextmanager
def _as_it_is() -> Iterator[None]:
    """Leave a session as its user has set it: moments are shown in its time zone."""
    yield


def _source(spark: SparkSession, config: Config, frame: Any) -> SparkSource:
    """Return the rows as received."""
    if frame is not None:
        return SparkSource(frame, "the frame")
    if config.data.input is None:
        raise ConfigError(
            "`features.engine` is `spark`, which reads what `--input` names: a file, "
            "folder or address of Parquet or CSV, or a table. For the built-in sample, "
            "leave `--engine spark` out."
        )
    return read_source(spark, config.data.input, config.data)


def _held(df: DataFrame, held: list[DataFrame]) -> DataFrame:
    held.append(on_disk(df))
    return held[-1]


whole = partial(map_tables, is_whole=True)


def _prepared(
    source: SparkSource,
    config: Config,
    held: list[DataFrame],
    has_products: bool | None,
    life_cycle: LifeCycle | None,
    not_before: str | None,
) -> SparkPrepared:
    rows = parsed_rows(source, config.data.columns, SALES, config.data)
    names_products = "product_id" not in rows.parsed.lacking
    if has_products and not names_products:
        raise FeatureMismatchError(NO_PRODUCTS)
    checked = validation_of(rows.parsed, config.data, rows.groups)
    checked.stop_at_errors(SALES.own_faults)
    schema = {**rows.schema, ENTITY: rows.schema["shop_id"]}
    read = map_tables(rows.df, entities_part, schema, rows.reading)
    parts = _held(by_entity(read, ENTITY, checked.n_read), held)
    check, counts = _checked(parts, rows, checked)
    if has_products is False and names_products:
        check = replace(check, has_products=False)
    kept = _held(whole(parts, kept_part, KEPT, check), held)
    intake = _accounted(checked, counts, _alike_shops(kept))
    if has_products is False and names_products:
        intake = without_products(intake)
    known, notes = _known(kept, intake, config, life_cycle, not_before)
    return SparkPrepared(
        config=config,
        intake=intake,
        as_of=month_label(known.as_of_t),
        life_cycle=known.life_cycle,
        notes=notes,
        kept=kept,
        shops=_held(whole(kept, shops_part, shops_schema(config), known), held),
        rejected=_rejected(rows, parts, check) if checked.n_aside else None,
        examples=checked.examples,
        name=source.name,
    )


def _known(
    kept: DataFrame,
    intake: ValidationReport,
    config: Config,
    life_cycle: LifeCycle | None,
    not_before: str | None,
) -> tuple[Known, list[str]]:
    """Return what is of all shops together, and what to tell of `as_of`."""
    months = collected(whole(kept, months_part, {"t": pl.Int64, "n": pl.Int64}))
    months = months.group_by("t").agg(pl.col("n").sum())
    as_of_t, notes = chosen_as_of(months, intake, config.features.as_of)
    if not_before is not None:
        as_of_t = max(as_of_t, month_index(not_before))
    # Typed by Polars as of any kind, though it is of Int64.
    oldest: Any = months["t"].min()
    first_t = grid_start(oldest, as_of_t)
    if life_cycle is None:
        lives = collected(whole(kept, lives_part, LIVES, as_of_t)).drop("as_of")
        since = months.filter(pl.col("t").is_between(first_t, as_of_t))
        options = config.states.rules, config.states.thresholds
        life_cycle = LifeCycle.from_counts(since, lives, as_of_t, *options)
    return Known(config, as_of_t, first_t, life_cycle), notes


def _checked(
    parts: DataFrame, rows: SparkRows, checked: Validation
) -> tuple[Check, dict[str, pl.DataFrame]]:
    """Hold rows against each other; return how, and `COUNTS` of all by their kind."""
    has_products = "product_id" not in rows.parsed.lacking
    check = Check(checked.policies, checked.dropped, has_products, checked.n_read, {})
    counts = _counts(parts, check)
    totals = _totals(parts, check, counts)
    if any(totals.values()):
        check = replace(check, totals=totals)
        counts = _counts(parts, check)
    of = {str(kind): table for (kind,), table in counts.group_by("kind")}
    of = defaultdict(counts.clear, of)
    checked.found |= dict(of["found"].select("text", "n").iter_rows())
    checked.aside = dict(of["aside"].select("text", "n").iter_rows())
    flagged = rows.parsed.rows.filter(SALES.has_any(check.dropped))
    named = flagged.select(ROW, reason=own_reason(SALES, check.dropped)).collect()
    checked.examples = rejected_rows(rows.parsed, named)
    checked.stop_at_errors(["exact_duplicate", "repeated_key", "total_row"])
    checked.stop_without_rows()
    return check, of


def _accounted(
    checked: Validation, of: Mapping[str, pl.DataFrame], alike_shops: list[str]
) -> ValidationReport:
    """Return the account of all rows, by `COUNTS` and what is odd of shops' ids."""
    sizes, products = of["size"], of["product"]
    n_shops, n_rows = int(sizes["n"].sum()), int((sizes["n"] * sizes["number"]).sum())
    large = of["large"].select(pl.col("text").alias("id"), "n", "value")
    told = [
        *alike_shops,
        *alike_ids(products["text"], "product"),
        *outsized_among(large, n_rows, _median(sizes), n_shops, "shop_id", "row"),
    ]
    day = pl.col("number")
    days = (
        of["day"]
        .lazy()
        .select(
            year=day // 10_000,
            month=day // 100 % 100,
            **{DAY: pl.when(day % 100 > 0).then(day)},
        )
    )
    return report_of(checked, days, n_shops, products.height, told)


def _alike_shops(kept: DataFrame) -> list[str]:
    """Return what is odd about the ids of shops, as `core.tables.ids.alike_ids`."""
    from pyspark.sql import functions as sf

    forms = map_tables(kept.select("shop_id").distinct(), alike_part, FORMS)
    counts = [sf.count(name).alias(name) for name in FORMS]
    distinct = [sf.countDistinct(name).alias(f"distinct_{name}") for name in FORMS]
    found = forms.agg(*counts, *distinct, sf.min("long").alias("least_long"))
    return alike_told(collected(found).row(0, named=True), "shop")


def _median(sizes: pl.DataFrame) -> float:
    """Return the median of numbers, each of which occurs ``n`` times."""
    ordered = sizes.sort("number")
    up_to, values = ordered["n"].cum_sum(), ordered["number"]
    n = int(sizes["n"].sum())
    middle = [values[int(up_to.search_sorted(i + 1))] for i in ((n - 1) // 2, n // 2)]
    return float(sum(middle)) / 2


def _counts(parts: DataFrame, check: Check) -> pl.DataFrame:
    """Return the account of all partitions, added up."""
    from pyspark.sql import functions as sf

    found = map_tables(parts, account_part, COUNTS, check, is_whole=True)
    keys = ("kind", "text", "number")
    sums = found.groupBy(*keys).agg(
        sf.sum("n").alias("n"), sf.sum("value").alias("value")
    )
    return collected(sums).sort(keys)


def _totals(
    parts: DataFrame, check: Check, counts: pl.DataFrame
) -> dict[str, Sequence[str]]:
    """Return the ids that stand for totals, by column."""
    whole = float(counts.filter(pl.col("kind") == "whole")["value"].sum())
    totals: dict[str, Sequence[str]] = {}
    for column, kind in (("shop_id", "large"), ("product_id", "product")):
        groups = [name for name in SALES.key if name != column]
        sums = counts.filter(pl.col("kind") == kind).select(
            pl.col("text").alias("id"), "n", pl.col("value").alias("total")
        )

        def compared(
            ids: Sequence[str],
            candidates: Sequence[str],
            column: str = column,
            groups: Sequence[str] = groups,
        ) -> pl.DataFrame:
            of = {
                "column": column,
                "ids": ids,
                "candidates": candidates,
                "groups": groups,
            }
            df = parts if column != "shop_id" else by_entity(parts, groups[0])
            found = map_tables(df, sums_part, SUMS, (check, of), is_whole=True)
            return collected(found)

        totals[column] = totals_among(sums, whole, compared)
    return totals


def _rejected(rows: SparkRows, parts: DataFrame, check: Check) -> DataFrame:
    """Return the rows set aside, as they were received: equal ones by their hash."""
    from pyspark.sql import functions as sf

    mapped = rows.parsed.columns.values()
    shown = [name for name in mapped if name not in rows.parsed.lacking]
    cells = {f"{CELL}{i}": pl.String for i in range(len(shown))}
    schema = {HASH: pl.Int64} | cells
    received = map_tables(rows.df, received_part, schema, (rows.reading, shown))
    why = {HASH: pl.Int64, WHY: pl.String, "n": pl.Int64}
    aside = map_tables(parts, aside_part, why, check, is_whole=True)
    found = received.dropDuplicates([HASH]).join(aside, HASH)
    times = sf.explode(sf.array_repeat(sf.lit(1), sf.col("n").cast("int")))
    named = [
        sf.col(f"{CELL}{i}").alias(f"{name}_received" if name == "reason" else name)
        for i, name in enumerate(shown)
    ]
    found = found.withColumn("n", times)
    return found.select(sf.col(WHY).alias("reason"), *named)


def is_on_spark(config: Config, frame: Any) -> bool:
    """Return whether rows are on Spark: a frame of it, or none and its engine."""
    if frame is None:
        return config.features.engine == "spark"
    return is_spark(frame)
