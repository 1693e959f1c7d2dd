"""What a search of options tries, and how much of it a time allows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from core.clustering.options import SMOOTHING, smallest_size
from core.clustering.selection import ClusterOptions, option_grid
from core.config import Config
from core.evaluation.stability import SUBSAMPLE_SHARE

LATENT_SIZES = (3, 5, 8, 12)
# Taken for a standing `min_samples` that is chosen anew for every model.
OPEN_MIN_SAMPLES = 10
# Shops; sizes are tried up to a tenth of the shops, larger ones leave room for a few
# clusters only.
CLUSTER_SIZES = (10, 15, 20, 30, 50, 75, 100, 150, 200)
LARGEST_SHARE = 0.1
# Refits and nulls, from what is wanted to the fewest with a standard error.
EFFORTS = ((5, 4), (4, 3), (3, 2))
LEAST = (2, 2)


class Plan(NamedTuple):
    """What a search learns.

    Attributes
    ----------
    latent_sizes : tuple of int
        The standing one first.
    n_refits : int
        Of each, on 80% of the shops; at least 2.
    n_nulls : int
        Data sets without structure, the same for every latent size; at least 2.
    """

    latent_sizes: tuple[int, ...]
    n_refits: int
    n_nulls: int

    @property
    def n_models(self) -> int:
        """Return how often scaler and encoder are learnt."""
        return len(self.latent_sizes) * (1 + self.n_refits + 2 * self.n_nulls)


def plan_search(
    latent_sizes: Sequence[int], seconds_per_model: float, seconds: float
) -> Plan:
    """Return the widest search that fits into a time.

    First there are fewer refits and nulls, then fewer latent sizes, the last first. The
    smallest plan is returned even where it takes longer.

    Parameters
    ----------
    latent_sizes : sequence of int
        The standing one first.
    seconds_per_model : float
        For scaler, encoder and all clusterings of one latent size.
    seconds : float
        For everything.
    """
    plans = [
        Plan(tuple(latent_sizes[:n]), *effort)
        for n in range(len(latent_sizes), 0, -1)
        for effort in EFFORTS
    ]
    least = Plan(tuple(latent_sizes[:1]), *LEAST)
    fitting = (p for p in plans if p.n_models * seconds_per_model <= seconds)
    return next(fitting, least)


def candidate_latent_sizes(standing: int, n_features: int) -> tuple[int, ...]:
    """Return the latent sizes to try, smaller than the features, the standing first."""
    others = [s for s in LATENT_SIZES if s < n_features and s != standing]
    # The nearest first: a shortened search drops the last.
    return (standing, *sorted(others, key=lambda s: abs(math.log(s / standing))))


def candidate_options(
    standing: ClusterOptions, n_shops: int
) -> tuple[ClusterOptions, ...]:
    """Return the options to try on so many shops, the standing ones among them.

    Parameters
    ----------
    standing : ClusterOptions
        Must fit into 80% of the shops; see `fitted_options`.
    n_shops : int
        Shops that are searched.
    """
    most = LARGEST_SHARE * n_shops
    sizes = {size for size in CLUSTER_SIZES if size <= most}
    neighbours = {k for k in SMOOTHING if k <= most}
    return option_grid(
        sizes | {standing.min_cluster_size}, neighbours | {standing.min_samples}
    )


def fitted_options(
    options: ClusterOptions, n_shops: int, n_searched: int
) -> ClusterOptions:
    """Return options meant for all shops as they are for the searched ones.

    A cluster of a share of the shops has that share of a sample; the number of
    neighbours stays. Sizes that no subsample could hold are cut to what it holds.
    """
    held = int(SUBSAMPLE_SHARE * n_searched)
    size = round(options.min_cluster_size * n_searched / n_shops)
    return options._replace(
        min_cluster_size=min(max(size, 2), max(held, 2)),
        min_samples=min(options.min_samples, max(held - 1, 1)),
    )


def standing_options(config: Config, n_shops: int) -> ClusterOptions:
    """Return the options of the clustering that a configuration names.

    Where it leaves the smallest size open, that of so many shops; where it leaves
    `min_samples` open, 10: a search over one model has it from the model instead.
    """
    clustering = config.clustering
    return ClusterOptions(
        clustering.min_cluster_size or smallest_size(n_shops),
        clustering.min_samples or OPEN_MIN_SAMPLES,
        clustering.selection_method,
    )


class Key(NamedTuple):
    """One model of a search.

    Attributes
    ----------
    latent_size : int
    table : int
        0 for the data, from 1 for data without structure.
    refit : int or None
        Number of the draw of 80% of the shops that it learns from; None: all shops.
    """

    latent_size: int
    table: int
    refit: int | None


def model_keys(plan: Plan) -> list[Key]:
    """Return the models of a plan, those of the standing latent size first."""
    data = [(0, None), *((0, number) for number in range(plan.n_refits))]
    nulls = [(n + 1, refit) for n in range(plan.n_nulls) for refit in (None, 0)]
    return [Key(size, *of) for size in plan.latent_sizes for of in [*data, *nulls]]
