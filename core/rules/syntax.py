"""Syntax of conditions: their grammar, and what their names and values stand for."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NoReturn

import narwhals as nw

from core.errors import ConfigError, did_you_mean, listed
from core.rules.conditions import (
    And,
    Bound,
    IsMissing,
    Leaf,
    Node,
    Not,
    OneOf,
    Or,
    Range,
    Value,
)

CONDITION: Final = r"""
?start: either
?either: both (_OR both)*
?both: inverse (_AND inverse)*
?inverse: _NOT inverse -> opposite
    | atom
?atom: "(" either ")"
    | _EVERYONE -> everyone
    | operand SIGN operand (SIGN operand)? -> comparison
    | name _IN "{" operand ("," operand)* "}" -> membership
    | name _NOT _IN "{" operand ("," operand)* "}" -> no_membership
    | name _IS _MISSING -> missing
    | name _IS _NOT _MISSING -> known
    | name -> flag
?operand: name
    | NUMBER -> number
    | TEXT -> text
    | _YES -> yes
    | _NO -> no
name: NAME | QUOTED_NAME

SIGN: "<=" | ">=" | "!=" | "<" | ">" | "==" | "="
NUMBER: /[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?(?!\w)/i
TEXT: /"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/
_AND: /and\b/i
_OR: /or\b/i
_NOT: /not\b/i
_IN: /in\b/i
_IS: /is\b/i
_MISSING: /missing\b/i
_EVERYONE: /everyone\b/i
_YES: /yes\b/i
_NO: /no\b/i
NAME: /(?!(and|or|not|in|is|missing|everyone|yes|no)\b)[^\W\d]\w*/i
QUOTED_NAME: /`[^`]+`/
%ignore /\s+/
"""
"""The grammar of a condition, in Lark's notation; keywords in any case."""

TYPES: Final = ("integer", "number", "flag", "text")
NUMERIC: Final = ("integer", "number")
MAX_DEPTH: Final = 60
_PERCENTILE: Final = re.compile(r"p(\d{1,2}(?:\.\d+)?)")


@dataclass(frozen=True)
class Feature:
    """What a rule may ask of a customer.

    Attributes
    ----------
    name : str
    type : {'integer', 'number', 'flag', 'text'}
    low, high : float
        Smallest and largest number that it can be; infinite where not known.
    levels : tuple of str
        Every text that it can be; empty where any text is possible.
    missing : str or None
        What it means that a customer has no value; None: every customer has one.
    description : str
    is_fixed : bool
        Whether nobody can change it: no explanation asks for it then.
    """

    name: str
    type: Literal["integer", "number", "flag", "text"]
    low: float = -math.inf
    high: float = math.inf
    levels: tuple[str, ...] = ()
    missing: str | None = None
    description: str = ""
    is_fixed: bool = False

    def column(self, of: Any = nw) -> Any:
        """Return it as an expression, Float64 or String, null where missing or NaN.

        A flag is set where its number is not 0.
        """
        column = of.col(self.name)
        if self.type == "text":
            return column.cast(of.String)
        number = column.cast(of.Float64)
        return of.when(~number.is_nan()).then(number)

    def domain(self) -> Node:
        """Return the condition that every customer is declared to meet."""
        asked: list[Node] = []
        if self.levels:
            asked.append(OneOf(self.name, self.levels))
        if self.low > -math.inf or self.high < math.inf:
            asked.append(Range(self.name, self.low, self.high, low_included=True))
        if self.missing is not None:
            asked = [Or((*asked, IsMissing(self.name)))] if asked else []
        elif not asked:
            asked = [Not(IsMissing(self.name))]
        return And(tuple(asked))


@dataclass(frozen=True)
class Threshold:
    """A number with a name: given, or learnt from a table as a quantile of a feature.

    Quantiles are interpolated linearly. Customers with equal values stay together: `>=`
    or `>` in the condition says on which side.

    Attributes
    ----------
    name, feature : str
    quantile : float
        0 to 1; 0.5 is the median. NaN where only a value is given.
    among : Node or None
        The customers it is learnt of; None: all that have a value.
    value : float or None
        None before it is learnt.
    """

    name: str
    feature: str
    quantile: float
    among: Node | None = None
    value: float | None = None


def fail(message: str) -> NoReturn:
    """Raise the error of a rule set."""
    raise ConfigError(message)


@dataclass
class Syntax:
    """Reads conditions, and knows the features and thresholds they may speak of.

    Attributes
    ----------
    features : dict of name to Feature
    thresholds : dict of name to Threshold
        A percentile in a condition (``spend > p80``) adds its own, ``spend_p80``.
    """

    features: dict[str, Feature] = field(default_factory=dict)
    thresholds: dict[str, Threshold] = field(default_factory=dict)

    def condition(self, text: Any) -> Node:
        """Return a condition from its text.

        Raises
        ------
        ConfigError
            What was met, where in the text, and what was expected.
        """
        from lark.exceptions import UnexpectedInput

        if not isinstance(text, str):
            fail(f"{text!r} is no condition; expected a text such as `x <= 5`.")
        try:
            tree = _parser().parse(text)
        except UnexpectedInput as error:
            fail(_syntax_message(text, error))
        return self._node(tree)

    def _node(self, tree: Any, depth: int = 1) -> Node:
        """Return the condition of a tree that Lark has made."""
        if depth > MAX_DEPTH:
            fail(f"the condition is nested more than {MAX_DEPTH} levels deep.")
        match tree.data:
            case "either":
                return Or(tuple(self._node(t, depth + 1) for t in tree.children))
            case "both":
                return And(tuple(self._node(t, depth + 1) for t in tree.children))
            case "opposite":
                return Not(self._node(tree.children[0], depth + 1))
            case "everyone":
                return And(())
            case "comparison":
                return self._comparison(tree.children)
        return self._asked_of(self.known(_said(tree.children[0])), tree)

    def _asked_of(self, feature: Feature, tree: Any) -> Node:
        """Return what ``is missing``, ``in {...}`` or a bare name ask of a feature."""
        if tree.data == "flag":
            if feature.type != "flag":
                fail(
                    f"`{feature.name}` is of type `{feature.type}` and no condition; "
                    "expected a comparison, such as "
                    f"`{feature.name} {_EXAMPLES[feature.type]}`."
                )
            return OneOf(feature.name, (True,))
        asked: Node = IsMissing(feature.name)
        if tree.data.endswith("membership"):
            values = [self._value(feature, value) for value in tree.children[1:]]
            is_any = feature.type == "flag" and len(set(values)) == 2
            asked = Not(asked) if is_any else OneOf(feature.name, _unique(values))
        return asked if tree.data in {"missing", "membership"} else Not(asked)

    def known(self, name: str) -> Feature:
        """Return the feature of a name, or say that there is none."""
        if name not in self.features:
            kind = "is a threshold, no" if name in self.thresholds else "is an unknown"
            fail(
                f"`{name}` {kind} feature; expected one of "
                f"{listed(list(self.features))}.{did_you_mean(name, self.features)}"
            )
        return self.features[name]

    def numeric(self, name: str) -> Feature:
        """Return the feature of a name, or say that it is none with an order."""
        feature = self.known(name)
        if feature.type not in NUMERIC:
            fail(
                f"`{name}` is of type `{feature.type}`, which has no order; expected a "
                f"feature of type {listed(NUMERIC)}."
            )
        return feature

    def _comparison(self, said: Sequence[Any]) -> Node:
        """Return what ``a < b`` or ``a < b < c`` asks of the one feature in it."""
        operands, signs = (
            list(said[::2]),
            [str(s).replace("==", "=") for s in said[1::2]],
        )
        places = [i for i, o in enumerate(operands) if self._is_feature(o)]
        if not places:
            name = next((o for o in operands if o.data == "name"), None)
            if name is not None:
                self.known(_said(name))
            fail(f"`{_shown(said)}` speaks of no feature; expected one.")
        if len(places) > 1:
            fail(
                f"`{_shown(said)}` compares two features; expected one feature and a "
                "number. Add their difference or ratio as a feature of its own."
            )
        feature = self.features[_said(operands[places[0]])]
        if len(signs) == 2:
            is_chain = places == [1] and {s[0] for s in signs} in ({"<"}, {">"})
            if not is_chain:
                fail(
                    f"`{_shown(said)}`: expected a range such as "
                    f"`2 < {feature.name} <= 5`."
                )
            self.numeric(feature.name)
            low, high = (self._bound(feature, operands[i]) for i in (0, 2))
            if signs[0][0] == ">":
                low, high, signs = high, low, signs[::-1]
            return Range(feature.name, low, high, "=" in signs[0], "=" in signs[1])
        sign = signs[0] if places == [0] else _MIRRORED[signs[0]]
        return self._simple(feature, sign, operands[1 - places[0]])

    def _simple(self, feature: Feature, sign: str, other: Any) -> Node:
        """Return what ``feature sign other`` asks."""
        if sign in {"=", "!="}:
            is_bound = other.data == "name" and feature.type in NUMERIC
            if is_bound:
                bound = self._bound(feature, other)
                asked: Leaf = Range(feature.name, bound, bound, low_included=True)
            else:
                asked = OneOf(feature.name, (self._value(feature, other),))
            return asked if sign == "=" else Not(asked)
        self.numeric(feature.name)
        bound, is_in = self._bound(feature, other), "=" in sign
        if sign[0] == ">":
            return Range(feature.name, low=bound, low_included=is_in)
        return Range(feature.name, high=bound, high_included=is_in)

    def _is_feature(self, operand: Any) -> bool:
        return operand.data == "name" and _said(operand) in self.features

    def _bound(self, feature: Feature, operand: Any) -> Bound:
        """Return a number, or the name of a threshold of the feature."""
        if operand.data == "number":
            return _finite(operand)
        name = _said(operand)
        threshold = self.thresholds.get(name)
        percentile = _PERCENTILE.fullmatch(name)
        if threshold is None and operand.data == "name" and percentile:
            name = f"{feature.name}_{name}"
            if name in self.features:
                fail(f"`{name}` would have the name of a feature; name the threshold.")
            threshold = Threshold(name, feature.name, float(percentile[1]) / 100)
            threshold = self.thresholds.setdefault(name, threshold)
        if threshold is None:
            known = list(self.thresholds)
            fail(
                f"`{feature.name}` is compared with `{name}`; expected a number, a "
                f"percentile such as `p80`, or a threshold ({listed(known) or 'none'})."
                f"{did_you_mean(name, known)}"
            )
        if threshold.feature != feature.name:
            fail(
                f"the threshold `{name}` is one of `{threshold.feature}`, and is "
                f"compared with `{feature.name}`."
            )
        return name

    def _value(self, feature: Feature, operand: Any) -> Value:
        """Return a value that the feature can be equal to."""
        said, kind = _said(operand), feature.type
        if kind == "text" and operand.data in {"name", "text", "yes", "no"}:
            if feature.levels and said not in feature.levels:
                fail(
                    f"`{said}` is no level of `{feature.name}`; expected "
                    f"{listed(feature.levels)}.{did_you_mean(said, feature.levels)}"
                )
            return said
        if kind in NUMERIC and operand.data == "number":
            return _finite(operand)
        if kind == "flag" and operand.data in {"yes", "no"}:
            return bool(operand.data == "yes")
        if kind == "flag" and said in {"0", "1"}:
            return said == "1"
        fail(
            f"`{feature.name}` is of type `{kind}` and compared with `{said}`; "
            f"expected `{feature.name} {_EXAMPLES[kind]}`."
        )


_MIRRORED: Final = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!="}
_EXAMPLES: Final = {
    "integer": "<= 5",
    "number": "<= 0.5",
    "flag": "= yes",
    "text": "in {a, b}",
}


def _said(operand: Any) -> str:
    """Return the text of a name, number or quoted text, without its quotes."""
    if not operand.children:
        return str(operand.data)
    said = str(operand.children[0])
    if operand.data == "text":
        return re.sub(r"\\(.)", r"\1", said[1:-1])
    return said.strip("`")


def _unique(values: Sequence[Value]) -> tuple[Value, ...]:
    return tuple(dict.fromkeys(values))


def _finite(operand: Any) -> float:
    number = float(operand.children[0])
    if not math.isfinite(number):
        fail(f"`{operand.children[0]}` is too large a number.")
    return number


def _shown(said: Sequence[Any]) -> str:
    return " ".join(
        str(part) if isinstance(part, str) else _said(part) for part in said
    )


@functools.cache
def _parser() -> Any:
    from lark import Lark

    return Lark(CONDITION, parser="lalr", maybe_placeholders=False)


_EXPECTED: Final = {
    "NAME": "a feature",
    "NUMBER": "a number",
    "SIGN": "a comparison (`<`, `<=`, `>`, `>=`, `=`, `!=`)",
    "TEXT": "a quoted text",
    "LPAR": "`(`",
    "LBRACE": "`{`",
    "COMMA": "`,`",
    "RBRACE": "`}`",
    "RPAR": "`)`",
    "$END": "the end",
}
_MEANT: Final = {
    "=>": ">=", "=<": "<=", "≤": "<=", "≥": ">=", "≠": "!=", "<>": "!=", "&&": "and",
    "||": "or", "&": "and", "|": "or", "!": "not", "between": "2 < x <= 5",
    "null": "is missing", "none": "is missing", "nan": "is missing",
}  # fmt: skip


def _syntax_message(text: str, error: Any) -> str:
    """Return what was met in a condition, where, and what was expected."""
    token = getattr(error, "token", None)
    is_end = token is not None and token.type == "$END"
    at = len(text) if is_end else error.pos_in_stream
    before, rest = text[:at].rstrip(), text[at:]
    met = str(token) if token else re.findall(r"\w+|[^\w\s]+|$", rest)[0]
    asked = set(getattr(error, "accepts", None) or error.allowed) - {"QUOTED_NAME"}
    if before.count("{") <= before.count("}"):
        asked -= {"COMMA", "RBRACE"}
    if before.count("(") <= before.count(")"):
        asked -= {"RPAR"}
    named = [words for name, words in _EXPECTED.items() if name in asked]
    keywords = [f"`{name.lower()[1:]}`" for name in sorted(asked - _EXPECTED.keys())]
    after = f"after `{before}`" if before else "at the start"
    around = (before[-1:] + met, met.lower(), met[:1])
    meant = next((f" Did you mean `{_MEANT[m]}`?" for m in around if m in _MEANT), "")
    return (
        f"`{text}`: met {f'`{met}`' if met else 'the end'} {after}; expected "
        f"{', '.join([*named, *keywords])}.{meant}"
    )
