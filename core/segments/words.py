"""Features as people say them: a name, and a value in its natural unit."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_BY_MONTH = {
    "log_season_month_": ("{month} level", "of_average_month"),
    "avg_sales_qty_month_": ("average {month} sales", "units"),
    "avg_unique_products_month_": ("average products in {month}", "plain"),
}
_NAMES = {
    "sales_trend_per_year": ("sales trend", "per_year"),
    "sales_irregularity": ("irregularity of sales", "up_or_down"),
    "inactive_month_share": ("share of months without sales", "percent"),
    "assortment_breadth": ("assortment", "products"),
    "assortment_trend_per_year": ("assortment trend", "per_year"),
    "product_concentration": ("concentration on few products", "plain"),
    "cv_monthly_sales_qty": ("variation of monthly sales", "of_mean"),
    "cv_monthly_unique_products": ("variation of monthly products", "of_mean"),
    "monthly_sales_entropy": ("evenness of sales over months", "plain"),
    "median_yoy_sales_growth": ("yearly sales growth", "signed_percent"),
    "median_yoy_spread_growth": ("yearly growth of the assortment", "signed_percent"),
    "later_volume": ("volume afterwards", "plain"),
    "later_growth": ("growth afterwards", "log_ratio"),
    "later_activity": ("share of active months afterwards", "percent"),
    "later_churn": ("share of shops gone afterwards", "percent"),
}
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


def spoken_month(month: str) -> str:
    """Return a month (YYYY-MM) as people say it.

    >>> spoken_month("2024-05")
    'May 2024'
    """
    year, number = month.split("-")
    return f"{_MONTHS[int(number) - 1]} {year}"


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
        " up or down",
    ),
    "of_mean": (lambda v, d: f"{_number(100 * v, d)}%", " of the mean"),
    "products": (lambda v, d: _number(math.exp(min(v, 100.0)), d), " products a month"),
    "units": (_number, " units"),
    "log_ratio": (_ratio, ""),
}


@dataclass(frozen=True)
class Spoken:
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

    def value(self, value: float | None, digits: int = 3) -> str:
        """Return a value in its unit, with so many significant digits."""
        number = self._number(value, digits)
        return number if number == UNKNOWN else number + self.suffix

    def numbers(self, *values: float | None) -> tuple[str, ...]:
        """Return values without the suffix.

        They have as many significant digits (3 to 6) as tell different ones apart.
        """
        for digits in range(3, MAX_DIGITS):
            said = tuple(self._number(value, digits) for value in values)
            if len(set(said)) == len(set(values)):
                return said
        return tuple(self._number(value, MAX_DIGITS) for value in values)

    def _number(self, value: float | None, digits: int) -> str:
        if value is None or math.isnan(value):
            return UNKNOWN
        return _UNITS[self.unit][0](value, digits)


def spoken(feature: str) -> Spoken:
    """Return how to say a feature.

    >>> july = spoken("log_season_month_7")
    >>> july.name, july.value(0.112)
    ('July level', '112% of an average month')
    >>> spoken("assortment_breadth").value(1.9)
    '6.69 products a month'
    >>> spoken("basket_size").name
    'basket size'
    """
    found = re.fullmatch(r"(.+_month_)(\d{1,2})", feature)
    if found and found[1] in _BY_MONTH and 1 <= int(found[2]) <= len(_MONTHS):
        name, unit = _BY_MONTH[found[1]]
        return Spoken(name.format(month=_MONTHS[int(found[2]) - 1]), unit)
    if feature in _NAMES:
        return Spoken(*_NAMES[feature])
    return Spoken(feature.replace("_", " ").strip(), "plain")
