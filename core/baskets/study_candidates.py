"""The candidates of the clustering study: made, measured, set beside nulls, repeated.

See `core.baskets.study` for what is asked of them and why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import Any, Final

import numpy as np
from sklearn.metrics import (
    adjusted_rand_score,
    calinski_harabasz_score,
    davies_bouldin_score,
)

from core.baskets.study_methods import METHODS, Clustering
from core.baskets.study_spaces import SPACES, StudySpaces, learn_spaces
from core.config import Config
from core.errors import ModelError
from core.evaluation.certificate import FEWEST_NULLS, REPRODUCIBLE_ARI
from core.evaluation.null import SIGNIFICANCE, GaussianCopula
from core.evaluation.quality import explained_variance
from core.evaluation.stability import (
    Labels,
    Recipe,
    cluster_stability,
    refit,
    whole_pipeline,
)
from core.evaluation.workers import Workers
from core.models import centroids
from core.models.criterion import SMALLEST_SHARE, VALLEY
from core.models.scaling import FloatArray
from core.models.valleys import density_gap, spread_ties, valley_depths

MAX_CLUSTERS: Final = 10
SLOW_ROWS: Final = 5_000
"""Customers that all methods but KMeans cluster, and that refits and nulls look at."""
SILHOUETTE_ROWS: Final = 2_000
AUTOENCODER_ROWS: Final = 2_000
N_NULLS: Final = 3
"""Nulls that every candidate is compared with; the one chosen sees 19 others."""
N_REFITS: Final = 4
N_NULL_REFITS: Final = 2
MARGIN: Final = 0.25
"""Share by which what is explained has to exceed the largest null's."""
MOST_NOISE: Final = 0.5
N_PARTS: Final = 3
N_PART_STARTS: Final = 2
PART_ROWS: Final = 40
"""Customers per part on average, at least: of fewer, a valley cannot be told."""
AUTOENCODER: Final = "autoencoder"
ORDER: Final = (*METHODS, AUTOENCODER)
MEASURES: Final = (
    "silhouette",
    "calinski_harabasz",
    "davies_bouldin",
    "smallest_cluster",
    "noise_share",
    "explained_variance",
)
Key = tuple[str, str, int | None]
Figures = dict[str, float | None]


@dataclass(frozen=True)
class Plan:
    """What is done to a table, data or null.

    Attributes
    ----------
    n_behaviour : int
        The first columns; the others are shares of aisles.
    spaces : tuple of str
        Those looked at, the same on data and nulls.
    slow : ndarray of int
        Rows that all methods but KMeans cluster, in random order.
    seed : int
    epochs : int
        Of the autoencoder; 0 leaves it out.
    """

    n_behaviour: int
    spaces: tuple[str, ...]
    slow: np.ndarray
    seed: int
    epochs: int


@dataclass
class ClusterCandidate:
    """Clusters of one space by one method, and what is known of them so far.

    Attributes
    ----------
    space, method : str
    asked : int or None
        Clusters asked for; None: the method finds their number.
    rows : ndarray of int
        Rows that were clustered.
    labels : ndarray of int64
        Their clusters; -1 is noise.
    figures, null_figures : dict of str to float or None
        `MEASURES` on the data, and on a null.
    bic : float or None
    excess : float
        Share of variance explained, less that on nulls.
    valley : float or None
        How far the density falls between any two clusters, and any two of their
        `N_PARTS` parts; at most 1.
    stability : dict of str to float
        `seed_ari`, `bootstrap_ari`, and both on a null.
    clusters : list of dict
        How well bootstrap samples bring each cluster back: the rows of
        `core.evaluation.stability.cluster_stability`.
    fault : str
        Why it is no answer; empty: it may be one.
    """

    space: str
    method: str
    asked: int | None
    rows: np.ndarray
    labels: Labels
    figures: Figures
    bic: float | None = None
    null_figures: Figures = field(default_factory=dict)
    excess: float = float("nan")
    valley: float | None = None
    stability: dict[str, float] = field(default_factory=dict)
    clusters: list[dict[str, Any]] = field(default_factory=list)
    fault: str = ""

    @property
    def key(self) -> Key:
        """What the same candidate has on a null, too."""
        return self.space, self.method, self.asked

    @property
    def k(self) -> int:
        """Clusters found."""
        return len(np.unique(self.labels[self.labels >= 0]))

    @property
    def simplicity(self) -> tuple[int, int, int]:
        """Less is simpler: fewer clusters, then the method, then the space."""
        return self.k, ORDER.index(self.method), SPACES.index(self.space)

    @property
    def is_parted(self) -> bool:
        """Whether the density falls between all of its clusters."""
        return self.valley is not None and self.valley >= VALLEY

    @property
    def is_reproducible(self) -> bool:
        """Whether bootstrap samples bring it back."""
        return self.stability.get("bootstrap_ari", -1.0) >= REPRODUCIBLE_ARI

    @property
    def tier(self) -> int:
        """How much of what is asked for it meets: 0, 1 or 2."""
        return int(self.is_reproducible) * (1 + int(self.is_parted))


def all_candidates(
    X: FloatArray, plan: Plan
) -> tuple[list[ClusterCandidate], StudySpaces]:
    """Cluster every space by every method, and measure; a task for a worker.

    Parameters
    ----------
    X : ndarray of float64, shape (n_customers, n_features)
        Unscaled, NaN where unknown; behaviour first.
    plan : Plan
    """
    with centroids.one_thread():
        return _clustered(X, plan)


def _clustered(X: FloatArray, plan: Plan) -> tuple[list[ClusterCandidate], StudySpaces]:
    spaces = learn_spaces(X, plan.n_behaviour)
    scaled = spaces.scaler.transform(X)
    found = []
    for name in plan.spaces:
        Z = spaces.matrix(name, scaled)
        distances = centroids.pairwise_distances(Z[plan.slow[:SILHOUETTE_ROWS]])
        for method, rows, made in _clusterings(Z, plan):
            labels = np.full(len(X), -2)
            labels[rows] = made.labels
            figures = _measures(Z[rows], scaled[rows], made.labels)
            seen = labels[plan.slow[:SILHOUETTE_ROWS]]
            figures["silhouette"] = _silhouette(distances, seen)
            candidate = ClusterCandidate(
                name, method, made.k, rows, made.labels, figures, made.bic
            )
            candidate.fault = _fault(candidate)
            found.append(candidate)
    if plan.epochs and X.shape[1] > Config().autoencoder.latent_size:
        found.append(_by_autoencoder(X, scaled, plan))
    return found, spaces


def _clusterings(
    Z: FloatArray, plan: Plan
) -> Iterator[tuple[str, np.ndarray, Clustering]]:
    slow = np.sort(plan.slow)
    for method in METHODS:
        rows = np.arange(len(Z)) if method == "kmeans" else slow
        for made in METHODS[method](Z[rows], _numbers(Z[rows]), plan.seed):
            yield method, rows, made


def _numbers(Z: FloatArray) -> range:
    """Return the numbers of clusters that are tried."""
    return range(2, min(MAX_CLUSTERS, len(np.unique(Z, axis=0))) + 1)


def _by_autoencoder(X: FloatArray, scaled: FloatArray, plan: Plan) -> ClusterCandidate:
    """Return the clusters of the project's own path, measured on all features."""
    rows = np.sort(plan.slow[:AUTOENCODER_ROWS])
    recipe = _recipe("all", AUTOENCODER, None, plan)
    fault = "shown, never chosen"
    try:
        labels = recipe(X[rows], plan.seed)(X[rows])
    except ModelError as error:  # it is only shown: the study goes on without
        labels, fault = np.full(len(rows), -1), f"could not be trained: {error}"
    figures = _measures(scaled[rows], scaled[rows], labels)
    distances = centroids.pairwise_distances(scaled[rows])
    figures["silhouette"] = _silhouette(distances, labels)
    return ClusterCandidate(
        "all", AUTOENCODER, None, rows, labels, figures, fault=fault
    )


def _measures(Z: FloatArray, scaled: FloatArray, labels: Labels) -> Figures:
    """Return all measures but the silhouette; None where they have no meaning."""
    sizes = np.bincount(labels[labels >= 0])
    sizes = sizes[sizes > 0]
    is_clustered = labels >= 0
    can_compare = 2 <= len(sizes) < is_clustered.sum()
    own = Z[is_clustered], labels[is_clustered]
    return {
        "calinski_harabasz": calinski_harabasz_score(*own) if can_compare else None,
        "davies_bouldin": davies_bouldin_score(*own) if can_compare else None,
        "smallest_cluster": sizes.min() / len(labels) if len(sizes) else None,
        "noise_share": float((~is_clustered).mean()),
        "explained_variance": explained_variance(scaled, labels),
    }


def _silhouette(distances: centroids.Distances, labels: Labels) -> float | None:
    """Return the mean silhouette of the clustered rows among those seen."""
    kept = np.flatnonzero(labels >= 0)
    if len(np.unique(labels[kept])) < 2:
        return None
    own = distances if len(kept) == len(labels) else distances[np.ix_(kept, kept)]
    return centroids.mean_silhouette(own, labels[kept])


def _fault(candidate: ClusterCandidate) -> str:
    """Return why clusters are no answer, in words; empty if they may be one."""
    if candidate.k < 2:
        return "fewer than two clusters"
    if candidate.k > MAX_CLUSTERS:
        return f"more than {MAX_CLUSTERS} clusters"
    noise = candidate.figures["noise_share"] or 0.0
    if noise > MOST_NOISE:
        return f"{noise:.0%} are in no cluster"
    smallest = candidate.figures["smallest_cluster"] or 0.0
    if smallest < SMALLEST_SHARE:
        return f"the smallest cluster holds {smallest:.1%}"
    return ""


def in_order(workers: Workers, tasks: Sequence[Callable[[], Any]]) -> list[Any]:
    """Return the results of tasks in their own order, whichever is done first."""
    return [result for _, result in sorted(workers.run(tasks), key=itemgetter(0))]


def null_figures(copula: GaussianCopula, plan: Plan) -> dict[Key, Figures]:
    """Measure every candidate on the first null; a task for a worker."""
    found, _ = all_candidates(_drawn(copula, plan, 0), plan)
    return {candidate.key: candidate.figures for candidate in found}


def null_cuts(copula: GaussianCopula, plan: Plan, number: int) -> dict[Key, float]:
    """Return what KMeans explains of one more null; a task for a worker."""
    X = _drawn(copula, plan, number)
    spaces = learn_spaces(X, plan.n_behaviour)
    scaled = spaces.scaler.transform(X)
    explained = {}
    with centroids.one_thread():
        for name in plan.spaces:
            Z = spaces.matrix(name, scaled)
            for made in METHODS["kmeans"](Z, _numbers(Z), plan.seed):
                value = explained_variance(scaled, made.labels)
                explained[name, "kmeans", made.k] = value
    return explained


def _drawn(copula: GaussianCopula, plan: Plan, number: int) -> FloatArray:
    return copula.sample(np.random.default_rng([plan.seed, number]))


def set_beside_nulls(
    candidates: Sequence[ClusterCandidate],
    first: Mapping[Key, Figures],
    others: Sequence[Mapping[Key, float]],
) -> float:
    """Set candidates beside the nulls; return the standard error of their excess.

    The measures beside a candidate are its own on the first null. Its excess is over
    what KMeans with as many clusters explains on all nulls, whatever its method:
    density clusters find nothing on nulls, and would be ahead by that alone.

    The standard error is that of Tibshirani, Walther and Hastie (2001): the standard
    deviation between nulls (pooled over all numbers of clusters, since a few nulls tell
    little of a single one) times the root of 1 + 1 / number of nulls.
    """
    cuts = {
        (key[0], key[2]): [_explained_of(figures), *(null[key] for null in others)]
        for key, figures in first.items()
        if key[1] == "kmeans" and all(key in null for null in others)
    }
    for candidate in candidates:
        candidate.null_figures = first.get(candidate.key, {})
        if (cut := cuts.get((candidate.space, candidate.k))) is not None:
            value = _explained_of(candidate.figures)
            candidate.excess = value - float(np.mean(cut))
    spread = np.sqrt(np.mean([np.var(values, ddof=1) for values in cuts.values()]))
    return float(spread * np.sqrt(1 + 1 / (1 + len(others))))


def _explained_of(figures: Figures) -> float:
    return figures["explained_variance"] or 0.0


def find_valleys(
    candidates: Sequence[ClusterCandidate],
    X: FloatArray,
    spaces: StudySpaces,
    plan: Plan,
) -> None:
    """Measure how far the density falls between clusters, where they have an excess."""
    scaled = spaces.scaler.transform(X)
    slow = np.sort(plan.slow)
    for name in plan.spaces:
        own = [
            c for c in candidates if c.space == name and not c.fault and c.excess > 0
        ]
        if not own:
            continue
        Z = spaces.matrix(name, scaled)[slow]
        columns = spread_ties(Z.T.copy(), np.random.default_rng(plan.seed))
        for candidate in own:
            labels = candidate.labels
            if len(labels) != len(slow):
                labels = labels[slow]
            candidate.valley = _valley(Z, columns, labels, plan.seed)


def _valley(Z: FloatArray, columns: FloatArray, labels: Labels, seed: int) -> float:
    """Return the flattest valley between clusters, and between parts of two."""
    known = np.unique(labels[labels >= 0])
    codes = np.full(len(labels), -1)
    codes[labels >= 0] = np.searchsorted(known, labels[labels >= 0])
    depth = density_gap(columns, codes, centroids.means_of(Z, codes))
    if depth < VALLEY:
        return depth
    parts, centres = np.full(len(labels), -1), []
    owner: list[int] = []
    for cluster in range(len(known)):
        members = np.flatnonzero(codes == cluster)
        places = len(np.unique(Z[members], axis=0))
        n = max(1, min(N_PARTS, places, len(members) // PART_ROWS))
        found = centroids.kmeans(Z[members], n, seed, n_init=N_PART_STARTS)
        parts[members] = len(owner) + found.labels
        centres.append(found.centres)
        owner += [cluster] * n
    depths = valley_depths(columns, parts, np.vstack(centres))
    is_between = np.not_equal.outer(owner, owner)
    return min(depth, float(depths[is_between].min()))


def shortlisted(
    candidates: Sequence[ClusterCandidate], error: float
) -> list[ClusterCandidate]:
    """Return the candidates that are worth learning anew.

    The simplest three within one standard error of the best parted one, the simplest
    within that of the best of all, and the best of each method.
    """
    possible = [c for c in candidates if not c.fault and np.isfinite(c.excess)]
    parted = [c for c in possible if c.is_parted]
    short = [*simplest_first(parted, error)[:3], *simplest_first(possible, error)[:1]]
    for method in METHODS:
        own = [c for c in possible if c.method == method]
        short += [max(own, key=lambda c: c.excess)] if own else []
    return list({c.key: c for c in short}.values())


def simplest_first(
    candidates: Sequence[ClusterCandidate], error: float
) -> list[ClusterCandidate]:
    """Return those within one standard error of the best, the simplest first."""
    best = max((c.excess for c in candidates), default=0.0)
    near = [c for c in candidates if c.excess >= best - error]
    return sorted(near, key=lambda c: c.simplicity)


def repeat(
    candidates: Sequence[ClusterCandidate],
    X: FloatArray,
    copula: GaussianCopula,
    plan: Plan,
    workers: Workers,
) -> None:
    """Learn candidates anew on bootstrap samples and with other seeds.

    On a null as well, in the same way.
    """
    rows = np.sort(plan.slow)
    tasks: list[Callable[[], Any]] = []
    for candidate in candidates:
        labels = candidate.labels
        if len(labels) != len(rows):
            labels = labels[rows]
        tasks.append(partial(_repeated, X[rows], labels, candidate.key, copula, plan))
    for candidate, found in zip(candidates, in_order(workers, tasks), strict=True):
        candidate.stability, candidate.clusters = found


def _repeated(
    X: FloatArray, labels: Labels, key: Key, copula: GaussianCopula, plan: Plan
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Return agreements, and how well each cluster came back; a task for a worker."""
    recipe = _recipe(*key, plan)
    null = _drawn(copula, plan, N_NULLS)[np.sort(plan.slow)]
    clusters: list[dict[str, Any]] = []
    stability = {}
    with centroids.one_thread():
        of_null = recipe(null, plan.seed)(null)
        for end, table, own, n in (
            ("", X, labels, N_REFITS),
            ("_null", null, of_null, N_NULL_REFITS),
        ):
            for how in ("seed", "bootstrap"):
                made = refit(table, recipe, plan.seed, n, how)
                found = [adjusted_rand_score(own, again.labels) for again in made]
                stability[f"{how}_ari{end}"] = float(np.mean(found))
                if (how, end) == ("bootstrap", ""):
                    clusters = cluster_stability(own, made).to_dicts()
    return stability, clusters


def choose(candidates: Sequence[ClusterCandidate], error: float) -> ClusterCandidate:
    """Return the simplest within one standard error of the best that meet most."""
    highest = max(c.tier for c in candidates)
    return simplest_first([c for c in candidates if c.tier == highest], error)[0]


def beyond_nulls(
    candidate: ClusterCandidate,
    X: FloatArray,
    copula: GaussianCopula,
    plan: Plan,
    workers: Workers,
) -> dict[str, Any]:
    """Compare what a candidate explains with what as many parts of 19 nulls explain.

    The parts are those of KMeans in the same space, whatever the candidate's method;
    see `compare`.

    Returns
    -------
    dict
        `explained_variance`, `largest_null`, `n_null`, `p_value`, `required` (the
        largest null and `MARGIN` of it) and `is_beyond`.
    """
    rows = np.sort(plan.slow)
    value = _explained(X[rows], _recipe(*candidate.key, plan), plan)
    cut = _recipe(candidate.space, "kmeans", candidate.k, plan)
    tasks = [
        partial(_null_explained, copula, cut, plan, N_NULLS + 1 + number)
        for number in range(FEWEST_NULLS)
    ]
    nulls = in_order(workers, tasks)
    p_value = (1 + sum(null >= value for null in nulls)) / (len(nulls) + 1)
    required = (1 + MARGIN) * max(*nulls, 0.0)
    return {
        "explained_variance": value,
        "largest_null": max(nulls),
        "n_null": len(nulls),
        "p_value": p_value,
        "required": required,
        "is_beyond": p_value <= SIGNIFICANCE and value >= required and value > 0,
    }


def _null_explained(
    copula: GaussianCopula, recipe: Recipe, plan: Plan, number: int
) -> float:
    """Return what a recipe explains of one null; a task for a worker."""
    null = _drawn(copula, plan, number)
    with centroids.one_thread():
        return _explained(null[np.sort(plan.slow)], recipe, plan)


def _explained(X: FloatArray, recipe: Recipe, plan: Plan) -> float:
    scaled = learn_spaces(X, plan.n_behaviour).scaler.transform(X)
    return explained_variance(scaled, recipe(X, plan.seed)(X))


def _recipe(space: str, method: str, asked: int | None, plan: Plan) -> Recipe:
    """Return how a candidate is learnt anew: scaling, components and clusters."""
    if method == AUTOENCODER:
        return whole_pipeline(Config(autoencoder={"epochs": plan.epochs}))
    return partial(
        learn_anew,
        space=space,
        method=method,
        asked=asked,
        n_behaviour=plan.n_behaviour,
    )


def density_recipe(plan: Plan) -> Recipe:
    """Return HDBSCAN on principal components of the widest space."""
    return _recipe("all", "hdbscan", None, plan)


def learn_anew(
    X: FloatArray,
    seed: int,
    space: str,
    method: str,
    asked: int | None,
    n_behaviour: int,
) -> Callable[[FloatArray], Labels]:
    """Learn a candidate from the customers of a table; return what labels others.

    Parameters
    ----------
    X : ndarray of float64, shape (n_customers, n_features)
        Unscaled, the `n_behaviour` columns of behaviour first.
    seed : int
    space, method : str
    asked : int or None
        Of a `Candidate`.
    n_behaviour : int
    """
    spaces = learn_spaces(X, n_behaviour)
    Z = spaces.matrix(space, spaces.scaler.transform(X))
    with centroids.one_thread():
        made = next(METHODS[method](Z, [asked or 0], seed))
    return lambda table: made.assign(
        spaces.matrix(space, spaces.scaler.transform(table))
    )
