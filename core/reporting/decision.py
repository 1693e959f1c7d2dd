"""What a refresh found and decided, in words: for its page and for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypedDict

Decision = Literal["kept", "recommended", "published", "refused", "unchanged"]


class RefreshFacts(TypedDict):
    """What a refresh has to tell, as JSON-able values.

    Attributes
    ----------
    month : str
        YYYY-MM, the month that came.
    decision : {'kept', 'recommended', 'published', 'refused', 'unchanged'}
        ``kept``: nothing had to be done. ``recommended``: retraining is advised and
        was not asked for. ``published``: a new model passed the gate and serves.
        ``refused``: a new model failed, the one before goes on serving.
        ``unchanged``: the month had been taken in before, nothing was done.
    reason : str
        Why, as a sentence; may be empty.
    version, published : int, int or None
        The version that served when the month came, and the one published in it.
    n_assigned, n_unassigned, n_not_eligible : int
        Shops of the month with a segment, with none, and not eligible.
    n_moved, n_entered, n_left : int or None
        Shops whose confirmed segment changed in the month (model changes apart), that
        were not there the month before, and that are there no more; None in the first
        month of a ledger.
    state : {'steady', 'watching', 'recalibrate'}
        Of the trigger, after this month.
    alerts : list of str
        Of the drift, in words.
    events : list of dict
        `core.segments.identity.IdentityEvent.model_dump`, of the model published.
    gate : list of dict
        `core.evaluation.gate.GateRow` as dicts: ``check``, ``champion``,
        ``challenger``, ``needed`` (numbers, texts or None), ``is_passed``.
    breaches : list of str
        Of the contract, in words.
    names : dict of str to str
        Id, as text, to name: of every segment before and after.
    """

    month: str
    decision: Decision
    reason: str
    version: int
    published: int | None
    n_assigned: int
    n_unassigned: int
    n_not_eligible: int
    n_moved: int | None
    n_entered: int | None
    n_left: int | None
    state: str
    alerts: list[str]
    events: list[dict[str, Any]]
    gate: list[dict[str, Any]]
    breaches: list[str]
    names: Mapping[str, str]
