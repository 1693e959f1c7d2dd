"""A fitted scaling as plain arrays: what puts a model's features on one scale.

It is learnt by `core.models.preprocessing.FeatureScaler`. Here is what it takes to
apply one, with NumPy alone: a command that explains one shop must not wait for
scikit-learn to be imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from core.artifacts.arrays import Arrays, Meta, State
from core.errors import ArtifactError, ModelError, listed

FloatArray = npt.NDArray[np.float64]
LARGEST_VALUE = 1e30
"""Beyond it a square overflows float32, in which models are trained."""
_ARRAYS = ("lower", "upper", "centre", "scale", "fill")


def plain_matrix(values: Any, n_columns: int, what: str) -> FloatArray:
    """Return `values` as float64 of shape (n_rows, n_columns), names not looked at.

    Raises
    ------
    ModelError
        For another shape, or what is not a number.
    """
    try:
        table = np.asarray(values, dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise ModelError(f"{what} must be a table of numbers: {error}.") from None
    if table.ndim != 2 or table.shape[1] != n_columns:
        raise ModelError(
            f"{what} have the shape {table.shape}; expected (n_rows, {n_columns}). "
            "Pass the columns that `transform` of the same model returned."
        )
    return table


def feature_matrix(features: pl.DataFrame, names: list[str]) -> np.ndarray:
    """Return named columns as float64, shape (n_rows, n_features); null is NaN."""
    return features.select(pl.col(names).cast(pl.Float64)).to_numpy()


def refuse_values(
    table: FloatArray, owner: str, names: Sequence[str] | None, *, allow_nan: bool
) -> None:
    """Refuse NaN (unless allowed), infinity and values of absurd size.

    Parameters
    ----------
    table : ndarray of shape (n_rows, n_features)
    owner : str
        What messages call the model that refuses.
    names : sequence of str, optional
        Of the columns; None: messages number them.
    allow_nan : bool

    Raises
    ------
    ModelError
        Counting the values and naming the columns.
    """
    if table.min() >= -LARGEST_VALUE and table.max() <= LARGEST_VALUE:
        return  # the usual case, without a second table in memory; NaN fails it
    with np.errstate(invalid="ignore"):
        is_bad = np.abs(table) > LARGEST_VALUE
    if not allow_nan:
        is_bad |= np.isnan(table)
    if not is_bad.any():
        return
    columns = np.flatnonzero(is_bad.any(axis=0))
    known = range(table.shape[1]) if names is None else names
    shown = listed([str(known[i]) for i in columns.tolist()], 5)
    cure = (
        "Mend or drop these columns."
        if allow_nan
        else "Fill in what is unknown (`FeatureScaler` does, with the median)."
    )
    kinds = "infinity" if allow_nan else "NaN, infinity"
    raise ModelError(
        f"`{owner}`: {int(is_bad.sum()):,} of {table.size:,} values "
        f"are {kinds} or beyond 1e30 (columns {shown}); expected finite numbers. {cure}"
    )


@dataclass(frozen=True)
class FeatureScaling:
    """Bounds, centre and scale of every feature.

    Attributes
    ----------
    lower, upper : ndarray of shape (n_features,)
        Bounds values are clipped to; -inf and inf for 'robust'.
    centre, scale : ndarray of shape (n_features,)
        Subtracted and divided by; `scale` is 1 for a constant column.
    fill : ndarray of shape (n_features,)
        Median of the known values, for unknown ones; 0 if none is known.
    method : {'winsorised', 'robust'}
    tail_share : float
        How it was learnt, see `core.models.preprocessing.FeatureScaler`.
    feature_names : tuple of str, optional
        Of the columns, if they had names.
    """

    lower: FloatArray
    upper: FloatArray
    centre: FloatArray
    scale: FloatArray
    fill: FloatArray
    method: str
    tail_share: float
    feature_names: tuple[str, ...] | None = None

    def transform(self, X: FloatArray) -> FloatArray:
        """Return the scaled features.

        Parameters
        ----------
        X : ndarray of shape (n_shops, n_features)
            NaN means unknown.

        Returns
        -------
        ndarray of shape (n_shops, n_features), float64
            Without NaN. A row's values do not depend on the other rows.

        Raises
        ------
        ModelError
            For another number of columns, and for infinite values.
        """
        table = plain_matrix(X, len(self.fill), "features")
        if len(table):
            refuse_values(table, "FeatureScaler", self.feature_names, allow_nan=True)
        table = np.where(np.isnan(table), self.fill, table)
        np.clip(table, self.lower, self.upper, out=table)
        table -= self.centre
        table /= self.scale
        return table

    def inverse_transform(self, X: FloatArray) -> FloatArray:
        """Return scaled features, shape (n_shops, n_features), in their own units.

        What `transform` clipped or filled in comes back as the bound or the median.
        """
        table = plain_matrix(X, len(self.fill), "scaled features")
        restored: FloatArray = table * self.scale + self.centre
        return restored

    def get_state(self) -> State:
        """Return what was learnt as named arrays, and the rest as JSON-able values."""
        meta: dict[str, Any] = {"method": self.method, "tail_share": self.tail_share}
        if self.feature_names is not None:
            meta["feature_names"] = list(self.feature_names)
        return {name: getattr(self, name) for name in _ARRAYS}, meta

    @classmethod
    def from_state(cls, arrays: Arrays, meta: Meta) -> Self:
        """Return the scaling of a state; it transforms bit for bit as the original.

        Raises
        ------
        ArtifactError
            If an array or an option is missing, or the lengths differ.
        """
        missing = [name for name in _ARRAYS if name not in arrays]
        missing += [key for key in ("method", "tail_share") if key not in meta]
        if missing:
            raise ArtifactError(
                f"the scaler's state lacks {listed(missing)}. Train the model again."
            )
        values = {name: np.asarray(arrays[name], np.float64) for name in _ARRAYS}
        shapes = sorted({array.shape for array in values.values()})
        if len(shapes) != 1 or len(shapes[0]) != 1:
            raise ArtifactError(
                f"the scaler's arrays have the shapes {shapes}; expected one length. "
                "Train the model again."
            )
        names = meta.get("feature_names")
        return cls(
            **values,
            method=meta["method"],
            tail_share=meta["tail_share"],
            feature_names=None if names is None else tuple(names),
        )
