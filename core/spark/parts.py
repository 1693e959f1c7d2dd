"""Whole customers in parts: what one machine does to all rows, done to each part.

Every row learns whose it is, by the same parsing as everywhere; then each partition
holds all rows of its customers, and reads, checks, computes and assigns them as one
machine does. Customers who share an id of an order are kept in one part, so that
repeated and ambiguous ids are found there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import polars as pl

from core.config import DataConfig
from core.errors import SchemaError, SegmentsError
from core.spark.rows import Reading, SparkRows
from core.spark.sources import with_beyond
from core.spark.tables import (
    OLDEST,
    ROWS_AT_ONCE,
    batches_of,
    by_entity,
    collected,
    ddl,
    gathered,
    in_polars,
    map_tables,
)
from core.tables.cells import parse_rows
from core.tables.columns import FLAGS
from core.tables.ids import id_hash
from core.tables.readers import BEYOND

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import Column, DataFrame

Tables = dict[str, pl.DataFrame]
Function = Callable[[Tables, Any], Tables]
# Whose a row is, and its place among those that Spark read.
CUSTOMER, NUMBER = "__customer__", "__number__"
KIND = "__kind__"
REJECTED, ACCOUNT = "rejected", "account"
# Customers who share ids of orders, whose parts the driver puts together.
MOST_SHARING = 500_000
# Before a text that stands for a row of nobody's; no id begins so.
NOBODY = "\0"


def quoted(rows: SparkRows) -> list[str]:
    """Return the columns as received that parts need, as Spark takes odd names."""
    names = [*dict.fromkeys(rows.parsed.columns.values()), *_beyond(rows)]
    return [f"`{name}`" for name in names if name in _received(rows)]


def _beyond(rows: SparkRows) -> list[str]:
    return [] if rows.reading.separator is None else [BEYOND]


def _received(rows: SparkRows) -> list[str]:
    return [*rows.df.columns, *_beyond(rows)]


def parsed(name: str) -> str:
    """Return the column in which `with_parsed` puts a value of ours."""
    return f"__{name}__"


def with_parsed(rows: SparkRows, columns: Mapping[str, str]) -> DataFrame:
    """Return the received rows, numbered, with some cells as values of ours beside.

    Parameters
    ----------
    rows : SparkRows
    columns : mapping of str to str
        Our names that the table has, and their types in Spark.

    Returns
    -------
    Spark DataFrame
        `quoted` columns as received, `NUMBER`, each of `columns` as `parsed` calls it,
        and `FLAGS` (long).
    """
    from pyspark.sql import functions as f
    from pyspark.sql.types import StructType

    numbered = rows.df.withColumn(NUMBER, f.monotonically_increasing_id())
    kept = [name.strip("`") for name in quoted(rows)]
    schema = StructType([own for own in rows.df.schema.fields if own.name in kept])
    for name in _beyond(rows):
        schema = schema.add(name, "string")
    schema = schema.add(NUMBER, "long")
    for name, kind in columns.items():
        schema = schema.add(parsed(name), kind)
    schema = schema.add(FLAGS, "long")
    work = _Parsing(rows.reading, tuple(columns), tuple(schema.names))
    return numbered.mapInArrow(work, schema)


@dataclass(frozen=True)
class _Parsing:
    """Cells as values, beside the batches that they are of."""

    reading: Reading
    columns: tuple[str, ...]
    kept: tuple[str, ...]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        how = self.reading
        for found in gathered(batches, ROWS_AT_ONCE):
            table, received = found, in_polars(found.drop_columns([NUMBER]))
            if how.separator is not None:
                # Lines left empty are no rows.
                is_row = received.select(
                    ~pl.all_horizontal(pl.all().is_null())
                ).to_series()
                table = found.filter(is_row.to_arrow())
                received = with_beyond(received.filter(is_row), how.separator)
                table = _beside(table, BEYOND, received[BEYOND])
            source = how.received(received)
            rows = parse_rows(source, how.wanted, how.spec, how.data).rows
            flags = pl.col(FLAGS).reinterpret(signed=True)
            values = rows.select(*self.columns, flags).collect()
            for name in self.columns:
                table = _beside(table, parsed(name), values[name])
            made = _beside(table, FLAGS, values[FLAGS]).select(self.kept)
            yield from made.to_batches(max_chunksize=ROWS_AT_ONCE)


def _beside(table: pa.Table, name: str, values: pl.Series) -> pa.Table:
    return table.append_column(name, values.to_arrow(compat_level=OLDEST))


def have_times(orders: Mapping[str, DataFrame]) -> dict[str, bool]:
    """Return, by channel, whether orders have a time of day.

    They have none if all of several are at midnight.

    Parameters
    ----------
    orders : mapping of str to Spark DataFrame
        Of `with_parsed`, with `order_time` if there is one.
    """
    from pyspark.sql import functions as f

    moment = parsed("order_time")
    dated = {name: df for name, df in orders.items() if moment in df.columns}
    found = dict.fromkeys(orders, False)
    if not dated:
        return found
    told = [
        df.select(f.lit(name).alias("name"), f.col(moment).alias("at"))
        for name, df in dated.items()
    ]
    whole = reduce(lambda one, other: one.union(other), told)
    is_timed = f.bool_or(f.col("at") != f.date_trunc("DAY", "at"))
    facts = whole.groupBy("name").agg(f.count("at").alias("n"), is_timed.alias("is"))
    # A single order may be of midnight by chance.
    return found | {
        row["name"]: bool(row["is"]) or row["n"] < 2 for row in facts.collect()
    }


def with_decimal(data: DataConfig, readings: Mapping[str, Reading]) -> DataConfig:
    """Return options by which a sample is read as all rows are, as far as they say."""
    marks = {mark for how in readings.values() for mark in how.marks.values()}
    return data.model_copy(update={"decimal": marks.pop()}) if len(marks) == 1 else data


def put_to_customers(
    scopes: Mapping[str, Mapping[str, DataFrame]],
) -> dict[str, dict[str, DataFrame]]:
    """Return orders and items with `CUSTOMER`, who stands for the part of each row.

    Parameters
    ----------
    scopes : mapping of str to mapping of str to Spark DataFrame
        By channel, within which an order id is one, ``orders`` and, if there are any,
        ``items``: of `with_parsed`, with `order_id`, and orders with `customer_id`. An
        item without one of its own is of the customer of its order.
    """
    customer, order = parsed("customer_id"), parsed("order_id")
    pairs = {
        name: own["orders"].select(order, customer).dropna().distinct()
        for name, own in scopes.items()
    }
    together = _sharing(pairs, order, customer)
    told: dict[str, dict[str, DataFrame]] = {}
    for name, own in scopes.items():
        orders = own["orders"]
        told[name] = {
            "orders": with_customer(orders, order, orders[customer], together)
        }
        if "items" in own:
            items, owner = _with_owner(own["items"], pairs[name], order, customer)
            told[name]["items"] = with_customer(items, order, owner, together)
    return told


def _sharing(pairs: Mapping[str, DataFrame], key: str, customer: str) -> dict[str, str]:
    """Return who stands for each of the customers that ids of several put together.

    Raises
    ------
    SchemaError
        If ids are shared by so many customers that they are no ids.
    """
    from pyspark.sql import functions as f

    told = [
        own.select(f.concat(f.lit(f"{name}/"), key).alias(key), customer)
        for name, own in pairs.items()
    ]
    whole = reduce(lambda one, other: one.union(other), told)
    several = whole.groupBy(key).agg(f.count("*").alias("n")).filter("n > 1")
    shared = collected(whole.join(several, key, "left_semi").limit(MOST_SHARING + 1))
    if shared.height > MOST_SHARING:
        raise SchemaError(
            f"more than {MOST_SHARING:,} customers share ids of orders; expected an id "
            "for each order. Do order numbers start again at 1? Put the shop or the "
            "customer before them."
        )
    return joined_groups(shared.select(key, customer).sort(key, customer).rows())


def joined_groups(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return the least member of those that groups put together, by member.

    >>> joined_groups([("o1", "a"), ("o1", "b"), ("o2", "b"), ("o2", "c")])
    {'a': 'a', 'b': 'a', 'c': 'a'}
    """
    above: dict[str, str] = {}

    def top(member: str) -> str:
        while above.setdefault(member, member) != member:
            above[member] = member = above[above[member]]
        return member

    first: dict[str, str] = {}
    for group, member in pairs:
        one, other = top(first.setdefault(group, member)), top(member)
        above[max(one, other)] = min(one, other)
    return {member: top(member) for member in sorted(above)}


def _with_owner(
    items: DataFrame, pairs: DataFrame, key: str, customer: str
) -> tuple[DataFrame, Column]:
    """Return items, and whose each is: its own customer's, or that of its order.

    Of several owners, who are in one part, any.
    """
    from pyspark.sql import functions as f

    owners = pairs.groupBy(key).agg(f.min(customer).alias("__owner__"))
    told = items.join(owners, key, "left")
    own = [f.col(customer)] if customer in items.columns else []
    return told, f.coalesce(*own, f.col("__owner__"))


def with_customer(
    df: DataFrame, key: str, customer: Column, together: Mapping[str, str]
) -> DataFrame:
    """Return rows with `CUSTOMER`, who stands for the part that they belong to.

    Rows of nobody's are spread over all parts, those of an order (`key`) into one.
    """
    from pyspark.sql import functions as f

    nobody = f.concat(f.lit(NOBODY), f.coalesce(key, f.col(NUMBER).cast("string")))
    rows = df.withColumn(CUSTOMER, f.coalesce(customer, nobody))
    if not together:
        return rows
    table = pl.DataFrame({CUSTOMER: list(together), "__of__": list(together.values())})
    known = df.sparkSession.createDataFrame(table.to_arrow(compat_level=OLDEST))
    told = rows.join(f.broadcast(known), CUSTOMER, "left")
    return told.withColumn(CUSTOMER, f.coalesce("__of__", CUSTOMER)).drop("__of__")


def sample_of(
    tables: Mapping[str, DataFrame], n_customers: int
) -> tuple[Tables, int, int]:
    """Return the rows of the customers with the smallest hash of their id.

    Parameters
    ----------
    tables : mapping of str to Spark DataFrame
        With `CUSTOMER`, `NUMBER` and columns as received.
    n_customers : int

    Returns
    -------
    dict of str to DataFrame, int, int
        The rows as received, in their order; how many customers they are of, and how
        many there are. With everybody, rows of nobody's are among them.
    """
    from pyspark.sql import functions as f

    ids = [df.select(CUSTOMER) for df in tables.values()]
    known = reduce(lambda one, other: one.union(other), ids).distinct()
    known = known.filter(~f.col(CUSTOMER).startswith(NOBODY))
    n = known.count()
    kept = dict(tables)
    if n > n_customers:
        schema = {CUSTOMER: pl.String, "hash": pl.Int64}
        hashed = map_tables(known, _with_hash, schema)
        drawn = hashed.orderBy("hash", CUSTOMER).limit(n_customers).select(CUSTOMER)
        kept = {
            name: df.join(f.broadcast(drawn), CUSTOMER, "left_semi")
            for name, df in tables.items()
        }
    rows = collected(_tagged(kept).drop(CUSTOMER))
    found = {name: as_received(own)[0] for name, own in _apart(rows, kept)}
    return found, min(n, n_customers), n


def _with_hash(table: pl.DataFrame, _: Any) -> pl.DataFrame:
    # In the order of unsigned numbers, which Spark does not have.
    signed = (id_hash(table[CUSTOMER]) ^ 2**63).reinterpret(signed=True)
    return table.with_columns(hash=signed)


def as_received(table: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series]:
    """Return rows in their order without what was added, and their numbers."""
    ordered = table.sort(NUMBER)
    return ordered.drop(CUSTOMER, NUMBER, strict=False), ordered[NUMBER]


def map_parts(
    tables: Mapping[str, DataFrame],
    function: Function,
    argument: Any,
    like: Mapping[str, pl.DataFrame],
    *,
    n_rows: int,
) -> DataFrame:
    """Return what a function makes of whole customers, part by part, lazily.

    Parameters
    ----------
    tables : mapping of str to Spark DataFrame
        With `CUSTOMER`, `NUMBER` and columns as received.
    function : callable
        Takes the tables of a part (as received, in their order) and `argument`, and
        returns tables by kind; `REJECTED` has `source_row`, the row in its `table`
        (``CHANNEL/TABLE`` where it has a `channel`). Of a module.
    argument : picklable
    like : mapping of str to DataFrame
        The columns of each kind.
    n_rows : int
        Of all tables.

    Returns
    -------
    Spark DataFrame
        `KIND`, and a structure of each kind, null where the row is of another one;
        take them with `of_kind`. `ACCOUNT` has what is wrong in column ``error``.
    """
    rows = _tagged(tables)
    kinds = {name: _types(table) for name, table in like.items()}
    work = _Parts(function, argument, tuple(tables), kinds)
    columns = ", ".join(f"`{name}` {ddl(pl.Struct(t))}" for name, t in kinds.items())
    spread = by_entity(rows, CUSTOMER, n_rows).drop(CUSTOMER)
    return spread.mapInArrow(work, f"`{KIND}` string, {columns}")


def _tagged(tables: Mapping[str, DataFrame]) -> DataFrame:
    """Return the rows of all tables, each in the structure of its table."""
    from pyspark.sql import functions as f

    rows = [
        df.select(
            f.lit(name).alias(KIND),
            f.col(CUSTOMER).alias(CUSTOMER),
            f.struct(*(df[f"`{c}`"] for c in df.columns)).alias(name),
        )
        for name, df in tables.items()
    ]
    return reduce(lambda a, b: a.unionByName(b, allowMissingColumns=True), rows)


def _apart(
    rows: pl.DataFrame, names: Iterable[str]
) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield each table of `_tagged` rows."""
    for name in names:
        yield name, rows.filter(pl.col(KIND) == name).select(name).unnest(name)


def _types(table: pl.DataFrame) -> dict[str, Any]:
    """Return the types of columns, whole numbers with a sign, as Spark has them."""
    return {
        name: pl.Int64 if kind.is_unsigned_integer() else kind
        for name, kind in table.schema.items()
    }


def of_kind(parts: DataFrame, kind: str) -> DataFrame:
    """Return the table of one kind of what `map_parts` gives."""
    from pyspark.sql import functions as f

    return parts.filter(f.col(KIND) == kind).select(f"{kind}.*")


@dataclass(frozen=True)
class _Parts:
    """A function over the tables of a partition."""

    function: Function
    argument: Any
    names: tuple[str, ...]
    kinds: dict[str, dict[str, Any]]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for table in gathered(batches, None):
            for kind, found in self._made(in_polars(table)).items():
                schema: Any = self.kinds[kind]
                whole = found.select(list(schema)).cast(schema)
                told = whole.select(
                    pl.lit(kind).alias(KIND),
                    *(
                        pl.struct(pl.all()).alias(name)
                        if name == kind
                        else pl.lit(None, pl.Struct(other)).alias(name)
                        for name, other in self.kinds.items()
                    ),
                )
                yield from batches_of(told)

    def _made(self, rows: pl.DataFrame) -> Tables:
        """Return what the function makes of the rows; what it refuses is told."""
        received, numbers = {}, {}
        for name, own in _apart(rows, self.names):
            received[name], numbers[name] = as_received(own)
        try:
            made = self.function(received, self.argument)
        except SegmentsError as error:
            return {ACCOUNT: account_table({"error": [str(error)]})}
        if REJECTED in made:
            made[REJECTED] = _with_numbers(made[REJECTED], numbers)
        return made


def _with_numbers(
    rejected: pl.DataFrame, numbers: Mapping[str, pl.Series]
) -> pl.DataFrame:
    """Return rows set aside with the numbers that Spark gave them, from 1."""
    key = pl.col("table")
    if "channel" in rejected.columns:
        key = pl.concat_str("channel", key, separator="/")
    places = [
        pl.DataFrame({"__key__": name, "source_row": range(1, len(own) + 1), "n": own})
        for name, own in numbers.items()
    ]
    known = pl.concat(
        place.cast({"__key__": pl.String, "source_row": pl.Int64, "n": pl.Int64})
        for place in places
    )
    rows = rejected.with_columns(__key__=key, source_row=pl.col("source_row").cast(int))
    # All tables are made of the rows of one.
    if len(numbers) == 1:
        rows = rows.with_columns(__key__=pl.lit(next(iter(numbers))))
    joined = rows.join(known, on=["__key__", "source_row"], how="left")
    return joined.with_columns(source_row=pl.col("n") + 1).drop("n", "__key__")


def account_table(account: Mapping[str, Any]) -> pl.DataFrame:
    """Return an account as a table of one row, for `merged_account`."""
    return pl.DataFrame({"account": [json.dumps(account)]})


def merged_account(parts: DataFrame) -> dict[str, Any]:
    """Return the accounts of all parts as one.

    Raises
    ------
    SchemaError
        With what a part has refused.
    """
    texts = collected(of_kind(parts, ACCOUNT))["account"]
    account: dict[str, Any] = reduce(_merged, map(json.loads, texts), {})
    if errors := account.get("error"):
        raise SchemaError(errors[0])
    return account


def _merged(one: Any, other: Any) -> Any:
    """Return numbers added up, lists put together, and the first of other values."""
    if isinstance(one, dict) and isinstance(other, dict):
        same = {k: _merged(v, other[k]) if k in other else v for k, v in one.items()}
        return same | {k: v for k, v in other.items() if k not in one}
    if isinstance(one, list) and isinstance(other, list):
        return [*one, *(each for each in other if each not in one)]
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one + other
    return other if one is None else one
