"""The report: what it says, that it is whole, and that nobody's data can break it."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest

from core.errors import ArtifactError
from core.evaluation.null import structure_check
from core.evaluation.quality import compare_spaces
from core.reporting import wording
from core.reporting.plots import plot_sizes
from core.reporting.report import Picture, ReportContent, Step, write_report
from core.segments.profiles import cluster_contrasts, cluster_insights

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
BULK = {**ROW, "effective_clusters": 1.06, "largest_share": 0.99, "noise_ratio": 0.215}
SINGLE = {**ROW, "clusters": 1, "effective_clusters": 1.0, "largest_share": 1.0}
SPARSE = {**ROW, "noise_ratio": 0.7}
EMPTY = {
    **ROW,
    "clusters": 0,
    "noise_ratio": 1.0,
    "effective_clusters": 0.0,
    "largest_share": None,
    "agreement_ami": None,
}
FOUND = {
    "statistic": 1.1,
    "null_statistics": [0.0, 0.2, 0.1],
    "p_value": 0.05,
    "excess": 0.9,
    "required_excess": 0.15,
    "is_structured": True,
}
NOT_FOUND = {**FOUND, "statistic": 0.1, "excess": -0.1, "is_structured": False}


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
    plot_sizes(labels, tmp_path / "sizes.png")
    return ReportContent(
        title=f"Retailers {SCRIPT}",
        source=f"sales {SCRIPT}.csv",
        created="2026-11-20 10:00",
        as_of="2024-12",
        published="latent",
        spaces={"latent": "Latent space", "raw": f"Raw {SCRIPT}"},
        steps=[
            Step("rows read", 364_112, "rows"),
            Step("no `shop_id`", 14, "rows", is_loss=True, note=f"first: {SCRIPT}"),
            Step("shops clustered", 300, "shops"),
        ],
        comparison=compare_spaces(labels, X, {n: np.ones(300) for n in labels}),
        insights=cluster_insights(table, spaces, FEATURES),
        contrasts={n: cluster_contrasts(table, c, FEATURES) for n, c in spaces.items()},
        check=structure_check(X, lambda s: np.full(len(s), -1)).as_dict(),
        pictures=[Picture("Sizes", tmp_path / "sizes.png", f'Bars " {SCRIPT}')],
        made={"Run": {"seed": 42, f"key {SCRIPT}": SCRIPT}},
        config=f"source: {SCRIPT}",
        feature_notes={"trend": f'slope "{SCRIPT}'},
    )


def written(content, tmp_path):
    path = tmp_path / "report.html"
    write_report(content, path)
    return path.read_text(encoding="utf-8")


def test_user_data_is_shown_as_text_and_never_run(content, tmp_path):
    source = written(content, tmp_path)
    assert "<script" not in source.lower()
    page = Page(source)
    assert not page.all("script")
    assert page.text.count(SCRIPT) >= 8
    assert page.all("img")[0]["alt"] == f'Bars " {SCRIPT}'


def test_the_report_needs_nothing_but_itself(content, tmp_path):
    source = written(content, tmp_path)
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


def test_the_verdict_comes_before_pictures_and_tables(content, tmp_path):
    source = written(content, tmp_path)
    places = [source.index(mark) for mark in ("<h1>", "<img", "<table")]
    assert places == sorted(places)
    assert "No density structure beyond" in source[: places[1]]


def test_equal_content_gives_equal_files(content, tmp_path):
    assert written(content, tmp_path) == written(content, tmp_path)


def test_a_report_without_check_pictures_or_notes_is_whole(content, tmp_path):
    bare = replace(content, check=None, pictures=[], config="", feature_notes={})
    page = Page(written(bare, tmp_path))
    assert "not checked" in page.text
    assert not page.all("svg")


def test_a_published_space_without_clusters_is_reported(content, tmp_path):
    page = Page(written(replace(content, published="raw"), tmp_path))
    assert "No clusters: these shops form no groups that stand apart" in page.text


def test_a_missing_picture_and_an_unknown_space_are_refused(content, tmp_path):
    gone = Picture("Gone", tmp_path / "gone.png", "nothing")
    with pytest.raises(ArtifactError, match=r"gone\.png"):
        write_report(replace(content, pictures=[gone]), tmp_path / "report.html")
    with pytest.raises(ArtifactError, match="holds `latent`, `raw`"):
        write_report(replace(content, published="umap"), tmp_path / "report.html")


@pytest.mark.parametrize(
    ("row", "check", "level", "says"),
    [
        (ROW, FOUND, "structure", "0.20 at most, against 1.10 here"),
        (ROW, NOT_FOUND, "none", "a description, not as natural groups"),
        (ROW, None, "unchecked", "was not checked"),
        (BULK, FOUND, "hollow", "one bulk with small groups beside it"),
        (SINGLE, FOUND, "hollow", "a single cluster tells no groups apart"),
        (SPARSE, FOUND, "hollow", "most shops belong to no cluster"),
        (EMPTY, NOT_FOUND, "empty", "Simple rules"),
        (EMPTY, FOUND, "empty", "this space does not show"),
        (EMPTY, None, "empty", "Simple rules"),
    ],
)
def test_each_situation_has_its_verdict(row, check, level, says):
    verdict = wording.verdict(row, check)
    assert verdict.level == level
    assert says in " ".join(verdict.reasons)


@pytest.mark.parametrize("row", [ROW, BULK, SINGLE, SPARSE, EMPTY])
def test_no_sentence_names_noise_without_its_companions(row):
    texts = [wording.finding(row), wording.short_finding(row), wording.caution(row)]
    for text in texts:
        if "noise" in text and row["clusters"]:
            assert "effective" in text or "equal size" in text
            assert "largest" in text or "of the clustered shops" in text


def test_a_lead_that_is_too_small_is_named():
    near = {**NOT_FOUND, "statistic": 0.25, "excess": 0.05}
    assert "a lead of 0.05, where 0.15 is asked for" in wording.check_sentence(near)


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
    reading = wording.comparison_reading(rows, {"latent": "Latent space"})
    assert reading.startswith("Latent space: 4 clusters, 18.0% noise, 3.62 effective")
    assert words in reading


def test_strongest_features_are_three_to_five_by_size_of_the_difference():
    effects = [0.1, -2.0, 0.6, 0.4, -0.3, 0.0, None, 0.7, 0.55, 0.51]
    contrasts = pl.DataFrame(
        {
            "cluster": 0,
            "feature": [f"f{i}" for i in range(10)],
            "effect": effects,
        }
    )
    named = wording.strongest_features(contrasts, 0)
    assert [name for name, _ in named] == ["f1", "f7", "f2", "f8", "f9"]
    assert named[0] == ("f1", "lower, \N{MINUS SIGN}2.00")
    assert named[1] == ("f7", "higher, +0.70")
    few = contrasts.filter(pl.col("effect").abs() < 0.5)
    assert [n for n, _ in wording.strongest_features(few, 0)] == ["f3", "f4", "f0"]
    assert wording.strongest_features(contrasts, 1) == []


def test_numbers_are_written_for_readers():
    assert wording.count(1_234_567) == "1,234,567"
    assert wording.percent(0.12345) == "12.3%"
    assert wording.decimal(-0.001) == "0.00"
    assert wording.decimal(-1.5) == "\N{MINUS SIGN}1.50"
    assert wording.count(None) == wording.percent(None) == wording.decimal(None)
    assert wording.decimal(float("nan")) == wording.MISSING
    assert wording.size_list("") == wording.MISSING
    assert wording.size_list("|".join(["50"] * 14)).endswith("50 and 2 more")
