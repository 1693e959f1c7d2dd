"""Schemes of labels held against one another on what came after a cut.

Every scheme predicts each outcome out of fold, with effects shrunk as far as they do
not differ (`core.evaluation.random_effects`), so that a scheme of a hundred cells and
one of four segments pay alike for their number of labels. Entities are resampled for
the intervals, each with all its cuts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse, stats
from threadpoolctl import threadpool_limits

from core.evaluation.outcomes import N_FOLDS, N_REPEATS, by_known_rows
from core.evaluation.random_effects import TOLERANCE, out_of_fold_errors
from core.models.seeding import derived_seed

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
ALL = "all"
PERMUTED = "permuted labels"
N_RESAMPLES = 500
N_PERMUTATIONS = 5
INTERVAL = (0.025, 0.975)
# Fits are not repeated on resampled entities. Where effects are shrunk, that makes the
# spread too small by about a fifth, and where schemes tell nothing, by about what one
# entity is worth: `benchmarks/basket_out_of_time.py`.
REFITTED = 1.2
FIT_DEVIATION = 1.0
# An outcome that fewer entities show has intervals that do not hold.
MIN_DEVIATING = 30
COMPARED: dict[str, Any] = {
    "cut": pl.String,
    "outcome": pl.String,
    "scheme": pl.String,
    "over": pl.String,
    "r2": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n": pl.Int64,
}


@dataclass(frozen=True)
class LabelledCut:
    """What schemes say of entities at a cut, and what these did after it.

    Attributes
    ----------
    cut : str
    ids : Series, shape (n_entities,)
        Everything else is in this order.
    outcomes : DataFrame
        A numeric column per outcome, null where unknown.
    schemes : mapping of str to list of array-like
        Labels by scheme; a scheme may give an entity several, such as a tenth by
        recency and one by frequency.
    """

    cut: str
    ids: pl.Series
    outcomes: pl.DataFrame
    schemes: Mapping[str, Sequence[pl.Series]]


@dataclass(frozen=True)
class _Part:
    """One outcome at one cut: by how much each scheme errs less than the mean."""

    cut: str
    outcome: str
    entities: IntArray
    table: FloatArray  # ones, outcome, its square, gains by scheme


def combined(scheme: str, reference: str) -> str:
    """Return the name of a scheme that is added to the reference."""
    return f"{scheme} and {reference}"


def compare_schemes(
    cuts: Sequence[LabelledCut], reference: str, seed: int
) -> pl.DataFrame:
    """Return how much of each outcome schemes explain, and how much more than others.

    Parameters
    ----------
    cuts : sequence of LabelledCut
        All with the same schemes.
    reference : str
        The scheme that the others are held against. The labels of the first other one
        are also permuted among the entities of a cut.
    seed : int
        Of folds, permutations and resamples.

    Returns
    -------
    DataFrame
        Columns `COMPARED`, by cut, then averages over the cuts ("all"). Where `over` is
        null, `r2` is the share of the outcome's variance that the scheme explains out
        of fold, below 0 if it misleads; else it is that share less that of `over`.
        `low` and `high` are the ends of a 95% bootstrap interval over entities; `n`
        counts entities, in averages entities at cuts. An outcome that fewer than 30
        entities show is left out. Empty without any cut or outcome.
    """
    if not cuts:
        return pl.DataFrame(schema=COMPARED)
    own = [name for name in cuts[0].schemes if name != reference]
    both = [combined(name, reference) for name in own]
    names = [*own, reference, PERMUTED, *both]
    pairs: list[tuple[str, str | None]] = [(name, None) for name in names]
    pairs += [(own[0], PERMUTED), *((name, reference) for name in (*own, *both))]
    entities = pl.concat([cut.ids for cut in cuts]).unique().sort()
    # Small decompositions only, which wait for one another on several threads.
    with threadpool_limits(limits=1):
        parts = [
            part for cut in cuts for part in _parts(cut, own, reference, entities, seed)
        ]
    if not parts:
        return pl.DataFrame(schema=COMPARED)
    point = _shares(parts, np.ones(entities.len()))
    draws = _resampled(parts, entities.len(), len(names), seed)
    rows = []
    for cut, outcome, members in _groups(parts, cuts[0].outcomes.columns):
        sizes = [len(parts[i].entities) for i in members]
        n, fits = sum(sizes), FIT_DEVIATION * float(np.mean(1 / np.array(sizes)))
        for scheme, over in pairs:
            values = _difference(point[None, members], names, scheme, over)
            spread = _difference(draws[:, members], names, scheme, over)
            low, high = _widened(values[0], spread, fits)
            rows.append((cut, outcome, scheme, over, values[0], low, high, n))
    return pl.DataFrame(rows, schema=COMPARED, orient="row")


def _parts(
    cut: LabelledCut, own: list[str], reference: str, entities: pl.Series, seed: int
) -> Iterator[_Part]:
    rng = np.random.default_rng(derived_seed(seed, 1))
    n = cut.ids.len()
    folds = np.stack([rng.permutation(n) % N_FOLDS for _ in range(N_REPEATS)])
    indicators = {name: _indicators(labels) for name, labels in cut.schemes.items()}
    base = indicators[reference]
    added = [sparse.hstack([base, indicators[name]]).tocsr() for name in own]
    shuffled = [indicators[own[0]][rng.permutation(n)] for _ in range(N_PERMUTATIONS)]
    nothing = sparse.csr_array((n, 1))
    code = entities.search_sorted(cut.ids).to_numpy().astype(np.int64)
    values = cut.outcomes.cast(pl.Float64).to_numpy()
    for rows, columns in by_known_rows(values, MIN_DEVIATING):
        Y = values[rows][:, columns]
        Y = Y - Y.mean(axis=0)
        alone = out_of_fold_errors(Y, nothing[rows], folds[:, rows])
        first = [
            out_of_fold_errors(Y, Z[rows], folds[:, rows])
            for Z in (*(indicators[name] for name in own), base)
        ]
        chance = np.mean(
            [out_of_fold_errors(Y, Z[rows], folds[:, rows]) for Z in shuffled], axis=0
        )
        last = [out_of_fold_errors(Y, Z[rows], folds[:, rows]) for Z in added]
        for place, column in enumerate(columns):
            y = Y[:, place]
            gains = [
                alone[:, place] - part[:, place] for part in (*first, chance, *last)
            ]
            table = np.column_stack([np.ones(len(y)), y, y**2, *gains])
            yield _Part(cut.cut, cut.outcomes.columns[column], code[rows], table)


def _indicators(labels: Sequence[pl.Series]) -> sparse.csr_array:
    """Return a column per label, of all the sets of labels of a scheme."""
    blocks = []
    for own in labels:
        text = own.cast(pl.String).fill_null("").to_numpy().astype(str)
        code = np.unique(text, return_inverse=True)[1]
        where = (np.arange(len(code)), code)
        blocks.append(sparse.csr_array((np.ones(len(code)), where)))
    return sparse.csr_array(sparse.hstack(blocks))


def _resampled(
    parts: Sequence[_Part], n_entities: int, n_schemes: int, seed: int
) -> FloatArray:
    """Return shares of resampled entities, (n_resamples, n_parts, n_schemes)."""
    rng = np.random.default_rng(derived_seed(seed, 2))
    found = np.empty((N_RESAMPLES, len(parts), n_schemes))
    for place in range(N_RESAMPLES):
        draw = rng.integers(n_entities, size=n_entities)
        weights = np.bincount(draw, minlength=n_entities).astype(np.float64)
        found[place] = _shares(parts, weights)
    return found


def _shares(parts: Sequence[_Part], weights: FloatArray) -> FloatArray:
    """Return the share of variance explained, (n_parts, n_schemes)."""
    sums = np.stack([weights[part.entities] @ part.table for part in parts])
    n, total, squares = sums[:, 0], sums[:, 1], sums[:, 2]
    spread = squares - total**2 / np.maximum(n, 1)
    spread[spread <= TOLERANCE] = np.nan  # nobody drawn deviates
    shares: FloatArray = sums[:, 3:] / spread[:, None]
    return shares


def _widened(value: float, draws: FloatArray, fits: float) -> tuple[float, float]:
    """Return the ends of an interval: of the draws, and of what fits vary by."""
    low, high = np.nanquantile(draws, INTERVAL)
    wide = stats.norm.ppf(INTERVAL[1]) * fits
    return (
        value - float(np.hypot(REFITTED * max(value - low, 0.0), wide)),
        value + float(np.hypot(REFITTED * max(high - value, 0.0), wide)),
    )


def _groups(
    parts: Sequence[_Part], outcomes: Sequence[str]
) -> Iterator[tuple[str, str, list[int]]]:
    """Yield cut, outcome and members of every group of rows, averages last."""
    for cut in (*dict.fromkeys(part.cut for part in parts), ALL):
        for outcome in outcomes:
            members = [
                place
                for place, part in enumerate(parts)
                if part.outcome == outcome and cut in (part.cut, ALL)
            ]
            if members:
                yield cut, outcome, members


def _difference(
    shares: FloatArray, names: list[str], scheme: str, over: str | None
) -> FloatArray:
    """Return a scheme's share, less that of another, averaged over the parts."""
    own = shares[:, :, names.index(scheme)]
    if over is not None:
        own = own - shares[:, :, names.index(over)]
    averaged: FloatArray = own.mean(axis=1)
    return averaged
