"""A table of members with planted groups, for the tests of tables."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest


def make_members(n: int = 600, seed: int = 0) -> tuple[pl.DataFrame, np.ndarray]:
    """Return members of three groups: income has gaps, age and plan go along."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 3, n)
    told = np.where(rng.random(n) < 0.9, group, rng.integers(0, 3, n))
    age = 40 + 12 * (group == 1) + rng.normal(0, 3, n)
    table = pl.DataFrame(
        {
            "income": np.exp(10 + 1.2 * group + rng.normal(0, 0.2, n)),
            "age": np.where(rng.random(n) < 0.05, np.nan, age),
            "plan": np.array(["free", "pro", "team"])[told],
            "is_active": rng.random(n) < 0.5,
        }
    )
    return table.with_columns(pl.col("age").fill_nan(None)), group


@pytest.fixture(scope="session")
def members():
    """Give `make_members`."""
    return make_members
