"""What a name asks of a feature: a word, or a bound in standard deviations or units.

A word (`very high`, `high`, `low`, `very low`) stands for a bound in standard
deviations from the mean (``z >= 1.5``); a bound without ``z`` is in the feature's own
unit (``>= 150``). Bounds are those of `core.rules.syntax`.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import Any, Final

from core.errors import ConfigError, did_you_mean, listed
from core.rules.conditions import Node, Range
from core.rules.syntax import Feature, Syntax

WORDS: Final = {
    "very high": "z >= 1.25",
    "high": "z >= 0.5",
    "low": "z <= -0.5",
    "very low": "z <= -1.25",
}
_SYNTAX: Final = Syntax({name: Feature(name, "number") for name in ("z", "value")})


@dataclass(frozen=True)
class Condition:
    """What a name asks of one feature.

    Attributes
    ----------
    feature : str
        May hold ``*``, which stands for several features.
    asked : Range
        Of ``z``, standard deviations from the mean, or of ``value`` in the feature's
        own unit; bounded on one side.
    text : str
        As it was written.
    """

    feature: str
    asked: Range
    text: str

    def holds(self, z: float, value: float) -> bool:
        """Whether a value, in standard deviations and in its unit, meets it."""
        return self.asked.holds({"z": z, "value": value})

    def strength(self, z: float) -> float:
        """Return how far out a value lies in the direction asked for."""
        return -z if self.asked.low == -math.inf else z


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
    bound = WORDS.get(text, text)
    asked: Node | None = None
    with contextlib.suppress(ConfigError):
        asked = _SYNTAX.condition(bound if bound[:1] == "z" else f"value {bound}")
    if not isinstance(asked, Range) or not _is_one_sided(asked):
        raise ConfigError(
            f"{where}.{feature}` is `{said}`; expected {listed(list(WORDS))}, a bound "
            "in standard deviations such as `z >= 1.5`, or one in the feature's unit "
            f"such as `>= 0.5`.{did_you_mean(text, WORDS)}"
        )
    return Condition(feature, asked, text)


def _is_one_sided(asked: Range) -> bool:
    ends = asked.low, asked.high
    known = [abs(end) for end in ends if not isinstance(end, str)]
    return len(known) == 2 and max(known) == math.inf != min(known)
