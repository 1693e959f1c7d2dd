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

What the file says are suggestions. How a segment behaves is not written there: it
follows from a run's own numbers (`behaviour`).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

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
    primary : Metric
        What is to become better; it decides an experiment.
    guardrail : Guardrail
        What must not become worse.
    """

    actions: tuple[str, ...] = Field(min_length=1, max_length=6)
    primary: Metric
    guardrail: Guardrail


class Playbook(_Part):
    """What to do with every segment.

    Attributes
    ----------
    metrics : dict of str to MetricWords
        By the name of a column.
    general : Play
        For segments that have no entry of their own.
    segments : dict of str to Play
        By the name that the rules give a segment.
    """

    metrics: dict[str, MetricWords] = Field(default_factory=dict)
    general: Play
    segments: dict[str, Play] = Field(default_factory=dict)

    def play(self, rule_name: str) -> Play:
        """Return what to do with the segment of a rule."""
        return self.segments.get(rule_name, self.general)

    def words(self, metric: str) -> str:
        """Return what a metric is called in prose."""
        known = self.metrics.get(metric)
        return known.words if known else metric.replace("_", " ")


def parse_playbook(
    text: str, where: str, metrics: Collection[str] | None = None
) -> Playbook:
    """Read a playbook.

    Parameters
    ----------
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
        book = Playbook.model_validate(read_yaml(text))
    except ValidationError as error:
        raise ConfigError(f"{where}: {_explained(error)}") from None
    except ValueError as error:
        raise ConfigError(f"{where} is not YAML: {error}.") from None
    for name, play in {"general": book.general, **book.segments}.items():
        for column in (*play.primary.columns, *play.guardrail.columns):
            if metrics is not None and column not in metrics:
                raise ConfigError(
                    f"{where}: the KPI `{column}` of `{name}` is not computed."
                    f"{did_you_mean(column, metrics)} Expected one of "
                    f"{listed([*metrics][::-1], 16)}."
                )
    return book


def _explained(error: ValidationError) -> str:
    """Return pydantic's findings in one line."""
    known = {*Playbook.model_fields, *Play.model_fields, *Guardrail.model_fields}
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
    table: pl.DataFrame, segment_column: str, playbook: Playbook
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
            _phrase(playbook.metrics[name], row[name], everyone[name][0])
            for name in told[:MOST_TOLD]
        ]
    return said


def _phrase(words: MetricWords, value: float, of_all: float) -> str:
    own = str(words.says).replace("{}", words.value(value))
    return f"{own} (all: {words.value(of_all)})"
