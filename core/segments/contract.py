"""The contract: what segments must keep, for those who build on them.

Nothing but plain values is read: a tag that would make an object is refused by YAML's
safe loader.

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
goes before. `core.segments.contract` lists the keys.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from string import ascii_lowercase
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from core.errors import PROGRAM, ConfigError, ContractError, did_you_mean, listed
from core.segments.naming import require_printable
from core.segments.published import UNASSIGNED, SegmentTable
from core.yaml_text import YamlDumper


def _ascending(band: tuple[float, float]) -> tuple[float, float]:
    if band[0] > band[1]:
        raise ValueError("the lower end comes first, as in `[0.1, 0.3]`")
    return band


_Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Band = Annotated[tuple[_Fraction, _Fraction], AfterValidator(_ascending)]
"""Smallest and largest share allowed, both included."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ContractTerms(_Part):
    """Terms for a segment; None demands nothing.

    Attributes
    ----------
    min_size : int or None
        Fewest members.
    min_stability : float or None
        Smallest Jaccard index with its best match when everything is learnt anew
        (`core.evaluation.stability.cluster_stability`), 0 to 1.
    share : (float, float) or None
        Smallest and largest share of all members, both included.
    """

    min_size: int | None = Field(None, ge=0)
    min_stability: float | None = Field(None, ge=0.0, le=1.0)
    share: Band | None = None


class SegmentTerms(ContractTerms):
    """Terms for one segment.

    Attributes
    ----------
    id : int or str
        Its permanent id; of a sub-segment with its letter, such as ``2a``.
    name : str or None
        The name it must have; None: any.
    owner : str or None
        Who is asked when it breaks; None: the contract's owner.
    expires : date or None
        Last day on which its terms hold; None: the contract's.
    """

    id: Annotated[int, Field(ge=0)] | Annotated[str, Field(pattern=r"^[0-9]+[a-z]+$")]
    name: Annotated[str, AfterValidator(require_printable)] | None = Field(
        None, min_length=1
    )
    owner: str | None = Field(None, min_length=1)
    expires: date | None = None


class UnassignedTerms(_Part):
    """Terms for the unassigned.

    Attributes
    ----------
    share : (float, float) or None
        Smallest and largest share of all, both included.
    """

    share: Band | None = None


class Contract(_Part):
    """The terms for all segments, their owner, and how long they hold.

    Attributes
    ----------
    owner : str
        Who is asked when it breaks.
    expires : date
        Last day on which the contract holds; from the next day on it is a breach that
        nobody has renewed it.
    must_survive : bool
        Whether a listed segment that is gone is a breach.
    defaults : Terms
        For every segment, as far as it has no terms of its own.
    unassigned : UnassignedTerms
    segments : tuple of SegmentTerms
        Each id at most once.
    """

    owner: str = Field(min_length=1)
    expires: date
    must_survive: bool = True
    defaults: ContractTerms = ContractTerms()
    unassigned: UnassignedTerms = UnassignedTerms()
    segments: tuple[SegmentTerms, ...] = ()

    @model_validator(mode="after")
    def _lists_each_once(self) -> Self:
        ids = [terms.id for terms in self.segments]
        twice = sorted({str(i) for i in ids if ids.count(i) > 1})
        if twice:
            raise ValueError(f"segment {listed(twice)} is listed more than once")
        return self


_HEADER = f"""\
# What these segments must keep. Checked by `{PROGRAM} contract check`, and by
# `{PROGRAM} refresh` before a new model is published (`refresh.contract`).
# Every number is yours to change; leave a key out to demand nothing.
"""


def read_contract(path: str | Path) -> Contract:
    """Read a contract.

    Parameters
    ----------
    path : path
        A YAML file, UTF-8.

    Raises
    ------
    ConfigError
        If the file is missing, not YAML, or holds an unknown, repeated, missing or
        impossible key; the message names file, line and key.
    """
    file = Path(path)
    try:
        root = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except FileNotFoundError:
        raise ConfigError(
            f"contract file `{file}` does not exist. Write one with "
            f"`{PROGRAM} contract draft`."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"contract file `{file}`: {error}.") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"contract file `{file}` is not YAML: {error}") from None
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(
            f"contract file `{file}` holds no keys; expected `owner`, `expires` and "
            f"what segments must keep. `{PROGRAM} contract draft` writes one."
        )
    faults = [f"{file}, line {line}: {said}" for line, said in _repeated(root)]
    if faults:
        raise ConfigError("\n".join(faults))
    try:
        values = yaml.SafeLoader("").construct_document(root)
        return Contract.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explained(error, file, root)) from None
    except (yaml.YAMLError, ValueError) as error:  # a day such as 2026-02-30
        raise ConfigError(f"contract file `{file}` is not YAML: {error}") from None


def contract_text(contract: Contract) -> str:
    """Return a contract as YAML; `read_contract` reads the same one from it."""
    values = _plain(contract.model_dump(exclude_none=True))
    return _HEADER + yaml.dump(
        values, Dumper=_Dumper, sort_keys=False, allow_unicode=True
    )


class _Dumper(YamlDumper):
    """Writes bands and other short lists on one line."""


def _represent_list(dumper: yaml.SafeDumper, value: list[Any]) -> yaml.Node:
    is_flat = all(not isinstance(item, dict) for item in value)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=is_flat)


_Dumper.add_representer(list, _represent_list)


def _plain(value: Any) -> Any:
    """Leave out what is empty, name what is told of first, make tuples lists."""
    if isinstance(value, dict):
        first = {key: value[key] for key in ("id", "name") if key in value}
        inner = {key: _plain(item) for key, item in (first | value).items()}
        return {key: item for key, item in inner.items() if item not in ({}, [])}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _repeated(root: yaml.Node) -> Iterator[tuple[int, str]]:
    """Yield line and finding of every key that one mapping has twice.

    YAML takes the last one without a word.
    """
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop(0)
        if id(node) in seen:  # an alias of what was looked at, perhaps of its parent
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            first: dict[str, int] = {}
            for key, value in node.value:
                line = key.start_mark.line + 1
                if str(key.value) in first:
                    other = first[str(key.value)]
                    yield line, f"key `{key.value}` is also on line {other}."
                first.setdefault(str(key.value), line)
                waiting.append(value)


def _explained(error: ValidationError, file: Path, root: yaml.Node) -> str:
    """Turn pydantic's findings into one line each, with file, line and key."""
    lines = []
    for item in error.errors():
        loc = item["loc"]
        key = ".".join(str(part) for part in loc)
        where = f"{file}, line {_line(root, loc)}"
        if item["type"] == "extra_forbidden":
            hint = did_you_mean(str(loc[-1]), _model_at(loc).model_fields)
            lines.append(f"{where}: unknown key `{key}`.{hint}")
        elif item["type"] == "missing":
            lines.append(f"{where}: `{key}` is missing. Add it.")
        else:
            said = item["msg"].removeprefix("Value error, ")
            named = f"`{key}` is {item['input']!r}: " if loc else ""
            lines.append(f"{where}: {named}{said[0].lower()}{said[1:]}.")
    return "\n".join(lines)


def _line(node: yaml.Node, loc: Sequence[int | str]) -> int:
    """Return the line, from 1, of what lies deepest on a path of keys and places."""
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            inner = next((v for k, v in node.value if k.value == str(part)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            inner = node.value[part] if part < len(node.value) else None
        else:
            inner = None
        if inner is None:
            break
        node = inner
    return int(node.start_mark.line) + 1


def _model_at(loc: Sequence[int | str]) -> type[BaseModel]:
    """Return the model that a faulty key belongs to."""
    models: dict[str, type[BaseModel]] = {
        "segments": SegmentTerms,
        "defaults": ContractTerms,
        "unassigned": UnassignedTerms,
    }
    return models.get(str(loc[0]), Contract) if len(loc) > 1 else Contract


Rule = Literal["expiry", "survival", "name", "size", "stability", "share", "unassigned"]


@dataclass(frozen=True)
class SegmentFacts:
    """Facts of a segment that a contract is checked against.

    Attributes
    ----------
    id : int or str
        Permanent id, from 0; of a sub-segment with its letter.
    name : str
    size : int
        Members.
    share : float
        Of all, the unassigned included; 0 to 1.
    stability : float or None
        Clusterwise Jaccard index under refits; None where it was not measured.
    """

    id: int | str
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
    segment : int, str or None
        Its id; None where the whole contract, or the unassigned, are concerned.
    owner : str
        Who is to be asked.
    message : str
        What was found, what is agreed, and how to mend it, in words.
    """

    rule: Rule
    segment: int | str | None
    owner: str
    message: str


def contract_facts(
    table: SegmentTable, stability: Mapping[int, float] | None = None
) -> list[SegmentFacts]:
    """Return the facts of every segment that a contract is checked against.

    Parameters
    ----------
    table : SegmentTable
        Its sub-segments come last. The unassigned are left out: see
        `SegmentTable.unassigned_share`.
    stability : mapping of int to float, optional
        Clusterwise Jaccard index by segment id, where it was measured.
    """
    known = stability or {}
    return [
        SegmentFacts(s.id, s.name, s.size, s.share, known.get(s.id))
        for s in table.segments
        if s.id != UNASSIGNED
    ] + [SegmentFacts(p.id, p.name, p.size, p.share) for p in table.parts.values()]


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
        Every segment; see `contract_facts`.
    unassigned_share : float
        Share that no segment holds, 0 to 1.
    today : date
        Given from outside, so that a check can be repeated.

    Notes
    -----
    A sub-segment is held to its own terms alone, where the contract lists it.

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
    held = own.keys() | {i for i in found if isinstance(i, int)}
    for i in sorted(held, key=_place):
        terms = own.get(i, SegmentTerms(id=i))
        breaches += _expired(contract, terms, today)
        if i in found:
            breaches += _broken(contract, terms, found[i])
        elif contract.must_survive:
            breaches.append(_gone(contract, terms))
    return breaches


def _place(segment: int | str) -> tuple[int, str]:
    """Return the place of an id: sub-segments after their segment."""
    return int(str(segment).rstrip(ascii_lowercase)), str(segment)


def require_kept(breaches: Sequence[Breach], segments: str) -> None:
    """Refuse segments that break their contract.

    Parameters
    ----------
    breaches : sequence of Breach
        Of `check_contract`.
    segments : str
        What the message calls the segments.

    Raises
    ------
    ContractError
        With a line for every broken term.
    """
    if breaches:
        n = len(breaches)
        told = "\n".join(f"- {breach.message}" for breach in breaches)
        places = f"{n} {'place' if n == 1 else 'places'}"
        raise ContractError(f"{segments} break their contract in {places}:\n{told}")


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
    is_part = isinstance(found.id, str)
    defaults = ContractTerms() if is_part else contract.defaults
    for rule, said in _findings(defaults, terms, found):
        message = f"segment {found.id} `{found.name}` {said} (owner: {owner})."
        yield Breach(rule, found.id, owner, message)


def _findings(
    defaults: ContractTerms, terms: SegmentTerms, found: SegmentFacts
) -> Iterator[tuple[Rule, str]]:
    """Yield rule and finding, in words, of every term that does not hold."""
    if terms.name is not None and terms.name != found.name:
        said = f"is agreed to be `{terms.name}`; rename it with `{PROGRAM} rename`, or"
        yield "name", f"{said} change `name` in the contract"
    held = _effective(defaults, terms)
    if held.min_size is not None and found.size < held.min_size:
        said = f"has {found.size:,} members; expected at least {held.min_size:,}"
        yield "size", said
    if held.share is not None and not _is_within(found.share, held.share):
        yield "share", f"holds {found.share:.2%}; expected {_said(held.share)}"
    floor, stability = held.min_stability, found.stability
    if floor is not None and stability is None:
        said = f"has no measured stability; agreed is at least {floor:g}."
        yield "stability", f"{said} Run `{PROGRAM} stability`"
    if floor is not None and stability is not None and stability < floor:
        said = f"comes back with a Jaccard index of {stability:.3f} when refitted"
        yield "stability", f"{said}; agreed is at least {floor:g}"


def _effective(defaults: ContractTerms, terms: SegmentTerms) -> ContractTerms:
    """Return a segment's own terms, and the defaults where it has none."""
    own = terms.model_dump(include=set(ContractTerms.model_fields), exclude_none=True)
    return defaults.model_copy(update=own)


def _is_within(share: float, band: tuple[float, float]) -> bool:
    return band[0] <= share <= band[1]


def _said(band: tuple[float, float]) -> str:
    return f"{band[0]:.2%} to {band[1]:.2%}"


_POINTS = 0.05
_LEAST_STABLE = 0.6


def draft_contract(
    facts: Sequence[SegmentFacts], unassigned_share: float, owner: str, expires: date
) -> Contract:
    """Return a contract with bands around what is, to be edited by those who sign it.

    Of each segment: at least half its members; a share between half and one and a half
    times its own, but at least 5 points to either side; where stability was measured,
    at least 0.6 (Hennig, 2007: below it a segment dissolves), or 0.1 less than what was
    measured where that is not reached now. The unassigned: up to twice their share,
    at least 5 points more. Sub-segments are not drafted: add those you act on.
    `check_contract` finds nothing on the same facts up to `expires`.

    Parameters
    ----------
    facts, unassigned_share
        As for `check_contract`.
    owner : str
        Who answers for it.
    expires : date
        Its last day.
    """
    wholes = [segment for segment in facts if isinstance(segment.id, int)]
    return Contract(
        owner=owner,
        expires=expires,
        unassigned=UnassignedTerms(
            share=(0.0, _up(max(2 * unassigned_share, unassigned_share + _POINTS)))
        ),
        segments=tuple(
            SegmentTerms(
                id=segment.id,
                name=segment.name,
                min_size=segment.size // 2,
                min_stability=_drafted_floor(segment.stability),
                share=_around(segment.share),
            )
            for segment in sorted(wholes, key=lambda segment: _place(segment.id))
        ),
    )


def _around(share: float) -> tuple[float, float]:
    half = max(share / 2, _POINTS)
    return max(0.0, math.floor(100 * (share - half)) / 100), _up(share + half)


def _up(share: float) -> float:
    # 0.61 is 61 points, though 100 * (0.4 + 0.2 + 0.01) is a little more.
    return min(1.0, math.ceil(round(100 * share, 6)) / 100)


def _drafted_floor(stability: float | None) -> float | None:
    if stability is None or stability >= _LEAST_STABLE:
        return None if stability is None else _LEAST_STABLE
    return max(0.0, math.floor(100 * (stability - 0.1)) / 100)
