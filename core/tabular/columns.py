"""Columns of any table as numbers on one scale: what is learnt of each, and applied.

Every column counts alike, whatever its unit and however many levels it has: two rows
drawn at random are, on average, equally far apart in each (a squared distance of 2).

number
    Also one typed as text, such as `$1,234.50` and `12%` (`core.tabular.amounts`).
    Winsorised at 1% and scaled to a variance of 1 (`core.models.preprocessing`). First
    the logarithm ``ln(1 + x)``, where no value is below 0, the skewness is above
    `SKEWED` and the logarithm's is smaller.
number with values that stand for themselves
    One that at least `STANDS_ALONE` of the rows have, `FINER` times as many as any
    other, such as 0 among amounts: whether a row has it is a category beside the
    number, and the number is about the other rows alone.
category
    Text, true and false, 1 and 0, and numbers that are said to be categories: one
    indicator per level (one-hot), together scaled to a variance of 1: each divided
    by ``sqrt(sum of p (1 - p))``, p being the shares of the levels. Levels that fewer
    rows than `RARE` (and than `FEWEST`) have, and those after the `MOST_LEVELS` most
    frequent, are one level, ``(other)``. Nothing is taken from a target.
missing values
    A number's is its median. A category's is a level of its own, ``(missing)``, where
    it is frequent enough to be one. So is a number's, in a category beside it, where
    another column is missing in much the same rows (a correlation of `TOGETHER`): cells
    that miss by chance say nothing. A row of which nothing is known has no segment.
left out, and told
    Columns without values, with one value in all rows but fewer than `RARE` (and than
    `FEWEST`), with another text in most rows (names, addresses), whole numbers that
    count the rows, and those that differ in all rows under the name of an id.
refused
    Dates: a moment is no amount. Turn them into days since then.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import reduce
from operator import or_
from types import MappingProxyType
from typing import Any, Final, Literal, Self

import numpy as np
import polars as pl

from core.errors import FeatureMismatchError, SchemaError, did_you_mean, listed
from core.models.centroids import FloatArray, IntArray, Scaling, learn_scaling
from core.models.scaling import LARGEST_VALUE
from core.models.valleys import FINER
from core.tables.dates import fitting_formats
from core.tabular.amounts import AmountForm, amount_form, read_amounts

Kind = Literal["number", "category"]
RARE: Final = 0.01
FEWEST: Final = 5
MOST_LEVELS: Final = 20
SKEWED: Final = 1.0
STANDS_ALONE: Final = 0.1
TOGETHER: Final = 0.5
OTHER: Final = "(other)"
MISSING: Final = "(missing)"
KNOWN: Final = "(known)"
MOSTLY: Final = 0.5
"""Share of the rows with a text of their own from which a column tells them by name."""
_DATE_CELLS: Final = 1000
_ID_NAME: Final = re.compile(
    r"(^|[\W_])(id|uuid|guid|key|number|no|nr)$", re.IGNORECASE
)
_ID_NAME_IN_CAPITALS: Final = re.compile(r"[a-z](ID|Id)$")
_ISO: Final = r"^\d{4}-\d{1,2}-\d{1,2}([T ].*)?$"


@dataclass(frozen=True)
class ColumnPlan:
    """How one column is turned into numbers.

    Attributes
    ----------
    name : str
    kind : {'number', 'category'}
    fill : float
        Of a number: the median, for what is missing.
    is_log : bool
        Of a number: whether distances are taken on its logarithm.
    levels : tuple of str
        Of a category: by descending frequency, ``(missing)`` and ``(other)`` last,
        where there are any. Of a number: the values of `alone`, ``(missing)`` where it
        is one, and all others last; mostly none.
    form : AmountForm or None
        Of a number that is typed as text: how.
    alone : tuple of float
        Of a number: values that stand for themselves.
    words : tuple of str
        Of a number: what a segment of high values is called, and one of low values;
        empty: high or low, and the column's name.
    """

    name: str
    kind: Kind
    fill: float = 0.0
    is_log: bool = False
    levels: tuple[str, ...] = ()
    form: AmountForm | None = None
    alone: tuple[float, ...] = ()
    words: tuple[str, ...] = ()

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the encoded columns: that of a number, and those of levels."""
        number = (self.name,) if self.kind == "number" else ()
        return (*number, *self.level_features)

    @property
    def level_features(self) -> tuple[str, ...]:
        """Names of the indicators: name and level."""
        return tuple(f"{self.name}={level}" for level in self.levels)

    def read(self, column: pl.Series) -> pl.Series:
        """Return a number's values as float64, null where unknown; a category as it is.

        Raises
        ------
        FeatureMismatchError
            If a number is asked for, and the column holds others.
        """
        if self.kind == "category":
            return column
        if column.dtype == pl.String and self.form is not None:
            cells = _text(column)
            found = read_amounts(cells, self.form)
            lost = cells.filter(found.is_null() & ~cells.is_in(self.form.words))
            if lost.null_count() < len(lost):
                raise FeatureMismatchError(
                    f"`{self.name}` held numbers when the segments were learnt; "
                    f"`{lost.drop_nulls()[0]}` is none of the kind. Expected numbers "
                    "written as before, or empty cells."
                )
            return found
        if not column.dtype.is_numeric() and column.null_count() < len(column):
            raise FeatureMismatchError(
                f"`{self.name}` held numbers when the segments were learnt; it "
                f"holds {column.dtype} now. Expected numbers."
            )
        return _numbers(column)

    def encoded(self, column: pl.Series) -> list[pl.Series]:
        """Return the encoded columns of what was `read`, float64; none missing."""
        if self.kind == "number":
            return self._encoded_number(column)
        text = _levels_of(column, self.levels)
        return [
            (text == level).fill_null(False).cast(pl.Float64).alias(feature)
            for level, feature in zip(self.levels, self.level_features, strict=True)
        ]

    def _encoded_number(self, column: pl.Series) -> list[pl.Series]:
        """Return the number, and one indicator for each of its levels."""
        number = column.set(column.is_in(self.alone), None).fill_null(self.fill)
        if not self.levels:
            return [number]
        is_level = [(column == value).fill_null(False) for value in self.alone]
        if MISSING in self.levels:
            is_level.append(column.is_null())
        is_level.append(~reduce(or_, is_level))
        own = [one.cast(pl.Float64) for one in is_level]
        return [number, *map(pl.Series.alias, own, self.level_features)]


@dataclass(frozen=True)
class TableEncoding:
    """What was learnt of the columns of a table.

    Attributes
    ----------
    columns : tuple of ColumnPlan
        Those that count, in the order of the table.
    skipped : dict of str to str
        Columns that were left out, and why.
    """

    columns: tuple[ColumnPlan, ...]
    skipped: dict[str, str]

    @classmethod
    def learn(
        cls,
        table: pl.DataFrame,
        *,
        categories: Collection[str] = (),
        drop: Collection[str] = (),
        words: Mapping[str, tuple[str, str]] = MappingProxyType({}),
    ) -> Self:
        """Decide what becomes of every column.

        Parameters
        ----------
        table : DataFrame
            Without the ids; a row per entity.
        categories : collection of str
            Numbers that stand for categories, such as codes.
        drop : collection of str
            Columns to leave out.
        words : mapping of str to (str, str)
            `ColumnPlan.words` of numbers, by column.

        Raises
        ------
        SchemaError
            For dates, infinite numbers, lists, and a table of one row or without a
            column to segment by.
        """
        _require_columns(table, [*categories, *drop])
        if table.height == 1:
            raise SchemaError("there is one row, and one row has no segments.")
        skipped = dict.fromkeys(drop, "left out as asked")
        kept = [column for column in table if column.name not in skipped]
        _refuse_dates(kept)
        plans = []
        for column in kept:
            found = _plan(column, is_category=column.name in categories)
            if isinstance(found, str):
                skipped[column.name] = found
            else:
                plans.append(replace(found, words=tuple(words.get(found.name, ()))))
        plans = _with_missing_levels(plans, kept)
        if not plans:
            raise SchemaError(
                f"the table has no column to segment by; {listed(table.columns)} were "
                f"left out: {'; '.join(dict.fromkeys(skipped.values())) or 'none'}. "
                "Expected numbers or categories that differ between rows."
            )
        made = cls(tuple(plans), skipped)
        twice = [name for name, n in Counter(made.features).items() if n > 1]
        if twice:
            raise SchemaError(
                f"{listed(twice)} would be the name of a column and of a level of "
                "another one. Rename one of the two columns."
            )
        return made

    @property
    def features(self) -> list[str]:
        """Names of the encoded columns."""
        return [feature for plan in self.columns for feature in plan.features]

    @property
    def blocks(self) -> list[slice]:
        """Where among the encoded columns the levels of each column stand."""
        found, end = [], 0
        for plan in self.columns:
            end += len(plan.features)
            if plan.levels:
                found.append(slice(end - len(plan.levels), end))
        return found

    def fixed_features(self, row: FloatArray) -> list[str]:
        """Return the encoded columns that cannot move bit by bit from a row.

        Levels cannot, nor can a number where the row has one of its levels.

        Parameters
        ----------
        row : ndarray of shape (n_features,)
            Encoded.
        """
        found: list[str] = []
        end = 0
        for plan in self.columns:
            end += len(plan.features)
            is_apart = plan.levels and not row[end - 1] > 0
            found.extend(plan.features if is_apart else plan.level_features)
        return found

    def encode(self, table: pl.DataFrame) -> pl.DataFrame:
        """Return the encoded columns, float64; null in rows of which nothing is known.

        Raises
        ------
        FeatureMismatchError
            If a column is missing, or holds text where it held numbers.
        """
        missing = [p.name for p in self.columns if p.name not in table.columns]
        if missing:
            hint = did_you_mean(missing[0], table.columns)
            raise FeatureMismatchError(
                f"the segments were learnt from {len(self.columns)} columns; the table "
                f"lacks {listed(missing)}.{hint} Hand in all of them; an unknown value "
                "may stay empty."
            )
        refuse_infinite(table.select(plan.name for plan in self.columns))
        own = pl.DataFrame([plan.read(table[plan.name]) for plan in self.columns])
        encoded = pl.DataFrame(
            [made for plan in self.columns for made in plan.encoded(own[plan.name])]
        )
        is_empty = own.select(pl.all_horizontal(_is_missing(own)).alias("_"))["_"]
        if not is_empty.any():
            return encoded
        return encoded.select(pl.when(~is_empty).then(pl.all()))

    def matrix(self, encoded: pl.DataFrame) -> FloatArray:
        """Return encoded columns, shape (n_rows, n_features), float64; null is NaN."""
        return np.ascontiguousarray(encoded.select(self.features).to_numpy())

    def learn_scaling(self, X: FloatArray) -> Scaling:
        """Return what puts encoded columns on one scale, see the module.

        Parameters
        ----------
        X : ndarray of shape (n_rows, n_features)
            Encoded, all known.
        """
        n = X.shape[1]
        is_number = np.ones(n, dtype=bool)
        lower, upper = np.zeros(n), np.ones(n)
        centre, scale = X.mean(axis=0), np.ones(n)
        for block in self.blocks:
            is_number[block] = False
            spread = np.sqrt((centre[block] * (1 - centre[block])).sum())
            scale[block] = spread if spread > 0 else 1.0
        is_log = np.zeros(n, dtype=bool)
        numbers = np.flatnonzero(is_number)
        plans = [plan for plan in self.columns if plan.kind == "number"]
        for place, plan in zip(numbers, plans, strict=True):
            own = X[:, [place]]
            if plan.levels:  # of the rows it is about
                own = own[X[:, place + len(plan.levels)] > 0]
            learnt = learn_scaling(own, [plan.is_log])
            is_log[place] = plan.is_log
            lower[place], upper[place] = learnt.lower[0], learnt.upper[0]
            centre[place], scale[place] = learnt.centre[0], learnt.scale[0]
        return Scaling(is_log, lower, upper, centre, scale)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {"columns": [asdict(p) for p in self.columns], "skipped": self.skipped}

    @classmethod
    def from_dict(cls, known: Mapping[str, Any]) -> Self:
        """Return the encoding that `as_dict` took apart."""
        plans = [
            ColumnPlan(
                **{
                    **own,
                    "levels": tuple(own["levels"]),
                    "alone": tuple(own.get("alone", ())),
                    "words": tuple(own.get("words", ())),
                    "form": _form_of(own.get("form")),
                }
            )
            for own in known["columns"]
        ]
        return cls(tuple(plans), dict(known["skipped"]))


def _form_of(known: Sequence[Any] | None) -> AmountForm | None:
    if known is None:
        return None
    decimal, sign, words = known
    return AmountForm(decimal, sign, tuple(words))


def refuse_infinite(table: pl.DataFrame) -> None:
    """Refuse infinite numbers and those beyond 1e30, by column.

    Raises
    ------
    SchemaError
    """
    found = {
        column.name: n
        for column in table
        if column.dtype.is_float()
        and (n := int((column.fill_nan(None).abs() > LARGEST_VALUE).sum()))
    }
    if found:
        said = ", ".join(f"`{name}` {n:,}" for name, n in found.items())
        raise SchemaError(
            f"numbers that are infinite or beyond 1e30 ({said}); expected finite ones, "
            "or empty cells where a value is not known."
        )


def _require_columns(table: pl.DataFrame, names: Iterable[str]) -> None:
    for name in names:
        if name not in table.columns:
            raise SchemaError(
                f"the table has no column `{name}`; it has "
                f"{listed(table.columns, 12)}.{did_you_mean(name, table.columns)}"
            )


def _refuse_dates(columns: Iterable[pl.Series]) -> None:
    """Refuse columns of dates, times and durations, of type or of text."""
    names = [column.name for column in columns if _is_date(column)]
    if names:
        raise SchemaError(
            f"{listed(names)} hold dates, and a date is no amount. Turn them into "
            "numbers, such as days since then, or leave them out: "
            f"{' '.join(f'--drop {name}' for name in names)} (in Python: `drop`)."
        )


def _is_date(column: pl.Series) -> bool:
    if column.dtype.is_temporal():
        return True
    if column.dtype != pl.String:
        return False
    cells = column.drop_nulls().unique(maintain_order=True).head(_DATE_CELLS)
    if not len(cells):
        return False
    is_iso = float(cells.str.contains(_ISO).mean() or 0.0)  # type: ignore[arg-type]
    return is_iso > MOSTLY or bool(fitting_formats(cells))


def _plan(column: pl.Series, *, is_category: bool) -> ColumnPlan | str:
    """Return what becomes of a column, or why it is left out."""
    if column.dtype.is_nested() or column.dtype in (pl.Binary, pl.Object):
        raise SchemaError(
            f"`{column.name}` holds {column.dtype}; expected numbers or text. Turn it "
            f"into columns of its own, or leave it out: --drop {column.name}."
        )
    is_category = is_category or _is_flag(column)
    if not is_category and column.dtype.is_numeric():
        return _number_plan(column)
    if not is_category and column.dtype == pl.String:
        form = amount_form(cells := _text(column), MOST_LEVELS)
        if form is not None:
            return _number_plan(read_amounts(cells, form), form)
    return _category_plan(column)


def _is_flag(column: pl.Series) -> bool:
    """Return whether a column says yes and no by 1 and 0."""
    if not column.dtype.is_numeric():
        return False
    known = _numbers(column).drop_nulls().unique()
    return len(known) == 2 and bool(known.is_in([0.0, 1.0]).all())


def _number_plan(column: pl.Series, form: AmountForm | None = None) -> ColumnPlan | str:
    refuse_infinite(column.to_frame())
    known = _numbers(column).drop_nulls().to_numpy()
    if not len(known):
        return "it has no values"
    values, counts = np.unique(known, return_counts=True)
    if len(values) == 1:
        return "it has one value"
    if len(known) - counts.max() < _least(len(column)):
        return "nearly every row has the same value"
    low, high = float(values[0]), float(values[-1])
    if len(values) == len(column) >= 1 / RARE and (known % 1 == 0).all():
        if high - low + 1 == len(known):
            return "it counts the rows"
        if _ID_NAME.search(column.name) or _ID_NAME_IN_CAPITALS.search(column.name):
            return "every row has its own, as an id"
    alone = _alone(values, counts, len(column))
    known = known[~np.isin(known, alone)]
    skewness = _skewness(known)
    is_log = low >= 0 and skewness > SKEWED
    is_log = is_log and abs(_skewness(np.log1p(known))) < skewness
    fill = float(np.median(known))
    levels = [f"{value:.6g}" for value in alone]
    if levels:
        levels.append(f"not {' or '.join(levels)}")
    return ColumnPlan(column.name, "number", fill, is_log, tuple(levels), form, alone)


def _alone(values: FloatArray, counts: IntArray, n_rows: int) -> tuple[float, ...]:
    """Return the values that stand for themselves, see the module."""
    is_alone = counts >= STANDS_ALONE * n_rows
    rest = counts[~is_alone]
    if not is_alone.any() or len(rest) <= MOST_LEVELS:
        return ()
    is_alone &= counts >= FINER * rest.max()
    return tuple(values[is_alone].tolist())


def _with_missing_levels(
    plans: Sequence[ColumnPlan], columns: Collection[pl.Series]
) -> list[ColumnPlan]:
    """Return plans; those of numbers that miss in the rows of another have a level."""
    by_name = {column.name: column for column in columns}
    told = [_missing(plan, by_name[plan.name]) for plan in plans]
    least = [place for place, own in enumerate(told) if _is_between(own)]
    made = list(plans)
    if len(least) < 2:
        return made
    together = np.abs(np.corrcoef(np.array([told[place] for place in least])))
    np.fill_diagonal(together, 0.0)
    for place, most in zip(least, together.max(axis=0), strict=True):
        plan = plans[place]
        if plan.kind == "number" and most >= TOGETHER:
            rest = plan.levels[-1] if plan.levels else KNOWN
            levels = (*plan.levels[:-1], MISSING, rest)
            made[place] = replace(plan, levels=levels)
    return made


def _missing(plan: ColumnPlan, column: pl.Series) -> FloatArray:
    """Return 1 where the cell of a column that counts says nothing, else 0."""
    own = plan.read(column) if plan.kind == "number" else _text(column)
    return own.is_null().to_numpy().astype(float)


def _is_between(indicator: FloatArray) -> bool:
    """Return whether neither nearly all nor nearly no rows have it."""
    n, least = float(indicator.sum()), _least(len(indicator))
    return least <= n <= len(indicator) - least


def _least(n_rows: int) -> float:
    """Return the rows that a level takes, and a column that differs between rows."""
    return max(RARE * n_rows, FEWEST if n_rows >= FEWEST * FEWEST else 1)


def _category_plan(column: pl.Series) -> ColumnPlan | str:
    text = _text(column)
    known = text.drop_nulls()
    n = len(text)
    counts = known.value_counts().sort(
        "count", column.name or "", descending=[True, False]
    )
    if not len(known):
        return "it has no values"
    if counts.height > max(MOST_LEVELS, MOSTLY * len(known)):
        return "nearly every row has its own text"
    least = _least(n)
    frequent = counts.filter(pl.col("count") >= least).head(MOST_LEVELS)
    levels = frequent[column.name].to_list()
    n_rest = n - int(frequent["count"].sum())
    if text.null_count() >= least:
        levels.append(MISSING)
        n_rest -= text.null_count()
    if n_rest:
        levels.append(OTHER)
    if len(levels) < 2:
        return "it has one value" if counts.height == 1 else "its levels are all rare"
    if n - int(frequent["count"].max() or 0) < least:  # type: ignore[arg-type]
        return "nearly every row has the same value"
    return ColumnPlan(column.name, "category", levels=tuple(levels))


def _numbers(column: pl.Series) -> pl.Series:
    return column.cast(pl.Float64).fill_nan(None) + 0.0


def _text(column: pl.Series) -> pl.Series:
    """Return levels as text; whole numbers as such, whatever type holds them."""
    if column.dtype.is_float() or column.dtype.is_decimal():
        numbers = _numbers(column)
        if (numbers.drop_nulls() % 1 == 0).all():
            return numbers.cast(pl.Int64).cast(pl.String)
        return numbers.cast(pl.String)
    text = column.cast(pl.String).str.strip_chars()
    text = text.replace(["True", "False"], ["true", "false"])  # of Python objects
    return text.set(text == "", None)


def _levels_of(column: pl.Series, levels: Collection[str]) -> pl.Series:
    """Return the level of each row; null for one that is none of them."""
    text = _text(column)
    rest = OTHER if OTHER in levels else None
    named = [level for level in levels if level not in (OTHER, MISSING)]
    if MISSING in levels:
        text = text.fill_null(MISSING)
        named.append(MISSING)
    found = text.replace_strict(named, named, default=rest, return_dtype=pl.String)
    return found if rest is None else found.fill_null(rest)


def _is_missing(table: pl.DataFrame) -> list[pl.Expr]:
    """Return for every column whether a cell says nothing."""
    found = []
    for name, dtype in table.schema.items():
        cell = pl.col(name)
        if dtype.is_float():
            cell = cell.fill_nan(None)
        if dtype == pl.String:
            cell = pl.when(cell.str.strip_chars() != "").then(cell)
        found.append(cell.is_null())
    return found


def _skewness(values: FloatArray) -> float:
    """Return the third standardised moment of winsorised values; 0 of equal ones."""
    clipped = np.clip(values, *np.quantile(values, [RARE, 1 - RARE]))
    deviations = clipped - clipped.mean()
    spread = float(np.sqrt(np.mean(deviations**2)))
    if spread <= 1e-12 * max(abs(float(clipped[0])), 1e-300):
        return 0.0
    return float(np.mean((deviations / spread) ** 3))
