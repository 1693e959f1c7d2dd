"""UMAP as a space to compare with, where it is installed."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from core.errors import ModelError
from core.models.umap import fit_umap, has_umap


@pytest.mark.skipif(not has_umap(), reason="umap-learn is not installed")
def test_umap_repeats_itself_and_places_new_shops_among_their_kind():
    rng = np.random.default_rng(0)
    kind = np.resize([0, 1, 2], 40)
    X = 4.0 * rng.normal(size=(3, 6))[kind] + rng.normal(size=(40, 6))
    place = fit_umap(X[:30], 2, seed=5)
    known, new = place(X[:30]), place(X[30:])
    assert new.dtype == np.float64
    nearest = ((new[:, None] - known[None]) ** 2).sum(axis=2).argmin(axis=1)
    assert np.array_equal(kind[:30][nearest], kind[30:])
    assert np.array_equal(new, fit_umap(X[:30], 2, seed=5)(X[30:]))


def test_too_few_shops_for_umap_are_refused():
    with pytest.raises(ModelError, match="expected at least 7 rows"):
        fit_umap(np.zeros((6, 3)), 5, seed=0)


def test_without_the_library_the_cure_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ModelError, match=r"pip install -e"):
        fit_umap(np.zeros((20, 3)), 2, seed=0)
