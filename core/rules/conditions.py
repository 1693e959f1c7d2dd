"""Conditions over features: read from YAML as people write them, or learnt.

What a name asks of a feature is a word (`very high`, `high`, `low`, `very low`), a
bound in standard deviations from the mean (``z >= 1.5``), or a bound in the feature's
own unit (``>= 150``). What a learnt rule asks is an interval of values. Which features
there are is handed in.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import yaml
from numpy.typing import NDArray

from core.errors import ConfigError, did_you_mean, listed

FloatArray = NDArray[np.float64]

WORDS: Final = {
    "very high": ("z", ">=", 1.25),
    "high": ("z", ">=", 0.5),
    "low": ("z", "<=", -0.5),
    "very low": ("z", "<=", -1.25),
}
_COMPARE: Final[dict[str, Callable[[float, float], bool]]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
}
_BOUND = re.compile(r"(z\s*)?(>=|<=|>|<)\s*(-?[0-9]+(?:\.[0-9]+)?)")


@dataclass(frozen=True)
class Condition:
    """What a rule asks of one feature.

    Attributes
    ----------
    feature : str
        May hold ``*``, which stands for several features.
    is_standard : bool
        Whether the bound is in standard deviations from the mean, or in the feature's
        own unit.
    sign : {'>=', '>', '<=', '<'}
    bound : float
    text : str
        As it was written.
    """

    feature: str
    is_standard: bool
    sign: str
    bound: float
    text: str

    def holds(self, z: float, value: float) -> bool:
        """Whether a value, in standard deviations and in its unit, meets it."""
        return _COMPARE[self.sign](z if self.is_standard else value, self.bound)

    def strength(self, z: float) -> float:
        """Return how far out a value lies in the direction asked for."""
        return z if self.sign in {">=", ">"} else -z


@dataclass(frozen=True)
class Interval:
    """What a rule asks of one feature: low < value <= high.

    Attributes
    ----------
    feature : str
    low, high : float
        In the feature's own unit; infinite where there is no bound.
    takes_unknown : bool
        Whether an entity whose value is unknown meets it.
    """

    feature: str
    low: float
    high: float
    takes_unknown: bool

    def holds(self, values: FloatArray) -> NDArray[np.bool_]:
        """Return which of a feature's values meet the condition; NaN is unknown."""
        known = (values > self.low) & (values <= self.high)
        return np.where(np.isnan(values), self.takes_unknown, known)

    def text(self) -> str:
        """Return the condition as part of a sentence."""
        parts = []
        if math.isfinite(self.low):
            parts.append(f"{self.feature} > {self.low:.4g}")
        if math.isfinite(self.high):
            parts.append(f"{self.feature} <= {self.high:.4g}")
        return " and ".join(parts)


def parsed_condition(feature: str, said: Any, where: str) -> Condition:
    """Return a condition from its text.

    Parameters
    ----------
    feature : str
    said : str
        A word of `WORDS`, or a bound.
    where : str
        Where it stands, for messages; lacks its closing backtick.

    Raises
    ------
    ConfigError
        If the text is neither.
    """
    text = str(said).strip().lower()
    if text in WORDS:
        _, sign, bound = WORDS[text]
        return Condition(feature, True, sign, bound, text)
    found = _BOUND.fullmatch(text)
    if found is None or not math.isfinite(float(found[3])):
        raise ConfigError(
            f"{where}.{feature}` is `{said}`; expected {listed(list(WORDS))}, a bound "
            "in standard deviations such as `z >= 1.5`, or one in the feature's unit "
            f"such as `>= 0.5`.{did_you_mean(text, WORDS)}"
        )
    return Condition(feature, found[1] is not None, found[2], float(found[3]), text)


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
