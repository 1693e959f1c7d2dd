"""One fact has one value and one name in everything that people read of a run."""

from __future__ import annotations

import shutil

import pytest
from figures import (
    CARD,
    REPORT,
    TERMINAL,
    Figure,
    Read,
    agrees,
    figures_in,
    findings,
    told_of,
)

from core.retailers.pipelines import run_inference, stage_config

BOTH = {REPORT, CARD}
PAGES = {
    "trained": "a run alone",
    "profiled": "after `profile` and `stability`",
    "partitioned": "another verdict",
}


def expected(fact: str) -> set[str]:
    """Return where a fact has to be found."""
    everywhere = {"shops", "share", "share of sales"}
    if fact.startswith("certificate: "):
        return set()
    first = {"verdict", "shops seen", "shops segmented", "segments", "largest share"}
    if fact.startswith(("latent space: ", "raw space: ")):
        return {REPORT, TERMINAL}
    is_first = fact in first or fact.startswith("not segmented: ")
    if is_first or fact.rsplit(": ", maxsplit=1)[-1] in everywhere:
        return {*BOTH, TERMINAL}
    shared = {"structure_score", "largest_null_score", "p_value", "n_nulls", "lapsed"}
    return BOTH if fact in shared or fact.endswith(": Jaccard") else set()


@pytest.fixture(scope="module", params=PAGES)
def told(request, once, tmp_path_factory):
    """Return what is saved of a run, and every figure that is told of it."""
    folder = request.getfixturevalue(request.param)
    if request.param == "trained":
        closing = request.getfixturevalue("trained_results")[-1]
    else:
        root = tmp_path_factory.mktemp("numbers")
        folder = shutil.copytree(folder, root / "artifacts")
        flags = {"artifacts": str(folder)}
        closing = run_inference(stage_config("inference", flags=flags))
    return told_of(folder, closing)


def test_no_figure_has_two_values_or_two_names(told):
    facts, figures = told
    assert not findings(figures, facts), findings(figures, facts)
    for fact in facts:
        found = {figure.source for figure in figures if figure.fact == fact}
        assert found >= expected(fact), fact
    sure = [figure for figure in figures if figure.fact.endswith(": how sure")]
    assert {figure.source for figure in sure} == {REPORT, CARD, TERMINAL}


def test_a_figure_that_differs_is_found_wherever_it_is_told(told):
    """Change one saved figure after the other: each place that tells it must show."""
    facts, figures = told
    for fact, saved in facts.items():
        places = [figure.source for figure in figures if figure.fact == fact]
        other = "Another" if isinstance(saved, str) else (saved or 0.0) + 7
        found = findings(figures, {**facts, fact: other})
        assert [text.split(":")[0] for text in found] == places, fact
    assert sum(bool(expected(fact)) for fact in facts) >= 35


@pytest.mark.parametrize(
    "page",
    [
        Read(["These shops have a structure score of 1.87, which is high."]),
        Read(["Effective segments: 7"]),
        Read(["Here nobody is left out"]),
        Read(rows=[{"figure": "partition_ari", "value": "0.99"}]),
        Read(rows=[{"segment": "0 Steady", "purity": "99%"}]),
        Read(rows=[{"segment": "0 Steady", "shops": "41 14%"}]),
    ],
)
def test_a_figure_under_another_name_or_value_is_a_finding(page):
    facts = {"0 Steady: shops": 40, "0 Steady: share": 0.14, "structure_score": 0.28}
    assert len(findings(figures_in(REPORT, page, facts), facts)) == 1


def test_words_on_how_sure_a_segment_is_must_be_the_same():
    figures = [
        Figure(source, "0 Steady: how sure", text)
        for source, text in ((REPORT, "convenient cut"), (TERMINAL, "highly stable"))
    ]
    assert findings(figures, {}) == ["terminal: 0 Steady: how sure: highly stable"]


def test_a_shown_figure_is_the_saved_one_as_far_as_its_digits_go():
    assert agrees("4,586", 4586)
    assert agrees("24%", 0.2394)
    assert agrees("99.9%", 0.99962)
    assert agrees("\N{MINUS SIGN}0.02", -0.0249)
    assert not agrees("25%", 0.2394)
    assert not agrees("4,587", 4586)
    assert not agrees("0.28", 0.29)
