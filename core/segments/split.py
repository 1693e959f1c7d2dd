"""A split: what divides entities into parts, by rules, centres or exemplars.

How one is chosen: `core.evaluation.splits`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from core.artifacts.arrays import Arrays, Meta, State, join_states, state_part
from core.models.centroids import CentroidModel
from core.models.density_assigner import Exemplars
from core.models.scaling import FeatureScaling, feature_matrix
from core.rules.compile import assign_expr
from core.rules.grammar import RuleSet, read_rules
from core.segments.within import SplitKind

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """A division of entities into parts, everybody in exactly one.

    Attributes
    ----------
    kind : {'density', 'partition', 'rules'}
        Only 'density' is natural.
    method : str
        How it was learnt: 'hdbscan', 'kmeans', 'kmeans-momentum', 'tree', or the name
        of a rule set that ships with the project.
    n_segments : int
        Parts, at least 2, numbered from 0 by the entities learnt from, the largest
        first.
    features : tuple of str
        Columns that `assign` looks at.
    reason : str
        Why it was chosen: a sentence without its full stop.
    evidence : dict
        JSON-able figures that it was chosen by; see `SplitChoice`.
    rules : RuleSet or None
        The rules of kind 'rules', in the order of their numbers.
    scaler, model
        What assigns the other kinds.
    """

    kind: SplitKind
    method: str
    n_segments: int
    features: tuple[str, ...]
    reason: str = ""
    evidence: Mapping[str, Any] | None = None
    rules: RuleSet | None = None
    scaler: FeatureScaling | None = None
    model: CentroidModel | Exemplars | None = None

    def assign(self, table: pl.DataFrame) -> IntArray:
        """Return the part of each entity, shape (n_entities,); never -1.

        Parameters
        ----------
        table : DataFrame
            A row per entity with `features`; null or NaN where unknown.
        """
        if self.rules is not None:
            return rule_numbers(self.rules, table)
        assert self.scaler is not None
        X = self.scaler.transform(feature_matrix(table, list(self.features)))
        if isinstance(self.model, Exemplars):
            return self.model.nearest(X, np.full(len(X), -1))[0]
        assert self.model is not None
        return self.model.assign(X).labels

    def get_state(self) -> State:
        """Return all of it as named arrays and JSON-able values."""
        own = {
            "kind": self.kind,
            "method": self.method,
            "n_segments": self.n_segments,
            "features": list(self.features),
            "reason": self.reason,
            "evidence": self.evidence,
            "rules": None if self.rules is None else self.rules.to_yaml(),
        }
        parts: dict[str, State] = {"split": ({}, own)}
        if self.scaler is not None and self.model is not None:
            parts["scaler"] = self.scaler.get_state()
            parts["model"] = self.model.get_state()
        return join_states(**parts)

    @classmethod
    def from_state(cls, arrays: Arrays, meta: Meta) -> Self:
        """Return the split of `get_state`; it assigns as the original does.

        Raises
        ------
        ArtifactError
            If a part of the state is missing or damaged.
        """
        own = dict(state_part(arrays, meta, "split")[1])
        rules = own.pop("rules")
        if rules is not None:
            own["rules"] = read_rules(rules)
        else:
            own["scaler"] = FeatureScaling.from_state(
                *state_part(arrays, meta, "scaler")
            )
            model = state_part(arrays, meta, "model")
            if own["kind"] == "density":
                own["model"] = Exemplars.from_state(model[0])
            else:
                own["model"] = CentroidModel.from_state(*model)
        return cls(**own | {"features": tuple(own["features"])})


def rule_numbers(rules: RuleSet, table: pl.DataFrame) -> IntArray:
    """Return the place of the rule that holds of each entity, shape (n_entities,)."""
    places = {s.name: place for place, s in enumerate(rules.segments)}
    named = table.select(assign_expr(rules, pl))["segment"]
    return named.replace_strict(places, return_dtype=pl.Int64).to_numpy()
