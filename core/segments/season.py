"""What twelve months of sales are called: peaks, lows, or an even year."""

from __future__ import annotations

from collections.abc import Sequence

MONTHS = 12
_NAMES = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)
# Of the northern year, by the month in which a run has its top; January first.
_SEASONS = (
    *("Winter",) * 2,
    *("Spring",) * 3,
    *("Summer",) * 3,
    *("Autumn",) * 3,
    "Year-end",
)
_DECEMBER = 11
_TURN_OF_YEAR = (10, 11, 0)
# In means of the shop's own year: a peak needs one month that high, and takes in the
# months beside it that are high as well; the same for a low.
PEAK, BESIDE_PEAK = 1.25, 1.15
LOW, BESIDE_LOW = 0.75, 0.85


def season_phrase(
    months: Sequence[float], effects: Sequence[float], clear: float
) -> tuple[str, float] | None:
    """Say what sets a segment's year apart.

    Parameters
    ----------
    months : sequence of 12 floats
        Typical shares (or levels) of January to December; they are divided by their
        mean here.
    effects : sequence of 12 floats
        How far each lies from that of the other shops, in robust standard deviations.
    clear : float
        What an effect has to reach to be told.

    Returns
    -------
    (str, float) or None
        The words, and the size of the effect that they rest on; None where no month
        sets the segment apart, or there is nothing to divide by.
    """
    mean = sum(months) / MONTHS
    strongest = max(abs(effect) for effect in effects)
    if mean <= 0 or strongest < clear:
        return None
    index = [value / mean for value in months]
    cores = [m for m in range(MONTHS) if index[m] >= PEAK and effects[m] >= clear]
    if cores:
        runs = _runs([value >= BESIDE_PEAK for value in index], cores)
        tops = [max(run, key=lambda m: (index[m], -m)) for run in runs]
        return _peaks(runs, tops), max(effects[m] for m in cores)
    cores = [m for m in range(MONTHS) if index[m] <= LOW and effects[m] <= -clear]
    if cores:
        runs = _runs([value <= BESIDE_LOW for value in index], cores)
        ends = [min(run, key=lambda m: (index[m], m)) for run in runs]
        return _lows(runs, ends), -min(effects[m] for m in cores)
    return "Even year", strongest


def months_label(run: Sequence[int]) -> str:
    """Return ``Jun-Aug``, or ``Jul``, of months counted from 0.

    >>> months_label([10, 11, 0])
    'Nov-Jan'
    """
    first, last = _NAMES[run[0]], _NAMES[run[-1]]
    return first if len(run) == 1 else f"{first}-{last}"


def _runs(belongs: Sequence[bool], cores: Sequence[int]) -> list[list[int]]:
    """Return the runs of neighbouring months, round the year, that hold a core."""
    if all(belongs):
        return [list(range(MONTHS))]
    runs = []
    for start in range(MONTHS):
        if not belongs[start] or belongs[start - 1]:
            continue
        run = [start]
        while belongs[(run[-1] + 1) % MONTHS]:
            run.append((run[-1] + 1) % MONTHS)
        if set(run) & set(cores):
            runs.append(run)
    return sorted(runs, key=lambda run: min(m for m in run if m in cores))


def _peaks(runs: Sequence[Sequence[int]], tops: Sequence[int]) -> str:
    if len(runs) == 1:
        return f"{_season(runs[0], tops[0])} peak ({months_label(runs[0])})"
    if len(runs) == 2:
        return f"Two peaks: {months_label(runs[0])}, {months_label(runs[1])}"
    return "Several peaks"


def _lows(runs: Sequence[Sequence[int]], ends: Sequence[int]) -> str:
    if len(runs) == 1:
        return f"{_season(runs[0], ends[0])} low ({months_label(runs[0])})"
    return "Several low times"


def _season(run: Sequence[int], top: int) -> str:
    """Return the season of a run; one around the turn of the year is the year's end."""
    if _DECEMBER in run and top in _TURN_OF_YEAR:
        return _SEASONS[_DECEMBER]
    return _SEASONS[top]
