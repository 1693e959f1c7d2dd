"""What one model is worth on rows that another one is judged on as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from core.errors import ModelError
from core.evaluation.explained import FloatArray, IntArray
from core.evaluation.lookback import MIN_SHOPS_AT_CUT, Cut, OutOfTime, out_of_time
from core.evaluation.quality import label_summary
from core.evaluation.stability import Refit, agreement, cluster_stability
from core.evaluation.verdict import (
    DISSOLVED_JACCARD,
    REPRODUCIBLE_ARI,
    VerdictKind,
)
from core.segments.overlap import NONE, is_left

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
    fallen : tuple of int
        Segments of which little is left, or which no longer stand: see `judge`.
    explained : OutOfTime or None
        What it explains of later months beyond size, from `with_later_months`; None
        where that cannot be told.
    """

    kind: Kind
    verdict: VerdictKind
    n_shops: int
    structure_score: float
    agreement: pl.DataFrame = field(repr=False)
    stability: pl.DataFrame = field(repr=False)
    fallen: tuple[int, ...] = ()
    explained: OutOfTime | None = field(default=None, repr=False)

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
            "fallen": list(self.fallen),
            "explained": explained.mean if explained and is_judged else None,
        }


def judge(
    labels: IntArray,
    refits: Sequence[Refit],
    *,
    kind: Kind,
    verdict: VerdictKind,
    trained: Mapping[int, int],
    part: float,
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
    trained : mapping of int to int
        Shops that each published segment was learnt with, by id, and the unassigned
        ones under -1.
    part : float
        Share of these, ``refresh.part``, below which a segment has *fallen*. So has one
        that the refits dissolve, by Hennig's measure, where the verdict says that
        refits find the segments again: of two that have merged, the smaller one at
        least makes up no more than half of what they find.

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
    found = Judged(
        kind=kind,
        verdict=verdict,
        n_shops=len(labels),
        structure_score=label_summary(labels).structure_score,
        agreement=agreement(dense, refits),
        stability=stability,
    )
    return replace(found, fallen=_fallen(found, trained, part))


def _fallen(judged: Judged, trained: Mapping[int, int], part: float) -> tuple[int, ...]:
    """Return the segments of which little is left, or which refits dissolve."""
    sizes = dict(judged.stability.select("segment", "size").iter_rows())
    ids = sorted({*trained, *sizes} - {NONE})
    counts = np.array([sizes.get(i, 0) for i in ids], dtype=np.int64)
    remains = is_left(ids, counts, trained, judged.n_shops, part)
    dissolved: set[int] = set()
    if judged.verdict != "constructive":
        values = judged.jaccard.items()
        dissolved = {i for i, value in values if value <= DISSOLVED_JACCARD}
    gone = (i for i, is_there in zip(ids, remains, strict=True) if not is_there)
    return tuple(sorted(dissolved.union(gone)))


def with_later_months(
    champion: Judged,
    challenger: Judged,
    cuts: Sequence[Cut],
    labels: tuple[Sequence[IntArray], Sequence[IntArray]],
    seed: int,
) -> tuple[Judged, Judged]:
    """Judge two models by what shops did after earlier months as well.

    What a segment explained that has fallen since is of the past: the shops that the
    champion puts into one are left out of that month, for both.

    Parameters
    ----------
    champion, challenger : Judged
    cuts : sequence of Cut
        Earlier months, from `core.evaluation.lookback.looking_back`, of shops that are
        still there; empty where the history is too short.
    labels : pair of sequences of ndarray of int64
        The segment ids of the shops of each cut, by the champion and the challenger.
    seed : int
        Of the folds.

    Returns
    -------
    champion, challenger : Judged
        With `Judged.explained`, on the same shops and folds; None where no month has
        enough of them.
    """
    places = [np.flatnonzero(~np.isin(own, champion.fallen)) for own in labels[0]]
    used = [i for i, rows in enumerate(places) if len(rows) >= MIN_SHOPS_AT_CUT]
    if not used:
        return replace(champion, explained=None), replace(challenger, explained=None)
    parts = [_rows(cuts[i], places[i]) for i in used]
    old, new = (
        replace(
            judged,
            explained=out_of_time(parts, [own[i][places[i]] for i in used], seed),
        )
        for judged, own in zip((champion, challenger), labels, strict=True)
    )
    return old, new


def _rows(cut: Cut, places: npt.NDArray[np.intp]) -> Cut:
    """Return some shops of a cut."""
    return replace(
        cut,
        shop_id=cut.shop_id.gather(places),
        X=cut.X[places],
        size=cut.size[places],
        outcomes=cut.outcomes[places],
        by_month=cut.by_month[places],
    )
