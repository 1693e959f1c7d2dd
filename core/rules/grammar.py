"""Rule sets as data: segments by conditions over features, read from YAML.

::

    name: order-bands
    features:
      orders: {type: integer, from: 1, to: 100}
      weekend: {type: flag}
      channel: {type: text, levels: [web, app, shop], missing: order taken by phone}
    assume:
      - weekend or orders > 1
    thresholds:
      often: {quantile: 0.5, of: orders}
    bands:
      - {name: few, when: orders < often}
      - {name: many, when: orders >= often}
    segments:
      - name: online at weekends
        band: few
        when: weekend and channel in {web, app}

What a condition may say is `core.rules.syntax.CONDITION`; docs/rules.md tells the
format by example. Names and values are kept as they are written: ``1_5`` and ``no`` are
texts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal, NoReturn, TypeVar

import narwhals as nw
import numpy as np
import yaml

from core.errors import ConfigError, SchemaError, did_you_mean, listed
from core.rules.conditions import (
    And,
    Node,
    require_known,
    require_mapping,
    with_thresholds,
)
from core.rules.syntax import NUMERIC, TYPES, Feature, Syntax, Threshold
from core.yaml_text import YamlDumper

_Read = TypeVar("_Read")


EXACTLY_ONE: Final = "exactly one"
FIRST: Final = "first"


@dataclass(frozen=True)
class Band:
    """A part of the customers that several segments share."""

    name: str
    when: Node
    description: str = ""


@dataclass(frozen=True)
class RuleSegment:
    """A segment: who meets `when`, and the condition of the band, is in it.

    Attributes
    ----------
    name : str
    when : Node
        As written; `RuleSet.condition` adds the band and fills in thresholds.
    band : str or None
    description, action : str
        Words for people: who they are, what to do.
    """

    name: str
    when: Node
    band: str | None = None
    description: str = ""
    action: str = ""


@dataclass(frozen=True)
class RuleSet:
    """Segments by rules, with all that their conditions speak of.

    Attributes
    ----------
    name, description : str
    features : tuple of Feature
    segments : tuple of RuleSegment
    bands : tuple of Band
    assume : tuple of Node
        What every possible customer meets; proofs leave the others out.
    thresholds : tuple of Threshold
    match : {'exactly one', 'first'}
        Whether rules exclude each other, or the first that holds decides.
    """

    name: str
    features: tuple[Feature, ...]
    segments: tuple[RuleSegment, ...]
    bands: tuple[Band, ...] = ()
    assume: tuple[Node, ...] = ()
    thresholds: tuple[Threshold, ...] = ()
    match: Literal["exactly one", "first"] = "exactly one"
    description: str = ""

    @property
    def unlearnt(self) -> tuple[str, ...]:
        """Names of thresholds without a number."""
        return tuple(t.name for t in self.thresholds if t.value is None)

    def condition(self, segment: RuleSegment) -> Node:
        """Return all that a segment asks: its band and its rule, thresholds filled."""
        band = next((b for b in self.bands if b.name == segment.band), None)
        whole = segment.when if band is None else And((band.when, segment.when))
        return self.filled(whole)

    def filled(self, condition: Node) -> Node:
        """Return a condition with the numbers of learnt thresholds."""
        known = {t.name: t.value for t in self.thresholds if t.value is not None}
        return with_thresholds(condition, known)

    def columns(self, of: Any = nw) -> dict[str, Any]:
        """Return the expression of every feature, as `Node.expr` takes them."""
        return {feature.name: feature.column(of) for feature in self.features}

    def assign(self, customer: Mapping[str, Any]) -> str | None:
        """Return the segment of one customer, the first that holds; None if none."""
        return next(
            (s.name for s in self.segments if self.condition(s).holds(customer)), None
        )

    def settle(self, table: Any) -> RuleSet:
        """Return the rules with every threshold learnt that has no number yet.

        Parameters
        ----------
        table : frame
            Any frame that Narwhals takes, a row per customer.

        Raises
        ------
        SchemaError
            If a feature is absent or no number, or nobody has a value to learn from.
        """
        frame = nw.from_native(table).lazy()
        self._require_columns(frame)
        learnt = [
            t if t.value is not None else replace(t, value=self._learnt(t, frame))
            for t in self.thresholds
        ]
        return replace(self, thresholds=tuple(learnt))

    def _require_columns(self, frame: Any) -> None:
        types = frame.collect_schema()
        absent = [f.name for f in self.features if f.name not in types]
        if absent:
            raise SchemaError(
                f"the table lacks {listed(absent)}, which the rules `{self.name}` need."
                f"{did_you_mean(absent[0], types)}"
            )
        no_numbers = [
            f.name
            for f in self.features
            if f.type != "text"
            and not types[f.name].is_numeric()
            and types[f.name] not in {nw.Boolean, nw.Unknown}
        ]
        if not no_numbers:
            return
        known = frame.select(nw.col(*no_numbers).count()).collect("polars").to_native()
        for name in no_numbers:
            if known[name][0]:  # a column without any value has any type
                raise SchemaError(
                    f"`{name}` is of type {types[name]} in the table; the rules "
                    f"`{self.name}` ask for numbers, or true and false for a flag."
                )

    def _learnt(self, threshold: Threshold, frame: Any) -> float:
        columns = self.columns()
        if threshold.among is not None:
            frame = frame.filter(self.filled(threshold.among).expr(columns))
        column = columns[threshold.feature].alias(threshold.feature)
        values = frame.select(column).drop_nulls().collect("polars")
        if not len(values):
            raise SchemaError(
                f"threshold `{threshold.name}`: no customer of the table has a value "
                f"of `{threshold.feature}` to learn it from. Give its `value`."
            )
        learnt = float(np.quantile(values.to_numpy().ravel(), threshold.quantile))
        if not math.isfinite(learnt):
            raise SchemaError(
                f"threshold `{threshold.name}`: too many values of "
                f"`{threshold.feature}` are infinite to learn it. Give its `value`."
            )
        return learnt

    def to_yaml(self) -> str:
        """Return the rules as `read_rules` reads them."""
        content: dict[str, Any] = {
            "name": self.name,
            "description": self.description,
            "match": "" if self.match == EXACTLY_ONE else self.match,
            "features": {f.name: _written_feature(f) for f in self.features},
            "assume": [node.text() for node in self.assume],
            "thresholds": {t.name: _written_threshold(t) for t in self.thresholds},
            "bands": [_written_rule(band) for band in self.bands],
            "segments": [_written_rule(segment) for segment in self.segments],
        }
        kept = {key: value for key, value in content.items() if value}
        return yaml.dump(
            kept, Dumper=YamlDumper, sort_keys=False, allow_unicode=True, width=88
        )


def _written_feature(feature: Feature) -> dict[str, Any]:
    bounds = {"from": feature.low, "to": feature.high}
    written: dict[str, Any] = {"type": feature.type}
    written |= {k: _number_of(b) for k, b in bounds.items() if math.isfinite(b)}
    if feature.levels:
        written["levels"] = list(feature.levels)
    if feature.missing is not None:
        written["missing"] = feature.missing
    if feature.is_fixed:
        written["fixed"] = True
    return written | _words(feature, "description")


def _written_threshold(threshold: Threshold) -> dict[str, Any]:
    written: dict[str, Any] = {"of": threshold.feature}
    if not math.isnan(threshold.quantile):
        written = {"quantile": threshold.quantile, **written}
    if threshold.among is not None:
        written["among"] = threshold.among.text()
    return written if threshold.value is None else written | {"value": threshold.value}


def _written_rule(rule: Band | RuleSegment) -> dict[str, Any]:
    written: dict[str, Any] = {"name": rule.name, **_words(rule, "band")}
    return written | {"when": rule.when.text()} | _words(rule, "description", "action")


def _words(said: Any, *names: str) -> dict[str, str]:
    return {name: getattr(said, name) for name in names if getattr(said, name, None)}


def _number_of(number: float) -> int | float:
    return int(number) if number.is_integer() else number


def rule_set_names() -> list[str]:
    """Return the names of the rule sets that ship with the project."""
    folder = resources.files("core.rules").joinpath("sets")
    names = [file.name for file in folder.iterdir()]
    return sorted(n.removesuffix(".yaml") for n in names if n.endswith(".yaml"))


def read_rules(source: str | Path) -> RuleSet:
    """Return a rule set.

    Parameters
    ----------
    source : str or path
        The name of a rule set that ships with the project, a YAML file, or YAML text
        (of several lines).

    Raises
    ------
    ConfigError
        If there is no such file, or anything in it cannot be understood; the message
        names the place, what was met and what was expected.

    Examples
    --------
    >>> rules = read_rules("order-bands")
    >>> len(rules.segments), rules.segments[0].name
    (27, 'Seg1_5_1')
    """
    text = str(source)
    if isinstance(source, str) and "\n" in source:
        return _rule_set(source, "the rules")
    if text in rule_set_names():
        shipped = resources.files("core.rules").joinpath("sets", f"{text}.yaml")
        return _rule_set(shipped.read_text("utf-8"), f"{text}.yaml")
    try:
        content = Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        names = rule_set_names()
        reason = getattr(error, "strerror", None) or "no UTF-8"
        raise ConfigError(
            f"the rules `{text}` cannot be read ({reason}); expected a YAML file or "
            f"one of {listed(names)}.{did_you_mean(text, names)}"
        ) from None
    return _rule_set(content, Path(source).name)


class _TextLoader(yaml.BaseLoader):
    """Every scalar as its text; a key that stands twice is refused."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            problem = None
            if not isinstance(key, yaml.ScalarNode):
                problem = "met a list or `{...}`, expected a name"
            elif key.value in seen:
                problem = f"`{key.value}` appears twice"
            if problem:
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=True)


@lru_cache(maxsize=32)
def _rule_set(text: str, where: str) -> RuleSet:
    """Return the rule set of a YAML text; a run reads some of them again and again."""
    try:
        content = yaml.load(text, Loader=_TextLoader)
    except RecursionError:
        raise ConfigError(
            f"{where}: brackets or indents are nested too deep."
        ) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "no YAML"
        raise ConfigError(
            f"{where}{line}: {problem}. A condition that holds `{{`, `,` or `#` within "
            "`{...}` needs quotes."
        ) from None
    content = require_mapping(content or {}, where)
    keys = ("name", "description", "match", "features", "assume", "thresholds")
    require_known(content, (*keys, "bands", "segments"), where)
    return _Reader(where, content).rule_set()


@dataclass
class _Reader:
    """Reads one rule set, and knows what its conditions may speak of."""

    where: str
    content: Mapping[str, Any]
    syntax: Syntax = field(default_factory=Syntax)
    place: str = ""

    def rule_set(self) -> RuleSet:
        """Return the rule set."""
        match: Any = self.content.get("match") or EXACTLY_ONE
        if match not in {EXACTLY_ONE, FIRST}:
            self.fail(f"`match` is `{match}`; expected `{EXACTLY_ONE}` or `{FIRST}`.")
        for name, entry in self.mapping("features").items():
            self.syntax.features[name] = self.feature(name, entry)
        self.place = ""
        if not self.syntax.features:
            self.fail("`features` is empty; expected each feature with its `type`.")
        for name, entry in self.mapping("thresholds").items():
            self.syntax.thresholds[name] = self.threshold(name, entry)
        self.place = ""
        assume = [
            self.condition(text, f"`assume[{i}]`")
            for i, text in enumerate(self.sequence("assume"))
        ]
        bands = [self.band(entry, i) for i, entry in enumerate(self.sequence("bands"))]
        self.place = ""
        self.unique([band.name for band in bands], "bands")
        names = [band.name for band in bands]
        segments = [
            self.segment(entry, i, names)
            for i, entry in enumerate(self.sequence("segments"))
        ]
        self.place = ""
        self.unique([segment.name for segment in segments], "segments")
        if not segments:
            self.fail("`segments` is empty; expected a list of segments.")
        return RuleSet(
            name=str(self.content.get("name") or self.where.removesuffix(".yaml")),
            description=str(self.content.get("description") or ""),
            features=tuple(self.syntax.features.values()),
            segments=tuple(segments),
            bands=tuple(bands),
            assume=tuple(assume),
            thresholds=tuple(self.syntax.thresholds.values()),
            match=match,
        )

    def fail(self, message: str) -> NoReturn:
        """Raise the error that names file and place."""
        place = f"{self.place}: " if self.place else ""
        raise ConfigError(" ".join(f"{self.where}: {place}{message}".split()))

    def mapping(self, key: str) -> Mapping[str, Any]:
        return require_mapping(self.content.get(key) or {}, f"{self.where}: `{key}`")

    def sequence(self, key: str) -> list[Any]:
        entries = self.content.get(key) or []
        if not isinstance(entries, list):
            self.fail(f"`{key}` is {entries!r}; expected a list.")
        return entries

    def unique(self, names: Sequence[str], key: str) -> None:
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        if twice:
            self.fail(f"`{key}`: {listed(twice)} appears twice; names must be unique.")

    def entry(self, entry: Any, known: Iterable[str], needed: Sequence[str]) -> Any:
        """Return an entry with its keys checked, every value a text or a list."""
        entry = require_mapping(entry, f"{self.where}: {self.place}")
        require_known(entry, known, f"{self.where}: {self.place}")
        for key in needed:
            if not entry.get(key):
                self.fail(f"`{key}` is missing.")
        for key, value in entry.items():
            if key != "levels" and not isinstance(value, str):
                self.fail(f"`{key}` is {value!r}; expected a text in one line.")
        return entry

    def number(self, entry: Mapping[str, str], key: str, default: float) -> float:
        if key not in entry:
            return default
        try:
            number = float(entry[key])
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            self.fail(f"`{key}` is `{entry[key]}`; expected a number.")
        return number

    def feature(self, name: str, entry: Any) -> Feature:
        self.place = f"feature `{name}`"
        if "`" in name:
            self.fail("a name must not hold a backtick.")
        known = ("type", "from", "to", "levels", "missing", "fixed", "description")
        entry = self.entry(entry, known, ["type"])
        kind = entry["type"]
        if kind not in TYPES:
            self.fail(
                f"`type` is `{kind}`; expected one of {listed(TYPES)}."
                f"{did_you_mean(kind, TYPES)}"
            )
        for key, kinds in (("from", NUMERIC), ("to", NUMERIC), ("levels", ("text",))):
            if key in entry and kind not in kinds:
                self.fail(f"`{key}` goes with {listed(kinds)}, not with `{kind}`.")
        levels = entry.get("levels") or []
        if not isinstance(levels, list) or not all(isinstance(v, str) for v in levels):
            self.fail(f"`levels` is {levels!r}; expected a list of texts.")
        low, high = (
            self.number(entry, "from", -math.inf),
            self.number(entry, "to", math.inf),
        )
        if kind == "integer" and any(b % 1 for b in (low, high) if math.isfinite(b)):
            self.fail(f"`from` {low:g} and `to` {high:g}: expected integers.")
        if low > high:
            self.fail(f"`from` {low:g} is above `to` {high:g}.")
        fixed = entry.get("fixed", "false").lower()
        if fixed not in {"true", "false"}:
            self.fail(f"`fixed` is `{entry['fixed']}`; expected `true` or `false`.")
        return Feature(
            name,
            kind,
            low,
            high,
            tuple(dict.fromkeys(levels)),
            missing=entry.get("missing"),
            description=entry.get("description", ""),
            is_fixed=fixed == "true",
        )

    def threshold(self, name: str, entry: Any) -> Threshold:
        self.place = f"threshold `{name}`"
        if name in self.syntax.features:
            self.fail("is the name of a feature as well; give it another.")
        known = ("quantile", "of", "among", "value")
        entry = self.entry(entry, known, ["of"])
        if not entry.keys() & {"quantile", "value"}:
            self.fail("`quantile` is missing; expected it, a `value`, or both.")
        feature = self.told(self.syntax.numeric, entry["of"])
        quantile = self.number(entry, "quantile", math.nan)
        if "quantile" in entry and not 0 <= quantile <= 1:
            self.fail(f"`quantile` is `{entry['quantile']}`; expected 0 to 1.")
        among = entry.get("among")
        value = self.number(entry, "value", math.nan)
        return Threshold(
            name,
            feature.name,
            quantile,
            self.condition(among, self.place) if among else None,
            None if math.isnan(value) else value,
        )

    def band(self, entry: Any, number: int) -> Band:
        self.place = f"`bands[{number}]`"
        known = ("name", "when", "description")
        entry = self.entry(entry, known, ["name", "when"])
        when = self.condition(entry["when"], f"band `{entry['name']}`")
        return Band(entry["name"], when, entry.get("description", ""))

    def segment(self, entry: Any, number: int, bands: Sequence[str]) -> RuleSegment:
        self.place = f"`segments[{number}]`"
        known = ("name", "band", "when", "description", "action")
        entry = self.entry(entry, known, ["name", "when"])
        self.place, band = f"segment `{entry['name']}`", entry.get("band")
        if band is not None and band not in bands:
            self.fail(
                f"unknown band `{band}`; expected {listed(bands) or 'none'}."
                f"{did_you_mean(band, bands)}"
            )
        when = self.condition(entry["when"], self.place)
        words = entry.get("description", ""), entry.get("action", "")
        return RuleSegment(entry["name"], when, band, *words)

    def condition(self, text: Any, place: str) -> Node:
        """Return a condition from its text."""
        self.place = place
        return self.told(self.syntax.condition, text)

    def told(self, read: Callable[[Any], _Read], said: Any) -> _Read:
        """Return what is read from a text; a mistake in it is told with its place."""
        try:
            return read(said)
        except ConfigError as error:
            self.fail(str(error))
