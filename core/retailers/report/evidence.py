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
from core.artifacts.reading import ArtifactSet
from core.errors import PROGRAM
from core.reporting.page import Templates
from core.reporting.text import command, count, decimal, rounded, share
from core.retailers.features import SHOP
from core.retailers.report.differences import differences
from core.segments.published import PublishedSegments, SegmentKind, Verdict


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
    _old: ArtifactSet

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
            _old=out.base,
        )

    def file(self, name: str) -> Path | None:
        """Return the path of a file; None if there is none as it was written."""
        new = self._new / name
        return new if new.is_file() else self._old.output(name)

    def table(self, name: str, **types: Any) -> pl.DataFrame | None:
        """Return a CSV file's table; None if there is no such file."""
        path = self.file(name)
        if path is None:
            return None
        return pl.read_csv(
            path, infer_schema_length=None, schema_overrides=types, glob=False
        )

    def judged(self, name: str) -> Mapping[str, Any] | None:
        """Return facts of a verb, if they tell of the published kind of segments."""
        facts: Mapping[str, Any] | None = self.facts.get(name)
        kinds = {
            "profiles": ("segment_kind", self.published.kind),
            "scorecard": ("kind", self.published.kind),
            "stability": ("kind", self.published.kind),
        }
        if facts is None or name not in kinds:
            return facts
        key, expected = kinds[name]
        # Earlier versions' scorecard names no kind.
        return facts if facts.get(key) == expected else None

    @property
    def check(self) -> Mapping[str, Any] | None:
        """The comparison with data without structure that the verdict rests on."""
        if self.published.verdict.is_certified:
            certificate = self.facts.get("certificate")
            return None if certificate is None else dict(certificate["structure"])
        check: Mapping[str, Any] = self.manifest.facts("clustering")["structure_check"]
        return check

    @property
    def jaccards(self) -> dict[int, float]:
        """How well each published segment comes back, where that was measured."""
        table = self.table("stability.csv")
        if table is None:
            return {}
        own = table.filter(kind=self.published.kind).drop_nulls("segment")
        return dict(own.select("segment", "jaccard").iter_rows())

    @property
    def stands_alone(self) -> dict[int, bool]:
        """Which segments stand out from data without structure, where tested."""
        return _standing_alone(self.check)

    @property
    def titles(self) -> dict[int, str]:
        """Id and name of every published segment, without the unassigned."""
        return self.published.titles

    def command(self, verb: str) -> str:
        """Return the command that runs a verb on these artifacts."""
        return command(verb, str(self.folder))


TEMPLATES = Templates(Path(__file__).parent / "templates")


def rules_tried(manifest: Manifest) -> dict[str, str]:
    """Return why everyone is divided by rules, or is not, where they were tried."""
    rules = manifest.facts("clustering").get("rules")
    return {} if rules is None else {"rules": rules["reason"]}


def shop_counts(manifest: Manifest) -> dict[str, Any]:
    """Return the facts of ``prepare``, and ``n_fit``: shops that it was learnt from."""
    n_fit = manifest.facts("autoencoder")["n_shops"]
    return {**manifest.facts("prepare"), "n_fit": n_fit}


def report_lines(topic: str, **values: Any) -> list[str]:
    """Return the sentences that the report's text has for a topic."""
    return TEMPLATES.sentences("report.txt.j2", topic, **values)


def report_line(topic: str, **values: Any) -> str:
    """Return the same as one line; it may be empty."""
    return " ".join(report_lines(topic, **values))


Figures = Mapping[str, Any]

_SIGNIFICANCE = 0.05


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
        How many of the shops could be segmented.
    left_out : str
        Why the others could not; empty where there are none.
    learnt_from : str
        From how many of them the segments were learnt; empty for all.
    grouping : str
        What was found, in a few words.
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
    left_out: str
    learnt_from: str
    grouping: str
    meaning: str
    found: str
    rests_on: tuple[str, ...]
    caution: str
    advice: str

    @property
    def lines(self) -> list[str]:
        """The same, as short as a terminal wants it."""
        told = f"{self.headline}. {self.left_out}".rstrip()
        verdict = f"Verdict: {self.badge}: {self.meaning}."
        lines = [told, self.learnt_from, verdict, self.found, self.caution]
        return [line for line in lines if line]


def opening(
    verdict: Verdict,
    divided: SegmentKind,
    summary: Figures,
    prepared: Figures,
    check: Figures | None = None,
    titles: Mapping[int, str] = MappingProxyType({}),
    certify_command: str = f"{PROGRAM} certify",
) -> Opening:
    """Put a verdict into words.

    Parameters
    ----------
    verdict : Verdict
    divided : {'density', 'partition', 'rules'}
        Kind of the published segments.
    summary : mapping
        `core.evaluation.quality.LabelSummary` of the published segments, as a dict;
        that of the flat view under ``flat``, if any of them is divided.
    prepared : mapping
        `shop_counts`: ``n_shops``, ``n_eligible``, ``n_fit`` and ``exclusions``, shops
        by reason.
    check : mapping, optional
        The comparison with data without structure that the verdict rests on: the quick
        one or the certificate's, as a dict.
    titles : mapping of int to str
        The published segments' titles.
    certify_command : str
        What makes a provisional verdict a certified one.
    """
    kind, is_certified = verdict.kind, verdict.is_certified
    summary = {"flat": summary, **summary}
    alone = _standing_alone(check) if kind == "natural" else {}
    weak = [titles.get(n, str(n)) for n, is_clear in alone.items() if not is_clear]
    known = {
        **summary,
        "kind": kind,
        "is_certified": is_certified,
        "n_segments": summary["n_clusters"],
        "n_alone": len(alone) - len(weak),
        "n_tested": len(alone),
    }
    return Opening(
        kind=kind,
        badge=f"{kind.capitalize()} ({'certified' if is_certified else 'provisional'})",
        headline=report_line("headline", prepared=prepared),
        left_out=report_line("left_out", prepared=prepared),
        learnt_from=report_line("learnt_from", prepared=prepared),
        grouping=report_line("grouping", **known, divided=divided),
        meaning=verdict.meaning(SHOP),
        found=report_line("finding", **summary, kind=divided),
        rests_on=tuple(
            report_lines(
                "rests_on",
                **known,
                check=check,
                weak=weak,
                basis=verdict.basis,
                certify_command=certify_command,
            )
        ),
        caution=report_line("caution", **summary),
        advice=report_line("advice", kind=kind, divided=divided),
    )


def tiles(summary: Figures, kind: str) -> list[tuple[str, str]]:
    """Return the figures beside the verdict, none without its companions."""
    shown = [
        ("shops segmented", count(summary["n_shops"])),
        ("segments", count(summary["n_clusters"])),
        ("effective segments", rounded(summary["effective_clusters"])),
        ("largest share", share(share_of_largest(summary))),
    ]
    if kind == "density":
        shown.append(("unassigned", share(summary["noise_ratio"])))
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


def _standing_alone(check: Figures | None) -> dict[int, bool]:
    """Return which segments stand out from nulls by themselves, where it was tested.

    Certificates from before ids were permanent name clusters, which then were the ids.
    """
    tested = [] if check is None else check.get("segments", [])
    return {
        row.get("segment", row["cluster"]): row["p_value"] <= _SIGNIFICANCE
        for row in tested
    }


def share_of_largest(summary: Figures) -> float | None:
    """Return the share of the largest group, of all shops and not of those in groups.

    >>> share_of_largest({"largest_share": 0.5, "noise_ratio": 0.2})
    0.4
    """
    largest: float | None = summary["largest_share"]
    return None if largest is None else largest * (1 - summary["noise_ratio"])


def stability_table(
    segments: pl.DataFrame, titles: Mapping[int, str]
) -> list[dict[str, str]]:
    """Return the rows of ``stability.csv`` as text."""
    return [
        {
            "segment": titles.get(row["segment"], str(row["segment"])),
            "shops": count(row["size"]),
            "Jaccard": decimal(row["jaccard"]),
            "lowest": decimal(row["lowest_jaccard"]),
        }
        for row in segments.to_dicts()
    ]


def profile_lines(facts: Mapping[str, Any], names: Mapping[int, str]) -> list[str]:
    """Say what sets the segments apart, and what that rests on."""
    strongest = {
        names[int(segment)]: [told.text for told in differences(rows)[:3]]
        for segment, rows in facts["strongest"].items()
    }
    return report_lines("profile", **{**facts, "strongest": strongest})
