"""The report: what it says, that it is whole, and that nobody's data can break it."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest
from seen import unscripted

from core.artifacts.manifest import Manifest, StageFacts
from core.artifacts.reading import ArtifactSet
from core.config import Config
from core.errors import ArtifactError
from core.evaluation.certificate import derive_verdict
from core.evaluation.quality import compare_spaces
from core.reporting import text as wording
from core.reporting.explorer import explorer
from core.reporting.page import HeatMap, NextStep, Part, Picture, Table
from core.reporting.plots import plot_sizes
from core.retailers.features import SHOP
from core.retailers.files import RETAILERS
from core.retailers.report.cards import Card, curve_of
from core.retailers.report.differences import Difference, differences, rule_texts
from core.retailers.report.evidence import Evidence, opening, report_line, tiles
from core.retailers.report.page import Spaces, Step, write_report
from core.retailers.report.parts import certificate_part, next_steps, stability_part
from core.segments.profiles import cluster_contrasts, cluster_insights
from core.segments.published import first_version, segment_table

SCRIPT = "<script>alert('shop')</script>"
FEATURES = ["trend", "gaps", SCRIPT]
ROW = {
    "space": "latent",
    "n_shops": 4310,
    "clusters": 4,
    "noise_ratio": 0.18,
    "effective_clusters": 3.62,
    "largest_share": 0.373,
    "agreement_ami": 0.61,
}
EMPTY = {
    **ROW,
    "clusters": 0,
    "noise_ratio": 1.0,
    "effective_clusters": 0.0,
    "largest_share": None,
    "agreement_ami": None,
}
FOUR = {
    "n_shops": 4310,
    "n_clusters": 4,
    "noise_ratio": 0.18,
    "effective_clusters": 3.62,
    "largest_share": 0.373,
}
BULK = {**FOUR, "effective_clusters": 1.06, "largest_share": 0.99, "noise_ratio": 0.2}
SPARSE = {**FOUR, "noise_ratio": 0.7}
SINGLE = {
    **FOUR,
    "n_clusters": 1,
    "noise_ratio": 0.0,
    "effective_clusters": 1.0,
    "largest_share": 1.0,
}
FOUND = {
    "statistic": 1.1,
    "null_statistics": [0.0] * 18 + [0.2],
    "p_value": 0.05,
    "excess": 0.9,
    "required_excess": 0.15,
    "is_structured": True,
    "n_rows": 4310,
}
NOT_FOUND = {**FOUND, "statistic": 0.1, "excess": -0.1, "is_structured": False}


PREPARED = {
    "n_shops": 5000,
    "n_eligible": 4310,
    "n_fit": 4310,
    "exclusions": {
        "sold in fewer than 12 months": 525,
        "stopped selling": 165,
    },
}


def opened(summary=FOUR, check=FOUND, is_certified=False, **figures):
    verdict = derive_verdict(
        **{
            "is_structured": check["is_structured"],
            "n_clusters": summary["n_clusters"],
            "partition_ari": 0.9,
            "is_certified": is_certified,
        }
        | figures
    )
    divided = "density" if verdict.kind == "natural" else "partition"
    return opening(verdict, divided, summary, PREPARED, check)


class Page(HTMLParser):
    """Collects tags, attributes and texts, and checks that tags are closed."""

    VOID = frozenset({"meta", "img", "br", "line", "circle"})

    def __init__(self, source):
        super().__init__()
        self.tags, self.texts, self._open = [], [], []
        self.feed(source)
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.texts))


@pytest.fixture
def content(tmp_path):
    """A report over 300 shops in three clear groups in one space, none in the other."""
    rng = np.random.default_rng(0)
    groups = np.repeat([0, 1, 2], 100)
    X = rng.normal(size=(300, 3)) + 8 * np.eye(3)[groups]
    latent, raw = np.where(np.arange(300) % 10, groups, -1), np.full(300, -1)
    table = pl.DataFrame(X, schema=FEATURES).with_columns(
        shop_id=pl.lit("kiosk"),
        latent_cluster=pl.Series(latent),
        raw_cluster=pl.Series(raw),
    )
    spaces = {"latent": "latent_cluster", "raw": "raw_cluster"}
    labels = {"latent": latent, "raw": raw}
    plot_sizes(labels, tmp_path / "sizes.png", SHOP)
    picture = Picture("Sizes", tmp_path / "sizes.png", f'Bars " {SCRIPT}')
    card = Card(
        id="0",
        name=f"Summer {SCRIPT}",
        title=f"0 Summer {SCRIPT}",
        parent=None,
        kind="density",
        size=90,
        share=0.3,
        sales_share=0.25,
        curve=curve_of(CURVES, "0"),
        trend="growing 12% a year",
        states=[("active", 0.9), ("slowing", 0.1)],
        apart=[f"sells twice its average in July {SCRIPT}", "no trend"],
        differences=[Difference(f"trend {SCRIPT}", "confirmed")],
        actions=[f"Plan the peak {SCRIPT}"],
        how_sure="clear",
        how_sure_why="A group of its own.",
        members=[SCRIPT],
        rules=[f"trend above 2 {SCRIPT}"],
        file="segments/0-summer.csv",
    )
    return {
        "title": f"Retailers {SCRIPT}",
        "source": f"sales {SCRIPT}.csv",
        "created": "2026-11-20 10:00 UTC",
        "as_of": "2024-12",
        "opening": opened(),
        "tiles": tiles(FOUR, "density"),
        "check": FOUND,
        "caption": "Shares are of all shops.",
        "rest": None,
        "cards": [card, replace(card, curve=None, members=[], rules=[])],
        "reading": ["Medians."],
        "notes": ["`explain` tells."],
        "map": picture,
        "heat": HeatMap(
            "Apart", "How far.", ["0 Summer", SCRIPT], [("trend", [2, -9])]
        ),
        "explorer": explorer(
            KIOSKS, {"shop_id": "Shop", "segment": "Segment"}, SHOP, []
        ),
        "largest": Table("The largest.", [{"segment": SCRIPT}]),
        "parts": [
            Part("Stable?", ["Yes."], [picture], [Table("Rows", [{"a": SCRIPT}])])
        ],
        "research": [],
        "next_steps": [NextStep("./run.sh certify", "the certified verdict")],
        "spaces": Spaces(
            titles={"latent": "Latent space", "raw": f"Raw {SCRIPT}"},
            comparison=compare_spaces(labels, X, {n: np.ones(300) for n in labels}),
            insights=cluster_insights(table, spaces, FEATURES),
            contrasts={
                n: cluster_contrasts(table, c, FEATURES) for n, c in spaces.items()
            },
        ),
        "steps": [
            Step("rows read", 364_112, "rows"),
            Step("no `shop_id`", 14, "rows", is_loss=True, note=f"first: {SCRIPT}"),
            Step("shops segmented", 300, "shops"),
        ],
        "limits": ["That it pays."],
        "made": {"Run": {"seed": 42, f"key {SCRIPT}": SCRIPT}},
        "config": f"source: {SCRIPT}",
    }


KIOSKS = pl.DataFrame(
    {"shop_id": [SCRIPT], "segment": pl.Series([SCRIPT], dtype=pl.Enum([SCRIPT]))}
)
CURVES = pl.DataFrame(
    {
        "id": ["0", "0", "0"],
        "month": ["2023-12", "2024-01", "2024-02"],
        "n_shops": [90, 90, 90],
        "mean": [0.5, 2.0, 0.5],
        "low": [0.2, 1.5, 0.3],
        "high": [0.8, 2.5, 0.7],
    }
)


def written(content, tmp_path):
    path = tmp_path / "report.html"
    write_report(content, path)
    return path.read_text(encoding="utf-8")


def test_user_data_is_shown_as_text_and_never_run(content, tmp_path):
    source = unscripted(written(content, tmp_path))
    assert "<script" not in source.lower()
    page = Page(source)
    assert not page.all("script")
    assert page.text.count(SCRIPT) >= 8
    assert page.all("img")[0]["alt"] == f'Bars " {SCRIPT}'


def test_the_report_needs_nothing_but_itself(content, tmp_path):
    source = unscripted(written(content, tmp_path))
    page = Page(source)
    assert not page.all("link")
    assert not re.search(r"https?://|@import|url\(", source)
    data = page.all("img")[0]["src"].removeprefix("data:image/png;base64,")
    picture = tmp_path / "sizes.png"
    assert base64.b64decode(data, validate=True) == picture.read_bytes()
    picture.unlink()
    assert source.endswith("</html>\n") or source.endswith("</html>")


def test_the_report_is_accessible_and_tells_the_datas_way(content, tmp_path):
    page = Page(written(content, tmp_path))
    assert page.all("html")[0]["lang"] == "en"
    assert all(image.get("alt") for image in page.all("img"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert "364,112" in page.text
    assert "What this report does not say" in page.text
    assert "No cluster: every shop is noise." in page.text


def test_the_verdict_is_first_then_the_segments_pictures_and_what_they_rest_on(
    content, tmp_path
):
    source = written(content, tmp_path)
    marks = ("<h1>", "Summer", "<article", "<img", "Behind")
    places = [source.index(mark) for mark in marks]
    assert places == sorted(places)
    assert "4,310 of 5,000 shops could be segmented" in source[: places[1]]


def test_equal_content_gives_equal_files(content, tmp_path):
    assert written(content, tmp_path) == written(content, tmp_path)


def test_what_was_not_judged_leaves_no_heading(content, tmp_path):
    bare = content | {
        "check": None,
        "cards": [replace(content["cards"][1], differences=[])],
        "map": None,
        "heat": None,
        "parts": [],
        "next_steps": [],
        "config": "",
    }
    source = written(bare, tmp_path)
    page = Page(source)
    assert not page.all("svg")
    assert not page.all("img")
    assert "Not looked at yet" not in page.text
    assert "Typical shops" not in page.text
    assert "As plain rules" not in page.text
    assert not re.search(r"<h2>[^<]*</h2>\s*</section>", source)


def test_a_missing_picture_is_refused(content, tmp_path):
    gone = Picture("Gone", tmp_path / "gone.png", "nothing")
    with pytest.raises(ArtifactError, match=r"gone\.png"):
        write_report(content | {"map": gone}, tmp_path / "report.html")


def test_names_between_backticks_are_set_as_code_and_still_escaped(content, tmp_path):
    notes = [f"`{SCRIPT}` tells.", "one ` alone & so"]
    source = written(content | {"notes": notes}, tmp_path)
    assert "<code>&lt;script&gt;" in source
    assert "one ` alone &amp; so" in source


@pytest.mark.parametrize(
    ("given", "badge", "headline", "says"),
    [
        (
            {},
            "Natural (provisional)",
            "4 separate groups of shops in a quick check",
            "these shops reach 1.10 (p\xa0=\xa00.05, the smallest that 19 can give)",
        ),
        (
            {"is_certified": True, "cluster_jaccard": 0.91},
            "Natural (certified)",
            "4 separate groups of shops",
            "the segments keep 91% of their shops",
        ),
        (
            {"check": NOT_FOUND},
            "Reproducible (provisional)",
            "No separate groups, but 4 segments that come back",
            "no more than chance gives",
        ),
        (
            {"check": NOT_FOUND, "partition_ari": 0.5, "is_certified": True},
            "Constructive (certified)",
            "No separate groups: 4 segments as a convenient cut",
            "agree with these at 0.50",
        ),
        (
            {"check": NOT_FOUND, "partition_ari": None},
            "Constructive (provisional)",
            "convenient cut",
            "was not measured",
        ),
        (
            {"is_certified": True, "cluster_jaccard": 0.4},
            "Reproducible (certified)",
            "come back when they are refitted",
            "did not come back",
        ),
        (
            {"n_clusters": 1},
            "Reproducible (provisional)",
            "come back when they are refitted",
            "shows 1 cluster of it, which tells no groups apart",
        ),
    ],
)
def test_each_situation_has_its_words(given, badge, headline, says):
    said = opened(**given)
    assert said.badge == badge
    assert headline in said.grouping
    assert says in " ".join(said.rests_on)
    assert ("certify" in " ".join(said.rests_on)) == ("provisional" in badge)
    assert ("Use simple rules" in said.advice) == (said.kind == "constructive")


def test_the_terminal_says_the_same_as_the_report(content, tmp_path):
    said = content["opening"]
    text = Page(written(content, tmp_path)).text
    counts, verdict, found = said.lines
    assert counts == (
        "4,310 of 5,000 shops could be segmented. The others could not: 525 sold in "
        "fewer than 12 months and 165 stopped selling."
    )
    assert found in text
    assert said.headline in text
    assert verdict == f"Verdict: {said.badge}: {said.meaning}."
    assert f"{said.badge} means: {said.meaning}." in text


@pytest.mark.parametrize(
    ("summary", "says"),
    [
        (FOUR, ""),
        (BULK, "one large segment with small groups beside it"),
        (SPARSE, "most shops are in no segment"),
        (SINGLE, ""),
        ({**FOUR, "effective_clusters": 2.9}, "few kinds of shops apart"),
        ({**BULK, "flat": FOUR}, ""),
    ],
)
def test_segments_that_divide_little_carry_a_warning(summary, says):
    caution = opened(summary).caution
    assert says in caution
    assert bool(caution) == bool(says)


def test_the_finding_tells_what_segments_come_to_when_they_are_divided():
    flat = {**FOUR, "n_clusters": 7, "largest_share": 0.21}
    found = opened({**FOUR, "flat": flat}).found
    assert "in place of their segment, there are 7; the largest holds 17%" in found
    assert "sub-segments" not in opened(FOUR).found


@pytest.mark.parametrize("summary", [FOUR, BULK, SPARSE, SINGLE])
@pytest.mark.parametrize("kind", ["density", "partition"])
def test_no_sentence_names_unassigned_shops_without_companions(summary, kind):
    texts = [
        report_line("finding", **summary, flat=summary, kind=kind),
        report_line("caution", **summary, flat=summary),
    ]
    for text in texts:
        if "%" in text:
            assert "Take care" in text or "Sizes " in text
            assert "largest" in text
    names = [name for name, _ in tiles(summary, kind)]
    assert {"effective segments", "largest share"} <= set(names)
    assert ("unassigned" in names) == (kind == "density")


@pytest.mark.parametrize("row", [ROW, EMPTY])
def test_no_sentence_names_noise_without_its_companions(row):
    text = report_line("spaces_reading", rows=[row], titles={})
    if "noise" in text and row["clusters"]:
        assert "effective" in text
        assert "largest" in text


def test_segments_that_do_not_stand_out_alone_are_named_at_once():
    tested = [{"cluster": n, "p_value": p} for n, p in ((0, 0.05), (1, 0.9))]
    check = {**FOUND, "segments": tested}
    verdict = derive_verdict(
        is_structured=True, n_clusters=2, partition_ari=0.9, is_certified=True
    )
    titles = {0: "0 Steady", 1: "1 Growing sales"}
    said = opening(verdict, "density", FOUR, PREPARED, check, titles)
    assert said.grouping == "4 groups of shops, 1 of which stand out one by one"
    assert "1 Growing sales does not, so its borders are unclear" in " ".join(
        said.rests_on
    )
    tested[1]["p_value"] = 0.05
    said = opening(verdict, "density", FOUR, PREPARED, check, titles)
    assert said.grouping == "4 separate groups of shops"


def test_rules_are_called_rules_and_few_of_them_a_weakness():
    verdict = derive_verdict(
        is_structured=False,
        n_clusters=2,
        partition_ari=0.9,
        rules_ari=0.95,
        is_certified=False,
    )
    assert verdict.kind == "constructive"
    few = {**FOUR, "effective_clusters": 2.8}
    said = opening(verdict, "rules", few, PREPARED)
    assert "by simple rules" in said.grouping
    assert "segment_rules.txt" in said.advice
    assert "few kinds of shops" in said.caution
    assert "agree with these at 0.95" in " ".join(said.rests_on)
    assert not opening(verdict, "rules", FOUR | {"flat": FOUR}, PREPARED).caution


def test_a_lead_that_is_too_small_is_named():
    near = {**NOT_FOUND, "statistic": 0.25, "excess": 0.05}
    said = " ".join(opened(check=near | {"is_stopped_early": True}).rests_on)
    assert "19 random data sets (more could not have changed the answer)" in said
    assert "0.05 ahead; 0.15 required" in said


@pytest.mark.parametrize(
    ("ami", "words"),
    [
        (0.9, "largely agree"),
        (0.6, "agree in part"),
        (0.2, "agree little"),
        (-0.02, "do not agree"),
    ],
)
def test_agreement_of_two_spaces_is_read_out(ami, words):
    rows = [{**ROW, "agreement_ami": ami}, {**ROW, "space": "raw"}]
    reading = report_line(
        "spaces_reading", rows=rows, titles={"latent": "Latent space"}
    )
    told = "Latent space: 4 clusters, 3.6 effective clusters, the largest with 37% of"
    assert reading.startswith(told)
    assert words in reading


def row_of(feature, median, rest, effect, **tested):
    values = {"feature": feature, "median": median, "rest_median": rest}
    return values | {"effect": effect} | tested


def test_up_to_five_differences_are_told_by_their_size():
    effects = [0.1, -2.0, 0.6, 0.4, -0.3, 0.0, None, 0.7, 0.55, 0.51]
    rows = [row_of(f"f{i}", i + 1.0, 0.5, e) for i, e in enumerate(effects)]
    told = [difference.text for difference in differences(rows)]
    assert told == [f"f{i} {i + 1} (others 0.5)" for i in (1, 7, 2, 8, 9)]
    few = [row for row in rows if row["effect"] and abs(row["effect"]) < 0.5]
    assert [d.text[:2] for d in differences(few)] == ["f3", "f4"]
    assert len(differences(few[:1])) == 1
    assert differences([]) == []


def test_months_to_one_side_are_told_together_in_the_order_of_the_year():
    season = "log_season_month_"
    rows = [
        row_of(f"{season}7", np.log(2.5), 0.0, 3.0),
        row_of(f"{season}6", np.log(1.9), np.log(0.8), 2.0),
        row_of(f"{season}8", np.log(1.1), 0.0, 1.0),
        row_of(f"{season}12", np.log(0.5), 0.0, -1.0),
    ]
    told = [difference.text for difference in differences(rows)]
    assert told == [
        "sells 2.2 times its average in June and July (others 10% below)",
        "sells half its average in December (others about average)",
    ]


def test_a_difference_is_confirmed_only_by_a_test_with_the_same_sign():
    held = {"adjusted_p": 0.01, "later_effect": 0.4}
    standing = {
        "held": held,
        "weak": {**held, "adjusted_p": 0.2},
        "turned": {**held, "later_effect": -0.4},
        "unknown": {"adjusted_p": None, "later_effect": None},
    }
    rows = [row_of(name, 2.0, 1.0, 1.0, **more) for name, more in standing.items()]
    found = [difference.standing for difference in differences(rows)]
    assert found == ["confirmed", "not confirmed", "not confirmed", "not tested"]
    assert [d.standing for d in differences(rows[3:])] == [""]


def test_rules_are_told_in_words_and_units():
    rules = pl.DataFrame(
        {
            "rule": [1, 1, 2],
            "segment": [0, 0, 1],
            "n_shops": [1352, 1352, 7],
            "purity": [0.91, 0.91, 1.0],
            "feature": ["log_season_month_7", "inactive_month_share", None],
            "above": [np.log(1.5), None, None],
            "up_to": [None, 0.125, None],
        }
    )
    assert rule_texts(rules, 0) == [
        "July level above 150% of an average month and share of months without sales "
        "up to 12.5%: 1,352 shops, 91% of them in this segment"
    ]
    assert rule_texts(rules, 1)[0].startswith("every shop: 7 shops, 100%")
    assert rule_texts(rules, 2) == []


def test_curves_share_a_scale_and_say_their_peak():
    curve = curve_of(CURVES, "0")
    assert curve.line == "0.0,74.4 160.0,21.6 320.0,74.4"
    assert curve.average == 56.8
    assert curve.ticks == [(160.0, "2024")]
    assert "highest in 2024-01: 200%" in curve.words
    assert curve_of(CURVES, "1") is None


def evidence_of(folder, is_certified=False, **facts):
    """Return the evidence on a partition of 30 shops into two segments."""
    labels = np.repeat([0, 1], [20, 10])
    table = segment_table("partition", labels, {0: "Steady", 1: "Growing sales"})
    verdict = derive_verdict(
        is_structured=False,
        n_clusters=0,
        partition_ari=0.9,
        is_certified=is_certified,
    )
    partition = {"criterion": "out_of_time"}
    stage = StageFacts(
        finished_at="2026-11-20", seconds=1.0, seed=1, versions={}, facts={}
    )
    clustering = stage.model_copy(
        update={"facts": {"partition": partition, "structure_check": NOT_FOUND}}
    )
    manifest = Manifest.begun(RETAILERS, Config())
    manifest.stages["clustering"] = clustering
    published = first_version(table, verdict, "0123456789ab")
    old = ArtifactSet(folder, manifest)
    return Evidence(manifest, facts, published, folder, folder, old)


def commands_of(evidence):
    return [step.command.split()[1] for step in next_steps(evidence)]


def test_a_fresh_run_names_every_command_that_would_add_something(tmp_path):
    folder = tmp_path / "my artifacts"
    steps = next_steps(evidence_of(folder))
    assert [step.command.split()[1] for step in steps] == [
        "profile",
        "scorecard",
        "certify",
        "compare",
    ]
    assert steps[0].command.endswith(f'--artifacts "{folder}"')
    assert commands_of(evidence_of(tmp_path, is_certified=True))[2] == "stability"


def test_what_judged_the_other_kind_of_segments_is_no_evidence(tmp_path):
    facts = {
        "profiles": {"segment_kind": "density"},
        "scorecard": {"kind": "density"},
        "stability": {"kind": "density"},
    }
    evidence = evidence_of(tmp_path, **facts)
    assert all(evidence.judged(name) is None for name in facts)
    text = "kind,segment,size,jaccard,lowest_jaccard,verdict\n"
    stability = tmp_path / "stability.csv"
    stability.write_text(f"{text}density,0,9,0.9,0.8,stable\n", encoding="utf-8")
    assert stability_part(evidence) is None
    assert {"profile", "scorecard"} <= set(commands_of(evidence))
    stability.write_text(
        f"{text}partition,0,20,0.9,0.8,highly stable\n"
        "partition,1,10,0.5,0.4,unstable\n",
        encoding="utf-8",
    )
    part = stability_part(evidence)
    assert part.tables[0].rows[0]["segment"] == "0 Steady"
    assert "1 of 2 segments come back" in " ".join(part.sentences)


def test_noise_in_the_certificate_has_its_companions(tmp_path):
    clusters = {**FOUR, "n_shops": 30}
    structure = NOT_FOUND | {
        "n_null": 19,
        "n_null_planned": 99,
        "is_stopped_early": True,
        "clusters": clusters,
        "segments": [{"p_value": 0.05}, {"p_value": 0.4}],
    }
    part = certificate_part(evidence_of(tmp_path, certificate={"structure": structure}))
    text = " ".join(part.sentences)
    assert "19 random data sets (stopped early of 99)" in text
    assert (
        "3.6 effective clusters, the largest with 31% of the shops; noise ratio 18%"
        in text
    )
    assert "1 of 2 clusters also stand out" in text
    assert not part.pictures


def test_numbers_are_written_for_readers():
    assert wording.count(1_234_567) == "1,234,567"
    assert wording.share(0.12345) == "12%"
    assert wording.decimal(-0.001) == "0.00"
    assert wording.decimal(-1.5) == "\N{MINUS SIGN}1.50"
    assert wording.count(None) == wording.share(None) == wording.decimal(None)
    assert wording.decimal(float("nan")) == wording.MISSING
    assert wording.size_list("") == wording.MISSING
    assert wording.size_list("|".join(["50"] * 14)).endswith("50 and 2 more")


def test_differences_are_told_with_two_digits_in_the_words_of_a_trade():
    row = {"feature": "assortment_breadth", "median": 4.17, "rest_median": 3.2}
    said = differences([{**row, "effect": 1.0}])[0].text
    assert said == "sells 65 different products a month (others 25)"
    row = {"feature": "sales_trend_per_year", "median": -0.431, "rest_median": 0.011}
    said = differences([{**row, "effect": -2.0}])[0].text
    assert said == "sales fall 35% a year (others +1.1%)"
