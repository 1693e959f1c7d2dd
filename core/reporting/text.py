"""Figures as text: counts, shares, decimals, p-values, lists and commands."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from core.errors import PROGRAM

Figures = Mapping[str, Any]

MISSING = "\N{EN DASH}"
_SIZES_SHOWN = 12
_COLUMN = re.compile(r"[a-z0-9]+(?:_[^`./_]+)*")
_NAMES = re.compile(
    r"`([^`]*)`|(?<![\w./-])([a-z][a-z0-9]*(?:_[a-z0-9]+)+)(?![\w/]|\.\w)"
)
_CODE_NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)+")
_MARKUP = re.compile(r"([\\`*_\[\]<>|#~&])")


def count(value: float | None) -> str:
    """Return a whole number with thousands separators.

    >>> count(4310)
    '4,310'
    """
    return MISSING if value is None else f"{value:,.0f}"


def decimal(value: float | None) -> str:
    """Return a figure with two decimals and a true minus sign.

    >>> decimal(1.062)
    '1.06'
    """
    if value is None or math.isnan(value):
        return MISSING
    text = f"{value:,.2f}"
    return "0.00" if text == "-0.00" else text.replace("-", "\N{MINUS SIGN}")


def rounded(value: float | None) -> str:
    """Return a figure with two significant digits, never in powers of ten.

    >>> rounded(14.81), rounded(0.0652), rounded(1234)
    ('15', '0.065', '1,200')
    """
    if value is None or not math.isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    places = 1 - math.floor(math.log10(abs(value)))
    shown = round(value, places)
    places = max(1 - math.floor(math.log10(abs(shown))), 0)
    text = f"{shown:,.{places}f}".replace("-", "\N{MINUS SIGN}")
    return text.rstrip("0").rstrip(".") if "." in text else text


def share(value: float | None) -> str:
    """Return a share as a percentage with two significant digits; only 1 is 100%.

    >>> share(0.3365), share(0.00109), share(0.9996), share(1)
    ('34%', '0.11%', '99.9%', '100%')
    """
    if value is None or not 0.995 <= value < 1:
        return MISSING if value is None else f"{rounded(100 * value)}%"
    return f"{math.floor(1000 * value) / 10:.1f}%"


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


def spoken(name: str) -> str:
    """Return a name in words, if it is written as code is.

    >>> spoken("power_buyer"), spoken("Seg1_5_6"), spoken("Late buyers")
    ('power buyer', 'Seg1_5_6', 'Late buyers')
    """
    return name.replace("_", " ") if _CODE_NAME.fullmatch(name) else name


def prose(text: str, words: Callable[[str], str], plain: Collection[str] = ()) -> str:
    """Return a sentence with names of columns in words; options and files stay code.

    Parameters
    ----------
    text : str
        Names between backticks, or bare with an underscore.
    words : callable
        What a column is called.
    plain : collection of str
        Names between backticks that are no code, such as those of segments.

    >>> prose("`n_days` and n_days: see `a.b_c`", lambda n: n.replace("_", " "))
    'n days and n days: see `a.b_c`'
    """

    def told(found: re.Match[str]) -> str:
        quoted, bare = found.groups()
        if bare is not None:
            return words(bare)
        if quoted in safe:
            return str(quoted)
        return words(quoted) if _COLUMN.fullmatch(quoted) else found[0]

    # A backtick in a name would end the code that the name stands in.
    safe = {name.replace("`", "'") for name in plain}
    for name in plain:
        if "`" in name:
            text = text.replace(name, name.replace("`", "'"))
    return _NAMES.sub(told, text)


def marked(text: str) -> str:
    r"""Return a sentence as Markdown: code between backticks, all else as it was typed.

    >>> print(marked("set `a_b`, not a_b"))
    set `a_b`, not a\_b
    """
    parts = " ".join(text.split()).split("`")
    if len(parts) % 2 == 0:
        return literal(text)
    return "".join(
        f"`{part}`" if place % 2 else _MARKUP.sub(r"\\\1", part)
        for place, part in enumerate(parts)
    )


def literal(text: str) -> str:
    r"""Return a text that Markdown shows as it was typed, on one line, even in a table.

    >>> print(literal("a|b `c`"))
    a\|b \`c\`
    """
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


def command(verb: str, folder: str) -> str:
    """Return the command that runs a verb on a folder of artifacts."""
    if folder == "artifacts":
        return f"{PROGRAM} {verb}"
    shown = f'"{folder}"' if " " in folder else folder
    return f"{PROGRAM} {verb} --artifacts {shown}"
