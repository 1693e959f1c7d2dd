"""The spaces that the clustering study looks for groups in.

All start from the same scaled features: `core.models.preprocessing.FeatureScaler`, the
house's winsorised scaling, instead of a plain standard deviation. Shares of aisles are
mostly zeros, and an aisle that one customer in a thousand buys from would reach 30
standard deviations and decide every distance; winsorised, none is beyond 10. Unknown
values become the median of the known ones.

``behaviour``
    Rhythm, reorders, baskets and variety: everything but the shares of aisles.
``aisles``
    The shares of aisles.
``combined``
    Behaviour, and the aisles reduced to at most 50 principal components.
``pruned``
    All, but of two features whose scaled values correlate by `PRUNED_FROM` or more (in
    either direction) the later one is left out; behaviour comes first.
``all``
    All features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from sklearn.decomposition import PCA

from core.baskets.features import BEHAVIOUR
from core.models.preprocessing import FeatureScaler
from core.models.scaling import FloatArray, feature_matrix

SPACES: Final = ("behaviour", "aisles", "combined", "pruned", "all")
"""From the simplest to the widest."""
MAX_COMPONENTS: Final = 50
PRUNED_FROM: Final = 0.9
HOURS: Final = 24
HOUR: Final = "mean_order_hour"


@dataclass(frozen=True)
class StudyTable:
    """The features that the study looks at.

    Attributes
    ----------
    X : ndarray of float64, shape (n_customers, n_features)
        Unscaled, NaN where unknown; behaviour first, then aisles.
    behaviour, aisles : tuple of str
        Names of the columns.
    left_out : tuple of str
        Features of which no value is known, or all are equal.
    n_unknown : dict of str to int
        Unknown values of each feature that has any.
    """

    X: FloatArray
    behaviour: tuple[str, ...]
    aisles: tuple[str, ...]
    left_out: tuple[str, ...]
    n_unknown: dict[str, int]


def study_table(features: pl.DataFrame, aisle_names: Sequence[str]) -> StudyTable:
    """Return the features of customers as the study looks at them.

    The mean hour lies on a circle. It is cut open opposite the customers' circular
    mean, so that 23 h and 1 h are two hours apart wherever few customers order then.

    Parameters
    ----------
    features : DataFrame
        As `core.baskets.features.customer_features` returns them; the scores, which are
        functions of two features, are not looked at.
    aisle_names : sequence of str
        Columns of the shares of aisles; may be empty.
    """
    shares = set(aisle_names)
    names = [name for name in BEHAVIOUR if name in features.columns]
    X = np.array(feature_matrix(features, [*names, *aisle_names]))
    if HOUR in names:
        place = names.index(HOUR)
        X[:, place] = _unrolled(X[:, place])
    X[~np.isfinite(X)] = np.nan
    columns = np.array([*names, *aisle_names])
    is_known = ~np.isnan(X)
    low = np.where(is_known, X, np.inf).min(axis=0, initial=np.inf)
    high = np.where(is_known, X, -np.inf).max(axis=0, initial=-np.inf)
    kept = columns[low < high].tolist()
    unknown = (~is_known).sum(axis=0)[low < high].tolist()
    return StudyTable(
        X[:, low < high],
        tuple(name for name in kept if name not in shares),
        tuple(name for name in kept if name in shares),
        tuple(columns[~(low < high)].tolist()),
        {name: n for name, n in zip(kept, unknown, strict=True) if n},
    )


def _unrolled(hours: FloatArray) -> FloatArray:
    """Return hours as the distance to their circular mean, -12 to 12."""
    turns = np.exp(2j * np.pi * hours[np.isfinite(hours)] / HOURS)
    middle = float(np.angle(turns.mean())) * HOURS / (2 * np.pi) if len(turns) else 0.0
    return (hours - middle + HOURS / 2) % HOURS - HOURS / 2


@dataclass(frozen=True)
class StudySpaces:
    """What has been learnt to bring features into the spaces.

    Attributes
    ----------
    n_behaviour : int
        The first columns; the others are shares of aisles.
    scaler : FeatureScaler
    components : PCA or None
        Of the scaled shares; None without any.
    kept : ndarray of int
        Columns of ``pruned``.
    pairs : tuple of (int, int, float)
        Columns left out, which kept one they go with, and their correlation.
    """

    n_behaviour: int
    scaler: FeatureScaler
    components: PCA | None
    kept: np.ndarray
    pairs: tuple[tuple[int, int, float], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The spaces that these features have, from the simplest to the widest."""
        if self.components is None:
            return ("behaviour", "pruned") if self.pairs else ("behaviour",)
        return tuple(n for n in SPACES if n != "pruned" or self.pairs)

    def matrix(self, name: str, scaled: FloatArray) -> FloatArray:
        """Return scaled features in a space, shape (n_customers, n_columns)."""
        b = self.n_behaviour
        if name == "behaviour":
            return scaled[:, :b]
        if name == "aisles":
            return scaled[:, b:]
        if name == "combined" and self.components is not None:
            reduced = self.components.transform(scaled[:, b:])
            return np.hstack([scaled[:, :b], reduced])
        return scaled[:, self.kept] if name == "pruned" else scaled

    def facts(self, table: StudyTable) -> pl.DataFrame:
        """Return what is worth knowing of each space.

        Returns
        -------
        DataFrame
            `space`, `features` (taken in), `columns` (clustered), `components` (of the
            aisles) and `explained_variance` (their share of the scaled shares'
            variance; null where there are none), `pruned` (columns left out, with what
            they go with).
        """
        names = (*table.behaviour, *table.aisles)
        pairs = "; ".join(
            f"{names[out]} ({names[kept]}: {r:+.2f})" for out, kept, r in self.pairs
        )
        n_taken = dict.fromkeys(SPACES, len(names))
        n_taken |= {"aisles": len(table.aisles), "pruned": len(self.kept)}
        n_taken["behaviour"] = len(table.behaviour)
        row = np.zeros((1, len(names)))
        rows = []
        for name in self.names:
            components = self.components if name == "combined" else None
            rows.append(
                {
                    "space": name,
                    "features": n_taken[name],
                    "columns": self.matrix(name, row).shape[1],
                    "components": components and components.n_components_,
                    "explained_variance": components
                    and float(components.explained_variance_ratio_.sum()),
                    "pruned": pairs if name == "pruned" else "",
                }
            )
        return pl.DataFrame(rows, schema=FACTS)


FACTS: Final[dict[str, Any]] = {
    "space": pl.String,
    "features": pl.Int64,
    "columns": pl.Int64,
    "components": pl.Int64,
    "explained_variance": pl.Float64,
    "pruned": pl.String,
}


def learn_spaces(X: FloatArray, n_behaviour: int) -> StudySpaces:
    """Learn scaling, components and pruning.

    Parameters
    ----------
    X : ndarray of float64, shape (n_customers, n_features)
        Unscaled, NaN where unknown; behaviour first.
    n_behaviour : int
    """
    scaler = FeatureScaler().fit(X)
    scaled = scaler.transform(X)
    shares = scaled[:, n_behaviour:]
    components = None
    if shares.shape[1]:
        n = min(MAX_COMPONENTS, shares.shape[1], len(X))
        components = PCA(n, svd_solver="covariance_eigh").fit(shares)
    kept, pairs = _pruned(scaled)
    return StudySpaces(n_behaviour, scaler, components, kept, pairs)


def _pruned(
    scaled: FloatArray,
) -> tuple[np.ndarray, tuple[tuple[int, int, float], ...]]:
    """Return the columns kept, and those left out with what they go with."""
    centred = scaled - scaled.mean(axis=0)
    lengths = np.sqrt((centred**2).sum(axis=0))
    centred /= np.where(lengths > 0, lengths, 1.0)
    correlation = centred.T @ centred
    kept: list[int] = []
    pairs = []
    for place in range(scaled.shape[1]):
        found = correlation[place, kept]
        if kept and np.abs(found).max() >= PRUNED_FROM:
            nearest = int(np.abs(found).argmax())
            pairs.append((place, kept[nearest], float(found[nearest])))
        else:
            kept.append(place)
    return np.array(kept), tuple(pairs)
