"""UMAP, for comparison: an optional library, imported here and nowhere else.

UMAP finds groups in planted data that principal components miss, and makes groups of
data that has none, so it stands in every comparison. It is no part of a run: it comes
with numba and a compiler, which nobody should have to install to segment shops::

    pip install "stable-segments[umap]"      # or, in a clone: pip install -e ".[umap]"
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable

import numpy as np

from core.errors import ModelError
from core.models.autoencoder.training import load_keras
from core.models.scaling import FloatArray

HOW_TO_INSTALL = (
    'pip install "stable-segments[umap]", in a clone pip install -e ".[umap]"'
)
# For clustering, the authors of UMAP advise points packed densely (min_dist 0); 15
# neighbours are the library's own default.
N_NEIGHBOURS = 15
MIN_DIST = 0.0


def has_umap() -> bool:
    """Whether umap-learn is installed; nothing is imported to find out."""
    return importlib.util.find_spec("umap") is not None


def fit_umap(
    X: FloatArray, n_components: int, seed: int
) -> Callable[[FloatArray], FloatArray]:
    """Learn UMAP's coordinates; return what places rows among them.

    Parameters
    ----------
    X : ndarray of float64, shape (n_shops, n_features)
        Scaled features, finite.
    n_components : int
        Columns of the space; at most ``n_shops - 2``.
    seed : int
        0 to 2**32 - 1. With it UMAP runs on one core, and repeats itself.

    Returns
    -------
    callable
        From scaled features to float64 coordinates, shape (n_rows, n_components). The
        rows of `X` themselves get the coordinates learnt; any other table is placed by
        UMAP's own `transform`, row by row the same in any order.

    Raises
    ------
    ModelError
        Where umap-learn is not installed or cannot be imported, or `X` is too small.
    """
    if len(X) <= n_components + 1:
        raise ModelError(
            f"UMAP received {len(X)} rows for {n_components} columns; expected at "
            f"least {n_components + 2} rows."
        )
    load_keras()  # quietly: umap-learn imports it, and would do so aloud
    try:
        with warnings.catch_warnings():
            # Of libraries that umap-learn imports where it finds them.
            warnings.simplefilter("ignore")
            from umap import UMAP
    except ImportError as error:
        raise ModelError(
            f"UMAP cannot be imported ({error}). It is optional: {HOW_TO_INSTALL}."
        ) from None
    model = UMAP(
        n_components=n_components,
        n_neighbors=min(N_NEIGHBOURS, len(X) - 1),
        min_dist=MIN_DIST,
        random_state=seed,
        n_jobs=1,
    )
    with warnings.catch_warnings():
        # A graph in several parts is a finding, not a fault; numba warns of its own.
        warnings.simplefilter("ignore")
        model.fit(X)

    def transform(table: FloatArray) -> FloatArray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(model.transform(table), dtype=np.float64)

    return transform
