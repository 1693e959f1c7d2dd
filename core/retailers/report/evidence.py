"""What a set of artifacts holds for the report, and the verdict in words.

A run alone leaves little of it; every verb that judges the model adds its part. What
judged segments of the kind that is not published (any more) is no evidence.

There is one verdict. It is derived elsewhere, published in ``segments.json``, and only
put into words here, for the report and for what a run says when it is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import polars as pl

from core.artifacts.folder import StageWriter
from core.artifacts.manifest import Manifest
from core.reporting.text import (
    caution,
    command,
    count,
    decimal,
    difference,
    finding,
    listed,
    percent,
    plural,
    probability,
)
from core.segments.published import UNASSIGNED, PublishedSegments


@dataclass(frozen=True)
class Evidence:
    """Everything known of one model.

    Attributes
    ----------
    manifest : Manifest
        Of the set that a stage builds on.
    facts : mapping
        Of ``inference``, those included that the stage is about to write.
    published : PublishedSegments
    folder : Path
        The artifacts folder, as commands are to name it.
    """

    manifest: Manifest
    facts: Mapping[str, Any]
    published: PublishedSegments
    folder: Path
    _new: Path
    _old: Path

    @classmethod
    def of(cls, out: StageWriter, published: PublishedSegments) -> Evidence:
        """Collect what a stage builds on and what it has written so far."""
        assert out.base is not None  # something was published before
        stage = out.base.manifest.stages.get("inference")
        before = stage.facts if stage is not None else {}
        return cls(
            manifest=out.base.manifest,
            facts=before | out.facts,
            published=published,
            folder=out.root,
            _new=out.folder,
            _old=out.base.folder,
        )

    def file(self, name: str) -> Path | None:
        """Return the path of a file; None if there is none (any more)."""
        if (self._new / name).is_file():
            return self._new / name
        is_old = name in self.manifest.files and (self._old / name).is_file()
        return self._old / name if is_old else None

    def table(self, name: str, **types: Any) -> pl.DataFrame | None:
        """Return a CSV file's table; None if there is no such file."""
        path = self.file(name)
        if path is None:
            return None
        return pl.read_csv(path, infer_schema_length=None, schema_overrides=types)

    def judged(self, name: str) -> Mapping[str, Any] | None:
        """Return facts of a verb, if they tell of the published kind of segments."""
        facts: Mapping[str, Any] | None = self.facts.get(name)
        kinds = {
            "profiles": ("segment_kind", self.published.kind),
            "scorecard": ("labels", _LABELS[self.published.kind]),
            "stability": ("kind", self.published.kind),
        }
        if facts is None or name not in kinds:
            return facts
        key, expected = kinds[name]
        return facts if facts[key] == expected else None

    @property
    def check(self) -> Mapping[str, Any] | None:
        """The comparison with data without structure that the verdict rests on."""
        if self.published.verdict["is_certified"]:
            certificate = self.facts.get("certificate")
            return None if certificate is None else dict(certificate["structure"])
        check: Mapping[str, Any] = self.manifest.facts("clustering")["structure_check"]
        return check

    @property
    def titles(self) -> dict[int, str]:
        """Number and name of every published segment, without the unassigned."""
        segments = self.published.segments
        return {s.id: f"{s.id} {s.name}" for s in segments if s.id != UNASSIGNED}

    def command(self, verb: str) -> str:
        """Return the command that runs a verb on these artifacts."""
        return command(verb, str(self.folder))


_LABELS = {"density": "latent", "partition": "partition"}


Figures = Mapping[str, Any]

_SIGNIFICANCE = 0.05
_HEADLINES = {
    "reproducible": "No separate groups, but {segments} that come out again",
    "constructive": "No separate groups: {segments} as a convenient cut",
}
_ADVICE = {
    "natural": "Work with them as groups of customers: an assortment, a rhythm of "
    "visits and offers for each, and the general plan for shops that no segment holds. "
    "That acting on them pays is not shown here: try it on some shops first.",
    "reproducible": "Use them as a map whose borders are drawn by convention. A shop "
    "near a border is nearly as much at home next door (`nearest_segment` and "
    "`distance` in `cluster_predictions.csv`), so a shop that changes its segment need "
    "not have changed itself.",
    "constructive": "Simple rules are recommended, on volume, trend and season, say: "
    "where no cut is better founded than another, take one that everyone understands. "
    "Another sample of the shops may well be cut elsewhere, so build nothing that "
    "lasts on single segments.",
}


@dataclass(frozen=True)
class Opening:
    """The verdict in words.

    Attributes
    ----------
    kind : str
        ``natural``, ``reproducible`` or ``constructive``.
    badge : str
        The kind, and how sure it is.
    headline : str
    meaning : str
        What the kind means, as one sentence.
    found : str
        How the segments divide the shops.
    rests_on : tuple of str
        The evidence, a sentence each.
    caution : str
        Where the segments divide little; else empty.
    advice : str
        What to do with them.
    """

    kind: str
    badge: str
    headline: str
    meaning: str
    found: str
    rests_on: tuple[str, ...]
    caution: str
    advice: str

    @property
    def lines(self) -> list[str]:
        """The same, as short as a terminal wants it."""
        lines = [f"Verdict: {self.badge}: {self.meaning}.", self.found]
        return [*lines, self.caution] if self.caution else lines


def opening(
    verdict: Figures,
    meaning: str,
    summary: Figures,
    check: Figures | None = None,
    titles: Mapping[int, str] = MappingProxyType({}),
    certify_command: str = "segments certify",
) -> Opening:
    """Put a verdict into words.

    Parameters
    ----------
    verdict : mapping
        `core.evaluation.certificate.Verdict.as_dict`.
    meaning : str
        What its kind means: `core.evaluation.certificate.Verdict.meaning`.
    summary : mapping
        `core.evaluation.quality.LabelSummary` of the published segments, as a dict.
    check : mapping, optional
        The comparison with data without structure that the verdict rests on: the quick
        one or the certificate's, as a dict.
    titles : mapping of int to str
        The published segments' titles.
    certify_command : str
        What makes a provisional verdict a certified one.
    """
    kind, is_certified = verdict["kind"], verdict["is_certified"]
    standing = "certified" if is_certified else "provisional"
    segment_kind = "density" if kind == "natural" else "partition"
    alone = _standing_alone(check) if kind == "natural" else {}
    rests_on = [] if check is None else [_nulls(check, is_certified)]
    rests_on += _one_by_one(alone, titles) + _refits(verdict)
    if not is_certified:
        rests_on.append(
            "Provisional: the quick check looks at principal components, not at the "
            f"model. `{certify_command}` puts the whole model to the test."
        )
    return Opening(
        kind=kind,
        badge=f"{kind.capitalize()} ({standing})",
        headline=_headline(kind, is_certified, summary["n_clusters"], alone),
        meaning=meaning,
        found=finding(summary, segment_kind),
        rests_on=tuple(rests_on),
        caution=caution(summary),
        advice=_ADVICE[kind],
    )


def tiles(summary: Figures, kind: str) -> list[tuple[str, str]]:
    """Return the figures beside the verdict, none without its companions."""
    shown = [
        ("eligible shops", count(summary["n_shops"])),
        ("segments", count(summary["n_clusters"])),
        ("effective segments", decimal(summary["effective_clusters"])),
        ("largest share", percent(summary["largest_share"])),
    ]
    if kind == "density":
        shown.append(("unassigned", percent(summary["noise_ratio"])))
    return shown


def null_strip(check: Figures | None) -> dict[str, Any] | None:
    """Place the structure scores of data and nulls on one axis from 0 to 100."""
    if check is None:
        return None
    top = max(check["statistic"], *check["null_statistics"], 0.5)
    return {
        "nulls": [round(100 * score / top, 2) for score in check["null_statistics"]],
        "data": round(100 * check["statistic"] / top, 2),
        "top": top,
    }


def _headline(
    kind: str, is_certified: bool, n_segments: int, alone: Mapping[int, bool]
) -> str:
    segments = plural(n_segments, "segment")
    if kind == "natural":
        n, n_alone = count(n_segments), sum(alone.values())
        if n_alone < len(alone):
            return f"{n} groups of shops, {n_alone} of which stand out one by one"
        sure = "" if is_certified else ", as far as a quick check can tell"
        return f"{n} groups of shops that stand apart{sure}"
    return _HEADLINES[kind].format(segments=segments)


def _standing_alone(check: Figures | None) -> dict[int, bool]:
    """Return which segments stand out from nulls by themselves, where it was tested.

    Certificates from before ids were permanent name clusters, which then were the ids.
    """
    tested = [] if check is None else check.get("segments", [])
    return {
        row.get("segment", row["cluster"]): row["p_value"] <= _SIGNIFICANCE
        for row in tested
    }


def _one_by_one(alone: Mapping[int, bool], titles: Mapping[int, str]) -> list[str]:
    """Say which segments stand out from data without groups by themselves."""
    weak = [titles.get(n, str(n)) for n, is_clear in alone.items() if not is_clear]
    if not alone:
        return []
    if not weak:
        return ["Every one of them stands out from the best cluster of any such data."]
    verb, them = ("does", "it") if len(weak) == 1 else ("do", "those")
    return [
        f"One by one, {sum(alone.values())} of {len(alone)} stand out from the best "
        f"cluster of any such data; {listed(weak)} {verb} not: hold {them} more "
        "lightly."
    ]


def _nulls(check: Figures, is_certified: bool) -> str:
    """Set the data's structure score beside those of data without structure."""
    nulls = check["null_statistics"]
    way = "In a quick check"
    if is_certified:
        way = "With everything learnt anew on each, the autoencoder included"
    close = ""
    if not check["is_structured"]:
        close = ": no more than chance gives"
        if check["excess"] > 0:
            close = (
                f": a lead of {decimal(check['excess'])}, where "
                f"{decimal(check['required_excess'])} is asked for"
            )
    n_nulls = f"{len(nulls)} made-up data sets"
    if check.get("is_stopped_early"):
        n_nulls += " (more could not have changed the answer)"
    return (
        f"{way}, {n_nulls}, which keep every feature's "
        f"distribution and the correlations but hold no groups, reach a structure "
        f"score of {decimal(max(nulls))} at most; these shops reach "
        f"{decimal(check['statistic'])} ({probability(check['p_value'], len(nulls))})"
        f"{close}."
    )


def _refits(verdict: Figures) -> list[str]:
    """Say whether the published segments come out again, as far as it was measured."""
    basis = verdict["basis"]
    jaccard, ari = basis.get("cluster_jaccard"), basis.get("partition_ari")
    if verdict["kind"] == "natural":
        if jaccard is None:
            return []
        dissolved = basis["dissolved_jaccard"]
        return [
            "Learnt anew on other samples of the shops, the segments come back with "
            f"{percent(jaccard)} of their shops in common on average (Jaccard; 85% and "
            f"more is highly stable, {dissolved:.0%} and less is dissolved)."
        ]
    said = []
    if basis.get("is_structured"):
        said.append(_why_not_natural(basis))
    if ari is None:
        said.append("Whether the segments come out again was not measured.")
    else:
        bound = decimal(basis.get("reproducible_ari"))
        said.append(
            "Learnt anew on four fifths of the shops, the segments agree with these "
            f"at {decimal(ari)} (adjusted Rand index: 1 is the same, 0 is chance; "
            f"reproducible from {bound} on)."
        )
    return said


def _why_not_natural(basis: Figures) -> str:
    """Say why there is structure and yet no natural segments."""
    n = basis.get("n_clusters", 0)
    if n < 2:
        return (
            f"So there is density structure, but the latent space shows "
            f"{plural(n, 'cluster')} of it, which tells no groups apart."
        )
    return (
        f"So there is density structure, but the {n} latent clusters at hand did not "
        "come back when everything was learnt anew (on average "
        f"{percent(basis.get('cluster_jaccard'))} of the shops in common; "
        f"{basis['dissolved_jaccard']:.0%} and less is dissolved), so they "
        "are not published."
    )


def eligibility_line(facts: Mapping[str, Any]) -> str:
    """Say how many shops are eligible, and why the others are not."""
    reasons = "; ".join(f"{n:,} {reason}" for reason, n in facts["exclusions"].items())
    line = f"{facts['n_eligible']:,} of {facts['n_shops']:,} shops are eligible"
    return f"{line} ({reasons})." if reasons else f"{line}."


def space_lines(spaces: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return one line per space; a noise ratio never stands alone."""
    lines = []
    for name, s in spaces.items():
        if s["n_clusters"] == 0:
            lines.append(f"{name} space: no cluster; every shop is noise.")
            continue
        lines.append(
            f"{name} space: {s['n_clusters']} clusters, effectively "
            f"{s['effective_clusters']:.1f}, the largest with {s['largest_share']:.0%} "
            f"of the clustered shops; {s['noise_ratio']:.1%} noise."
        )
    return lines


def closing_table(spaces: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return the closing table: a row per space, the noise with its companions."""
    return [
        {
            "space": name,
            "shops": f"{s['n_shops']:,}",
            "clusters": str(s["n_clusters"]),
            "effective clusters": f"{s['effective_clusters']:.2f}",
            "largest share": f"{s['largest_share']:.1%}" if s["n_clusters"] else "-",
            "noise": f"{s['noise_ratio']:.1%}",
        }
        for name, s in spaces.items()
    ]


def inference_lines(facts: Mapping[str, Any], folder: Path) -> list[str]:
    """Say how many shops were labelled and where to look."""
    line = f"{facts['labelled']:,} shops labelled"
    if facts["not_eligible"]:
        line += f", {facts['not_eligible']:,} listed with the reason why not"
    return [f"{line}: {folder / 'cluster_predictions.csv'}"]


def stability_lines(stability: Mapping[str, Any]) -> list[str]:
    """Say how far refits agree, with and without noise."""
    clustered = stability["ari_clustered"]
    without = "none were clustered twice" if clustered is None else f"{clustered:.2f}"
    return [
        f"{stability['n_refits']} refits of everything ({stability['how']}) agree with "
        f"the model: ARI {stability['ari']:.2f}, AMI {stability['ami']:.2f} with noise "
        f"as a group; ARI {without} over shops that both put into a cluster.",
        "Noise agrees with noise and a convenient cut can come back, too: read this "
        "beside the report's verdict.",
    ]


def stability_table(segments: pl.DataFrame) -> list[dict[str, str]]:
    """Return the rows of ``stability.csv`` as text."""
    return [
        {
            "segment": str(row["segment"]),
            "shops": f"{row['size']:,}",
            "Jaccard": f"{row['jaccard']:.2f}",
            "lowest": f"{row['lowest_jaccard']:.2f}",
            "verdict": row["verdict"],
        }
        for row in segments.to_dicts()
    ]


def profile_lines(facts: Mapping[str, Any], names: Mapping[int, str]) -> list[str]:
    """Say what sets the segments apart, and what that rests on."""
    lines = []
    for segment, strongest in facts["strongest"].items():
        said = [difference(row) for row in strongest[:3]]
        lines.append(f"{names[int(segment)]}: {'; '.join(said) or 'nothing clear'}.")
    test = facts["test"]
    if test["why_not"] is not None:
        lines.append(
            f"Differences are descriptive only, not tested: {test['why_not']}."
        )
    else:
        lines.append(
            f"Tested on the {test['n_months']} months after {test['cut']}, on shops "
            f"that nothing was learnt from: {test['n_found_again']} of "
            f"{test['n_segments']} segments found again, {test['n_clear']} of "
            f"{test['n_comparisons']} differences hold (false discoveries at most 5%)."
        )
    surrogate = facts["surrogate"]
    if surrogate is not None and surrogate["accuracy"] is not None:
        lines.append(
            f"{surrogate['n_rules']} plain rules name the segment of "
            f"{surrogate['accuracy']:.0%} of the shops held out (the mean over "
            f"segments is {surrogate['balanced_accuracy']:.0%}); always naming the "
            f"largest would name {surrogate['largest_share']:.0%}."
        )
    return lines
