"""The reference pages in ``docs/``, printed from the code that they describe."""

from __future__ import annotations

import types
from collections.abc import Iterable
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from core.axes.features import catalog
from core.axes.features.compute import MAX_CHANNELS, MIN_CHANNEL_SHARE
from core.axes.features.formulas import DAYS_PER_MONTH, LIFECYCLE_STAGES
from core.baskets.features import FEATURES, SCORES, SHARE
from core.baskets.readiness import CHECKS
from core.channels.features.catalog import customer_catalog, order_catalog
from core.config import Config
from core.retailers.features import FEATURE_SETS, MOMENTUM_FEATURES, VOLUME, Feature


def configuration_page() -> str:
    """Return ``docs/configuration.md``: every option, its values and its default."""
    lines = [
        "# Configuration",
        "",
        "Printed by `./run.sh config --markdown`. Each option can stand in a YAML file",
        "(`--config`), in the environment (`SEGMENTS_CLUSTERING__MIN_SAMPLES=5`) or on",
        "the command line (`--set clustering.min_samples=5`); the later wins. An",
        "unknown key is refused with the nearest known one. The resolved configuration",
        "is saved as `config.yaml` with the artifacts.",
        "",
        "| option | values | default | meaning |",
        "|---|---|---|---|",
        *_option_rows(Config, ""),
    ]
    return "\n".join(lines) + "\n"


def features_page() -> str:
    """Return ``docs/features.md``: every feature with formula, unit and null."""
    lines = [
        "# Features",
        "",
        "Printed by `./run.sh features`. A month is *active* when the shop's net",
        "quantity in it is above 0. Null is replaced by the median of the training",
        "shops before clustering; a feature that is null for all takes no part.",
    ]
    titles = {
        "behaviour": "how a shop sells, not how much (the default)",
        "baseline": "the reference's 29, for comparison",
    }
    for chosen in FEATURE_SETS.values():
        heading = f"`{chosen.name}`: {titles[chosen.name]}"
        lines += _feature_table(heading, chosen.features)
    heading = "Momentum: describes, names and divides segments, never clustered"
    lines += _feature_table(heading, MOMENTUM_FEATURES)
    lines += _feature_table("Sales volume: for profiles only, never clustered", VOLUME)
    return "\n".join(lines) + "\n"


def _feature_table(heading: str, features: tuple[Feature, ...]) -> list[str]:
    """Return a section with one row per feature."""
    lines = ["", f"## {heading}", "", "| feature | formula | unit | null |"]
    lines.append("|---|---|---|---|")
    for f in features:
        nulls = [] if f.null == "never" else [f.null]
        nulls += ["the sales name no products"] if f.needs_products else []
        null = "; ".join(nulls) or "never"
        lines.append(f"| `{f.name}` | {f.formula} | {f.unit} | {null} |")
    return lines


def _option_rows(section: Any, prefix: str) -> list[str]:
    """Return one table row per option of a section."""
    rows = []
    for name, info in section.model_fields.items():
        inner = info.annotation
        if _is_section(inner):
            rows += _option_rows(inner, f"{prefix}{name}.")
            continue
        default = "required" if info.is_required() else f"`{_as_yaml(_default(info))}`"
        cells = (f"`{prefix}{name}`", _values(info), default, info.description)
        rows.append("| " + " | ".join(str(cell) for cell in cells) + " |")
        # Sections of which there may be several: by name, or one after the other.
        parts = get_args(inner)
        if get_origin(inner) in {dict, list} and _is_section(parts[-1]):
            entry = f"{name}.NAME." if get_origin(inner) is dict else f"{name}[]."
            rows += _option_rows(parts[-1], prefix + entry)
    return rows


def _is_section(annotation: Any) -> bool:
    """Return whether a type is a group of options."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _default(info: FieldInfo) -> Any:
    """Return the default of an option."""
    value = info.get_default(call_default_factory=True)
    return None if value is PydanticUndefined else value


def _as_yaml(value: Any) -> str:
    """Return a value as it would stand in the file."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False)
    return text.removesuffix("...\n").strip()


def _values(info: FieldInfo) -> str:
    """Return the type of an option and its bounds in words."""
    bounds = []
    for rule in info.metadata:
        for attribute, sign in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<")):
            if (bound := getattr(rule, attribute, None)) is not None:
                bounds.append(f"{sign} {bound}")
    return ", ".join([_type_name(info.annotation), *bounds])


def _type_name(annotation: Any) -> str:
    """Return a type in words."""
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) in {Union, types.UnionType}:
        return " or ".join(_type_name(part) for part in get_args(annotation))
    if get_origin(annotation) is dict:
        return "mapping"
    if get_origin(annotation) is list:
        return f"list of {_type_name(get_args(annotation)[0])}s".replace(
            "texts", "text"
        )
    if _is_section(annotation):
        return "section"
    names = {str: "text", int: "integer", float: "number", bool: "true or false"}
    return names.get(annotation, "null")


INTRODUCTION = f"""\
# Axes and features of customers

Printed from the code by `core.docs`. *Now* is the reference date: the
newest order unless it is configured. A month is {DAYS_PER_MONTH} days; days and months
have fractions. Orders of one moment are put in order by `order_id`.

Amounts are in the currency of the data; `total_price` is what was paid, after the
discount. Sums of amounts are exact to a millionth, so the order of the rows and the
number of threads decide nothing, and one customer alone has the features that it has
among all.

An item line is a line with a quantity above 0, unless a refund is what is counted. A
customer with a null in any feature of an axis is not placed on it.

The scale says how a feature enters a distance: as it is (linear), or as ln(1 + x)
(log), for amounts, counts and waiting times.\
"""

ITEMS_IN_WORDS = "all of products, categories and refunds"

CHOICES = f"""\

## What was chosen where the reference leaves it open

- Rates per month count a tenure below one month as one month: an order an hour ago is
  not 700 orders a month. `tenure_months` itself is not raised.
- Standard deviations are those of a population (over n): two orders have one gap, which
  does not vary.
- One order has no gaps, so `purchase_consistency` is 0; it stands for "no rhythm seen".
- A product counts as bought again if it is in another order; two lines of one order
  are one purchase of it.
- `weekend_vs_weekday_ratio` divides by at least one order of other days.
- Hours are counted whole: 17:59 is still of business hours and already of the evening.
- `order_frequency_trend` looks at whole months since the first order, those without an
  order included; the month that has only begun would pass for a decline.
- The stages of life are {", ".join(f"`{stage}`" for stage in LIFECYCLE_STAGES)}.
- A channel is known from {MIN_CHANNEL_SHARE:.0%} of the orders with a channel on, at
  most {MAX_CHANNELS} of them; a model keeps those that it was fitted with. The rest are
  one, `{catalog.OTHER_CHANNEL}`.
- An axis is skipped where the data lack what it is about, even if one of its features
  could be computed: the weekend says nothing of channels.\
"""


def axes_page() -> str:
    """Return ``docs/axes-features.md``: the axes, the features, and what was chosen."""
    lines = [INTRODUCTION, ""]
    for axis in catalog.AXES:
        lines += _axis_section(axis)
    lines += ["## The features", ""]
    lines += _table(
        ("feature", "formula", "unit", "null", "scale"),
        (
            (f"`{f.name}`", f.formula, f.unit, f.null_means, f.scale)
            for f in catalog.FEATURES.values()
        ),
    )
    lines += ["", *_lacking_section(), CHOICES]
    return "\n".join(lines) + "\n"


def _axis_section(axis: catalog.Axis) -> list[str]:
    """Return heading, description and features of one axis."""
    names = ", ".join(f"`{name}`" for name in axis.features)
    return [
        f"## `{axis.name}` ({axis.group})",
        "",
        f"{axis.description}: {names}.",
        "",
    ]


def _lacking_section() -> list[str]:
    """Return what is skipped where data lack something."""
    rows = []
    for name, words in catalog.LACKING.items():
        axes = [f"`{axis.name}`" for axis in catalog.AXES if name in axis.needs]
        features = [f"`{f.name}`" for f in catalog.FEATURES.values() if name in f.needs]
        # Of items are so many that a list of them would hide the rest.
        shown = ITEMS_IN_WORDS if name == "items" else ", ".join(features)
        rows.append((f"`{name}`", words, ", ".join(axes) or "none", shown))
    few = [f"`{axis.name}`" for axis in catalog.AXES if "source" in axis.needs]
    rows.append(
        ("channels", catalog.FEW_CHANNELS, ", ".join(few), "as without `source`")
    )
    return [
        "## What data may lack",
        "",
        *_table(("absent", "which means", "axes skipped", "features skipped"), rows),
    ]


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Return a Markdown table."""
    return [
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


CHANNELS_INTRODUCTION = """\
# Features of orders and customers over several channels

Printed from the code by `core.docs`. Words in capitals stand for one column each:
CATEGORY (of the catalogue, in lower case, with `_` for what is neither letter nor
digit), PRICE (of `channels.price_labels`), CHANNEL (of `channels.sources`), DAYPART
(of `channels.dayparts`), DAYPARTS (every two to five of them), DETAIL (of the stores).

The orders of a channel are those before `run_date`, and not more than
`channels.months_offset` months before it, whose customer is known. Their items are
those that the customer chose. Left out are promotions, items without categories, items
with `Exclude` as a category, and choices: a row with the `header_item_id` of another
item is a choice inside that item and no line of its own, and lines of the order that
say the same once more are left out, up to the quantity chosen. An order id that occurs
more than once counts once, by its earliest row. Whatever is left out is counted by
reason and saved in `rejected_rows.parquet`.

Times are brought to `channels.timezone` when they are read: a time with an offset by
it, another one by the `timezone` of its channel. A time that clocks show twice is the
first of the two; one that they skip moves on by what they skip. Both are counted. Where
all orders of a channel are dated at midnight, they are local days without times.

Amounts and quantities are summed exactly, to a millionth: the order of the rows, the
split into files and the number of threads decide nothing, and one customer alone has
the features that it has among all.\
"""

CUSTOMERS_INTRODUCTION = """\
## Of a customer

One row per customer with at least one order in the home channel, over the orders from
`cutoff_date` on and before `run_date`. SCOPE is `omnichannel` (all channels) and then
the name of the home channel; TWIN_ is nothing (all channels) and then the name of the
home channel with `_`. Null is told for the orders of that scope.\
"""


def channels_page() -> str:
    """Return ``docs/channels-features.md``: the features of orders and customers."""
    head = ("feature", "formula", "unit", "null")
    lines = [CHANNELS_INTRODUCTION, "", "## Of an order, per channel", ""]
    for listed in (order_catalog(), customer_catalog()):
        rows = ((f"`{f.name}`", f.formula, f.unit, f.null_means) for f in listed)
        lines += [*_table(head, rows), "", CUSTOMERS_INTRODUCTION, ""]
    return "\n".join(lines[:-3]) + "\n"


BASKETS_INTRODUCTION = """\
# Features and readiness of grocery baskets

Printed from the code by `core.docs`. AISLE stands for one column per aisle of the
catalogue given, ID for its id. An item is a product of an order; one that has no known
aisle counts for everything but aisles. An order counts as soon as it is known, also
where its items are not. Standard deviations are those of a sample, over n - 1. Hours
lie on a circle: 23 h and 1 h have their middle at midnight.

## Features of a customer
"""

READINESS_INTRODUCTION = """\

## Readiness

All figures are of the customers with at least `baskets.min_orders` orders, each of whom
counts once; means and medians are over customers. Between the bounds, and where a
figure cannot be known, a check says *caution*; what has no threshold is a *fact*.
"""


def baskets_page() -> str:
    """Return ``docs/baskets-features.md``: features, and the checks of readiness."""
    features = (
        (f"`{f.name}`", f.formula, f.unit, f.null_means)
        for f in (SHARE, *FEATURES, *SCORES)
    )
    checks = (
        (f"`{c.name}`", c.meaning, c.unit, c.threshold or "a fact", c.why, c.advice)
        for c in CHECKS
    )
    lines = [
        BASKETS_INTRODUCTION,
        *_table(("feature", "formula", "unit", "null"), features),
        READINESS_INTRODUCTION,
        *_table(
            ("check", "meaning", "unit", "threshold", "why there", "if not ok"), checks
        ),
    ]
    return "\n".join(lines) + "\n"
