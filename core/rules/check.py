"""The proof that every possible customer is in exactly one segment, or who is not.

Decided exactly (`core.rules.boxes`), missing values and text that no rule names
included. What is found comes with a customer who shows it and who meets what the rules
assume, with the whole region as a condition, and with what to change.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import yaml

from core.errors import PROGRAM, ConfigError, ContractError, listed
from core.rules.boxes import Box, Space
from core.rules.conditions import EVERYONE, Node, OneOf, Range, shown_name, shown_value
from core.rules.grammar import FIRST, RuleSet
from core.yaml_text import YamlDumper

SHOWN: Final = 10
"""How many gaps, and how many overlaps, are worked out."""


@dataclass(frozen=True)
class Finding:
    """Customers who are in no segment or in two, or a segment that nobody is in.

    Attributes
    ----------
    kind : {'gap', 'overlap', 'never'}
    segments : tuple of str
        None of a gap, two of an overlap, the one that never matches.
    customer : dict of feature to value, or None
        One such customer, who meets what is assumed; None is missing. None of a
        segment that nobody can be in.
    where : Node
        All such customers, as far as a box goes.
    advice : tuple of str
        What to add or to change, ready to paste.
    """

    kind: Literal["gap", "overlap", "never"]
    segments: tuple[str, ...]
    customer: dict[str, Any] | None
    where: Node
    advice: tuple[str, ...] = ()

    def text(self) -> str:
        """Return the finding in a line, its advice left out."""
        names = " and ".join(f"`{name}`" for name in self.segments)
        if self.kind == "never":
            return f"no customer can be in {names}"
        of = "no segment" if self.kind == "gap" else f"both {names}"
        who = self.where.text()
        return f"in {of}: {who if who == EVERYONE else f'every customer with {who}'}"


@dataclass(frozen=True)
class Proof:
    """What was found about a rule set.

    Attributes
    ----------
    rules : RuleSet
    findings : tuple of Finding
        Gaps, then overlaps, then segments that never match; up to `SHOWN` of the first
        two each.
    has_more : bool
        Whether there are gaps or overlaps beyond those in `findings`.
    """

    rules: RuleSet
    findings: tuple[Finding, ...]
    has_more: bool = False

    @property
    def is_proven(self) -> bool:
        """Whether every possible customer is in exactly one segment."""
        return all(finding.kind == "never" for finding in self.findings)

    @property
    def is_sound(self) -> bool:
        """Whether it is proven, and every segment can have customers.

        One that is cut at learnt numbers may be empty where customers tie.
        """
        learnt = {t.feature for t in self.rules.thresholds}
        return self.is_proven and not any(
            learnt.isdisjoint(leaf.feature for leaf in finding.where.leaves())
            for finding in self.findings
        )

    def lines(self) -> list[str]:
        """Return the outcome for people, one finding after another."""
        rules = self.rules
        counts = (
            f"{len(rules.segments):,} segments over {len(rules.features):,} features"
        )
        lines = [f"{rules.name}: {counts}."]
        for finding in self.findings:
            lines.append(f"- {finding.text()}.")
            if finding.customer is not None:
                lines.append(f"  For example: {shown_customer(finding.customer)}.")
            lines += [f"  {advice}" for advice in finding.advice]
        if self.has_more:
            lines.append("- There is more; mend these first.")
        if self.is_proven:
            where = "the first matching" if rules.match == FIRST else "exactly one"
            lines.append(f"Proven: every possible customer is in {where} segment.")
        else:
            lines.append("Not proven: see above.")
        if rules.unlearnt and self.is_proven:
            lines.append(
                f"Not learnt yet: {listed(rules.unlearnt)}. Taken as different numbers "
                "in the order of their quantiles; what is learnt is proven again."
            )
        return lines


def shown_customer(customer: Mapping[str, Any]) -> str:
    """Return a customer's values as a line."""
    return ", ".join(
        f"{shown_name(name)} {'missing' if value is None else shown_value(value)}"
        for name, value in customer.items()
    )


def check_rules(rules: RuleSet) -> Proof:
    """Prove that every possible customer is in exactly one segment, or show who is not.

    Parameters
    ----------
    rules : RuleSet
        Thresholds without a number are taken as different numbers in the order of
        their quantiles.

    Returns
    -------
    Proof

    Raises
    ------
    ConfigError
        If no customer meets what the rules assume, or a feature is compared with
        thresholds to be learnt and with numbers as well.
    """
    space = Space(_with_placeholders(rules))
    if space.any_of() is None:
        raise ConfigError(
            f"{rules.name}: no customer within the features' domains meets all of "
            "`assume`; correct one of its conditions."
        )
    gaps = list(_gaps(space))
    overlaps = [] if rules.match == FIRST else list(_overlaps(space))
    findings = (*gaps[:SHOWN], *overlaps[:SHOWN], *_never(space))
    return Proof(rules, findings, max(len(gaps), len(overlaps)) > SHOWN)


def require_proven(rules: RuleSet) -> RuleSet:
    """Return the rules, or refuse those that do not put everyone into one segment.

    Raises
    ------
    ContractError
        With the first finding and a customer.
    """
    proof = check_rules(rules)
    if proof.is_proven:
        return rules
    first = proof.findings[0]
    raise ContractError(
        f"{rules.name}: {first.text()}. For example: "
        f"{shown_customer(first.customer or {})}. `{PROGRAM} rules check` tells more."
    )


def _with_placeholders(rules: RuleSet) -> RuleSet:
    """Return rules whose thresholds have numbers, in order where not learnt yet.

    Features with such a threshold are taken as numbers with a fraction, since between
    two thresholds there may be a customer or none, and on each of them as well.
    """
    values: dict[str, float] = {}
    features = []
    for feature in rules.features:
        new = [t for t in rules.thresholds if t.feature == feature.name]
        new = [t for t in new if t.value is None]
        features.append(replace(feature, type="number") if new else feature)
        if not new:
            continue
        if _has_numbers(rules, feature.name) or len({t.among for t in new}) > 1:
            raise ConfigError(
                f"{rules.name}: `{feature.name}` is compared with thresholds that have "
                f"no number yet ({listed([t.name for t in new])}) and with others, so "
                "their order is not known. Learn them from a table first, or give each "
                "its `value`."
            )
        order = sorted({t.quantile for t in new})
        low = feature.low if math.isfinite(feature.low) else 0.0
        step = min((feature.high - low) / (len(order) + 1), 2.0)
        values |= {t.name: low + step * (order.index(t.quantile) + 1) for t in new}
    thresholds = [
        replace(t, value=values.get(t.name, t.value)) for t in rules.thresholds
    ]
    return replace(rules, features=tuple(features), thresholds=tuple(thresholds))


def _has_numbers(rules: RuleSet, feature: str) -> bool:
    """Whether a feature is compared with numbers, written or learnt."""
    bands = [band.when for band in rules.bands]
    for node in (*bands, *(s.when for s in rules.segments), *rules.assume):
        for leaf in rules.filled(node).leaves():
            if leaf.feature != feature:
                continue
            if isinstance(leaf, OneOf):
                return True
            if isinstance(leaf, Range) and any(
                math.isfinite(bound)
                for bound in (leaf.low, leaf.high)
                if not isinstance(bound, str)
            ):
                return True
    return False


def _gaps(space: Space) -> Iterator[Finding]:
    """Yield regions without a segment, the next one outside those before."""
    nobody = space.joined(map(space.opposite, space.segments))
    left = space.joined([nobody, space.assume])
    for _ in range(SHOWN + 1):
        box = next(space.boxes(left), None)
        if box is None:
            return
        hole = space.grown(box, nobody)
        where, advice = space.condition(hole), tuple(_closing(space, hole))
        yield Finding("gap", (), space.customer(box), where, advice)
        left = space.joined([left, space.opposite(space.inside(hole))])


def _closing(space: Space, hole: Box) -> Iterator[str]:
    """Yield what closes a gap: one comparison changed, or a new segment."""
    segments = {
        s.name: f for s, f in zip(space.rules.segments, space.segments, strict=True)
    }
    named = [(f"band `{name}`", f) for name, f in space.bands.items()]
    for name, formula in (*named, *((f"`{n}`", f) for n, f in segments.items())):
        own = space.as_box(formula)
        place = None if own is None else _only_difference(own, hole)
        if own is None or place is None or own[place] & hole[place]:
            continue
        after = own[place] | hole[place]
        others = [f for other, f in segments.items() if f"`{other}`" != name]
        if len(others) < len(segments) and not space.any_of(
            formula, *map(space.opposite, others)
        ):
            after = hole[place]  # the others hold everyone that it holds now
        elif len(list(space.runs(place, after))) > len(
            list(space.runs(place, own[place]))
        ):
            continue
        yield _change(space, name, place, own[place], after)
    written: dict[str, str] = {"name": "new segment"}
    around = space.whole
    for band, formula in space.bands.items():
        own = space.as_box(formula)
        if own is not None and all(not h & ~o for h, o in zip(hole, own, strict=True)):
            written["band"], around = band, own
    written["when"] = space.condition(hole, around).text()
    line = yaml.dump(
        written, Dumper=YamlDumper, default_flow_style=True, sort_keys=False,
        allow_unicode=True, width=math.inf,
    )  # fmt: skip
    yield f"Add `- {line.strip()}`."


def _overlaps(space: Space) -> Iterator[Finding]:
    """Yield pairs of segments that share a customer."""
    owners, pieces = [], []
    for number, formula in enumerate(space.segments):
        for piece in space.pieces(formula):
            owners.append(number)
            pieces.append(space.hull(piece))
    tried: set[tuple[int, int]] = set()
    bands_told: set[frozenset[str | None]] = set()
    n_found = 0
    for i, j in space.meeting(pieces):
        pair = first, second = owners[i], owners[j]
        # Of two bands one pair is told: it is the bands that overlap.
        bands = frozenset(space.rules.segments[n].band for n in pair)
        if first == second or pair in tried or bands in bands_told:
            continue
        tried.add(pair)
        box = space.any_of(space.segments[first], space.segments[second])
        if box is None:
            continue
        if len(bands) == 2:
            bands_told.add(bands)
        yield _overlap(space, first, second, box)
        n_found += 1
        if n_found > SHOWN:
            return


def _overlap(space: Space, first: int, second: int, box: Box) -> Finding:
    """Return what two segments share, and how one of them could leave it."""
    pair = [space.rules.segments[number] for number in (first, second)]
    ruled = {
        f"`{s.name}`": space.segments[i]
        for s, i in zip(pair, (first, second), strict=True)
    }
    if pair[0].band != pair[1].band and None not in (bands := [s.band for s in pair]):
        ruled = {f"band `{name}`": space.bands[str(name)] for name in bands}
    shared = space.grown(box, space.joined(ruled.values()))
    both = space.joined([space.segments[first], space.segments[second]])
    where, advice = space.condition(space.grown(box, both)), []
    for name, formula in ruled.items():
        own = space.as_box(formula)
        if own == shared:
            advice.append(f"Remove {name}, which is a part of the other.")
        elif own is not None and (place := _only_difference(shared, own)) is not None:
            mask = own[place] & ~shared[place]
            advice.append(_change(space, name, place, own[place], mask))
    if not advice:
        advice = [f"Add `and not ({where.text()})` to one of the two."]
    names = tuple(segment.name for segment in pair)
    return Finding("overlap", names, space.customer(box), where, tuple(advice))


def _never(space: Space) -> Iterator[Finding]:
    """Yield segments that no possible customer can be in."""
    for number, segment in enumerate(space.rules.segments):
        if space.any_of(space.exclusive(number)) is None:
            where = space.rules.condition(segment)
            yield Finding("never", (segment.name,), None, where)


def _only_difference(inner: Box, outer: Box) -> int | None:
    """Return the one feature in which two boxes differ."""
    places = [p for p, (i, o) in enumerate(zip(inner, outer, strict=True)) if i != o]
    return places[0] if len(places) == 1 else None


def _change(space: Space, name: str, place: int, before: int, after: int) -> str:
    """Return the advice to ask something else of one feature."""
    asked = space.asked(place, after).text()
    if before == space.whole[place]:
        return f"Change {name}: add `and {asked}`."
    if after == space.whole[place]:
        return f"Change {name}: leave out `{space.asked(place, before).text()}`."
    return f"Change {name}: `{space.asked(place, before).text()}` to `{asked}`."
