"""Names of segments of shops, and labels of their features, by documented rules.

A name tells what sets a segment apart from all other shops *and* is true of the segment
by itself: "Growing sales" needs both a trend well above the others' and one that is
above 0. Names follow the northern year ("Summer" is
June to August); the months stand beside them.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import polars as pl

from core.months import MONTH_NAMES
from core.reporting.text import rounded, share
from core.yaml_text import shipped_yaml

MONTHS = 12
# Of the northern year, by the month in which a run has its top; January first.
_SEASONS = (
    *("Winter",) * 2,
    *("Spring",) * 3,
    *("Summer",) * 3,
    *("Autumn",) * 3,
    "Year-end",
)
_DECEMBER = 11
_TURN_OF_YEAR = (10, 11, 0)
# In means of the shop's own year: a peak needs one month that high, and takes in the
# months beside it that are high as well; the same for a low.
PEAK, BESIDE_PEAK = 1.25, 1.15
LOW, BESIDE_LOW = 0.75, 0.85


# Of a segment whose months are all near its average one.
STEADY = "Steady all year"


def season_phrase(
    months: Sequence[float], effects: Sequence[float], clear: float
) -> tuple[str, float] | None:
    """Say what sets a segment's year apart.

    Parameters
    ----------
    months : sequence of 12 floats
        Typical shares (or levels) of January to December; they are divided by their
        mean here.
    effects : sequence of 12 floats
        How far each lies from that of the other shops, in robust standard deviations.
    clear : float
        What an effect has to reach to be told.

    Returns
    -------
    (str, float) or None
        The words, and the size of the effect that they rest on; None where no month
        sets the segment apart, or there is nothing to divide by.
    """
    mean = sum(months) / MONTHS
    strongest = max(abs(effect) for effect in effects)
    if mean <= 0 or strongest < clear:
        return None
    index = [value / mean for value in months]
    cores = [m for m in range(MONTHS) if index[m] >= PEAK and effects[m] >= clear]
    if cores:
        runs = _runs([value >= BESIDE_PEAK for value in index], cores)
        tops = [max(run, key=lambda m: (index[m], -m)) for run in runs]
        return _peaks(runs, tops), max(effects[m] for m in cores)
    cores = [m for m in range(MONTHS) if index[m] <= LOW and effects[m] <= -clear]
    if cores:
        runs = _runs([value <= BESIDE_LOW for value in index], cores)
        ends = [min(run, key=lambda m: (index[m], m)) for run in runs]
        return _lows(runs, ends), -min(effects[m] for m in cores)
    return STEADY, strongest


def months_label(run: Sequence[int]) -> str:
    """Return ``Jun-Aug``, or ``Jul``, of months counted from 0.

    >>> months_label([10, 11, 0])
    'Nov-Jan'
    """
    first, last = MONTH_NAMES[run[0]][:3], MONTH_NAMES[run[-1]][:3]
    return first if len(run) == 1 else f"{first}-{last}"


def _runs(belongs: Sequence[bool], cores: Sequence[int]) -> list[list[int]]:
    """Return the runs of neighbouring months, round the year, that hold a core."""
    if all(belongs):
        return [list(range(MONTHS))]
    runs = []
    for start in range(MONTHS):
        if not belongs[start] or belongs[start - 1]:
            continue
        run = [start]
        while belongs[(run[-1] + 1) % MONTHS]:
            run.append((run[-1] + 1) % MONTHS)
        if set(run) & set(cores):
            runs.append(run)
    return sorted(runs, key=lambda run: min(m for m in run if m in cores))


def _peaks(runs: Sequence[Sequence[int]], tops: Sequence[int]) -> str:
    if len(runs) == 1:
        return f"{_season(runs[0], tops[0])} peak ({months_label(runs[0])})"
    if len(runs) == 2:
        return f"Two peaks: {months_label(runs[0])}, {months_label(runs[1])}"
    return "Several peaks"


def _lows(runs: Sequence[Sequence[int]], ends: Sequence[int]) -> str:
    if len(runs) == 1:
        return f"{_season(runs[0], ends[0])} low ({months_label(runs[0])})"
    return "Several low times"


def _season(run: Sequence[int], top: int) -> str:
    """Return the season of a run; one around the turn of the year is the year's end."""
    if _DECEMBER in run and top in _TURN_OF_YEAR:
        return _SEASONS[_DECEMBER]
    return _SEASONS[top]


_WORDS: dict[str, Any] = shipped_yaml("core.retailers", "names.yaml")
UNKNOWN = "unknown"
MAX_DIGITS = 6


def _number(value: float, digits: int) -> str:
    """Return a number with so many significant digits, never in powers of ten."""
    places = 0
    if value and math.isfinite(value):
        places = max(digits - 1 - math.floor(math.log10(abs(value))), 0)
    text = f"{value:,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _signed(value: float, digits: int) -> str:
    return ("+" if value > 0 else "") + _number(value, digits)


def _ratio(value: float, digits: int) -> str:
    """Return the logarithm of a ratio as a signed percentage."""
    return f"{_signed(100 * math.expm1(min(value, 100.0)), digits)}%"


# The number, and what follows it.
_UNITS: dict[str, tuple[Callable[[float, int], str], str]] = {
    "plain": (_number, ""),
    "percent": (lambda v, d: f"{_number(100 * v, d)}%", ""),
    "signed_percent": (lambda v, d: f"{_signed(100 * v, d)}%", ""),
    "of_average_month": (
        lambda v, d: f"{_number(100 * math.exp(min(v, 100.0)), d)}%",
        " of an average month",
    ),
    "per_year": (_ratio, " per year"),
    "up_or_down": (
        lambda v, d: f"{_number(100 * math.expm1(min(v, 100.0)), d)}%",
        "",
    ),
    "of_mean": (lambda v, d: f"{_number(100 * v, d)}%", " of the mean"),
    "products": (lambda v, d: _number(math.exp(min(v, 100.0)), d), " products a month"),
    "units": (_number, " units"),
    "log_ratio": (_ratio, ""),
}
# Units of logarithms, and what undoes them.
_UNDONE: dict[str, Callable[[float], float]] = {
    **dict.fromkeys(("per_year", "log_ratio", "up_or_down"), math.expm1),
    **dict.fromkeys(("of_average_month", "products"), math.exp),
}
_PLAIN = ("plain", "products", "units")
SAYINGS: dict[str, list[dict[str, Any]]] = _WORDS["says"]


@dataclass(frozen=True)
class FeatureLabel:
    """How to say a feature.

    Attributes
    ----------
    name : str
        In words; unknown features keep their own name, with spaces.
    unit : str
        How values are said.
    """

    name: str
    unit: str

    @property
    def suffix(self) -> str:
        """What follows a number in this unit, once for several."""
        return _UNITS[self.unit][1]

    def natural(self, value: float) -> float:
        """Return a value without its logarithm: a ratio, a change, a number.

        >>> round(feature_label("sales_trend_per_year").natural(-0.431), 2)
        -0.35
        """
        return _UNDONE.get(self.unit, float)(min(value, 100.0))

    def size(self, value: float) -> str:
        """Return a value without its sign and suffix, with two significant digits.

        >>> feature_label("sales_trend_per_year").size(-0.431)
        '35%'
        """
        size = abs(self.natural(value))
        return rounded(size) if self.unit in _PLAIN else share(size)

    def value(self, value: float | None) -> str:
        """Return a value in its unit, with three significant digits."""
        number = self._number(value, 3)
        return number if number == UNKNOWN else number + self.suffix

    def numbers(self, *values: float | None, least: int = 3) -> tuple[str, ...]:
        """Return values without the suffix.

        They have as many significant digits (`least` to 6) as tell different ones
        apart.
        """
        for digits in range(least, MAX_DIGITS):
            said = tuple(self._number(value, digits) for value in values)
            if len(set(said)) == len(set(values)):
                return said
        return tuple(self._number(value, MAX_DIGITS) for value in values)

    def _number(self, value: float | None, digits: int) -> str:
        if value is None or math.isnan(value):
            return UNKNOWN
        return _UNITS[self.unit][0](value, digits)


def feature_label(feature: str) -> FeatureLabel:
    """Return how to say a feature.

    >>> july = feature_label("log_season_month_7")
    >>> july.name, july.value(0.112)
    ('July level', '112% of an average month')
    >>> feature_label("assortment_breadth").value(1.9)
    '6.69 products a month'
    >>> feature_label("basket_size").name
    'basket size'
    """
    found = re.fullmatch(r"(.+_month_)(\d{1,2})", feature)
    if (
        found
        and found[1] in _WORDS["labels_by_month"]
        and 1 <= int(found[2]) <= len(MONTH_NAMES)
    ):
        name, unit = _WORDS["labels_by_month"][found[1]]
        return FeatureLabel(name.format(month=MONTH_NAMES[int(found[2]) - 1]), unit)
    if feature in _WORDS["labels"]:
        return FeatureLabel(*_WORDS["labels"][feature])
    return FeatureLabel(feature.replace("_", " ").strip(), "plain")


# In robust standard deviations from the other shops (see `cluster_contrasts`): what it
# takes to be called something, and what suffices to tell two equal names apart.
CLEAR_EFFECT = 0.5
SLIGHT_EFFECT = 0.2
AVERAGE = "Average"
SEASON = "log_season_month_"
LEVELS: dict[str, list[str]] = _WORDS["levels"]
# Only the first of these tells a season: products bought follow sales.
_SEASONAL = (SEASON, "avg_sales_qty_month_")


@dataclass(frozen=True)
class Rule:
    """One way for a feature to give a name.

    Attributes
    ----------
    theme : str
        A name tells each theme once.
    feature : str
        The feature that is looked at.
    is_above : bool
        Whether the segment lies above (True) or below the other shops.
    low, high : float
        The segment's own median lies in [low, high), in the feature's unit.
    words : str
        What the segment is then called.
    """

    theme: str
    feature: str
    is_above: bool
    low: float
    high: float
    words: str

    def holds(self, effect: float, median: float) -> bool:
        """Whether a segment's effect has the rule's side and its median the range."""
        return (effect > 0) == self.is_above and self.low <= median < self.high


# The first feature of a theme speaks whose effect comes near the theme's clearest.
NEARLY = 0.75
RULES = tuple(
    Rule(
        row["theme"],
        row["feature"],
        row["side"] == "above",
        row.get("low", -math.inf),
        row.get("high", math.inf),
        row["words"],
    )
    for row in _WORDS["rules"]
)
_KNOWN = {rule.feature for rule in RULES}


@dataclass(frozen=True)
class _Theme:
    """Something that can be said of a segment, and how clear it is."""

    name: str
    words: str
    strength: float


def name_segments(
    contrasts: pl.DataFrame, kept: Mapping[int, str] = MappingProxyType({})
) -> dict[int, str]:
    """Name every segment by what sets it apart.

    The theme with the clearest effect gives the name, capitalised; without a clear one
    (0.5 robust standard deviations) the name is "Steady all year" where every month is
    near the segment's average one, else "Average". Where several segments get
    the same name, each is told apart by its next theme (from 0.2 on), and as a last
    resort by a number, in the order of the segments' ids.

    Parameters
    ----------
    contrasts : DataFrame
        As `core.segments.profiles.cluster_contrasts` returns it: ``cluster, feature,
        median, effect``; a null effect says nothing.
    kept : mapping of int to str
        Names that segments have already, and which the others are told apart from.

    Returns
    -------
    dict of int to str
        By id, ascending. No two names are equal, and the same contrasts in any order of
        rows give the same names.
    """
    tables = {
        int(cluster): table
        for (cluster,), table in sorted(contrasts.group_by(["cluster"]))
    }
    themes = {cluster: _themes_of(table) for cluster, table in tables.items()}
    names = {
        cluster: _first_name(found, tables[cluster])
        for cluster, found in themes.items()
    }
    names |= kept
    for cluster in _repeated(names):
        if cluster not in kept:
            names[cluster] = _longer_name(themes[cluster], names[cluster])
    return _numbered(names, kept)


def first_words(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return what one segment would be called, by rows of its contrasts alone."""
    schema = dict.fromkeys(("median", "effect"), pl.Float64) | {"feature": pl.String}
    table = pl.DataFrame([{n: row[n] for n in schema} for row in rows], schema=schema)
    return _first_name(_themes_of(table), table)


def _themes_of(table: pl.DataFrame) -> list[_Theme]:
    """Return what can be said of one segment, the clearest first."""
    known = table.filter(pl.col("effect").is_finite(), pl.col("median").is_finite())
    effects = dict(known.select("feature", "effect").iter_rows())
    medians = dict(known.select("feature", "median").iter_rows())
    found = _season_theme(effects, medians)
    found += _level_themes(effects)
    found += _rule_themes(effects, medians)
    found += [
        _Theme(name, f"{'high' if effects[name] > 0 else 'low'} {_in_words(name)}",
               abs(effects[name]))
        for name in sorted(effects)
        if name not in _KNOWN and not name.startswith((SEASON, *LEVELS))
    ]  # fmt: skip
    clearest: dict[str, float] = {}
    for theme in found:
        clearest[theme.name] = max(clearest.get(theme.name, 0.0), theme.strength)
    best: dict[str, _Theme] = {}
    for theme in found:
        if theme.strength >= max(NEARLY * clearest[theme.name], SLIGHT_EFFECT):
            best.setdefault(theme.name, theme)
    return sorted(best.values(), key=lambda t: (-round(t.strength, 9), t.name))


def _season_theme(effects: dict[str, float], medians: dict[str, float]) -> list[_Theme]:
    """Return what the twelve months tell, if all are there."""
    for prefix in _SEASONAL:
        months = [f"{prefix}{month}" for month in range(1, MONTHS + 1)]
        if not all(name in effects for name in months):
            continue
        # A level's effects hold the shop's size too; what is left is its season.
        size = 0.0 if prefix == SEASON else _middle([effects[m] for m in months])
        apart = [effects[name] - size for name in months]
        levels = [medians[name] for name in months]
        if prefix == SEASON:
            levels = [math.exp(level) for level in levels]
        found = season_phrase(levels, apart, CLEAR_EFFECT)
        if found is not None:
            return [_Theme("season", *found)]
    return []


def _level_themes(effects: dict[str, float]) -> list[_Theme]:
    """Return what twelve months of a level tell of its size."""
    found = []
    for prefix, (theme, above, below) in LEVELS.items():
        values = [effects[n] for n in sorted(effects) if n.startswith(prefix)]
        if values:
            size = _middle(values)
            found.append(_Theme(theme, above if size > 0 else below, abs(size)))
    return found


def _rule_themes(effects: dict[str, float], medians: dict[str, float]) -> list[_Theme]:
    """Return what the rules of single features tell, in their order."""
    return [
        _Theme(rule.theme, rule.words, abs(effects[rule.feature]))
        for rule in RULES
        if rule.feature in effects
        and rule.holds(effects[rule.feature], medians[rule.feature])
    ]


def _first_name(themes: Sequence[_Theme], table: pl.DataFrame) -> str:
    """Return the name by the clearest theme alone."""
    if not themes or themes[0].strength < CLEAR_EFFECT:
        levels = month_levels(dict(table.select("feature", "median").iter_rows()))
        return STEADY if levels and is_even(levels) else AVERAGE
    return _capitalised(themes[0].words)


def month_levels(medians: Mapping[str, float | None]) -> list[float]:
    """Return a segment's sales in January to December, of its average month.

    Parameters
    ----------
    medians : mapping of str to float
        By feature; none of them may be there.

    Returns
    -------
    list of float
        Twelve, or none where a month is not known.
    """
    for prefix in _SEASONAL:
        found = [medians.get(f"{prefix}{month}") for month in range(1, MONTHS + 1)]
        known = [value for value in found if value is not None]
        if len(known) < MONTHS:
            continue
        if prefix == SEASON:
            return [math.exp(value) for value in known]
        mean = sum(known) / MONTHS
        return [value / mean for value in known] if mean > 0 else []
    return []


def is_even(levels: Sequence[float]) -> bool:
    """Whether every month is near the average one."""
    return all(BESIDE_LOW < level < BESIDE_PEAK for level in levels)


def _longer_name(themes: Sequence[_Theme], name: str) -> str:
    """Return a name with the theme that follows those it tells already."""
    rest = [theme for theme in themes if _capitalised(theme.words) != name]
    return f"{name}, {rest[0].words[:1].lower()}{rest[0].words[1:]}" if rest else name


def _repeated(names: dict[int, str]) -> list[int]:
    counts = Counter(names.values())
    return [cluster for cluster, name in names.items() if counts[name] > 1]


def _numbered(names: dict[int, str], kept: Mapping[int, str]) -> dict[int, str]:
    """Put numbers to what is still equal: the first keeps its name, then comes 2."""
    taken = set(kept.values())
    result = {}
    for cluster, name in sorted(names.items()):
        if cluster in kept:
            result[cluster] = name
            continue
        candidate, number = name, 2
        while candidate in taken:
            candidate, number = f"{name} {number}", number + 1
        taken.add(candidate)
        result[cluster] = candidate
    return result


def _middle(values: Sequence[float]) -> float:
    """Return the median of some values."""
    ordered = sorted(values)
    n = len(ordered)
    return (ordered[(n - 1) // 2] + ordered[n // 2]) / 2


def _in_words(feature: str) -> str:
    return feature.replace("_", " ").strip()


def _capitalised(words: str) -> str:
    return words[:1].upper() + words[1:]


def difference(row: Mapping[str, Any], least: int = 3) -> str:
    """Say in the feature's own unit how a segment differs from the other shops.

    Parameters
    ----------
    row : mapping
        ``feature``, ``median``, ``rest_median`` and ``effect``.
    least : int
        Significant digits, more where as many do not tell the two apart.

    >>> difference({"feature": "assortment_breadth", "median": 2.0,
    ...             "rest_median": 1.0, "effect": 1.4})
    'assortment 7.39 products a month (others 2.72)'
    """
    words = feature_label(row["feature"])
    own, rest = words.numbers(row["median"], row["rest_median"], least=least)
    if own == rest:
        side = "higher" if row["effect"] > 0 else "lower"
        return f"{words.name} {side} in the ranks"
    return f"{words.name} {own}{words.suffix} (others {rest})"
