"""The state of each entity's life: new, active, reviving, slowing or lapsed.

A silence of three months is the end of one entity and the habit of another. How long is
too long is learnt from all entities' months at once: an entity is active in each month
with a chance of its own, until it stops for good at a time of its own, and both chances
vary between entities as beta distributions do. This is the model of Fader, Hardie and
Shang (2010, Customer-Base Analysis in a Discrete-Time Noncontractual Setting, Marketing
Science 29:1086-1108), beta-geometric/beta-Bernoulli, with four numbers fitted by
maximum likelihood. Of an entity it needs three: active months after its first (``x``),
the last of them (``t_x``), and months since its first (``n``). The chance of not having
stopped follows in closed form: after the same silence it is lower where the entity had
seldom paused before.

The model knows no seasons. So nobody has lapsed whose silence is not longer, by two
months, than any that it came back from before, and the chance below which an entity has
lapsed is lowered until, a year ago, at most one in ten of those below it sold again.

States are the rules `life-cycle` over what is told here, so that thresholds can be read
and changed as those of any rule set.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import betaln, logsumexp

from core.errors import ConfigError, did_you_mean, listed
from core.months import month_index, month_label
from core.rules.assign import assign_rules
from core.rules.grammar import RuleSet, read_rules

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

STATES: Final = ("new", "active", "reviving", "slowing", "lapsed")
LAPSED: Final = "lapsed"
RECENT_MONTHS = 6
YEAR = 12
# Longer by so much than any before, a silence may be the end: the rules say the same.
UNUSUAL_MONTHS = 2
# Longer histories tell no more of a rhythm; a mistyped year is not one.
MAX_MONTHS = 240
# Of the logarithms of the four parameters: as good as no limit, but none runs away
# where nobody ever stopped.
BOUNDS = (-5.0, 7.0)
RIDGE = 1e-3


class Counts(NamedTuple):
    """What the model needs of entities, each of shape (n_entities,).

    Attributes
    ----------
    n_active : ndarray of int64
        Active months after the first.
    last : ndarray of int64
        Months from the first active one to the last.
    n_months : ndarray of int64
        Months from the first active one to now.
    """

    n_active: IntArray
    last: IntArray
    n_months: IntArray

    def kinds(self) -> tuple[Counts, IntArray, IntArray]:
        """Return the different ones, which of them each is, and how many are it."""
        base = int(self.n_months.max(initial=0)) + 1
        codes = (self.n_active * base + self.last) * base + self.n_months
        found, kind, times = np.unique(codes, return_inverse=True, return_counts=True)
        rest, n_months = np.divmod(found, base)
        return Counts(*np.divmod(rest, base), n_months), kind, times


@dataclass(frozen=True)
class Rhythm:
    """Chances of being active in a month and of stopping for good, over entities.

    Attributes
    ----------
    active : tuple of (float, float)
        Beta distribution of an entity's chance to be active in a month of its life.
    stopping : tuple of (float, float)
        Beta distribution of its chance to have stopped before a month.
    """

    active: tuple[float, float]
    stopping: tuple[float, float]

    @classmethod
    def learn(cls, kinds: Counts, times: IntArray) -> Self:
        """Fit the four parameters by maximum likelihood.

        Parameters
        ----------
        kinds : Counts
            The different counts that entities have.
        times : ndarray of int64, shape (n_kinds,)
            How many entities have them.
        """
        from scipy.optimize import minimize

        def loss(logs: FloatArray) -> float:
            fitted, _ = _log_likelihood(np.exp(logs), kinds)
            return float(RIDGE * (logs**2).sum() - times @ fitted / times.sum())

        found = minimize(loss, np.zeros(4), method="L-BFGS-B", bounds=[BOUNDS] * 4)
        a, b, c, d = np.exp(found.x).tolist()
        return cls((a, b), (c, d))

    def chance_active(self, counts: Counts) -> FloatArray:
        """Return the chance that each entity has not stopped, shape (n_entities,)."""
        kinds, kind, _ = counts.kinds()
        parameters = np.array([*self.active, *self.stopping])
        whole, going_on = _log_likelihood(parameters, kinds)
        chances: FloatArray = np.exp(going_on - whole)[kind]
        return chances


def _log_likelihood(
    parameters: FloatArray, counts: Counts
) -> tuple[FloatArray, FloatArray]:
    """Return the log likelihood, and its part in which the entity goes on."""
    a, b, c, d = parameters
    n_active, last, n_months = counts
    silence = n_months - last
    idle = last - n_active
    none = betaln(a, b) + betaln(c, d)
    going_on = betaln(a + n_active, b + idle + silence) + betaln(c, d + n_months)
    # It stopped in one of the months of silence; each term follows from the one before.
    first = betaln(a + n_active, b + idle) + betaln(c + 1, d + last)
    month = np.arange(int(silence.max(initial=0)))[:, None]
    missed, lived = b + idle + month, d + last + month
    steps = np.log(missed * lived / ((missed + a + n_active) * (lived + c + 1)))
    stopped = first + np.cumsum(steps, axis=0) - steps
    parts = np.vstack([going_on, np.where(month < silence, stopped, -np.inf)])
    return logsumexp(parts, axis=0) - none, going_on - none


class ActiveMonths(NamedTuple):
    """Active months of entities, sorted by entity and month.

    Attributes
    ----------
    entity : ndarray of int64, shape (n_rows,)
        Ascending.
    t : ndarray of int64, shape (n_rows,)
    quantity : ndarray of float64, shape (n_rows,)
        Above 0.
    """

    entity: IntArray
    t: IntArray
    quantity: FloatArray

    def where(self, is_wanted: BoolArray) -> ActiveMonths:
        """Return some of the months."""
        entity, t, quantity = self
        return ActiveMonths(entity[is_wanted], t[is_wanted], quantity[is_wanted])


class _Lives(NamedTuple):
    """Active months, and what had gone before each of them.

    ``start`` and ``end`` are the rows of each entity's first and last month; by row,
    ``gap`` is the silence before it and ``habit`` the longest one up to it.
    """

    months: ActiveMonths
    start: IntArray
    end: IntArray
    gap: IntArray
    habit: IntArray

    @classmethod
    def of(cls, months: ActiveMonths) -> Self:
        entity, t, _ = months
        is_first = np.diff(entity, prepend=-1) != 0
        start = np.flatnonzero(is_first)
        gap = np.where(is_first, 0, np.diff(t, prepend=0) - 1)
        # Each entity's maxima lie above all of the one before.
        shift = np.cumsum(is_first) * (MAX_MONTHS + 1)
        habit = np.maximum.accumulate(gap + shift) - shift
        end = np.append(start[1:], len(t)) - 1
        return cls(months, start, end, gap, habit)

    def counts(self, now: int) -> Counts:
        """Return the counts of each entity as of a month."""
        t = self.months.t
        first = t[self.start]
        return Counts(self.end - self.start, t[self.end] - first, now - first)

    def beyond_habit(self, now: int) -> IntArray:
        """Return the silence up to a month, less the longest one ended before."""
        beyond: IntArray = now - self.months.t[self.end] - self.habit[self.end]
        return beyond

    def chance_before_return(self, rhythm: Rhythm, now: int) -> FloatArray:
        """Return the lowest chance before a recent return; NaN without one.

        Only the return from a silence longer by two months than any before is one.
        """
        t = self.months.t
        of = np.repeat(np.arange(len(self.start)), self.end - self.start + 1)
        known = np.append(0, self.habit[:-1])  # not of first months: they have no gap
        came = np.flatnonzero(
            (t > now - RECENT_MONTHS)
            & (self.gap > 0)
            & (self.gap - known >= UNUSUAL_MONTHS)
        )
        start, before = self.start[of[came]], t[came] - 1
        counts = Counts(came - 1 - start, t[came - 1] - t[start], before - t[start])
        lowest = np.full(len(self.start), np.nan)
        np.fmin.at(lowest, of[came], rhythm.chance_active(counts))
        return lowest

    def sold(self, first: int, last: int) -> tuple[IntArray, FloatArray]:
        """Return the active months and the quantity of each entity between months."""
        entity, t, quantity = self.months
        is_in = (t >= first) & (t <= last)
        of = np.searchsorted(entity[self.start], entity[is_in])
        n = len(self.start)
        total: FloatArray = np.bincount(of, quantity[is_in], n).astype(np.float64)
        return np.bincount(of, minlength=n).astype(np.int64), total


@dataclass(frozen=True)
class LifeCycle:
    """What tells the state of an entity: the rhythm of all, and the rules.

    Attributes
    ----------
    rhythm : Rhythm or None
        None where nothing is known, as in a model that was saved without: no entity
        has a state then.
    rules : RuleSet
        With a number for each threshold.
    first_t : int
        Month in which the data began that it was learnt from: who sold first in the
        half year from then on may have done so before.
    """

    rhythm: Rhythm | None
    rules: RuleSet
    first_t: int

    @classmethod
    def unknown(cls) -> Self:
        """Return one by which no entity has a state."""
        return cls(None, read_rules("life-cycle"), 0)

    @classmethod
    def learn(
        cls,
        monthly: pl.DataFrame | pl.LazyFrame,
        as_of: int,
        rules: str = "life-cycle",
        thresholds: Mapping[str, float] | None = None,
    ) -> Self:
        """Learn from what was known at a month.

        Parameters
        ----------
        monthly : DataFrame or LazyFrame
            As for `states`.
        as_of : int
            Last month known (`core.months.month_index`); later ones are not looked at.
        rules : str
            Name or path of a rule set whose segments are among `STATES`.
        thresholds : mapping of str to float, optional
            Numbers for thresholds of the rules. Others are as the rules say, but that
            ``lapsed_below`` and ``reviving_below`` are learnt.

        Raises
        ------
        ConfigError
            If the rules cannot be read, have other segments or no such threshold.
        """
        months, lives = month_counts(monthly, as_of), life_counts(monthly, as_of)
        return cls.from_counts(months, lives, as_of, rules, thresholds)

    @classmethod
    def from_counts(
        cls,
        months: pl.DataFrame,
        lives: pl.DataFrame,
        as_of: int,
        rules: str = "life-cycle",
        thresholds: Mapping[str, float] | None = None,
    ) -> Self:
        """Learn from `month_counts` and `life_counts`, of all parts of the entities.

        Raises
        ------
        ConfigError
            As `learn`.
        """
        chosen = _state_rules(rules)
        if months.is_empty():
            return cls(None, chosen, as_of)
        t, found = _added_up(months).sort("t").select("t", "n").to_numpy().T
        lives = _added_up(lives)
        n = np.bincount(t - t[0], found)
        # Fewer entities are stray rows of a mistyped month.
        is_whole = n >= np.median(n[n > 0]) / 20
        first_t = int(t[0] + is_whole.argmax())
        now = lives.filter(pl.col("t") == as_of).sort(*Counts._fields)
        rhythm = Rhythm.learn(_counts_of(now), now["n"].to_numpy())
        chance = _lapsed_below(rhythm, lives, first_t, as_of)
        learnt = {"lapsed_below": chance, "reviving_below": chance}
        return cls(rhythm, _with_numbers(chosen, learnt, thresholds or {}), first_t)

    def states(self, monthly: pl.DataFrame | pl.LazyFrame, as_of: int) -> pl.DataFrame:
        """Return the state of every entity that has sold, with what it follows from.

        Parameters
        ----------
        monthly : DataFrame or LazyFrame
            A column of ids (String) first, then ``t`` (months since year 0) and
            ``quantity`` (any unit): months with sales only, back to the first one of
            each entity.
        as_of : int
            Last month known; later ones are not looked at.

        Returns
        -------
        DataFrame
            Ids in ascending order, ``state`` (String; null for all where the rhythm is
            not known), and the features of the rules: ``tenure_months``,
            ``beyond_habit_months``, ``active_change_months`` (Int64),
            ``chance_active``, ``chance_before_return`` and ``sales_ratio`` (Float64);
            null as the rule set says.
        """
        ids, months = _active_months(monthly, as_of)
        if self.rhythm is None:
            return ids.to_frame().with_columns(state=pl.lit(None, pl.String))
        lives = _Lives.of(months)
        features = ids.to_frame().hstack(_features(lives, self.rhythm, as_of))
        since = pl.col("tenure_months") <= as_of - self.first_t + 1 - RECENT_MONTHS
        known = features.with_columns(
            pl.when(since).then("tenure_months"),
            pl.selectors.float().fill_nan(None),
        )
        placed = assign_rules(self.rules, known, ids.name).table
        states = placed.get_column("segment").alias("state")
        return known.insert_column(1, states)

    def to_json(self) -> str:
        """Return it as text, which `from_json` reads."""
        assert self.rhythm is not None  # nothing is saved where nothing was learnt
        saved = {
            "format": 1,
            "first_month": month_label(self.first_t),
            "active": self.rhythm.active,
            "stopping": self.rhythm.stopping,
            "rules": self.rules.to_yaml(),
        }
        return json.dumps(saved, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` wrote.

        Raises
        ------
        ValueError, LookupError, TypeError
            If it is something else.
        """
        saved = json.loads(text)
        if saved["format"] != 1:
            raise ValueError(f"the format is {saved['format']!r}; expected 1")
        (a, b), (c, d) = saved["active"], saved["stopping"]
        rhythm = Rhythm((float(a), float(b)), (float(c), float(d)))
        return cls(
            rhythm, read_rules(saved["rules"]), month_index(saved["first_month"])
        )


def _state_rules(source: str) -> RuleSet:
    rules = read_rules(source)
    strange = [s.name for s in rules.segments if s.name not in STATES]
    if strange:
        raise ConfigError(
            f"the rules `{source}` of `states.rules` have the segments "
            f"{listed(strange)}; expected no others than {listed(STATES)}."
            f"{did_you_mean(strange[0], STATES)}"
        )
    return rules


def _with_numbers(
    rules: RuleSet, learnt: Mapping[str, float], given: Mapping[str, float]
) -> RuleSet:
    """Return rules with numbers for thresholds; what is given goes before."""
    names = [threshold.name for threshold in rules.thresholds]
    if unknown := [name for name in given if name not in names]:
        raise ConfigError(
            f"`states.thresholds` has {listed(unknown)}; the rules `{rules.name}` have "
            f"the thresholds {listed(names) or 'none'}."
            f"{did_you_mean(unknown[0], names)}"
        )
    numbers = {**learnt, **given}
    return replace(
        rules,
        thresholds=tuple(
            replace(t, value=numbers.get(t.name, t.value)) for t in rules.thresholds
        ),
    )


def _active_months(
    monthly: pl.DataFrame | pl.LazyFrame, as_of: int
) -> tuple[pl.Series, ActiveMonths]:
    """Return ids, ascending, and their months up to one, sorted."""
    name = monthly.collect_schema().names()[0]
    known = (
        monthly.lazy()
        .filter(_is_known(as_of))
        .select(name, pl.col("t").cast(pl.Int64), pl.col("quantity").cast(pl.Float64))
        .collect()
    )
    if not _is_sorted(known):
        known = known.sort(name, "t")
    known = known.with_columns(pl.col(name).rle_id().cast(pl.Int64).alias("entity"))
    ids = known[name].unique(maintain_order=True)
    columns = (known[column].to_numpy() for column in ActiveMonths._fields)
    return ids, ActiveMonths(*columns)


def _is_known(as_of: int) -> pl.Expr:
    """Return whether a row is of an active month up to one, and not too old."""
    is_near = pl.col("t").is_between(as_of - MAX_MONTHS + 1, as_of)
    return is_near & (pl.col("quantity") > 0)


def _is_sorted(months: pl.DataFrame) -> bool:
    """Return whether rows are sorted by id and month; sorting costs ten times more."""
    ids, t = months.to_series(0), months["t"].to_numpy()
    if not ids.is_sorted():
        return False
    is_same = (ids[1:] == ids[:-1]).to_numpy()
    return bool((np.diff(t)[is_same] > 0).all())


def _features(lives: _Lives, rhythm: Rhythm, now: int) -> pl.DataFrame:
    counts = lives.counts(now)
    n_recent, recent = lives.sold(now - RECENT_MONTHS + 1, now)
    a_year_ago = now - YEAR
    n_before, before = lives.sold(a_year_ago - RECENT_MONTHS + 1, a_year_ago)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(before > 0, recent / before, np.nan)
    table = pl.DataFrame(
        {
            "tenure_months": counts.n_months + 1,
            "chance_active": rhythm.chance_active(counts),
            "beyond_habit_months": lives.beyond_habit(now),
            "chance_before_return": lives.chance_before_return(rhythm, now),
            "active_change_months": n_recent - n_before,
            "sales_ratio": ratio,
        }
    )
    is_told = pl.col("tenure_months") >= YEAR + RECENT_MONTHS
    return table.with_columns(
        pl.when(is_told).then(name) for name in ("active_change_months", "sales_ratio")
    )


# Chances tried for the one below which an entity has lapsed, and how many of those
# below it may have sold again within a year.
CHANCES = (0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01)
MAY_RETURN = 0.1
N_CUTS = 4
CUT_STEP = 3


def month_counts(monthly: pl.DataFrame | pl.LazyFrame, as_of: int) -> pl.DataFrame:
    """Return ``t`` and ``n`` (Int64), the active entities of each month up to one."""
    known = monthly.lazy().filter(_is_known(as_of)).select(pl.col("t").cast(pl.Int64))
    return known.group_by("t").agg(n=pl.len().cast(pl.Int64)).collect()


def life_counts(monthly: pl.DataFrame | pl.LazyFrame, as_of: int) -> pl.DataFrame:
    """Return what is learnt from, as numbers of entities that parts can add up.

    Parameters
    ----------
    monthly : DataFrame or LazyFrame
        As for `LifeCycle.states`, all months of its entities.
    as_of : int
        Last month known.

    Returns
    -------
    DataFrame of Int64
        ``n`` entities whose `Counts` as of a month ``t`` are ``n_active, last,
        n_months``: of everyone as of `as_of` (``is_back`` is 0), and of who was
        unusually silent at earlier months, by whether they sold again within a year.
    """
    _, months = _active_months(monthly, as_of)
    if not len(months.t):
        return _kinds_of(Counts(months.t, months.t, months.t), as_of)
    parts = [_kinds_of(_Lives.of(months).counts(as_of), as_of)]
    oldest = months.t.min()
    for cut in (cut for cut in _cuts(as_of) if cut >= oldest):
        lives = _Lives.of(months.where(months.t <= cut))
        after = months.where((months.t > cut) & (months.t <= cut + YEAR))
        is_back = np.isin(lives.months.entity[lives.start], after.entity)
        is_silent = lives.beyond_habit(cut) >= UNUSUAL_MONTHS
        counts = lives.counts(cut)
        for back in (False, True):
            who = is_silent & (is_back == back)
            own = Counts(*(values[who] for values in counts))
            parts.append(_kinds_of(own, cut, back))
    return pl.concat(parts)


def _added_up(counts: pl.DataFrame) -> pl.DataFrame:
    return counts.group_by(pl.exclude("n")).agg(pl.col("n").sum())


def _cuts(as_of: int) -> range:
    """Return the months looked back from."""
    newest = as_of - YEAR
    return range(newest, newest - N_CUTS * CUT_STEP, -CUT_STEP)


def _kinds_of(counts: Counts, t: int, is_back: bool = False) -> pl.DataFrame:
    kinds, _, times = counts.kinds()
    table = pl.DataFrame({**kinds._asdict(), "n": times.astype(np.int64)})
    return table.with_columns(
        pl.lit(t, pl.Int64).alias("t"), pl.lit(int(is_back), pl.Int64).alias("is_back")
    )


def _counts_of(table: pl.DataFrame) -> Counts:
    return Counts(*(table[name].to_numpy() for name in Counts._fields))


def _lapsed_below(
    rhythm: Rhythm, lives: pl.DataFrame, first_t: int, as_of: int
) -> float:
    """Return the highest chance below which few have returned, looking back."""
    cuts = [cut for cut in _cuts(as_of) if cut - first_t + 1 >= YEAR]
    silent = lives.filter(pl.col("t").is_in(cuts))
    chance = rhythm.chance_active(_counts_of(silent))
    n, is_back = silent["n"].to_numpy(), silent["is_back"].to_numpy()
    for below in CHANCES:
        is_lapsed = chance < below
        if (n * is_back)[is_lapsed].sum() <= MAY_RETURN * n[is_lapsed].sum():
            return below
    return 0.0
