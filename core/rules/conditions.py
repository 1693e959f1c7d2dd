"""Conditions over features: the nodes of rules.

A rule's condition is a tree of `Range`, `OneOf` and `IsMissing` under `And`, `Or` and
`Not`; `core.rules.syntax` reads it from text. Null and NaN are a value, *missing*, and
logic has two values: a comparison with a missing value is false, `not` of it true.
"""

from __future__ import annotations

import functools
import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import narwhals as nw
import yaml

from core.errors import PROGRAM, ConfigError, did_you_mean, listed

Bound = float | str
"""A number, or the name of a learnt threshold whose number is not filled in."""
Value = float | str | bool
"""What a feature can be, but for missing: a number, a text, or yes and no."""


class Node:
    """A condition: `holds`, `text` and `expr` say the same of one customer."""

    def holds(self, customer: Mapping[str, Any]) -> bool:
        """Whether a customer meets it.

        Parameters
        ----------
        customer : mapping of feature to value
            None, NaN or no entry at all is missing.
        """
        raise NotImplementedError

    def text(self) -> str:
        """Return it as `core.rules.grammar` reads it."""
        raise NotImplementedError

    def expr(self, columns: Mapping[str, Any], of: Any = nw) -> Any:
        """Return it as an expression, never null.

        Parameters
        ----------
        columns : mapping of feature to expression
            Numbers without NaN, and texts, null where missing; a flag is a number that
            is not 0 where it is set.
        of : module
            Whose expressions they are: Narwhals, or Polars, which is ten times as
            fast for small tables.
        """
        raise NotImplementedError

    def parts(self) -> tuple[Node, ...]:
        """Return the conditions that it joins."""
        return ()

    def leaves(self) -> Iterator[Leaf]:
        """Yield what it asks of single features, from left to right."""
        for part in self.parts():
            yield from part.leaves()

    def with_leaves(self, change: Callable[[Leaf], Node]) -> Node:
        """Return it with every leaf replaced."""
        raise NotImplementedError


@dataclass(frozen=True)
class Leaf(Node):
    """What is asked of one feature."""

    feature: str

    def leaves(self) -> Iterator[Leaf]:
        """Yield itself."""
        yield self

    def with_leaves(self, change: Callable[[Leaf], Node]) -> Node:
        """Return what takes its place."""
        return change(self)


@dataclass(frozen=True)
class Range(Leaf):
    """Values from `low` to `high`, at least one of them finite.

    Attributes
    ----------
    low, high : float or str
        Infinite where there is no bound; a str names a threshold.
    low_included, high_included : bool
        Whether the bound itself is in; by default as an interval ``low < x <= high``.
    """

    low: Bound = -math.inf
    high: Bound = math.inf
    low_included: bool = False
    high_included: bool = True

    def holds(self, customer: Mapping[str, Any]) -> bool:
        """Whether the value is known and within the bounds."""
        value: Any = customer.get(self.feature)
        if is_missing(value):
            return False
        low, high = self.numbers()
        above = value >= low if self.low_included else value > low
        below = value <= high if self.high_included else value < high
        return bool((above or low == -math.inf) and (below or high == math.inf))

    def expr(self, columns: Mapping[str, Any], of: Any = nw) -> Any:
        """Return the comparison, false where the value is null."""
        column, asked = columns[self.feature], []
        low, high = self.numbers()
        if low > -math.inf:
            asked.append(column >= low if self.low_included else column > low)
        if high < math.inf:
            asked.append(column <= high if self.high_included else column < high)
        return functools.reduce(operator.and_, asked).fill_null(False)

    def text(self) -> str:
        """Return a comparison such as ``x <= 5`` or ``2 < x <= 5``."""
        name = shown_name(self.feature)
        if self.low == self.high and isinstance(self.low, str):
            return f"{name} = {_shown_bound(self.low)}"
        low = "" if self.low == -math.inf else _shown_bound(self.low)
        high = "" if self.high == math.inf else _shown_bound(self.high)
        more, less = (">=", "<=") if self.low_included else (">", "<")
        if low and not high:
            return f"{name} {more} {low}"
        start = f"{low} {less} " if low else ""
        return f"{start}{name} {'<=' if self.high_included else '<'} {high}"

    def numbers(self) -> tuple[float, float]:
        """Return low and high, or refuse a threshold that has no number yet."""
        for bound in (self.low, self.high):
            if isinstance(bound, str):
                raise ConfigError(
                    f"the threshold `{bound}` of `{self.feature}` has no number yet. "
                    f"Learn it from a table (`{PROGRAM} rules settle`), or give its "
                    "`value`."
                )
        return float(self.low), float(self.high)


@dataclass(frozen=True)
class OneOf(Leaf):
    """One of some values: texts, numbers, or ``(True,)`` for a flag that is set."""

    values: tuple[Value, ...]

    @property
    def is_set_flag(self) -> bool:
        """Whether it asks that a flag is set."""
        return len(self.values) == 1 and self.values[0] is True

    def holds(self, customer: Mapping[str, Any]) -> bool:
        """Whether the value is one of them."""
        value = customer.get(self.feature)
        if is_missing(value):
            return False
        is_flag = isinstance(self.values[0], bool)
        return (bool(value) if is_flag else value) in self.values

    def expr(self, columns: Mapping[str, Any], of: Any = nw) -> Any:
        """Return membership, false where the value is null."""
        column = columns[self.feature]
        if self.is_set_flag:
            # Not null by itself, as in pandas NaN != 0.
            return (column != 0).fill_null(False) & ~column.is_null()
        if len(self.values) == 1:
            [value] = self.values
            asked = column == (0 if value is False else value)
        else:
            asked = column.is_in(list(self.values))
        return asked.fill_null(False)

    def text(self) -> str:
        """Return ``x = a``, ``x in {a, b}``, or the flag's name."""
        name = shown_name(self.feature)
        if self.is_set_flag:
            return name
        if len(self.values) == 1:
            return f"{name} = {shown_value(self.values[0])}"
        return f"{name} in {{{', '.join(map(shown_value, self.values))}}}"


@dataclass(frozen=True)
class IsMissing(Leaf):
    """The value is not known."""

    def holds(self, customer: Mapping[str, Any]) -> bool:
        """Whether there is no value."""
        return is_missing(customer.get(self.feature))

    def expr(self, columns: Mapping[str, Any], of: Any = nw) -> Any:
        """Return where the column is null."""
        return columns[self.feature].is_null()

    def text(self) -> str:
        """Return ``x is missing``."""
        return f"{shown_name(self.feature)} is missing"


@dataclass(frozen=True)
class Not(Node):
    """The opposite of a condition; true where its comparison meets a missing value."""

    part: Node

    def holds(self, customer: Mapping[str, Any]) -> bool:
        """Whether the condition does not hold."""
        return not self.part.holds(customer)

    def expr(self, columns: Mapping[str, Any], of: Any = nw) -> Any:
        """Return the opposite expression."""
        return ~self.part.expr(columns, of)

    def text(self) -> str:
        """Return ``not ...``."""
        if isinstance(self.part, IsMissing):
            return f"{shown_name(self.part.feature)} is not missing"
        is_simple = isinstance(self.part, OneOf) and self.part.is_set_flag
        return f"not {self.part.text()}" if is_simple else f"not ({self.part.text()})"

    def parts(self) -> tuple[Node, ...]:
        """Return the one condition."""
        return (self.part,)

    def with_leaves(self, change: Callable[[Leaf], Node]) -> Node:
        """Return the opposite of the changed condition."""
        return Not(self.part.with_leaves(change))


@dataclass(frozen=True)
class And(Node):
    """All conditions hold; with none of them, every customer meets it."""

    all: tuple[Node, ...]

    def holds(self, customer: Mapping[str, Any]) -> bool:
        """Whether every part holds."""
        return all(part.holds(customer) for part in self.all)

    def expr(self, columns: Mapping[str, Any], of: Any = nw) -> Any:
        """Return the parts joined by ``&``."""
        if not self.all:
            return of.lit(True)
        return functools.reduce(operator.and_, [p.expr(columns, of) for p in self.all])

    def text(self) -> str:
        """Return the parts joined by ``and``; of none, ``everyone``."""
        said = [f"({p.text()})" if isinstance(p, Or) else p.text() for p in self.all]
        return " and ".join(said) or EVERYONE

    def parts(self) -> tuple[Node, ...]:
        """Return the parts."""
        return self.all

    def with_leaves(self, change: Callable[[Leaf], Node]) -> Node:
        """Return the same of changed parts."""
        return And(tuple(part.with_leaves(change) for part in self.all))


@dataclass(frozen=True)
class Or(Node):
    """At least one of the conditions holds."""

    any: tuple[Node, ...]

    def holds(self, customer: Mapping[str, Any]) -> bool:
        """Whether a part holds."""
        return any(part.holds(customer) for part in self.any)

    def expr(self, columns: Mapping[str, Any], of: Any = nw) -> Any:
        """Return the parts joined by ``|``."""
        return functools.reduce(operator.or_, [p.expr(columns, of) for p in self.any])

    def text(self) -> str:
        """Return the parts joined by ``or``."""
        said = [f"({p.text()})" if isinstance(p, And) else p.text() for p in self.any]
        return " or ".join(said)

    def parts(self) -> tuple[Node, ...]:
        """Return the parts."""
        return self.any

    def with_leaves(self, change: Callable[[Leaf], Node]) -> Node:
        """Return the same of changed parts."""
        return Or(tuple(part.with_leaves(change) for part in self.any))


EVERYONE: Final = "everyone"
KEYWORDS: Final = ("and", "or", "not", "in", "is", "missing", EVERYONE, "yes", "no")
_PLAIN_NAME = re.compile(r"[^\W\d]\w*")


def with_thresholds(condition: Node, numbers: Mapping[str, float]) -> Node:
    """Return a condition whose thresholds are numbers; those not given stay names."""

    def filled(leaf: Leaf) -> Leaf:
        if not isinstance(leaf, Range):
            return leaf
        low, high = (
            numbers.get(bound, bound) if isinstance(bound, str) else bound
            for bound in (leaf.low, leaf.high)
        )
        return replace(leaf, low=low, high=high)

    return condition.with_leaves(filled)


def is_missing(value: Any) -> bool:
    """Whether a value is None or NaN."""
    return value is None or value != value  # noqa: PLR0124 - NaN alone differs from itself


def shown_name(name: str) -> str:
    """Return a feature's name as a condition writes it: in backticks unless plain."""
    is_plain = _PLAIN_NAME.fullmatch(name) and name.lower() not in KEYWORDS
    return name if is_plain else f"`{name}`"


def shown_value(value: Value) -> str:
    """Return a value as a condition writes it; what is read from it is equal."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'
    number = float(value)
    is_short = number.is_integer() and abs(number) < 1e15
    return str(int(number)) if is_short else repr(number)


def _shown_bound(bound: Bound) -> str:
    return shown_name(bound) if isinstance(bound, str) else shown_value(bound)


def parsed_yaml(text: str, where: str) -> Mapping[str, Any]:
    """Return the keys and values of a YAML text; of an empty one, none.

    Raises
    ------
    ConfigError
        If it is no YAML, or something else than keys and values.
    """
    try:
        content = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: no YAML: {error}") from None
    return require_mapping(content, where)


def require_mapping(value: Any, where: str) -> Mapping[str, Any]:
    """Return a value that is keys and values, or say where it is not.

    Raises
    ------
    ConfigError
        If it is something else.
    """
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} is {value!r}; expected keys and values.")
    return value


def require_known(entry: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """Refuse a key that is not known, with the one that may be meant.

    Raises
    ------
    ConfigError
        Naming the key and the place.
    """
    names = list(known)
    for key in entry:
        if key not in names:
            raise ConfigError(
                f"{where}: unknown key `{key}`; expected {listed(names, 13)}."
                f"{did_you_mean(str(key), names)}"
            )
