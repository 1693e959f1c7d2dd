"""What one model is worth on rows that another one is judged on as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import polars as pl

from core.errors import ModelError
from core.evaluation.explained import FloatArray, IntArray
from core.evaluation.lookback import Cut, OutOfTime, out_of_time
from core.evaluation.quality import label_summary
from core.evaluation.stability import Refit, agreement, cluster_stability
from core.evaluation.verdict import (
    DISSOLVED_JACCARD,
    REPRODUCIBLE_ARI,
    VerdictKind,
)

Kind = Literal["density", "partition"]


@dataclass(frozen=True)
class Judged:
    """What one model is worth on rows that another one is judged on as well.

    Attributes
    ----------
    kind : {'density', 'partition'}
        Of its published segments.
    verdict : {'natural', 'reproducible', 'constructive'}
        Under which they were published.
    n_shops : int
        Rows.
    structure_score : float
        Coverage x ln(effective clusters) of its labels, in nats.
    agreement : DataFrame
        `core.evaluation.stability.agreement` with each refit.
    stability : DataFrame
        What ``stability.csv`` holds: ``kind, segment, size, jaccard, lowest_jaccard,
        verdict``, a row per segment that holds any of the rows.
    explained : OutOfTime or None
        What it explains of later months beyond size; None where the history is too
        short to tell.
    """

    kind: Kind
    verdict: VerdictKind
    n_shops: int
    structure_score: float
    agreement: pl.DataFrame = field(repr=False)
    stability: pl.DataFrame = field(repr=False)
    explained: OutOfTime | None = field(repr=False)

    @property
    def ari(self) -> FloatArray:
        """Adjusted Rand index with each refit, shape (n_refits,).

        Over the shops that both put into a segment, 0 where there are none. How many
        those are is the coverage's to tell: counted as a group, shops near a border
        swing the index by 0.13 between models that are equally good (8 clusters, 2,000
        shops).
        """
        return self.agreement["ari_clustered"].fill_null(0.0).to_numpy()

    @property
    def jaccard(self) -> dict[int, float]:
        """Clusterwise Jaccard by segment id."""
        return dict(self.stability.select("segment", "jaccard").iter_rows())

    @property
    def mean_jaccard(self) -> float:
        """The same, averaged over the shops in segments; 0 if there are none."""
        table = self.stability
        if table.is_empty():
            return 0.0
        return float(np.average(table["jaccard"], weights=table["size"]))

    @property
    def mean_ari(self) -> float:
        """Agreement with the refits, on average."""
        return float(self.ari.mean())

    @property
    def stands(self) -> bool:
        """Whether the rows bear the verdict: by what it demands of refits itself."""
        if self.verdict == "natural":
            return self.mean_jaccard > DISSOLVED_JACCARD
        return self.verdict != "reproducible" or self.mean_ari >= REPRODUCIBLE_ARI

    @property
    def values(self) -> FloatArray:
        """Structure that each refit finds again, in nats, shape (n_refits,)."""
        found: FloatArray = np.clip(self.ari, 0.0, None) * self.structure_score
        return found

    @property
    def stability_facts(self) -> dict[str, Any]:
        """What `segments stability` notes in the manifest, of these refits."""
        means = self.agreement.mean().row(0, named=True)
        n_refits = self.agreement.height
        return {"kind": self.kind, "how": "subsample", "n_refits": n_refits, **means}

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        explained = self.explained
        is_judged = explained is not None and np.isfinite(explained.standard_error)
        return {
            "kind": self.kind,
            "verdict": self.verdict,
            "stands": self.stands,
            "n_shops": self.n_shops,
            "n_segments": self.stability.height,
            "structure_score": self.structure_score,
            "ari": self.mean_ari,
            "n_refits": len(self.ari),
            "mean_jaccard": self.mean_jaccard,
            "jaccard": {str(i): value for i, value in self.jaccard.items()},
            "explained": explained.mean if explained and is_judged else None,
        }


def judge(
    labels: IntArray,
    refits: Sequence[Refit],
    *,
    kind: Kind,
    verdict: VerdictKind,
    cuts: Sequence[Cut],
    cut_labels: Sequence[IntArray],
    seed: int,
) -> Judged:
    """Judge a model's labels of some rows.

    Parameters
    ----------
    labels : ndarray of int64, shape (n_shops,)
        Its segment ids of the rows, gaps allowed; -1 is unassigned.
    refits : sequence of Refit
        The way the model is made (`core.evaluation.stability.Recipe`), learnt anew on
        these rows; at least 2.
    kind, verdict
        What is published, and under which verdict.
    cuts : sequence of Cut
        Earlier months of the same shops, from `core.evaluation.lookback.looking_back`;
        empty where the history is too short.
    cut_labels : sequence of ndarray of int64
        The model's segment ids of the shops of each cut.
    seed : int
        Of the folds; the same for all models that are to be compared.

    Raises
    ------
    ModelError
        For fewer than 2 refits, or refits of other rows.
    """
    if len(refits) < 2 or any(len(r.labels) != len(labels) for r in refits):
        raise ModelError(
            f"there are {len(refits)} refits for {len(labels):,} labels; expected at "
            "least 2, with one label per shop each."
        )
    ids, numbers = np.unique(labels[labels >= 0], return_inverse=True)
    dense = np.full(len(labels), -1, dtype=np.int64)
    dense[labels >= 0] = numbers
    stability = cluster_stability(dense, refits).select(
        pl.lit(kind).alias("kind"),
        pl.Series("segment", ids, dtype=pl.Int64),
        pl.exclude("cluster"),
    )
    return Judged(
        kind=kind,
        verdict=verdict,
        n_shops=len(labels),
        structure_score=label_summary(labels).structure_score,
        agreement=agreement(dense, refits),
        stability=stability,
        explained=out_of_time(cuts, cut_labels, seed) if cuts else None,
    )
