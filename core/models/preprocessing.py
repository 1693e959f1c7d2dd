"""Features as models take them in: one finite table, on one scale.

scikit-learn's `validate_data` checks a table (shape, dtype, feature names); here its
findings become a `ModelError`, and missing or infinite values are reported by column.
`FeatureScaler` then puts features on one scale, so that none outweighs the others by
its unit.

The reference divides by the interquartile range. Where more than three quarters of the
shops share a value (a month in which few ever sell) that range is 0, is replaced by 1,
and the column keeps its raw unit: it then decides every distance alone. `winsorised`
has no such cliff:

1. Unknown (NaN) becomes the median of the known values.
2. Values are clipped to the `tail_share` and ``1 - tail_share`` quantiles, so that a
   handful of shops cannot set the scale. Where both quantiles coincide (nearly every
   shop has one value, such as 0) they would erase the column; they are then taken over
   the shops that differ from that value.
3. The mean is subtracted and the standard deviation divided by, both of the clipped
   values. The divisor is at least ``largest deviation / limit`` with
   ``limit = sqrt((1 - tail_share) / tail_share)``, the distance (9.95 for 1%) at which
   a two-valued column puts a value that exactly `tail_share` of the shops have. Hence
   **no scaled value is ever beyond +-limit**, however rare: a column that is not zero
   for 1 shop in 5,000 reaches 9.95, where a plain standard deviation gives 71.
4. A column whose values differ by no more than rounding (1e-12 of their size; the same
   feature computed by two engines differs by 1e-13) is constant, and always 0.

Each statistic is computed over the sorted column, so it does not depend, not even in
its last bit, on the order of the rows.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.preprocessing import RobustScaler
from sklearn.utils.validation import check_is_fitted, validate_data

from core.artifacts.arrays import State
from core.errors import ConfigError, ModelError, ModelTypeError, did_you_mean, listed
from core.models.scaling import FeatureScaling, FloatArray, refuse_values

METHODS = ("winsorised", "robust")
ROUNDING = 1e-12


def checked_matrix(
    estimator: Any,
    X: Any,
    *,
    is_fit: bool,
    allow_nan: bool = False,
    min_rows: int = 1,
    cure: str = "Pass numbers, a row for each of those to be segmented.",
) -> FloatArray:
    """Return `X` as float64, or say what is wrong with it.

    Parameters
    ----------
    estimator : estimator
        Learns `n_features_in_` and `feature_names_in_` if `is_fit`, else is asked.
    X : array-like or frame of shape (n_rows, n_features)
    is_fit : bool
        Whether the estimator is being fitted on `X`.
    allow_nan : bool
        Whether NaN means "unknown" (True) or is an error (False).
    min_rows : int
        Fewest rows accepted.
    cure : str
        What to do about a table of another shape or type.

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
        kind = ModelTypeError if isinstance(error, TypeError) else ModelError
        said = " ".join(str(error).split()).removesuffix(".")
        raise kind(f"`{name}` cannot use this table: {said}. {cure}") from None
    if len(table) < min_rows:
        raise ModelError(
            f"`{name}` received n_samples = {len(table)} row(s); expected at least "
            f"{min_rows}, to hold some out for validation. Bring more rows, or "
            "cluster the scaled features themselves."
        )
    names = getattr(estimator, "feature_names_in_", None)
    refuse_values(table, name, names, allow_nan=allow_nan)
    return np.asarray(table + 0.0 if is_fit else table, dtype=np.float64)


class FeatureScaler(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]  # sklearn is untyped
    """Scale every feature to a comparable spread; fill in what is unknown.

    Parameters
    ----------
    method : {'winsorised', 'robust'}
        'winsorised' is described in the module. 'robust' gives exactly the numbers of
        scikit-learn's `RobustScaler` (median and interquartile range, no clipping),
        except that unknown values become 0 instead of staying NaN.
    tail_share : float
        Share of the shops clipped at each end, in [0, 0.5); 0 clips nothing and sets
        no limit. Unused by 'robust'.

    Attributes
    ----------
    scaling_ : FeatureScaling
        What was learnt, as plain arrays.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of str
        Their names, if a frame was passed to `fit`.

    Examples
    --------
    >>> quantity = [[0.0], [0.0], [0.0], [0.0], [10.0]]
    >>> FeatureScaler(tail_share=0.2).fit_transform(quantity).ravel().tolist()
    [-0.5, -0.5, -0.5, -0.5, 2.0]
    """

    def __init__(self, method: str = "winsorised", tail_share: float = 0.01) -> None:
        self.method = method
        self.tail_share = tail_share

    def fit(self, X: Any, y: None = None) -> Self:
        """Learn bounds, centre and scale of every column.

        Parameters
        ----------
        X : array-like or frame of shape (n_shops, n_features)
            NaN means unknown.
        y : None
            Ignored.

        Raises
        ------
        ConfigError
            For an unknown `method` or a `tail_share` outside [0, 0.5).
        ModelError
            For a table that is not numeric, or has infinite values.
        """
        self._check_options()
        table = checked_matrix(self, X, is_fit=True, allow_nan=True)
        columns = [np.sort(column[~np.isnan(column)]) for column in table.T]
        fill = np.array([_median(column) for column in columns])
        filled = np.where(np.isnan(table), fill, table)
        if self.method == "robust":
            reference = RobustScaler().fit(filled)
            free = np.full(table.shape[1], np.inf)
            learnt = (-free, free, reference.center_, reference.scale_)
        else:
            rows = [_winsorise(np.sort(column), self.tail_share) for column in filled.T]
            learnt = tuple(np.array(rows).T.copy())
        names = getattr(self, "feature_names_in_", None)
        self.scaling_ = FeatureScaling(
            *learnt,
            fill,
            self.method,
            self.tail_share,
            None if names is None else tuple(map(str, names)),
        )
        return self

    def transform(self, X: Any) -> FloatArray:
        """Return the scaled features.

        Parameters
        ----------
        X : array-like or frame of shape (n_shops, n_features)
            NaN means unknown.

        Returns
        -------
        ndarray of shape (n_shops, n_features), float64
            Without NaN. A row's values do not depend on the other rows.
        """
        check_is_fitted(self)
        table = checked_matrix(self, X, is_fit=False, allow_nan=True)
        return self.scaling_.transform(table)

    def inverse_transform(self, X: Any) -> FloatArray:
        """Return scaled features in their own units.

        What `transform` clipped or filled in comes back as the bound or the median.

        Parameters
        ----------
        X : array-like of shape (n_shops, n_features)
            Scaled features, such as an autoencoder's reconstruction.

        Returns
        -------
        ndarray of shape (n_shops, n_features), float64
        """
        check_is_fitted(self)
        return self.scaling_.inverse_transform(X)

    def get_state(self) -> State:
        """Return what was learnt, see `core.models.scaling.FeatureScaling`."""
        check_is_fitted(self)
        return self.scaling_.get_state()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def _check_options(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(
                f"unknown scaling `method` {self.method!r}; expected "
                f"{listed(METHODS)}.{did_you_mean(str(self.method), METHODS)}"
            )
        if not 0.0 <= self.tail_share < 0.5:
            raise ConfigError(
                f"`tail_share` is {self.tail_share!r}; expected a share of the rows "
                "from 0 to below 0.5, such as 0.01."
            )


def _median(known: FloatArray) -> float:
    """Return the median of the known values, 0 if there is none."""
    return float(np.median(known)) if len(known) else 0.0


def _winsorise(
    column: FloatArray, tail_share: float
) -> tuple[float, float, float, float]:
    """Return lower and upper bound, centre and scale of one sorted column."""
    lower, upper = np.quantile(column, [tail_share, 1.0 - tail_share])
    if lower == upper:
        differing = column[column != lower]
        if len(differing):
            tails = np.quantile(differing, [tail_share, 1.0 - tail_share])
            lower, upper = min(lower, tails[0]), max(upper, tails[1])
    clipped = np.clip(column, lower, upper)
    centre = float(clipped.mean())
    deviation = clipped - centre
    largest = float(np.abs(deviation).max())
    if largest <= ROUNDING * max(abs(lower), abs(upper)):
        return centre, centre, centre, 1.0
    # Relative to the largest, so that no square under- or overflows.
    spread = largest * float(np.sqrt(np.mean((deviation / largest) ** 2)))
    limit = np.sqrt((1.0 - tail_share) / tail_share) if tail_share else np.inf
    return float(lower), float(upper), centre, max(spread, largest / float(limit))
