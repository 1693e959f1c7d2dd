"""The contract: what segments must keep, for those who build on them.

A YAML file that is kept under version control beside whatever uses the segments::

    owner: Ana Lima
    expires: 2026-12-31
    must_survive: true
    defaults: {min_size: 50, min_stability: 0.6, share: [0.01, 0.6]}
    unassigned: {share: [0, 0.2]}
    segments:
      - {id: 0, name: Summer sellers, min_size: 400, share: [0.1, 0.3]}
      - {id: 3, owner: Raj Patel, expires: 2026-06-30}

The defaults hold for every segment, listed or not; what a listed one says of itself
goes before. `core.segments.contract_terms` lists the keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from core.segments.contract_file import read_contract
from core.segments.contract_terms import Contract, SegmentTerms, Terms
from core.segments.published import UNASSIGNED, SegmentTable

__all__ = [
    "Breach",
    "Contract",
    "SegmentFacts",
    "check_contract",
    "facts_of",
    "read_contract",
]

Rule = Literal["expiry", "survival", "name", "size", "stability", "share", "unassigned"]


@dataclass(frozen=True)
class SegmentFacts:
    """What a contract is held against.

    Attributes
    ----------
    id : int
        Permanent id, from 0.
    name : str
    size : int
        Members.
    share : float
        Of all, the unassigned included; 0 to 1.
    stability : float or None
        Clusterwise Jaccard index under refits; None where it was not measured.
    """

    id: int
    name: str
    size: int
    share: float
    stability: float | None = None


@dataclass(frozen=True)
class Breach:
    """One broken term.

    Attributes
    ----------
    rule : str
        ``expiry``, ``survival``, ``name``, ``size``, ``stability``, ``share`` or
        ``unassigned``.
    segment : int or None
        Its id; None where the whole contract, or the unassigned, are concerned.
    owner : str
        Who is to be asked.
    message : str
        What was found, what is agreed, and how to mend it, in words.
    """

    rule: Rule
    segment: int | None
    owner: str
    message: str


def facts_of(
    table: SegmentTable, stability: Mapping[int, float] | None = None
) -> list[SegmentFacts]:
    """Return what a contract is held against, of every segment of a table.

    Parameters
    ----------
    table : SegmentTable
        The unassigned are left out: see `SegmentTable.unassigned_share`.
    stability : mapping of int to float, optional
        Clusterwise Jaccard index by segment id, where it was measured.
    """
    known = stability or {}
    return [
        SegmentFacts(s.id, s.name, s.size, s.share, known.get(s.id))
        for s in table.segments
        if s.id != UNASSIGNED
    ]


def check_contract(
    contract: Contract,
    facts: Sequence[SegmentFacts],
    unassigned_share: float,
    today: date,
) -> list[Breach]:
    """Return every broken term, those of the whole contract first, then by segment id.

    Parameters
    ----------
    contract : Contract
    facts : sequence of SegmentFacts
        Every segment; see `facts_of`.
    unassigned_share : float
        Share that no segment holds, 0 to 1.
    today : date
        Given from outside, so that a check can be repeated.

    Notes
    -----
    A stability floor over a segment whose stability was not measured is a breach: a
    promise that nobody has looked at is not kept. An expired contract is one breach,
    and its terms are checked all the same.
    """
    found = {segment.id: segment for segment in facts}
    own = {terms.id: terms for terms in contract.segments}
    breaches = [
        *_expired(contract, None, today),
        *_unassigned(contract, unassigned_share),
    ]
    for i in sorted(found.keys() | own.keys()):
        terms = own.get(i, SegmentTerms(id=i))
        breaches += _expired(contract, terms, today)
        if i in found:
            breaches += _broken(contract, terms, found[i])
        elif contract.must_survive:
            breaches.append(_gone(contract, terms))
    return breaches


def _expired(
    contract: Contract, terms: SegmentTerms | None, today: date
) -> Iterator[Breach]:
    """Yield a breach where the contract, or a segment's own part of it, has run out."""
    expires = contract.expires if terms is None else terms.expires
    if expires is None or today <= expires:
        return
    owner = (terms.owner if terms is not None else None) or contract.owner
    what = "the contract" if terms is None else f"what is agreed on segment {terms.id}"
    yield Breach(
        "expiry",
        None if terms is None else terms.id,
        owner,
        f"{what} expired on {expires}, today is {today}. Ask {owner}, who owns it, to "
        "renew it, and set `expires` to a later day.",
    )


def _unassigned(contract: Contract, share: float) -> Iterator[Breach]:
    """Yield a breach where too many, or too few, are in no segment."""
    band = contract.unassigned.share
    if band is not None and not _is_within(share, band):
        yield Breach(
            "unassigned",
            None,
            contract.owner,
            f"{share:.2%} are unassigned; agreed are {_said(band)} (owner: "
            f"{contract.owner}).",
        )


def _gone(contract: Contract, terms: SegmentTerms) -> Breach:
    owner = terms.owner or contract.owner
    named = f" `{terms.name}`" if terms.name else ""
    return Breach(
        "survival",
        terms.id,
        owner,
        f"segment {terms.id}{named} is gone; the contract lists it and says "
        f"`must_survive`. Agree on its end with {owner} and take it out of the "
        "contract.",
    )


def _broken(
    contract: Contract, terms: SegmentTerms, found: SegmentFacts
) -> Iterator[Breach]:
    """Yield the broken terms of one segment that is there."""
    owner = terms.owner or contract.owner
    for rule, said in _findings(contract.defaults, terms, found):
        message = f"segment {found.id} `{found.name}` {said} (owner: {owner})."
        yield Breach(rule, found.id, owner, message)


def _findings(
    defaults: Terms, terms: SegmentTerms, found: SegmentFacts
) -> Iterator[tuple[Rule, str]]:
    """Yield rule and finding, in words, of every term that does not hold."""
    if terms.name is not None and terms.name != found.name:
        said = f"is agreed to be `{terms.name}`; rename it with `segments rename`, or"
        yield "name", f"{said} change `name` in the contract"
    held = _effective(defaults, terms)
    if held.min_size is not None and found.size < held.min_size:
        said = f"has {found.size:,} members; agreed are at least {held.min_size:,}"
        yield "size", said
    if held.share is not None and not _is_within(found.share, held.share):
        yield "share", f"holds {found.share:.2%}; agreed are {_said(held.share)}"
    floor, stability = held.min_stability, found.stability
    if floor is not None and stability is None:
        said = f"has no measured stability; agreed is at least {floor:g}."
        yield "stability", f"{said} Run `segments stability`"
    if floor is not None and stability is not None and stability < floor:
        said = f"comes back with a Jaccard index of {stability:.3f} when learnt anew"
        yield "stability", f"{said}; agreed is at least {floor:g}"


def _effective(defaults: Terms, terms: SegmentTerms) -> Terms:
    """Return a segment's own terms, and the defaults where it has none."""
    own = terms.model_dump(include=set(Terms.model_fields), exclude_none=True)
    return defaults.model_copy(update=own)


def _is_within(share: float, band: tuple[float, float]) -> bool:
    return band[0] <= share <= band[1]


def _said(band: tuple[float, float]) -> str:
    return f"{band[0]:.2%} to {band[1]:.2%}"
