"""The model of the channel segments: rules, and micro-segments within their segments.

Rule segments are one axis, `segment`, and every item of the plan of micro-segments is
one more, which does not look at customers outside of its source segments. A segment of
the rules keeps its id as long as the rule set has its name; micro-segments keep theirs
as the segments of any axis do, by who is in them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from core.channels.files import FILES
from core.channels.micro import MicroModel, fit_micro, order_shares
from core.config import ChannelsConfig, MicroPlanItem
from core.errors import ConfigError, FeatureMismatchError, did_you_mean, listed
from core.models.centroids import NOWHERE, Assignment, IntArray
from core.rules.check import require_proven
from core.rules.grammar import RuleSet
from core.segments.axes import (
    OUTSIDE,
    FittedAxis,
    Told,
    axis_identity,
    axis_segments,
    kept_segments,
)
from core.segments.identity import match_names
from core.segments.rule_axis import (
    SEGMENT,
    RuleAssigner,
    RuleModel,
    distinct_names,
    rule_axis,
    segment_names,
)

NOT_DIVIDED: Final = "not_divided"
OMNI: Final = "omnichannel_"
HOME: Final = "ownapp_"
"""What rules call the home channel, whatever its name."""
FLAG: Final = "_flag"
_COUNT: Final = "_order_count"
RENAMES: Final = {
    "unique_category_base_products_count": "unique_cat_base_count",
    "unique_dri_category_count": "unique_cat_dri_count",
}
"""Names of features in the rules, unless an option names them otherwise."""


@dataclass(frozen=True)
class Naming:
    """How customer features are called in rules.

    Attributes
    ----------
    home : str
        The home channel.
    flags : tuple of str
        Features turned into flags, 1 where they are above 0, beside those that the
        rules ask for.
    rename : dict of str to str
        Name in the rules by feature, or by feature without ``omnichannel_``.
    micro_rename : dict of str to str
        Name in micro-segments by name in the rules; the feature has both.
    """

    home: str
    flags: tuple[str, ...]
    rename: dict[str, str]
    micro_rename: dict[str, str]

    @classmethod
    def of(cls, options: ChannelsConfig, home: str) -> Self:
        """Return the naming of a configuration."""
        rename = {**RENAMES, **options.rename}
        return cls(home, tuple(options.flags), rename, dict(options.micro_rename))

    def view(self, features: pl.DataFrame, rules: RuleSet) -> pl.DataFrame:
        """Return features under the names of the rules, flags among them.

        Parameters
        ----------
        features : DataFrame
            Of `core.channels.features.customers.customer_features`.
        rules : RuleSet
            Features that it asks for and that are made of others are added, and
            `core.channels.micro.order_shares`.

        Raises
        ------
        ConfigError
            If two features would have one name, or a flag is made of no feature.
        FeatureMismatchError
            If the rules ask for a feature that is not there.
        """
        named: dict[str, pl.Expr] = {}
        is_flag = self._flagged(features.columns)
        for column in features.columns:
            short = column.removeprefix(OMNI)
            name = self.rename.get(column, self.rename.get(short, short))
            value = pl.col(column)
            if column in is_flag:
                name = self.rename.get(_flag_of(short), _flag_of(short))
                value = (value > 0).cast(pl.Int8)
            if name in named:
                raise ConfigError(
                    f"two features would be called `{name}`, one of them `{column}`. "
                    "Give it a name of its own in `channels.rename`."
                )
            named[name] = value
        named |= order_shares(named)
        for feature in rules.features:
            if feature.name not in named:
                made = self._made(feature.name, features.columns)
                if made is not None:
                    named[feature.name] = made
        for name, in_micro in self.micro_rename.items():
            if name in named and in_micro not in named:
                named[in_micro] = named[name]
        missing = [f.name for f in rules.features if f.name not in named]
        if missing:
            raise FeatureMismatchError(
                f"the rules `{rules.name}` ask for {listed(missing)}, which is no "
                f"customer feature.{did_you_mean(missing[0], named)} Name the feature "
                "that is meant in `channels.rename`."
            )
        return features.select(value.alias(name) for name, value in named.items())

    def _flagged(self, columns: Sequence[str]) -> set[str]:
        """Return the columns that an option turns into flags."""
        short = {column.removeprefix(OMNI): column for column in columns}
        known = {**short, **{column: column for column in columns}}
        unknown = [name for name in self.flags if name not in known]
        if unknown:
            raise ConfigError(
                f"`channels.flags` names {listed(unknown)}, which is no customer "
                f"feature.{did_you_mean(unknown[0], known)}"
            )
        return {known[name] for name in self.flags}

    def _made(self, name: str, columns: Sequence[str]) -> pl.Expr | None:
        """Return a feature of the rules that is made of another one, if it is."""
        stems = [name.removesuffix(FLAG), f"{name.removesuffix(FLAG)}{_COUNT}"]
        for stem in stems if name.endswith(FLAG) else []:
            for column in (f"{OMNI}{stem}", stem):
                if column in columns:
                    return (pl.col(column) > 0).cast(pl.Int8)
        at_home = f"{self.home}_{name.removeprefix(HOME)}"
        if name.startswith(HOME) and at_home in columns:
            return pl.col(at_home)
        return None


def _flag_of(name: str) -> str:
    """Return the name of a flag.

    >>> _flag_of("Lunch_order_count"), _flag_of("has_query")
    ('Lunch_flag', 'has_query_flag')
    """
    return f"{name.removesuffix(_COUNT)}{FLAG}"


class ChannelsModel(RuleModel):
    """Rule segments and micro-segments, under permanent ids.

    Parameters
    ----------
    axes : sequence of FittedAxis
        `segment`, then the items of the plan.
    context : mapping
        ``rules`` (YAML, thresholds settled), ``sources`` (rule segments by item),
        ``home``, ``flags``, ``rename`` and ``micro_rename`` (see `Naming`).
    """

    def __init__(
        self, axes: Iterable[FittedAxis], context: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(axes, context)
        self.naming = Naming(
            str(self.context["home"]),
            tuple(self.context["flags"]),
            dict(self.context["rename"]),
            dict(self.context["micro_rename"]),
        )

    def assign(self, features: pl.DataFrame) -> dict[str, Assignment]:
        """Assign customers to a rule segment, and to the micro-segments within it.

        Parameters
        ----------
        features : DataFrame
            Of `Naming.view`, a row per customer.

        Returns
        -------
        dict of str to Assignment
            By axis; segments are permanent ids, -1 where no rule holds, -2 where an
            item does not look at the customer. A rule is certain: its strength is 1,
            and it has no distances.

        Raises
        ------
        FeatureMismatchError
            If a feature is missing.
        """
        names = segment_names(self.rules, features)
        found = {SEGMENT: self.placed_by_rule(names)}
        for name, axis in self.fitted.items():
            if name != SEGMENT:
                found[name] = self._within(axis, features, names)
        return found

    def micro_models(self) -> dict[str, MicroModel]:
        """Return the models of the items of the plan, by name."""
        return {
            name: _micro_model(axis, self.context["sources"].get(name, ()))
            for name, axis in self.axes.items()
            if name != SEGMENT
        }

    def _within(
        self, axis: FittedAxis, features: pl.DataFrame, names: pl.Series
    ) -> Assignment:
        """Assign the customers of an item's source segments; others are outside."""
        sources = self.context["sources"][axis.axis]
        is_inside = names.is_in(sources).fill_null(value=False).to_numpy()
        own = _micro_model(axis, sources).assign(features.filter(pl.Series(is_inside)))
        n = features.height

        def spread(values: npt.NDArray[Any], rest: Any) -> npt.NDArray[Any]:
            whole = np.full(n, rest, dtype=values.dtype)
            whole[is_inside] = values
            return whole

        return Assignment(
            spread(axis.ids_of(own.labels), OUTSIDE),
            spread(own.strength, 0.0),
            spread(axis.ids_of(own.runner_up), NOWHERE),
            spread(own.distances, np.nan),
            spread(own.runner_up_distances, np.nan),
        )


def _micro_model(axis: FittedAxis, sources: Sequence[str]) -> MicroModel:
    """Return an axis as the model of an item."""
    own = sorted((s for s in axis.segments if s.id >= 0), key=lambda s: s.cluster)
    return MicroModel(
        name=axis.axis,
        source_segments=tuple(sources),
        features=axis.features,
        centroids=axis.model,
        skipped=dict(axis.skipped),
        names=tuple(s.rule_name for s in own),
        why=tuple(s.why for s in own),
        report=dict(axis.report),
    )


class Learning(NamedTuple):
    """What a model is learnt from.

    Attributes
    ----------
    rules : RuleSet
        Thresholds may be unsettled.
    naming : Naming
    plan : sequence of MicroPlanItem
        Checked, with the features of each item named.
    target : str
        Orders in the home channel, as the rules call them.
    seed : int
    """

    rules: RuleSet
    naming: Naming
    plan: Sequence[MicroPlanItem]
    target: str
    seed: int


def learn_channels(
    features: pl.DataFrame,
    terms: Learning,
    before: ChannelsModel | None = None,
    view: pl.DataFrame | None = None,
) -> ChannelsModel:
    """Settle the rules, and learn the micro-segments of the plan.

    Parameters
    ----------
    features : DataFrame
        Of `Naming.view`, a row per customer.
    terms : Learning
    before : ChannelsModel, optional
        The model whose ids and names live on.
    view : DataFrame, optional
        The same rows under the names of its rules; None: it cannot place them, so that
        ids of micro-segments start anew.

    Raises
    ------
    FeatureMismatchError, ModelError, SchemaError
        If a feature is missing or no number, or nobody has a value to learn from.
    ContractError
        If the settled rules do not put every possible customer into one segment.
    """
    rules = require_proven(terms.rules.settle(features))
    names = segment_names(rules, features)
    old: dict[str, IntArray] = {}
    if before is not None and view is not None:
        old = {axis: own.labels for axis, own in before.assign(view).items()}
    models = fit_micro(
        features,
        names,
        terms.plan,
        terms.seed,
        None if before is None else before.micro_models(),
        target=terms.target,
    )
    known = {} if before is None else before.axes
    axes = [rule_axis(rules, names, known.get(SEGMENT), old.get(SEGMENT))]
    for name, model in models.items():
        inside = names.is_in(list(model.source_segments)).fill_null(value=False)
        axes.append(_micro_axis(model, features, inside, known.get(name), old))
    axes += [_ended(axis) for name, axis in known.items() if _has_ended(name, models)]
    context = {
        "rules": rules.to_yaml(),
        "sources": {name: list(own.source_segments) for name, own in models.items()},
        "home": terms.naming.home,
        "flags": list(terms.naming.flags),
        "rename": dict(terms.naming.rename),
        "micro_rename": dict(terms.naming.micro_rename),
    }
    return ChannelsModel(axes, context)


def _micro_axis(
    model: MicroModel,
    features: pl.DataFrame,
    inside: pl.Series,
    before: FittedAxis | None,
    labels_before: Mapping[str, IntArray],
) -> FittedAxis:
    """Return the axis of an item of the plan, with ids and names that live on."""
    next_id = 0 if before is None else before.next_id
    if model.centroids is None:
        made = FittedAxis(
            model.name, (), model.skipped, None, (), next_id, (), model.report
        )
        return replace(made, events=_deaths(before, labels_before, model.name))
    old = labels_before.get(model.name)
    if old is not None:
        own = old[inside.to_numpy()]
        old = np.where(own == OUTSIDE, NOWHERE, own)
    labels, n = model.assign(features.filter(inside)).labels, model.centroids.n_segments
    identity = axis_identity(before, old, labels, n, next_id)
    kept = kept_segments(identity, before, n)
    told = {
        c: Told(name, why)
        for c, (name, why) in enumerate(zip(model.names, model.why, strict=True))
    }
    told[NOWHERE] = Told(NOT_DIVIDED, "a feature is unknown")
    called = distinct_names({c: one.name for c, one in told.items()}, kept)
    kind = model.report["kind"]
    segments = axis_segments(identity, called, kept, told, labels, kind)
    return FittedAxis(
        model.name,
        model.features,
        model.skipped,
        model.centroids,
        segments,
        identity.next_id,
        identity.events,
        model.report,
    )


def _has_ended(name: str, models: Mapping[str, MicroModel]) -> bool:
    return name != SEGMENT and name not in models


def _ended(axis: FittedAxis) -> FittedAxis:
    """Return the record of an item that the plan has no more; its ids stay used."""
    skipped = {"item": "not in the plan any more"}
    report = {"kind": "skipped", "n_segments": 0, "verdict": skipped["item"]}
    return FittedAxis(axis.axis, (), skipped, None, (), axis.next_id, (), report)


def _deaths(
    before: FittedAxis | None, labels: Mapping[str, IntArray], name: str
) -> tuple[Any, ...]:
    """Return the ends of the segments of an item that has nobody to divide."""
    if before is None or not before.segments or name not in labels:
        return ()
    known = {s.name: s.id for s in before.segments if s.id != NOWHERE}
    old = labels[name][labels[name] != OUTSIDE]
    nobody = np.full_like(old, NOWHERE)
    ended = match_names(old, nobody, names=(), known=known, next_id=before.next_id)
    return ended.events


@dataclass(frozen=True, kw_only=True)
class ChannelsAssigner(RuleAssigner):
    """A versioned model of the channel segments."""

    files = FILES
    kind = ChannelsModel
    figures = (
        "lifetime_value",
        "total_orders",
        "avg_order_value",
        "days_since_last_purchase",
        "customer_tenure_days",
        "home_orders",
    )
