"""The gate: champion and challenger on the same rows; which one is to serve.

Champion and challenger label the same rows, those of the new month, and everything is
judged on them. The challenger must be no worse, by more than chance gives:

verdict
    As strong as the champion's (natural, reproducible, constructive). A weaker one
    passes only where the champion's segments do not stand on the new rows either.
agreement with refits
    Scaler, encoder and clusterer are learnt anew on the new rows; both labelings meet
    the same refits. Adjusted Rand index over the entities that both assign.
clusterwise Jaccard
    Hennig's, over the same refits: natural clusters must not dissolve.
structure found again
    Agreement x coverage x ln(effective clusters), of density segments. Not without the
    agreement: two segments that have grown into one make the challenger coarser, and
    the champion's line between them, which no refit draws, is no merit.
explained beyond usual sales
    Of what entities did after earlier months, by both models frozen as they are. The
    boundaries of both have seen some of those months, the challenger's all of them, so
    this can speak against a challenger and never for one. The champion's segments may
    be of the past by now: entities that have left since do not count, nor do those that
    it puts into a segment that has fallen (`core.evaluation.gate.score_model`). That
    its entities would all leave is the best forecast a segment ever gave, and its last.
contract
    No term broken (`core.segments.contract`).

Figures of one kind of segments say nothing of another kind: between a partition and
density segments only verdict, explained outcomes and contract decide, beside what the
challenger's own verdict demands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict

from core.entities import Entity
from core.errors import ModelError
from core.evaluation.certificate import DISSOLVED_JACCARD, REPRODUCIBLE_ARI
from core.evaluation.out_of_time import MIN_ENTITIES_AT_CUT, Cut, OutOfTime, out_of_time
from core.evaluation.outcomes import FloatArray, IntArray
from core.evaluation.quality import label_summary
from core.evaluation.stability import (
    SUBSAMPLE_SHARE,
    Refit,
    agreement,
    cluster_stability,
)
from core.segments.contract import Breach
from core.segments.identity import NONE, survives
from core.segments.published import VerdictKind

Kind = Literal["density", "partition", "rules"]


@dataclass(frozen=True)
class ModelScore:
    """Scores of a model on rows shared with another model.

    Attributes
    ----------
    kind : {'density', 'partition', 'rules'}
        Of its published segments.
    verdict : {'natural', 'reproducible', 'constructive'}
        Under which they were published.
    n_entities : int
        Rows.
    structure_score : float
        Coverage x ln(effective clusters) of its labels, in nats.
    agreement : DataFrame
        `core.evaluation.stability.agreement` with each refit.
    stability : DataFrame
        What ``stability.csv`` holds: ``kind, segment, size, jaccard, lowest_jaccard,
        verdict``, a row per segment that holds any of the rows.
    fallen : tuple of int
        Segments of which little is left, or which no longer stand: see `score_model`.
    explained : OutOfTime or None
        What it explains of later months beyond size, from `with_backtests`; None
        where that cannot be told.
    """

    kind: Kind
    verdict: VerdictKind
    n_entities: int
    structure_score: float
    agreement: pl.DataFrame = field(repr=False)
    stability: pl.DataFrame = field(repr=False)
    fallen: tuple[int, ...] = ()
    explained: OutOfTime | None = field(default=None, repr=False)

    @property
    def ari(self) -> FloatArray:
        """Adjusted Rand index with each refit, shape (n_refits,).

        Over the entities that both put into a segment, 0 where there are none. How many
        those are is the coverage's to tell: counted as a group, entities near a border
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
        """The same, averaged over the entities in segments; 0 if there are none."""
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
        """Whether these refits still meet what the verdict demands of refits."""
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
        """What `stability` notes in the manifest, of these refits."""
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
            "n_entities": self.n_entities,
            "n_segments": self.stability.height,
            "structure_score": self.structure_score,
            "ari": self.mean_ari,
            "n_refits": len(self.ari),
            "mean_jaccard": self.mean_jaccard,
            "jaccard": {str(i): value for i, value in self.jaccard.items()},
            "fallen": list(self.fallen),
            "explained": explained.mean if explained and is_judged else None,
        }


def score_model(
    labels: IntArray,
    refits: Sequence[Refit],
    *,
    kind: Kind,
    verdict: VerdictKind,
    trained: Mapping[int, int],
    part: float,
) -> ModelScore:
    """Score a model's labels of some rows against refits on them.

    Parameters
    ----------
    labels : ndarray of int64, shape (n_entities,)
        Its segment ids of the rows, gaps allowed; -1 is unassigned.
    refits : sequence of Refit
        The way the model is made (`core.evaluation.stability.Recipe`), learnt anew on
        these rows; at least 2.
    kind, verdict
        What is published, and under which verdict.
    trained : mapping of int to int
        Entities that each published segment was learnt with, by id, and the unassigned
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
            "least 2, with one label per row each."
        )
    ids, numbers = np.unique(labels[labels >= 0], return_inverse=True)
    dense = np.full(len(labels), -1, dtype=np.int64)
    dense[labels >= 0] = numbers
    stability = cluster_stability(dense, refits).select(
        pl.lit(kind).alias("kind"),
        pl.Series("segment", ids, dtype=pl.Int64),
        pl.exclude("cluster"),
    )
    found = ModelScore(
        kind=kind,
        verdict=verdict,
        n_entities=len(labels),
        structure_score=label_summary(labels).structure_score,
        agreement=agreement(dense, refits),
        stability=stability,
    )
    return replace(found, fallen=_fallen(found, trained, part))


def _fallen(
    judged: ModelScore, trained: Mapping[int, int], part: float
) -> tuple[int, ...]:
    """Return the segments of which little is left, or which refits dissolve."""
    sizes = dict(judged.stability.select("segment", "size").iter_rows())
    ids = sorted({*trained, *sizes} - {NONE})
    counts = np.array([sizes.get(i, 0) for i in ids], dtype=np.int64)
    remains = survives(ids, counts, trained, judged.n_entities, part)
    dissolved: set[int] = set()
    if judged.verdict != "constructive":
        values = judged.jaccard.items()
        dissolved = {i for i, value in values if value <= DISSOLVED_JACCARD}
    gone = (i for i, is_there in zip(ids, remains, strict=True) if not is_there)
    return tuple(sorted(dissolved.union(gone)))


def with_backtests(
    champion: ModelScore,
    challenger: ModelScore,
    cuts: Sequence[Cut],
    labels: tuple[Sequence[IntArray], Sequence[IntArray]],
    seed: int,
) -> tuple[ModelScore, ModelScore]:
    """Add scores on earlier months, by what entities did after them.

    What a segment explained that has fallen since is of the past: the entities that the
    champion puts into one are left out of that month, for both.

    Parameters
    ----------
    champion, challenger : ModelScore
    cuts : sequence of Cut
        Earlier months, from `backtest_cuts`, of entities that are
        still there; empty where the history is too short.
    labels : pair of sequences of ndarray of int64
        The segment ids of the entities of each cut, by the champion and the challenger.
    seed : int
        Of the folds.

    Returns
    -------
    champion, challenger : ModelScore
        With `ModelScore.explained`, on the same entities and folds; None where no month
        has enough of them.
    """
    places = [np.flatnonzero(~np.isin(own, champion.fallen)) for own in labels[0]]
    used = [i for i, rows in enumerate(places) if len(rows) >= MIN_ENTITIES_AT_CUT]
    if not used:
        return replace(champion, explained=None), replace(challenger, explained=None)
    parts = [cuts[i].part(places[i]) for i in used]
    old, new = (
        replace(
            judged,
            explained=out_of_time(parts, [own[i][places[i]] for i in used], seed),
        )
        for judged, own in zip((champion, challenger), labels, strict=True)
    )
    return old, new


STRENGTH: tuple[VerdictKind, ...] = ("constructive", "reproducible", "natural")
"""Verdicts, the weakest first."""
ARI_MARGIN = 0.1
STRUCTURE_MARGIN = 0.15
"""Adjusted Rand index, and nats, by which a challenger may fall short, or more if the
refits differ by more among themselves.

Models that are equally good, learnt with other seeds from 90% of the same 2,000 shops,
differed by up to 0.08 and 0.11 (12 models of 8 archetypes, of medium and hard
difficulty, 3 refits). With these margins no pair of them fails the gate by one of the
two; with halves of them 17% do where the difficulty is medium.
"""


class GateRow(BaseModel):
    """One check of the gate, in words and figures as they are shown.

    Attributes
    ----------
    check : str
        What is compared.
    champion, challenger : str
        What either reaches; "-" where it does not apply.
    needed : str
        What the challenger must reach; "-" where nothing is demanded.
    is_passed : bool
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    check: str
    champion: str
    challenger: str
    needed: str
    is_passed: bool


class GateDecision(BaseModel):
    """Whether the challenger may be published, and why.

    Attributes
    ----------
    is_passed : bool
        Whether every row is.
    rows : tuple of GateRow
    reason : str
        One sentence.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    is_passed: bool
    rows: tuple[GateRow, ...]
    reason: str


def judge_challenger(
    champion: ModelScore,
    challenger: ModelScore,
    entity: Entity,
    breaches: Sequence[Breach] = (),
) -> GateDecision:
    """Decide whether a challenger may take the champion's place.

    Parameters
    ----------
    champion, challenger : ModelScore
        On the same rows, and where both are of one kind, against the same refits.
    entity : Entity
        Its plural, for the sentences.
    breaches : sequence of Breach
        Terms of the contract that the challenger breaks.

    Raises
    ------
    ModelError
        If they were judged on different numbers of rows or refits.
    """
    if champion.n_entities != challenger.n_entities or len(champion.ari) != len(
        challenger.ari
    ):
        raise ModelError(
            f"the champion was judged on {champion.n_entities:,} {entity.plural} and "
            f"{len(champion.ari)} refits, the challenger on "
            f"{challenger.n_entities:,} and {len(challenger.ari)}; expected the same."
        )
    rows = (
        _verdict_row(champion, challenger, entity),
        _agreement_row(champion, challenger),
        _jaccard_row(champion, challenger),
        _structure_row(champion, challenger),
        _explained_row(champion, challenger),
        _contract_row(breaches),
    )
    failed = [row.check for row in rows if not row.is_passed]
    reason = (
        f"The new model fails the gate on {champion.n_entities:,} {entity.plural}: "
        f"{', '.join(failed)}."
        if failed
        else f"The new model is no worse than the one in use on the same "
        f"{champion.n_entities:,} {entity.plural}, by every check."
    )
    return GateDecision(is_passed=not failed, rows=rows, reason=reason)


def _verdict_row(
    champion: ModelScore, challenger: ModelScore, entity: Entity
) -> GateRow:
    is_weaker = STRENGTH.index(challenger.verdict) < STRENGTH.index(champion.verdict)
    found = "found again" if champion.stands else "not found again"
    return GateRow(
        check="verdict",
        champion=f"{champion.verdict}, {found} on these {entity.plural}",
        challenger=challenger.verdict,
        needed=f"{champion.verdict} or stronger" if champion.stands else "-",
        is_passed=not (is_weaker and champion.stands),
    )


def _agreement_row(champion: ModelScore, challenger: ModelScore) -> GateRow:
    """Compare how far refits agree; a reproducible partition must be one, too."""
    floors = []
    if challenger.verdict == "reproducible":
        floors.append(REPRODUCIBLE_ARI)
    if champion.kind == challenger.kind:
        allowed = max(ARI_MARGIN, _error(challenger.ari - champion.ari))
        floors.append(champion.mean_ari - allowed)
    return _row(
        "agreement with refits (ARI)",
        champion.mean_ari,
        challenger.mean_ari,
        max(floors, default=None),
    )


def _jaccard_row(champion: ModelScore, challenger: ModelScore) -> GateRow:
    """Ask of natural clusters what their verdict demands."""
    is_asked = challenger.verdict == "natural"
    row = _row(
        "clusterwise Jaccard", champion.mean_jaccard, challenger.mean_jaccard, None
    )
    if not is_asked:
        return row
    return row.model_copy(
        update={
            "needed": f"above {DISSOLVED_JACCARD:.2f}",
            "is_passed": challenger.mean_jaccard > DISSOLVED_JACCARD,
        }
    )


def _structure_row(champion: ModelScore, challenger: ModelScore) -> GateRow:
    check = "structure found again (nats)"
    needed = None
    if champion.kind == challenger.kind == "density":
        allowed = max(STRUCTURE_MARGIN, _error(challenger.values - champion.values))
        needed = float(champion.values.mean()) - allowed
    old, new = (float(one.values.mean()) for one in (champion, challenger))
    return _row(check, old, new, needed)


def _explained_row(champion: ModelScore, challenger: ModelScore) -> GateRow:
    """Compare what is explained of later months: within what chance gives.

    That is one standard error of the champion's share (Breiman et al., 1984), or two of
    the difference where they are more. The latter is over entities, which both share,
    and leaves out that models differ by how they were learnt; it is the larger one only
    where the labels have little in common, as those of a partition and of clusters.

    Of models that are equally good (8 learnt with other seeds from 90% of the same
    1,500 shops, 6 data sets of all difficulties) none of 336 pairs of density models
    failed: the largest shortfall was 0.97 errors. Over all rows of the gate 2% failed,
    those with the one model that had missed a cluster. Of challengers with 10% of
    their labels shuffled 99% of 192 failed; with twice the leeway it would be 72%.
    """
    check = "explained of later months beyond usual sales"
    old, new = champion.explained, challenger.explained
    if old is None or new is None or not np.isfinite(old.standard_error):
        return GateRow(
            check=check, champion="-", challenger="-", needed="-", is_passed=True
        )
    paired = float(np.linalg.norm(old.influence - new.influence))
    needed = old.mean - max(old.standard_error, 2 * paired)
    row = _row(check, old.mean, new.mean, needed, "{:.2%}".format)
    if not champion.fallen:
        return row
    gone = ", ".join(map(str, champion.fallen))
    said = f"{row.champion} without segments that are gone: {gone}"
    return row.model_copy(update={"champion": said})


def _contract_row(breaches: Sequence[Breach]) -> GateRow:
    n, said = len(breaches), " ".join(breach.message for breach in breaches)
    found = f"{n} {'breach' if n == 1 else 'breaches'}: {said}"
    return GateRow(
        check="contract",
        champion="-",
        challenger=found if n else "kept",
        needed="kept",
        is_passed=not n,
    )


def _row(
    check: str,
    champion: float,
    challenger: float,
    needed: float | None,
    form: Callable[[float], str] = "{:.3f}".format,
) -> GateRow:
    return GateRow(
        check=check,
        champion=form(champion),
        challenger=form(challenger),
        needed="-" if needed is None else f"at least {form(needed)}",
        is_passed=needed is None or challenger >= needed,
    )


def _error(differences: FloatArray) -> float:
    """Return the standard error of a mean over refits that share most rows.

    The variance counts as ``1 / n + share left out / share learnt from`` of theirs,
    not as ``1 / n`` (Nadeau and Bengio, 2003).
    """
    overlap = (1 - SUBSAMPLE_SHARE) / SUBSAMPLE_SHARE
    factor = 1 / len(differences) + overlap
    return float(np.sqrt(differences.var(ddof=1) * factor))
