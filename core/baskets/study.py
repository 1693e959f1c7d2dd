"""The clustering study: what groups the customers carry, and what follows from that.

Every space (`study_spaces`) is clustered by every method (`study_methods`, and the
project's autoencoder with density clusters), and so is data without structure: Gaussian
copulas that keep each feature's distribution and the rank correlations
(`core.evaluation.null`). Then, the cheap things first:

1. A silhouette has no meaning outside its own space, so candidates are compared by one
   yardstick: the share of the variance of all scaled features that the clusters
   explain, beyond chance, less what the same candidate explains on the nulls
   (``excess``). That is the gap statistic of Tibshirani, Walther and Hastie (2001) with
   another null; the standard error is theirs as well.
2. Clusters are *parted* if the density falls between every two of them by 0.3, and
   between the thirds of one and those of another too (a gradient that bends has a
   valley between its two ends, but none on the way from one to the other):
   `core.models.valleys`.
3. The best candidates are learnt anew, scaling and components included, on bootstrap
   samples and with other seeds (`core.evaluation.stability`).
4. Of those that meet most (parted and reproducible, reproducible, neither) the simplest
   within one standard error of the best is chosen: fewest clusters, then the simplest
   method, then the smallest space. The autoencoder is shown and never chosen: learning
   it anew on 19 nulls takes minutes.
5. The one chosen is compared with 19 more nulls: more than all of them (p <= 0.05), and
   by a quarter of the largest. Gradients and arcs reach a tenth to a quarter.

6. HDBSCAN on the leading components of all features has to pass the project's
   certificate as well (`core.evaluation.certificate`).

``clear``
    More than the nulls, parted, reproducible (a bootstrap ARI of 0.8, the house's bar
    for a partition), and certified.
``weak``
    Certified; or reproducible, and either more than the nulls or parted. Borders are
    then a matter of choice, as those of rules are.
``none``
    Anything else.

Rules are recommended unless it is clear. How often it says so where there is nothing is
measured by ``python benchmarks/basket_study.py``; see docs/baskets.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

import numpy as np
import polars as pl
from sklearn.metrics import adjusted_rand_score

from core.baskets import study_candidates as steps
from core.baskets.study_candidates import N_NULLS
from core.baskets.study_spaces import (
    FACTS,
    StudySpaces,
    StudyTable,
    learn_spaces,
    study_table,
)
from core.evaluation.certificate import REPRODUCIBLE_ARI, certify_table
from core.evaluation.null import fit_gaussian_copula
from core.evaluation.workers import Workers
from core.models.centroids import one_thread
from core.models.criterion import FEWEST_ROWS, SMALLEST_SHARE, VALLEY
from core.models.scaling import FloatArray
from core.reporting.text import plural

Verdict = Literal["none", "weak", "clear"]

AUTOENCODER_EPOCHS: Final = 5
CERTIFIED_ROWS: Final = 1_000
HIGHEST_TIER: Final = 2
CANDIDATES: Final[dict[str, Any]] = {
    "space": pl.String,
    "method": pl.String,
    "k": pl.Int64,
    "n_customers": pl.Int64,
    **{
        name: pl.Float64
        for measure in steps.MEASURES
        for name in (measure, f"{measure}_null")
    },
    "excess": pl.Float64,
    "valley": pl.Float64,
    "bic": pl.Float64,
    "seed_ari": pl.Float64,
    "seed_ari_null": pl.Float64,
    "bootstrap_ari": pl.Float64,
    "bootstrap_ari_null": pl.Float64,
    "fault": pl.String,
    "is_chosen": pl.Boolean,
}


@dataclass(frozen=True)
class Study:
    """What clustering found in the customers.

    Attributes
    ----------
    spaces : DataFrame
        See `core.baskets.study_spaces.StudySpaces.facts`.
    candidates : DataFrame
        A row per space, method and number of clusters: columns `CANDIDATES`. Measures
        have their mean on nulls beside them (`..._null`); those of labels with noise
        are over the clustered customers. Null where a measure was not taken: valleys
        where there is a `fault` or no excess, agreements but of the best candidates.
    chosen : dict or None
        The row of the candidate chosen; None if nothing could be looked for.
    verdict : {'none', 'weak', 'clear'}
    recommendation : tuple of str
        Sentences that follow from the numbers.
    facts : dict
        JSON-able: bars, samples, what was left out, figures of the choice.
    labels : DataFrame or None
        `customer_id` and `cluster` (from 0, -1 is noise) of the one chosen, for the
        customers that it was learnt from; None without one, and for a study that was
        read again.
    """

    spaces: pl.DataFrame
    candidates: pl.DataFrame
    chosen: dict[str, Any] | None
    verdict: Verdict
    recommendation: tuple[str, ...]
    facts: dict[str, Any]
    labels: pl.DataFrame | None = None


def run_study(
    features: pl.DataFrame,
    aisle_names: Sequence[str],
    *,
    seed: int,
    max_customers: int,
    segment: pl.Series | None = None,
    epochs: int = AUTOENCODER_EPOCHS,
    workers: Workers | None = None,
) -> Study:
    """Look for groups of customers, and say what follows.

    Parameters
    ----------
    features : DataFrame
        As `core.baskets.features.customer_features` returns them, a row per customer.
    aisle_names : sequence of str
        Columns of the shares of aisles; may be empty.
    seed : int
        Decides all of it.
    max_customers : int
        More are sampled to this many.
    segment : Series, optional
        Segment of each row of `features` by the rules, to say how far they agree.
    epochs : int
        Of the autoencoder; 0 leaves it out.
    workers : Workers, optional
        None: everything in this process. The result is the same.
    """
    rng = np.random.default_rng(seed)
    rows = np.arange(features.height)
    if len(rows) > max_customers:
        rows = np.sort(rng.choice(rows, max_customers, replace=False))
    table = study_table(features[rows], aisle_names)
    facts = _facts_of(features.height, len(rows), table, seed)
    if len(rows) < FEWEST_ROWS or not table.behaviour:
        return _without_study(facts)
    n_behaviour = len(table.behaviour)
    plan = steps.Plan(
        n_behaviour,
        learn_spaces(table.X, n_behaviour).names,
        rng.permutation(len(rows))[: steps.SLOW_ROWS],
        seed,
        epochs,
    )
    with one_thread():
        found, spaces, chosen = _judged(table.X, plan, workers or Workers(0), facts)
    if chosen is None:
        return _without_study(facts, spaces.facts(table), _table_of(found, None))
    of_chosen = rows[chosen.rows]
    if segment is not None:
        own = segment[of_chosen].cast(pl.String).fill_null("")
        facts["rules_ari"] = float(adjusted_rand_score(own.to_numpy(), chosen.labels))
    ids = features["customer_id"][of_chosen]
    labels = pl.DataFrame({"customer_id": ids, "cluster": chosen.labels})
    candidates = _table_of(found, chosen)
    verdict = _verdict(chosen, facts)
    return Study(
        spaces.facts(table),
        candidates,
        candidates.filter("is_chosen").row(0, named=True),
        verdict,
        _recommendation(verdict, chosen, facts),
        facts,
        labels.sort("customer_id"),
    )


def learn_clusters(
    features: pl.DataFrame,
    aisle_names: Sequence[str],
    *,
    space: str,
    method: str,
    k: int,
    seed: int,
) -> pl.Series:
    """Learn a candidate of the study from other customers, and label these.

    Parameters
    ----------
    features, aisle_names
        As `run_study` takes them.
    space, method : str
    k : int
        Of the row of a candidate.
    seed : int

    Returns
    -------
    Series of int
        Cluster of each row, from 0.
    """
    table = study_table(features, aisle_names)
    label = steps.learn_anew(table.X, seed, space, method, k, len(table.behaviour))
    return pl.Series("cluster", label(table.X))


def _facts_of(
    n_customers: int, n_studied: int, table: StudyTable, seed: int
) -> dict[str, Any]:
    """Return what was looked at, and the bars."""
    return {
        "n_customers": n_customers,
        "n_studied": n_studied,
        "n_slow": min(n_studied, steps.SLOW_ROWS),
        "n_features": table.X.shape[1],
        "left_out": list(table.left_out),
        "n_unknown": table.n_unknown,
        "seed": seed,
        "bars": {
            "smallest_cluster": SMALLEST_SHARE,
            "valley": VALLEY,
            "bootstrap_ari": REPRODUCIBLE_ARI,
            "margin": steps.MARGIN,
        },
    }


def _judged(
    X: FloatArray, plan: steps.Plan, workers: Workers, facts: dict[str, Any]
) -> tuple[list[steps.ClusterCandidate], StudySpaces, steps.ClusterCandidate | None]:
    """Set candidates beside nulls, learn the best anew, choose and test one."""
    copula = fit_gaussian_copula(X, np.random.default_rng(plan.seed))
    tasks: list[Callable[[], Any]] = [
        partial(steps.all_candidates, X, plan),
        partial(steps.null_figures, copula, plan),
        *(partial(steps.null_cuts, copula, plan, n) for n in range(1, N_NULLS)),
    ]
    (found, spaces), first, *others = steps.in_order(workers, tasks)
    error = steps.set_beside_nulls(found, first, others)
    facts["standard_error"] = error
    steps.find_valleys(found, X, spaces, plan)
    short = steps.shortlisted(found, error)
    if not short:
        return found, spaces, None
    steps.repeat(short, X, copula, plan, workers)
    chosen = steps.choose(short, error)
    facts["test"] = steps.beyond_nulls(chosen, X, copula, plan, workers)
    facts["clusters"] = chosen.clusters
    certificate = certify_table(
        X,
        steps.density_recipe(plan),
        seed=plan.seed,
        max_entities=CERTIFIED_ROWS,
        workers=workers,
    )
    facts["certificate"] = {
        "is_structured": certificate.is_structured,
        "p_value": certificate.p_value,
        "n_null": certificate.n_null,
        "n_clusters": certificate.clusters.n_clusters,
        "n_customers": certificate.n_rows,
    }
    return found, spaces, chosen


def _verdict(chosen: steps.ClusterCandidate, facts: dict[str, Any]) -> Verdict:
    is_beyond = facts["test"]["is_beyond"]
    is_certified = facts["certificate"]["is_structured"]
    if is_beyond and is_certified and chosen.tier == HIGHEST_TIER:
        return "clear"
    is_weak = chosen.is_reproducible and (is_beyond or chosen.is_parted)
    return "weak" if is_weak or is_certified else "none"


def _table_of(
    found: Sequence[steps.ClusterCandidate], chosen: steps.ClusterCandidate | None
) -> pl.DataFrame:
    """Return all candidates as a table, in the order they were made."""
    rows = []
    for candidate in found:
        row: dict[str, Any] = {
            "space": candidate.space,
            "method": candidate.method,
            "k": candidate.k,
            "n_customers": len(candidate.rows),
            "excess": candidate.excess,
            "valley": candidate.valley,
            "bic": candidate.bic,
            "fault": candidate.fault,
            "is_chosen": candidate is chosen,
        }
        row |= candidate.figures | candidate.stability
        row |= {f"{name}_null": v for name, v in candidate.null_figures.items()}
        rows.append(row)
    return pl.DataFrame(rows, schema=CANDIDATES)


def _without_study(
    facts: dict[str, Any],
    spaces: pl.DataFrame | None = None,
    candidates: pl.DataFrame | None = None,
) -> Study:
    """Return the study of what has nothing to compare."""
    reason = (
        f"The study looked at {facts['n_studied']:,} customers and "
        f"{facts['n_features']} features that vary; it needs {FEWEST_ROWS} customers "
        "and one feature of behaviour."
    )
    if candidates is not None:
        reason = "No clustering gave two clusters of a usable size."
    return Study(
        pl.DataFrame(schema=FACTS) if spaces is None else spaces,
        pl.DataFrame(schema=CANDIDATES) if candidates is None else candidates,
        None,
        "none",
        ("Use the rules.", reason),
        facts,
    )


METHOD_NAMES: Final = {
    "kmeans": "KMeans",
    "mixture": "a Gaussian mixture",
    "ward": "Ward",
    "dbscan": "DBSCAN",
    "hdbscan": "HDBSCAN",
}
SPACE_NAMES: Final = {
    "behaviour": "on behaviour",
    "aisles": "on the shares of aisles",
    "combined": "on behaviour and the principal components of aisles",
    "pruned": "on all features but correlated ones",
    "all": "on all features",
}


def _recommendation(
    verdict: Verdict, chosen: steps.ClusterCandidate, facts: dict[str, Any]
) -> tuple[str, ...]:
    """Say what to use and why, in sentences that follow from the numbers."""
    name = (
        f"{METHOD_NAMES[chosen.method]} with {chosen.k} clusters "
        f"{SPACE_NAMES[chosen.space]}"
    )
    first = {
        "none": "Use the rules. Clustering found no groups in these customers.",
        "weak": "Use the rules. Clustering found some structure, but no groups that "
        "stand apart.",
        "clear": f"{chosen.k} groups of customers stand apart: test {name} against "
        "the rules.",
    }[verdict]
    return (
        first,
        f"The best candidate is {name}, the simplest within one standard error of the "
        "best.",
        _beyond_words(facts["test"]),
        _parted_words(chosen),
        _repeated_words(chosen),
        _certificate_words(facts["certificate"]),
        *_rules_words(verdict, facts),
    )


def _beyond_words(test: dict[str, Any]) -> str:
    found = (
        f"It explains {test['explained_variance']:.1%} of the variance of all "
        f"features; on {test['n_null']} tables without structure at most "
        f"{test['largest_null']:.1%}"
    )
    if test["is_beyond"]:
        return f"{found}: more than chance (p = {test['p_value']:.2f})."
    return (
        f"{found}. At least {test['required']:.1%} is needed to count as more than "
        "chance."
    )


def _parted_words(chosen: steps.ClusterCandidate) -> str:
    if chosen.is_parted:
        return (
            "The number of customers falls between every two clusters, by at least "
            f"{chosen.valley:.0%}."
        )
    return (
        "There is no gap between at least two of its clusters: the border is a cut "
        "through customers who are alike, as a threshold of a rule is."
    )


def _repeated_words(chosen: steps.ClusterCandidate) -> str:
    ari, null = (chosen.stability[f"bootstrap_ari{end}"] for end in ("", "_null"))
    word = "comes back" if chosen.is_reproducible else "does not come back"
    return (
        f"It {word} on bootstrap samples: ARI {ari:.2f} (required: "
        f"{REPRODUCIBLE_ARI}; on a table without structure {null:.2f}), and "
        f"{chosen.stability['seed_ari']:.2f} with other seeds."
    )


def _certificate_words(certificate: dict[str, Any]) -> str:
    word = "more" if certificate["is_structured"] else "no more"
    return (
        f"Density clusters (HDBSCAN) show {word} structure than chance "
        f"(p = {certificate['p_value']:.2f}, "
        f"{plural(certificate['n_null'], 'table')} without structure)."
    )


def _rules_words(verdict: Verdict, facts: dict[str, Any]) -> tuple[str, ...]:
    agreement = facts.get("rules_ari")
    words = []
    if agreement is not None:
        words.append(
            f"The clusters and the rule segments agree by an ARI of {agreement:.2f} "
            "(1: the same, 0: as by chance)."
        )
    if verdict != "clear":
        words.append(
            "The rules cover every customer, can be explained by two numbers, and stay "
            "the same between runs. Whether acting on them pays, only a test shows."
        )
    return tuple(words)
