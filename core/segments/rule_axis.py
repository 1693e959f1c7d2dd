"""The axis that a rule set makes, and a model of axes that has one.

A segment of the rules keeps its id as long as the rule set has its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Final, Self

import numpy as np
import polars as pl

from core.artifacts.arrays import Arrays, Meta
from core.models.centroids import NOWHERE, Assignment, IntArray
from core.rules.compile import assign_expr
from core.rules.grammar import RuleSet, read_rules
from core.segments.axes import AxesModel, FittedAxis, Told, axis_segments
from core.segments.identity import match_names
from core.segments.memberships import CustomerAssigner

SEGMENT: Final = "segment"
"""The axis of the rule segments."""
NO_RULE: Final = "no_rule"


class RuleModel(AxesModel):
    """Segments of a rule set, under permanent ids; other axes may stand beside them.

    Parameters
    ----------
    axes : iterable of FittedAxis
        `segment` (see `rule_axis`) among them.
    context : mapping
        ``rules`` (YAML, thresholds settled), and what a system adds.
    """

    def __init__(
        self, axes: Iterable[FittedAxis], context: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(tuple(axes), context)
        self.rules = read_rules(self.context["rules"])

    def assign(self, features: pl.DataFrame) -> dict[str, Assignment]:
        """Assign customers to the segments of the rules.

        Parameters
        ----------
        features : DataFrame
            With those that the rules ask for, a row per customer.

        Returns
        -------
        dict of str to Assignment
            By axis; segments are permanent ids, -1 where no rule holds. A rule is
            certain: its strength is 1, and it has no distances.

        Raises
        ------
        FeatureMismatchError
            If a feature is missing.
        """
        return {SEGMENT: self.placed_by_rule(segment_names(self.rules, features))}

    def placed_by_rule(self, names: pl.Series) -> Assignment:
        """Return the assignment of customers whom `segment_names` named."""
        places = {s.name: place for place, s in enumerate(self.rules.segments)}
        ids = self.axes[SEGMENT].ids_of(_places(names, places))
        nothing = np.full(len(ids), np.nan)
        strength = np.where(ids == NOWHERE, 0.0, 1.0)
        return Assignment(ids, strength, np.full_like(ids, NOWHERE), nothing, nothing)

    def empty_row(self) -> pl.DataFrame:
        """Return features of nobody, with every column that `assign` needs."""
        texts = [f.name for f in self.rules.features if f.type == "text"]
        table = super().empty_row()
        return table.with_columns(pl.lit(None, pl.String).alias(n) for n in texts)


@dataclass(frozen=True, kw_only=True, repr=False)
class RuleAssigner(CustomerAssigner):
    """A versioned model of rule segments."""

    kind: ClassVar[type[RuleModel]] = RuleModel
    """Of the model."""

    model: RuleModel

    def own_state(self) -> Meta:
        """Return whose model it is, for a store that keeps those of several systems."""
        return {"system": self.files.stage}

    @classmethod
    def restored(
        cls, arrays: Arrays, meta: Meta, reference_date: datetime, **known: Any
    ) -> Self:
        """Return the assigner of a state; see `CustomerAssigner.restored`."""
        model = cls.kind.from_state(arrays, meta["model"])
        return cls(model=model, reference_date=reference_date, **known)


def segment_names(rules: RuleSet, features: pl.DataFrame) -> pl.Series:
    """Return the rule segment of each customer by its name in the rules; null: none."""
    return features.select(assign_expr(rules, pl))[SEGMENT]


def _places(names: pl.Series, places: Mapping[str, int]) -> IntArray:
    """Return names as places in the rule set; -1 for none."""
    found = names.replace_strict(places, default=NOWHERE, return_dtype=pl.Int64)
    return found.fill_null(NOWHERE).to_numpy()


def rule_axis(
    rules: RuleSet, names: pl.Series, before: FittedAxis | None, old: IntArray | None
) -> FittedAxis:
    """Return the axis of the rule segments, whose ids live on by their names.

    Parameters
    ----------
    rules : RuleSet
        Thresholds settled.
    names : Series of str
        Segment of each customer, of `segment_names`.
    before : FittedAxis, optional
        The same axis of the model before.
    old : ndarray of int, shape (n_customers,), optional
        Ids that it gives the same customers; None where it cannot.
    """
    given = [segment.name for segment in rules.segments]
    labels = _places(names, {name: place for place, name in enumerate(given)})
    known = {} if before is None else {s.rule_name: s for s in before.segments}
    known.pop(NO_RULE, None)
    identity = match_names(
        np.full_like(labels, NOWHERE) if old is None else old,
        labels,
        names=given,
        known={name: segment.id for name, segment in known.items()},
        next_id=0 if before is None else before.next_id,
    )
    edited = {name: s for name, s in known.items() if s.is_edited}
    kept = {c: edited[name] for c, name in enumerate(given) if name in edited}
    told = {
        place: Told(s.name, s.description or rules.condition(s).text())
        for place, s in enumerate(rules.segments)
    }
    told[NOWHERE] = Told(NO_RULE, "no rule holds")
    called = distinct_names({c: one.name for c, one in told.items()}, kept)
    segments = axis_segments(identity, called, kept, told, labels, "rule")
    events = () if before is None or old is None else identity.events
    numbers = tuple(f.name for f in rules.features if f.type != "text")
    report = {
        "kind": "rule",
        "n_segments": len(given),
        "n_customers": len(labels),
        "n_unplaced": int((labels == NOWHERE).sum()),
        "verdict": rules.description or rules.name,
    }
    return FittedAxis(
        SEGMENT, numbers, {}, None, segments, identity.next_id, events, report
    )


def distinct_names(names: Mapping[int, str], kept: Mapping[int, Any]) -> dict[int, str]:
    """Return names by cluster, with a number where a kept segment has the name."""
    taken = {segment.name.casefold() for segment in kept.values()}
    found = {}
    for cluster, name in names.items():
        called, number = name, 2
        while cluster not in kept and called.casefold() in taken:
            called, number = f"{name} {number}", number + 1
        found[cluster] = called
        if cluster not in kept:
            taken.add(called.casefold())
    return found
