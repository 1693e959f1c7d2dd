"""Every error a user can cause, under one base.

::

    SegmentsError            exit code 1, the base: catch this one
    |-- ConfigError          2  an option is unknown, malformed or contradicts another
    |-- SourceError          3  the data could not be found, fetched or opened
    |-- SchemaError          4  the data was read, but its columns or rows are unusable
    |-- EligibilityError     5  the data is sound, but nobody qualifies for clustering
    |-- ArtifactError        6  saved artifacts are missing, changed or do not fit
    |   `-- FeatureMismatchError   the features differ from the model's own
    |-- ModelError           7  a model cannot be fitted on, or asked about, its input
    |   `-- ModelTypeError       a cell or a type that no model takes
    |-- ContractError        8  the segments break their contract
    `-- StoreError           9  the database of profiles cannot be reached or used
        `-- StoreLayoutError     its tables lack something that this version needs

Beside them a command exits with 0 (done), 130 (Ctrl-C) or 143 (asked to terminate).

A message says what was received, what was expected and how to mend it, with names in
backticks as the user typed them; passwords in addresses are left out of every message.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from core.redaction import redacted


def _program() -> str:
    """Return what starts a command here: the script of a checkout, else `segments`."""
    if not Path(__file__).resolve().parents[1].joinpath("run.sh").exists():
        return "segments"
    return "run.bat" if os.name == "nt" else "./run.sh"


PROGRAM = _program()
"""How messages name the command: `PROGRAM`, a verb and its options."""


class SegmentsError(Exception):
    """Base of all errors that this package raises on purpose.

    Attributes
    ----------
    exit_code : int
        What a command exits with when the error ends it.

    Examples
    --------
    >>> try:
    ...     raise SourceError("`sales.csv` cannot be found.")
    ... except SegmentsError as error:
    ...     print(error, error.exit_code)
    `sales.csv` cannot be found. 3
    """

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(redacted(message))


class ConfigError(SegmentsError):
    """An option is unknown, malformed or contradicts another one."""

    exit_code = 2


class SourceError(SegmentsError):
    """The data could not be found, fetched or opened."""

    exit_code = 3


class SchemaError(SegmentsError):
    """The data was read, but its columns or rows cannot be used."""

    exit_code = 4


class EligibilityError(SegmentsError):
    """The data is sound, but no shop (or too few) may be clustered."""

    exit_code = 5


class ArtifactError(SegmentsError):
    """Saved artifacts are missing, changed since they were written, or unfit."""

    exit_code = 6


class FeatureMismatchError(ArtifactError):
    """The features at hand are not those that the model was fitted on."""


class ModelError(SegmentsError, ValueError):
    """A model cannot be fitted on, or asked about, what it was given.

    It is a ValueError too, which scikit-learn's tools expect of an estimator.
    """

    exit_code = 7


class ModelTypeError(ModelError, TypeError):
    """A model was given what is no table of numbers, such as a cell with a dict.

    It is a TypeError too, which scikit-learn's tools expect of an estimator.
    """


class ContractError(SegmentsError):
    """The segments break the contract that was made for them."""

    exit_code = 8


class StoreError(SegmentsError):
    """The database of profiles cannot be reached, started or used as it is."""

    exit_code = 9


@contextmanager
def preceded_by(lines: Iterable[str]) -> Iterator[None]:
    """Put lines before the message of an error of ours, such as the account of rows."""
    try:
        yield
    except SegmentsError as error:
        raise type(error)("\n".join([*lines, str(error)])) from None


class StoreLayoutError(StoreError):
    """The tables lack a column or a right, which lasts until somebody mends it."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean `x`?`` for the nearest known name, or ``""``."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean `{near[0]}`?" if near else ""


def listed(names: Sequence[str], limit: int = 8) -> str:
    """Return names in backticks, comma separated, the rest counted.

    >>> listed(["a", "b"])
    '`a`, `b`'
    >>> listed(["a", "b", "c"], limit=2)
    '`a`, `b` and 1 more'
    """
    shown = ", ".join(f"`{name}`" for name in names[:limit])
    rest = len(names) - limit
    return f"{shown} and {rest:,} more" if rest > 0 else shown
