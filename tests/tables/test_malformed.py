"""Malformed inputs: each ends in a sentence, or every row is kept or counted."""

from __future__ import annotations

from pathlib import Path

import pytest
from malformed import KINDS, Malformed, make, read, with_part, workbook_bytes

from core.errors import SourceError
from core.tables.files import SourceFile
from core.tables.workbooks import read_workbook

# A workbook takes a process.
N_SEEDS = {"excel": 12, "zip": 25}


@pytest.mark.parametrize("kind", KINDS)
def test_a_slice_of_the_generated_inputs_ends_in_words(kind: str, tmp_path: Path):
    outcomes = set()
    for seed in range(N_SEEDS.get(kind, 40)):
        folder = tmp_path / str(seed)
        folder.mkdir()
        outcomes.add(read(make(kind, seed), folder))
    # Neither is everything refused, nor is anything taken.
    expected = {"refused"} if kind in ("json", "yaml") else {"read", "refused"}
    assert outcomes == expected


@pytest.mark.parametrize("cell", ["XFD1048576", "ZZZZZZ99999999999", "3A", ""])
def test_absurd_cell_references_end_in_a_sentence(cell: str, tmp_path: Path):
    rows = [["kiosk", "tea", "2024", str(i), "5"] for i in range(1, 9)]
    content = workbook_bytes(rows)
    absurd = with_part(content, "sheet1", lambda t: t.replace('r="A3"', f'r="{cell}"'))
    path = tmp_path / "a.xlsx"
    path.write_bytes(absurd)
    with pytest.raises(SourceError, match=r"a\.xlsx.* be read \(") as refused:
        read_workbook(SourceFile(path, "a.xlsx"), None, None, tmp_path)
    assert len(str(refused.value).splitlines()) == 1
    assert read(Malformed(content, "b.xlsx", len(rows)), tmp_path) == "read"
