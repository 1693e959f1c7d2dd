"""Names of segments of any table: what sets each apart from all rows."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from core.models.centroids import CentroidModel
from core.reporting.text import rounded, share
from core.segments.axes import Told
from core.tabular.columns import MISSING, OTHER, ColumnPlan, TableEncoding

APART_Z: Final = 0.5
"""Standard deviations from the mean row from which a column sets a segment apart."""
MOST: Final = 0.5
"""Share of its rows from which a level can name a segment."""
N_NAMED: Final = 2
N_TOLD: Final = 3
LONGEST: Final = 30
"""Characters of a column or of a level in a name."""
YES_AND_NO: Final = {"true": "yes", "1": "yes", "false": "no", "0": "no"}
UNKNOWN: Final = Told("nothing_known", "no column that counts has a value")


class Contrast(NamedTuple):
    """How a segment differs from all rows in one encoded column.

    Attributes
    ----------
    z : float
        Of the mean, in standard deviations of all rows.
    name : str
        Of a part of the segment's name, such as ``high income`` or ``plan pro``.
    phrase : str
        With the values, such as ``income 84,000 (all: 52,000)``.
    """

    z: float
    name: str
    phrase: str


def contrasts(model: CentroidModel, encoding: TableEncoding) -> list[list[Contrast]]:
    """Return per cluster what sets it apart, the furthest from all rows first.

    A level counts where most of the segment's rows have it. Of a logarithmic number the
    middle is the geometric kind.
    """
    values, centres = model.in_units(), model.centres
    assert model.scaling is not None  # of every model that is learnt from a table
    average = model.scaling.in_units(np.zeros((1, model.n_features)))[0]
    found: list[list[Contrast]] = []
    for own, z in zip(values, centres, strict=True):
        place, told = 0, []
        for plan in encoding.columns:
            number = ("",) if plan.kind == "number" else ()
            for level in (*number, *plan.levels):
                value, of_all, apart = own[place], average[place], float(z[place])
                place += 1
                if not level:
                    column, is_low = _short(plan.name), apart <= 0
                    words = plan.words or (f"high {column}", f"low {column}")
                    figures = f"{rounded(value)} (all: {rounded(of_all)})"
                    name, said = words[is_low], f"{column} {figures}"
                    told.append(Contrast(apart, name, said))
                elif value >= MOST:
                    apart = (value - of_all) / np.sqrt(max(of_all * (1 - of_all), 1e-9))
                    figures = f"{share(value)} of rows (all: {share(of_all)})"
                    name = f"{_short(plan.name)} {_short(level_name(plan, level))}"
                    told.append(Contrast(apart, name, f"{name} in {figures}"))
        told = [one for one in told if abs(one.z) >= APART_Z]
        found.append(sorted(told, key=lambda one: (-round(abs(one.z), 6), one.name)))
    return found


def level_name(plan: ColumnPlan, level: str) -> str:
    """Return what people call a level: yes and no in a column of flags."""
    is_flag = set(plan.levels) <= {*YES_AND_NO, OTHER, MISSING}
    return YES_AND_NO.get(level, level) if is_flag else level


def _short(text: str) -> str:
    """Return a column or a level in one line that can be shown."""
    shown = "".join(c if c.isprintable() else " " for c in text)
    shown = " ".join(shown.split()) or "(no name)"
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 1]}…"


def name_segments(model: CentroidModel, encoding: TableEncoding) -> dict[int, Told]:
    """Return a name for every cluster, and what it rests on.

    The two columns that set it apart most, and more where another one has that name.
    """
    if model.n_segments == 1:
        return {0: Told("everyone", "there is one segment")}
    found: dict[int, Told] = {}
    for cluster, own in enumerate(contrasts(model, encoding)):
        taken = {one.name for one in found.values()}
        parts = [one.name for one in own]
        name = next(
            (
                name
                for n in range(min(N_NAMED, len(parts)), len(parts) + 1)
                if (name := ", ".join(parts[:n])) and name not in taken
            ),
            ", ".join(parts[:N_NAMED]) or "average",
        )
        why = "; ".join(one.phrase for one in own[:N_TOLD]) or "close to the mean row"
        found[cluster] = Told(name, why)
    return found
