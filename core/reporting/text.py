"""Figures as text: counts, shares, decimals, p-values, lists and commands."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from core.errors import PROGRAM

Figures = Mapping[str, Any]

MISSING = "\N{EN DASH}"
_SIZES_SHOWN = 12


def count(value: float | None) -> str:
    """Return a whole number with thousands separators.

    >>> count(4310)
    '4,310'
    """
    return MISSING if value is None else f"{value:,.0f}"


def percent(value: float | None) -> str:
    """Return a share as a percentage with one decimal.

    >>> percent(0.8199)
    '82.0%'
    """
    return MISSING if value is None else f"{value:.1%}"


def decimal(value: float | None) -> str:
    """Return a figure with two decimals and a true minus sign.

    >>> decimal(1.062)
    '1.06'
    """
    if value is None or math.isnan(value):
        return MISSING
    text = f"{value:,.2f}"
    return "0.00" if text == "-0.00" else text.replace("-", "\N{MINUS SIGN}")


def probability(p: float, n_nulls: int) -> str:
    """Return a p-value, not to be broken, and whether few nulls allow no smaller one.

    >>> probability(0.05, 19).split("=")[1].strip()
    '0.05, the smallest that 19 can give'
    """
    text = f"p\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{p:.2g}"
    is_smallest = math.isclose(p, 1 / (n_nulls + 1))
    return f"{text}, the smallest that {n_nulls} can give" if is_smallest else text


def size_list(text: str) -> str:
    """Return the comparison's sizes for readers, the first dozen.

    >>> size_list("4120|96")
    '4,120, 96'
    """
    sizes = [int(size) for size in text.split("|") if size]
    shown = ", ".join(count(size) for size in sizes[:_SIZES_SHOWN])
    rest = len(sizes) - _SIZES_SHOWN
    return (f"{shown} and {rest:,} more" if rest > 0 else shown) or MISSING


def plural(n: int, noun: str) -> str:
    """Return a count with its noun.

    >>> plural(1, "cluster"), plural(1200, "shop")
    ('1 cluster', '1,200 shops')
    """
    return f"{count(n)} {noun}" if n == 1 else f"{count(n)} {noun}s"


def enumerated(words: Sequence[str]) -> str:
    """Join words as a sentence does.

    >>> enumerated(["June", "July", "August"])
    'June, July and August'
    """
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def command(verb: str, folder: str) -> str:
    """Return the command that runs a verb on a folder of artifacts."""
    if folder == "artifacts":
        return f"{PROGRAM} {verb}"
    shown = f'"{folder}"' if " " in folder else folder
    return f"{PROGRAM} {verb} --artifacts {shown}"
