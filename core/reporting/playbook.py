"""A playbook: what to do with each segment, and what shows whether it worked.

It is a YAML file that people edit; nothing here knows a system or its features::

    metrics:
      days_between_orders: {words: days between orders, says: "orders every {} days"}
    general:
      actions: [Offer delivery on a fixed day]
      primary: {name: orders}
      guardrail: {name: margin, margin: 0.02}
    segments:
      Champions: {actions: [...], primary: {...}, guardrail: {...}}
    states:
      lapsed: {actions: [...]}

What the file says are suggestions. How a segment behaves is not written there: it
follows from a run's own numbers (`behaviour`).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from importlib import resources
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from core.errors import ConfigError, did_you_mean, listed
from core.evaluation.experiment_plan import Guardrail, Metric
from core.reporting.text import rounded, share
from core.yaml_text import read_yaml

MOST_TOLD = 4
"""Metrics by which the behaviour of a segment is told."""
APART = 0.2
"""Interquartile ranges of all below which a median does not set a segment apart."""


BUILT_IN = "playbook.yaml"
"""The file that a system ships, in its package."""

_EXPECTED = {
    "tuple_type": "expected a list",
    "dict_type": "expected keys with values",
    "model_type": "expected keys with values",
    "model_attributes_type": "expected keys with values",
}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MetricWords(_Part):
    """How a metric is spoken of.

    Attributes
    ----------
    words : str
        What it is, such as ``days between orders``.
    says : str, optional
        What a value of it says of a segment; `{}` is the value. None: it is not told
        of a segment's behaviour.
    form : {'number', 'percent'}
    """

    words: str = Field(min_length=1)
    says: str | None = None
    form: Literal["number", "percent"] = "number"

    @field_validator("says")
    @classmethod
    def _has_one_place(cls, text: str | None) -> str | None:
        if text is not None and text.count("{}") != 1:
            raise ValueError("expected a text with `{}` once, where the value goes")
        return text

    def value(self, number: float) -> str:
        """Return a value with two significant digits."""
        return share(number) if self.form == "percent" else rounded(number)


class Play(_Part):
    """What to do with a segment.

    Attributes
    ----------
    actions : tuple of str
        The most useful first.
    """

    actions: tuple[str, ...] = Field(min_length=1, max_length=6)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that hold its KPIs."""
        return ()


class MeasuredPlay(Play):
    """What to do with a segment, and what shows whether it worked.

    Attributes
    ----------
    actions : tuple of str
        The most useful first.
    primary : Metric
        What is to become better; it decides an experiment.
    guardrail : Guardrail
        What must not become worse.
    """

    primary: Metric
    guardrail: Guardrail

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that hold its KPIs."""
        return self.primary.columns + self.guardrail.columns


AnyPlay = TypeVar("AnyPlay", bound=Play)


class Playbook(_Part, Generic[AnyPlay]):
    """What to do with every segment: ``Playbook[Play]``, or with KPIs.

    Attributes
    ----------
    metrics : dict of str to MetricWords
        By the name of a column.
    general : Play
        For segments that have no entry of their own.
    segments : dict of str to Play
        By the name that the rules give a segment; ``unassigned`` for entities in none.
    states : dict of str to Play
        By state of life, such as ``lapsed``.
    changes : dict of {'up', 'down'} to Play
        For entities that sell lastingly more, or less, than they used to.
    """

    metrics: dict[str, MetricWords] = Field(default_factory=dict)
    general: AnyPlay
    segments: dict[str, AnyPlay] = Field(default_factory=dict)
    states: dict[str, AnyPlay] = Field(default_factory=dict)
    changes: dict[Literal["up", "down"], AnyPlay] = Field(default_factory=dict)

    def play(self, *names: str) -> AnyPlay:
        """Return what to do with a segment, by the first of its names that is known.

        Upper case does not count, nor what follows in brackets or after a colon; of
        ``Average, growing sales`` each part is looked up as well.

        >>> summer, other = Play(actions=["A"]), Play(actions=["B"])
        >>> book = Playbook[Play](segments={"Summer peak": summer}, general=other)
        >>> [book.play(name).actions for name in ("Summer peak (Jun-Aug)", "Even")]
        [('A',), ('B',)]
        """
        known = {name.casefold(): play for name, play in self.segments.items()}
        plain = (part for name in names for part in _plain_names(name))
        return next((known[name] for name in plain if name in known), self.general)

    def words(self, metric: str) -> str:
        """Return what a metric is called in prose."""
        known = self.metrics.get(metric)
        return known.words if known else metric.replace("_", " ")


def read_playbook(
    kind: type[Playbook[AnyPlay]],
    path: str | Path | None,
    package: str,
    option: str,
    metrics: Collection[str] | None = None,
) -> Playbook[AnyPlay]:
    """Read a system's playbook: the shipped one, or a user's own.

    Parameters
    ----------
    kind : type
        ``Playbook[Play]``, or ``Playbook[MeasuredPlay]``.
    path, package, option
        As `playbook_text`. Words for metrics that a user's own does not name are
        those of the shipped one.
    metrics : collection of str, optional
        Columns that the run computes; None: they are not known yet.

    Raises
    ------
    ConfigError
        If the file cannot be read, or is no playbook; the message names the key.
    """
    built_in = playbook_text(None, package, option)
    shipped = parse_playbook(kind, built_in, "the built-in playbook")
    if path is None:
        return shipped
    text = playbook_text(path, package, option)
    own = parse_playbook(kind, text, f"`{option}`, `{path}`", metrics)
    return own.model_copy(update={"metrics": shipped.metrics | own.metrics})


def parse_playbook(
    kind: type[Playbook[AnyPlay]],
    text: str,
    where: str,
    metrics: Collection[str] | None = None,
) -> Playbook[AnyPlay]:
    """Read a playbook.

    Parameters
    ----------
    kind : type
        As for `read_playbook`.
    text : str
        YAML.
    where : str
        What messages call the file.
    metrics : collection of str, optional
        Columns that a run computes, which its KPIs may be; None: any.

    Raises
    ------
    ConfigError
        Naming the key and what was expected.
    """
    try:
        book = kind.model_validate(read_yaml(text))
    except ValidationError as error:
        raise ConfigError(f"{where}: {_explained(error)}") from None
    except ValueError as error:
        raise ConfigError(f"{where} is not YAML: {error}.") from None
    for name, play in {"general": book.general, **book.segments}.items():
        for column in play.columns:
            if metrics is not None and column not in metrics:
                raise ConfigError(
                    f"{where}: the KPI `{column}` of `{name}` is not computed."
                    f"{did_you_mean(column, metrics)} Expected one of "
                    f"{listed([*metrics][::-1], 16)}."
                )
    return book


def _explained(error: ValidationError) -> str:
    """Return pydantic's findings in one line."""
    parts = (Playbook, MeasuredPlay, Guardrail)
    known = {name for part in parts for name in part.model_fields}
    lines = []
    for found in error.errors():
        key = ".".join(str(part) for part in found["loc"]) or "the file"
        if found["type"] == "extra_forbidden":
            hint = did_you_mean(str(found["loc"][-1]), sorted(known))
            lines.append(f"unknown key `{key}`.{hint}")
        elif found["type"] == "missing":
            lines.append(f"`{key}` is missing. Add it.")
        else:
            said = _EXPECTED.get(found["type"], found["msg"])
            said = said.removeprefix("Value error, ")
            lines.append(f"`{key}`: {said[0].lower()}{said[1:]}.")
    return " ".join(lines)


def behaviour(
    table: pl.DataFrame, segment_column: str, playbook: Playbook[Any]
) -> dict[str, list[str]]:
    """Say how each segment behaves, by medians that differ from those of all.

    Parameters
    ----------
    table : DataFrame
        A row per entity with its segment and numeric metrics.
    segment_column : str
    playbook : Playbook
        Its metrics are told, as far as the table has them.

    Returns
    -------
    dict of str to list of str
        Per segment at most `MOST_TOLD` phrases such as ``orders every 8 days (all:
        15)``, the largest difference first, in interquartile ranges of all; none where
        no median differs by `APART`.
    """
    names = [n for n, m in playbook.metrics.items() if m.says and n in table.columns]
    numbers = table.select(segment_column, pl.col(names).cast(pl.Float64))
    everyone = {}
    for name in names:
        low, middle, high = (
            numbers[name].quantile(q, "linear") for q in (0.25, 0.5, 0.75)
        )
        if low is not None and middle is not None and high is not None and high > low:
            everyone[name] = (middle, high - low)
    medians = numbers.group_by(segment_column).median().sort(segment_column)
    said: dict[str, list[str]] = {}
    for row in medians.drop_nulls(segment_column).to_dicts():
        apart = {
            name: abs(row[name] - middle) / spread
            for name, (middle, spread) in everyone.items()
            if row[name] is not None
        }
        told = sorted((n for n in apart if apart[n] >= APART), key=lambda n: -apart[n])
        said[str(row[segment_column])] = [
            phrase(playbook.metrics[name], row[name], everyone[name][0])
            for name in told[:MOST_TOLD]
        ]
    return said


def phrase(words: MetricWords, value: float, of_all: float) -> str:
    """Return what a value says of a segment, beside the same of all."""
    own = str(words.says).replace("{}", words.value(value))
    return f"{own} (all: {words.value(of_all)})"


def _plain_names(name: str) -> list[str]:
    """Return what a name says: whole, then its parts, "average" last.

    >>> _plain_names("Average, growing sales (3)"), _plain_names("Two peaks: Apr, Oct")
    (['average, growing sales', 'growing sales', 'average'], ['two peaks'])
    """
    whole = re.split(r"\s*[(:]|\s+\d+$", name.casefold())[0].strip()
    parts = [part.strip() for part in whole.split(",")]
    parts.sort(key="average".__eq__)
    return [*dict.fromkeys([whole, *parts])]


def playbook_text(path: str | Path | None, package: str, option: str) -> str:
    """Return what a playbook says, as it is written.

    Parameters
    ----------
    path : path or None
        A YAML file, UTF-8; None: the one that is shipped with a system.
    package : str
        The system's, such as ``core.baskets``, which ships ``playbook.yaml``.
    option : str
        What messages call the option that names the file.

    Raises
    ------
    ConfigError
        If the file cannot be read.
    """
    if path is None:
        return resources.files(package).joinpath(BUILT_IN).read_text("utf-8")
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(
            f"`{option}`: the file `{path}` does not exist. Copy "
            f"`{package.replace('.', '/')}/{BUILT_IN}` and edit it, or leave the "
            "option out."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"`{option}`: `{path}`: {error}.") from None
