"""How a user's own names of the columns of orders and items are matched to ours.

As in `core.data.schema`, a name is taken only where it is meant: mapped by the user, or
equal to ours. Look-alikes and well-known synonyms are suggested, never taken.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

import polars as pl

from core.data.csvfile import BEYOND
from core.data.purchases_columns import Column, TableSpec
from core.errors import ConfigError, SchemaError, did_you_mean, listed

EXPECTED_OF_KIND = {
    "id": "an id",
    "moment": "a date with its time",
    "number": "a number",
    "text": "text",
}


def match_table(
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
        Our name: the name as received, spaces included, in our order; and a note for
        each optional column that is missing while another one looks like it.

    Raises
    ------
    ConfigError
        If `wanted` names a column that we do not have, or gives one two meanings.
    SchemaError
        If a column is missing, named twice, or of a type that cannot be meant; shows
        what was expected and found, and the option that maps it.
    """
    _check_wanted(wanted, spec)
    found = [name for name in schema.names() if name != BEYOND]
    received: dict[str, str] = {}
    missing: list[str] = []
    for column in spec.columns:
        name = _find(wanted.get(column.name, column.name), found, where)
        if name is not None:
            received[column.name] = name
            _check_type(schema[name], name, column, spec, where)
        elif column.is_required or column.name in wanted:
            missing.append(column.name)
    if missing:
        raise SchemaError(_explain_missing(missing, found, wanted, spec, where))
    return received, _suggestions(received, found, spec, where)


def _check_wanted(wanted: Mapping[str, str], spec: TableSpec) -> None:
    """Refuse a mapping that cannot be meant."""
    known = [column.name for column in spec.columns]
    meanings: dict[str, str] = {}
    for ours, theirs in wanted.items():
        if ours not in known:
            raise ConfigError(
                f"`{spec.option}` maps `{ours}`, which is none of ours."
                f"{did_you_mean(ours, known)} Known: {listed(known)}."
            )
        if (other := meanings.setdefault(theirs.strip(), ours)) != ours:
            raise ConfigError(
                f"`{spec.option}` maps `{theirs}` to both `{other}` and `{ours}`; "
                "a column has one meaning."
            )


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
    is_moment = column.kind == "moment"
    if dtype.is_nested() or isinstance(dtype, pl.Object | pl.Time | pl.Duration):
        advice = "Convert it before, or map another column."
    elif is_date and not is_moment:
        advice = f"Map the right column: `{spec.flag} {column.name}=NAME`."
    elif is_moment and isinstance(dtype, pl.Boolean):
        advice = "Give dates as dates, as ISO text, or as seconds since 1970."
    else:
        return
    raise SchemaError(
        f"{where}: column `{name.strip()}` is of type {dtype}; expected "
        f"{EXPECTED_OF_KIND[column.kind]} for `{column.name}`. {advice}"
    )


def _suggest(column: Column, found: Sequence[str], expected: str | None) -> str | None:
    """Return the received column that one of ours probably is, or None."""
    plain = {_plain(name): name.strip() for name in reversed(found)}
    for target in filter(None, (expected, column.name)):
        if near := difflib.get_close_matches(_plain(target), plain, n=1, cutoff=0.8):
            return plain[near[0]]
    return next((plain[s] for s in column.synonyms.split() if s in plain), None)


def _plain(name: str) -> str:
    """Return a name without case, spaces and punctuation."""
    return re.sub(r"[\W_]+", "", name).lower()


def _option(spec: TableSpec, ours: str, theirs: str) -> str:
    """Return the flag that maps a column, quoted where a shell needs it."""
    pair = f"{ours}={theirs}"
    return f'{spec.flag} "{pair}"' if " " in theirs else f"{spec.flag} {pair}"


def _suggestions(
    received: Mapping[str, str], found: Sequence[str], spec: TableSpec, where: str
) -> list[str]:
    """Return a note for each optional column that another one may stand for."""
    taken = set(received.values())
    free = [name for name in found if name not in taken]
    notes = []
    for column in spec.columns:
        if column.name in received or column.is_required:
            continue
        if theirs := _suggest(column, free, None):
            free = [name for name in free if name.strip() != theirs]
            notes.append(
                f"{where} has no `{column.name}`. If `{theirs}` is meant: "
                f"`{_option(spec, column.name, theirs)}`."
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
    required = [column.name for column in spec.columns if column.is_required]
    optional = [column.name for column in spec.columns if not column.is_required]
    lines = [
        f"{where}: no column {', '.join(absent)} in the {spec.name}.",
        f"  expected: {listed(required)}, and if there is one {listed(optional)}",
        f"  found:    {listed([n.strip() for n in found], 30) or 'none'}",
    ]
    taken = {wanted.get(c.name, c.name) for c in spec.columns if c.name not in missing}
    free = [name for name in found if name.strip() not in taken]
    options = []
    for ours in missing:
        if likely := _suggest(spec[ours], free, wanted.get(ours)):
            options.append(_option(spec, ours, likely))
            free = [name for name in free if name.strip() != likely]
    if options:
        lines.append(f"  perhaps:  {' '.join(options)}")
    else:
        lines.append(
            f"  Map your own names with `{spec.flag} OURS=YOURS`, such as "
            f"`{spec.flag} {missing[0]}=NAME`."
        )
    return "\n".join(lines)
