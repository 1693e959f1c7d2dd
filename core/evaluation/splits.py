"""Splits: entities divided by what tells of their later behaviour, or left undivided.

Where entities form no groups of their own, they can still be parted by rules or around
centres, in endless ways. A split has to earn its place: it is learnt from half of the
entities at the oldest cut, and judged by the other half at later cuts whose months were
not learnt from, by the share of the outcomes that it explains beyond size
(`core.evaluation.outcomes`); then the halves change places. So neither an entity nor a
month is both learnt from and judged. Of the candidates within one standard error of the
best, the simplest is taken (Breiman et al., 1984); where the best is not two standard
errors above the 0 of undivided entities, there is no split.

Only groups that are denser than data without structure are called natural: density is
looked at first, and asks for the margin of `core.evaluation.null.structure_check`.

What was chosen is then learnt anew: centres from today's entities, a tree from all
entities at the newest cut whose outcomes are known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, Self

import narwhals as nw
import numpy as np
import numpy.typing as npt
import polars as pl

from core.artifacts.arrays import Arrays, Meta, State, join_states, state_part
from core.config import Config
from core.entities import Entity
from core.evaluation.n_segments import MAX_SEGMENTS, TELLING_ERRORS, partition_recipe
from core.evaluation.null import structure_check
from core.evaluation.out_of_time import (
    MIN_ENTITIES_AT_CUT,
    Cut,
    backtest_cuts,
    entity_codes,
    out_of_time,
)
from core.evaluation.outcomes import FloatArray, IntArray, by_known_rows, size_classes
from core.evaluation.quality import principal_scores
from core.models.centroids import CentroidModel
from core.models.density import fit_density
from core.models.density_assigner import Exemplars, choose_exemplars
from core.models.partition import Partition
from core.models.preprocessing import FeatureScaler, feature_matrix
from core.months import month_index
from core.rules.check import require_proven
from core.rules.compile import assign_expr
from core.rules.grammar import RuleSet, read_rules
from core.rules.towards import rules_towards

SplitKind = Literal["density", "partition", "rules"]

MAX_PARTS = 5
"""Parts of one segment: more names than that nobody keeps apart."""
MIN_SHARE = 0.05
"""Of the entities that a rule is learnt from, the share that it holds at least."""
CHECKED_ROWS = 1000
CHECK_MIN_SAMPLES = 10
"""Entities and smoothing of the structure check, which clusters twenty times."""


@dataclass(frozen=True)
class Split:
    """A division of entities into parts, everybody in exactly one.

    Attributes
    ----------
    kind : {'density', 'partition', 'rules'}
        Only 'density' is natural.
    method : str
        How it was learnt: 'hdbscan', 'kmeans', 'tree', or the name of a rule set.
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
    scaler: FeatureScaler | None = None
    model: CentroidModel | Exemplars | None = None

    def assign(self, table: pl.DataFrame) -> IntArray:
        """Return the part of each entity, shape (n_entities,); never -1.

        Parameters
        ----------
        table : DataFrame
            A row per entity with `features`; null or NaN where unknown.
        """
        if self.rules is not None:
            return _by_rules(self.rules, table)
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
            own["scaler"] = FeatureScaler.from_state(
                *state_part(arrays, meta, "scaler")
            )
            model = state_part(arrays, meta, "model")
            if own["kind"] == "density":
                own["model"] = Exemplars.from_state(model[0])
            else:
                own["model"] = CentroidModel.from_state(*model)
        return cls(**own | {"features": tuple(own["features"])})


@dataclass(frozen=True)
class SplitChoice:
    """The split that was chosen, or why there is none.

    Attributes
    ----------
    split : Split or None
        None: the entities stay undivided.
    reason : str
        A sentence without its full stop.
    evidence : dict
        JSON-able: ``criterion`` ('structure', 'out_of_time' or 'none'),
        ``n_entities``, ``structure`` (of the check, where it was made), ``learnt_at``,
        ``cuts`` (months that candidates were judged at), ``score`` and
        ``standard_error`` (share of variance beyond size, averaged over outcomes, of
        what was chosen, or of the best where nothing was), and ``candidates``, the
        simplest first.
    """

    split: Split | None
    reason: str
    evidence: dict[str, Any]


Label = Callable[[FloatArray], IntArray]


@dataclass(frozen=True)
class _Candidate:
    """A way to divide entities: how it is learnt, and what it has explained."""

    kind: SplitKind
    method: str
    n_segments: int
    learn: Callable[[Cut], Label | None]
    score: float = 0.0
    standard_error: float = float("inf")

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        known = ("kind", "method", "n_segments", "score", "standard_error")
        return {name: getattr(self, name) for name in known}

    @property
    def text(self) -> str:
        """What it is, in words."""
        how = {
            "kmeans": "a KMeans partition",
            "mixture": "a partition by a mixture",
            "tree": "rules learnt towards later behaviour",
        }
        called = how.get(self.method, f"the rule set `{self.method}`")
        return f"{called}, {self.n_segments} parts"


def choose_split(
    table: pl.DataFrame,
    features: Sequence[str],
    history: pl.DataFrame,
    monthly: pl.DataFrame,
    config: Config,
    entity: Entity,
    *,
    seed: int,
) -> SplitChoice:
    """Divide the members of one segment, if that tells anything of them.

    Parameters
    ----------
    table : DataFrame
        Ids and features of the members today.
    features : sequence of str
        Columns that a split may look at, of `table` and `history`; unscaled numbers,
        null where unknown.
    history : DataFrame
        The same at earlier cuts (``as_of``), with the column of sizes, of those who
        belonged to the segment then; may be empty.
    monthly : DataFrame
        As for `core.evaluation.out_of_time.backtest_cuts`.
    config : Config
        Scaling, clustering and horizon.
    entity : Entity
        Its columns, and its words for the reason.
    seed : int
        Of everything drawn. The order of rows plays no part.
    """
    table = table.sort(entity.id_column)
    density, structure = _density_split(table, features, config, seed)
    facts = {"n_entities": table.height, "structure": structure}
    if density is not None:
        evidence = facts | {"criterion": "structure", "candidates": []}
        reason = (
            f"{density.n_segments} groups that are denser inside than data without "
            "structure"
        )
        split = replace(density, reason=reason, evidence=evidence)
        return SplitChoice(split, reason, evidence)
    cuts = _cuts(history, monthly, features, config, entity)
    options = [
        *_rule_candidates(features, MAX_PARTS, seed),
        *(_kmeans(n, config, seed) for n in range(2, MAX_PARTS + 1)),
    ]
    found = _chosen(cuts, options, entity, config, seed)
    return _learnt_anew(found, facts, table, features, cuts, config, seed)


def _cuts(
    history: pl.DataFrame,
    monthly: pl.DataFrame,
    features: Sequence[str],
    config: Config,
    entity: Entity,
) -> list[Cut]:
    """Return the cuts at which halves of the entities can be judged, oldest first."""
    horizon = config.evaluation.horizon_months
    least = 2 * MIN_ENTITIES_AT_CUT
    return backtest_cuts(history, monthly, features, horizon, entity, least)


def _rule_candidates(
    features: Sequence[str], max_parts: int, seed: int
) -> list[_Candidate]:
    """Return the trees of two leaves and more."""
    return [
        _Candidate(
            "rules", "tree", n, partial(_tree, features=features, n=n, seed=seed)
        )
        for n in range(2, max_parts + 1)
    ]


def _tree(cut: Cut, features: Sequence[str], n: int, seed: int) -> Label | None:
    rules = _tree_rules(cut, features, n, seed)
    return None if rules is None else partial(_by_rules_of, rules, features)


def _tree_rules(cut: Cut, features: Sequence[str], n: int, seed: int) -> RuleSet | None:
    """Learn a tree towards all outcomes after a cut."""
    rows, Y = _targets(cut)
    least = max(math.ceil(MIN_SHARE * len(rows)), 2)
    if not Y.shape[1]:
        return None
    return rules_towards(cut.X[rows], Y, features, n, least, seed)


def _targets(cut: Cut) -> tuple[IntArray, FloatArray]:
    """Return the entities that are followed, and their outcomes beyond size.

    Of one spread each; 0, the mean, where one is unknown.
    """
    values = cut.outcomes.select(pl.exclude(cut.ids.name).cast(pl.Float64)).to_numpy()
    columns = []
    for rows, members in by_known_rows(values):
        place = size_classes(cut.size[rows])
        slope = np.log1p(cut.size[rows])
        design = np.column_stack([np.eye(place.max() + 1)[place], slope - slope.mean()])
        Y = values[rows][:, members]
        left = Y - design @ np.linalg.lstsq(design, Y, rcond=None)[0]
        spread = left.std(axis=0)
        told = np.zeros((len(values), len(members)))
        told[rows] = left / np.where(spread > 0, spread, 1.0)
        columns.append(told[:, spread > 0])
    followed = np.flatnonzero(np.isfinite(values).any(axis=1))
    if not columns:
        return followed, np.zeros((len(followed), 0))
    return followed, np.hstack(columns)[followed]


def _kmeans(n: int, config: Config, seed: int) -> _Candidate:
    """Return the partition of so many segments."""
    recipe = partition_recipe(config, "kmeans", n)

    def learn(cut: Cut) -> Label:
        return recipe(cut.X, seed)

    return _Candidate("partition", "kmeans", n, learn)


def _by_rules_of(rules: RuleSet, features: Sequence[str], X: FloatArray) -> IntArray:
    return _by_rules(rules, pl.DataFrame(X, schema=list(features)))


def _by_rules(rules: RuleSet, table: pl.DataFrame) -> IntArray:
    """Return the number of the rule that holds of each entity."""
    places = {s.name: place for place, s in enumerate(rules.segments)}
    named = nw.from_native(table).select(assign_expr(rules)).to_native()["segment"]
    return named.replace_strict(places, return_dtype=pl.Int64).to_numpy()


@dataclass(frozen=True)
class _Found:
    """The candidates, judged, and which one is taken; None: undivided."""

    chosen: _Candidate | None
    reason: str
    facts: dict[str, Any]


def _chosen(
    cuts: Sequence[Cut],
    options: Sequence[_Candidate],
    entity: Entity,
    config: Config,
    seed: int,
) -> _Found:
    """Judge candidates and take the simplest that is as good as the best."""
    entities = entity.plural
    if not cuts:
        least = 2 * MIN_ENTITIES_AT_CUT
        reason = (
            f"no earlier month has {least} {entities} to learn from and to judge by "
            "what came after"
        )
        return _Found(None, reason, {"criterion": "none", "candidates": []})
    trials = _trials(cuts, config.evaluation.horizon_months, seed)
    judged = [c for option in options if (c := _judged(option, trials, seed))]
    # The fewest parts first; of these, rules, which can be read.
    judged.sort(key=lambda c: (c.n_segments, c.kind != "rules"))
    months = list(dict.fromkeys(cut.as_of for _, own in trials for cut in own))
    facts = {
        "learnt_at": cuts[0].as_of,
        "cuts": months,
        "candidates": [c.as_dict() for c in judged],
    }
    best = max(judged, key=lambda c: c.score, default=None)
    if best is None or not best.score > TELLING_ERRORS * best.standard_error:
        reason = (
            f"none of {len(judged)} ways to divide them tells what other {entities} "
            f"did after {', '.join(months)}, beyond their size"
        )
        return _Found(None, reason, facts | {"criterion": "none"} | _scored(best))
    enough = best.score - best.standard_error
    chosen = next(c for c in judged if c.score >= enough)
    reason = (
        f"{chosen.text}: the simplest of {len(judged)} ways within one standard error "
        f"of the best at telling what other {entities} did after {', '.join(months)}, "
        f"beyond their size: {chosen.score:.1%} of the variance, the best "
        f"{best.score:.1%}"
    )
    facts |= {"criterion": "out_of_time"} | _scored(chosen)
    return _Found(chosen, reason, facts)


def _scored(candidate: _Candidate | None) -> dict[str, Any]:
    if candidate is None:
        return {}
    return {"score": candidate.score, "standard_error": candidate.standard_error}


def _trials(
    cuts: Sequence[Cut], horizon_months: int, seed: int
) -> list[tuple[Cut, list[Cut]]]:
    """Return what candidates learn from, and what they are then judged by.

    Each half of the entities at the oldest cut, and the other half at each cut that
    lies beyond the months learnt from; at any later cut where none does, and at the
    oldest itself where there is no other.
    """
    first = cuts[0]
    beyond = month_index(first.as_of) + horizon_months
    later = [cut for cut in cuts[1:] if month_index(cut.as_of) >= beyond]
    judged = later or cuts[1:] or cuts[:1]
    codes, n_entities = entity_codes(cuts)
    half = np.random.default_rng(seed).permutation(n_entities) % 2
    sides = {cut.as_of: half[code] for cut, code in zip(cuts, codes, strict=True)}
    return [
        (
            _part(first, sides[first.as_of] == side),
            [_part(cut, sides[cut.as_of] != side) for cut in judged],
        )
        for side in (0, 1)
    ]


def _part(cut: Cut, is_in: npt.NDArray[np.bool_]) -> Cut:
    """Return some of the entities of a cut."""
    return Cut(
        as_of=cut.as_of,
        ids=cut.ids.filter(is_in),
        X=cut.X[is_in],
        size=cut.size[is_in],
        outcomes=cut.outcomes.filter(is_in),
        by_month=cut.by_month.filter(is_in),
    )


def _judged(
    option: _Candidate, trials: Sequence[tuple[Cut, list[Cut]]], seed: int
) -> _Candidate | None:
    """Return a candidate with its score; None where it cannot be learnt."""
    judged, labels = [], []
    for source, cuts in trials:
        label = option.learn(source)
        if label is None:
            return None
        judged += cuts
        labels += [label(cut.X) for cut in cuts]
    found = out_of_time(judged, labels, seed)
    return replace(option, score=found.mean, standard_error=found.standard_error)


def _learnt_anew(
    found: _Found,
    facts: dict[str, Any],
    table: pl.DataFrame,
    features: Sequence[str],
    cuts: Sequence[Cut],
    config: Config,
    seed: int,
) -> SplitChoice:
    """Learn what was chosen from all entities, as they are now."""
    evidence, chosen = facts | found.facts, found.chosen
    if chosen is None:
        return SplitChoice(None, found.reason, evidence)
    anew = (
        _partitioned(table, features, chosen, config, seed)
        if chosen.kind == "partition"
        else _ruled(table, features, chosen, cuts[-1], seed)
    )
    if anew is None or anew.n_segments < 2:
        reason = f"{chosen.text}: no longer divides them today"
        return SplitChoice(None, reason, evidence)
    split = replace(anew, reason=found.reason, evidence=evidence)
    return SplitChoice(split, found.reason, evidence)


def _partitioned(
    table: pl.DataFrame,
    features: Sequence[str],
    chosen: _Candidate,
    config: Config,
    seed: int,
) -> Split:
    """Learn the centres from today's entities."""
    X = feature_matrix(table, list(features))
    scaler = FeatureScaler(**config.scaling.model_dump()).fit(X)
    fitted = Partition(chosen.method, chosen.n_segments, seed)
    fitted.fit(scaler.transform(X))
    return Split(
        "partition",
        chosen.method,
        fitted.model_.n_segments,
        tuple(features),
        scaler=scaler,
        model=fitted.model_,
    )


def _ruled(
    table: pl.DataFrame,
    features: Sequence[str],
    chosen: _Candidate,
    newest: Cut,
    seed: int,
) -> Split | None:
    """Learn the tree at the newest cut; with fewer leaves where one would be empty."""
    for n in range(chosen.n_segments, 1, -1):
        rules = _tree_rules(newest, features, n, seed)
        if rules is None:
            continue
        sizes = np.bincount(_by_rules(rules, table), minlength=n)
        if sizes.all():
            order = np.argsort(-sizes, kind="stable")
            ordered = tuple(rules.segments[place] for place in order)
            rules = require_proven(replace(rules, segments=ordered))
            used = tuple(feature.name for feature in rules.features)
            return Split("rules", chosen.method, n, used, rules=rules)
    return None


def unseen_parts(
    split: Split,
    history: pl.DataFrame,
    monthly: pl.DataFrame,
    features: Sequence[str],
    config: Config,
    entity: Entity,
    *,
    seed: int,
) -> list[str]:
    """Return the part of entities at earlier cuts, by what has not seen their outcomes.

    Parameters
    ----------
    split : Split
    history, monthly, features, config, entity, seed
        As for `choose_split`; `history` is sorted by cut and id.

    Returns
    -------
    list of str, n_rows of `history`
        Of kinds that look at no outcome, the part that `split` assigns. A tree was
        learnt from outcomes: one with as many leaves is learnt anew from each half of
        the entities at the oldest cut, and tells the other half its parts at every cut,
        those of the two trees apart.
    """
    if split.method != "tree":
        return [str(part) for part in split.assign(history)]
    horizon = config.evaluation.horizon_months
    cuts = backtest_cuts(history, monthly, features, horizon, entity, 1)
    codes, n_entities = entity_codes(cuts)
    half = np.random.default_rng(seed).permutation(n_entities) % 2
    sides = half[np.concatenate(codes)]
    parts = np.full(len(sides), "", dtype=object)
    X = np.concatenate([cut.X for cut in cuts])
    for side in (0, 1):
        source = _part(cuts[0], half[codes[0]] == side)
        label = _tree(source, features, split.n_segments, seed)
        asked = sides != side
        if label is not None:
            parts[asked] = [f"{side}.{part}" for part in label(X[asked])]
    return parts.tolist()


def _density_split(
    table: pl.DataFrame, features: Sequence[str], config: Config, seed: int
) -> tuple[Split | None, dict[str, Any] | None]:
    """Return groups denser than data without structure, if any, and the check.

    Who is in none of them belongs to the group of the nearest exemplar.
    """
    if table.height < 2 * MIN_ENTITIES_AT_CUT:
        return None, None
    X = feature_matrix(table, list(features))
    scaler = FeatureScaler(**config.scaling.model_dump()).fit(X)
    scaled = scaler.transform(X)
    options = config.clustering.model_copy(
        update={"min_samples": config.clustering.min_samples or CHECK_MIN_SAMPLES}
    )

    def cluster(rows: FloatArray) -> IntArray:
        return fit_density(rows, options, seed).labels_

    check = structure_check(scaled, cluster, seed=seed, max_rows=CHECKED_ROWS)
    if not check.is_structured:
        return None, check.as_dict()
    clusterer = fit_density(principal_scores(scaled, 5)[0], options, seed)
    if not 2 <= clusterer.n_clusters_ <= MAX_SEGMENTS:
        return None, check.as_dict()
    exemplars = choose_exemplars(scaled, clusterer.labels_, clusterer.strengths_)
    n = clusterer.n_clusters_
    split = Split(
        "density", "hdbscan", n, tuple(features), scaler=scaler, model=exemplars
    )
    return split, check.as_dict()
