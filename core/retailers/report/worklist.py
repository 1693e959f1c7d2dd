"""Who moved and what to do: the first table of a refresh, and its shops by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from core.months import spoken_month
from core.reporting.page import Table
from core.reporting.text import MISSING, count, enumerated, share
from core.retailers.playbook import ShopPlaybook
from core.retailers.report.decision import refresh_sentences, titled
from core.segments.changing import FALSE_LEVEL_SHARE, FALSE_SHARE

WORKLIST: Final = "refresh_shops.csv"
MOST_WAYS, MOST_SHOPS = 3, 10
_FEW = 3
# A thousand to one.
_VERY_LIKELY: Final = 6.9
_TEXTS = frozenset({"shop", "segment", "from", "to", "since", "last sale", "how sure"})
_BETWEEN = ("moved", "changing")
_CHANCE = {
    "changing": FALSE_SHARE,
    "sells less": FALSE_LEVEL_SHARE,
    "sells more": FALSE_LEVEL_SHARE,
}


@dataclass(frozen=True)
class Way:
    """Shops of one change, as a row of the first table.

    Attributes
    ----------
    anchor : str
        Id of the section that names them.
    what, who, shops, sales, against_past, action, how_sure : str
        What happened, a few of them by name, how many they are, their share of all
        sales, what they sell against their own past, what to do first, and how sure
        that is.
    """

    anchor: str
    what: str
    who: str
    shops: str
    sales: str
    against_past: str
    action: str
    how_sure: str


Suggest = Callable[[str, str | None], str]
"""What to do with shops of a change that go to a segment (id as text, or None)."""


def suggestions(playbook: ShopPlaybook, names: Mapping[str, Sequence[str]]) -> Suggest:
    """Return what a playbook suggests first for shops of a change.

    Parameters
    ----------
    playbook : Playbook
    names : mapping of str to sequence of str
        Id of a segment, as text, to what it is called, the first that counts first.
    """
    of_change = {
        "sells more": playbook.changes.get("up"),
        "sells less": playbook.changes.get("down"),
        "lapsed": playbook.states.get("lapsed"),
        "came back": playbook.states.get("reviving"),
    }

    def suggest(change: str, to: str | None) -> str:
        play = of_change.get(change) or playbook.play(*names.get(str(to), ()))
        if change == "changing":
            first = play.actions[0]
            return f"If confirmed: {first[:1].lower()}{first[1:]}"
        return play.actions[0]

    return suggest


def told_shops(
    shops: pl.DataFrame, names: Mapping[str, str], suggest: Suggest
) -> pl.DataFrame:
    """Return the shops to look at with names of segments, how sure, and what to do.

    Parameters
    ----------
    shops : DataFrame
        `core.retailers.refresh.worklist.shops_to_see`.
    names : mapping of str to str
        Id, as text, to name.
    suggest : callable

    Returns
    -------
    DataFrame
        ``shop_id, change, from, from_name, to, to_name, since, sales_12_months,
        against_past, how_sure, what_to_do``, row by row.
    """
    ways = shops.select("change", "to").unique(maintain_order=True)
    todo = ways.with_columns(
        what_to_do=pl.Series(
            [suggest(change, to) for change, to in ways.iter_rows()], dtype=pl.String
        )
    )
    known = {**names, "-1": titled(-1, names)}
    is_clear = pl.col("evidence").is_not_null()
    likely = pl.when(pl.col("evidence") >= _VERY_LIKELY).then(pl.lit("very likely"))
    sure = (
        pl.when(pl.col("change") == "moved")
        .then(pl.when(is_clear).then(pl.lit("clear")).otherwise(pl.lit("confirmed")))
        .when(is_clear)
        .then(likely.otherwise(pl.lit("likely")))
        .when(pl.col("change") == "lapsed")
        .then(pl.lit("likely"))
        .otherwise(pl.lit("certain"))
    )
    return (
        shops.join(
            todo,
            on=["change", "to"],
            how="left",
            nulls_equal=True,
            maintain_order="left",
        )
        .with_columns(_named("from", known), _named("to", known), how_sure=sure)
        .select(
            *("shop_id", "change", "from", "from_name", "to", "to_name", "since"),
            *("sales_12_months", "against_past", "how_sure", "what_to_do"),
        )
    )


def _named(column: str, names: Mapping[str, str]) -> pl.Expr:
    return (
        pl.col(column)
        .replace_strict(dict(names), default=None, return_dtype=pl.String)
        .alias(f"{column}_name")
    )


def ways_of(shops: pl.DataFrame, n_shops: int, sales: float) -> list[Way]:
    """Return the first table: a row per segment moved to, and per other change.

    Parameters
    ----------
    shops : DataFrame
        `told_shops`.
    n_shops : int
        Eligible shops of the month.
    sales : float
        Of all shops in the last 12 months.
    """
    found = []
    for change in shops["change"].unique(maintain_order=True):
        own = shops.filter(pl.col("change") == change)
        parts = [own]
        if change in _BETWEEN:
            by_target = own.partition_by("to", maintain_order=True)
            parts = sorted(by_target, key=lambda part: -part.height)
            if len(parts) > MOST_WAYS:
                rest = pl.concat(parts[MOST_WAYS - 1 :])
                parts = [*parts[: MOST_WAYS - 1], rest]
        chance = _by_chance(change, n_shops)
        found += [_way(part, own.height, chance, sales) for part in parts]
    return found


def _by_chance(change: str, n_shops: int) -> int:
    """Return how many unchanged shops are about to be named in one month."""
    return round(_CHANCE.get(change, 0.0) * n_shops)


def _way(own: pl.DataFrame, n_all: int, n_chance: int, sales: float) -> Way:
    """Return one row of the first table, of all shops with its change or some."""
    change = own["change"][0]
    targets = own.select("to", "to_name").unique(maintain_order=True)
    actions = own["what_to_do"].drop_nulls().unique(maintain_order=True).to_list()
    words: dict[str, Any] = {
        "change": change,
        "n": own.height,
        "to": _title(targets.row(0, named=True), "to") if targets.height == 1 else "",
        "most": _most(own, "to" if change in ("came back", "new") else "from"),
        "is_clear": set(own["how_sure"]) == {"clear"},
        "n_all": n_all,
        "n_chance": n_chance,
    }
    past, few = own["against_past"].median(), _few(own["shop_id"].to_list())
    return Way(
        change.replace(" ", "-"),
        " ".join(refresh_sentences("way", **words)),
        " ".join(refresh_sentences("who", shops=few, **words)),
        count(own.height),
        share(float(own["sales_12_months"].sum()) / sales) if sales else MISSING,
        more_or_less(past if isinstance(past, float) else None),
        actions[0] if len(actions) == 1 else " ".join(refresh_sentences("several")),
        " ".join(refresh_sentences("how_sure", **words)),
    )


def _few(shops: Sequence[str]) -> str:
    """Name the first shops, and say how many there are besides."""
    rest = len(shops) - _FEW
    if rest > 0:
        return enumerated([*shops[:_FEW], f"{count(rest)} more"])
    return enumerated(shops)


def _title(row: Mapping[str, Any], side: str) -> str:
    """Return id and name of the segment that a shop comes from, or goes to."""
    name, place = row[f"{side}_name"], row[side]
    if place is None or place == "-1":
        return name or MISSING
    return f"{place} {name or ''}".rstrip()


def _most(own: pl.DataFrame, side: str) -> tuple[str, int] | None:
    """Return the segment of more than half of them, and how many; None if of none."""
    sizes = own.group_by(side, f"{side}_name").len().sort("len", side)
    most = sizes.row(-1, named=True)
    if most[side] is None or 2 * most["len"] <= own.height:
        return None
    return _title(most, side), most["len"]


def way_lines(ways: Sequence[Way]) -> list[str]:
    """Say what happened to how many shops and what to do, a line each."""
    return [" ".join(refresh_sentences("way_line", way=way)) for way in ways]


@dataclass(frozen=True)
class Named:
    """Shops of one change by name.

    Attributes
    ----------
    anchor, title : str
    sentences : sequence of str
    table : Table
    """

    anchor: str
    title: str
    sentences: Sequence[str]
    table: Table


def named_shops(shops: pl.DataFrame) -> list[Named]:
    """Return who they are: per change the shops with the largest sales.

    Parameters
    ----------
    shops : DataFrame
        `told_shops`.
    """
    return [_named_of(own) for own in shops.partition_by("change", maintain_order=True)]


def _named_of(own: pl.DataFrame) -> Named:
    change, n = own["change"][0], own.height
    rows = [_shop(row, change) for row in own.head(MOST_SHOPS).to_dicts()]
    caption = refresh_sentences("shops_table", n=n, n_shown=MOST_SHOPS)
    return Named(
        change.replace(" ", "-"),
        " ".join(refresh_sentences("shops_title", change=change, n=n)),
        refresh_sentences("shops", change=change),
        Table(" ".join(caption), rows, _TEXTS),
    )


def _shop(row: Mapping[str, Any], change: str) -> dict[str, str]:
    """Return one shop's line, with the columns that its change has."""
    since = spoken_month(row["since"]) if row["since"] else MISSING
    sales = {"sales of 12 months": count(row["sales_12_months"])}
    past = {"against own past": more_or_less(row["against_past"])}
    sure = {"how sure": row["how_sure"]}
    if change in _BETWEEN:
        way = {"from": _title(row, "from"), "to": _title(row, "to"), "since": since}
        return {"shop": row["shop_id"], **way, **sales, **past, **sure}
    side = "to" if change in ("came back", "new") else "from"
    told = {"shop": row["shop_id"], "segment": _title(row, side)}
    if change == "lapsed":
        return {**told, "last sale": since, **sales}
    if change in ("came back", "new"):
        return {**told, **sales}
    return {**told, "since": since, **sales, **past, **sure}


def more_or_less(ratio: float | None) -> str:
    """Return a ratio as what is more or less, in percent of two significant digits.

    >>> more_or_less(1.5), more_or_less(1.017)
    ('+50%', '+1.7%')
    """
    if ratio is None:
        return MISSING
    text = share(abs(ratio - 1))
    sign = "+" if ratio >= 1 else "\N{MINUS SIGN}"
    return text if text == "0%" else f"{sign}{text}"
