"""Splits: entities divided by what tells of their later behaviour, or left undivided.

Where entities form no groups of their own, they can still be parted by rules or around
centres, in endless ways. A split has to earn its place: it is learnt from half of the
entities at the oldest cut, and judged by the other half at all later cuts, by the share
of the outcomes that it explains beyond size (`core.evaluation.outcomes`); then the
halves change places. So no entity is both learnt from and judged. Candidates count that
are two standard errors above the 0 of undivided entities; where there is none, there is
no split. Of those that the best does not lead by more than one standard error (of the
lead, over entities), or by a tenth of its score, the simplest is taken, after Breiman
et al. (1984): the fewest parts, rules before centres.

Only groups that are denser than data without structure are called natural: density is
looked at first, and asks for the margin of `core.evaluation.null.structure_check`.

What was chosen is then learnt anew: centres from today's entities, a tree from all
entities at the newest cut whose outcomes are known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from core.config import Config
from core.entities import Entity
from core.evaluation.n_segments import MAX_SEGMENTS, TELLING_ERRORS, partition_recipe
from core.evaluation.null import structure_check
from core.evaluation.out_of_time import (
    MIN_ENTITIES_AT_CUT,
    Cut,
    OutOfTime,
    backtest_cuts,
    entity_codes,
    out_of_time,
)
from core.evaluation.outcomes import (
    FloatArray,
    IntArray,
    by_known_rows,
    size_classes,
)
from core.evaluation.quality import label_summary, principal_scores
from core.evaluation.stability import Recipe
from core.models.density import fit_density
from core.models.density_assigner import choose_exemplars
from core.models.partition import Partition
from core.models.preprocessing import FeatureScaler
from core.models.scaling import feature_matrix
from core.rules.check import require_proven
from core.rules.grammar import RuleSet, read_rules
from core.rules.towards import rules_towards
from core.segments.split import Split, rule_numbers
from core.segments.within import SplitKind

MAX_PARTS = 5
"""Parts of one segment: more names than that nobody keeps apart."""
MIN_SHARE = 0.05
"""Of the entities that a rule is learnt from, the share that it holds at least."""
N_DRAWS = 2
"""Draws of the halves: one alone moves the scores of small segments by half."""
FEWEST_EFFECTIVE = 3.0
"""Effective number of segments below which everyone is hardly divided."""
SMALL_LEAD = 0.1
"""Share of the best score by which nobody would choose, however sure it is."""
TOLD = ("volume", "growth", "activity")
"""Outcomes that a tree is learnt towards."""
TREE, KMEANS, KMEANS_MOMENTUM = "tree", "kmeans", "kmeans-momentum"
SHIPPED = ("momentum", "momentum-season")
"""Rule sets at hand (`core.rules.sets`), where their features are known."""
METHODS = {
    KMEANS: "a KMeans partition",
    KMEANS_MOMENTUM: "a KMeans partition of recent momentum",
    "mixture": "a partition by a mixture",
    TREE: "rules learnt towards later behaviour",
}
CHECKED_ROWS = 1000
CHECK_MIN_SAMPLES = 10
"""Entities and smoothing of the structure check, which clusters twenty times."""


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
        ``n_entities``, ``features`` and ``momentum`` (columns that could be looked
        at), ``structure`` (of the check, where it was made), ``learnt_at``,
        ``cuts`` (months that candidates were judged at), ``score`` and
        ``standard_error`` (share of variance beyond size, averaged over outcomes, of
        what was chosen), and ``candidates``, the simplest first.
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
    found: OutOfTime = field(default=OutOfTime(0.0, math.inf, {}), repr=False)
    effective: float = 0.0

    @property
    def score(self) -> float:
        """Share of variance beyond size, over outcomes and trials."""
        return self.found.mean

    @property
    def is_at_hand(self) -> bool:
        """Whether it is a rule set that was there before the entities."""
        return self.kind == "rules" and self.method != TREE

    @property
    def is_telling(self) -> bool:
        """Whether that is more than chance gives."""
        return self.score > TELLING_ERRORS * self.found.standard_error

    def is_as_good_as(self, best: _Candidate) -> bool:
        """Whether the best one's lead is within one standard error, or too small."""
        error = float(np.linalg.norm(best.found.influence - self.found.influence))
        return bool(best.score - self.score <= max(error, SMALL_LEAD * best.score))

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        known = {name: getattr(self, name) for name in ("kind", "method", "n_segments")}
        return known | {"effective": self.effective} | self.scored

    @property
    def scored(self) -> dict[str, float]:
        """The score and its error, as evidence names them."""
        return {"score": self.score, "standard_error": self.found.standard_error}

    @property
    def text(self) -> str:
        """What it is, in words."""
        called = METHODS.get(self.method, f"the rule set `{self.method}`")
        return f"{called} ({self.n_segments} parts)"

    def is_like(self, split: Split | None) -> bool:
        """Whether a split was made in this way."""
        own = (self.kind, self.method, self.n_segments)
        return split is not None and own == (split.kind, split.method, split.n_segments)


@dataclass(frozen=True)
class _Search:
    """What every candidate is learnt with."""

    features: tuple[str, ...]
    momentum: tuple[str, ...]
    config: Config
    entity: Entity
    seed: int
    before: Split | None

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that a split may look at."""
        return (*self.features, *self.momentum)

    def facts(self, table: pl.DataFrame) -> dict[str, Any]:
        """Return what evidence says of the search."""
        return {
            "n_entities": table.height,
            "features": list(self.features),
            "momentum": list(self.momentum),
        }

    def cuts(self, history: pl.DataFrame, monthly: pl.DataFrame) -> list[Cut]:
        """Return the cuts at which halves of the entities can be judged."""
        horizon = self.config.evaluation.horizon_months
        least = 2 * MIN_ENTITIES_AT_CUT
        return backtest_cuts(
            history, monthly, self.columns, horizon, self.entity, least
        )

    def rules(self, max_parts: int) -> list[_Candidate]:
        """Return rule sets at hand, then trees of two leaves and more."""
        shipped = [
            _Candidate(
                "rules", name, len(rules.segments), partial(self._at_hand, rules)
            )
            for name, rules in ((name, read_rules(name)) for name in SHIPPED)
            if {feature.name for feature in rules.features} <= {*self.columns}
        ]
        trees = [
            _Candidate("rules", TREE, n, partial(self.learnt_tree, n=n))
            for n in range(2, max_parts + 1)
        ]
        return [*shipped, *trees]

    def partitions(self, max_parts: int) -> list[_Candidate]:
        """Return KMeans on all columns, and on momentum alone."""
        spaces = {KMEANS: self.columns, KMEANS_MOMENTUM: self.momentum}
        return [
            self.partition(method, n, columns)
            for method, columns in spaces.items()
            if columns
            for n in range(2, max_parts + 1)
        ]

    def partition(self, method: str, n: int, columns: Sequence[str]) -> _Candidate:
        """Return a partition on some of the columns."""
        places = [self.columns.index(name) for name in columns]
        known = KMEANS if method == KMEANS_MOMENTUM else method
        recipe = partition_recipe(self.config, known, n)

        def learn(cut: Cut) -> Label:
            label = recipe(cut.X[:, places], self.seed)
            return lambda X: label(X[:, places])

        return _Candidate("partition", method, n, learn)

    def tree_rules(self, cut: Cut, n: int) -> RuleSet | None:
        """Learn a tree towards all outcomes after a cut."""
        rows, Y = _targets(cut)
        if not Y.shape[1]:
            return None
        least = max(math.ceil(MIN_SHARE * len(rows)), 2)
        return rules_towards(cut.X[rows], Y, self.columns, n, least, self.seed)

    def learnt_tree(self, cut: Cut, n: int) -> Label | None:
        """Return what labels entities by a tree; None where none grows."""
        rules = self.tree_rules(cut, n)
        return None if rules is None else partial(self._placed, rules)

    def _at_hand(self, rules: RuleSet, cut: Cut) -> Label | None:
        """Learn the thresholds of a rule set.

        None where a feature is unknown of every entity, or one of its rules idle.
        """
        asked = [self.columns.index(feature.name) for feature in rules.features]
        if np.isnan(cut.X[:, asked]).all(axis=0).any():
            return None
        settled = _settled(rules, pl.DataFrame(cut.X, schema=list(self.columns)))
        placed = self._placed(settled, cut.X)
        sizes = np.bincount(placed, minlength=len(rules.segments))
        is_used = sizes.min() >= MIN_SHARE * len(cut.X)
        # Its thresholds are of this cut, so nobody else is ever placed by them.
        return (lambda _: placed) if is_used else None

    def _placed(self, rules: RuleSet, X: FloatArray) -> IntArray:
        return rule_numbers(rules, pl.DataFrame(X, schema=list(self.columns)))


def choose_split(
    table: pl.DataFrame,
    features: Sequence[str],
    history: pl.DataFrame,
    monthly: pl.DataFrame,
    config: Config,
    entity: Entity,
    *,
    seed: int,
    momentum: Sequence[str] = (),
    before: Split | None = None,
) -> SplitChoice:
    """Divide the members of one segment, if that tells anything of them.

    Parameters
    ----------
    table : DataFrame
        Ids and features of the members today.
    features : sequence of str
        Columns of `table` and `history` in which groups are looked for and that a split
        may look at; unscaled numbers, null where unknown.
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
    momentum : sequence of str
        Further columns that tell where an entity is heading. They depend on one another
        by their making, which passes for structure, so no groups are looked for in
        them; partitions and rules look at them.
    before : Split, optional
        Of the same segment by the model before: its method and number are kept where
        they are within one standard error of the best, and KMeans starts from it.
    """
    search = _Search(tuple(features), tuple(momentum), config, entity, seed, before)
    table = table.sort(entity.id_column)
    density, structure = _density_split(table, search)
    facts = search.facts(table) | {"structure": structure}
    if density is not None:
        evidence = facts | {"criterion": "structure", "candidates": []}
        reason = (
            f"{density.n_segments} groups that are denser inside than data without "
            "structure"
        )
        split = replace(density, reason=reason, evidence=evidence)
        return SplitChoice(split, reason, evidence)
    cuts = search.cuts(history, monthly)
    options = [*search.rules(MAX_PARTS), *search.partitions(MAX_PARTS)]
    found = _chosen(cuts, options, search)
    return _learnt_anew(found, facts, table, cuts, search)


def choose_rules(
    table: pl.DataFrame,
    features: Sequence[str],
    history: pl.DataFrame,
    monthly: pl.DataFrame,
    config: Config,
    entity: Entity,
    *,
    partition: tuple[str, int],
    seed: int,
    momentum: Sequence[str] = (),
    before: Split | None = None,
) -> SplitChoice:
    """Divide everyone by rules, if they tell more than the partition, or as much.

    Of candidates that are as good as the best, one counts that divides everyone into at
    least `FEWEST_EFFECTIVE` parts of equal size, where there is any.

    Parameters
    ----------
    table, features, history, monthly, config, entity, seed, momentum, before
        As for `choose_split`, of all entities.
    partition : (method, number of segments)
        Of the partition of `features` that would be published otherwise. It is learnt
        and judged as the rules are; with fewer segments it is the simpler one.

    Returns
    -------
    SplitChoice
        Its split is of kind 'rules', or None where the partition stands.
    """
    search = _Search(tuple(features), tuple(momentum), config, entity, seed, before)
    table = table.sort(entity.id_column)
    facts = search.facts(table)
    cuts = search.cuts(history, monthly)
    rival = search.partition(*partition, search.features)
    options = [*search.rules(MAX_SEGMENTS), rival]
    found = _chosen(cuts, options, search, FEWEST_EFFECTIVE)
    if found.chosen is not None and found.chosen.kind == "partition":
        return SplitChoice(None, found.reason, facts | found.facts)
    return _learnt_anew(found, facts, table, cuts, search)


def relearning(
    split: Split,
    table: pl.DataFrame,
    history: pl.DataFrame,
    monthly: pl.DataFrame,
    config: Config,
    entity: Entity,
) -> tuple[FloatArray, Recipe]:
    """Return what refits of rules learn from, and the recipe that learns it.

    Parameters
    ----------
    split : Split
        Of kind 'rules', with its evidence.
    table, history, monthly, config, entity
        As for `choose_rules`. Rows stay in the order of `table`.

    Returns
    -------
    X : ndarray of float64, shape (n_entities, n_columns)
        What is known of each entity today; then, for a tree, what was known at the
        newest cut, and what it did after (NaN where it was not there).
    recipe : callable
        See `core.evaluation.stability.Recipe`; to be given such rows.
    """
    assert split.evidence is not None  # every chosen split has it
    features, momentum = (tuple(split.evidence[n]) for n in ("features", "momentum"))
    search = _Search(features, momentum, config, entity, config.seed, None)
    columns = search.columns
    X = feature_matrix(table, list(columns))
    recipe = partial(
        _relearnt, columns=columns, method=split.method, n=split.n_segments
    )
    if split.method != TREE or not (cuts := search.cuts(history, monthly)):
        return X, recipe
    rows, Y = _targets(cuts[-1])
    known = pl.DataFrame(
        np.hstack([cuts[-1].X[rows], Y]),
        schema=[f"{i}" for i in range(len(columns) + Y.shape[1])],
    ).with_columns(cuts[-1].ids[rows])
    ids = table.select(entity.id_column)
    then = ids.join(known, on=entity.id_column, how="left", maintain_order="left")
    past = then.drop(entity.id_column).cast(pl.Float64).to_numpy()
    return np.hstack([X, past]), recipe


def _relearnt(
    X: FloatArray, seed: int, columns: Sequence[str], method: str, n: int
) -> Label:
    """Learn rules from the rows of `relearning`; return what labels such rows."""
    width = len(columns)

    def table(rows: FloatArray) -> pl.DataFrame:
        return pl.DataFrame(rows[:, :width], schema=list(columns))

    rules: RuleSet | None = None
    if method != TREE:
        rules = _settled(read_rules(method), table(X))
    else:
        is_known = np.isfinite(X[:, 2 * width :]).all(axis=1)
        then, Y = X[is_known, width : 2 * width], X[is_known, 2 * width :]
        if Y.size:
            least = max(math.ceil(MIN_SHARE * len(Y)), 2)
            rules = rules_towards(then, Y, columns, n, least, seed)
    if rules is None:
        return lambda rows: np.zeros(len(rows), dtype=np.int64)
    return lambda rows: rule_numbers(rules, table(rows))


def _targets(cut: Cut) -> tuple[IntArray, FloatArray]:
    """Return the entities that are followed, and their outcomes beyond size.

    Of one spread each, so that none outweighs the others, and within three of it, so
    that no entity outweighs the rest; 0, the mean, where one is unknown. That an entity
    stops is in its activity, so it is not counted twice.
    """
    names = [name for name in TOLD if name in cut.outcomes.columns]
    values = cut.outcomes.select(pl.col(names).cast(pl.Float64)).to_numpy()
    columns = []
    for rows, members in by_known_rows(values):
        size = (cut.size if cut.level is None else cut.level)[rows]
        place, slopes = size_classes(size), [np.log1p(size)]
        slopes += [] if cut.season is None else [cut.season[rows]]
        design = np.column_stack([np.eye(place.max() + 1)[place], *slopes])
        Y = values[rows][:, members]
        left = Y - design @ np.linalg.lstsq(design, Y, rcond=None)[0]
        spread = left.std(axis=0)
        told = np.zeros((len(values), len(members)))
        told[rows] = np.clip(left / np.where(spread > 0, spread, 1.0), -3, 3)
        columns.append(told[:, spread > 0])
    followed = np.flatnonzero(np.isfinite(values).any(axis=1))
    if not columns:
        return followed, np.zeros((len(followed), 0))
    return followed, np.hstack(columns)[followed]


def _settled(rules: RuleSet, table: pl.DataFrame) -> RuleSet:
    """Learn the thresholds of a rule set, in two digits, which people can remember."""
    learnt = rules.settle(table)
    rounded = tuple(
        replace(t, value=t.value if t.value is None else float(f"{t.value:.2g}"))
        for t in learnt.thresholds
    )
    return replace(learnt, thresholds=rounded)


@dataclass(frozen=True)
class _Found:
    """The candidates, judged, and which one is taken; None: undivided."""

    chosen: _Candidate | None
    reason: str
    facts: dict[str, Any]


def _chosen(
    cuts: Sequence[Cut],
    options: Sequence[_Candidate],
    search: _Search,
    fewest_effective: float = 0.0,
) -> _Found:
    """Judge candidates and take the simplest that is as good as the best.

    Of those, one with `fewest_effective` parts, where there is any.
    """
    entities = search.entity.plural
    if not cuts:
        least = 2 * MIN_ENTITIES_AT_CUT
        reason = (
            f"no earlier month has {least} {entities} to learn from and to judge by "
            "what came after"
        )
        return _Found(None, reason, {"criterion": "none", "candidates": []})
    trials = _trials(cuts, search.seed)
    tried = (_judged(option, trials, search.seed) for option in options)
    judged = [candidate for candidate in tried if candidate is not None]
    # The fewest parts first; of these, rules, which can be read.
    judged.sort(key=lambda c: (c.n_segments, c.kind != "rules"))
    months = list(dict.fromkeys(cut.as_of for _, own in trials for cut in own))
    facts: dict[str, Any] = {
        "learnt_at": cuts[0].as_of,
        "cuts": months,
        "candidates": [c.as_dict() for c in judged],
    }
    telling = [c for c in judged if c.is_telling]
    told = (
        f"what other {entities} did after {', '.join(months)}, beyond their usual sales"
    )
    if not telling:
        reason = f"none of {len(judged)} ways to divide them tells {told}"
        return _Found(None, reason, facts | {"criterion": "none"})
    best = max(telling, key=lambda c: c.score)
    good = [c for c in telling if c.is_as_good_as(best)]
    good = [c for c in good if c.effective >= fewest_effective] or good
    kept = next((c for c in good if c.is_like(search.before)), None)
    chosen = kept or good[0]
    which = "that of the model before, one" if kept is not None else "the simplest"
    reason = (
        f"{chosen.text}: {which} of {len(judged)} ways that are as good as the best, "
        f"within one standard error, at telling {told}: {100 * chosen.score:.2g}% of "
        f"the variance, the best {100 * best.score:.2g}%"
    )
    facts |= {"criterion": "out_of_time"} | chosen.scored
    return _Found(chosen, reason, facts)


def _trials(cuts: Sequence[Cut], seed: int) -> list[tuple[Cut, list[Cut]]]:
    """Return what candidates learn from, and what they are then judged by.

    Each half of the entities at the oldest cut, and the other half at each later cut,
    or at the oldest itself where there is no other. Halves are drawn `N_DRAWS` times.
    """
    first, judged = cuts[0], cuts[1:] or cuts
    codes, n_entities = entity_codes(cuts)
    rng = np.random.default_rng(seed)
    trials = []
    for _ in range(N_DRAWS):
        half = rng.permutation(n_entities) % 2
        sides = {cut.as_of: half[code] for cut, code in zip(cuts, codes, strict=True)}
        trials += [
            (
                first.part(np.flatnonzero(sides[first.as_of] == side)),
                [cut.part(np.flatnonzero(sides[cut.as_of] != side)) for cut in judged],
            )
            for side in (0, 1)
        ]
    return trials


def _judged(
    option: _Candidate, trials: Sequence[tuple[Cut, list[Cut]]], seed: int
) -> _Candidate | None:
    """Return a candidate with its score; None where it cannot be learnt."""
    judged, labels = [], []
    for source, cuts in trials:
        label = None if option.is_at_hand else option.learn(source)
        for cut in cuts:
            # Rules at hand look at no outcome: their thresholds are of the month.
            own = option.learn(cut) if option.is_at_hand else label
            if own is None:
                return None
            judged.append(cut)
            labels.append(own(cut.X))
    effective = np.mean([label_summary(own).effective_clusters for own in labels])
    found = out_of_time(judged, labels, seed)
    return replace(option, found=found, effective=float(effective))


def _learnt_anew(
    found: _Found,
    facts: dict[str, Any],
    table: pl.DataFrame,
    cuts: Sequence[Cut],
    search: _Search,
) -> SplitChoice:
    """Learn what was chosen from all entities, as they are now."""
    evidence, chosen = facts | found.facts, found.chosen
    if chosen is None:
        return SplitChoice(None, found.reason, evidence)
    if chosen.kind == "partition":
        anew: Split | None = _partitioned(table, chosen, search)
    elif chosen.method == TREE:
        anew = _tree_split(table, chosen, cuts[-1], search)
    else:
        rules = _settled(read_rules(chosen.method), table.select(search.columns))
        anew = _ruled(table, chosen.method, rules)
    if anew is None or anew.n_segments < 2:
        reason = f"{chosen.text}: no longer divides them today"
        return SplitChoice(None, reason, evidence)
    split = replace(anew, reason=found.reason, evidence=evidence)
    return SplitChoice(split, found.reason, evidence)


def _partitioned(table: pl.DataFrame, chosen: _Candidate, search: _Search) -> Split:
    """Learn the centres from today's entities, and from the split before."""
    is_momentum = chosen.method == KMEANS_MOMENTUM
    columns = search.momentum if is_momentum else search.columns
    X = feature_matrix(table, list(columns))
    scaler = FeatureScaler(**search.config.scaling.model_dump()).fit(X).scaling_
    before = search.before if chosen.is_like(search.before) else None
    start = None if before is None else before.assign(table)
    fitted = Partition(KMEANS, chosen.n_segments, search.seed)
    fitted.fit(scaler.transform(X), start=start)
    n = fitted.model_.n_segments
    return Split(
        "partition",
        chosen.method,
        n,
        columns,
        scaler=scaler,
        model=fitted.model_,
    )


def _tree_split(
    table: pl.DataFrame, chosen: _Candidate, newest: Cut, search: _Search
) -> Split | None:
    """Learn the tree at the newest cut; with fewer leaves where one would be empty."""
    for n in range(chosen.n_segments, 1, -1):
        rules = search.tree_rules(newest, n)
        split = None if rules is None else _ruled(table, chosen.method, rules)
        if split is not None:
            return split
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
    if split.method != TREE:
        return [str(part) for part in split.assign(history)]
    search = _Search(tuple(features), (), config, entity, seed, None)
    horizon = config.evaluation.horizon_months
    cuts = backtest_cuts(history, monthly, features, horizon, entity, 1)
    codes, n_entities = entity_codes(cuts)
    half = np.random.default_rng(seed).permutation(n_entities) % 2
    sides = half[np.concatenate(codes)]
    parts = np.full(len(sides), "", dtype=object)
    X = np.concatenate([cut.X for cut in cuts])
    for side in (0, 1):
        source = cuts[0].part(np.flatnonzero(half[codes[0]] == side))
        label = search.learnt_tree(source, split.n_segments)
        asked = sides != side
        if label is not None:
            parts[asked] = [f"{side}.{part}" for part in label(X[asked])]
    return parts.tolist()


def _ruled(table: pl.DataFrame, method: str, rules: RuleSet) -> Split | None:
    """Return rules in the order of their sizes; None where nobody meets one today."""
    sizes = np.bincount(rule_numbers(rules, table), minlength=len(rules.segments))
    if not sizes.all():
        return None
    order = np.argsort(-sizes, kind="stable")
    ordered = tuple(rules.segments[place] for place in order)
    proven = require_proven(replace(rules, segments=ordered))
    used = tuple(feature.name for feature in rules.features)
    return Split("rules", method, len(ordered), used, rules=proven)


def _density_split(
    table: pl.DataFrame, search: _Search
) -> tuple[Split | None, dict[str, Any] | None]:
    """Return groups denser than data without structure, if any, and the check.

    Who is in none of them belongs to the group of the nearest exemplar.
    """
    if table.height < 2 * MIN_ENTITIES_AT_CUT:
        return None, None
    X = feature_matrix(table, list(search.features))
    scaler = FeatureScaler(**search.config.scaling.model_dump()).fit(X).scaling_
    scaled = scaler.transform(X)
    given = search.config.clustering
    degree = given.min_samples or CHECK_MIN_SAMPLES
    options = given.model_copy(update={"min_samples": degree})

    def cluster(rows: FloatArray) -> IntArray:
        return fit_density(rows, options, search.seed).labels_

    check = structure_check(scaled, cluster, seed=search.seed, max_rows=CHECKED_ROWS)
    if not check.is_structured:
        return None, check.as_dict()
    clusterer = fit_density(principal_scores(scaled, 5)[0], options, search.seed)
    n = clusterer.n_clusters_
    if not 2 <= n <= MAX_SEGMENTS:
        return None, check.as_dict()
    model = choose_exemplars(scaled, clusterer.labels_, clusterer.strengths_)
    split = Split("density", "hdbscan", n, search.features, scaler=scaler, model=model)
    return split, check.as_dict()
