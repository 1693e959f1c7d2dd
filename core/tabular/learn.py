"""Learning the segments of a feature table, with ids of the model before.

1. Groups with clear gaps in density between them are looked for
   (`core.models.criterion`), in the columns as they are and whitened
   (`core.models.whitening`), where drawn-out groups are round; the more groups count.
   Where there are none, smaller gaps in the columns as they are do. They make the
   verdict *natural*.
2. Without such groups the table is cut by KMeans into the most segments that still come
   back when everything is learnt anew on 80% of the rows
   (`core.evaluation.n_segments`). Where refits agree by an adjusted Rand index of at
   least 0.8 the verdict is *reproducible*, else *constructive*.
3. Segments that live on keep their ids and names (`core.segments.identity`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np

from core.errors import EligibilityError
from core.evaluation.certificate import derive_verdict
from core.evaluation.n_segments import MAX_SEGMENTS, by_refits, recipe_stability
from core.evaluation.stability import Recipe
from core.models import centroids
from core.models.centroids import CentroidModel, FloatArray, IntArray, Scaling
from core.models.criterion import (
    LARGEST_SHARE,
    SMALLEST_SHARE,
    Asked,
    Choice,
    learn_centres,
)
from core.models.partition import METHODS, Partition
from core.models.whitening import learn_whitening
from core.segments.axes import (
    FittedAxis,
    Told,
    axis_identity,
    axis_segments,
    kept_segments,
)
from core.segments.published import Verdict
from core.segments.rule_axis import distinct_names
from core.tabular.columns import TableEncoding
from core.tabular.files import AXIS
from core.tabular.names import UNKNOWN, name_segments

FEWEST_ROWS: Final = 20
"""Rows below which nothing is cut that has no gaps: refits could not be compared."""
CLEAR_VALLEY: Final = 0.5
"""Asked where groups are looked for twice. Planted groups mostly have deeper gaps, one
group too many has one of 0.3 to 0.44, and even rows whitened by chance up to 0.47."""
MUCH_SMALLER: Final = 0.6
"""Share of the deepest gap below which more groups are taken for one group too many."""
CLEAR_SHARE: Final = 0.01
FEWEST_MEMBERS: Final = 10
"""Rows of a group behind a clear gap, which may be smaller than `SMALLEST_SHARE`."""
REFIT_STARTS: Final = 3
"""Starts of KMeans in a refit; a table is refitted some fifty times."""


@dataclass(frozen=True)
class FitOptions:
    """How the segments of a table are learnt.

    Attributes
    ----------
    n_segments : int or None
        Segments wanted; None: see the module.
    max_segments : int
        Most that are looked for.
    seed : int
    """

    n_segments: int | None = None
    max_segments: int = MAX_SEGMENTS
    seed: int = 42


def learn_segments(
    encoding: TableEncoding,
    X: FloatArray,
    options: FitOptions = FitOptions(),
    before: FittedAxis | None = None,
    old: IntArray | None = None,
) -> FittedAxis:
    """Learn the segments of encoded rows.

    Parameters
    ----------
    encoding : TableEncoding
        Learnt from the same table.
    X : ndarray of shape (n_rows, n_features)
        Of `TableEncoding.matrix`; NaN in rows of which nothing is known.
    options : FitOptions
    before : FittedAxis, optional
        The segments of the model before, whose ids and names live on.
    old : ndarray of int, shape (n_rows,), optional
        Ids that it gives the same rows; -1 is none.

    Raises
    ------
    EligibilityError
        If nothing is known of any row.
    """
    is_known = np.asarray(np.isfinite(X).all(axis=1))
    if not is_known.any():
        raise EligibilityError(
            f"none of {len(X):,} rows has a value in the columns that count; expected "
            "at least one."
        )
    with centroids.one_thread():
        scaling = encoding.learn_scaling(X[is_known])
        choice, model = _choose(encoding, X, is_known, scaling, options, before, old)
        model = model.by_size(X)
        labels = model.assign(X).labels
        recipe = partial(
            _refitted,
            encoding=encoding,
            n_segments=choice.n_segments,
            is_whitened=model.whitening is not None,
        )
        judged, refits = _judged(X[is_known], labels[is_known], choice, recipe, options)
    return _with_identity(
        encoding, model, labels, choice, before, old,
        {"judged": judged.model_dump(), "refits": refits},
    )  # fmt: skip


def verdict_of(axis: FittedAxis) -> Verdict:
    """Return the verdict under which segments were learnt."""
    return Verdict(**axis.report["judged"])


def _choose(
    encoding: TableEncoding,
    X: FloatArray,
    is_known: centroids.BoolArray,
    scaling: Scaling,
    options: FitOptions,
    before: FittedAxis | None,
    old: IntArray | None,
) -> tuple[Choice, CentroidModel]:
    """Return the number of segments with the reason, and the segments."""
    wanted = options.n_segments
    kind, n_before = _before(before, old)
    look = partial(
        learn_centres,
        X,
        is_known,
        scaling,
        fewest=wanted or 1,
        most=wanted or options.max_segments,
        seed=options.seed,
        before=old if kind == "natural" else None,
        n_before=n_before if kind in (None, "natural") else 1,
        categories=encoding.blocks,
    )
    rows = X[is_known]
    is_enough = len(rows) >= FEWEST_ROWS and bool((rows != rows[0]).any())
    whitening = _whitening(encoding, scaling, rows, options.seed)
    least = float(np.clip(FEWEST_MEMBERS / len(rows), CLEAR_SHARE, SMALLEST_SHARE))
    clear = Asked(CLEAR_VALLEY, least, max(1 - least, LARGEST_SHARE))
    looks: list[tuple[FloatArray | None, Asked]]
    looks = [(None, Asked()), (None, clear)]
    if whitening is not None:
        looks.append((whitening, clear))
    tried = []
    for metric, asked in looks:
        choice, centres = look(whitening=metric, asked=asked)
        tried.append((choice, CentroidModel(centres, scaling, whitening=metric)))
    choice, model = _clearest(tried)
    if choice.kind != "single" or wanted == 1 or not is_enough:
        return choice, model
    found = by_refits(
        rows,
        partial(_recipe_of, encoding),
        options.seed,
        "there are no gaps in density",
        "rows",
        (METHODS[0], n_before) if kind == "cut" else None,
        most=options.max_segments,
    )
    start = None if kind != "cut" or old is None else old[is_known]
    scaled = scaling.columns(rows).T
    cut = Partition(METHODS[0], found.n_segments, options.seed).fit(scaled, start=start)
    choice = replace(
        choice, kind="cut", n_segments=cut.model_.n_segments, verdict=found.reason
    )
    return choice, CentroidModel(cut.model_.centres, scaling)


def _whitening(
    encoding: TableEncoding, scaling: Scaling, rows: FloatArray, seed: int
) -> FloatArray | None:
    """Return what makes groups round, of rows in the columns' own units."""
    is_number = np.array(
        [
            plan.kind == "number" and not plan.levels
            for plan in encoding.columns
            for _ in plan.features
        ]
    )
    return learn_whitening(scaling.columns(rows), is_number, seed)


def _clearest(
    tried: list[tuple[Choice, CentroidModel]],
) -> tuple[Choice, CentroidModel]:
    """Return the most groups whose gaps are not much smaller than the deepest found.

    Of as many the ones with deeper gaps; the first where there are none.
    """
    found = [
        (choice.n_segments, choice.shown.valley, place)
        for place, (choice, _) in enumerate(tried)
        if choice.kind == "natural" and choice.shown is not None
    ]
    least = MUCH_SMALLER * max((valley for _, valley, _ in found), default=0.0)
    kept = [one for one in found if one[1] >= least]
    return tried[max(kept)[2] if kept else 0]


def _before(before: FittedAxis | None, old: IntArray | None) -> tuple[str | None, int]:
    """Return the kind of the segments before, and how many of them still have members.

    None and 0 without any before.
    """
    if before is None or old is None:
        return None, 0
    sizes = np.bincount(old[old >= 0])
    n_alive = int((sizes >= SMALLEST_SHARE * max(sizes.sum(), 1)).sum())
    return before.report["kind"], n_alive


def _recipe_of(encoding: TableEncoding, n_segments: int) -> Any:
    return partial(_refitted, encoding=encoding, n_segments=n_segments)


def _refitted(
    X: FloatArray,
    seed: int,
    encoding: TableEncoding,
    n_segments: int,
    is_whitened: bool = False,
) -> Callable[[FloatArray], IntArray]:
    """Learn scaling and segments anew; return what labels other rows."""
    scaling = encoding.learn_scaling(X)
    whitening = _whitening(encoding, scaling, X, seed) if is_whitened else None

    def seen(table: FloatArray) -> FloatArray:
        columns = scaling.columns(table)
        return np.asarray((columns if whitening is None else whitening.T @ columns).T)

    cut = Partition(METHODS[0], n_segments, seed, n_init=REFIT_STARTS).fit(seen(X))
    return lambda table: cut.assign(seen(table)).labels


def _judged(
    X: FloatArray,
    labels: IntArray,
    choice: Choice,
    recipe: Recipe,
    options: FitOptions,
) -> tuple[Verdict, dict[str, Any] | None]:
    """Return the verdict, and how well the segments come back in refits."""
    refits = None
    if choice.n_segments > 1 and len(X) >= FEWEST_ROWS:
        refits = recipe_stability(X, labels, recipe, options.seed)
    shown = choice.shown
    verdict = derive_verdict(
        is_structured=choice.kind == "natural",
        n_clusters=choice.n_segments,
        partition_ari=None if refits is None else refits["ari"],
        is_certified=False,
        valley=None if shown is None else shown.valley,
        n_partition_refits=0 if refits is None else refits["n_refits"],
    )
    return verdict, refits


def _with_identity(
    encoding: TableEncoding,
    model: CentroidModel,
    labels: IntArray,
    choice: Choice,
    before: FittedAxis | None,
    old: IntArray | None,
    figures: dict[str, Any],
) -> FittedAxis:
    """Return the segments under ids and names."""
    next_id = 0 if before is None else before.next_id
    identity = axis_identity(before, old, labels, model.n_segments, next_id)
    kept = kept_segments(identity, before, model.n_segments)
    told = {**name_segments(model, encoding), centroids.NOWHERE: UNKNOWN}
    names = distinct_names({c: one.name for c, one in told.items()}, kept)
    told = {c: Told(names.get(c, one.name), one.why) for c, one in told.items()}
    segments = axis_segments(identity, names, kept, told, labels, choice.kind)
    sizes = np.bincount(labels + 1, minlength=model.n_segments + 1)
    return FittedAxis(
        AXIS,
        tuple(encoding.features),
        dict(encoding.skipped),
        model,
        segments,
        identity.next_id,
        () if before is None or old is None else identity.events,
        choice.report(sizes) | figures,
    )
