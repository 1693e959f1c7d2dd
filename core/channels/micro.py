"""Micro-segments: KMeans within the customers of some rule segments.

A plan lists items; each takes the customers of its rule segments and divides them by
some of their features. Every item is a way of dividing of its own, so two items may
share rule segments; a customer then has a micro-segment in each.

An item that names no features divides by what its customers order: the share of their
orders by channel, daypart, part of the week, price bucket and driver category
(`order_shares`), order value and discount. How many orders there are is what the rules
divide by. On one built-in sample these shares came nearest to the planted kinds of
guests among eight sets of features; counts of orders came near them, and all numbers
together fell behind among frequent guests. Samples of other seeds divide well in the
same bands, or not at all; guests with up to 5 orders show little of their kind.

Learnt per item, from its own customers:

unknown values
    stand for the median of the known ones (a customer with one order has no days
    between orders, and is placed all the same).
scale
    Amounts, counts and waiting times (never below 0, and above 1 somewhere) are taken
    as logarithms; then the mean is subtracted and the standard deviation divided by.
limits
    Where an item caps, values are clipped to the 1st and 99th percentile of training
    (`core.models.preprocessing`), so that a few customers cannot make a micro-segment.
    Who is scored later is clipped to the same limits. The number of orders that the
    rules divide by is never clipped.
number
    As `core.models.criterion` finds it, which may be that there are no micro-segments
    here; or the number asked for, which is then a cut unless the criterion agrees.

A model that came from a pickle (`core.channels.pickles`) keeps its own scale and
centres; only the limits, which such a pickle does not hold, are learnt here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import polars as pl

from core.artifacts.arrays import Arrays, Meta, State, load_arrays
from core.channels.words import differences, segment_names
from core.config import MicroPlanItem
from core.errors import (
    PROGRAM,
    ArtifactError,
    ConfigError,
    FeatureMismatchError,
    ModelError,
    did_you_mean,
    listed,
)
from core.models import centroids
from core.models.centroids import Assignment, CentroidModel, FloatArray, Scaling
from core.models.criterion import Choice, learn_centres

FORMAT: Final = 1
MOST_SEGMENTS: Final = 6
"""Most micro-segments of an item, where the number is not given."""
TOTAL: Final = "order_count"
"""Orders over all channels, as the rules call them."""
ORDERS: Final = "_order_count"
CATEGORY: Final = "categ_dri_"
EVERYONE: Final = "everyone"
ALIKE_THE_REST: Final = "no feature differs much from the rest"
CURE: Final = f"Run `{PROGRAM} channels import-models` again on the pickle."


@dataclass(frozen=True)
class MicroModel:
    """The micro-segments of one item of the plan.

    Attributes
    ----------
    name : str
    source_segments : tuple of str
        Rule segments whose customers it divides.
    features : tuple of str
        Columns that it divides by.
    centroids : CentroidModel or None
        None where there was nobody to learn from.
    skipped : dict of str to str
        Features left out, and why.
    names, why : tuple of str
        Of each micro-segment, by number: its name, and what sets it apart.
    report : dict
        As `core.models.criterion.Choice.report` returns it; `verdict` says in words
        why there are so many, or none.
    """

    name: str
    source_segments: tuple[str, ...]
    features: tuple[str, ...]
    centroids: CentroidModel | None
    skipped: dict[str, str] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    why: tuple[str, ...] = ()
    report: dict[str, Any] = field(default_factory=dict)

    def assign(self, features: pl.DataFrame) -> Assignment:
        """Place customers, those of the fit or others.

        Parameters
        ----------
        features : DataFrame
            A row per customer of the item's rule segments; other columns than
            `features` are not looked at. No rows are no error.

        Returns
        -------
        Assignment
            Labels from 0 by size; -1 for all where there was nobody to learn from.

        Raises
        ------
        FeatureMismatchError
            Naming all features that are missing.
        """
        if self.centroids is None:
            n = features.height
            nowhere = np.full(n, centroids.NOWHERE, dtype=np.int64)
            return Assignment(
                nowhere, np.zeros(n), nowhere, np.full(n, np.nan), np.full(n, np.nan)
            )
        return self.centroids.assign(_matrix(features, self.features, self.name))

    def get_state(self) -> State:
        """Return named arrays and JSON-able values, all that `from_state` needs."""
        arrays, meta = ({}, None) if self.centroids is None else self._state()
        return arrays, {
            "format": FORMAT,
            "model": meta,
            "name": self.name,
            "source_segments": list(self.source_segments),
            "features": list(self.features),
            "skipped": self.skipped,
            "names": list(self.names),
            "why": list(self.why),
            "report": self.report,
        }

    def _state(self) -> tuple[dict[str, Any], dict[str, Any] | None]:
        assert self.centroids is not None
        return self.centroids.get_state()

    @classmethod
    def from_state(cls, arrays: Arrays, meta: Meta) -> Self:
        """Return a model that places exactly as the one `get_state` was asked of.

        Raises
        ------
        ArtifactError
            For a state that is not whole, or not one that fitting leaves.
        """
        if meta.get("format") != FORMAT:
            found = f"its format is {meta.get('format')!r}, expected {FORMAT}"
            raise centroids.refused(found, CURE)
        try:
            model = meta["model"]
            made = (
                None if model is None else CentroidModel.from_state(arrays, model, CURE)
            )
            texts = {
                key: tuple(str(text) for text in meta[key])
                for key in ("source_segments", "features", "names", "why")
            }
            rest = {key: dict(meta[key]) for key in ("skipped", "report")}
            name = str(meta["name"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise centroids.refused(f"{type(error).__name__}: {error}", CURE) from None
        if made is not None and made.n_features != len(texts["features"]):
            raise centroids.refused("its features do not fit its centres", CURE)
        return cls(name=name, centroids=made, **texts, **rest)  # type: ignore[arg-type]


def load_micro_model(path: str | Path) -> MicroModel:
    """Return a model that `import-models` has written.

    Raises
    ------
    ArtifactError
        If the file is another one.
    """
    return MicroModel.from_state(*load_arrays(Path(path)))


def order_shares(features: Mapping[str, pl.Expr]) -> dict[str, pl.Expr]:
    """Return a customer's orders of every kind as shares of all orders.

    Parameters
    ----------
    features : mapping of str to Expr
        Over all channels, by name in the rules. ``Lunch_order_count`` becomes
        ``Lunch_order_share``, ``categ_dri_sides_count`` ``categ_dri_sides_share``.

    Returns
    -------
    dict of str to Expr
        Null without orders. Sums of several kinds (``Lunch_Dinner_order_count``) and
        counts within one channel are left out, and all where `TOTAL` is not known.
    """
    if TOTAL not in features:
        return {}
    kinds = [name.removesuffix(ORDERS) for name in features if name.endswith(ORDERS)]
    counts = {
        f"{kind}_order_share": f"{kind}{ORDERS}"
        for kind in kinds
        if not any(kind.startswith(f"{other}_") for other in kinds)
    }
    counts |= {
        f"{name.removesuffix('_count')}_share": name
        for name in features
        if name.startswith(CATEGORY) and name.endswith("_count")
    }
    total = features[TOTAL]
    return {
        share: pl.when(total > 0).then(features[count] / total)
        for share, count in counts.items()
        if share not in features
    }


def usual_features(names: Sequence[str]) -> list[str]:
    """Return what an item divides by that names no features, as far as it is there."""
    return [
        name
        for name in names
        if name.endswith("_order_share")
        or (name.startswith(CATEGORY) and name.endswith("_share"))
        or name in {"average_order_value", "discount_share"}
    ]


def check_plan(
    plan: Sequence[MicroPlanItem],
    rule_segments: Sequence[str],
    feature_names: Collection[str] | None = None,
) -> None:
    """Look through the whole plan, so that nothing of it runs in vain.

    Parameters
    ----------
    plan : sequence of MicroPlanItem
    rule_segments : sequence of str
        Names of the segments of the rule set.
    feature_names : collection of str, optional
        Numeric features of the customers; None where they are not known yet.

    Raises
    ------
    ConfigError
        Naming everything that is wrong, with the nearest known name. Of an item that
        is not enabled its features and model are not looked at.
    """
    counts = Counter(item.name for item in plan)
    faults = [
        f"the name `{name}` appears {n} times; each item needs a name of its own."
        for name, n in counts.items()
        if n > 1
    ]
    for item in plan:
        said = [*_faults_of_sources(item, rule_segments)]
        if item.enabled:
            said += _faults_of_model(item, feature_names)
        faults += [f"`{item.name}`: {fault}" for fault in said]
    if faults:
        raise ConfigError(f"`channels.micro`: {' '.join(faults)}")


def _faults_of_sources(item: MicroPlanItem, known: Sequence[str]) -> Iterator[str]:
    """Yield what is wrong with the rule segments of an item."""
    for name, n in Counter(item.source_segments).items():
        if n > 1:
            yield f"the source segment `{name}` appears {n} times."
        if name not in known:
            hint = did_you_mean(name, known) or f" Known: {listed(known, 30)}."
            yield f"the rules have no segment `{name}`.{hint}"


def _faults_of_model(
    item: MicroPlanItem, known: Collection[str] | None
) -> Iterator[str]:
    """Yield what is wrong with the features, the number and the model of an item."""
    features: Sequence[str] = item.features
    yield from (
        f"the feature `{name}` appears {n} times."
        for name, n in Counter(features).items()
        if n > 1
    )
    if item.model is not None:
        if item.features or item.k is not None:
            yield "`features` and `k` go without `model`, which has its own."
        made = f"`{PROGRAM} channels import-models` makes such files of pickles."
        if not Path(item.model).is_file():
            yield f"`model` is `{item.model}`, which is not there. {made}"
            return
        try:
            features = load_micro_model(item.model).features
        except ArtifactError as error:
            yield f"`model`: {error} {made}"
            return
    if known is None:
        return
    missing = [name for name in features if name not in known]
    if missing:
        hint = did_you_mean(missing[0], known)
        owner = "the model needs" if item.model else "it asks for"
        yield (
            f"{owner} {listed(missing, 30)}, which the customer features lack (a name "
            f"may differ: `channels.rename`).{hint}"
        )


def fit_micro(
    features: pl.DataFrame,
    segments: pl.Series,
    plan: Sequence[MicroPlanItem],
    seed: int,
    previous: Mapping[str, MicroModel] | None = None,
    *,
    target: str | None = None,
) -> dict[str, MicroModel]:
    """Learn the micro-segments of every enabled item of a plan.

    Parameters
    ----------
    features : DataFrame
        A row per customer.
    segments : Series of str, shape (n_customers,)
        Rule segment of each; null is none.
    plan : sequence of MicroPlanItem
        As `check_plan` has found it in order.
    seed : int
    previous : mapping of str to MicroModel, optional
        Models before, by name: an item keeps the number of micro-segments it had while
        the data nearly allow it, and the limits learnt for a model from a pickle.
    target : str, optional
        The feature that the rules divide by first: taken only by items that name it,
        and never clipped.

    Returns
    -------
    dict of str to MicroModel
        By name, in the order of the plan.

    Raises
    ------
    FeatureMismatchError
        Naming all features that are missing.
    ModelError
        For a feature that is no number.
    """
    found = {}
    with centroids.one_thread():
        for item in plan:
            if not item.enabled:
                continue
            own = features.filter(segments.is_in(item.source_segments))
            before = (previous or {}).get(item.name)
            fit = _imported if item.model is not None else _trained
            model, table = fit(item, own, seed, before, target)
            found[item.name] = _with_words(model, table)
    return found


def _trained(
    item: MicroPlanItem,
    own: pl.DataFrame,
    seed: int,
    before: MicroModel | None,
    target: str | None,
) -> tuple[MicroModel, FloatArray]:
    """Return the micro-segments of an item, and the features they were learnt from."""
    asked = item.features or [
        name
        for name, dtype in own.schema.items()
        if (dtype.is_numeric() or dtype == pl.Boolean) and name != target
    ]
    table = _matrix(own, asked, item.name)
    used, skipped = _informative(table, asked)
    nobody = _nobody(item, own.height, asked, used)
    if nobody is not None:
        return replace(nobody, skipped=skipped), table[:, :0]
    table = table[:, used]
    names = tuple(asked[place] for place in used)
    fill = np.nanmedian(np.where(np.isfinite(table), table, np.nan), axis=0)
    filled = np.where(np.isfinite(table), table, fill)
    is_capped = [item.cap is not False and name != target for name in names]
    scaling = _scaling(filled, is_capped)
    labels, n_before = _labels_before(before, own)
    choice, centres = learn_centres(
        filled,
        np.ones(len(filled), dtype=np.bool_),
        scaling,
        fewest=item.k or 1,
        most=item.k or MOST_SEGMENTS,
        seed=seed,
        before=labels,
        n_before=n_before,
    )
    model = CentroidModel(centres, scaling, fill=fill).by_size(filled)
    sizes = np.bincount(model.assign(filled).labels + 1, minlength=model.n_segments + 1)
    report = replace(choice, verdict=_verdict(item, choice, len(filled))).report(sizes)
    made = MicroModel(
        item.name, tuple(item.source_segments), names, model, skipped, report=report
    )
    return made, filled


def _informative(
    table: FloatArray, names: Sequence[str]
) -> tuple[list[int], dict[str, str]]:
    """Return the columns that tell customers apart, and why the others do not.

    Where none does, the first that is known stands for all.
    """
    used, flat, skipped = [], [], {}
    for place, name in enumerate(names):
        known = table[:, place][np.isfinite(table[:, place])]
        if not len(known):
            skipped[name] = "not known of any customer"
        elif known.min() == known.max():
            flat.append(place)
            skipped[name] = f"the same for all: {known[0]:g}"
        else:
            used.append(place)
    return used or flat[:1], skipped


def _nobody(
    item: MicroPlanItem, n: int, asked: Sequence[str], used: Sequence[int]
) -> MicroModel | None:
    """Return the model of an item that has nothing to learn from; None if it has."""
    if used:
        return None
    said = f"none of {listed(asked)} is known of any customer" if n else "no customers"
    report = {"kind": "skipped", "n_segments": 0, "n_customers": n, "verdict": said}
    return MicroModel(item.name, tuple(item.source_segments), (), None, report=report)


def _scaling(table: FloatArray, is_capped: Sequence[bool]) -> Scaling:
    """Learn how features are put on one scale, some without limits."""
    ranges = zip(table.min(axis=0), table.max(axis=0), strict=True)
    is_log = [bool(low >= 0 and high > 1) for low, high in ranges]
    capped = centroids.learn_scaling(table, is_log)
    free = centroids.learn_scaling(table, is_log, tail_share=0.0)
    chosen = {
        name: np.where(is_capped, getattr(capped, name), getattr(free, name))
        for name in ("lower", "upper", "centre", "scale")
    }
    return Scaling(capped.is_log, **chosen)


def _labels_before(
    before: MicroModel | None, own: pl.DataFrame
) -> tuple[centroids.IntArray | None, int]:
    """Return where the model before places customers, and in how many segments."""
    if before is None or before.centroids is None:
        return None, 0
    if not set(before.features) <= set(own.columns):
        return None, 0
    return before.assign(own).labels, before.centroids.n_segments


def _verdict(item: MicroPlanItem, choice: Choice, n: int) -> str:
    """Return why an item has as many micro-segments as it has."""
    if item.k is None or choice.kind == "natural":
        return choice.verdict.replace("no segments here", "no micro-segments here")
    said = f"cut into {choice.n_segments}, as `k` asks; there are no gaps in density"
    if choice.n_segments == item.k:
        return said if item.k > 1 else "not divided, as `k` asks"
    return (
        f"{item.k} were requested, {choice.n_segments} found: the {n:,} customers are "
        "no more than that, or are alike"
    )


def _imported(
    item: MicroPlanItem,
    own: pl.DataFrame,
    seed: int,
    before: MicroModel | None,
    target: str | None,
) -> tuple[MicroModel, FloatArray]:
    """Return a model from a pickle under the item's name, with limits if it caps."""
    del seed
    assert item.model is not None
    given = load_micro_model(item.model)
    model = given.centroids
    if model is None or model.fill is None:
        raise centroids.refused("it has no centres", CURE)
    table = _matrix(own, given.features, item.name)
    filled = np.where(np.isfinite(table), table, model.fill)
    if item.cap:
        model = _with_limits(model, given.features, filled, before, target)
    sizes = np.bincount(model.assign(filled).labels + 1, minlength=model.n_segments + 1)
    said = f"{model.n_segments} micro-segments of a converted model"
    made = replace(
        given,
        name=item.name,
        source_segments=tuple(item.source_segments),
        centroids=model,
        report=Choice("cut", model.n_segments, said, ()).report(sizes),
    )
    return made, filled


def _with_limits(
    model: CentroidModel,
    features: tuple[str, ...],
    table: FloatArray,
    before: MicroModel | None,
    target: str | None,
) -> CentroidModel:
    """Return a model with limits: those learnt before, else of these customers."""
    assert model.scaling is not None
    lower, upper = model.scaling.lower, model.scaling.upper
    learnt = None if before is None or before.centroids is None else before.centroids
    if (
        before is not None
        and learnt is not None
        and learnt.scaling is not None
        and before.features == features
        and before.report["n_customers"]
    ):
        lower, upper = learnt.scaling.lower, learnt.scaling.upper
    elif len(table):
        tails = [centroids.TAIL_SHARE, 1 - centroids.TAIL_SHARE]
        is_capped = [name != target for name in features]
        limits = np.quantile(table, tails, axis=0)
        lower, upper = np.where(is_capped, limits, [lower, upper])
    scaling = replace(model.scaling, lower=lower, upper=upper)
    return CentroidModel(model.centres, scaling, fill=model.fill)


def _matrix(features: pl.DataFrame, names: Sequence[str], item: str) -> FloatArray:
    """Return features as a matrix, unknown ones as NaN."""
    missing = [name for name in names if name not in features.columns]
    if missing:
        raise FeatureMismatchError(
            f"micro-segments `{item}` need {len(names)} features; the table lacks "
            f"{listed(missing, 30)}.{did_you_mean(missing[0], features.columns)}"
        )
    schema = features.schema
    texts = [
        f"`{name}` is {schema[name]}"
        for name in names
        if not (schema[name].is_numeric() or schema[name] in {pl.Boolean, pl.Null})
    ]
    if texts:
        raise ModelError(
            f"micro-segments `{item}` divide by numbers, but {', '.join(texts)}. Leave "
            "it out of the item's `features`."
        )
    if not names:
        return np.empty((features.height, 0))
    floats = features.select(pl.col(list(names)).cast(pl.Float64).fill_null(np.nan))
    return np.ascontiguousarray(floats.to_numpy())


def _with_words(model: MicroModel, table: FloatArray) -> MicroModel:
    """Return a model whose micro-segments are named by what sets them apart."""
    known = model.centroids
    if known is None or known.scaling is None:
        return model
    if known.n_segments == 1:
        return replace(model, names=(EVERYONE,), why=(str(model.report["verdict"]),))
    if not len(table):
        return model
    labels, columns = known.assign(table).labels, known.scaling.columns(table)
    found = differences(model.features, table, columns, labels, known.n_segments)
    why = ["; ".join(told.said for told in own) or ALIKE_THE_REST for own in found]
    return replace(model, names=segment_names(found), why=tuple(why))
