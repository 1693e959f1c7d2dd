"""What every estimator of this package takes in: one finite table of floats.

scikit-learn's `validate_data` does the work (shape, dtype, feature names); here its
findings become a `ModelError`, and missing or infinite values are reported by column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from core.errors import ArtifactError, ModelError, listed

FloatArray = npt.NDArray[np.float64]

LARGEST_VALUE = 1e30
"""Beyond it a square overflows float32, in which models are trained."""


def checked_matrix(
    estimator: Any,
    X: Any,
    *,
    is_fit: bool,
    allow_nan: bool = False,
    min_rows: int = 1,
) -> FloatArray:
    """Return `X` as float64, or say what is wrong with it.

    Parameters
    ----------
    estimator : estimator
        Learns `n_features_in_` and `feature_names_in_` if `is_fit`, else is asked.
    X : array-like or frame of shape (n_rows, n_features)
        One row per shop.
    is_fit : bool
        Whether the estimator is being fitted on `X`.
    allow_nan : bool
        Whether NaN means "unknown" (True) or is an error (False).
    min_rows : int
        Fewest rows accepted.

    Returns
    -------
    ndarray of shape (n_rows, n_features), float64
        May share memory with `X`, except in fit, where negative zeros become zeros
        (equal values of different bits would be sorted by chance).

    Raises
    ------
    ModelError
        For a table of another shape, type or width, and for values that are not
        finite or larger than 1e30.
    """
    # Here, because assigning to centres waits for NumPy only.
    from sklearn.utils.validation import validate_data

    name = type(estimator).__name__
    try:
        table = validate_data(
            estimator,
            X,
            reset=is_fit,
            dtype=np.float64,
            ensure_all_finite=False,
            ensure_min_samples=1,
        )
    except (ValueError, TypeError) as error:
        raise ModelError(
            f"`{name}` cannot use this table: {error} Pass one row per shop and the "
            "numeric columns that the model was fitted on."
        ) from None
    if len(table) < min_rows:
        raise ModelError(
            f"`{name}` received n_samples = {len(table)} row(s); expected at least "
            f"{min_rows}, to hold some out for validation. Bring more shops, or "
            "cluster the scaled features themselves."
        )
    _refuse_values(estimator, table, allow_nan)
    return np.asarray(table + 0.0 if is_fit else table, dtype=np.float64)


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


def checked_arrays(
    arrays: Mapping[str, npt.NDArray[Any]],
    spec: Mapping[str, tuple[str, ...]],
    refused: Callable[[str], ArtifactError],
) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of a saved state, each as it must be.

    Parameters
    ----------
    arrays : mapping of str to ndarray
    spec : mapping of str to tuple of str
        Names of the dimensions of each array, such as ``("segments", "features")``;
        those of one name have one length, of 1 at least. Arrays called ``is_...`` are
        boolean, others finite floats.
    refused : callable
        Makes the error of a finding.

    Raises
    ------
    ArtifactError
        Naming the array that is missing or not as it must be.
    """
    missing = [name for name in spec if name not in arrays]
    if missing:
        raise refused(f"missing {listed(missing)}")
    given = {name: np.asarray(arrays[name]) for name in spec}
    lengths: dict[str, int] = {}
    for name, dimensions in spec.items():
        array, shape = given[name], given[name].shape
        if len(shape) != len(dimensions) or 0 in shape:
            known = ", ".join(dimensions)
            raise refused(f"`{name}` has the shape {shape}; expected {known}")
        pairs = zip(dimensions, shape, strict=True)
        expected = tuple(lengths.setdefault(d, n) for d, n in pairs)
        if shape != expected:
            raise refused(f"`{name}` has the shape {shape}, not {expected}")
        dtype = "bool" if name.startswith("is_") else "float64"
        if str(array.dtype) != dtype or not np.isfinite(array).all():
            raise refused(f"`{name}` holds other values than finite {dtype}")
    return given


def feature_matrix(features: pl.DataFrame, names: list[str]) -> np.ndarray:
    """Return named columns as float64, shape (n_rows, n_features); null is NaN."""
    return features.select(pl.col(names).cast(pl.Float64)).to_numpy()


def _refuse_values(estimator: Any, table: FloatArray, allow_nan: bool) -> None:
    """Raise for NaN (unless allowed), infinity and values of absurd size."""
    if table.min() >= -LARGEST_VALUE and table.max() <= LARGEST_VALUE:
        return  # the usual case, without a second table in memory; NaN fails it
    with np.errstate(invalid="ignore"):
        is_bad = np.abs(table) > LARGEST_VALUE
    if not allow_nan:
        is_bad |= np.isnan(table)
    if not is_bad.any():
        return
    names = getattr(estimator, "feature_names_in_", None)
    columns = np.flatnonzero(is_bad.any(axis=0))
    shown = listed([str(i) if names is None else str(names[i]) for i in columns], 5)
    cure = (
        "Mend or drop these columns."
        if allow_nan
        else "Fill in what is unknown (`FeatureScaler` does, with the median)."
    )
    kinds = "infinity" if allow_nan else "NaN, infinity"
    raise ModelError(
        f"`{type(estimator).__name__}`: {int(is_bad.sum()):,} of {table.size:,} values "
        f"are {kinds} or beyond 1e30 (columns {shown}); expected finite numbers. {cure}"
    )
