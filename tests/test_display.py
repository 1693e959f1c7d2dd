"""How results show themselves in a terminal and in a notebook."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from core.artifacts.folder import StageResult
from core.retailers.model import Model


class Cells(HTMLParser):
    """Collects the text of cells; fails on a tag that is not closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1] in {"th", "td"}:
            self.cells.append(data)


def test_a_model_is_told_in_a_line_and_a_table(trained):
    model = Model.load(trained)
    published = model.segments.published
    assert len(repr(model)) < 160
    assert f"n_segments={published.n_segments}" in repr(model) == str(model)
    cells = Cells(model._repr_html_()).cells
    assert cells[:4] == ["id", "name", "size", "share"]
    assert set(published.names.values()) <= set(cells)


def test_what_a_stage_says_is_text_and_never_markup():
    rows = [{"segment": "<b>Küste & Co</b>"}]
    result = StageResult("inference", Path("a"), {}, ["1 < 2"], rows)
    assert repr(result) == "StageResult(stage='inference', folder='a')"
    assert Cells(result._repr_html_()).cells == ["segment", "<b>Küste & Co</b>"]
    assert "1 &lt; 2" in result._repr_html_()
