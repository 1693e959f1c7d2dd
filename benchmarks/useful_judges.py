"""What labels say of the months after a cut: outcomes, plain methods, increments.

Nothing here knows the product: labels come in, numbers go out. Features look back from
the cut only, outcomes look forward only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from sklearn.cluster import KMeans
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import KFold, cross_val_predict

YEAR, HORIZON = 12, 6
GROWTH_LIMIT = 3.0
N_SIZES, N_FOLDS, N_REPEATS, N_RESAMPLES = 10, 10, 3, 1000
OUTCOMES = ("growth", "activity", "growth, usual known")
Array = np.ndarray


@dataclass(frozen=True)
class Market:
    """Sales of shops by month.

    Attributes
    ----------
    ids : Series of str, length n_shops
    first : int
        The first month, as year x 12 + month - 1.
    quantity, products : ndarray of float64, shape (n_shops, n_months)
        Net units, and distinct products; 0 where there is no row.
    """

    ids: pl.Series
    first: int
    quantity: Array
    products: Array

    @classmethod
    def of(cls, rows: pl.DataFrame) -> Market:
        """Sum rows (``shop_id, product_id, t, sales_qty``) to months."""
        cells = rows.group_by("shop_id", "t").agg(
            pl.col("sales_qty").sum(), pl.col("product_id").n_unique()
        )
        ids, first = cells["shop_id"].unique().sort(), int(cells["t"].min())
        shape = (len(ids), int(cells["t"].max()) - first + 1)
        place = (
            ids.search_sorted(cells["shop_id"]).to_numpy(),
            cells["t"].to_numpy() - first,
        )
        quantity, products = np.zeros(shape), np.zeros(shape)
        quantity[place] = cells["sales_qty"]
        products[place] = cells["product_id"]
        return cls(ids, first, quantity, products)

    def cuts(self) -> list[int]:
        """Return the cuts, as months before each: decided by the length alone.

        Every three months that have two years before and six months after them; where
        there is none, those with half a year before.
        """
        last = self.quantity.shape[1] - HORIZON
        long = range(last, 2 * YEAR - 1, -3)
        return sorted(long or range(last, HORIZON - 1, -3))


@dataclass(frozen=True)
class Cut:
    """A market up to a month, and the six months after it.

    With less than two years before it, a shop is eligible with 3 active months of the
    last 6, and change is against the months just before instead of the year before.
    """

    market: Market
    n_before: int

    @property
    def is_long(self) -> bool:
        """Whether the same months of the year before are there to compare with."""
        return self.n_before >= 2 * YEAR

    @property
    def units(self) -> Array:
        """Units sold per month before the cut, at least 0."""
        return np.maximum(self.market.quantity[:, : self.n_before], 0)

    @property
    def is_active(self) -> Array:
        """Months before the cut with sales."""
        return self.units > 0

    @property
    def size(self) -> Array:
        """Logarithm of the units of the last year."""
        return np.log1p(self.units[:, -YEAR:].sum(axis=1))

    @property
    def populations(self) -> dict[str, Array]:
        """Who is judged: all eligible shops, and of them those that sold just now."""
        active = self.is_active
        if self.is_long:
            eligible = active[:, -YEAR:].sum(axis=1) >= 6
            eligible &= active[:, -2 * YEAR : -YEAR].sum(axis=1) >= 4
        else:
            eligible = active[:, -HORIZON:].sum(axis=1) >= 3
        return {"all": eligible, "recent": eligible & active[:, -2:].all(axis=1)}

    @property
    def compared(self) -> Array:
        """Logarithm of the units that growth is measured against."""
        start = self.n_before - (YEAR if self.is_long else HORIZON)
        units = self.units[:, start : start + HORIZON].sum(axis=1)
        return np.log1p(units)

    @property
    def outcomes(self) -> Array:
        """Growth and activity in the six months after, and growth once more.

        Shape (n_shops, 3). The half year before may have been odd, so that whoever
        knows it tells growth, even on noise. The last column is judged beyond `usual`.
        """
        end = self.n_before + HORIZON
        after = self.market.quantity[:, self.n_before : end]
        new = np.log1p(np.maximum(after, 0).sum(axis=1))
        growth = np.clip(new - self.compared, -GROWTH_LIMIT, GROWTH_LIMIT)
        return np.column_stack([growth, (after > 0).mean(axis=1), growth])

    @property
    def usual(self) -> Array:
        """Usual sales of two years, and the half year compared with, against them."""
        level = np.log1p(self.units[:, -2 * YEAR :].mean(axis=1))
        return np.column_stack([level, self.compared - level])

    def change(self, n_months: int) -> Array:
        """Return ln of the last months' units over those of the period before."""
        units, back = self.units, YEAR if self.is_long else n_months
        stop = self.n_before - back
        old = units[:, stop - n_months : stop].sum(axis=1)
        new = units[:, -n_months:].sum(axis=1)
        return np.clip(np.log1p(new) - np.log1p(old), -GROWTH_LIMIT, GROWTH_LIMIT)

    @cached_property
    def momentum(self) -> dict[str, Array]:
        """Change over 12, 6 and 3 months, as far as there are months to compare."""
        spans = (12, 6, 3) if self.is_long else (3, 1)
        return {f"{k}-month change": self.change(k) for k in spans}

    @cached_property
    def recency(self) -> Array:
        """Months since the last sale, 0 to 12."""
        active = self.is_active[:, ::-1]
        silent = np.where(active.any(axis=1), active.argmax(axis=1), YEAR)
        return np.minimum(silent, YEAR)

    @cached_property
    def features(self) -> Array:
        """Momentum, activity, recency, variability and breadth: one row per shop."""
        active, logs = self.is_active, np.log1p(self.units)
        sold = np.where(active, logs, np.nan)[:, -2 * YEAR :]
        sold[active[:, -2 * YEAR :].sum(axis=1) < 3] = 0
        months = active[:, -YEAR:].sum(axis=1)
        products = self.market.products[:, : self.n_before][:, -YEAR:].sum(axis=1)
        columns = [
            *self.momentum.values(),
            *(active[:, -k:].mean(axis=1) for k in (12, 6, 3)),
            self.recency,
            np.nanstd(sold, axis=1),
            np.log1p(products / np.maximum(months, 1)),
        ]
        return np.column_stack(columns)

    @cached_property
    def season(self) -> Array:
        """Mean logarithm of units per calendar month, about the shop's own mean."""
        logs, active = (part[:, -2 * YEAR :] for part in (self.units, self.is_active))
        logs = np.log1p(logs)
        n_months = min(YEAR, logs.shape[1])
        shape = [
            logs[:, m::YEAR].sum(axis=1) / np.maximum(active[:, m::YEAR].sum(axis=1), 1)
            for m in range(n_months)
        ]
        table = np.column_stack(shape)
        return table - table.mean(axis=1, keepdims=True)


def plain_labels(cut: Cut, who: Array) -> dict[str, Array]:
    """Return the labels that simple methods give the shops of a population."""
    features, season = scaled(cut.features[who]), scaled(cut.season[who])
    momentum = scaled(np.column_stack([*cut.momentum.values()])[who])
    kmeans = KMeans(8, n_init=10, random_state=0)
    found = {
        "KMeans, 8: momentum, activity, breadth, season": kmeans.fit_predict(
            np.hstack([features, season])
        ),
        "KMeans, 8: the same without season": kmeans.fit_predict(features),
        "KMeans, 8: momentum alone": kmeans.fit_predict(momentum),
        "months since the last sale": cut.recency[who],
    }
    return found | {
        f"deciles of {name}": deciles(values[who])
        for name, values in cut.momentum.items()
    }


def scaled(values: Array) -> Array:
    """Return columns with mean 0 and standard deviation 1."""
    return (values - values.mean(axis=0)) / np.maximum(values.std(axis=0), 1e-9)


def deciles(values: Array) -> Array:
    """Return the tenth that each value is in; equal values stay together."""
    edges = np.quantile(values, np.linspace(0, 1, N_SIZES + 1)[1:-1])
    return np.searchsorted(edges, values)


def dummies(labels: Array) -> Array:
    """Return a column of 0 and 1 per label."""
    codes = np.unique(labels, return_inverse=True)[1]
    return np.eye(codes.max() + 1)[codes]


@dataclass(frozen=True)
class Errors:
    """Squared errors of the shops of one population after one cut; 0 for the others.

    Attributes
    ----------
    total, size, both : ndarray of float64, shape (n_shops, 3)
        Per outcome: about the mean, by size, by size and labels; the last two on
        shops that the fit has not seen.
    fitted : ndarray of float64, shape (3,)
        The increment of R2 in the sample, as the fit sees it.
    """

    total: Array
    size: Array
    both: Array
    fitted: Array


class Judge:
    """Increments of R2 beyond deciles of size, for one population after one cut."""

    def __init__(self, cut: Cut, who: Array) -> None:
        self.cut, self.who = cut, who
        self.Y = cut.outcomes[who]
        self.Y = self.Y - self.Y.mean(axis=0)
        sizes = dummies(deciles(cut.size[who]))
        usual = np.hstack([sizes, cut.usual[who]])
        self.known = [sizes, sizes, usual]
        self.by_size = self._unseen(self.known)

    def judge(self, labels: Array) -> Errors:
        """Return the errors with labels, one per shop of the population."""
        both = [np.hstack([known, dummies(labels)]) for known in self.known]
        squares = [
            np.array(
                [
                    ((y - X @ solved(X, y)) ** 2).sum()
                    for X, y in zip(Xs, self.Y.T, strict=True)
                ]
            )
            for Xs in (self.known, both)
        ]
        total = np.maximum((self.Y**2).sum(axis=0), 1e-12)
        return self._errors(self._unseen(both), (squares[0] - squares[1]) / total)

    def boosted(self) -> Errors:
        """Return the errors of gradient boosting on every feature, and size."""
        cut = self.cut
        parts = [cut.features, cut.season, cut.size[:, None], cut.usual]
        X = np.hstack(parts)[self.who]
        model = HistGradientBoostingRegressor(
            max_iter=80, max_leaf_nodes=8, learning_rate=0.05, random_state=0
        )
        folds = KFold(N_FOLDS, shuffle=True, random_state=0)
        guess = [cross_val_predict(model, X, y, cv=folds) for y in self.Y.T]
        squared = (self.Y - np.column_stack(guess)) ** 2
        return self._errors(squared, np.full(len(OUTCOMES), np.nan))

    def _unseen(self, known: list[Array]) -> Array:
        """Return squared errors of shops that a linear fit has not seen."""
        squared = np.zeros_like(self.Y)
        for seed in range(N_REPEATS):
            folds = KFold(N_FOLDS, shuffle=True, random_state=seed)
            for train, test in folds.split(self.Y):
                for j, X in enumerate(known):
                    fit = solved(X[train], self.Y[train, j])
                    error = self.Y[test, j] - X[test] @ fit
                    squared[test, j] += error**2 / N_REPEATS
        return squared

    def _errors(self, both: Array, fitted: Array) -> Errors:
        """Return errors with a row for every shop of the market."""

        def spread(values: Array) -> Array:
            whole = np.zeros((len(self.who), len(OUTCOMES)))
            whole[self.who] = values
            return whole

        return Errors(*map(spread, (self.Y**2, self.by_size, both)), fitted)


def solved(X: Array, Y: Array) -> Array:
    """Return the least-squares coefficients of least norm."""
    return np.linalg.lstsq(X, Y, rcond=None)[0]


def resampled(n_shops: int) -> Array:
    """Return how often each shop is drawn, shape (n_resamples + 1, n_shops).

    The first row is the shops as they are. Shops are drawn, not shops after a cut: what
    a shop does after one cut and after the next is not drawn apart.
    """
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(n_shops, np.full(n_shops, 1 / n_shops), size=N_RESAMPLES)
    return np.vstack([np.ones((1, n_shops)), drawn])


def increments(errors: list[Errors], draws: Array) -> Array:
    """Return increments of R2, means over cuts; shape (n_resamples + 1, 3)."""
    by_cut = [
        (draws @ (one.size - one.both)) / np.maximum(draws @ one.total, 1e-12)
        for one in errors
    ]
    return np.mean(by_cut, axis=0)
