"""Specifications of tables, and how the headers met in the field are matched to them.

A name is taken only where it is meant: mapped by the user, or equal to ours (spaces
around it aside). Look-alikes and well-known synonyms are suggested, never taken.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import polars as pl

from core.errors import ConfigError, SchemaError, did_you_mean, listed
from core.tables.dates import NO_QUARTERS, QUARTER
from core.tables.readers import BEYOND
from core.yaml_text import shipped_yaml

# The number of a received row, from 1, and the flags of what is wrong with it.
ROW = "__row__"
FLAGS = "__flags__"
# A column `date` may stand for these two.
MONTH = ("year", "month")
# What cells of a kind show of how their column was written: `core.tables.marks`.
MARKS = ("three_after_point", "three_after_comma", "decimal_point", "decimal_comma")
CLUES = {
    **dict.fromkeys(("number", "amount", "value"), MARKS),
    "day": ("month_1", "month_2_to_9", "month_01_to_09"),
}
# From this similarity on, a name is suggested; `order_id` and `order_date` have 0.75.
ALIKE = 0.8
# Mapped to this, a column that may be missing is.
NONE = "none"

Kind = Literal[
    "id",
    "day",
    "moment",
    "whole",
    "month",
    "number",
    "amount",
    "value",
    "name",
    "word",
    "flag",
]
EXPECTED = {
    "id": "an id",
    "day": "a date",
    "moment": "a date with its time",
    "name": "text",
    "word": "text",
}


@dataclass(frozen=True)
class Column:
    """One column of ours.

    Attributes
    ----------
    name : str
        Our name.
    kind : str
        What its cells become, and what `flags` tell, in this order:

        - ``id``: String, floats mended; missing, was a float, was in a formula
          or had NUL, is in scientific notation
        - ``day``: `year`, `month` and `core.tables.cells.DAY` in its place; a day
          number of Excel, an ISO week, ISO text beside a format
        - ``moment``: Datetime("us") in UTC; unreadable or not of the years 1900 to
          2199, had a time zone, a day number of Excel, ISO text beside a format
        - ``whole``: Int32; no whole number within `limits`
        - ``month``: the same, or a name; no whole number within `limits`, a name
        - ``number``: Float64; no number within +-1e9
        - ``amount``: Float64 at least 0, 0 where there is none; unreadable, below 0,
          empty
        - ``value``: Float64 or null; unreadable
        - ``name``, ``word``: String, ``unknown`` where empty, a word in lower case;
          empty
        - ``flag``: Boolean, false where empty; neither yes nor no
    synonyms : str
        Names met in the field, lower case, letters and digits only.
    flags : sequence of str
        Faults or repairs of its table's specification; ``""``: not told.
    is_required : bool
        Whether a table without it is refused.
    limits : (int, int)
        Least and greatest of a whole number.
    default : str
        What every row has of it where a table has no column left for it, or the user
        says ``none``; ``""``: it may not be missing.
    """

    name: str
    kind: Kind
    synonyms: str
    flags: Sequence[str] = ()
    is_required: bool = True
    limits: Sequence[int] = ()
    default: str = ""

    @property
    def clues(self) -> list[str]:
        """What its cells show of how the whole column was written, as `FLAGS` say."""
        return [f"{self.name}: {clue}" for clue in CLUES.get(self.kind, ())]


@dataclass(frozen=True)
class Fault:
    """What may be wrong with a row, for which it may be set aside.

    Attributes
    ----------
    name, meaning : str
        As it is saved, and in words.
    about : sequence of str
        Our columns whose cells show why, as examples in messages.
    cure : str
        What was expected of them; ``{name}`` stands for a term of the reading.
    kept_as : str
        What becomes of such a row where the policy is `keep`; ``""``: nothing.
    """

    name: str
    meaning: str
    about: Sequence[str] = ()
    cure: str = ""
    kept_as: str = ""


@dataclass(frozen=True, eq=False)
class TableSpec:
    """One kind of table: all that its reading needs to know beside other tables.

    Attributes
    ----------
    name, noun : str
        What the table is called, and one of its rows.
    option, flag : str
        What maps the user's names: in a configuration, and on the command line.
    columns : tuple of Column
        In our order.
    faults : tuple of Fault
        In the order of the reasons: those of a row by itself, which a flag of a column
        or one of `checks` tells, and those that other rows show.
    repairs : dict of str to str
        Cells put right on the way: flag and sentence about ``{}`` rows, or ``""``.
    checks : dict of str to str
        Further faults of a row by itself: SQL conditions over its columns as read, in
        which what cannot be read is null.
    key : sequence of str
        Columns of ours; rows that are equal in them tell of the same thing.
    has_all_reasons : bool
        Whether a row is set aside for all its faults, or for the first one.
    """

    name: str
    noun: str
    option: str
    flag: str
    columns: tuple[Column, ...]
    faults: tuple[Fault, ...]
    repairs: dict[str, str] = field(default_factory=dict)
    checks: dict[str, str] = field(default_factory=dict)
    key: Sequence[str] = ()
    has_all_reasons: bool = True

    def __getitem__(self, name: str) -> Column:
        """Return the column of that name."""
        return next(column for column in self.columns if column.name == name)

    def mapping(self, pair: str) -> str:
        """Return what maps a pair of names, quoted where a shell needs it."""
        quoted = f'"{pair}"' if " " in pair else pair
        # An option that is set by its path goes on with the name.
        return f"{self.flag}{'' if self.flag.endswith('.') else ' '}{quoted}"

    def fault(self, name: str) -> Fault:
        """Return the fault of that name."""
        return next(fault for fault in self.faults if fault.name == name)

    @cached_property
    def meanings(self) -> dict[str, str]:
        """Each fault in words."""
        return {fault.name: fault.meaning for fault in self.faults}

    @cached_property
    def bits(self) -> dict[str, int]:
        """The bit of each fault, repair and clue in `FLAGS`."""
        clues = [clue for column in self.columns for clue in column.clues]
        names = (*self.meanings, *self.repairs, *clues)
        return {name: 1 << i for i, name in enumerate(names)}

    @cached_property
    def own_faults(self) -> tuple[str, ...]:
        """The faults that a row shows by itself."""
        own = {"ragged_line", "excluded_id", "total_row", *self.checks}.union(
            *(c.flags for c in self.columns)
        )
        return tuple(name for name in self.meanings if name in own)

    def mask(self, names: Iterable[str]) -> int:
        """Return the bits of some faults and repairs together."""
        return sum(self.bits[name] for name in names)

    def has_any(self, names: Iterable[str]) -> pl.Expr:
        """Return whether a row has any of some faults and repairs."""
        return pl.col(FLAGS) & self.mask(names) != 0

    def is_first(self, fault: str) -> pl.Expr:
        """Return whether a row has a fault, and none that comes before it."""
        names = list(self.meanings)
        return self.has_any([fault]) & ~self.has_any(names[: names.index(fault)])


def read_specs(file: str, package: str = "core.tables") -> dict[str, TableSpec]:
    """Return the specifications in a YAML file of a package, by the tables' names.

    Its fields are those of `TableSpec`, with columns and faults by name.
    """
    specs = {}
    for name, found in shipped_yaml(package, file).items():
        for kind, parts in ((Column, "columns"), (Fault, "faults")):
            found[parts] = tuple(kind(n, **given) for n, given in found[parts].items())
        specs[name] = TableSpec(name, **found)
    return specs


def fault_flags(spec: TableSpec, found: Mapping[str, pl.Expr]) -> pl.Expr:
    """Return flags as the bits of one number (UInt64)."""
    bits = [
        is_found.fill_null(value=False).cast(pl.UInt64) * spec.bits[name]
        for name, is_found in found.items()
    ]
    return pl.sum_horizontal(bits).cast(pl.UInt64)


def flagged(spec: TableSpec, found: Mapping[str, pl.Expr]) -> pl.Expr:
    """Return the flags of rows with what was found added."""
    return (pl.col(FLAGS) | fault_flags(spec, found)).alias(FLAGS)


def match_columns(
    schema: pl.Schema, wanted: Mapping[str, str], spec: TableSpec, where: str
) -> tuple[dict[str, str], list[str]]:
    """Match the columns of a table to ours, and check that their types will do.

    Parameters
    ----------
    schema : polars.Schema
        Columns as received.
    wanted : mapping of str to str
        The user's option, our name: their name.
    spec : TableSpec
        Which table it is.
    where : str
        What the table is called in messages.

    Returns
    -------
    dict of str to str, list of str
        Our name: the name as received, spaces included, in our order, or ours where
        its default is to be taken; and a note for each of these, and for each optional
        column that is missing while another one looks like it.

    Raises
    ------
    ConfigError
        If `wanted` names a column that we do not have, gives one two meanings, or maps
        both `date` and `year` or `month`.
    SchemaError
        If a column is missing, named twice, or of a type that cannot be meant; shows
        what was expected and found, near names, and the option that maps them.
    """
    _check_wanted(wanted, spec)
    found = [name for name in schema.names() if name != BEYOND]
    received: dict[str, str] = {}
    missing: list[str] = []
    lacking: list[str] = []
    mapped = {theirs.strip() for theirs in wanted.values()}
    for column in _columns_to_find(found, wanted, spec):
        # Our name may be theirs for another column of ours.
        is_taken = column.name not in wanted and column.name in mapped
        theirs = wanted.get(column.name, column.name)
        name = None if is_taken else _find(theirs, found, where)
        if name is not None:
            received[column.name] = name
        elif column.default and _is_lacking(column, found, wanted, spec):
            received[column.name] = column.name
            lacking.append(column.name)
        elif column.is_required or wanted.get(column.name, NONE) != NONE:
            missing.append(column.name)
    if missing:
        # What is not there either may be asked for in the same breath.
        asked = {*missing, *(ours for ours in lacking if ours not in wanted)}
        in_order = [column.name for column in spec.columns if column.name in asked]
        raise SchemaError(_explain_missing(in_order, found, wanted, spec, where))
    notes = [
        f"{where} has no `{ours}`: features of it are unknown (null) for everyone."
        for ours in lacking
    ]
    for ours, name in received.items():
        if name in schema:
            _check_type(schema[name], name, spec[ours], spec, where)
    return received, [*notes, *_suggestions(received, found, spec, where)]


def _is_lacking(
    column: Column, found: Sequence[str], wanted: Mapping[str, str], spec: TableSpec
) -> bool:
    """Return whether the user says that there is none, or no column is left for it."""
    if column.name in wanted:
        return wanted[column.name] == NONE
    taken = {wanted.get(c.name, c.name).strip() for c in spec.columns}
    return all(name.strip() in taken for name in found)


def recognised_columns(
    found: Sequence[str], wanted: Mapping[str, str], spec: TableSpec
) -> dict[str, str]:
    """Return what the user mapped, and what else has our name or a synonym of it.

    For tables whose makers name columns as they like, if what is taken is told.

    Parameters
    ----------
    found : sequence of str
        Names as received.
    wanted : mapping of str to str
        Our name: their name.
    spec : TableSpec
        Which table it is; synonyms that come first go before.
    """
    mapped = {name.strip() for name in wanted.values()}
    free = {_plain(name): name for name in reversed(found) if name not in mapped}
    names: dict[str, str] = dict(wanted)
    for spellings in (lambda c: [_plain(c.name)], lambda c: c.synonyms.split()):
        for column in spec.columns:
            known = [s for s in spellings(column) if s in free]
            if column.name not in names and known:
                names[column.name] = free.pop(known[0])
    return {c.name: names.pop(c.name) for c in spec.columns if c.name in names} | names


def _check_wanted(wanted: Mapping[str, str], spec: TableSpec) -> None:
    """Refuse a mapping that cannot be meant."""
    known = [column.name for column in spec.columns]
    for ours in wanted:
        if ours not in known:
            raise ConfigError(
                f"`{spec.option}` maps `{ours}`, which is none of ours."
                f"{did_you_mean(ours, known)} Known: {listed(known)}."
            )
    if "date" in wanted and set(MONTH) & set(wanted):
        raise ConfigError(
            f"`{spec.option}` maps `date` and also `year` or `month`; the month can "
            "come from one of them only. Map either `date`, or `year` and `month`."
        )
    meanings: dict[str, str] = {}
    for ours, theirs in wanted.items():
        if (other := meanings.setdefault(theirs.strip(), ours)) != ours:
            raise ConfigError(
                f"`{spec.option}` maps `{theirs}` to both `{other}` and `{ours}`; "
                "a column has one meaning."
            )


def _columns_to_find(
    found: Sequence[str], wanted: Mapping[str, str], spec: TableSpec
) -> list[Column]:
    """Return the columns to look for: with `date`, or with `year` and `month`."""
    names = {name.strip() for name in found}
    has_months = set(MONTH) <= names | set(wanted)
    use_date = "date" in wanted or ("date" in names and not has_months)
    other = MONTH if use_date else ("date",)
    return [column for column in spec.columns if column.name not in other]


def _find(name: str, found: Sequence[str], where: str) -> str | None:
    """Return the received name equal to `name`, spaces around it aside."""
    alike = [other for other in found if other.strip() == name.strip()]
    if len(alike) > 1:
        raise SchemaError(
            f"{where}: {len(alike)} columns are named `{name.strip()}`; it is not "
            "known which is meant. Rename one of them."
        )
    return alike[0] if alike else None


def _check_type(
    dtype: pl.DataType, name: str, column: Column, spec: TableSpec, where: str
) -> None:
    """Refuse a received column whose type can never be read as ours."""
    is_date = isinstance(dtype, pl.Date | pl.Datetime)
    is_bool = isinstance(dtype, pl.Boolean)
    if dtype.is_nested() or isinstance(dtype, pl.Object | pl.Time | pl.Duration):
        advice = "Convert it before, or map another column."
    elif is_date and column.name in MONTH:
        advice = (
            f"Map it as the date instead: `{spec.mapping(f'date={name.strip()}')}`."
        )
    elif is_date and column.kind not in ("day", "moment"):
        advice = f"Map the right column: `{spec.mapping(f'{column.name}=NAME')}`."
    elif column.kind == "day" and is_bool:
        advice = "Give dates as dates, as text, or as whole numbers such as 20240131."
    elif column.kind == "moment" and is_bool:
        advice = "Give dates as dates, as ISO text, or as seconds since 1970."
    else:
        return
    raise SchemaError(
        f"{where}: column `{name.strip()}` is of type {dtype}; expected "
        f"{EXPECTED.get(column.kind, 'a number')} for `{column.name}`. {advice}"
    )


def _suggest(column: Column, found: Sequence[str], expected: str = "") -> str | None:
    """Return the received column that one of ours probably is, or None.

    `expected` is the name the user gave for it, which is looked for first.
    """
    plain = {_plain(name): name.strip() for name in reversed(found)}
    for target in filter(None, (expected, column.name)):
        near = difflib.get_close_matches(_plain(target), plain, n=1, cutoff=ALIKE)
        if near:
            return plain[near[0]]
    return next((plain[s] for s in column.synonyms.split() if s in plain), None)


def _plain(name: str) -> str:
    """Return a name without case, spaces and punctuation."""
    return re.sub(r"[\W_]+", "", name).lower()


def _suggestions(
    received: Mapping[str, str], found: Sequence[str], spec: TableSpec, where: str
) -> list[str]:
    """Return a note for each optional column that another one may stand for."""
    free = [name for name in found if name not in received.values()]
    notes = []
    for column in spec.columns:
        # No feature is made of a value, so that nothing is lost without it.
        if column.name in received or column.is_required or column.kind == "value":
            continue
        if theirs := _suggest(column, free):
            free = [name for name in free if name.strip() != theirs]
            notes.append(
                f"{where} has no `{column.name}`. If `{theirs}` is meant: "
                f"`{spec.mapping(f'{column.name}={theirs}')}`."
            )
    return notes


def _explain_missing(
    missing: Sequence[str],
    found: Sequence[str],
    wanted: Mapping[str, str],
    spec: TableSpec,
    where: str,
) -> str:
    """Return expected, found, and the options that would mend the difference."""
    absent = []
    for ours in missing:
        theirs = wanted.get(ours)
        mapped = f" (mapped to `{theirs}`, which is not there)" if theirs else ""
        absent.append(f"`{ours}`{mapped}")
    required = [c.name for c in spec.columns if c.is_required and c.kind != "day"]
    optional = [column.name for column in spec.columns if not column.is_required]
    has_day = len(required) + len(optional) < len(spec.columns)
    instead = " (or `date` instead of `year` and `month`)" if has_day else ""
    lines = [
        f"{where}: no column {', '.join(absent)} in the {spec.name}.",
        f"  expected: {listed(required)}{instead}, and if there is one "
        f"{listed(optional)}",
        f"  found:    {listed([n.strip() for n in found], 30) or 'none'}",
    ]
    taken = {wanted.get(c.name, c.name) for c in spec.columns if c.name not in missing}
    free = [name for name in found if name.strip() not in taken]
    if options := _mapping_options(missing, free, wanted, spec):
        lines.append(f"  perhaps:  {' '.join(options)}")
    else:
        lines.append(
            f"  Map your own names with `{spec.mapping('OURS=YOURS')}`, such as "
            f"`{spec.mapping(f'{missing[0]}=NAME')}`."
        )
    lines += [
        f"  If the table has no such column: `{spec.mapping(f'{ours}={NONE}')}`."
        for ours in missing
        if spec[ours].default
    ]
    if {"month", "date"} & set(missing) and "week" in map(_plain, free):
        lines.append("  Weeks are read as a date such as `2024-W05`, year and week.")
    if {"month", "date"} & set(missing) and any(map(QUARTER.search, found)):
        lines.append(f"  {NO_QUARTERS}")
    n_numbers = sum(bool(re.fullmatch(r"[\d.,-]*", n.strip())) for n in found)
    if n_numbers > len(found) / 2:
        lines.append("  The first line looks like data: is the header line missing?")
    return "\n".join(lines)


def _mapping_options(
    missing: Sequence[str],
    free: Sequence[str],
    wanted: Mapping[str, str],
    spec: TableSpec,
) -> list[str]:
    """Return the flags for the missing columns that have a likely match."""
    options = []
    asked = list(missing)
    if set(MONTH) <= set(asked) and not set(MONTH) & set(wanted):
        has_months = all(_suggest(spec[ours], free) for ours in MONTH)
        if not has_months and _suggest(spec["date"], free):
            asked = [ours for ours in asked if ours not in MONTH] + ["date"]
    for ours in asked:
        if theirs := _suggest(spec[ours], free, wanted.get(ours, "")):
            options.append(spec.mapping(f"{ours}={theirs}"))
            free = [name for name in free if name.strip() != theirs]
    return options
