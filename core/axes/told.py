"""The axes in words: what sets their segments apart, and what to do."""

from __future__ import annotations

import fnmatch
import re
from typing import Final

import numpy as np
import polars as pl

from core.axes.features.catalog import AXES, CHANNEL_SHARE
from core.axes.names import ALIKE_Z
from core.lifecycle.told import Words, board_axes, placed
from core.models.centroids import NOWHERE, CentroidModel, FloatArray
from core.reporting.board import BoardAxis, BoardSegment
from core.reporting.playbook import MetricWords, Play, Playbook, phrase
from core.reporting.text import spoken
from core.segments.axes import AxesModel, AxisSegment, FittedAxis

APART_Z: Final = 0.25
"""Standard deviations from the average customer below which a feature sets no segment
apart."""
N_TOLD: Final = 2
"""Features that a segment is told by."""
FEW: Final = 4
"""Two segments are much alike where they differ (`ALIKE_Z`) in one feature, or in at
most one of so many."""
STEP: Final = 0.05
"""Shares that are told apart in what stands out."""
_FEATURE = re.compile(r"`([^`]+)`")
AVERAGE: Final = "close to the average customer"


def told_axes(
    model: AxesModel, profiles: pl.DataFrame, playbook: Playbook[Play]
) -> list[BoardAxis]:
    """Return every axis that was not skipped, with its segments in words.

    Parameters
    ----------
    model : AxesModel
    profiles : DataFrame
        Of `core.segments.memberships.customer_profiles`.
    playbook : Playbook
        Its metrics are the words for features; its segments are called as
        ``purchase_value.whale``.

    Returns
    -------
    list of BoardAxis
        See `core.lifecycle.told.board_axes`.
    """
    described = {axis.name: axis.description for axis in AXES}
    words = Words(
        head=lambda axis: (spoken(axis.axis).capitalize(), described[axis.axis]),
        apart=lambda axis, segment: apart(axis, segment, playbook),
        actions=lambda axis, segment: _actions(axis, segment, playbook),
    )
    return board_axes(model, profiles, words)


def _actions(
    axis: FittedAxis, segment: AxisSegment, playbook: Playbook[Play]
) -> list[str]:
    """Return suggestions; none for who is not placed, and on an undivided axis."""
    if segment.id == NOWHERE or segment.kind == "single":
        return []
    names = _play_names(axis.axis, segment.rule_name, playbook)
    return list(playbook.play(*names).actions)


def _play_names(axis: str, rule_name: str, playbook: Playbook[Play]) -> list[str]:
    """Return the keys of the playbook that fit a segment, the most exact first.

    A name with a feature added has the entry of the name without, and ``*_preferred``
    is of all channels.
    """
    name = f"{axis}.{rule_name}"
    fitting = [
        key
        for key in playbook.segments
        if fnmatch.fnmatchcase(name, key) or fnmatch.fnmatchcase(name, f"{key}_*")
    ]
    return sorted(fitting, key=lambda key: ("*" in key, -len(key)))


def apart(
    axis: FittedAxis, segment: AxisSegment, playbook: Playbook[Play]
) -> list[str]:
    """Return what sets a segment of an axis apart from the average customer.

    Parameters
    ----------
    axis : FittedAxis
    segment : AxisSegment
    playbook : Playbook
        Features without ``says`` are not told.

    Returns
    -------
    list of str
        At most `N_TOLD` phrases, such as ``1.2 orders a month (all: 0.37)``: what the
        name rests on first, then the furthest from the average. Then, where another
        segment is much alike, in what the two differ.
    """
    if segment.id == NOWHERE:
        return ["a value that the axis needs is not known"]
    assert axis.model is not None
    values, of_all = in_units(axis.model)
    words = [metric_words(name, playbook) for name in axis.features]
    z = axis.model.centres[segment.cluster]
    named = set(_FEATURE.findall(segment.why))
    is_named = [name in named for name in axis.features]
    order = sorted(
        range(len(z)), key=lambda i: (not is_named[i], -round(abs(float(z[i])), 6), i)
    )
    told = [
        phrase(words[i], float(values[segment.cluster, i]), float(of_all[i]))
        for i in order
        if words[i].says
        and (is_named[i] or abs(z[i]) >= APART_Z)
        and not _follows(axis, i, z)
    ]
    like = _much_alike(axis, segment, words)
    return [*(told[:N_TOLD] or [AVERAGE]), *like]


def in_units(model: CentroidModel) -> tuple[FloatArray, FloatArray]:
    """Return the centres, and the average customer, in the features' own units.

    Shapes (n_segments, n_features) and (n_features,). What is 0 but for the last digits
    of a scaling is 0.
    """
    average = np.zeros((1, model.n_features))
    if model.scaling is not None:
        average = model.scaling.in_units(average)
    return np.round(model.in_units(), 9) + 0.0, np.round(average[0], 9) + 0.0


def _follows(axis: FittedAxis, place: int, z: FloatArray) -> bool:
    """Return whether a low share of a channel follows from a high one of another."""
    return axis.features[place].startswith(f"{CHANNEL_SHARE}_") and z[place] < 0


def metric_words(name: str, playbook: Playbook[Play]) -> MetricWords:
    """Return how a feature is spoken of; ``channel_share_*`` is that of all channels.

    >>> from core.lifecycle.playbook import system_playbook
    >>> metric_words("channel_share_web", system_playbook(None, "axes")).says
    '{} of orders through web'
    """
    known = playbook.metrics.get(name)
    if known is not None:
        return known
    if name.startswith(f"{CHANNEL_SHARE}_"):
        channel = spoken(name.removeprefix(f"{CHANNEL_SHARE}_")).replace("{}", "")
        return MetricWords(
            words=f"share of orders through {channel}",
            says=f"{{}} of orders through {channel}",
            form="percent",
        )
    return MetricWords(words=spoken(name))


def _much_alike(
    axis: FittedAxis, segment: AxisSegment, words: list[MetricWords]
) -> list[str]:
    """Return in what a segment differs from another one that is nearly the same."""
    assert axis.model is not None
    centres, (values, _) = axis.model.centres, in_units(axis.model)
    differs = np.abs(centres - centres[segment.cluster]) >= ALIKE_Z
    n_apart = differs.sum(axis=1)
    n_apart[segment.cluster] = differs.shape[1] + 1
    nearest = int(np.argmin(n_apart))
    if not 0 < n_apart[nearest] <= max(1, len(words) // FEW):
        return []
    called = {s.cluster: spoken(s.name) for s in axis.segments}
    return [
        f"much like {called[nearest]}; differs in {words[i].words} "
        f"({words[i].value(float(values[segment.cluster, i]))}; there "
        f"{words[i].value(float(values[nearest, i]))})"
        for i in np.flatnonzero(differs[nearest])
    ]


def overview(axis: BoardAxis) -> BoardSegment:
    """Return the segment to look at first.

    Its share of the value is furthest from its share of the customers, in steps of
    `STEP`; of equal ones, and where no values are known, it is the smallest.
    """

    def gap(segment: BoardSegment) -> int:
        if segment.value_share is None:
            return 0
        return int(abs(segment.value_share - segment.share) / STEP)

    return min(placed(axis), key=lambda s: (-gap(s), s.n))
